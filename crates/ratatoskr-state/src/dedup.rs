//! Duplicate detection, as the journal has it: which ids publishers gave to messages lately, and where those messages are.
//!
//! Ids stand in the records of messages. Only a hash of 128 bits is kept of an id: two different ids of one topic that
//! hash alike would take 2⁶⁴ ids to expect.

mod window;

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128, SipHasher13};

pub(crate) use self::window::SharedEntries;
pub use self::window::{Entry as DedupEntry, Window};

/// The date, as windows of ids count by it. Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupDate {
    /// The date that is believed.
    pub today_ms: u64,
    /// What is taken in now is stamped so: later than today while a jump of the clock is doubted.
    pub stamp_ms: u64,
    /// Stamps later than this were given in doubt: their age is told by the stamps of now, whether or not those are right.
    pub doubted_after_ms: u64,
}

impl DedupDate {
    /// Whether the window of an id that was stamped then is over.
    pub fn is_over(&self, stamped_ms: u64, window_ms: u64) -> bool {
        let now_ms = if stamped_ms > self.doubted_after_ms { self.stamp_ms } else { self.today_ms };
        stamped_ms < now_ms.saturating_sub(window_ms)
    }
}

/// What is kept of a publisher's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DedupId {
    // Not one number of 128 bits, which would be aligned to 16 bytes.
    low: u64,
    high: u64,
}

impl DedupId {
    /// What is kept of this id.
    pub fn of(id: &str) -> DedupId {
        let mut hasher = SipHasher13::new();
        hasher.write(id.as_bytes());
        let hash = hasher.finish128();
        DedupId { low: hash.h1, high: hash.h2 }
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.low.to_le_bytes());
        bytes[8..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> DedupId {
        let half =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"));
        DedupId { low: half(0), high: half(8) }
    }
}

/// Where the first message with an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The number of the log it was appended to: its topic's, or the schedule's.
    pub log: u32,
    /// Its place in that log.
    pub offset: u64,
    /// Its timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

//! [`Progress`]: how far the schedule is worked off, as the journal has it.
//!
//! Messages are put into their topics in order of (time, offset). So what is done is one place and not a set: ten million waiting messages
//! cost nothing in the state. Which messages are next, and who moves them, is decided elsewhere. Why it is made this way: ADR 0009.

use crate::code::{Reader, put_number};

/// A message of the schedule: when it is due, and where it stands. Sorted by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where in the schedule's log.
    pub offset: u64,
}

/// How far the schedule is worked off: a function of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here is done, as far as it stands before `seen`.
    pub through: Due,
    /// Messages from this offset on are not done, whenever they are due.
    pub seen: u64,
    /// Every lower offset is done: its message was put into its topic, or carried forward.
    pub floor: u64,
    /// Messages of the log that are done.
    pub done: u64,
}

impl Progress {
    /// True when a message was put into its topic, or carried forward.
    pub fn is_done(&self, due: Due) -> bool {
        (due <= self.through && due.offset < self.seen) || due.offset < self.floor
    }

    /// Appends its bytes.
    pub fn put_into(&self, bytes: &mut Vec<u8>) {
        for number in [self.through.at_ms, self.through.offset, self.seen, self.floor, self.done] {
            put_number(bytes, number);
        }
    }

    /// Reads what was put.
    pub fn take_from(reader: &mut Reader<'_>) -> Result<Progress, String> {
        let mut number = || reader.number();
        let through = Due { at_ms: number()?, offset: number()? };
        Ok(Progress { through, seen: number()?, floor: number()?, done: number()? })
    }
}

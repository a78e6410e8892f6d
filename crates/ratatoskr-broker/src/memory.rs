//! [`Shares`]: what of the memory a broker may use goes where.
//!
//! ```text
//!   memory  [ recent 1/32 | inbox 1/32 | memory topics 1/4 | callers 1/4 | dedup ids 1/4 | unsettled 1/8 | saved states 1/64 | the program, topics … ]
//!   full ─▶   read from     publishers   oldest go           refused       messages with   subscriptions   refused
//!             disk          wait                                           an id refused   read no further
//! ```
//!
//! Shares are fixed, so that no use can starve another, and so that each can say by itself when it is full (ADR 0013). How many topics and
//! durable subscriptions there may be grows with memory, too; their bytes are nobody's share: who needs many has less of the rest.

use ratatoskr_state::limits::{SUBSCRIPTIONS_MAX, TOPICS_MAX};

/// Bytes a broker may use unless it is told otherwise.
pub const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
/// The least it can be told: less would not hold one batch of the largest size beside everything else.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Bytes an idle topic takes.
const TOPIC_BYTES: u64 = 2048;
/// Bytes an idle durable subscription counts for where their number is bounded; it takes 1.5 to 2 KiB.
const SUBSCRIPTION_BYTES: u64 = 1024;
/// Bytes one remembered dedup id takes, with some to spare: 48 in its chunk, and 29 to 57 in a table that doubles when it grows.
const DEDUP_ID_BYTES: u64 = 128;

/// See the file's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Bytes of recent messages, over all topics on disk.
    pub recent: usize,
    /// Bytes of encoded records that wait for the journal, over all publishers.
    pub inbox: usize,
    /// Bytes that all memory topics keep together.
    pub memory_topics: u64,
    /// Bytes that a front door may hold for those who call it.
    pub callers: usize,
    /// Ids remembered to find duplicates, over all topics.
    pub dedup_ids: usize,
    /// Bytes of what durable subscriptions have read and not settled, all together.
    pub unsettled: u64,
    /// Bytes of saved states of durable subscriptions, all together.
    pub saved_states: u64,
    /// Topics there may be. More than these are not made; those that a start finds are all there.
    pub topics: usize,
    /// Durable subscriptions there may be, likewise.
    pub subscriptions: usize,
}

impl Shares {
    /// Shares out so many bytes.
    pub fn of(memory: u64) -> Shares {
        let bytes = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
        Shares {
            recent: bytes(memory / 32),
            inbox: bytes((memory / 32).min(INBOX_BYTES_MAX)),
            memory_topics: memory / 4,
            callers: bytes(memory / 4),
            dedup_ids: bytes(memory / 4 / DEDUP_ID_BYTES),
            unsettled: memory / 8,
            saved_states: memory / 64,
            topics: bytes(memory / 4 / TOPIC_BYTES).min(TOPICS_MAX),
            subscriptions: bytes(memory / 8 / SUBSCRIPTION_BYTES).min(SUBSCRIPTIONS_MAX),
        }
    }
}

/// More than this does not make the journal faster, and would make publishers wait longer.
const INBOX_BYTES_MAX: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_out_is_never_more_than_there_is() {
        for memory in [MEMORY_BYTES_MIN, 1 << 30, 1 << 40] {
            let Shares { recent, inbox, memory_topics, callers, dedup_ids, unsettled, saved_states, .. } =
                Shares::of(memory);
            let dedup = dedup_ids as u64 * DEDUP_ID_BYTES;
            assert!(
                (recent + inbox + callers) as u64 + memory_topics + dedup + unsettled + saved_states
                    <= memory / 64 * 61
            );
            assert!(inbox >= 2 << 20 && dedup_ids >= 100_000);
        }
    }
}

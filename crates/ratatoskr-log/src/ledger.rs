//! [`Ledger`]: state beyond topics that lives in the journal too, such as what durable subscriptions have settled.

use ratatoskr_state::RecordChunk;

/// Keeps state that is a function of the journal's events. The log carries the events, and snapshots in its checkpoints, and knows
/// nothing else of them. Called by one thread at a time: at start by the one that opens the log, then by the journal writer.
pub trait Ledger: Send + Sync {
    /// Takes in one part of a snapshot, at start, in the order the parts were given.
    fn restore(&self, part: &[u8]) -> Result<(), String>;

    /// Takes in an event, at start, in the order of the journal. Later on whoever staged an event applies it
    /// once it is committed, before anything else is written.
    fn replay(&self, event: &[u8]) -> Result<(), String>;

    /// Takes in records that were appended to a topic, and the date of their block ([`crate::Log::set_date`]), at start, in the order
    /// of the journal. Later on whoever staged them does it, as with events. What a snapshot was taken of does not come again.
    fn appended(&self, topic: u32, records: &RecordChunk, date: u64);

    /// A topic is gone. At start only.
    fn topic_deleted(&self, topic: u32);

    /// The state as of the last committed block. It is taken on the journal writer's thread, where everybody waits, so it copies
    /// nothing that is large: what it shares with the state is copied when the state changes.
    fn snapshot(&self) -> Box<dyn Snapshot>;
}

/// A ledger's state at one moment.
pub trait Snapshot: Send {
    /// Puts it into parts of any size, on the flusher's thread.
    fn encode(&self, push: &mut dyn FnMut(Vec<u8>));
}

/// The ledger of a log that carries no state but its topics.
pub struct NoLedger;

const NOT_HERE: &str =
    "this data directory holds state beyond topics, and it was opened without a ledger for it";

impl Ledger for NoLedger {
    fn restore(&self, _: &[u8]) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }

    fn replay(&self, _: &[u8]) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }

    fn appended(&self, _: u32, _: &RecordChunk, _: u64) {}

    fn topic_deleted(&self, _: u32) {}

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(NoSnapshot)
    }
}

struct NoSnapshot;

impl Snapshot for NoSnapshot {
    fn encode(&self, _: &mut dyn FnMut(Vec<u8>)) {}
}

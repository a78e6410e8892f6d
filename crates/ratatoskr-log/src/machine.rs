//! [`StateMachine`]: state that is a function of the journal, such as what subscriptions have settled.

use parking_lot::RwLock;
use ratatoskr_state::{BatchHeader, Entry, State, StateSnapshot};

/// State that the log keeps up to date, and puts into its checkpoints. The log calls it with each batch once the batch is committed, by the
/// same call when the journal is replayed at a start, and knows nothing else of it. One thread at a time changes it: at start the one that opens
/// the log, then the journal writer.
pub trait StateMachine: Send + Sync {
    /// Takes in a topic that the checkpoint has, before the parts of the snapshot.
    fn restore_topic(&self, number: u32, settings: &[u8]) -> Result<(), String>;

    /// Takes in one part of a snapshot, at start, in the order the parts were given.
    fn restore(&self, part: &[u8]) -> Result<(), String>;

    /// Takes in a batch. An error says what makes no sense.
    fn apply(&self, header: &BatchHeader, entries: &mut dyn Iterator<Item = Entry<'_>>)
    -> Result<(), String>;

    /// A start goes on without a batch that says so, because there is no room to write one.
    fn begin_epoch(&self, epoch: u64);

    /// The state as of the last committed batch. It is taken on the journal writer's thread, where everybody waits, so it copies
    /// nothing that is large: what it shares with the state is copied when the state changes.
    fn snapshot(&self) -> Box<dyn Snapshot>;
}

/// A state at one moment.
pub trait Snapshot: Send {
    /// Puts it into parts of any size, on the flusher's thread.
    fn encode(&self, push: &mut dyn FnMut(Vec<u8>));
}

impl StateMachine for RwLock<State> {
    fn restore_topic(&self, number: u32, settings: &[u8]) -> Result<(), String> {
        self.write().restore_topic(number, settings)
    }

    fn restore(&self, part: &[u8]) -> Result<(), String> {
        self.write().restore(part)
    }

    fn apply(
        &self,
        header: &BatchHeader,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), String> {
        self.write().apply(header, entries)
    }

    fn begin_epoch(&self, epoch: u64) {
        self.write().begin_epoch(epoch);
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(self.read().snapshot())
    }
}

impl Snapshot for StateSnapshot {
    fn encode(&self, push: &mut dyn FnMut(Vec<u8>)) {
        StateSnapshot::encode(self, push);
    }
}

/// For a log that carries topics only.
pub struct NoState;

const NOT_HERE: &str =
    "this data directory holds state beyond topics, and it was opened without a place for it";

impl StateMachine for NoState {
    fn restore_topic(&self, _: u32, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn restore(&self, _: &[u8]) -> Result<(), String> {
        Err(NOT_HERE.to_owned())
    }

    fn apply(&self, _: &BatchHeader, entries: &mut dyn Iterator<Item = Entry<'_>>) -> Result<(), String> {
        for entry in entries {
            if let Entry::Change { .. } = entry {
                return Err(NOT_HERE.to_owned());
            }
        }
        Ok(())
    }

    fn begin_epoch(&self, _: u64) {}

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(NoSnapshot)
    }
}

struct NoSnapshot;

impl Snapshot for NoSnapshot {
    fn encode(&self, _: &mut dyn FnMut(Vec<u8>)) {}
}

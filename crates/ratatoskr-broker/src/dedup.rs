//! Duplicate detection while messages are on their way into the journal.
//!
//! ```text
//!   publish "order-7" ──known within the window?── no ──▶ staged ──batch is applied──▶ known (the state's)
//!                                  └── yes ──▶ the first one's receipt, nothing is appended
//! ```
//!
//! What is known is a function of the journal ([`ratatoskr_state::DedupIds`]). Here is what is not in it: ids whose batch is on its way, and those
//! of topics that are kept in memory. Invariant: memory is bounded by refusing new ids, not by forgetting.

use ratatoskr_state::{DedupDate, DedupEntry, DedupId, DedupIds, First, State};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

/// A record's index in its batch, and where the first one with its id is; `None`: earlier in the same batch.
pub(crate) type Duplicate = (u32, Option<First>);

/// There are as many ids to remember as there may be: so many.
#[derive(Debug)]
pub(crate) struct TooManyIds(pub(crate) usize);

/// See the file's head. The sequencer adds to it.
pub(crate) struct Dedup {
    state: Arc<RwLock<State>>,
    pending: Mutex<Pending>,
    /// Ids it remembers at most, over all topics.
    ids_max: usize,
}

#[derive(Default)]
struct Pending {
    /// Of the batch being made, by topic and id.
    staged: HashMap<(u32, DedupId), Staged>,
    /// Of topics that are kept in memory.
    in_memory: DedupIds,
}

struct Staged {
    entry: DedupEntry,
    is_in_memory: bool,
}

impl Dedup {
    pub(crate) fn new(state: Arc<RwLock<State>>, ids_max: usize) -> Dedup {
        Dedup { state, pending: Mutex::default(), ids_max }
    }

    /// Which of these ids (index in a batch, ascending, and id) a topic knows already, and where; or (`None`) come earlier in the batch.
    pub(crate) fn find(
        &self,
        topic: u32,
        ids: &[(u32, DedupId)],
        window: (DedupDate, u64),
    ) -> Result<Vec<Duplicate>, TooManyIds> {
        let pending = self.pending.lock();
        let state = self.state.read();
        let mut given = HashSet::with_capacity(ids.len());
        let first = |id| {
            let in_memory = || pending.in_memory.first(topic, id, window);
            let staged = || Some(pending.staged.get(&(topic, id))?.entry.first);
            state.dedup().first(topic, id, window).or_else(in_memory).or_else(staged)
        };
        let duplicate = |&(index, id): &(u32, DedupId)| match first(id) {
            Some(first) => Some((index, Some(first))),
            None => (!given.insert(id)).then_some((index, None)),
        };
        let duplicates: Vec<Duplicate> = ids.iter().filter_map(duplicate).collect();
        let new = ids.len() - duplicates.len();
        let remembered = state.dedup().count() + pending.in_memory.count() + pending.staged.len();
        if new > 0 && remembered + new > self.ids_max {
            return Err(TooManyIds(self.ids_max));
        }
        Ok(duplicates)
    }

    /// Where the first message with an id is, once it is staged.
    pub(crate) fn staged(&self, topic: u32, id: DedupId) -> Option<First> {
        self.pending.lock().staged.get(&(topic, id)).map(|staged| staged.entry.first)
    }

    /// Notes an id of a topic whose message is staged; `is_in_memory` says that no batch will have it.
    pub(crate) fn stage(&self, topic: u32, entry: DedupEntry, is_in_memory: bool) {
        self.pending.lock().staged.insert((topic, entry.id), Staged { entry, is_in_memory });
    }

    /// The batch has been applied: the state knows its ids.
    pub(crate) fn commit(&self) {
        let mut pending = self.pending.lock();
        for ((topic, _), Staged { entry, is_in_memory }) in std::mem::take(&mut pending.staged) {
            if is_in_memory {
                pending.in_memory.learn(topic, entry);
            }
        }
    }

    /// The batch has failed.
    pub(crate) fn take_back(&self) {
        self.pending.lock().staged.clear();
    }

    /// What was staged into one log has been taken back.
    pub(crate) fn take_back_of(&self, log: u32) {
        self.pending.lock().staged.retain(|_, staged| staged.entry.first.log != log);
    }

    /// Forgets the ids of topics kept in memory whose window is over; `window_ms` says how long that of a topic is.
    pub(crate) fn forget(&self, date: DedupDate, window_ms: impl Fn(u32) -> u64) {
        self.pending.lock().in_memory.forget(date, window_ms);
    }

    /// No id of a topic kept in memory was taken in later than today, whatever the clock has shown meanwhile.
    pub(crate) fn lower_to(&self, today_ms: u64) {
        self.pending.lock().in_memory.lower_to(today_ms);
    }

    /// A topic kept in memory is gone.
    pub(crate) fn topic_deleted(&self, topic: u32) {
        self.pending.lock().in_memory.topic_deleted(topic);
    }

    /// Ids remembered now.
    pub(crate) fn count(&self) -> usize {
        self.state.read().dedup().count() + self.pending.lock().in_memory.count()
    }
}

//! [`Window`]: the ids of one topic, in the order they came.
//!
//! ```text
//!   places   id ──▶ place            chunks  │ 1024 entries │ 1024 entries │ 17 entries │
//!                                              ▲ oldest                                ▲ next
//! ```
//!
//! Entries stand in chunks that are shared, not copied, when a checkpoint is to write them: [`Window::share`] takes a pointer for each
//! chunk, and only the last one, which still grows, is copied afterwards. Invariants: all chunks but the last are full; an id that came
//! again after its window has two entries, of which the later one counts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{DedupId, First};

/// Entries of a full chunk: few enough to copy one (48 KiB) without anybody noticing.
const CHUNK_ENTRIES: usize = 1024;

/// An id, where the first message with it is, and the date its window begins.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The id.
    pub id: DedupId,
    /// The first message with it.
    pub first: First,
    /// See [`crate::BatchDate`].
    pub date_ms: u64,
}

type Chunk = Arc<Vec<Entry>>;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Window {
    /// Places are counted from the first entry there ever was.
    places: HashMap<DedupId, u64>,
    chunks: VecDeque<Chunk>,
    /// The place of the first entry of the first chunk.
    base: u64,
    /// The place of the oldest entry that is not forgotten.
    oldest: u64,
}

impl Window {
    /// Ids that are known.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True when no id is known.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What is known of an id.
    pub fn find(&self, id: DedupId) -> Option<Entry> {
        self.places.get(&id).map(|&place| self.entry(place))
    }

    /// Takes in an id; one that is known counts anew. True when it was not known.
    pub fn learn(&mut self, entry: Entry) -> bool {
        if self.chunks.back().is_none_or(|last| last.len() == CHUNK_ENTRIES) {
            self.chunks.push_back(Chunk::default());
        }
        let before = (self.chunks.len() - 1) * CHUNK_ENTRIES;
        let last = Arc::make_mut(self.chunks.back_mut().expect("one was pushed"));
        let place = self.base + (before + last.len()) as u64;
        last.push(entry);
        self.places.insert(entry.id, place).is_none()
    }

    /// Forgets the ids whose window is over, by the date it began. Answers how many.
    pub fn forget(&mut self, is_over: impl Fn(u64) -> bool) -> usize {
        let known = self.places.len();
        while !self.places.is_empty() {
            let entry = self.entry(self.oldest);
            if self.places.get(&entry.id) == Some(&self.oldest) {
                if !is_over(entry.date_ms) {
                    break;
                }
                self.places.remove(&entry.id);
            }
            self.oldest += 1;
            if self.oldest - self.base == CHUNK_ENTRIES as u64 {
                self.chunks.pop_front();
                self.base = self.oldest;
            }
        }
        known - self.places.len()
    }

    /// No id was taken in later than this.
    pub fn lower_to(&mut self, today_ms: u64) {
        for chunk in &mut self.chunks {
            if chunk.iter().any(|entry| entry.date_ms > today_ms) {
                let entries = Arc::make_mut(chunk).iter_mut();
                entries.for_each(|entry| entry.date_ms = entry.date_ms.min(today_ms));
            }
        }
    }

    /// All entries that are not forgotten, without copying them.
    pub fn share(&self) -> SharedEntries {
        SharedEntries {
            chunks: self.chunks.iter().cloned().collect(),
            skip: (self.oldest - self.base) as usize,
        }
    }

    fn entry(&self, place: u64) -> Entry {
        let at = (place - self.base) as usize;
        self.chunks[at / CHUNK_ENTRIES][at % CHUNK_ENTRIES]
    }
}

/// Entries of a window as they were when they were shared.
pub struct SharedEntries {
    chunks: Vec<Chunk>,
    skip: usize,
}

impl SharedEntries {
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flat_map(|chunk| &**chunk).skip(self.skip)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(id: u64, offset: u64, date_ms: u64) -> Entry {
        Entry { id: DedupId { low: id, high: 0 }, first: First { log: 1, offset, timestamp_ms: 0 }, date_ms }
    }

    #[test]
    fn what_is_shared_stays_as_it_was() {
        let mut window = Window::default();
        (0..3_000).for_each(|n| assert!(window.learn(entry(n, n, n))));
        window.forget(|date_ms| date_ms < 1_500);
        let shared = window.share();
        window.learn(entry(9_999, 3_000, 3_000));
        window.lower_to(7);
        window.forget(|_| true);
        assert!(window.is_empty());
        let dates: Vec<u64> = shared.iter().map(|entry| entry.date_ms).collect();
        assert_eq!(dates, (1_500..3_000).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn a_window_knows_what_a_plain_list_knows(steps in prop::collection::vec((0u64..2_000, 0u64..3), 1..6_000)) {
            let (mut window, mut plain) = (Window::default(), HashMap::new());
            for (now, (id, kind)) in (0_u64..).zip(steps) {
                if kind == 0 && now > 2_500 {
                    window.forget(|date_ms| date_ms < now - 2_500);
                    plain.retain(|_, &mut learnt| learnt >= now - 2_500);
                } else {
                    let is_new = window.learn(entry(id, now, now));
                    prop_assert_eq!(is_new, plain.insert(id, now).is_none());
                }
                prop_assert_eq!(window.len(), plain.len());
                let found = window.find(DedupId { low: id, high: 0 });
                prop_assert_eq!(found.map(|entry| entry.first.offset), plain.get(&id).copied());
            }
        }
    }
}

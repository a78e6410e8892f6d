//! Duplicate detection: which ids publishers gave to messages lately, and where those messages are.
//!
//! ```text
//!   publish "order-7" ──known within the window?── no ──▶ staged ──block is durable──▶ known
//!                                  └── yes ──▶ the first one's receipt, nothing is appended
//! ```
//!
//! What is known is a function of the journal: ids stand in their records, so a replay learns them again, and a checkpoint
//! carries those of the time before it. Only a hash of 128 bits is kept of an id: two different ids of one topic that
//! hash alike would take 2⁶⁴ ids to expect. Invariants: an id that is staged is not in a snapshot, since its block may fail; an
//! id is forgotten only once its window is over (by the calendar's date, not by timestamps), so memory is bounded by refusing new ids, not by forgetting.

mod window;

use std::collections::{HashMap, HashSet};
use std::hash::Hasher as _;

use parking_lot::Mutex;
use ratatoskr_log::RecordChunk;
use siphasher::sip128::{Hasher128, SipHasher13};

use self::window::{SharedEntries, Window};
use crate::code::{Reader, put_number, put_text};

pub(crate) use self::window::Entry;

/// Ids in one part of a snapshot.
const PART_IDS: usize = 16_384;

/// What is kept of a publisher's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DedupId {
    // Not one number of 128 bits, which would be aligned to 16 bytes.
    low: u64,
    high: u64,
}

impl DedupId {
    pub(crate) fn of(id: &str) -> DedupId {
        let mut hasher = SipHasher13::new();
        hasher.write(id.as_bytes());
        let hash = hasher.finish128();
        DedupId { low: hash.h1, high: hash.h2 }
    }

    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.low.to_le_bytes());
        bytes[8..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; 16]) -> DedupId {
        let half =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"));
        DedupId { low: half(0), high: half(8) }
    }
}

/// Where the first message with an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    /// The number of the log it was appended to: its topic's, or the schedule's.
    pub(crate) log: u32,
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: u64,
}

/// A record's index in its batch, and where the first one with its id is; `None`: earlier in the same batch.
pub(crate) type Duplicate = (u32, Option<First>);

/// There are as many ids to remember as there may be: so many.
#[derive(Debug)]
pub(crate) struct TooManyIds(pub(crate) usize);

/// See the file's head. Once the broker runs, the sequencer adds to it, and retention's sweep forgets.
pub(crate) struct Dedup {
    known: Mutex<Known>,
    /// Ids it remembers at most, over all topics.
    ids_max: usize,
}

#[derive(Default)]
struct Known {
    windows: HashMap<u32, Window>,
    /// Of the block being made, by topic and id.
    staged: HashMap<(u32, DedupId), Entry>,
    /// In all windows.
    count: usize,
}

impl Dedup {
    pub(crate) fn new(ids_max: usize) -> Dedup {
        Dedup { known: Mutex::default(), ids_max }
    }

    /// Which of these ids (index in a batch, ascending, and id) a topic knows already, and where; or (`None`) come earlier in the batch.
    pub(crate) fn find(
        &self,
        topic: u32,
        ids: &[(u32, DedupId)],
        cutoff_ms: u64,
    ) -> Result<Vec<Duplicate>, TooManyIds> {
        let mut known = self.known.lock();
        known.forget_before(topic, cutoff_ms);
        let mut given = HashSet::with_capacity(ids.len());
        let duplicate = |&(index, id): &(u32, DedupId)| match known.first(topic, id) {
            Some(first) => Some((index, Some(first))),
            None => (!given.insert(id)).then_some((index, None)),
        };
        let duplicates: Vec<Duplicate> = ids.iter().filter_map(duplicate).collect();
        let new = ids.len() - duplicates.len();
        if new > 0 && known.count + known.staged.len() + new > self.ids_max {
            return Err(TooManyIds(self.ids_max));
        }
        Ok(duplicates)
    }

    /// Where the first message with an id is, once it is staged.
    pub(crate) fn staged(&self, topic: u32, id: DedupId) -> Option<First> {
        self.known.lock().staged.get(&(topic, id)).map(|staged| staged.first)
    }

    /// Notes an id whose message is staged.
    pub(crate) fn stage(&self, topic: u32, entry: Entry) {
        self.known.lock().staged.insert((topic, entry.id), entry);
    }

    /// The block is durable.
    pub(crate) fn commit(&self) {
        let mut known = self.known.lock();
        for ((topic, _), entry) in std::mem::take(&mut known.staged) {
            known.learn(topic, entry);
        }
    }

    /// The block has failed.
    pub(crate) fn take_back(&self) {
        self.known.lock().staged.clear();
    }

    /// What was staged into one log has been taken back.
    pub(crate) fn take_back_of(&self, log: u32) {
        self.known.lock().staged.retain(|_, staged| staged.first.log != log);
    }

    /// Forgets a topic's ids from before a time.
    pub(crate) fn forget_before(&self, topic: u32, cutoff_ms: u64) {
        self.known.lock().forget_before(topic, cutoff_ms);
    }

    /// No id was taken in later than today, whatever the clock has shown meanwhile.
    pub(crate) fn lower_to(&self, today_ms: u64) {
        let mut known = self.known.lock();
        known.windows.values_mut().for_each(|window| window.lower_to(today_ms));
    }

    pub(crate) fn topic_deleted(&self, topic: u32) {
        let mut known = self.known.lock();
        if let Some(window) = known.windows.remove(&topic) {
            known.count -= window.len();
        }
    }

    /// Ids remembered now.
    pub(crate) fn count(&self) -> usize {
        self.known.lock().count
    }

    /// Learns from records that a replay found.
    pub(crate) fn appended(&self, log: u32, records: &RecordChunk, date_ms: u64) {
        let mut known = self.known.lock();
        for record in records.records_with_dedup_id() {
            let facts = record.body.facts();
            // A record of the schedule says by its address which topic it is for.
            let topic = if facts.deliver_at_ms == 0 { log } else { facts.addressed_to };
            let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
            let first = First { log, offset, timestamp_ms };
            known.learn(topic, Entry { id: DedupId::of(facts.dedup_id), first, date_ms });
        }
    }

    /// One part of a snapshot.
    pub(crate) fn restore(&self, reader: &mut Reader<'_>) -> Result<(), String> {
        let mut known = self.known.lock();
        let topic = reader.number()? as u32;
        while !reader.is_at_end() {
            let id = reader.bytes()?.try_into().map_err(|_| "a dedup id has no 16 bytes")?;
            let (log, offset) = (reader.number()? as u32, reader.number()?);
            let (timestamp_ms, date_ms) = (reader.number()?, reader.number()?);
            let first = First { log, offset, timestamp_ms };
            known.learn(topic, Entry { id: DedupId::from_bytes(id), first, date_ms });
        }
        Ok(())
    }

    /// All that is known, to be written by another thread.
    pub(crate) fn snapshot(&self) -> DedupSnapshot {
        let known = self.known.lock();
        DedupSnapshot {
            topics: known.windows.iter().map(|(&topic, window)| (topic, window.share())).collect(),
        }
    }
}

/// All that was known at one moment; it shares its memory with what is known now.
pub(crate) struct DedupSnapshot {
    topics: Vec<(u32, SharedEntries)>,
}

impl DedupSnapshot {
    /// In parts that begin with `head`.
    pub(crate) fn encode(&self, head: u64, push: &mut dyn FnMut(Vec<u8>)) {
        for (topic, entries) in &self.topics {
            let mut entries = entries.iter().peekable();
            while entries.peek().is_some() {
                let mut part = Vec::new();
                put_number(&mut part, head);
                put_number(&mut part, (*topic).into());
                for Entry { id, first, date_ms } in entries.by_ref().take(PART_IDS) {
                    put_text(&mut part, &id.to_bytes());
                    put_number(&mut part, first.log.into());
                    put_number(&mut part, first.offset);
                    put_number(&mut part, first.timestamp_ms);
                    put_number(&mut part, *date_ms);
                }
                push(part);
            }
        }
    }
}

impl Known {
    fn first(&self, topic: u32, id: DedupId) -> Option<First> {
        let known = self.windows.get(&topic).and_then(|window| window.first(id));
        known.or_else(|| Some(self.staged.get(&(topic, id))?.first))
    }

    fn learn(&mut self, topic: u32, entry: Entry) {
        self.count += usize::from(self.windows.entry(topic).or_default().learn(entry));
    }

    fn forget_before(&mut self, topic: u32, cutoff_ms: u64) {
        let Some(window) = self.windows.get_mut(&topic) else { return };
        self.count -= window.forget_before(cutoff_ms);
        if window.is_empty() {
            self.windows.remove(&topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(offset: u64) -> First {
        First { log: 1, offset, timestamp_ms: 7 }
    }

    fn entry(id: &str, offset: u64) -> Entry {
        Entry { id: DedupId::of(id), first: first(offset), date_ms: 100 + offset }
    }

    fn ids(texts: &[&str]) -> Vec<(u32, DedupId)> {
        texts.iter().enumerate().map(|(index, text)| (index as u32, DedupId::of(text))).collect()
    }

    #[test]
    fn an_id_is_known_once_staged_and_forgotten_with_its_block_or_its_window() {
        let dedup = Dedup::new(1000);
        assert_eq!(dedup.find(1, &ids(&["a", "b", "a"]), 0).unwrap(), [(2, None)]);
        dedup.stage(1, entry("a", 0));
        assert_eq!(dedup.find(1, &ids(&["b", "a"]), 0).unwrap(), [(1, Some(first(0)))]);
        assert!(dedup.find(2, &ids(&["a"]), 0).unwrap().is_empty(), "topics know nothing of each other");
        dedup.take_back();
        assert!(dedup.find(1, &ids(&["a"]), 0).unwrap().is_empty());
        for (offset, id) in ["a", "b"].into_iter().enumerate() {
            dedup.stage(1, entry(id, offset as u64));
            dedup.commit();
        }
        assert_eq!(dedup.find(1, &ids(&["a", "b"]), 101).unwrap(), [(1, Some(first(1)))]);
        dedup.stage(1, entry("a", 5));
        dedup.commit();
        let found = dedup.find(1, &ids(&["a", "b"]), 102).unwrap();
        assert_eq!(found, [(0, Some(first(5)))], "known anew, it counts from then on");
        dedup.topic_deleted(1);
        assert_eq!(dedup.count(), 0);
    }

    #[test]
    fn a_date_that_was_too_late_is_lowered_and_its_window_ends() {
        let dedup = Dedup::new(1000);
        for (id, date_ms) in [("a", 1_000_000), ("b", 55)] {
            dedup.stage(1, Entry { date_ms, ..entry(id, 0) });
            dedup.commit();
        }
        dedup.lower_to(50);
        dedup.forget_before(1, 50);
        assert_eq!(dedup.count(), 2);
        dedup.forget_before(1, 51);
        assert_eq!(dedup.count(), 0);
    }

    #[test]
    fn a_snapshot_brings_back_what_is_committed_and_nothing_staged() {
        let dedup = Dedup::new(1000);
        dedup.stage(1, entry("a", 7));
        dedup.commit();
        dedup.stage(1, entry("b", 8));
        let mut parts = Vec::new();
        dedup.snapshot().encode(2, &mut |part| parts.push(part));
        let restored = Dedup::new(1000);
        for part in parts {
            let mut reader = Reader::new(&part);
            assert_eq!(reader.number(), Ok(2));
            restored.restore(&mut reader).unwrap();
        }
        assert_eq!(restored.find(1, &ids(&["a", "b"]), 0).unwrap(), [(0, Some(first(7)))]);
    }
}

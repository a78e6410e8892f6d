//! [`DedupIds`]: the windows of ids of all topics.

use std::collections::BTreeMap;

use crate::code::{Reader, put_number, put_text};
use crate::dedup::{DedupEntry, DedupId, First, SharedEntries, Window};

/// Ids in one part of a snapshot.
const PART_IDS: usize = 16_384;

/// See the file's head.
#[derive(Debug, Default)]
pub struct DedupIds {
    windows: BTreeMap<u32, Window>,
    /// In all windows.
    count: usize,
}

impl DedupIds {
    /// Where the first message of a topic with an id is, if its window began at a date or later.
    pub fn first(&self, topic: u32, id: DedupId, cutoff_ms: u64) -> Option<First> {
        let entry = self.windows.get(&topic)?.find(id)?;
        (entry.date_ms >= cutoff_ms).then_some(entry.first)
    }

    /// Ids that are remembered.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes in an id; one that is known counts anew.
    pub fn learn(&mut self, topic: u32, entry: DedupEntry) {
        self.count += usize::from(self.windows.entry(topic).or_default().learn(entry));
    }

    /// Forgets the ids of each topic whose window is over; `window_ms` says how long that of a topic is.
    pub fn forget(&mut self, today_ms: u64, window_ms: impl Fn(u32) -> u64) {
        let count = &mut self.count;
        self.windows.retain(|&topic, window| {
            *count -= window.forget_before(today_ms.saturating_sub(window_ms(topic)));
            !window.is_empty()
        });
    }

    /// No id was taken in later than today.
    pub fn lower_to(&mut self, today_ms: u64) {
        self.windows.values_mut().for_each(|window| window.lower_to(today_ms));
    }

    /// A topic is gone.
    pub fn topic_deleted(&mut self, topic: u32) {
        if let Some(window) = self.windows.remove(&topic) {
            self.count -= window.len();
        }
    }

    pub(crate) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), String> {
        let topic = reader.number()? as u32;
        while !reader.is_at_end() {
            let id = reader.bytes()?.try_into().map_err(|_| "a dedup id has no 16 bytes")?;
            let (log, offset) = (reader.number()? as u32, reader.number()?);
            let (timestamp_ms, date_ms) = (reader.number()?, reader.number()?);
            let first = First { log, offset, timestamp_ms };
            self.learn(topic, DedupEntry { id: DedupId::from_bytes(id), first, date_ms });
        }
        Ok(())
    }

    /// All ids, to be written by another thread.
    pub(crate) fn snapshot(&self) -> DedupSnapshot {
        let windows = self.windows.iter();
        DedupSnapshot { topics: windows.map(|(&topic, window)| (topic, window.share())).collect() }
    }
}

/// All ids at one moment; it shares its memory with what is known now.
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
                for DedupEntry { id, first, date_ms } in entries.by_ref().take(PART_IDS) {
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

//! [`DedupIds`]: the windows of ids of all topics.

use std::collections::BTreeMap;

use crate::code::{Reader, put_number, put_text};
use crate::dedup::{DedupDate, DedupEntry, DedupId, First, SharedEntries, Window};

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
    /// Where the first message of a topic with an id is, unless the topic's window is over.
    pub fn first(&self, topic: u32, id: DedupId, (date, window_ms): (DedupDate, u64)) -> Option<First> {
        let entry = self.windows.get(&topic)?.find(id)?;
        (!date.is_over(entry.date_ms, window_ms)).then_some(entry.first)
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
    pub fn forget(&mut self, date: DedupDate, window_ms: impl Fn(u32) -> u64) {
        let count = &mut self.count;
        self.windows.retain(|&topic, window| {
            let window_ms = window_ms(topic);
            *count -= window.forget(|stamped_ms| date.is_over(stamped_ms, window_ms));
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

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MS: u64 = 120_000;

    #[test]
    fn an_id_that_was_stamped_in_doubt_goes_when_its_window_is_over_though_the_jump_is_doubted_still() {
        let (today_ms, ahead_ms) = (1_000_000, 3_600_000);
        let mut ids = DedupIds::default();
        let learn = |ids: &mut DedupIds, id: &str, date_ms| {
            let first = First { log: 1, offset: 0, timestamp_ms: date_ms };
            ids.learn(1, DedupEntry { id: DedupId::of(id), first, date_ms });
        };
        learn(&mut ids, "before", today_ms);
        learn(&mut ids, "in doubt", today_ms + ahead_ms);
        let date = |passed_ms| DedupDate {
            today_ms: today_ms + passed_ms,
            stamp_ms: today_ms + ahead_ms + passed_ms,
            doubted_after_ms: today_ms,
        };
        for (passed_ms, known) in [(WINDOW_MS, 2), (WINDOW_MS + 1, 0)] {
            let found = ["before", "in doubt"]
                .iter()
                .filter(|id| ids.first(1, DedupId::of(id), (date(passed_ms), WINDOW_MS)).is_some());
            assert_eq!(found.count(), known);
            ids.forget(date(passed_ms), |_| WINDOW_MS);
            assert_eq!(ids.count(), known);
        }
    }
}

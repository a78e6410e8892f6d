//! [`Stock`]: the bytes that a namespace's topics hold together, held against what they may.
//!
//! ```text
//!   counted = what the last look found  +  what was on its way then  +  what was let through since
//!                 (once a second)           (until it is answered)        (when it is let in)
//! ```
//!
//! Invariants:
//! - What is stored of what was let through is never more than counted, so the limit holds between two looks as well. A message is
//!   counted as the most its record can take; the next look puts that right.
//! - A look is off the hot path. Whoever publishes pays for a few atomic operations, and only where there is a quota.
//!
//! What this deliberately does not do: it refuses nothing that the broker moves by itself. Dead letters, and what was scheduled and is
//! due, go where they go, and are counted by the next look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ratatoskr_broker::Broker;

use super::rights::Namespaces;

/// What a record has beside payload, key, metadata and dedup id, at most: 28 bytes of head, flags, three times, an address, three
/// lengths, rounded up.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// The lengths of a name and a value.
const METADATA_OVERHEAD_BYTES: usize = 4;
/// What a batch takes more in a memory topic.
const BATCH_OVERHEAD_BYTES: u64 = 96;

/// Messages for one topic, as the quotas count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    /// Payloads, keys and metadata: what the rates count.
    pub(crate) bytes: u64,
    /// What their records take at most.
    pub(super) record_bytes: u64,
}

impl Load {
    /// Adds a message: its bytes as the rates count them, its entries of metadata, and the bytes of its dedup id.
    pub(crate) fn add(&mut self, bytes: usize, metadata_entries: usize, dedup_id_bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
        let beside = RECORD_OVERHEAD_BYTES + metadata_entries * METADATA_OVERHEAD_BYTES + dedup_id_bytes;
        self.record_bytes += (bytes + beside) as u64;
    }

    /// What a topic grows by at most when this is published.
    fn stored_bytes(&self) -> u64 {
        self.record_bytes + BATCH_OVERHEAD_BYTES
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    counted: AtomicU64,
    /// Let through and not answered yet: the topics may or may not hold it.
    underway: AtomicU64,
}

impl Stock {
    /// Lets messages through if they fit. Otherwise says what is counted.
    pub(crate) fn take(self: &Arc<Stock>, load: &Load, bytes_max: u64) -> Result<Underway, u64> {
        let bytes = load.stored_bytes();
        // Before it is counted: a look that finds it counted finds it here, too, or in its topic.
        self.underway.fetch_add(bytes, Ordering::Relaxed);
        let underway = Underway { stock: Arc::clone(self), bytes };
        let more = |counted: u64| counted.checked_add(bytes).filter(|&then| then <= bytes_max);
        self.counted.fetch_update(Ordering::Release, Ordering::Relaxed, more)?;
        Ok(underway)
    }

    /// The bytes counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// A look begins. There is one at a time.
    fn look(&self) -> Look<'_> {
        let counted = self.counted.load(Ordering::Acquire);
        Look { stock: self, counted, underway: self.underway.load(Ordering::Acquire) }
    }
}

/// Bytes that were let through, until it is known what became of them.
#[derive(Debug)]
pub(crate) struct Underway {
    stock: Arc<Stock>,
    bytes: u64,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.stock.underway.fetch_sub(self.bytes, Ordering::Release);
    }
}

/// What was counted before the topics were looked at.
struct Look<'a> {
    stock: &'a Stock,
    counted: u64,
    underway: u64,
}

impl Look<'_> {
    /// The topics hold so much.
    fn end(self, found: u64) {
        let now = |counted: u64| Some(found + self.underway + (counted - self.counted));
        let _ = self.stock.counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, now);
    }
}

impl Namespaces {
    /// Whether any may store only so much.
    pub(crate) fn bound_storage(&self) -> bool {
        self.all().iter().any(|namespace| namespace.settings.stored_bytes_max.is_some())
    }

    /// Looks how much the topics of each hold. Takes as long as there are topics.
    pub(crate) fn look(&self, broker: &Broker) {
        if !self.bound_storage() {
            return;
        }
        let looks: Vec<_> = self.all().iter().map(|namespace| namespace.stock.look()).collect();
        let found = broker.topic_bytes(looks.len(), |topic| self.place_of(topic.as_str()));
        looks.into_iter().zip(found).for_each(|(look, found)| look.end(found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: usize) -> Load {
        let mut load = Load::default();
        load.add(bytes - RECORD_OVERHEAD_BYTES - BATCH_OVERHEAD_BYTES as usize, 0, 0);
        assert_eq!(load.stored_bytes(), bytes as u64);
        load
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_counted() {
        let stock = Arc::new(Stock::default());
        drop(stock.take(&load(600), 1000).unwrap());
        assert_eq!(stock.take(&load(401), 1000).unwrap_err(), 600);
        assert_eq!((stock.bytes(), stock.underway.load(Ordering::Relaxed)), (600, 0));
        drop(stock.take(&load(400), 1000).unwrap());
        assert_eq!(stock.bytes(), 1000);
    }

    #[test]
    fn a_look_forgets_nothing_that_is_on_its_way_or_comes_meanwhile() {
        let stock = Arc::new(Stock::default());
        let stored = stock.take(&load(200), u64::MAX).unwrap();
        let on_its_way = stock.take(&load(300), u64::MAX).unwrap();
        drop(stored);
        let look = stock.look();
        drop(stock.take(&load(500), u64::MAX).unwrap());
        // Its record is smaller than it was counted.
        look.end(180);
        assert_eq!(stock.bytes(), 180 + 300 + 500);
        drop(on_its_way);
        // Something was removed: there is room.
        stock.look().end(700);
        assert_eq!(stock.bytes(), 700);
    }

    #[test]
    fn however_many_publish_at_a_time_no_more_passes_than_fits() {
        let stock = Arc::new(Stock::default());
        let stored = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Ok(underway) = stock.take(&load(200), 1_000_000) {
                            stored.fetch_add(150, Ordering::Relaxed);
                            drop(underway);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let look = stock.look();
                    look.end(stored.load(Ordering::Relaxed));
                    std::thread::yield_now();
                }
            });
        });
        let stored = stored.into_inner();
        assert!((700_000..=1_000_000).contains(&stored), "{stored}");
        stock.look().end(stored);
        assert_eq!(stock.bytes(), stored, "nothing is left over");
        assert_eq!(stock.underway.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_load_is_never_less_than_its_records() {
        let metadata: Vec<(String, String)> =
            (0..64).map(|n| (format!("name-{n}"), "value".to_owned())).collect();
        let facts = ratatoskr_broker::NewMessage {
            payload: "x".into(),
            key: "key".to_owned(),
            ttl_ms: 5,
            dedup_id: "d".repeat(256),
            metadata,
            ..Default::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(ratatoskr_broker::BrokerConfig::new(folder.path())).unwrap();
        let mut draft = broker.draft("t", 0).unwrap();
        draft.push(&facts.view()).unwrap();
        let mut load = Load::default();
        load.add(facts.size_bytes(), facts.metadata.len(), facts.dedup_id.len());
        let (least, most) = (draft.record_bytes() as u64, load.record_bytes);
        assert!(least <= most && most <= least + RECORD_OVERHEAD_BYTES as u64, "{least} {most}");
    }
}

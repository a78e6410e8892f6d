//! What was sent, what arrived, and the first thing that was wrong.
//!
//! ```text
//! publisher: ack(offset, checksum) ──▶ contents[offset] ◀── subscriber: delivery(offset, checksum)
//! ```
//!
//! Invariants, for every subscriber and delivery: the offset is the one after the last (no gap,
//! nothing twice); the content at an offset is the same for the publisher that got the receipt and for
//! all subscribers; the messages of one publisher come in the order it sent them. The first breach is kept
//! and ends the run.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::message::Stamp;
use crate::failed::{Failed, Outcome};

/// Width of a latency bucket.
const BUCKET: Duration = Duration::from_micros(100);
/// Buckets: up to one second; what is slower counts in the last.
const BUCKETS: usize = 10_000;

/// The shared account of one run.
pub(super) struct Ledger {
    /// Checksum of the message at each offset of the main topic; 0 where none has been seen.
    contents: Mutex<Vec<u32>>,
    /// Acknowledged messages of the main topic.
    acknowledged: AtomicU64,
    /// Deliveries of the main topic, over all subscribers.
    delivered: AtomicU64,
    /// The offset each subscriber waits for.
    progress: Vec<AtomicU64>,
    /// Acknowledged messages of each other topic.
    others: Vec<AtomicU64>,
    /// Deliveries of the other topics.
    others_delivered: AtomicU64,
    /// Publishes of the main topic by how long the acknowledgement took.
    latencies: Vec<AtomicU32>,
    /// Set once; publishers end when they see it.
    stopped: AtomicBool,
    /// The first thing that was wrong.
    breach: Mutex<Option<String>>,
}

impl Ledger {
    pub(super) fn new(subscribers: u32, other_topics: u32) -> Ledger {
        Ledger {
            contents: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            progress: (0..subscribers).map(|_| AtomicU64::new(0)).collect(),
            others: (0..other_topics).map(|_| AtomicU64::new(0)).collect(),
            others_delivered: AtomicU64::new(0),
            latencies: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            stopped: AtomicBool::new(false),
            breach: Mutex::default(),
        }
    }

    /// A publisher's receipt.
    pub(super) fn acknowledge(&self, offset: u64, stamp: Stamp, took: Duration) -> Outcome {
        self.observe(offset, stamp.checksum)?;
        let bucket = (took.as_micros() / BUCKET.as_micros()) as usize;
        self.latencies[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A delivery to a subscriber of the main topic, already found to be the next one.
    pub(super) fn deliver(&self, subscriber: u32, offset: u64, stamp: Stamp) -> Outcome {
        self.observe(offset, stamp.checksum)?;
        self.progress[subscriber as usize].store(offset + 1, Ordering::Relaxed);
        self.delivered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn acknowledge_other(&self, topic: u32) {
        self.others[topic as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn deliver_other(&self) {
        self.others_delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// Every observer of an offset must see the same content.
    fn observe(&self, offset: u64, checksum: u32) -> Outcome {
        // 0 stands for "not seen yet", so the one content in four billion that sums to 0 goes by 1.
        let checksum = checksum.max(1);
        let mut contents = lock(&self.contents);
        let index = offset as usize;
        if contents.len() <= index {
            contents.resize(index + 1, 0);
        }
        let known = contents[index];
        if known != 0 && known != checksum {
            return Err(Failed::new(format!(
                "offset {offset} has two contents: checksums {known:08x} and {checksum:08x}"
            )));
        }
        contents[index] = checksum;
        Ok(())
    }

    pub(super) fn stop_publishing(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Keeps the first breach; later ones are mostly its echo.
    pub(super) fn report(&self, failed: &Failed) {
        lock(&self.breach).get_or_insert_with(|| failed.to_string());
    }

    /// Fails once anything was wrong.
    pub(super) fn check(&self) -> Outcome {
        lock(&self.breach).clone().map_or(Ok(()), |breach| Err(Failed::new(breach)))
    }

    /// Whether every subscriber has every message that anybody has seen.
    pub(super) fn is_drained(&self) -> bool {
        let (end, acknowledged) = (lock(&self.contents).len() as u64, self.acknowledged());
        acknowledged == end && self.slowest() == end
    }

    pub(super) fn who_lags(&self) -> String {
        let end = lock(&self.contents).len() as u64;
        let lagging = self.progress.iter().filter(|next| next.load(Ordering::Relaxed) < end).count();
        format!(
            "{} of {end} messages acknowledged; {lagging} of {} subscribers lack messages, the slowest has {}",
            self.acknowledged(),
            self.progress.len(),
            self.slowest()
        )
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn acknowledged_other(&self, topic: u32) -> u64 {
        self.others[topic as usize].load(Ordering::Relaxed)
    }

    /// The offset the slowest subscriber waits for.
    pub(super) fn slowest(&self) -> u64 {
        self.progress.iter().map(|next| next.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// One paragraph for the end of the run.
    pub(super) fn summary(&self) -> String {
        let others: u64 = self.others.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        format!(
            "{} messages acknowledged, {} deliveries, none lost, none twice, none out of order\n\
             acknowledged after (milliseconds, at most): P50 {:.1}, P99 {:.1}, P99.9 {:.1}\n\
             other topics: {others} messages acknowledged and counted, {} deliveries",
            self.acknowledged(),
            self.delivered(),
            self.percentile_ms(0.5),
            self.percentile_ms(0.99),
            self.percentile_ms(0.999),
            self.others_delivered.load(Ordering::Relaxed),
        )
    }

    /// The upper edge of the bucket that holds the given share of publishes.
    fn percentile_ms(&self, share: f64) -> f64 {
        let rank = (self.acknowledged() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.latencies.iter().position(|count| {
            seen += u64::from(count.load(Ordering::Relaxed));
            seen >= rank
        });
        (bucket.unwrap_or(BUCKETS - 1) + 1) as f64 * BUCKET.as_secs_f64() * 1e3
    }
}

/// A thread that panics with the lock held ends the run anyway; what it held is plain numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp_of(checksum: u32) -> Stamp {
        Stamp { sender: 0, sequence: 0, checksum }
    }

    #[test]
    fn an_offset_with_two_contents_is_a_breach() {
        let ledger = Ledger::new(1, 0);
        ledger.acknowledge(0, stamp_of(5), Duration::ZERO).unwrap();
        ledger.deliver(0, 0, stamp_of(5)).unwrap();
        let error = ledger.deliver(0, 0, stamp_of(6)).unwrap_err().to_string();
        assert!(error.starts_with("offset 0 has two contents"), "{error}");
    }

    #[test]
    fn a_run_is_drained_when_every_subscriber_has_every_message() {
        let ledger = Ledger::new(2, 0);
        ledger.acknowledge(0, stamp_of(5), Duration::ZERO).unwrap();
        ledger.deliver(0, 0, stamp_of(5)).unwrap();
        assert!(!ledger.is_drained());
        assert!(ledger.who_lags().contains("1 of 2 subscribers lack messages"));
        ledger.deliver(1, 0, stamp_of(5)).unwrap();
        assert!(ledger.is_drained());
    }

    #[test]
    fn the_first_breach_is_kept() {
        let ledger = Ledger::new(0, 0);
        assert!(ledger.check().is_ok());
        ledger.report(&Failed::new("first"));
        ledger.report(&Failed::new("second"));
        assert_eq!(ledger.check().unwrap_err().to_string(), "first");
    }

    #[test]
    fn percentiles_are_upper_edges_of_buckets() {
        let ledger = Ledger::new(0, 0);
        for (offset, micros) in [50, 150, 150, 2_000_000].into_iter().enumerate() {
            ledger.acknowledge(offset as u64, stamp_of(1), Duration::from_micros(micros)).unwrap();
        }
        assert!((ledger.percentile_ms(0.5) - 0.2).abs() < 1e-9);
        assert!((ledger.percentile_ms(1.0) - 1000.0).abs() < 1e-9);
    }
}

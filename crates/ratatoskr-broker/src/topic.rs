//! One topic as everybody but its owner sees it: its log, its settings, who follows it.
//!
//! The owner (in [`crate::sequencer`]) is the only one that changes a topic; publishers and subscribers
//! hold this shared side. Waking is by one [`Notify`] per topic: whatever changes for its subscribers (records,
//! credit, an end), they are woken and look for themselves.

use ratatoskr_state::{TopicName, TopicSettings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use ratatoskr_log::TopicLog;
use tokio::sync::Notify;

use ratatoskr_state::limits::MEMORY_TOPIC_BYTES_DEFAULT;

/// The shared side of a topic.
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) log: Arc<TopicLog>,
    settings: RwLock<Arc<TopicSettings>>,
    /// What an operator purged since the broker started lies before this offset: retention did not take it.
    purged_before: AtomicU64,
    /// Wakes every subscriber.
    pub(crate) changed: Notify,
    /// Those at work on it that the dispatcher looks after: durable subscriptions.
    durable: AtomicUsize,
    /// True while the dispatcher has been told that the topic grew and has not looked yet.
    growth_told: AtomicBool,
    /// Open subscriptions by reference.
    subscribers: Mutex<BTreeMap<Arc<str>, Arc<Subscriber>>>,
}

/// What a topic knows of an open subscription.
pub(crate) struct Subscriber {
    /// Messages it may still be sent; `u64::MAX` for no bound.
    pub(crate) credit: AtomicU64,
    /// Set by unsubscribe.
    pub(crate) ended: AtomicBool,
}

/// A topic and its settings at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Its number, unique for ever within a data directory.
    pub number: u32,
    /// Its settings.
    pub settings: TopicSettings,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The earliest offset that can be read.
    pub first_offset: u64,
    /// The offset the next message gets.
    pub next_offset: u64,
    /// Bytes it holds.
    pub bytes: u64,
    /// Segments it has on disk.
    pub segments: u32,
    /// Open subscriptions.
    pub subscriber_count: u32,
}

/// A topic's figures at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// Messages that can be read.
    pub message_count: u64,
    /// Open subscriptions.
    pub subscriber_count: u32,
    /// Bytes it holds.
    pub bytes: u64,
    /// The earliest offset that can be read.
    pub first_offset: u64,
    /// The offset the next message gets.
    pub next_offset: u64,
}

impl Topic {
    pub(crate) fn new(name: TopicName, log: Arc<TopicLog>, settings: TopicSettings) -> Topic {
        // The dispatcher works off the schedule as it does subscriptions.
        let durable = AtomicUsize::new(usize::from(name.is_schedule()));
        let topic = Topic {
            name,
            log,
            settings: RwLock::new(Arc::new(TopicSettings::default())),
            purged_before: AtomicU64::new(0),
            changed: Notify::new(),
            durable,
            growth_told: AtomicBool::new(false),
            subscribers: Mutex::new(BTreeMap::new()),
        };
        topic.set_settings(settings);
        topic
    }

    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        self.settings.read().clone()
    }

    pub(crate) fn message_bytes_max(&self) -> u32 {
        self.settings.read().message_bytes_max
    }

    pub(crate) fn set_settings(&self, settings: TopicSettings) {
        // Retention by bytes removes whole segments: keep them small against what shall be kept.
        let bytes = settings.retention_bytes.unwrap_or(u64::MAX);
        self.log.set_segment_bytes((bytes / SEGMENTS_PER_RETENTION).max(SEGMENT_BYTES_MIN));
        self.log.set_memory_bytes(settings.retention_bytes.unwrap_or(MEMORY_TOPIC_BYTES_DEFAULT));
        *self.settings.write() = Arc::new(settings);
    }

    /// Adds a subscriber unless there are too many.
    pub(crate) fn add_subscriber(&self, reference: Arc<str>, subscriber: Arc<Subscriber>) -> Result<(), u32> {
        let max = self.settings.read().subscribers_max;
        let mut subscribers = self.subscribers.lock();
        if subscribers.len() >= max as usize {
            return Err(max);
        }
        subscribers.insert(reference, subscriber);
        Ok(())
    }

    pub(crate) fn remove_subscriber(&self, reference: &str) {
        self.subscribers.lock().remove(reference);
    }

    /// Ends a subscription; false when there is none.
    pub(crate) fn end_subscriber(&self, reference: &str) -> bool {
        let Some(subscriber) = self.subscribers.lock().remove(reference) else { return false };
        subscriber.ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
        true
    }

    /// Lets a subscription have more messages; false when there is none.
    pub(crate) fn add_credit(&self, reference: &str, messages: u64) -> bool {
        let Some(subscriber) = self.subscribers.lock().get(reference).cloned() else { return false };
        let more = |credit: u64| Some(credit.saturating_add(messages));
        let _ = subscriber.credit.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        self.changed.notify_waiters();
        true
    }

    /// Everything before an offset is about to be purged. To be called before it is: whoever finds it gone knows why.
    pub(crate) fn note_purge(&self, before: u64) {
        self.purged_before.fetch_max(before, Ordering::AcqRel);
    }

    /// A purge came to nothing: what is still there goes by retention, if it goes.
    pub(crate) fn purge_failed(&self) {
        self.purged_before.fetch_min(self.log.extent().first, Ordering::AcqRel);
    }

    pub(crate) fn purged_before(&self) -> u64 {
        self.purged_before.load(Ordering::Acquire)
    }

    /// One durable subscription more (or, with -1, less) is at work.
    pub(crate) fn note_durable(&self, change: isize) {
        self.durable.fetch_add(change as usize, Ordering::AcqRel);
    }

    /// How many durable subscriptions are at work on it.
    pub(crate) fn durable_count(&self) -> usize {
        self.durable.load(Ordering::Acquire)
    }

    /// True when the dispatcher looks after something on it.
    pub(crate) fn has_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire) > 0
    }

    /// True when the dispatcher is to be told that the topic grew.
    pub(crate) fn must_tell_growth(&self) -> bool {
        self.durable.load(Ordering::Acquire) > 0 && !self.growth_told.swap(true, Ordering::AcqRel)
    }

    /// The dispatcher looks now: what comes later it is to be told again.
    pub(crate) fn growth_is_seen(&self) {
        self.growth_told.store(false, Ordering::Release);
    }

    pub(crate) fn subscriber_count(&self) -> u32 {
        self.subscribers.lock().len() as u32
    }

    pub(crate) fn describe(&self) -> TopicDescription {
        let extent = self.log.extent();
        TopicDescription {
            name: self.name.clone(),
            number: self.log.number,
            settings: TopicSettings::clone(&self.settings()),
            created_ms: self.log.created_ms,
            first_offset: extent.first,
            next_offset: extent.next,
            bytes: extent.bytes,
            segments: extent.segments as u32,
            subscriber_count: self.subscriber_count(),
        }
    }

    pub(crate) fn stats(&self) -> TopicStats {
        let extent = self.log.extent();
        TopicStats {
            message_count: extent.next - extent.first,
            subscriber_count: self.subscriber_count(),
            bytes: extent.bytes,
            first_offset: extent.first,
            next_offset: extent.next,
        }
    }
}

/// A topic bounded in bytes is spread over about so many segments.
const SEGMENTS_PER_RETENTION: u64 = 8;
/// The smallest segment such a topic gets.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

//! Following a topic: a cursor and a wake-up, nothing more.
//!
//! ```text
//!   topic log:  ··· segments ···│··· tail in memory ···│ end
//!                    ▲                    ▲             ▲
//!              slow subscriber     late subscriber   waiting: woken by the topic's next change
//! ```
//!
//! There is no queue per subscriber: each reads the one log at its own pace, from memory when it can and from
//! segments when it must, so a slow one costs nobody anything and never grows memory. What happens to it
//! (credit, an unsubscribe, the topic's end) is state it looks at when woken.

use ratatoskr_state::TopicName;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ratatoskr_log::{ReadError, Record, RecordChunk, SegmentCursor, Tail};

use crate::broken::Broken;
use crate::core::{Core, LiveCounters};
use crate::durable::{Facts, Scanner};
use crate::error::{SubscribeError, SubscriptionEnd};
use crate::filter::Filter;
use crate::id::MessageId;
use crate::message::Message;
use crate::topic::{Subscriber, Topic};
use ratatoskr_state::limits::{
    FILTER_ENTRIES_BYTES_MAX, FILTER_ENTRIES_MAX, READ_BYTES_MAX, SUBSCRIBER_ID_BYTES_MAX,
};

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next message published.
    #[default]
    Latest,
    /// With the oldest message there is.
    Earliest,
    /// With the message at this offset; at most the topic's end.
    Offset(u64),
    /// With the first message not older than this, milliseconds since the Unix epoch.
    Time(u64),
}

/// How to follow a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Where to begin.
    pub start: Start,
    /// Only messages that have all of these metadata entries, values equal. At most 16.
    pub filter: Vec<(String, String)>,
    /// Only messages that pass this expression.
    pub expression: Option<Filter>,
    /// A name the subscriber gives itself, for people to read. At most 255 bytes.
    pub subscriber_id: String,
    /// At most so many messages until [`crate::Broker::add_credit`] allows more; `None` for no bound.
    pub credit: Option<u64>,
}

/// An open subscription. Dropping it ends it.
pub struct Subscription {
    core: Arc<Core>,
    topic: Arc<Topic>,
    subscriber: Arc<Subscriber>,
    reference: Arc<str>,
    filter: Vec<(String, String)>,
    expression: Option<Filter>,
    /// The offset of the next message to look at.
    cursor: u64,
    segments: SegmentCursor,
    /// Messages read and not yet handed out one by one.
    ready: std::vec::IntoIter<Message>,
    /// True when nothing of the last read passed: what it reads from disk then takes turns with scans.
    is_scanning: bool,
    /// Whose scans these are.
    scanner: Scanner,
}

impl Subscription {
    pub(crate) fn open(
        core: Arc<Core>,
        topic: Arc<Topic>,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let SubscribeOptions { start, filter, expression, subscriber_id, credit } = options;
        if subscriber_id.len() > SUBSCRIBER_ID_BYTES_MAX {
            return Err(SubscribeError::SubscriberIdTooLong { bytes: subscriber_id.len() });
        }
        if filter.len() > FILTER_ENTRIES_MAX {
            return Err(SubscribeError::FilterTooLong { entries: filter.len() });
        }
        let bytes = filter.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > FILTER_ENTRIES_BYTES_MAX {
            return Err(SubscribeError::FilterTooLarge { bytes });
        }
        if credit == Some(0) {
            return Err(SubscribeError::ZeroCredit);
        }
        let cursor = place(&topic, start)?;
        // From the system: whoever knows other references must not be able to tell this one.
        let reference: Arc<str> = uuid::Uuid::new_v4().to_string().into();
        let subscriber = Arc::new(Subscriber {
            credit: AtomicU64::new(credit.unwrap_or(u64::MAX)),
            ended: AtomicBool::new(false),
        });
        topic
            .add_subscriber(reference.clone(), subscriber.clone())
            .map_err(|max| SubscribeError::TooManySubscribers { max })?;
        LiveCounters::add(&core.live_counters.subscriptions, 1);
        let (segments, ready) = (SegmentCursor::default(), Vec::new().into_iter());
        Ok(Subscription {
            core,
            topic,
            subscriber,
            reference,
            filter,
            expression,
            cursor,
            segments,
            ready,
            is_scanning: false,
            scanner: None,
        })
    }

    /// Whose it is, where scans take turns.
    pub(crate) fn scanned_by(mut self, scanner: Scanner) -> Subscription {
        self.scanner = scanner;
        self
    }

    /// What ends this subscription when given to [`crate::Broker::unsubscribe`].
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The topic it follows.
    pub fn topic(&self) -> &TopicName {
        &self.topic.name
    }

    /// The next message; waits for one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Message, SubscriptionEnd> {
        loop {
            if let Some(message) = self.ready.next() {
                return Ok(message);
            }
            self.ready = self.read().await?.into_iter();
        }
    }

    /// The next messages, at least one and about 64 KiB of records; waits for them. Dropping the future
    /// loses nothing.
    pub async fn next_batch(&mut self) -> Result<Vec<Message>, SubscriptionEnd> {
        let ready: Vec<_> = std::mem::take(&mut self.ready).collect();
        if ready.is_empty() { self.read().await } else { Ok(ready) }
    }

    /// Where it stands: the offset it goes on at.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The number of its topic, unique for ever within a data directory.
    pub fn topic_number(&self) -> u32 {
        self.topic.log.number
    }

    /// True if it takes every message as it comes: no filter, no credit. What one such subscription was given from a cursor is right for
    /// another that stands there, which can then [`Subscription::pass`] it.
    pub fn takes_all(&self) -> bool {
        self.filter.is_empty()
            && self.expression.is_none()
            && self.ready.as_slice().is_empty()
            && self.subscriber.credit.load(Ordering::Acquire) == u64::MAX
    }

    /// Waits until there is something at the cursor.
    pub async fn arrived(&mut self) -> Result<(), SubscriptionEnd> {
        let topic = self.topic.clone();
        loop {
            // Listening starts before looking, so that a change in between is not missed.
            let mut changed = pin!(topic.changed.notified());
            changed.as_mut().enable();
            if let Some(end) = self.end() {
                return Err(end);
            }
            if topic.log.next() > self.cursor {
                return Ok(());
            }
            changed.await;
        }
    }

    /// True if what is at the cursor has not been removed by retention or a purge: only then may it be delivered from what another was given.
    pub fn is_kept(&self) -> bool {
        self.topic.log.extent().first <= self.cursor
    }

    /// Its messages up to an offset were delivered otherwise: how many, and bytes of their payloads.
    pub fn pass(&mut self, next: u64, messages: u64, payload_bytes: u64) {
        self.cursor = next;
        LiveCounters::add(&self.core.live_counters.delivered_messages, messages);
        LiveCounters::add(&self.core.live_counters.delivered_bytes, payload_bytes);
    }

    async fn read(&mut self) -> Result<Vec<Message>, SubscriptionEnd> {
        let topic = self.topic.clone();
        loop {
            // Listening starts before looking, so that a change in between is not missed.
            let mut changed = pin!(topic.changed.notified());
            changed.as_mut().enable();
            if let Some(end) = self.end() {
                return Err(end);
            }
            let credit = self.subscriber.credit.load(Ordering::Acquire);
            let chunks = if credit == 0 { Ok(Vec::new()) } else { self.chunks().await };
            // A topic that is deleted meanwhile has no files: that is no damage.
            let chunks = chunks.map_err(|error| self.end().unwrap_or(error))?;
            if chunks.is_empty() {
                changed.await;
                continue;
            }
            let messages = self.take(&chunks, credit);
            self.is_scanning = messages.is_empty();
            if !messages.is_empty() {
                return Ok(messages);
            }
            // A filter can pass over a whole log: let others have their turn.
            tokio::task::consume_budget().await;
        }
    }

    fn end(&self) -> Option<SubscriptionEnd> {
        if self.subscriber.ended.load(Ordering::Acquire) {
            Some(SubscriptionEnd::Unsubscribed)
        } else if self.topic.log.is_deleted() {
            Some(SubscriptionEnd::TopicDeleted)
        } else if self.core.is_stopping() {
            Some(SubscriptionEnd::ShuttingDown)
        } else {
            None
        }
    }

    /// Records from the cursor on; none when it is at the end.
    async fn chunks(&mut self) -> Result<Vec<RecordChunk>, SubscriptionEnd> {
        loop {
            if let Some(end) = self.end() {
                return Err(end);
            }
            let found = match self.topic.log.read_tail(self.cursor, READ_BYTES_MAX).map_err(end_of)? {
                Tail::Records(chunks) => Some(chunks),
                Tail::End => Some(Vec::new()),
                Tail::Cold => None,
            };
            if let Some(chunks) = found {
                // A file that was read from need not stay open, or keep its room once it is removed.
                self.segments = SegmentCursor::default();
                return Ok(chunks);
            }
            if let Some(chunk) = self.cold_chunk().await? {
                return Ok(vec![chunk]);
            }
            // It moved between memory and disk while we looked: look again.
            tokio::task::yield_now().await;
        }
    }

    /// Reads from disk, on a thread that may wait for it.
    async fn cold_chunk(&mut self) -> Result<Option<RecordChunk>, SubscriptionEnd> {
        let (topic, cursor) = (self.topic.clone(), self.cursor);
        let mut segments = std::mem::take(&mut self.segments);
        let read = move || {
            let result = topic.log.read_segments(cursor, &mut segments, READ_BYTES_MAX);
            (result, segments)
        };
        let done = if self.is_scanning {
            self.core.scans.run(&self.scanner, read).await
        } else {
            tokio::task::spawn_blocking(read).await
        };
        let failed =
            |error: tokio::task::JoinError| SubscriptionEnd::ReadFailed { reason: error.to_string() };
        let (result, segments) = done.map_err(failed)?;
        self.segments = segments;
        result.map_err(end_of)
    }

    /// False for what is addressed to a durable subscription, has expired, or does not pass the filter.
    fn is_for_all(&self, record: &Record) -> bool {
        if record.body.has_facts() {
            let facts = record.body.facts();
            if facts.addressed_to != 0 || facts.expires_ms != 0 && facts.expires_ms <= self.core.now_ms() {
                return false;
            }
        }
        let topic = &*self.topic;
        self.expression.as_ref().is_none_or(|filter| filter.passes(&Facts { topic, record }))
    }

    /// Moves the cursor over records and makes messages of those that pass, as far as the credit goes.
    fn take(&mut self, chunks: &[RecordChunk], credit: u64) -> Vec<Message> {
        let number = self.topic.log.number;
        let count: usize = chunks.iter().map(|chunk| chunk.count as usize).sum();
        let mut messages = Vec::with_capacity(count.min(credit as usize));
        let (mut bytes, mut taken) = (0, 0);
        for record in chunks.iter().flat_map(RecordChunk::records) {
            // One chunk can hold far more than a subscriber should be handed at a time.
            if messages.len() as u64 == credit || taken >= READ_BYTES_MAX {
                break;
            }
            taken += record.body.bytes();
            self.cursor = record.offset + 1;
            let passes = |(name, value): &(String, String)| {
                record.body.metadata().any(|pair| pair == (name.as_str(), value.as_str()))
            };
            if !self.filter.iter().all(passes) || !self.is_for_all(&record) {
                continue;
            }
            bytes += record.body.payload_bytes() as u64;
            messages.push(Message {
                topic: self.topic.name.clone(),
                id: MessageId::new(self.core.id_mask, number, record.offset, record.timestamp_ms),
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                body: record.body,
            });
        }
        if credit != u64::MAX {
            self.subscriber.credit.fetch_sub(messages.len() as u64, Ordering::AcqRel);
        }
        LiveCounters::add(&self.core.live_counters.delivered_messages, messages.len() as u64);
        LiveCounters::add(&self.core.live_counters.delivered_bytes, bytes);
        messages
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !Broken::Leavers.is_on() {
            self.topic.remove_subscriber(&self.reference);
        }
        self.core.live_counters.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The offset a start means.
pub(crate) fn place(topic: &Topic, start: Start) -> Result<u64, SubscribeError> {
    let extent = topic.log.extent();
    match start {
        Start::Latest => Ok(extent.next),
        Start::Earliest => Ok(extent.first),
        Start::Offset(offset) if offset > extent.next => {
            Err(SubscribeError::PastEnd { offset, next_offset: extent.next })
        }
        Start::Offset(offset) if offset < extent.first => {
            Err(SubscribeError::Trimmed { offset, first_offset: extent.first })
        }
        Start::Offset(offset) => Ok(offset),
        // A place that cannot be searched for because of damage: begin at the damage, which tells.
        Start::Time(timestamp_ms) => Ok(topic.log.offset_at_time(timestamp_ms).map_or_else(
            |error| match error {
                ReadError::Damaged { offset, .. } => offset,
                ReadError::Trimmed { first, .. } => first,
                ReadError::Io { .. } => extent.first,
            },
            |(offset, _)| offset,
        )),
    }
}

fn end_of(error: ReadError) -> SubscriptionEnd {
    match error {
        ReadError::Trimmed { cursor, first } => SubscriptionEnd::Trimmed { cursor, first_offset: first },
        ReadError::Damaged { offset, resume, path, position } => {
            SubscriptionEnd::DataLoss { offset, resume, file: path.display().to_string(), position }
        }
        ReadError::Io { path, reason } => {
            SubscriptionEnd::ReadFailed { reason: format!("reading {}: {reason}", path.display()) }
        }
    }
}

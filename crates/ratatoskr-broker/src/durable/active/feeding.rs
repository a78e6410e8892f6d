//! Feeding an active subscription: the topic's log is read on, filtered, and handed to the delivery.
//!
//! What is in memory is read here; what is not, by the dispatcher's reading thread, which brings it back. What the state knows of a message
//! that is read again (that it is settled, or has used up attempts) comes from [`ActiveSubscription::recall`], which shrinks as reading goes on.

use ratatoskr_state::SubscriptionSettings;
use std::hash::BuildHasher;
use std::sync::Arc;

use ratatoskr_log::{Moment, ReadError, Record, RecordChunk, SegmentCursor, Tail};

use super::ActiveSubscription;
use crate::broken::Broken;
use crate::durable::event::{Event, Fed, Letter};
use crate::filter::{Filter, FilterFacts};
use crate::topic::Topic;
use ratatoskr_state::limits::READ_BYTES_MAX;

/// Chunks read in one go before other subscriptions have their turn.
const CHUNKS_IN_A_ROW: usize = 4;
/// So many passed over are written down even when nothing else is.
const PASSED_UNWRITTEN_MAX: u64 = 10_000;

/// What is to be read from segments.
pub(crate) struct ColdRead {
    pub(crate) topic: Arc<Topic>,
    pub(crate) cursor: u64,
    pub(crate) segments: SegmentCursor,
}

impl ActiveSubscription {
    /// Reads on while the delivery wants more. Answers a read that another thread has to do, and whether there may be more at once.
    pub(crate) fn feed(&mut self, now: Moment) -> (Option<ColdRead>, bool) {
        if self.is_broken {
            return (None, false);
        }
        for _ in 0..CHUNKS_IN_A_ROW {
            if self.segments.is_none() || !self.delivery.wants_feed() {
                return (None, false);
            }
            let cursor = self.delivery.cursor();
            if let Some(to) = self.recall.settled.end_of(cursor) {
                self.read_to(to, Vec::new(), now);
                continue;
            }
            match self.topic.log.read_tail(cursor, READ_BYTES_MAX) {
                Ok(Tail::Records(chunks)) => chunks.iter().for_each(|chunk| self.take_in(chunk, now)),
                Ok(Tail::End) => return (None, false),
                Ok(Tail::Cold) => {
                    let segments = self.segments.take().unwrap_or_default();
                    return (Some(ColdRead { topic: self.topic.clone(), cursor, segments }), false);
                }
                Err(error) => {
                    let may_go_on = !matches!(error, ReadError::Io { .. });
                    self.pass_unreadable(&error, now);
                    return (None, may_go_on);
                }
            }
        }
        (None, true)
    }

    /// What the reading thread found.
    pub(crate) fn take_cold(
        &mut self,
        read: Result<Option<RecordChunk>, ReadError>,
        segments: SegmentCursor,
        now: Moment,
    ) {
        if self.is_broken {
            return;
        }
        self.segments = Some(segments);
        match read {
            Ok(Some(chunk)) => self.take_in(&chunk, now),
            Ok(None) => {}
            Err(error) => self.pass_unreadable(&error, now),
        }
    }

    fn take_in(&mut self, chunk: &RecordChunk, now: Moment) {
        let cursor = self.delivery.cursor();
        let mut letters = Vec::with_capacity(chunk.count as usize);
        for record in chunk.records().skip_while(|record| record.offset < cursor) {
            if !self.recall.settled.is_empty() && self.recall.settled.contains(record.offset) {
                continue;
            }
            self.looked_at += 1;
            let offset = record.offset;
            if passes(&self.topic, &record, self.number, self.filter.as_ref()) {
                letters.push(self.letter(record));
            } else {
                self.passed += 1;
                self.batch.passed.insert(offset..offset + 1);
                self.unwritten += 1;
                self.urgent |= self.unwritten >= PASSED_UNWRITTEN_MAX;
            }
        }
        if chunk.end() > cursor {
            self.read_to(chunk.end(), letters, now);
        }
    }

    fn letter(&mut self, record: Record) -> Fed<Record> {
        let returned = self.recall.returned.remove(&record.offset);
        let key = if Broken::Order.is_on() { "" } else { record.body.key() };
        let letter = Letter {
            lane: self.lane_of(key),
            bytes: record.body.payload_bytes() as u32,
            expires_ms: record.body.facts().expires_ms,
            attempts: returned.as_ref().map_or(0, |returned| returned.attempts),
            first_ms: returned.as_ref().map_or(0, |returned| returned.first_ms),
            last_ms: returned.as_ref().map_or(0, |returned| returned.last_ms),
            returns: 0,
            suspicions: 0,
            is_suspect: false,
            is_excluded: false,
        };
        let not_before_ms = returned.map_or(0, |returned| returned.until_ms);
        Fed { offset: record.offset, not_before_ms, letter, cargo: record }
    }

    /// The lane of a key; 0 for none.
    pub(crate) fn lane_of(&self, key: &str) -> u64 {
        if key.is_empty() { 0 } else { self.hasher.hash_one(key) | 1 }
    }

    pub(super) fn read_to(&mut self, to: u64, messages: Vec<Fed<Record>>, now: Moment) {
        self.apply(Event::Feed { to, messages }, now);
        if !self.recall.settled.is_empty() {
            self.recall.settled.remove_before(to);
        }
    }

    /// What damage took before it was settled is counted as expired, and said aloud.
    fn pass_unreadable(&mut self, error: &ReadError, now: Moment) {
        let cursor = self.delivery.cursor();
        let to = match error {
            ReadError::Trimmed { .. } => return self.messages_removed(now),
            ReadError::Damaged { offset, resume, path, position } => {
                tracing::error!(subscription = %self.name, offset, resume, path = %path.display(), position, "damaged messages cannot be delivered");
                *resume
            }
            ReadError::Io { path, reason } => {
                tracing::error!(subscription = %self.name, path = %path.display(), reason, "messages cannot be read; tried again in a second");
                return;
            }
        };
        let to = to.max(cursor);
        for offset_range in self.recall.gaps(cursor, to) {
            self.batch.expired.insert(offset_range);
        }
        self.urgent = true;
        self.read_to(to, Vec::new(), now);
    }
}

/// True when a message is for this subscription, and its filter wants it.
pub(crate) fn passes(topic: &Topic, record: &Record, number: u32, filter: Option<&Filter>) -> bool {
    let addressed_to = record.body.facts().addressed_to;
    (addressed_to == 0 || addressed_to == number)
        && filter.is_none_or(|filter| filter.passes(&Facts { topic, record }))
}

pub(super) fn filter_of(settings: &SubscriptionSettings) -> Option<Filter> {
    if settings.filter.is_empty() {
        return None;
    }
    Some(Filter::parse(&settings.filter).expect("settings were checked when they were set"))
}

/// A record as a filter sees it.
pub(crate) struct Facts<'a> {
    pub(crate) topic: &'a Topic,
    pub(crate) record: &'a Record,
}

impl FilterFacts for Facts<'_> {
    fn metadata(&self, name: &str) -> Option<&str> {
        self.record.body.metadata().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    fn key(&self) -> &str {
        self.record.body.key()
    }

    fn topic(&self) -> &str {
        self.topic.name.as_str()
    }

    fn size_bytes(&self) -> u64 {
        self.record.body.payload_bytes() as u64
    }

    fn time_ms(&self) -> u64 {
        self.record.timestamp_ms
    }
}

//! Looking at messages without leasing them: peeking, dead letters, and what to do about them.
//!
//! Dead letters are an ordinary topic. What is still to be done about them is a subscription on it, [`CARETAKER`]: listed is what
//! it has not settled, dropping settles there, and redriving settles there and appends to the origin topic in one step,
//! addressed to the subscription they came from, so that no other sees them again. Several subscriptions may share such a topic: whose
//! a letter is, its own metadata say.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratatoskr_log::{Record, RecordBatch, RecordChunk, RecordFacts, SegmentCursor, Tail};
use tokio::sync::oneshot;

use super::book::Standing;
use super::burial::{
    DEAD_ATTEMPTS, DEAD_FIRST_MS, DEAD_ID, DEAD_LAST_MS, DEAD_OFFSET, DEAD_PREFIX, DEAD_REASON,
    DEAD_SUBSCRIPTION, DEAD_TOPIC,
};
use super::desk::{Facts, passes};
use super::happening::{Happening, Round};
use super::request::{Request, SettleError, SubscriptionError};
use super::settings::{SubscriptionName, SubscriptionRef, SubscriptionSettings};
use crate::broker::Broker;
use crate::command::{Records, Target};
use crate::filter::{Filter, FilterFacts as _};
use crate::id::{IdMask, MessageId};
use crate::limits::READ_BYTES_MAX;
use crate::message::{Message, Terms};
use crate::subscription::Start;
use crate::topic::Topic;

/// The subscription on a topic of dead letters that knows which of them are still to be resolved.
const CARETAKER: &str = "dlq";
/// Dead letters resolved in one step.
const RESOLVED_AT_ONCE: usize = 500;
/// Reasons told apart when dead letters are counted.
const REASONS_MAX: usize = 1000;

/// A message no member could settle.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The message as it stands in the topic of dead letters.
    pub message: Message,
    /// Why: the reason of the last nack or reject, `lease ended`, or `member vanished`.
    pub reason: String,
    /// How often it was delivered.
    pub attempts: u32,
    /// When it was first delivered, milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// When it was last delivered, milliseconds since the Unix epoch.
    pub last_ms: u64,
    /// The topic it came from.
    pub origin_topic: String,
    /// Its offset there.
    pub origin_offset: u64,
    /// Its id there.
    pub origin_id: String,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterQuery {
    /// Only these, by id in the topic of dead letters; none for all.
    pub ids: Vec<MessageId>,
    /// Only those that pass.
    pub filter: Option<Filter>,
    /// Only from this offset of the topic of dead letters on.
    pub from_offset: u64,
}

/// What to do about dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Send them to their subscription again, with attempts starting anew.
    Redrive,
    /// Drop them for good.
    Drop,
    /// Nothing: count them.
    Count,
}

impl Broker {
    /// The oldest unsettled messages that pass the subscription's filter, leased or not, without leasing them.
    pub async fn peek_subscription(
        &self,
        name: &SubscriptionRef,
        messages_max: usize,
    ) -> Result<Vec<Message>, SubscriptionError> {
        let number = self.find_subscription(name)?;
        let look = |book: &super::book::Book| (book.standing.clone(), book.settings.filter.clone());
        let Some((standing, filter)) = self.core().books.with(number, look) else {
            return Err(SubscriptionError::NotFound(name.clone()));
        };
        let filter = if filter.is_empty() { None } else { Filter::parse(&filter).ok() };
        let topic = self.topic_of(name)?;
        let wanted = move |topic: &Topic, record: &Record| passes(topic, record, number, filter.as_ref());
        let records = scan(topic.clone(), standing, messages_max, wanted).await;
        Ok(records
            .map_err(|reason| read_failed(name, reason))?
            .into_iter()
            .map(|r| self.message(&topic, r))
            .collect())
    }

    /// A subscription's dead letters that are not resolved, oldest first.
    pub async fn list_dead_letters(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
        letters_max: usize,
    ) -> Result<Vec<DeadLetter>, SubscriptionError> {
        let Some(place) = self.caretaker(name).await? else { return Ok(Vec::new()) };
        let records =
            self.unresolved(&place, &query, letters_max).await.map_err(|reason| read_failed(name, reason))?;
        Ok(records.into_iter().map(|record| letter(self.message(&place.topic, record))).collect())
    }

    /// How many unresolved dead letters there are of each reason, most first.
    pub async fn count_dead_letters(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
    ) -> Result<Vec<(String, u64)>, SubscriptionError> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let Some(place) = self.caretaker(name).await? else { return Ok(Vec::new()) };
        let mut query = query;
        loop {
            let records = self
                .unresolved(&place, &query, RESOLVED_AT_ONCE)
                .await
                .map_err(|reason| read_failed(name, reason))?;
            let Some(last) = records.last().map(|record| record.offset) else { break };
            query.from_offset = last + 1;
            for record in records {
                let facts = Facts { topic: &place.topic, record: &record };
                let reason = facts.metadata(DEAD_REASON).unwrap_or("").to_owned();
                if counts.len() < REASONS_MAX || counts.contains_key(&reason) {
                    *counts.entry(reason).or_default() += 1;
                }
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        Ok(counts)
    }

    /// Redrives, drops or counts dead letters, at most `rate_max` a second if given. Answers how many; what happened
    /// before an error stays so.
    pub async fn resolve_dead_letters(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
        resolution: Resolution,
        rate_max: Option<u32>,
    ) -> Result<u64, SettleError> {
        let subscription = self.find_subscription(name)?;
        let Some(place) = self.caretaker(name).await? else { return Ok(0) };
        // Those that die meanwhile are not meant.
        let end = place.topic.log.next();
        let (mut query, mut count, started) = (query, 0, Instant::now());
        loop {
            let at_once =
                rate_max.map_or(RESOLVED_AT_ONCE, |rate| (rate as usize).clamp(1, RESOLVED_AT_ONCE));
            let records =
                self.unresolved(&place, &query, at_once).await.map_err(|reason| read_failed(name, reason))?;
            let records: Vec<_> = records.into_iter().filter(|record| record.offset < end).collect();
            let Some(last) = records.last().map(|record| record.offset) else { return Ok(count) };
            query.from_offset = last + 1;
            count += records.len() as u64;
            if resolution == Resolution::Count {
                continue;
            }
            self.resolve(&place, name, &records, (resolution == Resolution::Redrive).then_some(subscription))
                .await?;
            if let Some(rate) = rate_max {
                let due = Duration::from_secs_f64(count as f64 / f64::from(rate.max(1)));
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
        }
    }

    async fn resolve(
        &self,
        place: &Caretaker,
        name: &SubscriptionRef,
        records: &[Record],
        redrive_to: Option<u32>,
    ) -> Result<(), SettleError> {
        let round = Round { acked: records.iter().map(|record| record.offset).collect(), ..Round::default() };
        let mut appends = Vec::new();
        if let Some(subscription) = redrive_to {
            let mut batch = RecordBatch::default();
            for record in records {
                let own = record.body.metadata().filter(|(name, _)| !name.starts_with(DEAD_PREFIX));
                let metadata: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let facts = RecordFacts { addressed_to: subscription, ..RecordFacts::default() };
                batch.push_with(&facts, record.body.key(), &metadata, &record.body.payload());
            }
            let target = Target::Topic(self.topic_of(name)?);
            appends.push(Records { target, batch, terms: Terms::default() });
        }
        let core = self.core();
        let happening = Happening::Settled { number: place.number, round };
        let (reply, answer) = oneshot::channel();
        core.courier.push(Request::Resolve { happening, appends, reply }).map_err(|_| core.closed())?;
        answer.await.map_err(|_| core.closed())??;
        Ok(())
    }

    /// Where unresolved dead letters are looked after; `None` while there never was one.
    async fn caretaker(&self, name: &SubscriptionRef) -> Result<Option<Caretaker>, SubscriptionError> {
        let subscription = self.find_subscription(name)?;
        let settings = self.core().books.with(subscription, |book| book.settings.clone());
        let Some(settings) = settings else { return Err(SubscriptionError::NotFound(name.clone())) };
        let dead = settings.dead_letters(name)?;
        let Some(topic) = self.core().topic(&dead) else { return Ok(None) };
        let own = SubscriptionRef {
            topic: dead,
            name: SubscriptionName::parse(CARETAKER).expect("the name is one of ours"),
        };
        if self.find_subscription(&own).is_err() {
            let settings = SubscriptionSettings {
                dead_letter_topic: Some(own.topic.to_string()),
                ..SubscriptionSettings::default()
            };
            match self.create_subscription(&own, Start::Earliest, settings).await {
                Ok(_) | Err(SubscriptionError::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let number = self.find_subscription(&own)?;
        Ok(Some(Caretaker { number, topic, owner: name.clone() }))
    }

    async fn unresolved(
        &self,
        place: &Caretaker,
        query: &DeadLetterQuery,
        letters_max: usize,
    ) -> Result<Vec<Record>, String> {
        let mask = self.core().id_mask;
        let standing = self.core().books.with(place.number, |book| book.standing.clone()).unwrap_or_default();
        let floor = standing.floor().max(query.from_offset);
        let standing = Standing { origin: floor, ..standing };
        let ids: HashSet<MessageId> = query.ids.iter().copied().collect();
        let (owner, filter) = (place.owner.clone(), query.filter.clone());
        let wanted = move |topic: &Topic, record: &Record| {
            let facts = Facts { topic, record };
            facts.metadata(DEAD_TOPIC) == Some(owner.topic.as_str())
                && facts.metadata(DEAD_SUBSCRIPTION) == Some(owner.name.as_str())
                && (ids.is_empty() || ids.contains(&id_of(mask, topic, record)))
                && filter.as_ref().is_none_or(|filter| filter.passes(&facts))
        };
        scan(place.topic.clone(), standing, letters_max, wanted).await
    }

    fn message(&self, topic: &Topic, record: Record) -> Message {
        Message {
            topic: topic.name.clone(),
            id: id_of(self.core().id_mask, topic, &record),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            body: record.body,
        }
    }
}

/// Who looks after a subscription's dead letters.
struct Caretaker {
    number: u32,
    topic: Arc<Topic>,
    /// The subscription they come from. Others may have theirs in the same topic.
    owner: SubscriptionRef,
}

fn read_failed(name: &SubscriptionRef, reason: String) -> SubscriptionError {
    SubscriptionError::ReadFailed { name: name.clone(), reason }
}

fn id_of(mask: IdMask, topic: &Topic, record: &Record) -> MessageId {
    MessageId::new(mask, topic.log.number, record.offset, record.timestamp_ms)
}

fn letter(message: Message) -> DeadLetter {
    let fact = |name: &str| {
        let found = message.metadata().find(|(found, _)| *found == name);
        found.map_or(String::new(), |(_, value)| value.to_owned())
    };
    let number = |name: &str| fact(name).parse::<u64>().unwrap_or(0);
    DeadLetter {
        reason: fact(DEAD_REASON),
        attempts: number(DEAD_ATTEMPTS) as u32,
        first_ms: number(DEAD_FIRST_MS),
        last_ms: number(DEAD_LAST_MS),
        origin_topic: fact(DEAD_TOPIC),
        origin_offset: number(DEAD_OFFSET),
        origin_id: fact(DEAD_ID),
        message,
    }
}

/// Unsettled records that are wanted, from the origin on, on a thread that may wait for the disk.
async fn scan(
    topic: Arc<Topic>,
    standing: Standing,
    records_max: usize,
    wanted: impl Fn(&Topic, &Record) -> bool + Send + 'static,
) -> Result<Vec<Record>, String> {
    let scanning = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        let mut cursor = standing.floor().max(topic.log.extent().first);
        let mut segments = SegmentCursor::default();
        while found.len() < records_max {
            if let Some(end) = standing.settled.end_of(cursor) {
                cursor = end;
                continue;
            }
            let chunks =
                match topic.log.read_tail(cursor, READ_BYTES_MAX).map_err(|error| error.to_string())? {
                    Tail::Records(chunks) => chunks,
                    Tail::End => break,
                    Tail::Cold => {
                        let chunk = topic.log.read_segments(cursor, &mut segments, READ_BYTES_MAX);
                        chunk.map_err(|error| error.to_string())?.into_iter().collect()
                    }
                };
            for record in
                chunks.iter().flat_map(RecordChunk::records).skip_while(|record| record.offset < cursor)
            {
                if found.len() < records_max
                    && !standing.settled.contains(record.offset)
                    && wanted(&topic, &record)
                {
                    found.push(record);
                }
            }
            cursor = chunks.last().map_or(cursor, RecordChunk::end);
        }
        Ok(found)
    });
    scanning.await.map_err(|error| error.to_string())?
}

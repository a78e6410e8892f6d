//! Looking at messages without leasing them: peeking, and dead letters. What is done about those: [`super::resolving`].
//!
//! Dead letters are an ordinary topic. What is still to be done about them is a subscription on it, [`CARETAKER`]: listed is what
//! it has not settled, dropping settles there, and redriving settles there and appends to the origin topic in one step,
//! addressed to the subscription they came from, so that no other sees them again. Several subscriptions may share such a topic: whose
//! a letter is, its own metadata say.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ratatoskr_log::{Record, RecordChunk, SegmentCursor, Tail};

use super::book::Standing;
use super::burial::{
    DEAD_ATTEMPTS, DEAD_FIRST_MS, DEAD_ID, DEAD_LAST_MS, DEAD_OFFSET, DEAD_REASON, DEAD_SUBSCRIPTION,
    DEAD_TOPIC,
};
use super::desk::{Facts, passes};
use super::request::SubscriptionError;
use super::resolving::AT_ONCE;
use super::settings::{CARETAKER, SubscriptionName, SubscriptionRef, SubscriptionSettings};
use crate::broker::Broker;
use crate::filter::{Filter, FilterFacts as _};
use crate::id::{IdMask, MessageId};
use crate::limits::{LISTED_BYTES_MAX, READ_BYTES_MAX};
use crate::message::Message;
use crate::subscription::Start;
use crate::topic::Topic;

/// Bytes of an answer that a message takes besides its own: id, topic, and what a dead letter repeats of its metadata.
const AROUND_BYTES: usize = 1024;
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

impl Broker {
    /// The oldest unsettled messages that pass the subscription's filter, leased or not, without leasing them. At most so many, and
    /// about [`LISTED_BYTES_MAX`]; one always.
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
        let records = scan(topic.clone(), standing, Page::of(messages_max), wanted).await;
        Ok(records
            .map_err(|reason| read_failed(name, reason))?
            .into_iter()
            .map(|r| self.message(&topic, r))
            .collect())
    }

    /// A subscription's dead letters that are not resolved, oldest first. At most so many, and about [`LISTED_BYTES_MAX`]; one always.
    /// The rest comes with `from_offset` after the last one's, until there is none.
    pub async fn list_dead_letters(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
        letters_max: usize,
    ) -> Result<Vec<DeadLetter>, SubscriptionError> {
        let Some(place) = self.caretaker(name).await? else { return Ok(Vec::new()) };
        let records = self.unresolved(&place, &query, Page::of(letters_max)).await?;
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
            let records = self.unresolved(&place, &query, AT_ONCE).await?;
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

    /// Where unresolved dead letters are looked after; `None` while there never was one.
    pub(super) async fn caretaker(
        &self,
        owner: &SubscriptionRef,
    ) -> Result<Option<Caretaker>, SubscriptionError> {
        let gone = || SubscriptionError::NotFound(owner.clone());
        let origin = self.topic_of(owner)?;
        let owner_number = self.core().books.find(origin.log.number, &owner.name).ok_or_else(gone)?;
        let settings = self.core().books.with(owner_number, |book| book.settings.clone()).ok_or_else(gone)?;
        let Some(topic) = self.core().topic(&settings.dead_letters(owner)?) else { return Ok(None) };
        let name = SubscriptionRef {
            topic: topic.name.clone(),
            name: SubscriptionName::parse(CARETAKER).expect("the name is one of ours"),
        };
        if self.find_subscription(&name).is_err() {
            let settings = SubscriptionSettings {
                // A letter nobody could handle is where it belongs: it stays, with the facts it has.
                dead_letter_topic: Some(name.topic.to_string()),
                attempts_max: 0,
                ..SubscriptionSettings::default()
            };
            match self.create_subscription(&name, Start::Earliest, settings).await {
                Ok(_) | Err(SubscriptionError::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let number = self.find_subscription(&name)?;
        Ok(Some(Caretaker { number, name, topic, owner_number, owner: owner.clone(), origin }))
    }

    /// The letters of one subscription that are still to be resolved.
    pub(super) async fn unresolved(
        &self,
        place: &Caretaker,
        query: &DeadLetterQuery,
        page: Page,
    ) -> Result<Vec<Record>, SubscriptionError> {
        let mask = self.core().id_mask;
        let Some(standing) = self.core().books.with(place.number, |book| book.standing.clone()) else {
            return Err(SubscriptionError::NotFound(place.name.clone()));
        };
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
        let found = scan(place.topic.clone(), standing, page, wanted).await;
        found.map_err(|reason| read_failed(&place.name, reason))
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
pub(super) struct Caretaker {
    pub(super) number: u32,
    pub(super) name: SubscriptionRef,
    /// The topic of dead letters. Others may have theirs in it, too.
    pub(super) topic: Arc<Topic>,
    /// The subscription the letters come from, as it was found: another of the same name has another number.
    pub(super) owner_number: u32,
    pub(super) owner: SubscriptionRef,
    /// The topic they come from.
    pub(super) origin: Arc<Topic>,
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

/// How much one look brings at most.
#[derive(Clone, Copy)]
pub(super) struct Page {
    pub(super) records: usize,
    /// As [`shown_bytes`] counts them. The first record comes however large it is.
    pub(super) bytes: usize,
}

impl Page {
    /// So many records, in an answer that a client takes.
    fn of(records: usize) -> Page {
        Page { records, bytes: LISTED_BYTES_MAX }
    }
}

/// What a record takes in an answer, names and places around it included.
fn shown_bytes(record: &Record) -> usize {
    record.body.bytes() + AROUND_BYTES
}

/// Unsettled records that are wanted, from the origin on, on a thread that may wait for the disk.
async fn scan(
    topic: Arc<Topic>,
    standing: Standing,
    page: Page,
    wanted: impl Fn(&Topic, &Record) -> bool + Send + 'static,
) -> Result<Vec<Record>, String> {
    let scanning = tokio::task::spawn_blocking(move || {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut cursor = standing.floor();
        let mut segments = SegmentCursor::default();
        // What is deleted may be gone from memory and from disk alike, and nothing comes any more.
        while found.len() < page.records && !topic.log.is_deleted() {
            // Retention goes on meanwhile.
            cursor = cursor.max(topic.log.extent().first);
            if let Some(end) = standing.settled.end_of(cursor) {
                cursor = end;
                continue;
            }
            let Some(chunks) = read(&topic, cursor, &mut segments)? else { break };
            for record in chunks.iter().flat_map(RecordChunk::records) {
                if record.offset < cursor || standing.settled.contains(record.offset) {
                    continue;
                }
                if !wanted(&topic, &record) {
                    continue;
                }
                bytes += shown_bytes(&record);
                if bytes > page.bytes && !found.is_empty() {
                    return Ok(found);
                }
                found.push(record);
                if found.len() == page.records {
                    return Ok(found);
                }
            }
            cursor = chunks.last().map_or(cursor, RecordChunk::end);
        }
        Ok(found)
    });
    scanning.await.map_err(|error| error.to_string())?
}

/// What stands at a place, in memory or on disk; `None` past the end.
fn read(
    topic: &Topic,
    cursor: u64,
    segments: &mut SegmentCursor,
) -> Result<Option<Vec<RecordChunk>>, String> {
    let read = match topic.log.read_tail(cursor, READ_BYTES_MAX) {
        Ok(Tail::Records(chunks)) => Ok(Some(chunks)),
        Ok(Tail::End) => Ok(None),
        Ok(Tail::Cold) => topic
            .log
            .read_segments(cursor, segments, READ_BYTES_MAX)
            .map(|chunk| Some(chunk.into_iter().collect())),
        Err(error) => Err(error),
    };
    read.map_err(|error| error.to_string())
}

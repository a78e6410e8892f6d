//! Looking at messages without leasing them: peeking, and dead letters. What is done about those: [`super::resolving`].
//!
//! Dead letters are an ordinary topic. What is still to be done about them is a subscription on it, [`DEAD_LETTERS_SUBSCRIPTION`]: listed is what
//! it has not settled, dropping settles there, and redriving settles there and appends to the origin topic in one step,
//! addressed to the subscription they came from, so that no other sees them again. Several subscriptions may share such a topic: whose
//! a letter is, its own metadata say, which count only in a record that the broker has marked as a dead letter.

use ratatoskr_state::{DEAD_LETTERS_SUBSCRIPTION, SubscriptionName, SubscriptionRef};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ratatoskr_log::Record;

use super::active::{Facts, passes};
use super::dead_lettering::{
    DEAD_ATTEMPTS, DEAD_FIRST_MS, DEAD_ID, DEAD_LAST_MS, DEAD_OFFSET, DEAD_REASON, DEAD_SUBSCRIPTION,
    DEAD_TOPIC,
};
use super::ownership::keeping;
use super::request::SubscriptionError;
use super::resolving::AT_ONCE;
use super::scan::{Found, Page, ScanError, Unsettled, scan};
use super::settings::dead_letters;
use crate::broker::Broker;
use crate::filter::{Filter, FilterFacts as _};
use crate::id::{IdMask, MessageId};
use crate::message::Message;
use crate::topic::Topic;
use ratatoskr_state::limits::SCAN_PAGE_BYTES_MAX;

/// Reasons told apart when dead letters are counted.
const REASONS_MAX: usize = 1000;

/// One page of a listing, and where the next one goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// What was found, oldest first. None is no sign of the end.
    pub items: Vec<T>,
    /// The offset to go on from; `None` when everything there is has been looked at.
    pub next_offset: Option<u64>,
}

impl<T> Listed<T> {
    fn nothing() -> Listed<T> {
        Listed { items: Vec::new(), next_offset: None }
    }
}

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
    /// about [`LISTED_BYTES_MAX`](ratatoskr_state::limits::LISTED_BYTES_MAX); one always. Looks for them however long that takes.
    pub async fn peek_subscription(
        &self,
        name: &SubscriptionRef,
        messages_max: usize,
    ) -> Result<Vec<Message>, SubscriptionError> {
        Ok(self.peek(name, 0, Page::whole(messages_max)).await?.items)
    }

    /// The same from an offset on. Ends early when [`SCAN_PAGE_BYTES_MAX`](ratatoskr_state::limits::SCAN_PAGE_BYTES_MAX) have been looked through.
    pub async fn peek_page(
        &self,
        name: &SubscriptionRef,
        from_offset: u64,
        messages_max: usize,
    ) -> Result<Listed<Message>, SubscriptionError> {
        self.peek(name, from_offset, Page::of(messages_max)).await
    }

    async fn peek(
        &self,
        name: &SubscriptionRef,
        from: u64,
        page: Page,
    ) -> Result<Listed<Message>, SubscriptionError> {
        let subscription = self.find_subscription(name)?;
        let Some(filter) =
            self.core().subscriptions.with(subscription, |state| state.settings.filter.clone())
        else {
            return Err(SubscriptionError::NotFound(name.clone()));
        };
        let filter = if filter.is_empty() { None } else { Filter::parse(&filter).ok() };
        let topic = self.topic_of(name)?;
        let wanted =
            move |topic: &Topic, record: &Record| passes(topic, record, subscription, filter.as_ref());
        let unsettled =
            Unsettled { topic: topic.clone(), subscription, from, scanner: self.scanner().clone() };
        let found = scan(self.core(), unsettled, page, wanted).await;
        let found = found.map_err(|error| scan_failed(name, error))?;
        let items = found.records.into_iter().map(|record| self.message(&topic, record)).collect();
        Ok(Listed { items, next_offset: found.next })
    }

    /// A subscription's dead letters that are not resolved, oldest first. At most so many, and about
    /// [`LISTED_BYTES_MAX`](ratatoskr_state::limits::LISTED_BYTES_MAX); one always. The rest comes with `from_offset` after the last one's, until
    /// there is none. Looks for them however long that takes.
    pub async fn list_dead_letters(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
        letters_max: usize,
    ) -> Result<Vec<DeadLetter>, SubscriptionError> {
        Ok(self.dead_letters(name, &query, Page::whole(letters_max)).await?.items)
    }

    /// The same, but ends early when [`SCAN_PAGE_BYTES_MAX`](ratatoskr_state::limits::SCAN_PAGE_BYTES_MAX) have been looked through.
    pub async fn dead_letters_page(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
        letters_max: usize,
    ) -> Result<Listed<DeadLetter>, SubscriptionError> {
        self.dead_letters(name, &query, Page::of(letters_max)).await
    }

    async fn dead_letters(
        &self,
        name: &SubscriptionRef,
        query: &DeadLetterQuery,
        page: Page,
    ) -> Result<Listed<DeadLetter>, SubscriptionError> {
        let Some(place) = self.dlq(name).await? else { return Ok(Listed::nothing()) };
        let found = self.unresolved(&place, query, page).await?;
        let letters = found.records.into_iter().map(|record| letter(self.message(&place.topic, record)));
        Ok(Listed { items: letters.collect(), next_offset: found.next })
    }

    /// How many unresolved dead letters there are of each reason, most first. Looks at all of them, however long that takes.
    pub async fn count_dead_letters(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
    ) -> Result<Vec<(String, u64)>, SubscriptionError> {
        Ok(self.count(name, query, u64::MAX).await?.items)
    }

    /// The same for those found in the next [`SCAN_PAGE_BYTES_MAX`](ratatoskr_state::limits::SCAN_PAGE_BYTES_MAX) of the topic of dead letters.
    pub async fn dead_letter_counts_page(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
    ) -> Result<Listed<(String, u64)>, SubscriptionError> {
        self.count(name, query, SCAN_PAGE_BYTES_MAX).await
    }

    async fn count(
        &self,
        name: &SubscriptionRef,
        mut query: DeadLetterQuery,
        mut left_bytes: u64,
    ) -> Result<Listed<(String, u64)>, SubscriptionError> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let Some(place) = self.dlq(name).await? else { return Ok(Listed::nothing()) };
        let next_offset = loop {
            let page = Page { examined: left_bytes.min(AT_ONCE.examined), ..AT_ONCE };
            let found = self.unresolved(&place, &query, page).await?;
            left_bytes = left_bytes.saturating_sub(found.examined);
            for record in found.records {
                let facts = Facts { topic: &place.topic, record: &record };
                let reason = facts.metadata(DEAD_REASON).unwrap_or("").to_owned();
                if counts.len() < REASONS_MAX || counts.contains_key(&reason) {
                    *counts.entry(reason).or_default() += 1;
                }
            }
            match found.next {
                Some(next) if left_bytes > 0 => query.from_offset = next,
                next => break next,
            }
        };
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        Ok(Listed { items: counts, next_offset })
    }

    /// Where unresolved dead letters are looked after; `None` while there never was one.
    pub(super) async fn dlq(&self, owner: &SubscriptionRef) -> Result<Option<Caretaker>, SubscriptionError> {
        let gone = || SubscriptionError::NotFound(owner.clone());
        let origin = self.topic_of(owner)?;
        let owner_number = self.core().subscriptions.find(origin.log.number, &owner.name).ok_or_else(gone)?;
        let settings =
            self.core().subscriptions.with(owner_number, |state| state.settings.clone()).ok_or_else(gone)?;
        let Some(topic) = self.core().topic(&dead_letters(&settings, owner)?) else { return Ok(None) };
        let name = SubscriptionRef {
            topic: topic.name.clone(),
            name: SubscriptionName::parse(DEAD_LETTERS_SUBSCRIPTION).expect("the name is one of ours"),
        };
        if self.find_subscription(&name).is_err() {
            match self.create(&name, keeping(&name.topic), None).await {
                Ok(()) | Err(SubscriptionError::AlreadyExists(_)) => {}
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
    ) -> Result<Found, SubscriptionError> {
        let mask = self.core().id_mask;
        let ids: HashSet<MessageId> = query.ids.iter().copied().collect();
        let (owner, filter) = (place.owner.clone(), query.filter.clone());
        let wanted = move |topic: &Topic, record: &Record| {
            let facts = Facts { topic, record };
            // Whoever may publish here may say what they like in metadata; only the broker says that something is a dead letter.
            record.body.facts().is_dead_letter
                && facts.metadata(DEAD_TOPIC) == Some(owner.topic.as_str())
                && facts.metadata(DEAD_SUBSCRIPTION) == Some(owner.name.as_str())
                && (ids.is_empty() || ids.contains(&id_of(mask, topic, record)))
                && filter.as_ref().is_none_or(|filter| filter.passes(&facts))
        };
        let (topic, subscription, from) = (place.topic.clone(), place.number, query.from_offset);
        let unsettled = Unsettled { topic, subscription, from, scanner: self.scanner().clone() };
        let found = scan(self.core(), unsettled, page, wanted).await;
        found.map_err(|error| scan_failed(&place.name, error))
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

fn scan_failed(name: &SubscriptionRef, error: ScanError) -> SubscriptionError {
    match error {
        ScanError::Gone => SubscriptionError::NotFound(name.clone()),
        ScanError::ReadFailed(reason) => SubscriptionError::ReadFailed { name: name.clone(), reason },
    }
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

#[cfg(test)]
mod tests {
    use ratatoskr_log::{RecordBatch, RecordFacts};

    use super::*;
    use crate::broker::BrokerConfig;
    use crate::command::{Records, Target};
    use crate::durable::Resolution;
    use crate::message::Terms;
    use crate::subscription::Start;
    use ratatoskr_state::SubscriptionSettings;
    use ratatoskr_state::TopicName;
    use ratatoskr_state::TopicSettings;

    #[tokio::test]
    async fn only_what_the_broker_has_set_aside_is_a_dead_letter() {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
        let topic = TopicName::parse("orders").unwrap();
        broker.create_topic(&topic, TopicSettings::default()).await.unwrap();
        let name = SubscriptionRef { topic, name: SubscriptionName::parse("billing").unwrap() };
        broker.create_subscription(&name, Start::Earliest, SubscriptionSettings::default()).await.unwrap();
        let metadata = [(DEAD_TOPIC, "orders"), (DEAD_SUBSCRIPTION, "billing"), (DEAD_REASON, "forged")];
        let mut batch = RecordBatch::default();
        batch.push_with(&RecordFacts::default(), "", &metadata, b"forged");
        let set_aside = RecordFacts { is_dead_letter: true, ..RecordFacts::default() };
        batch.push_with(&set_aside, "", &metadata, b"set aside");
        let dead = TopicName::parse("orders.billing.dlq").unwrap();
        let target = Target::Name(dead, TopicSettings::default());
        broker.append_all(Records { target, batch, terms: Terms::default() }).await.unwrap();

        let listed = broker.list_dead_letters(&name, DeadLetterQuery::default(), 10).await.unwrap();
        let payloads: Vec<_> = listed.iter().map(|letter| letter.message.payload()).collect();
        assert_eq!(payloads, ["set aside"]);
        let redriven =
            broker.resolve_dead_letters(&name, DeadLetterQuery::default(), Resolution::Redrive, None).await;
        assert_eq!(redriven.unwrap(), 1);
        let peeked = broker.peek_subscription(&name, 10).await.unwrap();
        let payloads: Vec<_> = peeked.iter().map(Message::payload).collect();
        assert_eq!(payloads, ["set aside"]);
    }
}

//! Durable subscriptions as the broker's users see them: calls that ask the dispatcher.

use ratatoskr_state::{
    Change, DEAD_LETTERS_SUBSCRIPTION, SavedState, SubscriptionRef, SubscriptionSettings, TopicName,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{broadcast, oneshot};
use uuid::Uuid;

use super::describe::SubscriptionDescription;
use super::event::{Outcome, Window};
use super::member::{Member, MemberQueue};
use super::registration::Registration;
use super::request::{Changed, CreatedBy, DoneReply, Fate, Move, Request, SettleError, SubscriptionError};
use super::settings::validate;
use super::token::Token;
use crate::broker::Broker;
use crate::core::Core;
use crate::error::Unavailable;
use crate::id::MessageId;
use crate::message::{NewMessage, Receipt};
use crate::publishing::check_size;
use crate::subscription::{Start, place};
use crate::topic::Topic;
use ratatoskr_state::SubscriptionState;
use ratatoskr_state::limits::{SAVED_MAX, SETTLEMENTS_MAX, STEP_ACKS_MAX, SUBSCRIBER_ID_BYTES_MAX};

/// Members are numbered over all brokers of a process.
static LAST_MEMBER: AtomicU64 = AtomicU64::new(0);

/// How to join a durable subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinOptions {
    /// A name for people to read, at most 255 bytes.
    pub member: String,
    /// What the member may hold.
    pub window: Window,
    /// If the subscription is missing: create it so. `None`: refuse.
    pub create: Option<(Start, SubscriptionSettings)>,
}

/// Where a subscription begins, and its settings.
pub(super) type Creation = (Start, SubscriptionSettings);

/// Where a subscription is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seek {
    /// At a place in the topic: everything from there on is delivered again, everything before is passed over.
    To(Start),
    /// Where it stood when this was saved.
    Saved(String),
    /// After the oldest so many unsettled messages.
    Skip(u64),
}

impl Broker {
    /// Creates a durable subscription. Returns once it is on disk.
    pub async fn create_subscription(
        &self,
        name: &SubscriptionRef,
        start: Start,
        settings: SubscriptionSettings,
    ) -> Result<SubscriptionDescription, SubscriptionError> {
        if name.name.as_str() == DEAD_LETTERS_SUBSCRIPTION {
            return Err(SubscriptionError::Reserved(name.clone()));
        }
        self.create(name, (start, settings), None).await?;
        self.describe_subscription(name).await
    }

    pub(super) async fn create(
        &self,
        name: &SubscriptionRef,
        (start, settings): Creation,
        created_by: Option<CreatedBy>,
    ) -> Result<(), SubscriptionError> {
        let settings = validate(settings, name)?;
        let topic = self.topic_of(name)?;
        let origin = place(&topic, start).map_err(SubscriptionError::Start)?;
        let name_of = name.name.clone();
        self.ask_dispatcher(name, |reply| Request::Create {
            topic,
            name: name_of,
            origin,
            settings,
            created_by,
            reply,
        })
        .await
    }

    /// Changes a subscription's settings, given what they are at that moment. Returns once the change is on disk.
    pub async fn change_subscription(
        &self,
        name: &SubscriptionRef,
        change: impl FnOnce(&SubscriptionSettings) -> SubscriptionSettings + Send + 'static,
    ) -> Result<SubscriptionDescription, SubscriptionError> {
        let subscription = self.find_subscription(name)?;
        let change = Box::new(change);
        self.ask_dispatcher(name, |reply| Request::Change { subscription, change, reply }).await?;
        self.describe_subscription(name).await
    }

    /// Tells of subscriptions that were deleted because nobody used them for as long as their `expiry_ms` says, from now on. Somebody who
    /// is 1,000 behind misses some, and is told how many.
    pub fn watch_expired_subscriptions(&self) -> broadcast::Receiver<SubscriptionRef> {
        self.core().expired_subscriptions.subscribe()
    }

    /// Deletes a subscription with all it remembers; its members end. Returns once this is on disk.
    pub async fn delete_subscription(&self, name: &SubscriptionRef) -> Result<(), SubscriptionError> {
        let subscription = self.find_subscription(name)?;
        self.ask_dispatcher(name, |reply| Request::Delete { subscription, reply }).await
    }

    /// All durable subscriptions, or those of one topic, sorted.
    pub fn list_subscriptions(&self, topic: Option<&TopicName>) -> Vec<SubscriptionRef> {
        let core = self.core();
        let names: std::collections::HashMap<u32, TopicName> =
            core.topics.read().values().map(|topic| (topic.log.number, topic.name.clone())).collect();
        let whole = |(_, number, name)| {
            let found = names.get(&number).filter(|found| topic.is_none_or(|topic| topic == *found))?;
            Some(SubscriptionRef { topic: found.clone(), name })
        };
        let mut all: Vec<_> = core.subscriptions.list().into_iter().filter_map(whole).collect();
        all.sort_unstable();
        all
    }

    /// How many durable subscriptions there are, of one topic or in all. Takes as long as there are subscriptions.
    pub fn count_subscriptions(&self, topic: Option<&TopicName>) -> usize {
        let core = self.core();
        match topic.map(|topic| core.topic(topic)) {
            None => core.subscriptions.count(None),
            Some(Some(topic)) => core.subscriptions.count(Some(topic.log.number)),
            Some(None) => 0,
        }
    }

    /// Describes a subscription. May read one message from disk.
    pub async fn describe_subscription(
        &self,
        name: &SubscriptionRef,
    ) -> Result<SubscriptionDescription, SubscriptionError> {
        let (core, topic) = (self.core(), self.topic_of(name)?);
        let subscription = self.find_subscription(name)?;
        let (reply, answer) = oneshot::channel();
        core.dispatcher.push(Request::Describe { subscription, reply }).map_err(|_| core.closed())?;
        let described = answer.await.map_err(|_| core.closed())?;
        let mut described = described.ok_or_else(|| SubscriptionError::NotFound(name.clone()))?;
        let oldest = described.oldest_unsettled_offset;
        let read = move || topic.log.read_at(oldest).ok().flatten();
        if let Ok(Some(record)) = tokio::task::spawn_blocking(read).await {
            described.lag_ms = self.now_ms().saturating_sub(record.timestamp_ms);
        }
        Ok(described)
    }

    /// Describes all durable subscriptions, at most so many, the first by topic and name. Looks at no message, so `lag_ms` is 0.
    pub async fn survey_subscriptions(
        &self,
        subscriptions_max: usize,
    ) -> Result<Vec<SubscriptionDescription>, SubscriptionError> {
        let core = self.core();
        let (reply, answer) = oneshot::channel();
        core.dispatcher.push(Request::Survey { subscriptions_max, reply }).map_err(|_| core.closed())?;
        Ok(answer.await.map_err(|_| core.closed())?)
    }

    /// Moves a subscription; what its members hold becomes stale. Returns once this is on disk.
    pub async fn seek_subscription(
        &self,
        name: &SubscriptionRef,
        target: Seek,
    ) -> Result<SubscriptionDescription, SubscriptionError> {
        let subscription = self.find_subscription(name)?;
        let to = match target {
            Seek::To(start) => {
                let topic = self.topic_of(name)?;
                Move::To(place(&topic, start).map_err(SubscriptionError::Start)?)
            }
            Seek::Saved(saved) => Move::Saved(saved),
            Seek::Skip(count) => Move::Skip(count),
        };
        self.ask_dispatcher(name, |reply| Request::Move { subscription, to, reply }).await?;
        self.describe_subscription(name).await
    }

    /// Saves where a subscription stands, replacing what was saved under this name before.
    pub async fn save_subscription(
        &self,
        name: &SubscriptionRef,
        saved: &str,
    ) -> Result<(), SubscriptionError> {
        let number = self.find_subscription(name)?;
        // One at a time: what another one saves meanwhile is not counted yet.
        let _turn = self.core().saving.lock().await;
        let look = |state: &SubscriptionState| {
            let replaced = state.saved.get(saved).map(SavedState::bytes);
            let is_one_too_many = replaced.is_none() && state.saved.len() >= SAVED_MAX;
            (is_one_too_many, SavedState::of(&state.acks).bytes(), replaced.unwrap_or(0))
        };
        let Some((is_one_too_many, bytes, replaced)) = self.core().subscriptions.with(number, look) else {
            return Err(SubscriptionError::NotFound(name.clone()));
        };
        if is_one_too_many {
            return Err(SubscriptionError::TooManySaved(name.clone()));
        }
        let bytes_max = self.core().shares.saved_states;
        if self.core().subscriptions.saved_bytes() - replaced + bytes > bytes_max {
            return Err(SubscriptionError::SavedStatesFull { name: name.clone(), bytes, bytes_max });
        }
        let change = Change::Saved { number, saved: saved.to_owned() };
        self.ask_dispatcher(name, |reply| Request::Note { change, reply }).await
    }

    /// Forgets a saved state.
    pub async fn forget_saved(&self, name: &SubscriptionRef, saved: &str) -> Result<(), SubscriptionError> {
        let number = self.find_subscription(name)?;
        if self.core().subscriptions.with(number, |state| state.saved.contains_key(saved)) != Some(true) {
            return Err(SubscriptionError::NotSaved { name: name.clone(), saved: saved.to_owned() });
        }
        let change = Change::Forgotten { number, saved: saved.to_owned() };
        self.ask_dispatcher(name, |reply| Request::Note { change, reply }).await
    }

    /// Joins a subscription as one of its members. [`Member::has_created`] tells whether that has created it.
    pub async fn join(
        &self,
        name: &SubscriptionRef,
        options: JoinOptions,
    ) -> Result<Member, SubscriptionError> {
        self.join_noting(name, options, || {}).await
    }

    /// [`Broker::join`]. If that creates the subscription, `note` is called once it is on disk, even if the future is dropped before. It
    /// is called on a thread of the broker's that must not wait.
    pub async fn join_noting(
        &self,
        name: &SubscriptionRef,
        options: JoinOptions,
        note: impl FnOnce() + Send + 'static,
    ) -> Result<Member, SubscriptionError> {
        let JoinOptions { member, window, create } = options;
        if member.len() > SUBSCRIBER_ID_BYTES_MAX {
            return Err(SubscriptionError::MemberNameTooLong { bytes: member.len() });
        }
        let (subscription, has_created) = match (self.find_subscription(name), create) {
            (Err(SubscriptionError::NotFound(_)), Some(create)) => {
                let create = self.creation(name, create)?;
                let created_by = CreatedBy { member: member.clone(), note: Box::new(note) };
                match self.create(name, create, Some(created_by)).await {
                    Ok(()) => (self.find_subscription(name)?, true),
                    // Two joined a new one at the same time.
                    Err(SubscriptionError::AlreadyExists(_)) => (self.find_subscription(name)?, false),
                    Err(error) => return Err(error),
                }
            }
            (found, _) => (found?, false),
        };
        let (core, topic) = (self.core(), self.topic_of(name)?);
        let id = LAST_MEMBER.fetch_add(1, Ordering::Relaxed) + 1;
        let member_queue = MemberQueue::new(id, member, self.now_ms());
        let registration = Registration::new(core.clone(), subscription, member_queue);
        match registration.ask(window).await? {
            Some(settings) => {
                let mut member = Member::new(registration, topic, settings);
                member.has_created = has_created;
                Ok(member)
            }
            None => Err(SubscriptionError::NotFound(name.clone())),
        }
    }

    /// Ends a member of a subscription of this topic, by its reference ([`Member::reference`]): it leaves as with [`Member::close`]. False
    /// when there is none.
    pub async fn end_member(&self, topic: &TopicName, reference: &str) -> Result<bool, Unavailable> {
        let core = self.core();
        let (Some(topic), Ok(reference)) = (core.topic(topic), Uuid::parse_str(reference)) else {
            return Ok(false);
        };
        let (reply, answer) = oneshot::channel();
        let request = Request::End { topic: topic.log.number, reference, reply };
        core.dispatcher.push(request).map_err(|_| core.closed())?;
        answer.await.map_err(|_| core.closed())
    }

    /// Settles deliveries of any subscriptions, each for itself. The broker begins at once; the future tells the
    /// fates, in the same order, once they are on disk where it matters.
    pub fn settle(
        &self,
        settlements: Vec<(Token, Outcome)>,
    ) -> Result<impl Future<Output = Vec<Fate>> + Send + use<>, SettleError> {
        settle(self.core(), settlements)
    }

    /// Acks deliveries and publishes messages in one step that happens wholly or not at all.
    pub async fn settle_and_publish(
        &self,
        acks: Vec<Token>,
        messages: Vec<(TopicName, NewMessage)>,
    ) -> Result<Vec<Receipt>, SettleError> {
        if acks.len() > STEP_ACKS_MAX {
            return Err(SettleError::TooMany { settlements: acks.len(), settlements_max: STEP_ACKS_MAX });
        }
        check_size(messages.len(), messages.iter().map(|(_, message)| message.size_bytes()).sum())?;
        let core = self.core();
        // As with publishing, what waits for the journal is bounded.
        let bytes = messages.iter().map(|(_, message)| message.size_bytes()).sum();
        let _room = core.dispatcher.room(bytes).await.map_err(|_| core.closed())?;
        let (places, appends) = self.gather(&messages).await?;
        let (reply, answer) = oneshot::channel();
        core.dispatcher
            .push(Request::SettleAndPublish { acks, appends, reply })
            .map_err(|_| core.closed())?;
        let appended = answer.await.map_err(|_| core.closed())??;
        Ok(places.into_iter().map(|(at, index)| self.receipt(&appended[at], index)).collect())
    }

    /// The topic a message's id points at, whether or not the message is there; `None` if there is no such topic. Numbers of topics are
    /// never given twice, so whatever is found by the same id is found in this topic.
    pub fn topic_of_message(&self, id: MessageId) -> Option<TopicName> {
        let core = self.core();
        let (number, _) = id.place(core.id_mask);
        let topic = core.topic_numbered(number)?;
        (!topic.name.is_schedule()).then(|| topic.name.clone())
    }

    /// The one lease a message is out on, found by the message's id; `None` when there is none.
    pub async fn token_of(&self, id: MessageId) -> Result<Option<Token>, SettleError> {
        let core = self.core();
        let (topic, offset) = id.place(core.id_mask);
        let (reply, answer) = oneshot::channel();
        core.dispatcher.push(Request::Locate { topic, offset, reply }).map_err(|_| core.closed())?;
        let tokens = answer.await.map_err(|_| core.closed())?;
        if tokens.len() > 1 {
            return Err(SettleError::Ambiguous);
        }
        Ok(tokens.first().copied())
    }

    /// A subscription, by the number its tokens have; `None` if it is gone. Numbers are never given twice.
    pub fn subscription_numbered(&self, number: u32) -> Option<SubscriptionRef> {
        let core = self.core();
        let (topic, name) = core.subscriptions.with(number, |state| (state.topic, state.name.clone()))?;
        core.topic_numbered(topic).map(|topic| SubscriptionRef { topic: topic.name.clone(), name })
    }

    pub(super) fn topic_of(&self, name: &SubscriptionRef) -> Result<Arc<Topic>, SubscriptionError> {
        self.core().topic(&name.topic).ok_or_else(|| SubscriptionError::TopicNotFound(name.topic.clone()))
    }

    pub(super) fn find_subscription(&self, name: &SubscriptionRef) -> Result<u32, SubscriptionError> {
        let topic = self.topic_of(name)?.log.number;
        self.core()
            .subscriptions
            .find(topic, &name.name)
            .ok_or_else(|| SubscriptionError::NotFound(name.clone()))
    }

    async fn ask_dispatcher(
        &self,
        name: &SubscriptionRef,
        request: impl FnOnce(DoneReply) -> Request,
    ) -> Result<(), SubscriptionError> {
        let core = self.core();
        let (reply, answer) = oneshot::channel();
        core.dispatcher.push(request(reply)).map_err(|_| core.closed())?;
        match answer.await.map_err(|_| core.closed())?? {
            Changed::Made => Ok(()),
            Changed::Gone => Err(SubscriptionError::NotFound(name.clone())),
        }
    }
}

/// Checks settlements and has them settled.
pub(super) fn settle(
    core: &Arc<Core>,
    mut settlements: Vec<(Token, Outcome)>,
) -> Result<impl Future<Output = Vec<Fate>> + Send + use<>, SettleError> {
    if settlements.len() > SETTLEMENTS_MAX {
        let settlements = settlements.len();
        return Err(SettleError::TooMany { settlements, settlements_max: SETTLEMENTS_MAX });
    }
    for (index, (_, outcome)) in settlements.iter_mut().enumerate() {
        outcome.check().map_err(|error| SettleError::OutOfRange { index, error })?;
        outcome.cut_reason();
    }
    let count = settlements.len();
    let (reply, answer) = oneshot::channel();
    core.dispatcher.push(Request::Settle { settlements, reply }).map_err(|_| core.closed())?;
    let core = core.clone();
    Ok(async move { answer.await.unwrap_or_else(|_| vec![Fate::Unavailable(core.closed()); count]) })
}

//! [`Door`]: what a user of the broker can do, whichever way. The words are the Rust client's.

use std::collections::BTreeMap;

use bytes::Bytes;
use ratatoskr_client::{DeadLetterChoice, NewMessage, Outcome, Receipt, Seek, Start, SubscriptionSettings};

/// A way to use a broker that runs already and is nobody else's. Clones share it.
pub(crate) trait Door: Clone + 'static {
    /// A member of a subscription that came in by this door.
    type Member: Member;

    /// What the door is called in reports.
    fn name(&self) -> &'static str;

    async fn create_topic(&self, topic: &str) -> Told<()>;
    async fn delete_topic(&self, topic: &str) -> Told<()>;
    /// Removes the messages before an offset; tells how many.
    async fn purge_topic(&self, topic: &str, before: u64) -> Told<u64>;
    /// The offset the next message gets.
    async fn next_offset(&self, topic: &str) -> Told<u64>;
    async fn publish(&self, topic: &str, message: NewMessage) -> Told<Receipt>;
    /// The error is the first refusal.
    async fn publish_batch(&self, topic: &str, messages: Vec<NewMessage>) -> Told<Vec<Receipt>>;
    /// Acks and publishes in one step.
    async fn settle_and_publish(
        &self,
        acks: &[&Taken],
        messages: Vec<(&str, NewMessage)>,
    ) -> Told<Vec<Receipt>>;
    /// Follows a topic from a place until so many messages that pass the filter have come.
    async fn read(&self, topic: &str, start: Start, filter: &str, count: usize) -> Told<Vec<Seen>>;

    async fn create_subscription(&self, at: At<'_>, start: Start, settings: SubscriptionSettings)
    -> Told<()>;
    /// Changes the settings that are given.
    async fn change_subscription(&self, at: At<'_>, settings: SubscriptionSettings) -> Told<()>;
    async fn delete_subscription(&self, at: At<'_>) -> Told<()>;
    async fn describe(&self, at: At<'_>) -> Told<Standing>;
    /// Joins a subscription that exists, with a window of so many messages.
    async fn join(&self, at: At<'_>, window: u32) -> Told<Self::Member>;
    /// Fetches messages without staying a member; waits for the first one.
    async fn pull(&self, at: At<'_>, messages_max: u32) -> Told<Vec<Taken>>;
    /// Settles deliveries of any members; tells the fate of each.
    async fn settle(&self, settlements: Vec<(&Taken, Outcome)>) -> Told<Vec<Told<()>>>;

    async fn seek(&self, at: At<'_>, seek: Seek) -> Told<()>;
    async fn save(&self, at: At<'_>, saved: &str) -> Told<()>;
    async fn peek(&self, at: At<'_>, messages_max: u32) -> Told<Vec<Seen>>;

    async fn dead_letters(&self, at: At<'_>, filter: &str) -> Told<Vec<Letter>>;
    /// How many there are of each reason, most first.
    async fn count_dead_letters(&self, at: At<'_>) -> Told<Vec<(String, u64)>>;
    async fn redrive(&self, at: At<'_>, choice: DeadLetterChoice) -> Told<u64>;
    async fn drop_dead_letters(&self, at: At<'_>, choice: DeadLetterChoice) -> Told<u64>;
    /// What happened to a message, a sentence for each step.
    async fn trace(&self, id: &str) -> Told<Vec<String>>;
}

/// One consumer of a subscription.
pub(crate) trait Member {
    /// The next message; waits for it.
    async fn next(&mut self) -> Told<Taken>;
    /// Settles what this member was given.
    async fn settle(&self, taken: &Taken, outcome: Outcome) -> Told<()>;
    /// Goes in order; returns when the broker knows.
    async fn close(self) -> Told<()>;
    /// Goes without a word, as a process that is killed.
    fn vanish(self);
}

/// Which subscription: topic and name.
pub(crate) type At<'a> = (&'a str, &'a str);

/// What came of a call.
pub(crate) type Told<T> = Result<T, Refusal>;

/// Why something was not done, as far as a program would act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The lease had ended, or the message was settled before.
    Stale,
    /// The message would get another offset than expected.
    OtherOffset,
    NotFound,
    AlreadyExists,
    /// Something no behaviour asks for.
    Other(String),
}

/// A message as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) key: String,
    pub(crate) payload: Bytes,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A message that is leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) message: Seen,
    pub(crate) token: Bytes,
    /// Which delivery of it this is, from 1.
    pub(crate) attempt: u32,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) message: Seen,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
    pub(crate) origin_topic: String,
    pub(crate) origin_offset: u64,
    pub(crate) origin_id: String,
}

/// Where a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) lag_messages: u64,
    pub(crate) oldest_unsettled_offset: u64,
    pub(crate) leased: u64,
    pub(crate) waiting: u64,
    pub(crate) parked: u64,
    pub(crate) parked_keys: u64,
    pub(crate) acked: u64,
    pub(crate) dead: u64,
    pub(crate) expired: u64,
    pub(crate) passed: u64,
    pub(crate) redelivered: u64,
    pub(crate) member_count: u32,
    pub(crate) why: String,
    pub(crate) saved: Vec<String>,
}

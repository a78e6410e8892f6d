//! What is asked of the dispatcher. Each request carries the way back for its answer.

use ratatoskr_state::{Change, Due, SubscriptionName, SubscriptionRef, SubscriptionSettings, quoted};
use std::sync::Arc;

use ratatoskr_log::{ReadError, Record, RecordChunk, SegmentCursor};
use uuid::Uuid;

use super::active::{DeadLettering, Review};
use super::describe::SubscriptionDescription;
use super::event::{Leaving, MemberId, Outcome, OutcomeError, Window};
use super::member::MemberQueue;
use super::resolving::Resolving;
use super::settings::SubscriptionSettingsError;
use super::token::Token;
use super::trace::{TraceStep, Traced};
use crate::command::{AppendError, Appended, Records, Reply};
use crate::error::{PublishError, Unavailable};
use crate::schedule::{Scan, Step};
use crate::topic::Topic;

/// What became of one settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Done as asked, and on disk where it matters.
    Settled,
    /// The lease had ended, or the message was settled before.
    Stale,
    /// The token names nothing of this broker.
    Unknown,
    /// The broker could not write it down; the lease goes on.
    Unavailable(Unavailable),
}

/// Why nothing of a call was settled.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SettleError {
    /// More settlements than one call takes.
    #[error(
        "settlements has {settlements} entries; at most {settlements_max} are allowed: send several calls"
    )]
    TooMany {
        /// How many were given.
        settlements: usize,
        /// How many may be: fewer if messages are published in the same step.
        settlements_max: usize,
    },
    /// A time is out of range.
    #[error("settlement {index}: {error}")]
    OutOfRange {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: OutcomeError,
    },
    /// Settling together with publishing takes acks only.
    #[error("settlement {index} is no ack; a step that publishes takes acks only")]
    NotAnAck {
        /// Which one, from 0.
        index: usize,
    },
    /// These tokens were stale, and therefore nothing happened.
    #[error("{} of the tokens are stale, the first at index {}; nothing was settled or published", stale.len(), stale[0])]
    Stale {
        /// Indices of the settlements.
        stale: Vec<usize>,
    },
    /// Several subscriptions have the message leased.
    #[error("the message is leased by several subscriptions; name the delivery by its token")]
    Ambiguous,
    /// It could not even begin.
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    /// What was to be published was refused.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The broker cannot do it now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a call about a subscription was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// There is no such topic.
    #[error("topic {0} does not exist; create it, or publish to it, first")]
    TopicNotFound(ratatoskr_state::TopicName),
    /// There is no such subscription.
    #[error("topic {} has no subscription {}", .0.topic, .0.name)]
    NotFound(SubscriptionRef),
    /// There is one already.
    #[error("topic {} already has a subscription {}", .0.topic, .0.name)]
    AlreadyExists(SubscriptionRef),
    /// Only the broker creates a subscription of this name.
    #[error(
        "subscription name \"{}\" is the broker's own: it creates that subscription on a topic of dead letters, with settings of its own, when they are first \
         listed or worked through; choose another name", .0.name
    )]
    Reserved(SubscriptionRef),
    /// A setting cannot be.
    #[error(transparent)]
    Settings(#[from] SubscriptionSettingsError),
    /// The place to begin at cannot be.
    #[error(transparent)]
    Start(crate::error::SubscribeError),
    /// Nothing was saved under that name.
    #[error("subscription {name} has no state saved as {}", quoted(.saved))]
    NotSaved {
        /// The subscription.
        name: SubscriptionRef,
        /// The name.
        saved: String,
    },
    /// Too many states are saved.
    #[error("subscription {0} has 16 saved states, as many as are allowed; forget one first")]
    TooManySaved(SubscriptionRef),
    /// All saved states together would take more memory than they may.
    #[error(
        "this state of subscription {name} takes {bytes} bytes, and all saved states together may take {bytes_max}, a share of `memory`: forget \
         saved states that are not needed, or give the broker more memory"
    )]
    SavedStatesFull {
        /// The subscription.
        name: SubscriptionRef,
        /// What the state takes.
        bytes: u64,
        /// What all may take.
        bytes_max: u64,
    },
    /// Too many subscriptions.
    #[error(
        "there are {subscriptions_max} subscriptions, as many as `memory` allows; delete some first, or give the broker more memory"
    )]
    TooManySubscriptions {
        /// As many.
        subscriptions_max: usize,
    },
    /// Too many subscriptions of one topic.
    #[error(
        "topic {topic} has {subscriptions_max} subscriptions, a quarter of what `memory` allows for all topics; delete some first, use `expiry_ms`, or \
         give the broker more memory"
    )]
    TooManySubscriptionsOfTopic {
        /// The topic.
        topic: ratatoskr_state::TopicName,
        /// As many.
        subscriptions_max: usize,
    },
    /// A member's name is too long.
    #[error("the member's name has {bytes} bytes; at most 255 are allowed")]
    MemberNameTooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// Messages cannot be read.
    #[error("messages of {name} cannot be read: {reason}")]
    ReadFailed {
        /// The subscription.
        name: SubscriptionRef,
        /// Why.
        reason: String,
    },
    /// The broker cannot do it now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Where a subscription is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    To(u64),
    Saved(String),
    Skip(u64),
}

/// The way back for settlements.
pub(crate) type SettleReply = Reply<Vec<Fate>>;

/// The change of a subscription's settings, given what they are when it is made.
pub(crate) type SubscriptionChange = Box<dyn FnOnce(&SubscriptionSettings) -> SubscriptionSettings + Send>;

/// What came of a change of a subscription that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// It is made, and on disk.
    Made,
    /// The subscription is gone: there was nothing to change.
    Gone,
}

/// The answer to what changes a subscription.
pub(crate) type DoneReply = Reply<Result<Changed, SubscriptionError>>;

/// What was read from segments, and how to go on there.
pub(crate) type SegmentRead = (Result<Option<RecordChunk>, ReadError>, SegmentCursor);

/// A step that the journal could not take.
pub(crate) struct Refused {
    pub(crate) reason: AppendError,
    /// What it would have written.
    pub(crate) changes: Vec<Change>,
}

/// What was read from the schedule's log.
pub(crate) enum ScheduleRead {
    /// What comes next in it.
    Next(SegmentRead),
    /// A scan has come this far; an error when it can get no further now.
    Scanned(Result<Scan, ReadError>, SegmentCursor),
    /// Messages to be moved on, in the order asked for; none where one cannot be read any more.
    Fetched(Purpose, Result<Vec<(Due, Option<Record>)>, ReadError>),
}

/// Why messages of the schedule are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// They are due.
    Dispatch(Step),
    /// They are old, and stand in the way of what could go. All that were asked for, in order of offset.
    Carry(Vec<Due>),
}

/// The join that creates a subscription because there is none.
pub(crate) struct CreatedBy {
    /// The name the member gave itself.
    pub(crate) member: String,
    /// To be called once the subscription is there, whether or not anybody still waits for it. Must not block.
    pub(crate) note: Box<dyn FnOnce() + Send>,
}

/// See the file's head.
pub(crate) enum Request {
    Create {
        topic: Arc<Topic>,
        name: SubscriptionName,
        origin: u64,
        settings: SubscriptionSettings,
        /// `None`: somebody asked for just this.
        created_by: Option<CreatedBy>,
        reply: DoneReply,
    },
    Change {
        subscription: u32,
        change: SubscriptionChange,
        reply: DoneReply,
    },
    Delete {
        subscription: u32,
        reply: DoneReply,
    },
    Move {
        subscription: u32,
        to: Move,
        reply: DoneReply,
    },
    /// Something about a subscription that only its state has to know.
    Note {
        change: Change,
        reply: DoneReply,
    },
    Describe {
        subscription: u32,
        reply: Reply<Option<SubscriptionDescription>>,
    },
    /// All of them, or the first by topic and name.
    Survey {
        subscriptions_max: usize,
        reply: Reply<Vec<SubscriptionDescription>>,
    },
    Join {
        subscription: u32,
        member_queue: Arc<MemberQueue>,
        window: Window,
        reply: Reply<Option<Arc<SubscriptionSettings>>>,
    },
    Widen {
        subscription: u32,
        member: MemberId,
        window: Window,
    },
    /// The member is alive, though it said nothing that changes anything.
    Heard {
        subscription: u32,
        member: MemberId,
    },
    Leave {
        subscription: u32,
        member: MemberId,
        leaving: Leaving,
        /// Deliveries it was given and never saw: they go back unharmed, however it goes.
        unseen: Vec<Token>,
    },
    /// Ends a member; answers whether there was one.
    End {
        topic: u32,
        reference: Uuid,
        reply: Reply<bool>,
    },
    Settle {
        settlements: Vec<(Token, Outcome)>,
        reply: SettleReply,
    },
    /// All of it or nothing.
    SettleAndPublish {
        acks: Vec<Token>,
        appends: Vec<Records>,
        reply: Reply<Result<Vec<Appended>, SettleError>>,
    },
    /// The leases a message is out on.
    Locate {
        topic: u32,
        offset: u64,
        reply: Reply<Vec<Token>>,
    },
    /// What happened to a message.
    Trace {
        traced: Traced,
        reply: Reply<Vec<TraceStep>>,
    },
    /// The message of a delivery is in the log no more.
    Lost {
        token: Token,
    },
    /// Dead letters are sent again or dropped.
    Resolve(Resolving),
    /// From the same thread, about the schedule.
    Schedule(ScheduleRead),
    TopicGrew {
        topic: u32,
    },
    /// Messages of it went by retention or a purge.
    TopicTrimmed {
        topic: u32,
    },
    TopicDeleted {
        topic: u32,
    },
    /// From the thread that reads segments.
    Read {
        subscription: u32,
        generation: u64,
        read: SegmentRead,
    },
    /// From the same thread: some more was matched against a changed filter.
    Reviewed {
        generation: u64,
        review: Review,
    },
    /// From the same thread: messages that are to be dead-lettered, as they were asked for.
    DeadLettersRead {
        subscription: u32,
        generation: u64,
        records_read: Vec<(DeadLettering, Result<Option<Record>, ReadError>)>,
    },
    /// From the sequencer.
    Committed {
        ticket: u64,
        appended: Vec<Appended>,
    },
    /// From the sequencer.
    Refused {
        ticket: u64,
        refused: Refused,
    },
    /// From the sequencer: what a step is about has been deleted, that is the topic of a subscription to be created, or the subscription
    /// of dead letters to be resolved, and whoever resolves them has been told.
    TargetGone {
        ticket: u64,
    },
    Stop,
}

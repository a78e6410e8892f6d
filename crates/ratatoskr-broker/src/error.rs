//! What each operation of the broker can refuse, one small enum per operation.

use ratatoskr_state::{SettingsError, TopicName};
use std::path::PathBuf;

use ratatoskr_log::LogError;

use crate::command::AppendError;
use crate::message::MessageError;
use ratatoskr_state::limits::{
    BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, FILTER_ENTRIES_BYTES_MAX, FILTER_ENTRIES_MAX,
    SUBSCRIBER_ID_BYTES_MAX,
};

/// Why a broker cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A topic in the data directory has a name this broker does not allow.
    #[error("the data directory {path} holds a topic with an invalid name: {name:?}")]
    Name {
        /// The data directory.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A setting of the configuration is out of range.
    #[error("{field} is {value}; allowed are {allowed}")]
    Config {
        /// The field of `BrokerConfig`.
        field: &'static str,
        /// What was given.
        value: u64,
        /// What may be given.
        allowed: &'static str,
    },
    /// A default topic setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// The broker, or one topic, cannot take the operation now. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No room: try again once there is. Reading goes on meanwhile.
    #[error("{detail}")]
    DiskFull {
        /// What could not grow, and what to do.
        detail: String,
    },
    /// The log cannot open one of its files, for want of file descriptors most likely: try again. Reading goes on meanwhile.
    #[error("{reason}; publishing goes on by itself once this is possible")]
    Blocked {
        /// What the operating system refuses, and what to do.
        reason: String,
    },
    /// A write or sync failed: nothing is acknowledged any more, the process must be restarted.
    #[error("{reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The topic's owner failed and is being started again from the log; try again shortly.
    #[error("topic {topic} is restarting after a failure; try again shortly")]
    TopicRestarting {
        /// The topic.
        topic: TopicName,
    },
    /// The topic was deleted while something was on its way to it; tried again, it meets the topic there is then, or none.
    #[error("topic {topic} was deleted while the call was on its way; nothing was done, try again")]
    TopicDeleted {
        /// The topic.
        topic: TopicName,
    },
    /// The broker failed in the middle of this request, by a fault of its own, and goes on without it. It is not known what was done.
    #[error(
        "the broker failed at this request, by a fault of its own, and goes on; look whether it was done, and try again"
    )]
    RequestFailed,
    /// A message cannot be read from disk now; try again.
    #[error("{reason}; try again")]
    ReadFailed {
        /// The system's reason.
        reason: String,
    },
    /// Dead letters of a topic on disk would go to one that forgets them with the broker. They wait where they are.
    #[error(
        "topic {topic} keeps messages in memory only and would lose the dead letters of a topic on disk; set another dead_letter_topic, or delete {topic}"
    )]
    DeadLettersInMemory {
        /// The topic they would go to.
        topic: TopicName,
    },
    /// The broker is stopping.
    #[error("the broker is shutting down; connect again once it is back")]
    ShuttingDown,
}

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// There is one of that name.
    #[error("topic {name} exists already")]
    AlreadyExists {
        /// The name.
        name: TopicName,
    },
    /// There are as many topics as there may be.
    #[error(
        "there are {topics_max} topics, as many as `memory` allows; delete some, or give the broker more memory"
    )]
    TooManyTopics {
        /// As many.
        topics_max: usize,
    },
    /// A setting cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a topic's settings were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateTopicError {
    /// There is no such topic.
    #[error("topic {name} does not exist")]
    NotFound {
        /// The name.
        name: TopicName,
    },
    /// A setting cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a topic was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// There is no such topic.
    #[error("topic {name} does not exist")]
    NotFound {
        /// The name.
        name: TopicName,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a topic was not purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeTopicError {
    /// There is no such topic.
    #[error("topic {name} does not exist")]
    NotFound {
        /// The name.
        name: TopicName,
    },
    /// The place is not there yet.
    #[error("before is {before}, past the topic's end; at most {next_offset} is allowed")]
    PastEnd {
        /// What was given.
        before: u64,
        /// The offset the next message gets.
        next_offset: u64,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why nothing was published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A message cannot be as it is; of a batch, none was published.
    #[error("{error}")]
    Message {
        /// Its place in the batch, 0 for the first.
        index: usize,
        /// What is wrong with it.
        error: MessageError,
    },
    /// A batch of nothing.
    #[error("the batch is empty; it takes 1 to {BATCH_MESSAGES_MAX} messages")]
    EmptyBatch,
    /// Too many messages.
    #[error("the batch has {messages} messages; at most {BATCH_MESSAGES_MAX} are allowed")]
    BatchTooLong {
        /// How many.
        messages: usize,
    },
    /// Too many bytes.
    #[error("the batch has {bytes} bytes; at most {BATCH_BYTES_MAX} are allowed")]
    BatchTooLarge {
        /// How many.
        bytes: usize,
    },
    /// The topic does not exist and there are as many as there may be.
    #[error(
        "there are {topics_max} topics, as many as `memory` allows; publish to one that exists, delete some, or give the broker more memory"
    )]
    TooManyTopics {
        /// As many.
        topics_max: usize,
    },
    /// As many ids are remembered as may be.
    #[error(
        "{ids_max} dedup ids are remembered, as many as memory allows; publish without one, shorten dedup_window_ms of busy topics, give the broker more memory, or try again later"
    )]
    TooManyDedupIds {
        /// As many.
        ids_max: usize,
    },
    /// A message would not get the offset it is expected to have.
    #[error("expected_offset is {expected}, and the topic goes on at {next_offset}; nothing was published")]
    OtherOffset {
        /// What was expected.
        expected: u64,
        /// The offset the next message of the topic gets.
        next_offset: u64,
    },
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<AppendError> for PublishError {
    fn from(error: AppendError) -> PublishError {
        match error {
            AppendError::TooManyTopics { topics_max } => PublishError::TooManyTopics { topics_max },
            AppendError::TooManyDedupIds { ids_max } => PublishError::TooManyDedupIds { ids_max },
            AppendError::OtherOffset { expected, next_offset } => {
                PublishError::OtherOffset { expected, next_offset }
            }
            AppendError::TopicGone { topic } => Unavailable::TopicDeleted { topic }.into(),
            AppendError::Unavailable(reason) => PublishError::Unavailable(reason),
        }
    }
}

/// Why a subscription was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// There is no such topic.
    #[error("topic {name} does not exist; create it, or publish to it")]
    NotFound {
        /// The name.
        name: TopicName,
    },
    /// The topic has as many subscribers as it may.
    #[error("the topic has {max} subscribers, as many as its setting subscribers_max allows")]
    TooManySubscribers {
        /// How many may be.
        max: u32,
    },
    /// The subscriber's own id is too long.
    #[error("subscriber_id has {bytes} bytes; at most {SUBSCRIBER_ID_BYTES_MAX} are allowed")]
    SubscriberIdTooLong {
        /// How many bytes.
        bytes: usize,
    },
    /// Too many conditions.
    #[error("filter has {entries} entries; at most {FILTER_ENTRIES_MAX} are allowed")]
    FilterTooLong {
        /// How many.
        entries: usize,
    },
    /// The conditions are too long.
    #[error(
        "filter has names and values of {bytes} bytes; at most {FILTER_ENTRIES_BYTES_MAX} are allowed together"
    )]
    FilterTooLarge {
        /// Their bytes.
        bytes: usize,
    },
    /// The place is not there yet.
    #[error("start offset is {offset}, past the topic's end; at most {next_offset} is allowed")]
    PastEnd {
        /// What was given.
        offset: u64,
        /// The offset the next message gets.
        next_offset: u64,
    },
    /// The place is gone.
    #[error("start offset {offset} has been removed by retention or a purge; the earliest is {first_offset}")]
    Trimmed {
        /// What was given.
        offset: u64,
        /// The earliest there is.
        first_offset: u64,
    },
    /// A credit of nothing would deliver nothing.
    #[error("credit is 0; give 1 or more messages, or none for no bound")]
    ZeroCredit,
    /// Not now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a subscription delivers no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionEnd {
    /// It was ended by its reference.
    #[error("the subscription was ended by an unsubscribe")]
    Unsubscribed,
    /// Its topic is gone.
    #[error("the topic was deleted")]
    TopicDeleted,
    /// The subscriber was slower than retention: messages it had not seen are gone.
    #[error(
        "the messages from offset {cursor} to {first_offset} were removed by retention or a purge before they could be delivered; subscribe again from offset {first_offset}"
    )]
    Trimmed {
        /// Where the subscription stood.
        cursor: u64,
        /// The earliest offset there is.
        first_offset: u64,
    },
    /// A message is damaged on disk. Its neighbours can be read.
    #[error(
        "the message at offset {offset} is damaged ({file}, byte {position}); subscribe again from offset {resume}"
    )]
    DataLoss {
        /// The damaged message.
        offset: u64,
        /// Where reading can go on.
        resume: u64,
        /// The file.
        file: String,
        /// Byte position in it.
        position: u64,
    },
    /// The disk could not be read; trying again may help.
    #[error("{reason}; subscribe again")]
    ReadFailed {
        /// The system's reason.
        reason: String,
    },
    /// The broker is stopping.
    #[error("the broker is shutting down; subscribe again once it is back")]
    ShuttingDown,
}

/// Why a broker did not stop cleanly. Everything acknowledged is safe all the same.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// A thread had ended by a fault of ours before; the next start replays the journal.
    #[error(
        "the {thread} had failed; what was acknowledged is on disk, and the next start reads it from the journal"
    )]
    ThreadFailed {
        /// Which one.
        thread: &'static str,
    },
    /// The last checkpoint could not be made; the next start replays the journal.
    #[error(transparent)]
    Log(#[from] LogError),
}

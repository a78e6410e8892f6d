//! What is asked of the sequencer. Each command carries the way back for its answer.

use std::sync::Arc;

use ratatoskr_log::{Placed, RecordBatch};
use tokio::sync::oneshot;

use crate::durable::Happening;
use crate::error::{CreateTopicError, DeleteTopicError, PurgeTopicError, Unavailable, UpdateTopicError};
use crate::name::TopicName;
use crate::settings::{Durability, TopicSettings};
use crate::topic::Topic;

/// The way back; whoever asked may be gone.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What becomes of a topic's settings, given what they are when the change is made.
pub(crate) type SettingsChange = Box<dyn FnOnce(&TopicSettings) -> TopicSettings + Send>;

/// Where records go: the topic as the publisher found it, or a name that had none.
pub(crate) enum Target {
    Topic(Arc<Topic>),
    Name(TopicName),
}

impl Target {
    /// False when a full disk is no reason to refuse.
    pub(crate) fn needs_disk(&self) -> bool {
        match self {
            Target::Topic(topic) => !topic.log.is_in_memory(),
            Target::Name(_) => true,
        }
    }
}

/// Where an append went, and what its acknowledgement stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) topic: u32,
    pub(crate) placed: Placed,
    pub(crate) durability: Durability,
}

/// Why an append was refused.
#[derive(Clone, Debug)]
pub(crate) enum AppendError {
    TooManyTopics,
    Unavailable(Unavailable),
}

/// See the file's head.
pub(crate) enum Command {
    Append {
        target: Target,
        batch: RecordBatch,
        /// Room it takes in the inbox.
        bytes: usize,
        reply: Reply<Result<Appended, AppendError>>,
    },
    Create {
        name: TopicName,
        settings: TopicSettings,
        reply: Reply<Result<Arc<Topic>, CreateTopicError>>,
    },
    Update {
        name: TopicName,
        change: SettingsChange,
        reply: Reply<Result<Arc<Topic>, UpdateTopicError>>,
    },
    Delete {
        name: TopicName,
        reply: Reply<Result<(), DeleteTopicError>>,
    },
    /// `before: None` means everything there is.
    Purge {
        name: TopicName,
        before: Option<u64>,
        reply: Reply<Result<u64, PurgeTopicError>>,
    },
    /// Retention found that everything before `first` is to go.
    Trim {
        topic: Arc<Topic>,
        first: u64,
    },
    /// What is to be written about durable subscriptions, and appended in the same step.
    Ledger {
        happenings: Vec<Happening>,
        appends: Vec<(Target, RecordBatch)>,
        /// What the courier knows it by.
        ticket: u64,
    },
    /// The next append to the topic fails in the middle, to show that the others do not notice.
    Crash {
        name: TopicName,
    },
    /// Look whether the disk, or the scribe, is in trouble or out of it.
    Check,
}

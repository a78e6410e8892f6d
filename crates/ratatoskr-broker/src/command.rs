//! What is asked of the sequencer. Each command carries the way back for its answer.

use ratatoskr_state::{Change, Durability, First, TopicName, TopicSettings};
use std::sync::Arc;

use ratatoskr_log::{Placed, RecordBatch, Reserve};
use tokio::sync::oneshot;

use crate::durable::{Resolving, reserve_of};
use crate::error::{CreateTopicError, DeleteTopicError, PurgeTopicError, Unavailable, UpdateTopicError};
use crate::message::Terms;
use crate::postbox::{Return, Ticket};
use crate::topic::Topic;

/// The way back; whoever asked may be gone.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// The way back for an append: to a caller that waits for it alone, or into the postbox of a thread that waits for many.
pub(crate) enum AppendReply {
    Caller(Reply<Result<Appended, AppendError>>),
    Postbox(Return),
}

impl AppendReply {
    pub(crate) fn send(self, answer: Result<Appended, AppendError>) {
        match self {
            AppendReply::Caller(reply) => {
                let _ = reply.send(answer);
            }
            AppendReply::Postbox(way) => way.answer(answer),
        }
    }

    /// Nothing was sent, so there is nothing to answer; a ticket is given back.
    pub(crate) fn take_back(self) -> Option<Ticket> {
        match self {
            AppendReply::Postbox(way) => way.take_back(),
            AppendReply::Caller(_) => None,
        }
    }
}

/// What becomes of a topic's settings, given what they are when the change is made.
pub(crate) type SettingsChange = Box<dyn FnOnce(&TopicSettings) -> TopicSettings + Send>;

/// Where records go.
pub(crate) enum Target {
    /// To the topic as the publisher found it.
    Topic(Arc<Topic>),
    /// To this very topic; refused once it is gone.
    Living(Arc<Topic>),
    /// To whatever has this name by then; to a new topic with these settings if nothing has.
    Name(TopicName, TopicSettings),
    /// As `Name`, but not to a topic that keeps messages in memory only: the step is refused.
    Lasting(TopicName, TopicSettings),
}

impl Target {
    /// False when a full disk is no reason to refuse.
    pub(crate) fn needs_disk(&self) -> bool {
        match self {
            Target::Topic(topic) | Target::Living(topic) => !topic.log.is_in_memory(),
            Target::Name(..) | Target::Lasting(..) => true,
        }
    }
}

/// Records to be appended, all or none.
pub(crate) struct Records {
    pub(crate) target: Target,
    pub(crate) batch: RecordBatch,
    pub(crate) terms: Terms,
}

/// Where an append went, and what its acknowledgement stands for.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    /// The number of the log appended to.
    pub(crate) topic: u32,
    pub(crate) placed: Placed,
    pub(crate) durability: Durability,
    /// Records that were not appended, by their index in the batch, ascending, and where the first of their id is.
    pub(crate) duplicates: Vec<(u32, First)>,
}

impl Appended {
    /// Where the record at an index of the batch is, or the first of its id, and whether it is a duplicate.
    pub(crate) fn place_of(&self, index: u32) -> (First, bool) {
        let before = self.duplicates.partition_point(|&(duplicate, _)| duplicate < index);
        match self.duplicates.get(before) {
            Some(&(duplicate, first)) if duplicate == index => (first, true),
            _ => {
                let offset = self.placed.first + u64::from(index) - before as u64;
                (First { log: self.topic, offset, timestamp_ms: self.placed.timestamp_ms }, false)
            }
        }
    }
}

/// Why an append was refused.
#[derive(Clone, Debug)]
pub(crate) enum AppendError {
    TooManyTopics {
        /// As many.
        topics_max: usize,
    },
    TooManyDedupIds {
        /// As many.
        ids_max: usize,
    },
    /// The very topic that is meant was deleted.
    TopicGone {
        topic: TopicName,
    },
    /// A record would not get the offset it is expected to have.
    OtherOffset {
        expected: u64,
        next_offset: u64,
    },
    Unavailable(Unavailable),
}

/// See the file's head.
pub(crate) enum Command {
    Append {
        records: Records,
        /// Room it takes in the inbox.
        bytes: usize,
        reply: AppendReply,
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
    /// Retention found that of each topic everything before an offset is to go.
    Trim {
        trims: Vec<(Arc<Topic>, u64)>,
    },
    /// What is to be written about durable subscriptions, and appended in the same step.
    Ledger {
        changes: Vec<Change>,
        appends: Vec<Records>,
        /// What the dispatcher knows it by.
        ticket: u64,
    },
    /// Dead letters are resolved, as far as nobody did so before.
    Resolve {
        resolving: Resolving,
        /// What the dispatcher knows it by.
        ticket: u64,
    },
    /// The next append to the topic fails in the middle, to show that the others do not notice.
    Crash {
        name: TopicName,
    },
    /// Write down what the date is: the clock is believed again.
    TellDate,
    /// Look whether the disk, or the flusher, is in trouble or out of it.
    Check,
}

/// Bytes of a change that are enough for its entry in the journal, where they need not be exact.
const CHANGE_BYTES: usize = 512;

impl Command {
    /// How far it may go into what the journal keeps for the time of a full disk. Commands that may go less far have to be staged apart:
    /// they would have the others refused.
    pub(crate) fn reserve(&self) -> Reserve {
        match self {
            Command::Delete { .. } | Command::Purge { .. } => Reserve::Free,
            Command::Update { .. } | Command::Trim { .. } => Reserve::Change,
            Command::Ledger { changes, appends, .. } if appends.is_empty() => reserve_of(changes),
            _ => Reserve::Keep,
        }
    }

    /// Bytes it takes in a block, or a little more.
    pub(crate) fn block_bytes(&self) -> usize {
        match self {
            Command::Ledger { changes, .. } => {
                changes.iter().map(|change| CHANGE_BYTES + change.encode().len()).sum()
            }
            Command::Trim { trims } => CHANGE_BYTES * trims.len(),
            _ => CHANGE_BYTES,
        }
    }
}

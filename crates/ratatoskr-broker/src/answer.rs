//! Who waits for a commit, and what they are told once it has, or has not, happened.

use ratatoskr_state::{Durability, Run, TopicName, TopicSettings};
use std::collections::HashMap;
use std::sync::Arc;

use ratatoskr_log::Placed;

use crate::command::{AppendError, AppendReply, Appended, Reply};
use crate::core::{Core, LiveCounters};
use crate::durable::Request;
use crate::error::{CreateTopicError, DeleteTopicError, PurgeTopicError, Unavailable, UpdateTopicError};
use crate::topic::Topic;

/// Somebody who waits.
pub(crate) struct Waiting {
    pub(crate) topic: Arc<Topic>,
    pub(crate) answer: Answer,
}

/// What they wait for.
pub(crate) enum Answer {
    Append {
        count: u32,
        /// Of its records.
        bytes: u64,
        /// Of its block.
        date_ms: u64,
        appended: Appended,
        reply: AppendReply,
    },
    /// Nobody asked when a publish implied the topic.
    Create(Option<Reply<Result<Arc<Topic>, CreateTopicError>>>),
    /// Another create of the same block came first.
    Exists(Reply<Result<Arc<Topic>, CreateTopicError>>),
    Update(TopicSettings, Reply<Result<Arc<Topic>, UpdateTopicError>>),
    Delete(Reply<Result<(), DeleteTopicError>>),
    Purge(u64, Reply<Result<u64, PurgeTopicError>>),
    Trim,
}

impl Waiting {
    /// True when the block need only be written, not synced, for this answer.
    pub(crate) fn is_ready_once_written(&self, creating: &HashMap<TopicName, Arc<Topic>>) -> bool {
        match &self.answer {
            Answer::Append { appended, .. } => {
                appended.durability != Durability::Fsync && !creating.contains_key(&self.topic.name)
            }
            _ => false,
        }
    }

    /// It has happened.
    pub(crate) fn succeed(self, core: &Core) {
        let topic = self.topic;
        match self.answer {
            Answer::Append { count, bytes, date_ms, appended, reply } => {
                let Placed { first, timestamp_ms } = appended.placed;
                let run = Run { first, end: first + u64::from(count), timestamp_ms };
                if topic.log.is_in_memory() {
                    core.memory_ages.lock().appended(topic.log.number, run, date_ms);
                }
                // What is scheduled counts when it reaches its topic.
                if !topic.name.is_schedule() {
                    LiveCounters::add(&core.live_counters.published_messages, count.into());
                }
                LiveCounters::add(&core.live_counters.published_bytes, bytes);
                topic.changed.notify_waiters();
                if topic.must_tell_growth() {
                    let _ = core.dispatcher.push(Request::TopicGrew { topic: topic.log.number });
                }
                reply.send(Ok(appended));
            }
            Answer::Create(reply) => {
                core.add_topic(topic.clone());
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(topic));
                }
            }
            Answer::Exists(reply) => {
                let _ = reply.send(Err(CreateTopicError::AlreadyExists { name: topic.name.clone() }));
            }
            Answer::Update(settings, reply) => {
                topic.set_settings(settings);
                let _ = reply.send(Ok(topic));
            }
            Answer::Delete(reply) => {
                core.remove_topic(&topic);
                core.dedup.topic_deleted(topic.log.number);
                core.memory_ages.lock().topic_deleted(topic.log.number);
                let _ = core.dispatcher.push(Request::TopicDeleted { topic: topic.log.number });
                topic.changed.notify_waiters();
                let _ = reply.send(Ok(()));
            }
            Answer::Purge(removed, reply) => {
                topic.changed.notify_waiters();
                tell_trimmed(core, &topic);
                let _ = reply.send(Ok(removed));
            }
            Answer::Trim => tell_trimmed(core, &topic),
        }
    }

    /// It has not happened, and nothing of it remains.
    pub(crate) fn fail(self, core: &Core, reason: &Unavailable) {
        let reason = reason.clone();
        match self.answer {
            Answer::Append { count, reply, .. } => {
                LiveCounters::add(&core.live_counters.publish_refused, count.into());
                reply.send(Err(AppendError::Unavailable(reason)));
            }
            Answer::Create(Some(reply)) | Answer::Exists(reply) => {
                let _ = reply.send(Err(reason.into()));
            }
            Answer::Update(_, reply) => {
                let _ = reply.send(Err(reason.into()));
            }
            Answer::Delete(reply) => {
                let _ = reply.send(Err(reason.into()));
            }
            Answer::Purge(_, reply) => {
                self.topic.purge_failed();
                let _ = reply.send(Err(reason.into()));
            }
            Answer::Create(None) | Answer::Trim => {}
        }
    }
}

/// Durable subscriptions wait for nothing that is gone.
fn tell_trimmed(core: &Core, topic: &Topic) {
    if topic.has_durable() {
        let _ = core.dispatcher.push(Request::TopicTrimmed { topic: topic.log.number });
    }
}

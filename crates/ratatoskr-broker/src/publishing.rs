//! Publishing: messages are checked and encoded where the caller runs, and handed to the sequencer.
//!
//! ```text
//!   message ──due now──▶ its topic                       receipt: offset, id
//!          └─due later─▶ the schedule ··when due··▶ topic   receipt: scheduled, id
//! ```
//!
//! What has to hold beyond that (no duplicate, the expected offset) goes along as [`Terms`]: only the sequencer can tell.

use ratatoskr_state::{TopicName, TopicSettings};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ratatoskr_log::RecordBatch;
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::command::{AppendReply, Appended, Command, Records, Target};
use crate::durable::SettleError;
use crate::error::{CreateTopicError, PublishError, Unavailable};
use crate::id::MessageId;
use crate::message::{NewMessage, Receipt, Terms};
use crate::topic::Topic;
use ratatoskr_state::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, MESSAGE_BYTES_MAX};

impl Broker {
    /// Publishes a message; a missing topic is created. Returns once the topic's durability is reached.
    ///
    /// On the first poll of the future the message takes its place behind those polled before it, unless
    /// the inbox is full or it is not due yet. Dropping the future does not take it back.
    pub async fn publish(&self, topic: &TopicName, message: NewMessage) -> Result<Receipt, PublishError> {
        let (now_ms, (target, bytes_max)) = (self.now_ms(), self.target(topic));
        message
            .view()
            .validate(bytes_max, now_ms)
            .map_err(|error| PublishError::Message { index: 0, error })?;
        if message.view().due_ms(now_ms).is_some() {
            return Ok(self.publish_later(topic, &[&message]).await?[0]);
        }
        let (mut batch, mut terms) =
            (RecordBatch::with_capacity(message.view().record_bytes()), Terms::default());
        message.view().push_into(&mut batch, &mut terms, now_ms);
        let appended = self.append(Records { target, batch, terms }).await?;
        Ok(self.receipt(&appended, 0))
    }

    /// Publishes messages to one topic, all or none, with consecutive offsets but for duplicates and those that are not due yet. As
    /// [`Broker::publish`] otherwise.
    pub async fn publish_batch(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Receipt>, PublishError> {
        if messages.is_empty() {
            return Err(PublishError::EmptyBatch);
        }
        check_size(messages.len(), messages.iter().map(NewMessage::size_bytes).sum())?;
        let now_ms = self.now_ms();
        let later = messages.iter().filter(|message| message.view().due_ms(now_ms).is_some()).count();
        if later > 0 && later < messages.len() {
            // Into two logs: a step of its own, so that it happens wholly or not at all.
            let messages = messages.into_iter().map(|message| (topic.clone(), message)).collect();
            return self.settle_and_publish(Vec::new(), messages).await.map_err(|error| match error {
                SettleError::Publish(error) => error,
                SettleError::Unavailable(reason) => reason.into(),
                other => unreachable!("nothing is settled here: {other}"),
            });
        }
        let (target, bytes_max) = self.target(topic);
        for (index, message) in messages.iter().enumerate() {
            message
                .view()
                .validate(bytes_max, now_ms)
                .map_err(|error| PublishError::Message { index, error })?;
        }
        if later > 0 {
            return self.publish_later(topic, &messages.iter().collect::<Vec<_>>()).await;
        }
        let mut batch =
            RecordBatch::with_capacity(messages.iter().map(|message| message.view().record_bytes()).sum());
        let mut terms = Terms::default();
        for message in &messages {
            message.view().push_into(&mut batch, &mut terms, now_ms);
        }
        drop(messages);
        self.append_all(Records { target, batch, terms }).await
    }

    /// Makes messages for several topics ready to be appended in one step: one append for each topic, and where in which each
    /// message stands.
    pub(crate) async fn gather(
        &self,
        messages: &[(TopicName, NewMessage)],
    ) -> Result<(Vec<(usize, u32)>, Vec<Records>), PublishError> {
        let now_ms = self.now_ms();
        let (mut known, mut appends) = (HashMap::new(), Vec::<Records>::new());
        let mut places = Vec::with_capacity(messages.len());
        for (index, (topic, message)) in messages.iter().enumerate() {
            let (target, bytes_max) = self.target(topic);
            message
                .view()
                .validate(bytes_max, now_ms)
                .map_err(|error| PublishError::Message { index, error })?;
            let due_ms = message.view().due_ms(now_ms);
            let at = *known.entry((topic, due_ms.is_some())).or_insert(appends.len());
            if at == appends.len() {
                let records = match due_ms {
                    Some(_) => self.records_for_later(topic).await?,
                    None => Records { target, batch: RecordBatch::default(), terms: Terms::default() },
                };
                appends.push(records);
            }
            let Records { batch, terms, .. } = &mut appends[at];
            places.push((at, batch.count()));
            match due_ms {
                Some(due_ms) => message.view().push_later(due_ms, batch, terms),
                None => message.view().push_into(batch, terms, now_ms),
            }
        }
        Ok((places, appends))
    }

    /// Puts messages into the schedule.
    async fn publish_later(
        &self,
        topic: &TopicName,
        messages: &[&NewMessage],
    ) -> Result<Vec<Receipt>, PublishError> {
        let mut records = self.records_for_later(topic).await?;
        let now_ms = self.now_ms();
        for message in messages {
            // What has become due meanwhile is due at once.
            let due_ms = message.view().due_ms(now_ms).unwrap_or(now_ms);
            message.view().push_later(due_ms, &mut records.batch, &mut records.terms);
        }
        self.append_all(records).await
    }

    /// Nothing yet, on its way to the schedule for a topic. It is for the topic there is now: one that is deleted takes its
    /// scheduled messages along.
    async fn records_for_later(&self, topic: &TopicName) -> Result<Records, PublishError> {
        let topic = self.existing_topic(topic, self.core().topic_defaults.clone()).await?;
        let settings = TopicSettings {
            retention_age_ms: None,
            message_bytes_max: MESSAGE_BYTES_MAX,
            ..TopicSettings::default()
        };
        let target = Target::Topic(self.existing_topic(&TopicName::schedule(), settings).await?);
        let terms = Terms { ids_of: Some(topic), ..Terms::default() };
        Ok(Records { target, batch: RecordBatch::default(), terms })
    }

    async fn existing_topic(
        &self,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<Arc<Topic>, PublishError> {
        if let Some(topic) = self.core().topic(name) {
            return Ok(topic);
        }
        let command = |reply| Command::Create { name: name.clone(), settings, reply };
        match self.ask(command).await? {
            Ok(topic) => Ok(topic),
            Err(CreateTopicError::AlreadyExists { .. }) => {
                // Gone again at once: somebody deletes it just now.
                let gone = || Unavailable::TopicDeleted { topic: name.clone() };
                Ok(self.core().topic(name).ok_or_else(gone)?)
            }
            Err(CreateTopicError::TooManyTopics { topics_max }) => {
                Err(PublishError::TooManyTopics { topics_max })
            }
            Err(CreateTopicError::Unavailable(reason)) => Err(reason.into()),
            Err(CreateTopicError::Settings(error)) => unreachable!("settings of ours are valid: {error}"),
        }
    }

    /// Where records for a topic go, and what its payloads may have.
    pub(crate) fn target(&self, name: &TopicName) -> (Target, u32) {
        if let Some(topic) = self.core().topic(name) {
            let bytes_max = topic.message_bytes_max();
            return (Target::Topic(topic), bytes_max);
        }
        let settings = self.core().topic_defaults.clone();
        let bytes_max = settings.message_bytes_max;
        (Target::Name(name.clone(), settings), bytes_max)
    }

    pub(crate) async fn append_all(&self, records: Records) -> Result<Vec<Receipt>, PublishError> {
        let count = records.batch.count();
        let appended = self.append(records).await?;
        Ok((0..count).map(|index| self.receipt(&appended, index)).collect())
    }

    async fn append(&self, records: Records) -> Result<Appended, PublishError> {
        let core = self.core();
        let bytes = records.batch.len();
        let (reply, answer) = oneshot::channel();
        let reply = AppendReply::Caller(reply);
        core.inbox.send(Command::Append { records, bytes, reply }, bytes).await.map_err(|_| core.closed())?;
        Ok(answer.await.map_err(|_| core.closed())??)
    }

    /// The receipt of the record at an index of a batch.
    pub(crate) fn receipt(&self, appended: &Appended, index: u32) -> Receipt {
        let (place, duplicate) = appended.place_of(index);
        let core = self.core();
        let scheduled = core.schedule_number.load(Ordering::Relaxed) == place.log;
        Receipt {
            id: MessageId::new(core.id_mask, place.log, place.offset, place.timestamp_ms),
            offset: if scheduled { Receipt::NO_OFFSET } else { place.offset },
            timestamp_ms: place.timestamp_ms,
            durability: appended.durability,
            duplicate,
            scheduled,
        }
    }
}

/// The limits of what one call can publish.
pub(crate) fn check_size(messages: usize, bytes: usize) -> Result<(), PublishError> {
    if messages > BATCH_MESSAGES_MAX {
        return Err(PublishError::BatchTooLong { messages });
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(PublishError::BatchTooLarge { bytes });
    }
    Ok(())
}

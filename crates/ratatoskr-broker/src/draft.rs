//! [`Draft`]: messages for one topic, checked and encoded as they come, without a value of their own in between.
//!
//! ```text
//!   Broker::draft("orders") ─▶ push(view) ─▶ push(view) ─▶ Broker::submit(draft, postbox, ticket) ··commit··▶ postbox
//! ```
//!
//! The way for whoever has messages in a buffer and answers many publishers on one thread: a front door. It takes what is plain, that is
//! messages that are due now; everything else goes by [`Broker::publish`] and [`Broker::publish_batch`], which know all of it.

use ratatoskr_state::{TopicName, TopicNameError};
use std::sync::Arc;

use crate::broker::Broker;
use crate::command::{AppendReply, Command, Records, Target};
use crate::message::{MessageError, MessageView, Receipt, Terms};
use crate::postbox::{Postbox, Published, Return, Ticket};
use ratatoskr_log::RecordBatch;
use ratatoskr_state::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};

/// See the file's head.
pub struct Draft {
    target: Target,
    batch: RecordBatch,
    terms: Terms,
    /// What the topic allows a payload.
    payload_bytes_max: u32,
    now_ms: u64,
    /// Bytes of the messages, as limits count them.
    bytes: usize,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("messages", &self.batch.count()).finish_non_exhaustive()
    }
}

/// Why a draft does not take a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It cannot be as it is.
    Message(MessageError),
    /// It is due later: not for a draft.
    Later,
    /// The draft has as many messages, or bytes, as a batch may have.
    Full,
}

impl Draft {
    /// Adds a message.
    pub fn push<S: AsRef<str>>(&mut self, message: &MessageView<'_, S>) -> Result<(), Refused> {
        if message.due_ms(self.now_ms).is_some() {
            return Err(Refused::Later);
        }
        message.validate(self.payload_bytes_max, self.now_ms).map_err(Refused::Message)?;
        self.bytes += message.size_bytes();
        if self.batch.count() as usize == BATCH_MESSAGES_MAX || self.bytes > BATCH_BYTES_MAX {
            return Err(Refused::Full);
        }
        message.push_into(&mut self.batch, &mut self.terms, self.now_ms);
        Ok(())
    }

    /// Messages in it.
    pub fn count(&self) -> u32 {
        self.batch.count()
    }

    /// Bytes of its records: what it takes in the inbox.
    pub fn record_bytes(&self) -> usize {
        self.batch.len()
    }
}

impl Broker {
    /// A draft for a topic, which is created if missing, with room for `bytes` of records.
    pub fn draft(&self, topic: &str, bytes: usize) -> Result<Draft, TopicNameError> {
        let known = self.core().topics.read().get(topic).cloned();
        let (target, payload_bytes_max) = match known {
            Some(topic) => {
                let bytes_max = topic.message_bytes_max();
                (Target::Topic(topic), bytes_max)
            }
            None => self.target(&TopicName::parse(topic)?),
        };
        Ok(Draft {
            target,
            batch: RecordBatch::with_capacity(bytes),
            terms: Terms::default(),
            payload_bytes_max,
            now_ms: self.now_ms(),
            bytes: 0,
        })
    }

    /// A postbox, for [`Broker::submit`].
    pub fn open_postbox(&self) -> Arc<Postbox> {
        self.core().postboxes.open(Arc::downgrade(self.core()))
    }

    /// Publishes a draft that has messages, all or none, with consecutive offsets but for duplicates. What becomes of it comes into the postbox
    /// with the ticket. `Err` gives draft and ticket back: the inbox has no room now; [`Broker::submit_when_room`] waits for it.
    pub fn submit(
        &self,
        draft: Draft,
        postbox: &Arc<Postbox>,
        ticket: Ticket,
    ) -> Result<(), Box<(Draft, Ticket)>> {
        let Draft { target, batch, terms, payload_bytes_max, now_ms, bytes } = draft;
        let room = batch.len();
        let reply = AppendReply::Postbox(Return::new(postbox, ticket));
        let command = Command::Append { records: Records { target, batch, terms }, bytes: room, reply };
        match self.core().inbox.try_send(command, room) {
            // Closed: the command is dropped, and its way back says so.
            Ok(_) => Ok(()),
            Err(Command::Append { records: Records { target, batch, terms }, reply, .. }) => {
                let ticket = reply.take_back().expect("what was not sent was not answered");
                Err(Box::new((Draft { target, batch, terms, payload_bytes_max, now_ms, bytes }, ticket)))
            }
            Err(_) => unreachable!("what comes back is what was sent"),
        }
    }

    /// As [`Broker::submit`], waiting for room; what is submitted meanwhile goes before it. The ticket comes back also if the answer is dropped
    /// before it was ever polled.
    pub fn submit_when_room(
        &self,
        draft: Draft,
        postbox: &Arc<Postbox>,
        ticket: Ticket,
    ) -> impl Future<Output = ()> + use<> {
        let Draft { target, batch, terms, .. } = draft;
        let room = batch.len();
        let reply = AppendReply::Postbox(Return::new(postbox, ticket));
        let command = Command::Append { records: Records { target, batch, terms }, bytes: room, reply };
        // Closed: as above.
        let core = Arc::clone(self.core());
        async move { drop(core.inbox.send(command, room).await) }
    }

    /// The receipt of the message at an index of what was submitted.
    pub fn receipt_of(&self, published: &Published, index: u32) -> Receipt {
        self.receipt(&published.0, index)
    }
}

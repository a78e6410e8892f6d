//! [`Member`]: one consumer of a durable subscription, and the seat through which the courier reaches it.
//!
//! ```text
//!   courier ──parcels──▶ seat (outbox) ──wake──▶ Member::next_batch ──▶ the consumer
//! ```
//!
//! A parcel that is delivered again carries no message: the member reads it from the log itself, so that old messages
//! cost the courier nothing.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use ratatoskr_log::{ReadError, Record};
use tokio::sync::Notify;

use super::event::{Leaving, MemberId, Outcome, Window};
use super::request::{Fate, Request, SettleError};
use super::settings::SubscriptionSettings;
use super::start::settle;
use super::token::Token;
use crate::core::{Core, Tally};
use crate::id::MessageId;
use crate::message::Message;
use crate::topic::Topic;

/// Messages one batch holds at most.
const BATCH_MESSAGES: usize = 512;
/// Bytes of payload at which a batch is handed out.
const BATCH_BYTES: usize = 256 << 10;

/// A message as a member gets it.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The message.
    pub message: Message,
    /// What settles it.
    pub token: Token,
    /// Which delivery of this message it is, 1 or more.
    pub attempt: u32,
    /// Until when it is this member's, milliseconds since the Unix epoch.
    pub lease_until_ms: u64,
}

/// Why a member gets nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberEnd {
    /// The subscription is gone.
    #[error("the subscription was deleted")]
    SubscriptionDeleted,
    /// Its topic is gone.
    #[error("the topic was deleted")]
    TopicDeleted,
    /// The broker stops.
    #[error("the broker is stopping; join again once it is back")]
    ShuttingDown,
}

/// One consumer of a durable subscription. Dropping it without [`Member::close`] counts as vanishing.
pub struct Member {
    core: Arc<Core>,
    topic: Arc<Topic>,
    subscription: u32,
    seat: Arc<Seat>,
    settings: Arc<SubscriptionSettings>,
    leaving: Leaving,
    /// Taken out of the seat, to be opened.
    parcels: VecDeque<Parcel>,
    opened: Vec<Delivered>,
}

/// How the courier reaches a member.
pub(crate) struct Seat {
    pub(crate) id: MemberId,
    pub(crate) name: Arc<str>,
    pub(crate) joined_ms: u64,
    outbox: Mutex<Outbox>,
    wake: Notify,
}

#[derive(Default)]
struct Outbox {
    parcels: VecDeque<Parcel>,
    end: Option<MemberEnd>,
}

/// A delivery on its way to a member.
pub(crate) struct Parcel {
    pub(crate) token: Token,
    pub(crate) attempt: u32,
    pub(crate) until_ms: u64,
    pub(crate) record: Option<Record>,
}

impl Seat {
    pub(crate) fn new(id: MemberId, name: String, joined_ms: u64) -> Seat {
        Seat { id, name: name.into(), joined_ms, outbox: Mutex::default(), wake: Notify::new() }
    }

    pub(crate) fn push(&self, parcel: Parcel) {
        self.outbox.lock().parcels.push_back(parcel);
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes back what the member has not looked at yet.
    pub(crate) fn clear(&self) -> Vec<Token> {
        self.outbox.lock().parcels.drain(..).map(|parcel| parcel.token).collect()
    }

    pub(crate) fn end(&self, end: MemberEnd) {
        let mut outbox = self.outbox.lock();
        outbox.end.get_or_insert(end);
        outbox.parcels.clear();
        drop(outbox);
        self.wake.notify_one();
    }
}

impl Member {
    pub(crate) fn new(
        core: Arc<Core>,
        topic: Arc<Topic>,
        subscription: u32,
        seat: Arc<Seat>,
        settings: Arc<SubscriptionSettings>,
    ) -> Member {
        let (leaving, parcels, opened) = (Leaving::Vanished, VecDeque::new(), Vec::new());
        Member { core, topic, subscription, seat, settings, leaving, parcels, opened }
    }

    /// The subscription's settings when the member joined.
    pub fn settings(&self) -> &SubscriptionSettings {
        &self.settings
    }

    /// The next deliveries, at least one; waits for them. Dropping the future loses nothing.
    pub async fn next_batch(&mut self) -> Result<Vec<Delivered>, MemberEnd> {
        let seat = self.seat.clone();
        loop {
            let mut woken = pin!(seat.wake.notified());
            woken.as_mut().enable();
            self.take_parcels()?;
            // A future that is dropped here leaves everything in its place.
            while let Some(parcel) = self.parcels.front() {
                let record = match &parcel.record {
                    Some(record) => Some(record.clone()),
                    None => self.read(parcel.token.offset).await,
                };
                let Some(parcel) = self.parcels.pop_front() else { break };
                self.open(&parcel, record);
            }
            if !self.opened.is_empty() {
                Tally::add(&self.core.tally.delivered_messages, self.opened.len() as u64);
                return Ok(std::mem::take(&mut self.opened));
            }
            woken.await;
        }
    }

    /// Changes what it may hold.
    pub fn set_window(&self, window: Window) {
        let (subscription, member) = (self.subscription, self.seat.id);
        let _ = self.core.courier.push(Request::Widen { subscription, member, window });
    }

    /// Settles deliveries: see [`crate::Broker::settle`].
    pub fn settle(
        &self,
        settlements: Vec<(Token, Outcome)>,
    ) -> Result<impl Future<Output = Vec<Fate>> + Send + use<>, SettleError> {
        settle(&self.core, settlements)
    }

    /// Goes in order: what it holds goes back, and the attempts do not count.
    pub fn close(mut self) {
        self.leaving = Leaving::InOrder;
    }

    /// Goes, and what it holds stays leased until it is settled or the lease ends.
    pub fn detach(mut self) {
        self.leaving = Leaving::Detached;
    }

    fn take_parcels(&mut self) -> Result<(), MemberEnd> {
        let mut outbox = self.seat.outbox.lock();
        if let Some(end) = outbox.end {
            return Err(end);
        }
        let mut bytes = 0;
        while self.parcels.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let Some(parcel) = outbox.parcels.pop_front() else { break };
            bytes += parcel.record.as_ref().map_or(0, |record| record.body.bytes());
            self.parcels.push_back(parcel);
        }
        if !outbox.parcels.is_empty() {
            // There is more than one batch: the next look finds it without being woken again.
            self.seat.wake();
        }
        Ok(())
    }

    /// Makes a delivery of a parcel, unless its message is in the log no more.
    fn open(&mut self, parcel: &Parcel, record: Option<Record>) {
        let (token, attempt, lease_until_ms) = (parcel.token, parcel.attempt, parcel.until_ms);
        let Some(record) = record else {
            let _ = self.core.courier.push(Request::Lost { token });
            return;
        };
        let (number, mask) = (self.topic.log.number, self.core.id_mask);
        let message = Message {
            topic: self.topic.name.clone(),
            id: MessageId::new(mask, number, record.offset, record.timestamp_ms),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            body: record.body,
        };
        self.opened.push(Delivered { message, token, attempt, lease_until_ms });
    }

    /// Reads one record, on a thread that may wait for the disk. What cannot be read now is tried again when the lease has ended.
    async fn read(&self, offset: u64) -> Option<Record> {
        let topic = self.topic.clone();
        let read = tokio::task::spawn_blocking(move || topic.log.read_at(offset)).await.ok()?;
        match read {
            Ok(record) => record,
            Err(error @ (ReadError::Damaged { .. } | ReadError::Io { .. })) => {
                tracing::error!(topic = %self.topic.name, offset, %error, "a message cannot be delivered");
                None
            }
            Err(ReadError::Trimmed { .. }) => None,
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let (subscription, member) = (self.subscription, self.seat.id);
        let leaving = self.leaving;
        let opened = self.opened.iter().map(|delivered| delivered.token);
        let unseen = self.parcels.iter().map(|parcel| parcel.token).chain(opened).collect();
        // A closed inbox means the broker stops: nobody holds anything any more.
        let _ = self.core.courier.push(Request::Leave { subscription, member, leaving, unseen });
    }
}

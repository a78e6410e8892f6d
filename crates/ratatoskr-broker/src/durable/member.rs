//! [`Member`]: one consumer of a durable subscription, and the member queue through which the dispatcher reaches it.
//!
//! ```text
//!   dispatcher ──deliveries──▶ member queue (outgoing deliveries) ──wake──▶ Member::next_batch ──▶ the consumer
//! ```
//!
//! A message that is delivered again carries no message: the member reads it from the log itself, so that old messages
//! cost the dispatcher nothing; those that are not in memory any more are read together, by a thread that may wait for the disk. A message that
//! cannot be read now goes back unharmed; only what is in the log no more is lost. A batch is bounded by what its messages really
//! weigh, which is known once they are read; what does not fit waits for the next one.

use ratatoskr_state::SubscriptionSettings;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use ratatoskr_log::{ReadError, Record};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::event::{Leaving, MemberId, Outcome, Window};
use super::record_reader::RecordReader;
use super::registration::Registration;
use super::request::{Fate, Request, SettleError};
use super::start::settle;
use super::token::Token;
use crate::core::{Core, LiveCounters};
use crate::id::MessageId;
use crate::message::Message;
use crate::topic::Topic;
use ratatoskr_state::limits::READ_AHEAD_BYTES_MAX;

/// Messages one batch holds at most.
const BATCH_MESSAGES: usize = 512;
/// Bytes of messages (keys and metadata, too) one batch holds at most, unless it is a single message.
const BATCH_BYTES: usize = 256 << 10;
/// A message that cannot be read goes back after so long, or after half of what is left of its lease.
const READ_RETRY: Duration = Duration::from_secs(1);
/// But not before this, half of the shortest lease there is.
const READ_PAUSE_MIN: Duration = Duration::from_millis(50);

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
    /// It was unsubscribed, by its reference.
    #[error("the member was unsubscribed")]
    Unsubscribed,
    /// The broker stops.
    #[error("the broker is stopping; join again once it is back")]
    ShuttingDown,
}

/// One consumer of a durable subscription. Dropping it without [`Member::close`] counts as vanishing: a message it held alone has used up an
/// attempt, several are delivered again one at a time, after the retry delay.
pub struct Member {
    core: Arc<Core>,
    /// Takes it out of the subscription when it is dropped.
    registration: Registration,
    topic: Arc<Topic>,
    settings: Arc<SubscriptionSettings>,
    /// There was no subscription before it joined.
    pub(super) has_created: bool,
    /// Taken out of the member queue, to be opened.
    deliveries: VecDeque<MemberDelivery>,
    /// Messages of them that are being read.
    reading: Option<JoinHandle<Vec<(u64, Found)>>>,
    /// What could not be read, and the task that gives it back after a pause.
    put_off: Vec<(JoinHandle<()>, Vec<Token>)>,
}

/// Changes what a member may hold; see [`Member::window_setter`].
pub struct WindowSetter {
    core: Arc<Core>,
    subscription: u32,
    member: MemberId,
}

impl WindowSetter {
    /// Changes what the member may hold.
    pub fn set(&self, window: Window) {
        let (subscription, member) = (self.subscription, self.member);
        let _ = self.core.dispatcher.push(Request::Widen { subscription, member, window });
    }

    /// Says that the member is alive. Settlements say so by themselves; this is for those that are refused before they reach it.
    pub fn keep_alive(&self) {
        let (subscription, member) = (self.subscription, self.member);
        let _ = self.core.dispatcher.push(Request::Heard { subscription, member });
    }
}

/// How the dispatcher reaches a member.
pub(crate) struct MemberQueue {
    pub(crate) id: MemberId,
    pub(crate) name: Arc<str>,
    pub(crate) joined_ms: u64,
    /// What ends it when given to [`crate::Broker::end_member`].
    pub(crate) reference: Uuid,
    outgoing: Mutex<OutgoingDeliveries>,
    wake: Notify,
}

#[derive(Default)]
struct OutgoingDeliveries {
    deliveries: VecDeque<MemberDelivery>,
    /// Bytes of the messages among them that are at hand.
    bytes: u64,
    end: Option<MemberEnd>,
}

/// A delivery on its way to a member.
pub(crate) struct MemberDelivery {
    pub(crate) token: Token,
    pub(crate) attempt: u32,
    pub(crate) until_ms: u64,
    pub(crate) bytes: u32,
    pub(crate) record: Option<Record>,
}

impl MemberDelivery {
    fn bytes_at_hand(&self) -> u64 {
        self.record.as_ref().map_or(0, |_| self.bytes.into())
    }
}

/// What reading a message came to.
type Found = Result<Option<Record>, ReadError>;

impl MemberQueue {
    pub(crate) fn new(id: MemberId, name: String, joined_ms: u64) -> MemberQueue {
        // From the system: whoever knows other references must not be able to tell this one.
        let reference = Uuid::new_v4();
        MemberQueue {
            id,
            name: name.into(),
            joined_ms,
            reference,
            outgoing: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Puts a delivery in. Beyond [`READ_AHEAD_BYTES_MAX`] that the member has not looked at, it has to read messages by itself.
    pub(crate) fn push(&self, mut member_delivery: MemberDelivery) {
        let mut outgoing = self.outgoing.lock();
        if outgoing.bytes >= READ_AHEAD_BYTES_MAX {
            member_delivery.record = None;
        }
        outgoing.bytes += member_delivery.bytes_at_hand();
        outgoing.deliveries.push_back(member_delivery);
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes back what the member has not looked at yet.
    pub(crate) fn clear(&self) -> Vec<Token> {
        let mut outgoing = self.outgoing.lock();
        outgoing.bytes = 0;
        outgoing.deliveries.drain(..).map(|member_delivery| member_delivery.token).collect()
    }

    /// Takes back what the member has not looked at, as far as it is meant.
    pub(crate) fn take_back(&self, is_meant: impl Fn(u64) -> bool) -> Vec<Token> {
        let mut outgoing = self.outgoing.lock();
        let (gone, kept): (VecDeque<_>, _) =
            outgoing.deliveries.drain(..).partition(|member_delivery| is_meant(member_delivery.token.offset));
        outgoing.deliveries = kept;
        outgoing.bytes -= gone.iter().map(MemberDelivery::bytes_at_hand).sum::<u64>();
        gone.into_iter().map(|member_delivery| member_delivery.token).collect()
    }

    pub(crate) fn end(&self, end: MemberEnd) {
        let mut outgoing = self.outgoing.lock();
        outgoing.end.get_or_insert(end);
        drop(outgoing);
        self.wake.notify_one();
    }
}

impl Member {
    pub(crate) fn new(
        mut registration: Registration,
        topic: Arc<Topic>,
        settings: Arc<SubscriptionSettings>,
    ) -> Member {
        registration.leaving = Leaving::Vanished;
        let (core, deliveries, reading, put_off) =
            (registration.core.clone(), VecDeque::new(), None, Vec::new());
        Member { core, registration, topic, settings, has_created: false, deliveries, reading, put_off }
    }

    /// The subscription's settings when the member joined.
    pub fn settings(&self) -> &SubscriptionSettings {
        &self.settings
    }

    /// True when joining has created the subscription.
    pub fn has_created(&self) -> bool {
        self.has_created
    }

    /// What ends it when given to [`crate::Broker::end_member`].
    pub fn reference(&self) -> Uuid {
        self.registration.member_queue.reference
    }

    /// The next deliveries, at least one; waits for them. Dropping the future loses nothing.
    pub async fn next_batch(&mut self) -> Result<Vec<Delivered>, MemberEnd> {
        let member_queue = self.registration.member_queue.clone();
        loop {
            let mut woken = pin!(member_queue.wake.notified());
            woken.as_mut().enable();
            // A future that is dropped leaves everything in its place: what was being read still is.
            if self.reading.is_none() {
                self.take_member_deliveries()?;
            }
            let found = self.read().await;
            let opened = self.open(&found);
            if !opened.is_empty() {
                LiveCounters::add(&self.core.live_counters.delivered_messages, opened.len() as u64);
                return Ok(opened);
            }
            if self.deliveries.is_empty() {
                woken.await;
            }
        }
    }

    /// Takes back what was handed out and not looked at: it comes again with the next batch, and goes back unharmed if there is none.
    pub fn put_back(&mut self, delivered: Vec<Delivered>) {
        self.core.live_counters.delivered_messages.fetch_sub(delivered.len() as u64, Ordering::Relaxed);
        for Delivered { message, token, attempt, lease_until_ms: until_ms } in delivered.into_iter().rev() {
            let Message { offset, timestamp_ms, body, .. } = message;
            let bytes = body.payload_bytes() as u32;
            let record = Some(Record { offset, timestamp_ms, body });
            self.deliveries.push_front(MemberDelivery { token, attempt, until_ms, bytes, record });
        }
    }

    /// Changes what it may hold.
    pub fn set_window(&self, window: Window) {
        self.window_setter().set(window);
    }

    /// Changes what it may hold, from elsewhere.
    pub fn window_setter(&self) -> WindowSetter {
        let Registration { core, subscription, member_queue, .. } = &self.registration;
        WindowSetter { core: core.clone(), subscription: *subscription, member: member_queue.id }
    }

    /// Settles deliveries: see [`crate::Broker::settle`].
    pub fn settle(
        &self,
        settlements: Vec<(Token, Outcome)>,
    ) -> Result<impl Future<Output = Vec<Fate>> + Send + use<>, SettleError> {
        settle(&self.core, settlements)
    }

    /// Leaves: what it holds goes back, and no attempt is used up. A message that has come back this way before waits for the retry delay and
    /// is delivered alone; from the eleventh time on without a settlement each one counts as an attempt.
    pub fn close(mut self) {
        self.close_when_dropped();
    }

    /// When it is dropped it will have left as with [`Member::close`].
    pub fn close_when_dropped(&mut self) {
        self.registration.leaving = Leaving::Closed;
    }

    /// When it is dropped, what it holds goes back as if it had never been delivered: for when the broker ends a stream, or nothing was seen.
    pub fn release_when_dropped(&mut self) {
        self.registration.leaving = Leaving::Unharmed;
    }

    /// Goes, and what it holds stays leased until it is settled or the lease ends.
    pub fn detach(mut self) {
        self.registration.leaving = Leaving::Detached;
    }

    fn take_member_deliveries(&mut self) -> Result<(), MemberEnd> {
        let mut outgoing = self.registration.member_queue.outgoing.lock();
        if let Some(end) = outgoing.end {
            return Err(end);
        }
        let mut bytes: usize =
            self.deliveries.iter().map(|member_delivery| member_delivery.bytes as usize).sum();
        while let Some(next) = outgoing.deliveries.front() {
            bytes += next.bytes as usize;
            let is_full = self.deliveries.len() >= BATCH_MESSAGES || bytes > BATCH_BYTES;
            if is_full && !self.deliveries.is_empty() {
                break;
            }
            let member_delivery = outgoing.deliveries.pop_front().expect("it has just been looked at");
            outgoing.bytes -= member_delivery.bytes_at_hand();
            self.deliveries.push_back(member_delivery);
        }
        if !outgoing.deliveries.is_empty() {
            // There is more than one batch: the next look finds it without being woken again.
            self.registration.member_queue.wake();
        }
        Ok(())
    }

    /// Reads the messages that deliveries do not carry: at once those in memory, the others together. Answers what was not read.
    async fn read(&mut self) -> HashMap<u64, Found> {
        if self.reading.is_none() {
            let mut cold = Vec::new();
            for member_delivery in
                self.deliveries.iter_mut().filter(|member_delivery| member_delivery.record.is_none())
            {
                member_delivery.record = self.topic.log.read_from_memory(member_delivery.token.offset);
                if member_delivery.record.is_none() {
                    cold.push(member_delivery.token.offset);
                }
            }
            if cold.is_empty() {
                return HashMap::new();
            }
            let topic = self.topic.clone();
            self.reading = Some(tokio::task::spawn_blocking(move || read_together(&topic, cold)));
        }
        let Some(reading) = &mut self.reading else { return HashMap::new() };
        let read = reading.await;
        self.reading = None;
        let failed = |member_delivery: &MemberDelivery| {
            let (path, reason) = (self.topic.name.as_str().into(), "the reading thread failed".to_owned());
            (member_delivery.token.offset, Err(ReadError::Io { path, reason }))
        };
        match read {
            Ok(found) => found.into_iter().collect(),
            Err(_) => self
                .deliveries
                .iter()
                .filter(|member_delivery| member_delivery.record.is_none())
                .map(failed)
                .collect(),
        }
    }

    /// Makes what a member gets of the deliveries whose messages are there, as many as fit a batch.
    fn open(&mut self, found: &HashMap<u64, Found>) -> Vec<Delivered> {
        let (mut opened, mut left) = (Vec::with_capacity(self.deliveries.len()), VecDeque::new());
        let (mut bytes, mut put_off) = (0, Vec::new());
        let first = self.topic.log.extent().first;
        for mut member_delivery in std::mem::take(&mut self.deliveries) {
            if member_delivery.token.offset < first {
                self.give_up(member_delivery.token, &Ok(None));
                continue;
            }
            match found.get(&member_delivery.token.offset) {
                Some(Ok(Some(record))) => member_delivery.record = Some(record.clone()),
                Some(Err(error @ ReadError::Io { .. })) => {
                    put_off.push((member_delivery, error.clone()));
                    continue;
                }
                Some(gone) => {
                    self.give_up(member_delivery.token, gone);
                    continue;
                }
                None => {}
            }
            let Some(record) = member_delivery.record.take_if(|record| {
                bytes += record.body.bytes();
                bytes <= BATCH_BYTES || opened.is_empty()
            }) else {
                left.push_back(member_delivery);
                continue;
            };
            opened.push(self.deliver(&member_delivery, record));
        }
        self.deliveries = left;
        self.put_off(&put_off);
        opened
    }

    fn deliver(&self, member_delivery: &MemberDelivery, record: Record) -> Delivered {
        let message = Message {
            topic: self.topic.name.clone(),
            id: MessageId::new(self.core.id_mask, self.topic.log.number, record.offset, record.timestamp_ms),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            body: record.body,
        };
        let (token, attempt, lease_until_ms) =
            (member_delivery.token, member_delivery.attempt, member_delivery.until_ms);
        Delivered { message, token, attempt, lease_until_ms }
    }

    /// Tells the dispatcher that a message is in the log no more, or will never be readable.
    fn give_up(&self, token: Token, gone: &Found) {
        if let Err(error @ ReadError::Damaged { .. }) = gone {
            tracing::error!(topic = %self.topic.name, offset = token.offset, %error, "a message cannot be delivered any more");
        }
        let _ = self.core.dispatcher.push(Request::Lost { token });
    }

    /// Gives back, after a pause and while they are still leased, messages that cannot be read now.
    fn put_off(&mut self, unread: &[(MemberDelivery, ReadError)]) {
        let Some((_, error)) = unread.first() else { return };
        tracing::error!(topic = %self.topic.name, messages = unread.len(), %error, "messages cannot be delivered now; tried again in a second");
        let until_ms = unread.iter().map(|(member_delivery, _)| member_delivery.until_ms).min().unwrap_or(0);
        // The lease itself runs by the steady clock: after a jump of the wall clock this is a guess, and so kept within bounds.
        let left = Duration::from_millis(until_ms.saturating_sub(self.core.now_ms()));
        let pause = READ_RETRY.min(left / 2).max(READ_PAUSE_MIN);
        let tokens: Vec<Token> = unread.iter().map(|(member_delivery, _)| member_delivery.token).collect();
        let settlements = tokens.iter().map(|&token| (token, Outcome::Release)).collect();
        let core = self.core.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let (reply, _) = tokio::sync::oneshot::channel();
            let _ = core.dispatcher.push(Request::Settle { settlements, reply });
        });
        self.put_off.retain(|(task, _)| !task.is_finished());
        self.put_off.push((task, tokens));
    }
}

/// Reads messages in order of offset, until they are enough for a batch. May block on the disk.
fn read_together(topic: &Topic, mut offsets: Vec<u64>) -> Vec<(u64, Found)> {
    offsets.sort_unstable();
    let (mut record_reader, mut bytes, mut found) = (RecordReader::new(&topic.log), 0, Vec::new());
    for offset in offsets {
        let read = record_reader.read(offset);
        bytes += if let Ok(Some(record)) = &read { record.body.bytes() } else { 0 };
        found.push((offset, read));
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    found
}

impl Drop for Member {
    fn drop(&mut self) {
        let put_off = self.put_off.iter().flat_map(|(_, tokens)| tokens.iter().copied());
        self.registration.unseen =
            self.deliveries.iter().map(|member_delivery| member_delivery.token).chain(put_off).collect();
    }
}

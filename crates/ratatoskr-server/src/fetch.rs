//! Working through a durable subscription without a two-way stream: `Pull`, and `Subscribe` with a name.
//!
//! ```text
//!   Pull       ──join──▶ Member ──batches──▶ one response ──detach──▶ leased until settled, or the lease ends
//!   Subscribe  ──join──▶ Member ──batches──▶ a stream of messages     leased as long as the stream is there
//! ```
//!
//! What is delivered here is settled by `Ack` or `Settle`, see [`crate::settle`]. A message that does not fit a pull, or has not gone out when
//! a stream ends, goes back unharmed.

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::stream;
use ratatoskr_broker::{Delivered, Durability, JoinOptions, MemberEnd, Start, SubscriptionSettings, Window};
use ratatoskr_proto as wire;
use ratatoskr_proto::{OutgoingMessage, OutgoingMessages, OutgoingPull};
use tonic::Status;

use crate::answers::AnswerMemory;
use crate::closing::Closing;
use crate::consume::Joiner;
use crate::convert::subscriptions::{receipt_of, start_or, window_from_wire};
use crate::encoding::encode_delivered;
use crate::limits::{PULL_BYTES_MAX, PULL_MESSAGES_MAX, PULL_WAIT_MAX};
use crate::memory::Held;
use crate::served::{Served, StreamEnds};
use crate::status;
use crate::subscriptions::name_from_wire;

/// `Pull`.
pub(crate) async fn pull(
    joiner: &Joiner<'_>,
    request: wire::PullRequest,
    closing: &Closing,
    memory: &AnswerMemory,
) -> Result<(OutgoingPull, Held), Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let messages = match request.messages_max {
        0 => 1,
        given if given <= PULL_MESSAGES_MAX => given,
        given => {
            let message =
                format!("messages_max is {given}; allowed are 1 to {PULL_MESSAGES_MAX}, or 0 for 1");
            return Err(status::bad_field("messages_max", &message));
        }
    };
    let message = format!("wait_ms is {}; allowed are 0 to {}", request.wait_ms, PULL_WAIT_MAX.as_millis());
    let wait = u64::try_from(request.wait_ms).map_err(|_| status::bad_field("wait_ms", &message))?;
    let wait = Duration::from_millis(wait);
    if wait > PULL_WAIT_MAX {
        return Err(status::bad_field("wait_ms", &message));
    }
    // What it holds at most, by payload; the response is bounded by what it really weighs.
    let window = Window { messages, bytes: PULL_BYTES_MAX as u64 };
    let create = Some((Start::Earliest, SubscriptionSettings::default()));
    let mut member = joiner.join(&name, JoinOptions { member: request.member, window, create }).await?;
    // Until the response is there nothing has been seen: if the call ends before, no attempt is used up.
    member.release_when_dropped();
    let (receipt, created) = (receipt_of(joiner.broker, &name.topic), member.has_created());
    let mut response = Response::default();
    let mut held = memory.hold(0)?;
    let mut patience = Box::pin(tokio::time::sleep(wait.max(PULL_GRACE)));
    while response.pulled.messages.len() < messages as usize {
        tokio::select! {
            biased;
            () = closing.clone().closed() => return Err(status::shutting_down()),
            batch = member.next_batch() => {
                let batch = batch.map_err(status::member_end)?;
                if let Err(refusal) = memory.check() {
                    member.put_back(batch);
                    if response.pulled.messages.is_empty() {
                        return Err(refusal);
                    }
                    break;
                }
                let rest = response.add(batch, receipt);
                held.set(response.bytes);
                if !rest.is_empty() {
                    member.put_back(rest);
                    break;
                }
            }
            () = &mut patience => break,
        }
        // What is there is taken; nobody waits for more once there is something.
        patience.as_mut().reset(tokio::time::Instant::now() + PULL_GRACE);
    }
    member.detach();
    Ok((OutgoingPull { deliveries: response.pulled, created }, held))
}

/// The response of a pull, and what it weighs.
#[derive(Default)]
struct Response {
    pulled: OutgoingMessages,
    bytes: usize,
}

impl Response {
    /// Adds what fits, and the first message in any case; answers what does not fit.
    fn add(&mut self, mut batch: Vec<Delivered>, receipt: Durability) -> Vec<Delivered> {
        let encoded = encode_delivered(&batch, receipt, "");
        for (index, message) in encoded.into_iter().enumerate() {
            self.bytes += OutgoingMessages::len_bytes_of(&message);
            if self.bytes > PULL_BYTES_MAX && !self.pulled.messages.is_empty() {
                return batch.split_off(index);
            }
            self.pulled.messages.push(message);
        }
        Vec::new()
    }
}

/// How long a pull looks for more that is ready, and at least for the first one.
const PULL_GRACE: Duration = Duration::from_millis(5);

/// Messages on their way to one subscriber.
pub(crate) type MessageStream = Pin<Box<dyn Stream<Item = Result<OutgoingMessage, Status>>>>;

/// `Subscribe` with the name of a durable subscription. Answers also whether that has created it.
pub(crate) async fn subscribe(
    joiner: &Joiner<'_>,
    request: wire::SubscribeRequest,
    ends: StreamEnds,
) -> Result<Subscribed, Status> {
    let name = wire::SubscriptionName { topic: request.topic, subscription: request.subscription };
    let name = name_from_wire(Some(&name))?;
    let message =
        format!("credit is {}; with a subscription, allowed are 1 to 100000, or 0 for 10", request.credit);
    let messages = u32::try_from(request.credit).map_err(|_| status::bad_field("credit", &message))?;
    let window = window_from_wire(Some(&wire::Window { messages, bytes: 0 }))
        .map_err(|_| status::bad_field("credit", &message))?;
    if !request.filter.is_empty() {
        let message = "filter is for plain subscribers; with a subscription use filter_expression";
        return Err(status::bad_field("filter", &message));
    }
    let start =
        start_or(request.start, Start::Earliest).map_err(|error| status::bad_field(error.field, &error))?;
    let settings =
        SubscriptionSettings { filter: request.filter_expression, ..SubscriptionSettings::default() };
    let options = JoinOptions { member: request.subscriber_id, window, create: Some((start, settings)) };
    let member = joiner.join(&name, options).await?;
    Ok(Subscribed {
        receipt: receipt_of(joiner.broker, &name.topic),
        reference: member.reference().to_string(),
        is_new: true,
        closed: Box::pin(ends.closing.clone().closed()),
        member: ends.serve(member),
        batch: Vec::new().into_iter(),
        encoded: Vec::new().into_iter(),
    })
}

/// One stream of `Subscribe` with a name.
pub(crate) struct Subscribed {
    /// What ends it when given to `Unsubscribe`.
    reference: String,
    /// Nothing has been sent: the first message carries the reference.
    is_new: bool,
    /// What publishers of this topic were promised.
    receipt: Durability,
    member: Served,
    closed: BoxFuture<'static, ()>,
    /// What is to go out next, and the same encoded.
    batch: std::vec::IntoIter<Delivered>,
    encoded: std::vec::IntoIter<OutgoingMessage>,
}

impl Subscribed {
    /// What ends it when given to `Unsubscribe`.
    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }

    /// True when it was created for this stream.
    pub(crate) fn has_created(&self) -> bool {
        self.member.has_created()
    }

    /// Its messages, until the end.
    pub(crate) fn into_stream(self) -> MessageStream {
        Box::pin(stream::unfold(Some(self), next_message))
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        // What has not gone out has not been seen.
        self.member.put_back(self.batch.by_ref().collect());
    }
}

async fn next_message(
    subscribed: Option<Subscribed>,
) -> Option<(Result<OutgoingMessage, Status>, Option<Subscribed>)> {
    let mut subscribed = subscribed?;
    loop {
        if let (false, Some(message)) = (subscribed.member.is_closing(), subscribed.encoded.next()) {
            subscribed.batch.next();
            return Some((Ok(message), Some(subscribed)));
        }
        let Subscribed { member, closed, .. } = &mut subscribed;
        let batch = tokio::select! {
            biased;
            () = closed => return Some((Err(status::shutting_down()), None)),
            batch = member.next_batch() => batch,
        };
        match batch {
            Ok(batch) => {
                let is_new = std::mem::take(&mut subscribed.is_new);
                let reference = if is_new { &*subscribed.reference } else { "" };
                subscribed.encoded = encode_delivered(&batch, subscribed.receipt, reference).into_iter();
                subscribed.batch = batch.into_iter();
            }
            Err(MemberEnd::Unsubscribed) => return None,
            Err(end) => return Some((Err(status::member_end(end)), None)),
        }
    }
}

//! Working through a durable subscription by a two-way stream: `Consume`.
//!
//! ```text
//!   client ──open, window, settle──▶ Listener ──settle, window──▶ broker
//!                                      │ fates to come              │
//!          ◀─fates, deliveries, ─── Consumer ◀─────batches─────── Member
//!            heartbeat when idle
//! ```
//!
//! One stream, one member. What the client sends is taken in by a task of its own ([`listening`]), so that acks are heard while the client
//! takes its time over what it was sent: a response that waits for room on the connection must not hold up a lease's extension. The member
//! goes with the stream, as [`crate::served`] says.

mod listening;

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::stream::{self, FuturesOrdered};
use futures_util::{FutureExt, StreamExt};
use ratatoskr_broker::{
    Broker, DEAD_LETTERS_SUBSCRIPTION, Durability, JoinOptions, Member, MemberEnd, Start, SubscriptionRef,
    SubscriptionSettings,
};
use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::{OutgoingMessages, OutgoingStep};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Response, Status, Streaming};

use crate::access::{Action, Gate};
use crate::answers::AnswerMemory;
use crate::convert::subscriptions::{
    receipt_of, settings_from_wire, settings_to_wire, start_or, window_from_wire,
};
use crate::encoding::encode_delivered;
use crate::guarded::may_dead_letter;
use crate::limits::{HEARTBEAT, HEARTBEAT_MS_MIN};
use crate::memory::Held;
use crate::revocable::revocable;
use crate::served::{Served, StreamEnds};
use crate::status;
use crate::subscriptions::name_from_wire;
use listening::{Ending, Heard, Listener, Telling};

/// The response stream of one `Consume` call.
pub(crate) type ConsumeStream = Pin<Box<dyn Stream<Item = Result<OutgoingStep, Status>> + Send>>;

/// The fates of a step, and what bounds them until they are sent.
type Told = ((wire::Fates, Held), Option<OwnedSemaphorePermit>);

/// Who calls, and what their requests may hold.
pub(crate) struct Asking {
    pub(crate) gate: Gate,
    pub(crate) memory: AnswerMemory,
}

/// One `Consume` call.
struct Consumer {
    /// What the client sends.
    heard: mpsc::UnboundedReceiver<Heard>,
    /// The task that listens; ends with the stream.
    listening: tokio::task::AbortHandle,
    member: Served,
    /// What publishers of this topic were promised.
    receipt: Durability,
    /// Steps whose fates are to be told, in order.
    fates: FuturesOrdered<BoxFuture<'static, Told>>,
    heartbeat: Duration,
    /// Ends when nothing was sent for so long.
    silence: Pin<Box<tokio::time::Sleep>>,
    /// Why nothing is delivered any more: what the stream ends with once all fates are told.
    end: Option<Result<(), Status>>,
    /// What to say first.
    opened: Option<wire::ConsumeOpened>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// `Consume`.
pub(crate) async fn consume(
    broker: &Broker,
    mut requests: Streaming<wire::ConsumeRequest>,
    ends: StreamEnds,
    asking: Asking,
) -> Result<Response<ConsumeStream>, Status> {
    let Asking { mut gate, memory } = asking;
    let first = requests.message().await?.and_then(|request| request.step);
    let Some(Ask::Open(open)) = first else {
        return Err(status::bad_field("step", &"the first step is not open; open the subscription first"));
    };
    let name = name_from_wire(open.name.as_ref())?;
    // The first step may come long after the head.
    gate.renew()?;
    gate.may(Action::Subscribe, name.topic.as_str())?;
    let heartbeat = match open.heartbeat_ms {
        0 => HEARTBEAT,
        given if given >= HEARTBEAT_MS_MIN => Duration::from_millis(given.unsigned_abs()),
        given => {
            let message =
                format!("heartbeat_ms is {given}; allowed are {HEARTBEAT_MS_MIN} and above, or 0 for 15000");
            return Err(status::bad_field("heartbeat_ms", &message));
        }
    };
    let fields = |error: crate::convert::FieldError| status::bad_field(error.field, &error);
    let window = window_from_wire(open.window.as_ref()).map_err(fields)?;
    let start = start_or(open.start, Start::Earliest).map_err(fields)?;
    let settings =
        settings_from_wire(open.settings.as_ref(), &SubscriptionSettings::default()).map_err(fields)?;
    let create = (!open.must_exist).then_some((start, settings));
    let joiner = Joiner { broker, gate: &gate };
    let member = joiner.join(&name, JoinOptions { member: open.member, window, create }).await?;
    // Joining takes its time, too.
    gate.renew()?;
    gate.may(Action::Subscribe, name.topic.as_str())?;
    let opened = wire::ConsumeOpened {
        settings: Some(settings_to_wire(member.settings(), name.topic.as_str(), name.name.as_str())),
        heartbeat_ms: i64::try_from(heartbeat.as_millis()).unwrap_or(i64::MAX),
        created: member.has_created(),
    };
    let (tell, heard) = mpsc::unbounded_channel();
    let listener = Listener::new(
        broker,
        requests,
        Telling { windows: member.window_setter(), tell, gate: gate.clone(), memory },
    );
    let consumer = Consumer {
        heard,
        listening: tokio::spawn(listener.run(ends.closing.clone())).abort_handle(),
        member: ends.serve(member),
        receipt: receipt_of(broker, &name.topic),
        fates: FuturesOrdered::new(),
        heartbeat,
        silence: Box::pin(tokio::time::sleep(heartbeat)),
        end: None,
        opened: Some(opened),
    };
    let steps = stream::unfold(Some(consumer), next_step);
    Ok(Response::new(revocable(Box::pin(steps), gate, Action::Subscribe, name.topic.to_string())))
}

/// Where a subscription that is created begins, and its settings.
type Creation = (Start, SubscriptionSettings);

/// Joins durable subscriptions for one call.
pub(crate) struct Joiner<'a> {
    pub(crate) broker: &'a Broker,
    /// Whose call it is: a subscription that is created by it is written down.
    pub(crate) gate: &'a Gate,
}

impl Joiner<'_> {
    /// Whoever calls may subscribe to the topic; whether they may resolve its dead letters, or create a missing subscription is found out here.
    pub(crate) async fn join(
        &self,
        name: &SubscriptionRef,
        mut options: JoinOptions,
    ) -> Result<Member, Status> {
        if name.name.as_str() == DEAD_LETTERS_SUBSCRIPTION {
            // What is acked there is resolved.
            self.gate.may(Action::Manage, name.topic.as_str())?;
        }
        options.create = self.allowed(name, options.create)?;
        let (gate, created) = (self.gate.clone(), name.clone());
        let joining = self.broker.join_noting(name, options, move || gate.note_created(&created));
        joining.await.map_err(|error| status::subscription_status(&error))
    }

    /// How a missing subscription may be created. For one that is there that was decided when it was created; it is not created anew,
    /// undecided, should it go meanwhile.
    fn allowed(&self, name: &SubscriptionRef, create: Option<Creation>) -> Result<Option<Creation>, Status> {
        let Some((_, settings)) = &create else { return Ok(None) };
        let given = settings.dead_letter_topic.as_deref();
        if self.gate.asks() && given.is_none() && self.broker.subscription_exists(name) {
            return Ok(None);
        }
        may_dead_letter(self.gate, self.broker, name, given)?;
        Ok(create)
    }
}

type Step = (Result<OutgoingStep, Status>, Option<Consumer>);

async fn next_step(consumer: Option<Consumer>) -> Option<Step> {
    let mut consumer = consumer?;
    if let Some(opened) = consumer.opened.take() {
        return Some(tell(Tell::Opened(opened), consumer));
    }
    loop {
        if consumer.fates.is_empty()
            && let Some(end) = consumer.end.take()
        {
            return end.err().map(|status| (Err(status), None));
        }
        let is_ending = consumer.end.is_some();
        let may_deliver = !is_ending && !consumer.member.is_closing();
        let Consumer { heard, member, fates, silence, .. } = &mut consumer;
        tokio::select! {
            biased;
            heard = heard.recv(), if !is_ending => match heard {
                Some(Heard::Settling(settling, permit)) => {
                    consumer.fates.push_back(settling.map(|told| (told, permit)).boxed());
                }
                Some(Heard::End(Ending::Closed)) => consumer.end = Some(Ok(())),
                Some(Heard::End(Ending::Stopping)) => consumer.end = Some(Err(status::shutting_down())),
                Some(Heard::End(Ending::Refused(status))) => consumer.end = Some(Err(status)),
                Some(Heard::End(Ending::Broken(status))) => return Some((Err(status), None)),
                // The listener says why it ends, unless it panicked.
                None => return None,
            },
            Some(((told, _held), _permit)) = fates.next(), if !fates.is_empty() => {
                return Some(tell(Tell::Fates(told), consumer));
            }
            batch = member.next_batch(), if may_deliver => match batch {
                Ok(batch) => {
                    let messages = encode_delivered(&batch, consumer.receipt, "");
                    return Some(send(OutgoingStep::Deliveries(OutgoingMessages { messages }), consumer));
                }
                Err(MemberEnd::ShuttingDown) => consumer.end = Some(Err(status::shutting_down())),
                Err(MemberEnd::Unsubscribed) => consumer.end = Some(Ok(())),
                Err(end) => return Some((Err(status::member_end(end)), None)),
            },
            () = silence.as_mut() => return Some(tell(Tell::Heartbeat(wire::Heartbeat {}), consumer)),
        }
    }
}

fn tell(step: Tell, consumer: Consumer) -> Step {
    send(OutgoingStep::Other(wire::ConsumeResponse { step: Some(step) }), consumer)
}

fn send(step: OutgoingStep, mut consumer: Consumer) -> Step {
    let next_heartbeat = tokio::time::Instant::now() + consumer.heartbeat;
    consumer.silence.as_mut().reset(next_heartbeat);
    (Ok(step), Some(consumer))
}

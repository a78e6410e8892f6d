//! Working through a durable subscription: `Consume`, `Pull`, `Subscribe` with a name, `Ack`, `Settle`.
//!
//! ```text
//!   client ──open, window, settle──▶ ┌──────────┐ ◀──batches── Member (broker)
//!          ◀─deliveries, fates────── │ Consumer │ ──settle───▶
//!          ◀─heartbeat when idle──── └──────────┘
//! ```
//!
//! One stream, one member; no task and no queue beside it. The member goes with the stream: in order when the client closed its
//! side, vanished when the stream broke.

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::stream::{self, FuturesOrdered};
use futures_util::{FutureExt, StreamExt};
use ratatoskr_broker::{
    Broker, Delivered, Durability, Fate, JoinOptions, Member, Outcome, SettleError, Start, SubscriptionRef,
    SubscriptionSettings, Token, TopicName, Window, limits,
};
use ratatoskr_proto as wire;
use ratatoskr_proto::OutgoingMessage;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use tonic::{Response, Status, Streaming};

use crate::closing::Closing;
use crate::convert::subscriptions::{
    delivered_to_wire, receipt_of, settings_from_wire, settings_to_wire, settlement_from_wire, start_or,
    window_from_wire,
};
use crate::convert::{message_from_wire, published};
use crate::limits::{HEARTBEAT, HEARTBEAT_MS_MIN, PULL_MESSAGES_MAX, PULL_WAIT_MAX, SETTLES_IN_FLIGHT_MAX};
use crate::status;
use crate::subscribe::SubscribeStream;
use crate::subscriptions::name_from_wire;

/// The response stream of one `Consume` call.
pub(crate) type ConsumeStream = Pin<Box<dyn Stream<Item = Result<wire::ConsumeResponse, Status>> + Send>>;

/// One `Consume` call.
struct Consumer {
    broker: Broker,
    requests: Streaming<wire::ConsumeRequest>,
    member: Member,
    /// What publishers of this topic were promised.
    receipt: Durability,
    /// Steps that wait for the journal, in order.
    fates: FuturesOrdered<BoxFuture<'static, wire::Fates>>,
    heartbeat: Duration,
    closed: BoxFuture<'static, ()>,
    /// The client has closed its side.
    is_closing: bool,
    /// What to say first.
    opened: Option<wire::ConsumeOpened>,
}

/// `Consume`.
pub(crate) async fn consume(
    broker: &Broker,
    mut requests: Streaming<wire::ConsumeRequest>,
    closing: &Closing,
) -> Result<Response<ConsumeStream>, Status> {
    let closed = Box::pin(closing.clone().closed());
    let first = requests.message().await?.and_then(|request| request.step);
    let Some(Ask::Open(open)) = first else {
        return Err(status::bad_field("step", &"the first step is not open; open the subscription first"));
    };
    let name = name_from_wire(open.name.as_ref())?;
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
    let member = join(broker, &name, JoinOptions { member: open.member, window, create }).await?;
    let opened = wire::ConsumeOpened {
        settings: Some(settings_to_wire(member.settings(), name.topic.as_str(), name.name.as_str())),
        heartbeat_ms: i64::try_from(heartbeat.as_millis()).unwrap_or(i64::MAX),
    };
    let consumer = Consumer {
        broker: broker.clone(),
        requests,
        member,
        receipt: receipt_of(broker, &name.topic),
        fates: FuturesOrdered::new(),
        heartbeat,
        closed,
        is_closing: false,
        opened: Some(opened),
    };
    let steps = stream::unfold(Some(consumer), next_step);
    Ok(Response::new(Box::pin(steps)))
}

async fn join(broker: &Broker, name: &SubscriptionRef, options: JoinOptions) -> Result<Member, Status> {
    broker.join(name, options).await.map_err(|error| status::subscription_status(&error))
}

type Step = (Result<wire::ConsumeResponse, Status>, Option<Consumer>);

async fn next_step(consumer: Option<Consumer>) -> Option<Step> {
    let mut consumer = consumer?;
    if let Some(opened) = consumer.opened.take() {
        return Some(tell(Tell::Opened(opened), consumer));
    }
    loop {
        if consumer.is_closing && consumer.fates.is_empty() {
            consumer.member.close();
            return None;
        }
        let (is_closing, heartbeat) = (consumer.is_closing, consumer.heartbeat);
        let may_read = !is_closing && consumer.fates.len() < SETTLES_IN_FLIGHT_MAX;
        let Consumer { requests, member, fates, closed, .. } = &mut consumer;
        tokio::select! {
            biased;
            Some(told) = fates.next(), if !fates.is_empty() => return Some(tell(Tell::Fates(told), consumer)),
            request = requests.message(), if may_read => match request {
                Ok(Some(request)) => {
                    if let Err(refusal) = consumer.take(request) {
                        return Some((Err(refusal), None));
                    }
                }
                Ok(None) => consumer.is_closing = true,
                // The stream broke: the member vanishes with it.
                Err(error) => return Some((Err(error), None)),
            },
            batch = member.next_batch(), if !is_closing => return match batch {
                Ok(batch) => {
                    let receipt = consumer.receipt;
                    let messages = batch.iter().map(|delivered| delivered_to_wire(delivered, receipt)).collect();
                    Some(tell(Tell::Deliveries(wire::Deliveries { messages }), consumer))
                }
                Err(end) => Some((Err(status::member_end(end)), None)),
            },
            () = closed => return Some((Err(status::shutting_down()), None)),
            () = tokio::time::sleep(heartbeat) => return Some(tell(Tell::Heartbeat(wire::Heartbeat {}), consumer)),
        }
    }
}

fn tell(step: Tell, consumer: Consumer) -> Step {
    (Ok(wire::ConsumeResponse { step: Some(step) }), Some(consumer))
}

impl Consumer {
    /// Takes in a step of the client.
    fn take(&mut self, request: wire::ConsumeRequest) -> Result<(), Status> {
        match request.step {
            None => Err(status::bad_field("step", &"step is missing; give window or settle")),
            Some(Ask::Open(_)) => {
                Err(status::bad_field("open", &"open comes once; open another stream instead"))
            }
            Some(Ask::Window(window)) => {
                let window = window_from_wire(Some(&window));
                self.member.set_window(window.map_err(|error| status::bad_field(error.field, &error))?);
                Ok(())
            }
            Some(Ask::Settle(step)) => {
                let settling = begin(&self.broker, step)?;
                self.fates.push_back(settling.boxed());
                Ok(())
            }
        }
    }
}

/// Hands the settlements of one step to the broker; the future tells their fates.
fn begin(
    broker: &Broker,
    step: wire::ConsumeSettle,
) -> Result<impl Future<Output = wire::Fates> + Send + use<>, Status> {
    let mut tokens = step.acks;
    let mut outcomes = vec![Outcome::Ack; tokens.len()];
    for settlement in step.settlements {
        let token = settlement.token.clone();
        let (_, outcome) =
            settlement_from_wire(settlement).map_err(|error| status::bad_field(error.field, &error))?;
        tokens.push(token);
        outcomes.push(outcome);
    }
    if tokens.len() > limits::SETTLEMENTS_MAX {
        return Err(status::settle_status(&SettleError::TooMany { settlements: tokens.len() }));
    }
    let known: Vec<(Token, Outcome)> = tokens
        .iter()
        .zip(outcomes)
        .filter_map(|(token, outcome)| Some((Token::parse(token)?, outcome)))
        .collect();
    let settling = broker.settle(known).map_err(|error| status::settle_status(&error))?;
    let sequence = step.sequence;
    Ok(async move {
        let fates = settling.await;
        let mut told = wire::Fates { sequence, ..wire::Fates::default() };
        let mut known = fates.iter();
        for token in tokens {
            let fate = if Token::parse(&token).is_some() { known.next() } else { None };
            match fate_to_wire(fate, token) {
                None => told.settled += 1,
                Some(refused) => told.refused.push(refused),
            }
        }
        told
    })
}

/// Why a message was not settled; `None` if it was.
fn fate_to_wire(fate: Option<&Fate>, token: bytes::Bytes) -> Option<wire::Fate> {
    let (code, reason) = match fate {
        Some(Fate::Settled) => return None,
        Some(Fate::Stale) => {
            (wire::FateCode::Stale, "the lease had ended, or the message was settled before".to_owned())
        }
        Some(Fate::Unknown) | None => {
            (wire::FateCode::Unknown, "the token is none of this broker's".to_owned())
        }
        Some(Fate::Unavailable(reason)) => (wire::FateCode::Unavailable, reason.to_string()),
    };
    Some(wire::Fate { token, code: code.into(), reason })
}

/// `Pull`.
pub(crate) async fn pull(
    broker: &Broker,
    request: wire::PullRequest,
    closing: &Closing,
) -> Result<wire::PullResponse, Status> {
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
    let window = Window { messages, ..Window::default() };
    let create = Some((Start::Earliest, SubscriptionSettings::default()));
    let mut member = join(broker, &name, JoinOptions { member: request.member, window, create }).await?;
    let mut deliveries: Vec<Delivered> = Vec::new();
    let mut patience = Box::pin(tokio::time::sleep(wait.max(PULL_GRACE)));
    while deliveries.len() < messages as usize {
        tokio::select! {
            biased;
            batch = member.next_batch() => match batch {
                Ok(batch) => deliveries.extend(batch),
                Err(end) => return Err(status::member_end(end)),
            },
            () = closing.clone().closed() => return Err(status::shutting_down()),
            () = &mut patience => break,
        }
        // What is there is taken; nobody waits for more once there is something.
        patience.as_mut().reset(tokio::time::Instant::now() + PULL_GRACE);
    }
    let receipt = receipt_of(broker, &name.topic);
    member.detach();
    Ok(wire::PullResponse { messages: deliveries.iter().map(|d| delivered_to_wire(d, receipt)).collect() })
}

/// How long a pull looks for more that is ready, and at least for the first one.
const PULL_GRACE: Duration = Duration::from_millis(5);

/// `Subscribe` with the name of a durable subscription.
pub(crate) async fn subscribe(
    broker: &Broker,
    request: wire::SubscribeRequest,
    closing: &Closing,
) -> Result<Response<SubscribeStream>, Status> {
    let name = wire::SubscriptionName { topic: request.topic, subscription: request.subscription };
    let name = name_from_wire(Some(&name))?;
    let message =
        format!("credit is {}; with a subscription, allowed are 1 to 100000, or 0 for 100", request.credit);
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
    let member = join(broker, &name, options).await?;
    let receipt = receipt_of(broker, &name.topic);
    let closed: BoxFuture<'static, ()> = Box::pin(closing.clone().closed());
    let batches = stream::unfold(Some((member, closed)), move |state| async move {
        let (mut member, mut closed) = state?;
        tokio::select! {
            biased;
            batch = member.next_batch() => match batch {
                Ok(batch) => {
                    let outgoing = |delivered: &Delivered| {
                        Ok(OutgoingMessage::from(&delivered_to_wire(delivered, receipt)))
                    };
                    let batch: Vec<Result<_, Status>> = batch.iter().map(outgoing).collect();
                    Some((batch, Some((member, closed))))
                }
                Err(end) => Some((vec![Err(status::member_end(end))], None)),
            },
            () = &mut closed => Some((vec![Err(status::shutting_down())], None)),
        }
    });
    Ok(Response::new(Box::pin(batches.flat_map(stream::iter))))
}

/// `Ack`.
pub(crate) async fn ack(broker: &Broker, request: wire::AckRequest) -> Result<wire::AckResponse, Status> {
    let token = if request.token.is_empty() {
        let id = ratatoskr_broker::MessageId::parse(&request.message_id).ok_or_else(|| {
            let message = format!("message_id {:?} is no message id; it is a UUID", request.message_id);
            status::bad_field("message_id", &message)
        })?;
        broker.token_of(id).await.map_err(|error| status::settle_status(&error))?
    } else {
        Some(Token::parse(&request.token).ok_or_else(|| {
            let message = format!("token has {} bytes; a delivery's token has 24", request.token.len());
            status::bad_field("token", &message)
        })?)
    };
    let Some(token) = token else { return Ok(wire::AckResponse { acknowledged: false }) };
    let message = format!("delay_ms is {}; allowed are 0 and above", request.delay_ms.unwrap_or(0));
    let delay_ms = request.delay_ms.map(u64::try_from).transpose();
    let delay_ms = delay_ms.map_err(|_| status::bad_field("delay_ms", &message))?;
    let outcome =
        if request.success { Outcome::Ack } else { Outcome::Nack { delay_ms, reason: request.reason } };
    let settling = broker.settle(vec![(token, outcome)]).map_err(|error| status::settle_status(&error))?;
    match settling.await.pop() {
        Some(Fate::Settled) => Ok(wire::AckResponse { acknowledged: true }),
        Some(Fate::Unavailable(reason)) => Err(status::unavailable(&reason)),
        _ => Ok(wire::AckResponse { acknowledged: false }),
    }
}

/// `Settle`.
pub(crate) async fn settle(
    broker: &Broker,
    request: wire::SettleRequest,
) -> Result<wire::SettleResponse, Status> {
    if request.messages.is_empty() {
        let step = wire::ConsumeSettle { settlements: request.settlements, ..wire::ConsumeSettle::default() };
        let fates = begin(broker, step)?.await;
        return Ok(wire::SettleResponse { results: Vec::new(), refused: fates.refused });
    }
    let mut acks = Vec::with_capacity(request.settlements.len());
    for (index, settlement) in request.settlements.into_iter().enumerate() {
        let (token, outcome) =
            settlement_from_wire(settlement).map_err(|error| status::bad_field(error.field, &error))?;
        if outcome != Outcome::Ack {
            return Err(status::settle_status(&SettleError::NotAnAck { index }));
        }
        let token = token.ok_or_else(|| status::settle_status(&SettleError::Stale { stale: vec![index] }))?;
        acks.push(token);
    }
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in request.messages {
        let topic =
            TopicName::parse(&message.topic).map_err(|error| status::bad_name("messages.topic", &error))?;
        let message = message_from_wire(message).map_err(|error| status::bad_field(error.field, &error))?;
        messages.push((topic, message));
    }
    let receipts = broker.settle_and_publish(acks, messages).await;
    let receipts = receipts.map_err(|error| status::settle_status(&error))?;
    Ok(wire::SettleResponse { results: receipts.iter().map(published).collect(), refused: Vec::new() })
}

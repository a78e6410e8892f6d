//! Working through a durable subscription: `Consume`, `Pull`, `Subscribe` with a name, `Ack`, `Settle`.
//!
//! ```text
//!   client ──open, window, settle──▶ listen ──settle──▶ broker
//!                                      │ fates to come      │
//!          ◀─fates, deliveries, ─── Consumer ◀──batches── Member
//!            heartbeat when idle
//! ```
//!
//! One stream, one member. What the client sends is taken in by a task of its own, so that acks are heard while the client takes its time
//! over what it was sent: a response that waits for room on the connection must not hold up a lease's extension. The member goes with
//! the stream: in order when the client closed its side or the broker stops, vanished when the stream broke.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::stream::{self, FuturesOrdered};
use futures_util::{FutureExt, StreamExt};
use ratatoskr_broker::{
    Broker, Delivered, Durability, Fate, JoinOptions, Member, MemberEnd, Outcome, SettleError, Start,
    SubscriptionRef, SubscriptionSettings, TOKEN_BYTES, Token, TopicName, Window, WindowSetter, limits,
};
use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::{OutgoingMessage, OutgoingStep};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Response, Status, Streaming};

use crate::closing::Closing;
use crate::convert::subscriptions::{
    delivered_to_wire, receipt_of, settings_from_wire, settings_to_wire, settlement_from_wire, start_or,
    window_from_wire,
};
use crate::convert::{message_from_wire, published};
use crate::encoding::{encode_delivered, encode_deliveries};
use crate::limits::{
    HEARTBEAT, HEARTBEAT_MS_MIN, PULL_BYTES_MAX, PULL_MESSAGES_MAX, PULL_WAIT_MAX, SETTLEMENTS_IN_FLIGHT_MAX,
};
use crate::status;
use crate::subscribe::SubscribeStream;
use crate::subscriptions::name_from_wire;

/// The response stream of one `Consume` call.
pub(crate) type ConsumeStream = Pin<Box<dyn Stream<Item = Result<OutgoingStep, Status>> + Send>>;

/// One `Consume` call.
struct Consumer {
    /// What the client sends.
    heard: mpsc::UnboundedReceiver<Heard>,
    /// The task that listens; ends with the stream.
    listening: tokio::task::AbortHandle,
    member: Member,
    /// What publishers of this topic were promised.
    receipt: Durability,
    /// Steps whose fates are to be told, in order.
    fates: FuturesOrdered<BoxFuture<'static, (wire::Fates, OwnedSemaphorePermit)>>,
    heartbeat: Duration,
    /// Ends when nothing was sent for so long.
    silence: Pin<Box<tokio::time::Sleep>>,
    closed: BoxFuture<'static, ()>,
    /// Why nothing is delivered any more: what the stream ends with once all fates are told.
    end: Option<Result<(), Status>>,
    /// What to say first.
    opened: Option<wire::ConsumeOpened>,
}

/// What the client has sent. Bounded by the permits of the settlements.
enum Heard {
    Settling(BoxFuture<'static, wire::Fates>, OwnedSemaphorePermit),
    /// The client has closed its side.
    Closed,
    /// The stream broke, or what came cannot be.
    Broken(Status),
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
    let (tell, heard) = mpsc::unbounded_channel();
    let consumer = Consumer {
        heard,
        listening: tokio::spawn(listen(broker.clone(), member.window_setter(), requests, tell))
            .abort_handle(),
        member,
        receipt: receipt_of(broker, &name.topic),
        fates: FuturesOrdered::new(),
        heartbeat,
        silence: Box::pin(tokio::time::sleep(heartbeat)),
        closed,
        end: None,
        opened: Some(opened),
    };
    let steps = stream::unfold(Some(consumer), next_step);
    Ok(Response::new(Box::pin(steps)))
}

async fn join(broker: &Broker, name: &SubscriptionRef, options: JoinOptions) -> Result<Member, Status> {
    broker.join(name, options).await.map_err(|error| status::subscription_status(&error))
}

/// Takes in what the client sends, whether or not it reads.
async fn listen(
    broker: Broker,
    window_setter: WindowSetter,
    mut requests: Streaming<wire::ConsumeRequest>,
    tell: mpsc::UnboundedSender<Heard>,
) {
    let room = Arc::new(Semaphore::new(SETTLEMENTS_IN_FLIGHT_MAX));
    loop {
        let heard = match requests.message().await {
            Ok(None) => Heard::Closed,
            Err(error) => Heard::Broken(error),
            Ok(Some(request)) => match request.step {
                None => Heard::Broken(status::bad_field("step", &"step is missing; give window or settle")),
                Some(Ask::Open(_)) => {
                    Heard::Broken(status::bad_field("open", &"open comes once; open another stream instead"))
                }
                Some(Ask::Window(window)) => match window_from_wire(Some(&window)) {
                    Ok(window) => {
                        window_setter.set(window);
                        continue;
                    }
                    Err(error) => Heard::Broken(status::bad_field(error.field, &error)),
                },
                Some(Ask::Settle(step)) => {
                    let settlements = step.acks.len() + step.settlements.len();
                    let permits = (settlements + 1).min(SETTLEMENTS_IN_FLIGHT_MAX) as u32;
                    let permit = room.clone().acquire_many_owned(permits).await;
                    let Ok(permit) = permit else { return };
                    Heard::Settling(begin(&broker, step).boxed(), permit)
                }
            },
        };
        let is_last = matches!(heard, Heard::Closed | Heard::Broken(_));
        if tell.send(heard).is_err() || is_last {
            return;
        }
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
            // In order: what it still holds goes back unharmed.
            consumer.member.leave_in_order();
            return end.err().map(|status| (Err(status), None));
        }
        let is_ending = consumer.end.is_some();
        let Consumer { heard, member, fates, closed, silence, .. } = &mut consumer;
        tokio::select! {
            biased;
            () = closed, if !is_ending => consumer.stop(),
            Some((told, _)) = fates.next(), if !fates.is_empty() => {
                return Some(tell(Tell::Fates(told), consumer));
            }
            Some(heard) = heard.recv(), if !is_ending => match heard {
                Heard::Settling(settling, permit) => {
                    consumer.fates.push_back(settling.map(|told| (told, permit)).boxed());
                }
                Heard::Closed => consumer.end = Some(Ok(())),
                // The member vanishes with the stream.
                Heard::Broken(status) => return Some((Err(status), None)),
            },
            batch = member.next_batch(), if !is_ending => match batch {
                Ok(batch) => {
                    let step = encode_deliveries(&batch, consumer.receipt);
                    return Some(send(step, consumer));
                }
                Err(MemberEnd::ShuttingDown) => consumer.stop(),
                Err(end) => return Some((Err(status::member_end(end)), None)),
            },
            () = silence.as_mut() => return Some(tell(Tell::Heartbeat(wire::Heartbeat {}), consumer)),
        }
    }
}

fn tell(step: Tell, consumer: Consumer) -> Step {
    send(OutgoingStep::from(&wire::ConsumeResponse { step: Some(step) }), consumer)
}

fn send(step: OutgoingStep, mut consumer: Consumer) -> Step {
    let next_heartbeat = tokio::time::Instant::now() + consumer.heartbeat;
    consumer.silence.as_mut().reset(next_heartbeat);
    (Ok(step), Some(consumer))
}

impl Consumer {
    /// The broker stops: nothing more is heard or delivered, but what was settled is told.
    fn stop(&mut self) {
        self.listening.abort();
        while let Ok(heard) = self.heard.try_recv() {
            if let Heard::Settling(settling, permit) = heard {
                self.fates.push_back(settling.map(|told| (told, permit)).boxed());
            }
        }
        self.end = Some(Err(status::shutting_down()));
    }
}

/// Hands the settlements of one step to the broker at once; the future tells their fates. What makes no sense is told so, and the
/// others go on.
fn begin(broker: &Broker, step: wire::ConsumeSettle) -> impl Future<Output = wire::Fates> + Send + use<> {
    let wire::ConsumeSettle { sequence, acks, settlements } = step;
    let mut told = wire::Fates { sequence, ..wire::Fates::default() };
    let (mut tokens, mut known) = (Vec::with_capacity(acks.len()), Vec::with_capacity(acks.len()));
    let count = acks.len() + settlements.len();
    let (acks, settlements) = if count > limits::SETTLEMENTS_MAX {
        let reason =
            format!("the step has {count} settlements; at most {} are allowed", limits::SETTLEMENTS_MAX);
        told.refused.push(invalid(&[], reason));
        (Vec::new(), Vec::new())
    } else {
        (acks, settlements)
    };
    let acks = acks.into_iter().map(|token| (token, Ok(Outcome::Ack)));
    let others = settlements.into_iter().map(|settlement| {
        let token = settlement.token.clone();
        let outcome = settlement_from_wire(settlement).map_err(|error| error.to_string());
        (
            token,
            outcome.and_then(|(_, outcome)| {
                outcome.check().map(|()| outcome).map_err(|error| error.to_string())
            }),
        )
    });
    for (token, outcome) in acks.chain(others) {
        match (Token::parse(&token), outcome) {
            (_, Err(reason)) => told.refused.push(invalid(&token, reason)),
            (Some(token), Ok(outcome)) => {
                // Not the bytes as they came: they would hold the whole request.
                tokens.push(token);
                known.push((token, outcome));
            }
            (None, Ok(_)) => told.refused.extend(fate_to_wire(&Fate::Unknown, &token)),
        }
    }
    let settling = broker.settle(known);
    async move {
        let fates = match settling {
            Ok(settling) => settling.await,
            Err(SettleError::Unavailable(reason)) => vec![Fate::Unavailable(reason); tokens.len()],
            Err(error) => {
                let refused = tokens.drain(..).map(|token| invalid(&token.to_bytes(), error.to_string()));
                told.refused.extend(refused);
                Vec::new()
            }
        };
        for (token, fate) in tokens.into_iter().zip(fates) {
            match fate_to_wire(&fate, &token.to_bytes()) {
                None => told.settled += 1,
                Some(refused) => told.refused.push(refused),
            }
        }
        told
    }
}

/// As much of a token as a token has: what is no token may be of any length.
fn cut(token: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&token[..token.len().min(TOKEN_BYTES)])
}

fn invalid(token: &[u8], reason: String) -> wire::Fate {
    wire::Fate { token: cut(token), code: wire::FateCode::Invalid.into(), reason }
}

/// Why a message was not settled; `None` if it was.
fn fate_to_wire(fate: &Fate, token: &[u8]) -> Option<wire::Fate> {
    let (code, reason) = match fate {
        Fate::Settled => return None,
        Fate::Stale => {
            (wire::FateCode::Stale, "the lease had ended, or the message was settled before".to_owned())
        }
        Fate::Unknown => (wire::FateCode::Unknown, "the token is none of this broker's".to_owned()),
        Fate::Unavailable(reason) => (wire::FateCode::Unavailable, reason.to_string()),
    };
    Some(wire::Fate { token: cut(token), code: code.into(), reason })
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
    let window = Window { messages, bytes: PULL_BYTES_MAX };
    let create = Some((Start::Earliest, SubscriptionSettings::default()));
    let mut member = join(broker, &name, JoinOptions { member: request.member, window, create }).await?;
    let mut deliveries: Vec<Delivered> = Vec::new();
    let mut patience = Box::pin(tokio::time::sleep(wait.max(PULL_GRACE)));
    while deliveries.len() < messages as usize {
        tokio::select! {
            biased;
            batch = member.next_batch() => match batch {
                Ok(batch) => deliveries.extend(batch),
                Err(end) => {
                    member.leave_in_order();
                    return Err(status::member_end(end));
                }
            },
            () = closing.clone().closed() => {
                member.leave_in_order();
                return Err(status::shutting_down());
            }
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
                    let batch: Vec<Result<OutgoingMessage, Status>> =
                        encode_delivered(&batch, receipt).into_iter().map(Ok).collect();
                    Some((batch, Some((member, closed))))
                }
                Err(end) => {
                    // The broker's own end is no fault of the member's.
                    member.leave_in_order();
                    Some((vec![Err(status::member_end(end))], None))
                }
            },
            () = &mut closed => {
                member.leave_in_order();
                Some((vec![Err(status::shutting_down())], None))
            }
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
        let fates = begin(broker, step).await;
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

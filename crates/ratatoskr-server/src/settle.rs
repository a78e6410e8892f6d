//! Settling deliveries: `Ack`, `Settle`, and the settle steps of `Consume`.
//!
//! ```text
//!   tokens, outcomes ──begin──▶ broker (at once) ┄┄ journal ┄┄▶ fates
//!                        └─ what makes no sense: a fate, too
//! ```
//!
//! Each settlement stands for itself: one that cannot be is told so and stops no other. More than one step may have are refused as a whole. `Ack` has one only, so it answers that with a status;
//! `Settle` with messages is one step, so it is refused as a whole.

use ratatoskr_broker::limits::SETTLEMENTS_MAX;
use ratatoskr_broker::{Broker, Fate, Outcome, SettleError, TOKEN_BYTES, Token, TopicName, quoted};
use ratatoskr_proto as wire;
use tonic::Status;

use crate::access::{Action, Gate};
use crate::convert::subscriptions::settlement_from_wire;
use crate::convert::{message_from_wire, published};
use crate::guarded::admit;
use crate::limits::REASONS_BYTES_MAX;
use crate::status;

/// Refuses a step with more settlements than one may have; nothing of it is settled.
pub(crate) fn check_count(step: &wire::ConsumeSettle) -> Result<(), Status> {
    let settlements = step.acks.len() + step.settlements.len();
    if settlements <= SETTLEMENTS_MAX {
        return Ok(());
    }
    let error = SettleError::TooMany { settlements, settlements_max: SETTLEMENTS_MAX };
    Err(status::settle_status(&error))
}

/// Hands the settlements of one step to the broker at once; the future tells their fates. What makes no sense is told so, and the
/// others go on. Refused as a whole if the caller may not settle one of them.
pub(crate) fn begin(
    broker: &Broker,
    gate: &Gate,
    step: wire::ConsumeSettle,
) -> Result<impl Future<Output = wire::Fates> + Send + use<>, Status> {
    let mut check = gate.settlements(broker);
    let wire::ConsumeSettle { sequence, acks, settlements } = step;
    let mut told = wire::Fates { sequence, ..wire::Fates::default() };
    let (mut tokens, mut known) = (Vec::with_capacity(acks.len()), Vec::with_capacity(acks.len()));
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
            (Some(parsed), Ok(_)) if !check.may(parsed)? => {
                told.refused.extend(fate_to_wire(&Fate::Unknown, &token));
            }
            (Some(token), Ok(outcome)) => {
                // Not the bytes as they came: they would hold the whole request.
                tokens.push(token);
                known.push((token, outcome));
            }
            (None, Ok(_)) => told.refused.extend(fate_to_wire(&Fate::Unknown, &token)),
        }
    }
    let settling = broker.settle(known);
    Ok(async move {
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
        shorten_reasons(&mut told.refused);
        told
    })
}

/// Leaves the codes of all and the reasons of the first: 100,000 reasons would be more than clients take in one message.
fn shorten_reasons(refused: &mut [wire::Fate]) {
    let mut bytes = 0;
    for fate in refused {
        bytes += fate.reason.len();
        if bytes > REASONS_BYTES_MAX {
            fate.reason = String::new();
        }
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

/// `Ack`.
pub(crate) async fn ack(
    broker: &Broker,
    gate: &Gate,
    request: wire::AckRequest,
) -> Result<wire::AckResponse, Status> {
    let token = if request.token.is_empty() {
        let id = ratatoskr_broker::MessageId::parse(&request.message_id).ok_or_else(|| {
            let message =
                format!("message_id {} is no message id; it is a UUID", quoted(&request.message_id));
            status::bad_field("message_id", &message)
        })?;
        match broker.topic_of_message(id) {
            None => None,
            Some(topic) => {
                // By the topic the id itself says, before anybody looks for a lease, which comes and goes.
                gate.may_unnamed(Action::Subscribe, topic.as_str())?;
                broker.token_of(id).await.map_err(|error| status::settle_status(&error))?
            }
        }
    } else {
        let token = Token::parse(&request.token).ok_or_else(|| {
            let message = format!("token has {} bytes; a delivery's token has 24", request.token.len());
            status::bad_field("token", &message)
        })?;
        gate.settlements(broker).may(token)?.then_some(token)
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
    gate: &Gate,
    request: wire::SettleRequest,
) -> Result<wire::SettleResponse, Status> {
    if request.messages.is_empty() {
        let step = wire::ConsumeSettle { settlements: request.settlements, ..wire::ConsumeSettle::default() };
        check_count(&step)?;
        let fates = begin(broker, gate, step)?.await;
        return Ok(wire::SettleResponse { results: Vec::new(), refused: fates.refused });
    }
    let (mut acks, mut check) = (Vec::with_capacity(request.settlements.len()), gate.settlements(broker));
    for (index, settlement) in request.settlements.into_iter().enumerate() {
        let (token, outcome) =
            settlement_from_wire(settlement).map_err(|error| status::bad_field(error.field, &error))?;
        if outcome != Outcome::Ack {
            return Err(status::settle_status(&SettleError::NotAnAck { index }));
        }
        let is_stale = || status::settle_status(&SettleError::Stale { stale: vec![index] });
        let token = token.ok_or_else(is_stale)?;
        if !check.may(token)? {
            return Err(is_stale());
        }
        acks.push(token);
    }
    let _permits = admit(gate, broker, "", &request.messages)?;
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

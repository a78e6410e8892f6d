//! Settling deliveries: `Ack`, `Settle`, and the settle steps of `Consume`.
//!
//! ```text
//!   tokens, outcomes ──begin──▶ broker (at once) ┄┄ journal ┄┄▶ fates
//!                        └─ what makes no sense: a fate, too
//! ```
//!
//! Each settlement stands for itself: one that cannot be is told so and stops no other. More than one step may have are refused as a whole. `Ack` has one only, so it answers that with a status;
//! `Settle` with messages is one step, so it is refused as a whole.

use bytes::Bytes;
use prost::Message as _;
use ratatoskr_broker::limits::SETTLEMENTS_MAX;
use ratatoskr_broker::{Broker, Fate, Outcome, SettleError, TOKEN_BYTES, Token, TopicName, quoted};
use ratatoskr_proto as wire;
use tonic::Status;

use crate::access::{Action, Gate};
use crate::answers::AnswerMemory;
use crate::convert::subscriptions::settlement_from_wire;
use crate::convert::{message_from_wire, published};
use crate::guarded::admit;
use crate::limits::{
    METADATA_ENTRY_BYTES, REASONS_BYTES_MAX, RECEIPT_BYTES, SETTLE_SETTLEMENTS_MAX, SETTLEMENT_BYTES,
};
use crate::memory::Held;
use crate::status;

/// Refuses a step with more settlements than one may have; nothing of it is settled.
pub(crate) fn check_count(step: &wire::ConsumeSettle) -> Result<(), Status> {
    check_at_most(SETTLEMENTS_MAX, step.acks.len() + step.settlements.len())
}

fn check_at_most(settlements_max: usize, settlements: usize) -> Result<(), Status> {
    if settlements <= settlements_max {
        return Ok(());
    }
    Err(status::settle_status(&SettleError::TooMany { settlements, settlements_max }))
}

/// Bytes that a step holds until its fates are told.
pub(crate) fn step_bytes(step: &wire::ConsumeSettle) -> usize {
    step.encoded_len() + (step.acks.len() + step.settlements.len()) * SETTLEMENT_BYTES
}

/// Hands the settlements of one step to the broker at once; the future tells their fates, with what is held for them
/// ([`step_bytes`]) until they are sent. What makes no sense is told so, and the others go on: they are counted. Refused as a whole if the
/// caller may not settle one of them.
pub(crate) fn begin(
    broker: &Broker,
    gate: &Gate,
    step: wire::ConsumeSettle,
    held: Held,
) -> Result<(usize, impl Future<Output = (wire::Fates, Held)> + Send + use<>), Status> {
    let mut check = gate.settlements(broker);
    let wire::ConsumeSettle { sequence, acks, settlements } = step;
    let mut told = Told::new(sequence);
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
            (_, Err(reason)) => told.refuse(&token, wire::FateCode::Invalid, &reason),
            (Some(parsed), Ok(_)) if !check.may(parsed)? => told.fate(&token, &Fate::Unknown),
            (Some(token), Ok(outcome)) => {
                // Not the bytes as they came: they would hold the whole request.
                tokens.push(token);
                known.push((token, outcome));
            }
            (None, Ok(_)) => told.fate(&token, &Fate::Unknown),
        }
    }
    let accepted = known.len();
    let settling = broker.settle(known);
    let fates = async move {
        let fates = match settling {
            Ok(settling) => settling.await,
            Err(SettleError::Unavailable(reason)) => vec![Fate::Unavailable(reason); tokens.len()],
            Err(error) => {
                let reason = error.to_string();
                for token in tokens.drain(..) {
                    told.refuse(&token.to_bytes(), wire::FateCode::Invalid, &reason);
                }
                Vec::new()
            }
        };
        for (token, fate) in tokens.into_iter().zip(fates) {
            told.fate(&token.to_bytes(), &fate);
        }
        (told.fates, held)
    };
    Ok((accepted, fates))
}

/// What a step is told: the codes of all, and the reasons of the first. 100,000 reasons would be more than clients take in one message.
struct Told {
    fates: wire::Fates,
    /// Bytes of reasons that may follow.
    reason_bytes_left: usize,
}

impl Told {
    fn new(sequence: u64) -> Told {
        let fates = wire::Fates { sequence, ..wire::Fates::default() };
        Told { fates, reason_bytes_left: REASONS_BYTES_MAX }
    }

    fn fate(&mut self, token: &[u8], fate: &Fate) {
        match fate {
            Fate::Settled => self.fates.settled += 1,
            Fate::Stale => {
                let reason = "the lease had ended, or the message was settled before";
                self.refuse(token, wire::FateCode::Stale, reason);
            }
            Fate::Unknown => {
                self.refuse(token, wire::FateCode::Unknown, "the token is none of this broker's");
            }
            Fate::Unavailable(reason) => {
                self.refuse(token, wire::FateCode::Unavailable, &reason.to_string());
            }
        }
    }

    fn refuse(&mut self, token: &[u8], code: wire::FateCode, reason: &str) {
        let reason = if reason.len() <= self.reason_bytes_left {
            self.reason_bytes_left -= reason.len();
            reason.to_owned()
        } else {
            // Nor of what follows, however short: which have one should not look random.
            self.reason_bytes_left = 0;
            String::new()
        };
        // As much of a token as a token has: what is no token may be of any length.
        let token = Bytes::copy_from_slice(&token[..token.len().min(TOKEN_BYTES)]);
        self.fates.refused.push(wire::Fate { token, code: code.into(), reason });
    }
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
            // By the topic the id itself says, before anybody looks for a lease, which comes and goes.
            Some(topic) if !gate.may_unnamed(Action::Subscribe, topic.as_str())? => None,
            Some(_) => {
                let token = broker.token_of(id).await.map_err(|error| status::settle_status(&error))?;
                match token {
                    // The lease may be one of a subscription that takes more.
                    Some(token) if gate.settlements(broker).may(token)? => Some(token),
                    _ => None,
                }
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

/// `Settle`. What it answers is sent with what was held for it.
pub(crate) async fn settle(
    broker: &Broker,
    gate: &Gate,
    request: wire::SettleRequest,
    memory: &AnswerMemory,
) -> Result<(wire::SettleResponse, Held), Status> {
    if request.messages.is_empty() {
        let step = wire::ConsumeSettle { settlements: request.settlements, ..wire::ConsumeSettle::default() };
        check_at_most(SETTLE_SETTLEMENTS_MAX, step.settlements.len())?;
        let held = memory.hold_request(step_bytes(&step))?;
        let (fates, held) = begin(broker, gate, step, held)?.1.await;
        return Ok((wire::SettleResponse { results: Vec::new(), refused: fates.refused }, held));
    }
    let entries: usize = request.messages.iter().map(|message| message.metadata.len()).sum();
    let values = request.settlements.len() * SETTLEMENT_BYTES
        + request.messages.len() * RECEIPT_BYTES
        + entries * METADATA_ENTRY_BYTES;
    let held = memory.hold_request(request.encoded_len() + values)?;
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
    let results = receipts.iter().map(published).collect();
    Ok((wire::SettleResponse { results, refused: Vec::new() }, held))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ratatoskr_broker::BrokerConfig;

    use super::*;
    use crate::access::{Access, AccessRule, Audit, Peer, Visitor};
    use crate::memory::Budget;
    use crate::traffic::Traffic;

    struct Caller {
        broker: Broker,
        gate: Gate,
        memory: AnswerMemory,
        _data: tempfile::TempDir,
    }

    /// A caller that may hold so many bytes.
    fn caller(bytes_max: usize) -> Caller {
        let data = tempfile::tempdir().unwrap();
        let access = Arc::new(Access::new(&AccessRule::Open, Audit::to_log()).unwrap());
        let visitor = Arc::new(Visitor::new(access, Peer::nowhere()));
        let budget = Budget::of_callers(bytes_max);
        Caller {
            broker: Broker::open(BrokerConfig::new(data.path())).unwrap(),
            gate: Gate::enter(&visitor, None, "Settle").unwrap(),
            memory: AnswerMemory { budget, traffic: Arc::<Traffic>::default() },
            _data: data,
        }
    }

    fn request(settlements: usize) -> wire::SettleRequest {
        let ack = Some(wire::settlement::Outcome::Ack(wire::Done {}));
        let settlement = wire::Settlement { token: vec![7; TOKEN_BYTES].into(), outcome: ack };
        wire::SettleRequest { settlements: vec![settlement; settlements], messages: Vec::new() }
    }

    #[tokio::test]
    async fn settlements_are_held_until_their_fates_are_sent_and_refused_when_no_memory_is_left() {
        let Caller { broker, gate, memory, _data } = caller(1 << 20);
        let (response, held) = settle(&broker, &gate, request(10_000), &memory).await.unwrap();
        assert_eq!(response.refused.len(), 10_000);
        assert!(memory.budget.held() >= 10_000 * SETTLEMENT_BYTES);
        let refused = settle(&broker, &gate, request(10_000), &memory).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        let mut publishing = request(0);
        publishing.messages =
            vec![wire::PublishRequest { payload: vec![0; 100_000].into(), ..Default::default() }];
        let refused = settle(&broker, &gate, publishing, &memory).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        drop(held);
        assert_eq!(memory.budget.held(), 0);
        settle(&broker, &gate, request(1), &memory).await.unwrap();
        broker.shutdown().unwrap();
    }

    #[test]
    fn all_fates_have_codes_and_the_first_have_reasons() {
        let mut told = Told::new(1);
        for _ in 0..100_000 {
            told.fate(&[7; 1000], &Fate::Unknown);
        }
        let reasons: usize = told.fates.refused.iter().map(|fate| fate.reason.len()).sum();
        assert!((REASONS_BYTES_MAX - 100..=REASONS_BYTES_MAX).contains(&reasons), "{reasons}");
        assert!(told.fates.refused.iter().all(|fate| fate.code() == wire::FateCode::Unknown));
        assert!(told.fates.refused[0].token.len() == TOKEN_BYTES && !told.fates.refused[0].reason.is_empty());
        assert!(told.fates.refused[99_999].reason.is_empty());
    }
}

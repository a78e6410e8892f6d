//! What a member says about a message it was given ([`Outcome`]), and why that may come to nothing ([`SettleError`]).

use std::time::Duration;

use bytes::Bytes;
use ratatoskr_proto as wire;
use ratatoskr_proto::settlement::Outcome as WireOutcome;
use ratatoskr_proto::{Fate, FateCode};
use tonic::Code;

use crate::error::ClientError;

/// Bytes of a reason that the broker takes.
const REASON_BYTES_MAX: usize = 1024;
/// The shortest and the longest lease, and the longest delay, that the broker takes.
const LEASE_MIN: Duration = Duration::from_millis(100);
const LEASE_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// What is to become of a delivered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ack,
    /// Could not be handled: again later.
    Nack {
        /// After this time, at most 12 hours; `None`: by the subscription's retry schedule.
        delay: Option<Duration>,
        /// Why, for people to read. Beyond 1,024 bytes it is cut off.
        reason: String,
    },
    /// Still at it: leased for longer.
    Extend {
        /// From now on, 100 ms to 12 hours; `None`: the subscription's lease.
        lease: Option<Duration>,
    },
    /// Can never be handled: to the dead letters at once.
    Reject {
        /// Why, for people to read. Beyond 1,024 bytes it is cut off.
        reason: String,
    },
    /// Not looked at: again at once, and this attempt does not count.
    Release,
}

/// What is to become of one delivered message, for [`Client::settle`](crate::Client::settle).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The delivery's token: [`Message::token`](crate::Message) or [`Delivery::token`](crate::Delivery::token).
    pub token: Bytes,
    /// What is to become of it.
    pub outcome: Outcome,
}

/// Why a message was not settled as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The lease had ended, or the message was settled before. Stop: the message is or was somebody else's.
    #[error(
        "the lease had ended, or the message was settled before; it is settled already, or delivered again"
    )]
    Stale,
    /// The broker could not write it down. The lease goes on: try again.
    #[error("{reason}; the lease goes on, try again")]
    Unavailable {
        /// Why, in the broker's words.
        reason: String,
    },
    /// The connection broke before the broker answered. Stop: the message is settled, or is delivered again.
    #[error("the connection broke before the broker answered; the message is settled, or delivered again")]
    Unanswered,
    /// It could not be asked for. Fix it: nothing has happened.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

impl From<SettleError> for ClientError {
    fn from(error: SettleError) -> ClientError {
        let (code, word) = match &error {
            SettleError::Stale => (Code::FailedPrecondition, "STALE"),
            SettleError::Unavailable { .. } => (Code::Unavailable, "NOT_WRITTEN"),
            SettleError::Unanswered => (Code::Aborted, "UNANSWERED"),
            SettleError::Invalid { .. } => (Code::InvalidArgument, "INVALID_SETTLEMENT"),
        };
        ClientError::new(code, word, error.to_string())
    }
}

impl SettleError {
    /// From the broker's word.
    pub(crate) fn from_fate(fate: &Fate) -> SettleError {
        match fate.code() {
            FateCode::Unavailable => SettleError::Unavailable { reason: fate.reason.clone() },
            FateCode::Invalid => SettleError::Invalid { reason: fate.reason.clone() },
            // A token this broker does not know is of a lease that has ended with everything else of its time.
            FateCode::Stale | FateCode::Unknown | FateCode::Unspecified => SettleError::Stale,
        }
    }
}

impl Settlement {
    /// As the wire takes it. Checked here, so that a wrong one is known at once.
    pub(crate) fn into_wire(self) -> Result<wire::Settlement, SettleError> {
        let outcome = match self.outcome {
            Outcome::Ack => WireOutcome::Ack(wire::Done {}),
            Outcome::Nack { delay, reason } => {
                let delay_ms =
                    delay.map(|delay| milliseconds("the delay", delay, Duration::ZERO)).transpose()?;
                WireOutcome::Nack(wire::Nack { delay_ms, reason: cut(reason) })
            }
            Outcome::Extend { lease } => {
                let lease_ms = lease.map(|lease| milliseconds("the lease", lease, LEASE_MIN)).transpose()?;
                WireOutcome::Extend(wire::Extend { lease_ms: lease_ms.unwrap_or(0) })
            }
            Outcome::Reject { reason } => WireOutcome::Reject(wire::Reject { reason: cut(reason) }),
            Outcome::Release => WireOutcome::Release(wire::Release {}),
        };
        Ok(wire::Settlement { token: self.token, outcome: Some(outcome) })
    }
}

fn milliseconds(what: &str, given: Duration, min: Duration) -> Result<i64, SettleError> {
    if given < min || given > LEASE_MAX {
        let reason = format!("{what} is {given:?}; allowed are {min:?} to 12 hours");
        return Err(SettleError::Invalid { reason });
    }
    Ok(given.as_millis() as i64)
}

/// The beginning of a reason, as much as the broker takes.
fn cut(mut reason: String) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire_of(outcome: Outcome) -> Result<WireOutcome, SettleError> {
        let settlement = Settlement { token: Bytes::from_static(b"t"), outcome };
        settlement.into_wire().map(|wire| wire.outcome.unwrap())
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "ä".repeat(600) + "x";
        let Ok(WireOutcome::Reject(reject)) = wire_of(Outcome::Reject { reason }) else { panic!() };
        assert_eq!(reject.reason, "ä".repeat(512));
    }

    #[test]
    fn times_the_broker_would_refuse_are_told_before_they_are_sent() {
        let day = Some(Duration::from_secs(24 * 60 * 60));
        let error = wire_of(Outcome::Nack { delay: day, reason: String::new() }).unwrap_err();
        assert_eq!(error.to_string(), "the delay is 86400s; allowed are 0ns to 12 hours");
        let error = wire_of(Outcome::Extend { lease: Some(Duration::from_millis(5)) }).unwrap_err();
        assert_eq!(error.to_string(), "the lease is 5ms; allowed are 100ms to 12 hours");
        let Ok(WireOutcome::Extend(extend)) = wire_of(Outcome::Extend { lease: None }) else { panic!() };
        assert_eq!(extend.lease_ms, 0);
    }

    #[test]
    fn an_error_of_a_settlement_is_an_error_of_the_client_as_well() {
        let stale = ClientError::from(SettleError::Stale);
        assert_eq!((stale.code(), stale.reason()), (Code::FailedPrecondition, "STALE"));
        let again = ClientError::from(SettleError::Unavailable { reason: "the disk is full".to_owned() });
        assert!(again.is_retryable());
        assert_eq!(again.to_string(), "the disk is full; the lease goes on, try again");
    }
}

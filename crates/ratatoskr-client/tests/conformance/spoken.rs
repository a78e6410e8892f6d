//! The suite speaks the client's words; here they become the broker's, and what the broker answers becomes the suite's.

use std::time::Duration;

use ratatoskr_broker as broker;
use ratatoskr_broker::{
    CreateTopicError, DeleteTopicError, MemberEnd, PublishError, PurgeTopicError, SettleError,
    SubscribeError, SubscriptionEnd, SubscriptionError, Unavailable,
};
use ratatoskr_client::{Due, Durability, NewMessage, Outcome, Receipt, Seek, Start, SubscriptionSettings};

use crate::doors::Refusal;

pub(crate) fn message(given: NewMessage) -> broker::NewMessage {
    let NewMessage { payload, key, metadata, ttl, dedup_id, due, expected_offset } = given;
    let delivery = match due {
        Due::Now => broker::Delivery::Now,
        Due::At(at_ms) => broker::Delivery::At(at_ms),
        Due::After(delay) => broker::Delivery::After(ms(delay)),
    };
    let (metadata, ttl_ms) = (metadata.into_iter().collect(), ttl.map_or(0, ms));
    broker::NewMessage { payload, key, metadata, ttl_ms, dedup_id, delivery, expected_offset }
}

pub(crate) fn receipt(given: broker::Receipt) -> Receipt {
    let durability = match given.durability {
        broker::Durability::Fsync => Durability::Fsync,
        broker::Durability::Written => Durability::Written,
        broker::Durability::Memory => Durability::Memory,
    };
    Receipt {
        id: given.id.to_string(),
        offset: given.offset,
        timestamp_ms: given.timestamp_ms,
        durability,
        duplicate: given.duplicate,
        scheduled: given.scheduled,
    }
}

pub(crate) fn start(given: Start) -> broker::Start {
    match given {
        Start::Latest => broker::Start::Latest,
        Start::Earliest => broker::Start::Earliest,
        Start::Offset(offset) => broker::Start::Offset(offset),
        Start::Time(time_ms) => broker::Start::Time(time_ms),
    }
}

pub(crate) fn seek(given: Seek) -> broker::Seek {
    match given {
        Seek::To(place) => broker::Seek::To(start(place)),
        Seek::Saved(saved) => broker::Seek::Saved(saved),
        Seek::Skip(count) => broker::Seek::Skip(count),
    }
}

pub(crate) fn outcome(given: Outcome) -> broker::Outcome {
    match given {
        Outcome::Ack => broker::Outcome::Ack,
        Outcome::Nack { delay, reason } => broker::Outcome::Nack { delay_ms: delay.map(ms), reason },
        Outcome::Extend { lease } => broker::Outcome::Extend { lease_ms: lease.map(ms) },
        Outcome::Reject { reason } => broker::Outcome::Reject { reason },
        Outcome::Release => broker::Outcome::Release,
    }
}

/// Settings that are given, on top of those there are.
pub(crate) fn settings(
    given: &SubscriptionSettings,
    current: &broker::SubscriptionSettings,
) -> broker::SubscriptionSettings {
    let count = |given: Option<i64>, current: u64| given.map_or(current, i64::unsigned_abs);
    let expiry_ms = given.expiry_ms.map(i64::unsigned_abs).or(current.expiry_ms);
    broker::SubscriptionSettings {
        filter: given.filter.clone().unwrap_or_else(|| current.filter.clone()),
        ordered: given.ordered.unwrap_or(current.ordered),
        lease_ms: count(given.lease_ms, current.lease_ms),
        attempts_max: given.attempts_max.unwrap_or(current.attempts_max),
        retry_delay_ms: count(given.retry_delay_ms, current.retry_delay_ms),
        retry_delay_max_ms: count(given.retry_delay_max_ms, current.retry_delay_max_ms),
        retry_multiplier: given.retry_multiplier.unwrap_or(current.retry_multiplier),
        retry_jitter: given.retry_jitter.unwrap_or(current.retry_jitter),
        dead_letter_topic: given.dead_letter_topic.clone().or_else(|| current.dead_letter_topic.clone()),
        member_outstanding_max: given.member_outstanding_max.unwrap_or(current.member_outstanding_max),
        outstanding_max: given.outstanding_max.unwrap_or(current.outstanding_max),
        expiry_ms: expiry_ms.filter(|expiry_ms| *expiry_ms != 0),
        paused: given.paused.unwrap_or(current.paused),
    }
}

/// Whole milliseconds, and at least one of what is longer than nothing.
fn ms(given: Duration) -> u64 {
    (given.as_millis() as u64).max(u64::from(!given.is_zero()))
}

fn other(error: &impl ToString) -> Refusal {
    Refusal::Other(error.to_string())
}

impl From<Unavailable> for Refusal {
    fn from(error: Unavailable) -> Refusal {
        other(&error)
    }
}

impl From<CreateTopicError> for Refusal {
    fn from(error: CreateTopicError) -> Refusal {
        match error {
            CreateTopicError::AlreadyExists { .. } => Refusal::AlreadyExists,
            error => other(&error),
        }
    }
}

impl From<DeleteTopicError> for Refusal {
    fn from(error: DeleteTopicError) -> Refusal {
        match error {
            DeleteTopicError::NotFound { .. } => Refusal::NotFound,
            error @ DeleteTopicError::Unavailable(_) => other(&error),
        }
    }
}

impl From<PurgeTopicError> for Refusal {
    fn from(error: PurgeTopicError) -> Refusal {
        match error {
            PurgeTopicError::NotFound { .. } => Refusal::NotFound,
            error => other(&error),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Refusal {
        match error {
            PublishError::OtherOffset { .. } => Refusal::OtherOffset,
            error => other(&error),
        }
    }
}

impl From<SubscribeError> for Refusal {
    fn from(error: SubscribeError) -> Refusal {
        match error {
            SubscribeError::NotFound { .. } => Refusal::NotFound,
            error => other(&error),
        }
    }
}

impl From<SubscriptionEnd> for Refusal {
    fn from(end: SubscriptionEnd) -> Refusal {
        match end {
            SubscriptionEnd::TopicDeleted => Refusal::NotFound,
            end => other(&end),
        }
    }
}

impl From<MemberEnd> for Refusal {
    fn from(end: MemberEnd) -> Refusal {
        match end {
            MemberEnd::SubscriptionDeleted | MemberEnd::TopicDeleted => Refusal::NotFound,
            MemberEnd::Unsubscribed | MemberEnd::ShuttingDown => other(&end),
        }
    }
}

impl From<SubscriptionError> for Refusal {
    fn from(error: SubscriptionError) -> Refusal {
        match error {
            SubscriptionError::TopicNotFound(_)
            | SubscriptionError::NotFound(_)
            | SubscriptionError::NotSaved { .. } => Refusal::NotFound,
            SubscriptionError::AlreadyExists(_) => Refusal::AlreadyExists,
            SubscriptionError::Start(error) => error.into(),
            error => other(&error),
        }
    }
}

impl From<SettleError> for Refusal {
    fn from(error: SettleError) -> Refusal {
        match error {
            SettleError::Stale { .. } => Refusal::Stale,
            SettleError::Subscription(error) => error.into(),
            SettleError::Publish(error) => error.into(),
            error => other(&error),
        }
    }
}

//! Wire types of durable subscriptions to broker types and back.

use ratatoskr_broker::{
    Broker, DeadLetter, Durability, Message, Outcome, Start, SubscriptionDescription, SubscriptionSettings,
    Token, TopicName, Window, dead_letter_topic,
};
use ratatoskr_proto as wire;
use ratatoskr_proto::settlement::Outcome as WireOutcome;

use super::{FieldError, durability_to_wire, number, start_from_wire};

/// A start, or what holds when none is given.
pub(crate) fn start_or(start: Option<wire::StartPosition>, otherwise: Start) -> Result<Start, FieldError> {
    match start {
        Some(start) if start.position.is_some() => start_from_wire(Some(start)),
        _ => Ok(otherwise),
    }
}

/// Settings as given, on top of those that hold otherwise.
pub(crate) fn settings_from_wire(
    given: Option<&wire::SubscriptionSettings>,
    otherwise: &SubscriptionSettings,
) -> Result<SubscriptionSettings, FieldError> {
    let mut settings = otherwise.clone();
    let Some(given) = given else { return Ok(settings) };
    let unsigned = |field, value: i64| u64::try_from(value).map_err(|_| FieldError::negative(field, value));
    if let Some(filter) = &given.filter {
        settings.filter.clone_from(filter);
    }
    let times = [
        ("settings.lease_ms", given.lease_ms, &mut settings.lease_ms),
        ("settings.retry_delay_ms", given.retry_delay_ms, &mut settings.retry_delay_ms),
        ("settings.retry_delay_max_ms", given.retry_delay_max_ms, &mut settings.retry_delay_max_ms),
    ];
    for (field, value, setting) in times {
        if let Some(value) = value {
            *setting = unsigned(field, value)?;
        }
    }
    if let Some(expiry_ms) = given.expiry_ms {
        settings.expiry_ms =
            Some(unsigned("settings.expiry_ms", expiry_ms)?).filter(|expiry_ms| *expiry_ms > 0);
    }
    if let Some(topic) = &given.dead_letter_topic {
        settings.dead_letter_topic = Some(topic.clone()).filter(|topic| !topic.is_empty());
    }
    settings.ordered = given.ordered.unwrap_or(settings.ordered);
    settings.attempts_max = given.attempts_max.unwrap_or(settings.attempts_max);
    settings.retry_multiplier = given.retry_multiplier.unwrap_or(settings.retry_multiplier);
    settings.retry_jitter = given.retry_jitter.unwrap_or(settings.retry_jitter);
    settings.member_outstanding_max = given.member_outstanding_max.unwrap_or(settings.member_outstanding_max);
    settings.outstanding_max = given.outstanding_max.unwrap_or(settings.outstanding_max);
    settings.paused = given.paused.unwrap_or(settings.paused);
    Ok(settings)
}

/// All settings, for a subscription whose dead letters go to `dead_letters` if it does not say otherwise.
pub(crate) fn settings_to_wire(
    settings: &SubscriptionSettings,
    topic: &str,
    name: &str,
) -> wire::SubscriptionSettings {
    let dead_letters = settings.dead_letter_topic.clone().unwrap_or_else(|| dead_letter_topic(topic, name));
    wire::SubscriptionSettings {
        filter: Some(settings.filter.clone()),
        ordered: Some(settings.ordered),
        lease_ms: Some(number(settings.lease_ms)),
        attempts_max: Some(settings.attempts_max),
        retry_delay_ms: Some(number(settings.retry_delay_ms)),
        retry_delay_max_ms: Some(number(settings.retry_delay_max_ms)),
        retry_multiplier: Some(settings.retry_multiplier),
        retry_jitter: Some(settings.retry_jitter),
        dead_letter_topic: Some(dead_letters),
        member_outstanding_max: Some(settings.member_outstanding_max),
        outstanding_max: Some(settings.outstanding_max),
        expiry_ms: Some(number(settings.expiry_ms.unwrap_or(0))),
        paused: Some(settings.paused),
    }
}

/// A subscription's description.
pub(crate) fn description_to_wire(described: &SubscriptionDescription) -> wire::SubscriptionDescription {
    let (topic, subscription) = (described.name.topic.to_string(), described.name.name.to_string());
    let member = |member: &ratatoskr_broker::MemberDescription| wire::MemberDescription {
        name: member.name.clone(),
        leased: member.leased,
        window_messages: member.window.messages,
        joined_ms: number(member.joined_ms),
    };
    wire::SubscriptionDescription {
        settings: Some(settings_to_wire(&described.settings, &topic, &subscription)),
        name: Some(wire::SubscriptionName { topic, subscription }),
        created_ms: number(described.created_ms),
        lag_messages: number(described.lag_messages),
        lag_ms: number(described.lag_ms),
        oldest_unsettled_offset: number(described.oldest_unsettled_offset),
        leased: number(described.leased),
        waiting: number(described.waiting),
        parked: number(described.parked),
        parked_keys: number(described.parked_keys),
        acked: number(described.acked),
        dead: number(described.dead),
        expired: number(described.expired),
        passed: number(described.passed),
        redelivered: number(described.redelivered),
        members: described.members.iter().map(member).collect(),
        member_count: described.member_count,
        why: described.why.clone(),
        saved: described.saved.clone(),
    }
}

/// What a member may hold; 0 means the default.
pub(crate) fn window_from_wire(window: Option<&wire::Window>) -> Result<Window, FieldError> {
    let otherwise = Window::default();
    let Some(window) = window else { return Ok(otherwise) };
    let messages_max = ratatoskr_broker::limits::MEMBER_OUTSTANDING_MAX;
    if window.messages > messages_max {
        let message =
            format!("window.messages is {}; allowed are 1 to {messages_max}, or 0 for 10", window.messages);
        return Err(FieldError { field: "window.messages", message });
    }
    Ok(Window {
        messages: if window.messages == 0 { otherwise.messages } else { window.messages },
        bytes: if window.bytes == 0 { otherwise.bytes } else { window.bytes },
    })
}

/// A settlement; `None` for its token when the token cannot be one.
pub(crate) fn settlement_from_wire(
    settlement: wire::Settlement,
) -> Result<(Option<Token>, Outcome), FieldError> {
    let unsigned = |field, value: i64| u64::try_from(value).map_err(|_| FieldError::negative(field, value));
    let outcome = match settlement.outcome {
        None => {
            let message = "outcome is missing; give ack, nack, extend, reject or release".to_owned();
            return Err(FieldError { field: "settlements.outcome", message });
        }
        Some(WireOutcome::Ack(_)) => Outcome::Ack,
        Some(WireOutcome::Nack(nack)) => {
            let delay_ms = nack.delay_ms.map(|delay_ms| unsigned("nack.delay_ms", delay_ms)).transpose()?;
            Outcome::Nack { delay_ms, reason: nack.reason }
        }
        Some(WireOutcome::Extend(extend)) => {
            let lease_ms = unsigned("extend.lease_ms", extend.lease_ms)?;
            Outcome::Extend { lease_ms: (lease_ms > 0).then_some(lease_ms) }
        }
        Some(WireOutcome::Reject(reject)) => Outcome::Reject { reason: reject.reason },
        Some(WireOutcome::Release(_)) => Outcome::Release,
    };
    Ok((Token::parse(&settlement.token), outcome))
}

/// What a publisher of this topic was promised.
pub(crate) fn receipt_of(broker: &Broker, topic: &TopicName) -> Durability {
    broker.describe_topic(topic).map_or_else(Durability::default, |topic| topic.settings.durability)
}

/// A message that is looked at.
pub(crate) fn message_to_wire(message: &Message, receipt: Durability) -> wire::Message {
    wire::Message {
        id: message.id.to_string(),
        topic: message.topic.to_string(),
        payload: message.payload(),
        metadata: message.metadata().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        timestamp: number(message.timestamp_ms),
        offset: number(message.offset),
        key: message.key().to_owned(),
        receipt: durability_to_wire(receipt).into(),
        ..wire::Message::default()
    }
}

/// A dead letter.
pub(crate) fn dead_letter_to_wire(broker: &Broker, letter: &DeadLetter) -> wire::DeadLetter {
    let receipt = receipt_of(broker, &letter.message.topic);
    wire::DeadLetter {
        message: Some(message_to_wire(&letter.message, receipt)),
        reason: letter.reason.clone(),
        attempts: letter.attempts,
        first_ms: number(letter.first_ms),
        last_ms: number(letter.last_ms),
        origin_topic: letter.origin_topic.clone(),
        origin_offset: number(letter.origin_offset),
        origin_id: letter.origin_id.clone(),
    }
}

//! Wire types to broker types and back. Only shapes change here: whether a value is allowed is the
//! broker's to say, except where the wire can say what the broker's types cannot (negative numbers,
//! unknown enum values).

pub(crate) mod subscriptions;

use ratatoskr_broker::{
    Delivery, Durability, Filter, FilterError, NewMessage, Receipt, Start, SubscribeOptions,
    TopicDescription, TopicSettings,
};
use ratatoskr_proto as wire;
use ratatoskr_proto::start_position::Position;

/// A request's field that has no counterpart in the broker.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct FieldError {
    /// The field's name, as in the proto file.
    pub(crate) field: &'static str,
    /// What was given and what is allowed.
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn negative(field: &'static str, value: i64) -> FieldError {
        FieldError { field, message: format!("{field} is {value}; allowed are 0 and above") }
    }
}

/// The broker's word for a durability.
pub(crate) fn durability_to_wire(durability: Durability) -> wire::Durability {
    match durability {
        Durability::Fsync => wire::Durability::Fsync,
        Durability::Written => wire::Durability::Written,
        Durability::Memory => wire::Durability::Memory,
    }
}

/// The wire's number for a durability; `None` when it leaves the choice to the broker.
fn durability_from_wire(number: i32) -> Result<Option<Durability>, FieldError> {
    match wire::Durability::try_from(number) {
        Ok(wire::Durability::Unspecified) => Ok(None),
        Ok(wire::Durability::Fsync) => Ok(Some(Durability::Fsync)),
        Ok(wire::Durability::Written) => Ok(Some(Durability::Written)),
        Ok(wire::Durability::Memory) => Ok(Some(Durability::Memory)),
        Err(_) => Err(FieldError {
            field: "settings.durability",
            message: format!(
                "setting durability is {number}; allowed are 1 (fsync), 2 (written) and 3 (memory)"
            ),
        }),
    }
}

/// Settings as given, on top of those that hold otherwise.
pub(crate) fn settings_from_wire(
    given: Option<&wire::TopicSettings>,
    otherwise: &TopicSettings,
) -> Result<TopicSettings, FieldError> {
    let mut settings = otherwise.clone();
    let Some(given) = given else { return Ok(settings) };
    let bounds = [
        ("settings.retention_age_ms", given.retention_age_ms, &mut settings.retention_age_ms),
        ("settings.retention_bytes", given.retention_bytes, &mut settings.retention_bytes),
        ("settings.retention_messages", given.retention_messages, &mut settings.retention_messages),
    ];
    for (field, value, bound) in bounds {
        let Some(value) = value else { continue };
        let value = u64::try_from(value).map_err(|_| FieldError::negative(field, value))?;
        *bound = (value > 0).then_some(value);
    }
    if let Some(durability) = given.durability {
        settings.durability = durability_from_wire(durability)?.unwrap_or(otherwise.durability);
    }
    settings.subscribers_max = given.subscribers_max.unwrap_or(settings.subscribers_max);
    settings.message_bytes_max = given.message_bytes_max.unwrap_or(settings.message_bytes_max);
    if let Some(window_ms) = given.dedup_window_ms {
        settings.dedup_window_ms = u64::try_from(window_ms)
            .map_err(|_| FieldError::negative("settings.dedup_window_ms", window_ms))?;
    }
    Ok(settings)
}

fn settings_to_wire(settings: &TopicSettings) -> wire::TopicSettings {
    let bound = |value: Option<u64>| Some(number(value.unwrap_or(0)));
    wire::TopicSettings {
        retention_age_ms: bound(settings.retention_age_ms),
        retention_bytes: bound(settings.retention_bytes),
        retention_messages: bound(settings.retention_messages),
        durability: Some(durability_to_wire(settings.durability).into()),
        subscribers_max: Some(settings.subscribers_max),
        message_bytes_max: Some(settings.message_bytes_max),
        dedup_window_ms: Some(number(settings.dedup_window_ms)),
    }
}

/// A topic's description.
pub(crate) fn topic_to_wire(topic: &TopicDescription) -> wire::TopicDescription {
    wire::TopicDescription {
        name: topic.name.to_string(),
        settings: Some(settings_to_wire(&topic.settings)),
        created_ms: number(topic.created_ms),
        first_offset: number(topic.first_offset),
        next_offset: number(topic.next_offset),
        message_count: number(topic.next_offset.saturating_sub(topic.first_offset)),
        bytes: number(topic.bytes),
        segments: topic.segments,
        subscriber_count: topic.subscriber_count,
    }
}

/// A count of the broker as the wire's signed number, which ends at half its range.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A message to publish. Nothing is copied.
pub(crate) fn message_from_wire(request: wire::PublishRequest) -> Result<NewMessage, FieldError> {
    let unsigned = |field, value| u64::try_from(value).map_err(|_| FieldError::negative(field, value));
    let delivery = match (unsigned("deliver_at_ms", request.deliver_at_ms)?, request.delay_ms) {
        (0, 0) => Delivery::Now,
        (at_ms, 0) => Delivery::At(at_ms),
        (0, delay_ms) => Delivery::After(delay_ms),
        (at_ms, delay_ms) => {
            let message =
                format!("deliver_at_ms is {at_ms} and delay_ms is {delay_ms}; give one of them, or none");
            return Err(FieldError { field: "delay_ms", message });
        }
    };
    let expected_offset = request.expected_offset.map(|offset| unsigned("expected_offset", offset));
    Ok(NewMessage {
        payload: request.payload,
        key: request.key,
        metadata: request.metadata.into_iter().collect(),
        ttl_ms: request.ttl_ms,
        dedup_id: request.dedup_id,
        delivery,
        expected_offset: expected_offset.transpose()?,
    })
}

/// The result of a published message.
pub(crate) fn published(receipt: &Receipt) -> wire::PublishResponse {
    wire::PublishResponse {
        message_id: receipt.id.to_string(),
        timestamp: number(receipt.timestamp_ms),
        success: true,
        error: String::new(),
        offset: if receipt.scheduled { -1 } else { number(receipt.offset) },
        receipt: durability_to_wire(receipt.durability).into(),
        duplicate: receipt.duplicate,
        scheduled: receipt.scheduled,
    }
}

/// The result of a refused message.
pub(crate) fn refused(error: String) -> wire::PublishResponse {
    wire::PublishResponse { error, ..wire::PublishResponse::default() }
}

/// A subscription's options.
pub(crate) fn subscription_from_wire(
    request: wire::SubscribeRequest,
) -> Result<SubscribeOptions, FieldError> {
    Ok(SubscribeOptions {
        start: start_from_wire(request.start)?,
        filter: request.filter.into_iter().collect(),
        expression: expression_from_wire(&request.filter_expression)?,
        subscriber_id: request.subscriber_id,
        credit: (request.credit > 0).then_some(request.credit),
    })
}

fn expression_from_wire(source: &str) -> Result<Option<Filter>, FieldError> {
    if source.is_empty() {
        return Ok(None);
    }
    let bad = |error: FilterError| FieldError { field: "filter_expression", message: error.to_string() };
    Filter::parse(source).map(Some).map_err(bad)
}

fn start_from_wire(start: Option<wire::StartPosition>) -> Result<Start, FieldError> {
    let unsigned = |field, value| u64::try_from(value).map_err(|_| FieldError::negative(field, value));
    let untrue =
        |field| FieldError { field, message: format!("{field} is false; leave it out or set it to true") };
    match start.and_then(|start| start.position) {
        None | Some(Position::Latest(true)) => Ok(Start::Latest),
        Some(Position::Earliest(true)) => Ok(Start::Earliest),
        Some(Position::Offset(offset)) => Ok(Start::Offset(unsigned("start.offset", offset)?)),
        Some(Position::TimeMs(time_ms)) => Ok(Start::Time(unsigned("start.time_ms", time_ms)?)),
        Some(Position::Latest(false)) => Err(untrue("start.latest")),
        Some(Position::Earliest(false)) => Err(untrue("start.earliest")),
    }
}

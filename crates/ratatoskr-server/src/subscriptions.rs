//! The calls about durable subscriptions: create, change, list, look at, move, peek, dead letters.

use ratatoskr_broker::{
    Broker, DeadLetterQuery, Filter, Resolution, Seek, Start, SubscriptionName, SubscriptionRef,
    SubscriptionSettings, TopicName, quoted,
};
use ratatoskr_proto as wire;
use ratatoskr_proto::seek_subscription_request::Target;
use tonic::Status;

use crate::convert::number;
use crate::convert::subscriptions::{
    dead_letter_to_wire, description_to_wire, message_to_wire, receipt_of, settings_from_wire, start_or,
};
use crate::status;

/// Messages one peek or listing answers at most.
const LISTED_MAX: u32 = 1000;

/// Which subscription is meant.
pub(crate) fn name_from_wire(name: Option<&wire::SubscriptionName>) -> Result<SubscriptionRef, Status> {
    let name =
        name.ok_or_else(|| status::bad_field("name", &"name is missing; give topic and subscription"))?;
    let topic = TopicName::parse(&name.topic).map_err(|error| status::bad_name("name.topic", &error))?;
    let parsed = SubscriptionName::parse(&name.subscription);
    let name = parsed.map_err(|error| status::bad_field("name.subscription", &error))?;
    Ok(SubscriptionRef { topic, name })
}

/// `CreateSubscription`.
pub(crate) async fn create(
    broker: &Broker,
    request: wire::CreateSubscriptionRequest,
) -> Result<wire::CreateSubscriptionResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let start =
        start_or(request.start, Start::Earliest).map_err(|error| status::bad_field(error.field, &error))?;
    let settings = settings_from_wire(request.settings.as_ref(), &SubscriptionSettings::default())
        .map_err(|error| status::bad_field(error.field, &error))?;
    let created = broker.create_subscription(&name, start, settings).await;
    let created = created.map_err(|error| status::subscription_status(&error))?;
    Ok(wire::CreateSubscriptionResponse { subscription: Some(description_to_wire(&created)) })
}

/// `UpdateSubscription`.
pub(crate) async fn update(
    broker: &Broker,
    request: wire::UpdateSubscriptionRequest,
) -> Result<wire::UpdateSubscriptionResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let given = request.settings.unwrap_or_default();
    // Shapes are checked first: the change itself happens where the settings are, and cannot fail there.
    settings_from_wire(Some(&given), &SubscriptionSettings::default())
        .map_err(|error| status::bad_field(error.field, &error))?;
    let change = move |now: &_| settings_from_wire(Some(&given), now).unwrap_or_else(|_| Clone::clone(now));
    let changed = broker.change_subscription(&name, change).await;
    let changed = changed.map_err(|error| status::subscription_status(&error))?;
    Ok(wire::UpdateSubscriptionResponse { subscription: Some(description_to_wire(&changed)) })
}

/// `DeleteSubscription`.
pub(crate) async fn delete(
    broker: &Broker,
    request: wire::DeleteSubscriptionRequest,
) -> Result<wire::DeleteSubscriptionResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    broker.delete_subscription(&name).await.map_err(|error| status::subscription_status(&error))?;
    Ok(wire::DeleteSubscriptionResponse {})
}

/// `ListSubscriptions`.
pub(crate) fn list(
    broker: &Broker,
    topic: Option<&TopicName>,
) -> Result<wire::ListSubscriptionsResponse, Status> {
    if let Some(topic) = topic.filter(|topic| !broker.topic_exists(topic)) {
        return Err(status::no_topic(topic.as_str()));
    }
    let name = |name: SubscriptionRef| wire::SubscriptionName {
        topic: name.topic.to_string(),
        subscription: name.name.to_string(),
    };
    let subscriptions = broker.list_subscriptions(topic).into_iter().map(name).collect();
    Ok(wire::ListSubscriptionsResponse { subscriptions })
}

/// The topic whose subscriptions are to be listed; `None` for all.
pub(crate) fn listed_topic(request: &wire::ListSubscriptionsRequest) -> Result<Option<TopicName>, Status> {
    if request.topic.is_empty() {
        return Ok(None);
    }
    TopicName::parse(&request.topic).map(Some).map_err(|error| status::bad_name("topic", &error))
}

/// `DescribeSubscription`.
pub(crate) async fn describe(
    broker: &Broker,
    request: wire::DescribeSubscriptionRequest,
) -> Result<wire::DescribeSubscriptionResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let described = broker.describe_subscription(&name).await;
    let described = described.map_err(|error| status::subscription_status(&error))?;
    Ok(wire::DescribeSubscriptionResponse { subscription: Some(description_to_wire(&described)) })
}

/// `SeekSubscription`.
pub(crate) async fn seek(
    broker: &Broker,
    request: wire::SeekSubscriptionRequest,
) -> Result<wire::SeekSubscriptionResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let target = match request.target {
        None => return Err(status::bad_field("target", &"target is missing; give position, saved or skip")),
        Some(Target::Position(position)) => {
            if position.position.is_none() {
                return Err(status::bad_field("position", &"position is empty; say where to go on"));
            }
            let start = start_or(Some(position), Start::Earliest);
            Seek::To(start.map_err(|error| status::bad_field(error.field, &error))?)
        }
        Some(Target::Saved(saved)) => Seek::Saved(saved),
        Some(Target::Skip(count)) => {
            let message = format!("skip is {count}; allowed are 0 and above");
            Seek::Skip(u64::try_from(count).map_err(|_| status::bad_field("skip", &message))?)
        }
    };
    let moved = broker.seek_subscription(&name, target).await;
    let moved = moved.map_err(|error| status::subscription_status(&error))?;
    Ok(wire::SeekSubscriptionResponse { subscription: Some(description_to_wire(&moved)) })
}

/// `SaveSubscription`.
pub(crate) async fn save(
    broker: &Broker,
    request: wire::SaveSubscriptionRequest,
) -> Result<wire::SaveSubscriptionResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    SubscriptionName::parse(&request.saved).map_err(|error| {
        let message = error.to_string().replacen("subscription", "saved", 1);
        status::bad_field("saved", &message)
    })?;
    let saved = if request.forget {
        broker.forget_saved(&name, &request.saved).await
    } else {
        broker.save_subscription(&name, &request.saved).await
    };
    saved.map_err(|error| status::subscription_status(&error))?;
    Ok(wire::SaveSubscriptionResponse {})
}

/// `PeekSubscription`.
pub(crate) async fn peek(
    broker: &Broker,
    request: wire::PeekSubscriptionRequest,
) -> Result<wire::PeekSubscriptionResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let messages_max = listed(request.messages_max, 10)?;
    let from_offset = from_offset(request.from_offset)?;
    let peeked = broker.peek_page(&name, from_offset, messages_max).await;
    let peeked = peeked.map_err(|error| status::subscription_status(&error))?;
    let receipt = receipt_of(broker, &name.topic);
    Ok(wire::PeekSubscriptionResponse {
        messages: peeked.items.iter().map(|m| message_to_wire(m, receipt)).collect(),
        next_offset: peeked.next_offset.map(number),
    })
}

/// `ListDeadLetters`.
pub(crate) async fn list_dead_letters(
    broker: &Broker,
    request: wire::ListDeadLettersRequest,
) -> Result<wire::ListDeadLettersResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let letters_max = listed(request.messages_max, 100)?;
    let from_offset = from_offset(request.from_offset)?;
    let query = DeadLetterQuery { ids: Vec::new(), filter: filter_from_wire(&request.filter)?, from_offset };
    let mut response = wire::ListDeadLettersResponse::default();
    if request.group_by_reason {
        let counts = broker.dead_letter_counts_page(&name, query).await;
        let counts = counts.map_err(|error| status::subscription_status(&error))?;
        let group = |(reason, count)| wire::DeadLetterGroup { reason, count: number(count) };
        response.groups = counts.items.into_iter().map(group).collect();
        response.next_offset = counts.next_offset.map(number);
    } else {
        let letters = broker.dead_letters_page(&name, query, letters_max).await;
        let letters = letters.map_err(|error| status::subscription_status(&error))?;
        response.letters = letters.items.iter().map(|letter| dead_letter_to_wire(broker, letter)).collect();
        response.next_offset = letters.next_offset.map(number);
    }
    Ok(response)
}

/// `ResolveDeadLetters`.
pub(crate) async fn resolve_dead_letters(
    broker: &Broker,
    request: wire::ResolveDeadLettersRequest,
) -> Result<wire::ResolveDeadLettersResponse, Status> {
    let name = name_from_wire(request.name.as_ref())?;
    let mut ids = Vec::with_capacity(request.ids.len());
    for id in &request.ids {
        let parsed = ratatoskr_broker::MessageId::parse(id);
        let message =
            format!("id {} is no message id; it is a UUID, as ListDeadLetters gives it", quoted(id));
        ids.push(parsed.ok_or_else(|| status::bad_field("ids", &message))?);
    }
    let query = DeadLetterQuery { ids, filter: filter_from_wire(&request.filter)?, from_offset: 0 };
    let resolution = match (request.dry_run, request.drop) {
        (true, _) => Resolution::Count,
        (false, true) => Resolution::Drop,
        (false, false) => Resolution::Redrive,
    };
    let rate_max = (request.rate_max > 0).then_some(request.rate_max);
    let count = broker.resolve_dead_letters(&name, query, resolution, rate_max).await;
    let count = count.map_err(|error| status::settle_status(&error))?;
    Ok(wire::ResolveDeadLettersResponse { count: number(count) })
}

/// `TraceMessage`.
pub(crate) async fn trace(
    broker: &Broker,
    request: wire::TraceMessageRequest,
) -> Result<wire::TraceMessageResponse, Status> {
    let message = format!("message_id {} is no message id; it is a UUID", quoted(&request.message_id));
    let id = ratatoskr_broker::MessageId::parse(&request.message_id)
        .ok_or_else(|| status::bad_field("message_id", &message))?;
    let trace = broker.trace_message(id).await.map_err(|reason| status::unavailable(&reason))?;
    let trace = trace.ok_or_else(|| status::no_message(&request.message_id))?;
    let step = |step: ratatoskr_broker::TraceStep| wire::TraceStep {
        time_ms: number(step.time_ms),
        subscription: step.subscription.map_or_else(String::new, |name| name.to_string()),
        what: step.what,
    };
    let steps = trace.steps.into_iter().map(step).collect();
    Ok(wire::TraceMessageResponse { topic: trace.topic.to_string(), offset: number(trace.offset), steps })
}

fn from_offset(given: i64) -> Result<u64, Status> {
    let message = || format!("from_offset is {given}; allowed are 0 and above");
    u64::try_from(given).map_err(|_| status::bad_field("from_offset", &message()))
}

fn listed(given: u32, otherwise: u32) -> Result<usize, Status> {
    match given {
        0 => Ok(otherwise as usize),
        1..=LISTED_MAX => Ok(given as usize),
        _ => {
            let message =
                format!("messages_max is {given}; allowed are 1 to {LISTED_MAX}, or 0 for {otherwise}");
            Err(status::bad_field("messages_max", &message))
        }
    }
}

fn filter_from_wire(source: &str) -> Result<Option<Filter>, Status> {
    if source.is_empty() {
        return Ok(None);
    }
    Filter::parse(source).map(Some).map_err(|error| status::bad_field("filter", &error))
}

//! The calls about topics: create, delete, list, look at, change, purge.

use ratatoskr_broker::{Broker, TopicName, TopicSettings};
use ratatoskr_proto as wire;
use tonic::Status;

use crate::convert::{number, settings_from_wire, topic_to_wire};
use crate::status;

/// `CreateTopic`: refusals are in the response.
pub(crate) async fn create(
    broker: &Broker,
    defaults: &TopicSettings,
    request: wire::CreateTopicRequest,
) -> Result<wire::CreateTopicResponse, Status> {
    let error = match TopicName::parse(&request.name) {
        Err(error) => status::topic_name_code(&error).to_owned(),
        Ok(name) => match settings_from_wire(request.settings.as_ref(), defaults) {
            Err(error) => status::settings_refusal(&error),
            Ok(settings) => match broker.create_topic(&name, settings).await {
                Ok(_) => String::new(),
                Err(error) => status::create_refusal(&error)?,
            },
        },
    };
    Ok(wire::CreateTopicResponse { topic: request.name, created: error.is_empty(), error })
}

/// `DeleteTopic`: refusals are in the response. What is no name is no topic either.
pub(crate) async fn delete(
    broker: &Broker,
    request: wire::DeleteTopicRequest,
) -> Result<wire::DeleteTopicResponse, Status> {
    let error = match TopicName::parse(&request.name) {
        Err(_) => status::TOPIC_NOT_FOUND.to_owned(),
        Ok(name) => match broker.delete_topic(&name).await {
            Ok(()) => String::new(),
            Err(error) => status::delete_refusal(&error)?,
        },
    };
    Ok(wire::DeleteTopicResponse { success: error.is_empty(), error })
}

/// `ListTopics`.
pub(crate) fn list(broker: &Broker) -> wire::ListTopicsResponse {
    wire::ListTopicsResponse { topics: broker.list_topics().iter().map(ToString::to_string).collect() }
}

/// `TopicExists`.
pub(crate) fn exists(broker: &Broker, request: &wire::TopicExistsRequest) -> wire::TopicExistsResponse {
    let exists = TopicName::parse(&request.name).is_ok_and(|name| broker.topic_exists(&name));
    wire::TopicExistsResponse { exists }
}

/// `GetStats`: refusals are in the response.
pub(crate) fn stats(broker: &Broker, request: wire::GetStatsRequest) -> wire::GetStatsResponse {
    let stats = TopicName::parse(&request.topic).ok().and_then(|name| broker.stats(&name));
    let Some(stats) = stats else {
        let error = status::TOPIC_NOT_FOUND.to_owned();
        return wire::GetStatsResponse { topic: request.topic, error, ..wire::GetStatsResponse::default() };
    };
    wire::GetStatsResponse {
        topic: request.topic,
        message_count: number(stats.message_count),
        subscriber_count: i32::try_from(stats.subscriber_count).unwrap_or(i32::MAX),
        error: String::new(),
    }
}

/// `DescribeTopic`.
pub(crate) fn describe(
    broker: &Broker,
    request: &wire::DescribeTopicRequest,
) -> Result<wire::DescribeTopicResponse, Status> {
    let name = TopicName::parse(&request.name).map_err(|error| status::bad_name("name", &error))?;
    let topic = broker.describe_topic(&name).ok_or_else(|| status::no_topic(name.as_str()))?;
    Ok(wire::DescribeTopicResponse { topic: Some(topic_to_wire(&topic)) })
}

/// `UpdateTopic`.
pub(crate) async fn update(
    broker: &Broker,
    request: wire::UpdateTopicRequest,
) -> Result<wire::UpdateTopicResponse, Status> {
    let name = TopicName::parse(&request.name).map_err(|error| status::bad_name("name", &error))?;
    let current = broker.describe_topic(&name).ok_or_else(|| status::no_topic(name.as_str()))?;
    settings_from_wire(request.settings.as_ref(), &current.settings)
        .map_err(|error| status::bad_field(error.field, &error))?;
    // Whether the given fields are valid does not depend on the others, which may change until the broker's turn.
    let change = move |now: &TopicSettings| {
        settings_from_wire(request.settings.as_ref(), now).unwrap_or_else(|_| now.clone())
    };
    let topic = broker.change_topic(&name, change).await.map_err(|error| status::update_status(&error))?;
    Ok(wire::UpdateTopicResponse { topic: Some(topic_to_wire(&topic)) })
}

/// `PurgeTopic`.
pub(crate) async fn purge(
    broker: &Broker,
    request: wire::PurgeTopicRequest,
) -> Result<wire::PurgeTopicResponse, Status> {
    let name = TopicName::parse(&request.name).map_err(|error| status::bad_name("name", &error))?;
    let before = request.before.map(u64::try_from).transpose().map_err(|_| {
        let message = format!("before is {}; allowed are 0 and above", request.before.unwrap_or_default());
        status::bad_field("before", &message)
    })?;
    let removed = broker.purge_topic(&name, before).await.map_err(|error| status::purge_status(&error))?;
    Ok(wire::PurgeTopicResponse { removed: number(removed) })
}

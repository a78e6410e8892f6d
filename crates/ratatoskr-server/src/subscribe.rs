//! What subscribers ask beside their stream, which is the front door's (`door/feed.rs`): its end, and more credit.

use ratatoskr_broker::{Broker, TopicName};
use ratatoskr_proto as wire;
use tonic::Status;

use crate::status;

/// `Unsubscribe`: refusals are in the response.
pub(crate) async fn unsubscribe(
    broker: &Broker,
    request: &wire::UnsubscribeRequest,
) -> Result<wire::UnsubscribeResponse, Status> {
    let topic = TopicName::parse(&request.topic).ok().filter(|topic| broker.topic_exists(topic));
    let error = match topic {
        None => status::TOPIC_NOT_FOUND,
        Some(topic) if broker.unsubscribe(&topic, &request.subscription_ref) => "",
        Some(topic) => {
            let ended = broker.end_member(&topic, &request.subscription_ref).await;
            if ended.map_err(|reason| status::unavailable(&reason))? {
                ""
            } else {
                status::SUBSCRIPTION_NOT_FOUND
            }
        }
    };
    Ok(wire::UnsubscribeResponse { success: error.is_empty(), error: error.to_owned() })
}

/// `AddCredit`.
pub(crate) fn add_credit(
    broker: &Broker,
    request: &wire::AddCreditRequest,
) -> Result<wire::AddCreditResponse, Status> {
    let topic = TopicName::parse(&request.topic).map_err(|error| status::bad_name("topic", &error))?;
    if request.messages == 0 {
        return Err(status::bad_field("messages", &"messages is 0; allowed are 1 and above"));
    }
    if !broker.topic_exists(&topic) {
        return Err(status::no_topic(topic.as_str()));
    }
    if !broker.add_credit(&topic, &request.subscription_ref, request.messages) {
        return Err(status::no_subscription(topic.as_str(), &request.subscription_ref));
    }
    Ok(wire::AddCreditResponse {})
}

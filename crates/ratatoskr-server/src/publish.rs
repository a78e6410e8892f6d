//! Publishing: one message, or many with a result each.
//!
//! ```text
//!   request order   m0:a  m1:b  m2:"a b"  m3:a
//!   groups          a: m0 m3     b: m1               one broker batch per topic, all at once
//!   results         r0    r1    refused   r3         back in request order
//! ```
//!
//! Order is promised within a topic only, so a batch that jumps between topics still costs one
//! commit. A broker batch is all or nothing; when one of its messages is bad, the group is
//! published message by message, so that the bad one alone is refused.
//!
//! Invariant: everything that is accepted is handed to the broker on a future's first poll, in order.
//! The publish stream relies on it to keep its requests in order while many are on their way. tokio's
//! cooperative budget would break it: a future that is told to yield comes back behind its successors.
//! So publishing is exempt from the budget; the limits on batches and streams bound it instead.

use std::collections::HashMap;

use futures_util::future::join_all;
use ratatoskr_broker::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};
use ratatoskr_broker::{Broker, NewMessage, PublishError, TopicName};
use ratatoskr_proto::{PublishBatchRequest, PublishBatchResponse, PublishRequest, PublishResponse};
use tokio::task::coop::unconstrained;
use tonic::Status;

use crate::convert::{message_from_wire, published, refused};
use crate::status;

/// `Publish`: refusals are in the response.
pub(crate) async fn publish(broker: &Broker, request: PublishRequest) -> Result<PublishResponse, Status> {
    let topic = match TopicName::parse(&request.topic) {
        Ok(topic) => topic,
        Err(error) => return Ok(refused(status::publish_name_code(&error).to_owned())),
    };
    match message_from_wire(request) {
        Ok(message) => publish_one(broker, &topic, message).await,
        Err(error) => Ok(refused(status::field_refusal(&error))),
    }
}

/// `PublishBatch`: one result per message.
pub(crate) async fn publish_batch(
    broker: &Broker,
    request: PublishBatchRequest,
) -> Result<PublishBatchResponse, Status> {
    let results = publish_each(broker, &request.topic, request.messages).await?;
    let success_count = results.iter().filter(|result| result.success).count();
    let error_count = results.len() - success_count;
    Ok(PublishBatchResponse { results, success_count: success_count as i32, error_count: error_count as i32 })
}

/// Publishes messages that may name a topic of their own; results are in the order given.
pub(crate) async fn publish_each(
    broker: &Broker,
    topic: &str,
    messages: Vec<PublishRequest>,
) -> Result<Vec<PublishResponse>, Status> {
    check_batch(&messages)?;
    let mut outcomes: Vec<Option<Outcome>> = vec![None; messages.len()];
    let mut groups = group_by_topic(topic, messages, &mut outcomes);
    groups.retain(|group| !group.messages.is_empty());
    let publishing = join_all(groups.into_iter().map(|group| publish_group(broker, group)));
    for settled in unconstrained(publishing).await {
        for (place, outcome) in settled {
            outcomes[place] = Some(outcome);
        }
    }
    let outcomes =
        outcomes.into_iter().map(|outcome| outcome.expect("every message is in a group or refused"));
    settle(outcomes.collect())
}

/// Bytes of messages, as the batch limit counts them.
pub(crate) fn messages_bytes(messages: &[PublishRequest]) -> usize {
    messages.iter().map(message_bytes).sum()
}

/// What became of one message; a status when the broker could not take it at all.
type Outcome = Result<PublishResponse, Status>;

/// Messages of one request that go to the same topic.
struct Group {
    // Where they go.
    topic: TopicName,
    // Each message's place in the request.
    places: Vec<usize>,
    // The messages, as many as places.
    messages: Vec<NewMessage>,
}

/// Bytes of a message, as the limits count them.
pub(crate) fn message_bytes(message: &PublishRequest) -> usize {
    let metadata: usize = message.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    message.payload.len() + message.key.len() + metadata
}

fn check_batch(messages: &[PublishRequest]) -> Result<(), Status> {
    if messages.len() > BATCH_MESSAGES_MAX {
        let message =
            format!("batch has {} messages; at most {BATCH_MESSAGES_MAX} are allowed", messages.len());
        return Err(status::bad_field("messages", &message));
    }
    let bytes = messages_bytes(messages);
    if bytes > BATCH_BYTES_MAX {
        let message = format!("batch has {bytes} bytes; at most {BATCH_BYTES_MAX} are allowed");
        return Err(status::bad_field("messages", &message));
    }
    Ok(())
}

/// Sorts messages by topic, and refuses those without a valid one.
fn group_by_topic(
    topic: &str,
    messages: Vec<PublishRequest>,
    outcomes: &mut [Option<Outcome>],
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of_topic: HashMap<TopicName, usize> = HashMap::new();
    let mut latest = 0;
    for (place, message) in messages.into_iter().enumerate() {
        let name = if message.topic.is_empty() { topic } else { &message.topic };
        // Most batches have one topic: look no further than the group used last.
        if groups.get(latest).is_none_or(|group| group.topic.as_str() != name) {
            latest = match group_of_topic.get(name) {
                Some(&known) => known,
                None => match TopicName::parse(name) {
                    Err(error) => {
                        outcomes[place] = Some(Ok(refused(status::publish_name_code(&error).to_owned())));
                        continue;
                    }
                    Ok(topic) => {
                        group_of_topic.insert(topic.clone(), groups.len());
                        groups.push(Group { topic, places: Vec::new(), messages: Vec::new() });
                        groups.len() - 1
                    }
                },
            };
        }
        match message_from_wire(message) {
            Ok(message) => {
                groups[latest].places.push(place);
                groups[latest].messages.push(message);
            }
            Err(error) => outcomes[place] = Some(Ok(refused(status::field_refusal(&error)))),
        }
    }
    groups
}

async fn publish_group(broker: &Broker, group: Group) -> Vec<(usize, Outcome)> {
    let Group { topic, places, mut messages } = group;
    if messages.len() == 1 {
        let message = messages.pop().expect("its length is one");
        return vec![(places[0], publish_one(broker, &topic, message).await)];
    }
    let is_conditional = messages.iter().any(|message| message.expected_offset.is_some());
    let outcomes: Vec<Outcome> = match broker.publish_batch(&topic, messages.clone()).await {
        Ok(receipts) => receipts.iter().map(|receipt| Ok(published(receipt))).collect(),
        Err(PublishError::Message { error, index }) if is_conditional => {
            let other = || {
                refused(format!(
                    "{}: message {index} is refused ({error}), and expected_offset asks for all or none",
                    status::BATCH_REFUSED
                ))
            };
            let refusal = PublishError::Message { error: error.clone(), index };
            let of = |place| {
                if place == index { status::publish_refusal(&refusal).map(refused) } else { Ok(other()) }
            };
            (0..places.len()).map(of).collect()
        }
        Err(PublishError::Message { .. }) => {
            join_all(messages.into_iter().map(|message| publish_one(broker, &topic, message))).await
        }
        Err(error) => vec![status::publish_refusal(&error).map(refused); places.len()],
    };
    places.into_iter().zip(outcomes).collect()
}

async fn publish_one(broker: &Broker, topic: &TopicName, message: NewMessage) -> Outcome {
    match broker.publish(topic, message).await {
        Ok(receipt) => Ok(published(&receipt)),
        Err(error) => status::publish_refusal(&error).map(refused),
    }
}

/// A status when nothing was published and the broker is why; else one result each, because a status
/// would lose the receipts.
fn settle(outcomes: Vec<Outcome>) -> Result<Vec<PublishResponse>, Status> {
    let any_published = outcomes.iter().any(|outcome| outcome.as_ref().is_ok_and(|result| result.success));
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Err(status) if any_published => {
                Ok(refused(format!("{}: {}", status::UNAVAILABLE, status.message())))
            }
            outcome => outcome,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(offset: i64) -> PublishResponse {
        PublishResponse { success: true, offset, ..PublishResponse::default() }
    }

    #[test]
    fn a_batch_of_which_nothing_could_be_taken_is_a_status() {
        let outcomes = vec![Ok(refused("empty_topic".to_owned())), Err(status::shutting_down())];
        assert_eq!(settle(outcomes).unwrap_err().code(), tonic::Code::Unavailable);
    }

    #[test]
    fn a_batch_of_which_a_part_was_taken_keeps_its_receipts() {
        let outcomes = vec![Ok(success(0)), Err(status::shutting_down()), Ok(success(1))];
        let results = settle(outcomes).unwrap();
        assert_eq!([results[0].offset, results[2].offset], [0, 1]);
        assert!(!results[1].success && results[1].error.starts_with("unavailable: "), "{}", results[1].error);
    }

    #[test]
    fn messages_are_grouped_by_topic_in_order_and_bad_names_stay_outside() {
        let message = |topic: &str| PublishRequest { topic: topic.to_owned(), ..PublishRequest::default() };
        let messages = ["", "b", "no good", "a", "b", ""].map(message).to_vec();
        let mut outcomes = vec![None; messages.len()];
        let groups = group_by_topic("a", messages, &mut outcomes);
        let places: Vec<(&str, &[usize])> =
            groups.iter().map(|group| (group.topic.as_str(), group.places.as_slice())).collect();
        assert_eq!(places, [("a", &[0, 3, 5][..]), ("b", &[1, 4][..])]);
        let refused: Vec<usize> = (0..outcomes.len()).filter(|&place| outcomes[place].is_some()).collect();
        assert_eq!(refused, [2]);
    }
}

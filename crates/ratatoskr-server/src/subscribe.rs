//! Subscriptions over gRPC: one stream per subscriber, straight from the broker's cursor.
//!
//! ```text
//!   broker ──next_batch──▶ encode, or share what was encoded ──▶ OutgoingMessages ──▶ HTTP/2 ──▶ client
//! ```
//!
//! There is no queue and no task per subscriber: the stream asks the broker for the next batch when
//! the transport asks the stream, so a slow client costs one batch of memory, and its place in
//! the log. The subscription ends when the stream is dropped, which is what a lost connection does.

use std::pin::Pin;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::{StreamExt, stream};
use ratatoskr_broker::{Broker, Durability, Subscription, TopicName};
use ratatoskr_proto as wire;
use ratatoskr_proto::{OutgoingMessage, SUBSCRIPTION_REF_METADATA};
use tonic::{Response, Status};

use crate::closing::Closing;
use crate::convert::subscription_from_wire;
use crate::encoding::{Encoded, encode, encode_shared};
use crate::status;

/// The response stream of one `Subscribe` call.
pub(crate) type SubscribeStream = Pin<Box<dyn Stream<Item = Result<OutgoingMessage, Status>> + Send>>;

/// `Subscribe`.
pub(crate) fn subscribe(
    broker: &Broker,
    request: wire::SubscribeRequest,
    closing: &Closing,
) -> Result<Response<SubscribeStream>, Status> {
    let topic = TopicName::parse(&request.topic).map_err(|error| status::bad_name("topic", &error))?;
    let options = subscription_from_wire(request).map_err(|error| status::bad_field(error.field, &error))?;
    let subscription = broker.subscribe(&topic, options).map_err(|error| status::subscribe_status(&error))?;
    // A topic's durability never changes, so one look is enough. A topic that is gone by now has
    // ended the subscription already.
    let receipt =
        broker.describe_topic(&topic).map_or_else(Durability::default, |topic| topic.settings.durability);
    let reference = subscription.reference().to_owned();
    let metadata = reference.parse().expect("references are plain ASCII");
    let delivery = Delivery {
        subscription,
        receipt,
        first_reference: reference,
        closed: Box::pin(closing.clone().closed()),
    };
    let messages = stream::unfold(Some(delivery), next_turn).flat_map(stream::iter);
    let mut response = Response::new(Box::pin(messages) as SubscribeStream);
    response.metadata_mut().insert(SUBSCRIPTION_REF_METADATA, metadata);
    Ok(response)
}

/// `Unsubscribe`: refusals are in the response.
pub(crate) fn unsubscribe(broker: &Broker, request: &wire::UnsubscribeRequest) -> wire::UnsubscribeResponse {
    let topic = TopicName::parse(&request.topic).ok().filter(|topic| broker.topic_exists(topic));
    let error = match topic {
        None => status::TOPIC_NOT_FOUND,
        Some(topic) if broker.unsubscribe(&topic, &request.subscription_ref) => "",
        Some(_) => status::SUBSCRIPTION_NOT_FOUND,
    };
    wire::UnsubscribeResponse { success: error.is_empty(), error: error.to_owned() }
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

/// A subscription on its way to the client.
struct Delivery {
    // The cursor; dropping it unsubscribes.
    subscription: Subscription,
    // What publishers of this topic were promised.
    receipt: Durability,
    // Goes out with the first message; empty afterwards.
    first_reference: String,
    // Resolves when the server shuts down.
    closed: BoxFuture<'static, ()>,
}

/// One turn of the stream: what goes to the client before the broker is asked again.
struct Turn {
    // A batch, possibly shared with other subscribers.
    batch: Encoded,
    // How much of it has gone out.
    sent: usize,
    // What ends the stream after it.
    end: Option<Status>,
}

impl Iterator for Turn {
    type Item = Result<OutgoingMessage, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(message) = self.batch.get(self.sent) else { return self.end.take().map(Err) };
        self.sent += 1;
        Some(Ok(message.clone()))
    }
}

/// The next batch, or the status that ends the stream; nothing once it has ended.
async fn next_turn(delivery: Option<Delivery>) -> Option<(Turn, Option<Delivery>)> {
    let mut delivery = delivery?;
    let batch = tokio::select! {
        biased;
        batch = delivery.subscription.next_batch() => batch,
        () = &mut delivery.closed => return Some((last_turn(status::shutting_down()), None)),
    };
    match batch {
        Ok(messages) => {
            let reference = std::mem::take(&mut delivery.first_reference);
            let batch = if reference.is_empty() {
                encode_shared(&messages, delivery.receipt)
            } else {
                encode(&messages, delivery.receipt, &reference)
            };
            Some((Turn { batch, sent: 0, end: None }, Some(delivery)))
        }
        Err(end) => {
            let status = status::subscription_end(&end, delivery.subscription.topic().as_str())?;
            Some((last_turn(status), None))
        }
    }
}

fn last_turn(status: Status) -> Turn {
    Turn { batch: Encoded::default(), sent: 0, end: Some(status) }
}

//! The gRPC service behind its guard: for every call of the contract, what it takes to make it.
//!
//! ```text
//!   call ──▶ who? (Gate::enter) ──▶ may they? ──▶ service.rs, which asks nobody anything
//! ```
//!
//! A new call does not compile before it has its line here. Where the topic is known only later (the first step of `Consume`, what a
//! token or an id points at), the gate goes along in the request's extensions, and is asked where that is found out, once. Calls on the short way have `door/asking.rs`. What each action allows is
//! told to people in docs/access.md.

use std::collections::HashMap;
use std::sync::Arc;

use ratatoskr_broker::{Broker, MessageId, SubscriptionRef, dead_letter_topic};
use ratatoskr_proto as wire;
use ratatoskr_proto::OutgoingPull;
use ratatoskr_proto::message_broker_server::MessageBroker;
use tonic::service::Interceptor;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::access::{Access, Action, Gate, Load, Peer, Permit, Visitor};
use crate::consume::ConsumeStream;
use crate::publish::message_bytes;
use crate::service::Service;
use crate::status;
use crate::subscriptions::name_from_wire;

/// See the file's head.
#[derive(Clone)]
pub(crate) struct Guarded {
    service: Service,
    broker: Broker,
    access: Arc<Access>,
}

impl Guarded {
    pub(crate) fn new(service: Service, broker: Broker, access: Arc<Access>) -> Guarded {
        Guarded { service, broker, access }
    }

    /// Lets a call in if it is known who makes it.
    fn gate<T>(&self, request: &Request<T>, call: &'static str) -> Result<Gate, Status> {
        let authorization =
            request.metadata().get(AUTHORIZATION).map(tonic::metadata::MetadataValue::as_encoded_bytes);
        Gate::enter(&visitor(request.extensions(), &self.access), authorization, call)
    }
}

/// The header that says who calls.
const AUTHORIZATION: &str = "authorization";

/// Lets calls of other services in, if it is known who makes them.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) access: Arc<Access>,
    /// The name of the service, for the audit log.
    pub(crate) call: &'static str,
}

impl Interceptor for Asking {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let authorization =
            request.metadata().get(AUTHORIZATION).map(tonic::metadata::MetadataValue::as_encoded_bytes);
        Gate::enter(&visitor(request.extensions(), &self.access), authorization, self.call)?;
        Ok(request)
    }
}

/// Who is at the other end, as the door has written it down. Of whom nothing is known, nothing is believed.
fn visitor(extensions: &Extensions, access: &Arc<Access>) -> Arc<Visitor> {
    let known = extensions.get::<Arc<Visitor>>().cloned();
    known.unwrap_or_else(|| Arc::new(Visitor::new(access.clone(), Peer::nowhere())))
}

/// Lets messages for any topics be published, all of them or none. What it answers is held until they are.
pub(crate) fn admit(
    gate: &Gate,
    broker: &Broker,
    topic: &str,
    messages: &[wire::PublishRequest],
) -> Result<Vec<Permit>, Status> {
    if !gate.asks() {
        return Ok(Vec::new());
    }
    if messages.is_empty() {
        gate.may_anywhere(Action::Publish)?;
    }
    let (mut loads, mut places) = (Vec::<(&str, Load)>::new(), HashMap::new());
    for message in messages {
        let topic = if message.topic.is_empty() { topic } else { &message.topic };
        let place = *places.entry(topic).or_insert_with(|| {
            loads.push((topic, Load::default()));
            loads.len() - 1
        });
        loads[place].1.add(message_bytes(message), message.metadata.len(), message.dedup_id.len());
    }
    // Nothing is charged before all may be.
    for (topic, _) in &loads {
        gate.may(Action::Publish, topic)?;
    }
    loads.iter().map(|(topic, load)| gate.may_publish(broker, topic, load)).collect()
}

/// Lets a subscription be made or changed, as far as its dead letters go: it publishes to their topic. The default one, for `None`, needs no
/// permission of its own while it is the subscription's own.
pub(crate) fn may_dead_letter(
    gate: &Gate,
    broker: &Broker,
    name: &SubscriptionRef,
    given: Option<&str>,
) -> Result<(), Status> {
    match given {
        Some(topic) => gate.may(Action::Publish, topic),
        None if !gate.asks() => Ok(()),
        None => {
            let default = dead_letter_topic(name.topic.as_str(), name.name.as_str());
            // Its name may lie in a namespace within, or beside, that of the topic.
            let is_at_home = gate.are_of_one_namespace(name.topic.as_str(), &default);
            if is_at_home && broker.owns_default_dead_letter_topic(name) {
                return Ok(());
            }
            gate.may(Action::Publish, &default)
        }
    }
}

/// What a request says of the topic of dead letters: empty stands for the default one.
fn dead_letter_topic_in(settings: Option<&wire::SubscriptionSettings>) -> Option<&str> {
    settings.and_then(|settings| settings.dead_letter_topic.as_deref()).filter(|topic| !topic.is_empty())
}

/// The answer of a call that may take long, or why its caller may no more, which may come first.
async fn while_allowed<T>(
    revoked: impl Future<Output = Status>,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    tokio::select! {
        biased;
        status = revoked => Err(status),
        answer = answer => answer,
    }
}

/// The topic of a subscription; a missing name is refused elsewhere.
pub(crate) fn topic_of(name: Option<&wire::SubscriptionName>) -> &str {
    name.map_or("", |name| &name.topic)
}

#[tonic::async_trait]
impl MessageBroker for Guarded {
    type PublishStreamStream = <Service as MessageBroker>::PublishStreamStream;
    type SubscribeStream = <Service as MessageBroker>::SubscribeStream;
    type ConsumeStream = ConsumeStream;

    async fn create_topic(
        &self,
        request: Request<wire::CreateTopicRequest>,
    ) -> Result<Response<wire::CreateTopicResponse>, Status> {
        let gate = self.gate(&request, "CreateTopic")?;
        let _place = gate.may_make(&self.broker, &request.get_ref().name)?;
        self.service.create_topic(request).await
    }

    async fn delete_topic(
        &self,
        request: Request<wire::DeleteTopicRequest>,
    ) -> Result<Response<wire::DeleteTopicResponse>, Status> {
        let gate = self.gate(&request, "DeleteTopic")?;
        gate.may(Action::Manage, &request.get_ref().name)?;
        self.service.delete_topic(request).await
    }

    async fn topic_exists(
        &self,
        request: Request<wire::TopicExistsRequest>,
    ) -> Result<Response<wire::TopicExistsResponse>, Status> {
        let gate = self.gate(&request, "TopicExists")?;
        gate.may_see(&request.get_ref().name)?;
        self.service.topic_exists(request).await
    }

    async fn get_stats(
        &self,
        request: Request<wire::GetStatsRequest>,
    ) -> Result<Response<wire::GetStatsResponse>, Status> {
        let gate = self.gate(&request, "GetStats")?;
        gate.may_see(&request.get_ref().topic)?;
        self.service.get_stats(request).await
    }

    async fn unsubscribe(
        &self,
        request: Request<wire::UnsubscribeRequest>,
    ) -> Result<Response<wire::UnsubscribeResponse>, Status> {
        let gate = self.gate(&request, "Unsubscribe")?;
        gate.may(Action::Subscribe, &request.get_ref().topic)?;
        self.service.unsubscribe(request).await
    }

    async fn add_credit(
        &self,
        request: Request<wire::AddCreditRequest>,
    ) -> Result<Response<wire::AddCreditResponse>, Status> {
        let gate = self.gate(&request, "AddCredit")?;
        gate.may(Action::Subscribe, &request.get_ref().topic)?;
        self.service.add_credit(request).await
    }

    async fn describe_topic(
        &self,
        request: Request<wire::DescribeTopicRequest>,
    ) -> Result<Response<wire::DescribeTopicResponse>, Status> {
        let gate = self.gate(&request, "DescribeTopic")?;
        gate.may_see(&request.get_ref().name)?;
        self.service.describe_topic(request).await
    }

    async fn update_topic(
        &self,
        request: Request<wire::UpdateTopicRequest>,
    ) -> Result<Response<wire::UpdateTopicResponse>, Status> {
        let gate = self.gate(&request, "UpdateTopic")?;
        gate.may(Action::Manage, &request.get_ref().name)?;
        self.service.update_topic(request).await
    }

    async fn purge_topic(
        &self,
        request: Request<wire::PurgeTopicRequest>,
    ) -> Result<Response<wire::PurgeTopicResponse>, Status> {
        let gate = self.gate(&request, "PurgeTopic")?;
        gate.may(Action::Manage, &request.get_ref().name)?;
        self.service.purge_topic(request).await
    }

    async fn create_subscription(
        &self,
        request: Request<wire::CreateSubscriptionRequest>,
    ) -> Result<Response<wire::CreateSubscriptionResponse>, Status> {
        let gate = self.gate(&request, "CreateSubscription")?;
        let wire::CreateSubscriptionRequest { name, settings, .. } = request.get_ref();
        gate.may(Action::Manage, topic_of(name.as_ref()))?;
        let name = name_from_wire(name.as_ref())?;
        may_dead_letter(&gate, &self.broker, &name, dead_letter_topic_in(settings.as_ref()))?;
        self.service.create_subscription(request).await
    }

    async fn update_subscription(
        &self,
        request: Request<wire::UpdateSubscriptionRequest>,
    ) -> Result<Response<wire::UpdateSubscriptionResponse>, Status> {
        let gate = self.gate(&request, "UpdateSubscription")?;
        let wire::UpdateSubscriptionRequest { name, settings } = request.get_ref();
        gate.may(Action::Manage, topic_of(name.as_ref()))?;
        // What is not given stays as it was allowed.
        if settings.as_ref().is_some_and(|settings| settings.dead_letter_topic.is_some()) {
            let name = name_from_wire(name.as_ref())?;
            may_dead_letter(&gate, &self.broker, &name, dead_letter_topic_in(settings.as_ref()))?;
        }
        self.service.update_subscription(request).await
    }

    async fn delete_subscription(
        &self,
        request: Request<wire::DeleteSubscriptionRequest>,
    ) -> Result<Response<wire::DeleteSubscriptionResponse>, Status> {
        let gate = self.gate(&request, "DeleteSubscription")?;
        gate.may(Action::Manage, topic_of(request.get_ref().name.as_ref()))?;
        self.service.delete_subscription(request).await
    }

    async fn describe_subscription(
        &self,
        request: Request<wire::DescribeSubscriptionRequest>,
    ) -> Result<Response<wire::DescribeSubscriptionResponse>, Status> {
        let gate = self.gate(&request, "DescribeSubscription")?;
        gate.may_see(topic_of(request.get_ref().name.as_ref()))?;
        self.service.describe_subscription(request).await
    }

    async fn pull(&self, mut request: Request<wire::PullRequest>) -> Result<Response<OutgoingPull>, Status> {
        let gate = self.gate(&request, "Pull")?;
        let topic = topic_of(request.get_ref().name.as_ref()).to_owned();
        gate.may(Action::Subscribe, &topic)?;
        request.extensions_mut().insert(gate.clone());
        while_allowed(gate.revoked(Action::Subscribe, topic), self.service.pull(request)).await
    }

    async fn seek_subscription(
        &self,
        request: Request<wire::SeekSubscriptionRequest>,
    ) -> Result<Response<wire::SeekSubscriptionResponse>, Status> {
        let gate = self.gate(&request, "SeekSubscription")?;
        gate.may(Action::Manage, topic_of(request.get_ref().name.as_ref()))?;
        self.service.seek_subscription(request).await
    }

    async fn peek_subscription(
        &self,
        mut request: Request<wire::PeekSubscriptionRequest>,
    ) -> Result<Response<wire::PeekSubscriptionResponse>, Status> {
        let gate = self.gate(&request, "PeekSubscription")?;
        gate.may(Action::Subscribe, topic_of(request.get_ref().name.as_ref()))?;
        request.extensions_mut().insert(gate);
        self.service.peek_subscription(request).await
    }

    async fn save_subscription(
        &self,
        request: Request<wire::SaveSubscriptionRequest>,
    ) -> Result<Response<wire::SaveSubscriptionResponse>, Status> {
        let gate = self.gate(&request, "SaveSubscription")?;
        gate.may(Action::Manage, topic_of(request.get_ref().name.as_ref()))?;
        self.service.save_subscription(request).await
    }

    async fn list_dead_letters(
        &self,
        mut request: Request<wire::ListDeadLettersRequest>,
    ) -> Result<Response<wire::ListDeadLettersResponse>, Status> {
        let gate = self.gate(&request, "ListDeadLetters")?;
        gate.may(Action::Subscribe, topic_of(request.get_ref().name.as_ref()))?;
        request.extensions_mut().insert(gate);
        self.service.list_dead_letters(request).await
    }

    async fn resolve_dead_letters(
        &self,
        mut request: Request<wire::ResolveDeadLettersRequest>,
    ) -> Result<Response<wire::ResolveDeadLettersResponse>, Status> {
        let gate = self.gate(&request, "ResolveDeadLetters")?;
        let topic = topic_of(request.get_ref().name.as_ref()).to_owned();
        gate.may(Action::Manage, &topic)?;
        request.extensions_mut().insert(gate.clone());
        while_allowed(gate.revoked(Action::Manage, topic), self.service.resolve_dead_letters(request)).await
    }

    async fn list_topics(
        &self,
        request: Request<wire::ListTopicsRequest>,
    ) -> Result<Response<wire::ListTopicsResponse>, Status> {
        let gate = self.gate(&request, "ListTopics")?;
        let mut response = self.service.list_topics(request).await?;
        response.get_mut().topics.retain(|topic| gate.caller().sees(topic));
        Ok(response)
    }

    async fn list_subscriptions(
        &self,
        request: Request<wire::ListSubscriptionsRequest>,
    ) -> Result<Response<wire::ListSubscriptionsResponse>, Status> {
        let gate = self.gate(&request, "ListSubscriptions")?;
        if !request.get_ref().topic.is_empty() {
            gate.may_see(&request.get_ref().topic)?;
        }
        let mut response = self.service.list_subscriptions(request).await?;
        response.get_mut().subscriptions.retain(|name| gate.caller().sees(&name.topic));
        Ok(response)
    }

    async fn publish(
        &self,
        request: Request<wire::PublishRequest>,
    ) -> Result<Response<wire::PublishResponse>, Status> {
        let gate = self.gate(&request, "Publish")?;
        let _permits = admit(&gate, &self.broker, "", std::slice::from_ref(request.get_ref()))?;
        self.service.publish(request).await
    }

    async fn publish_batch(
        &self,
        request: Request<wire::PublishBatchRequest>,
    ) -> Result<Response<wire::PublishBatchResponse>, Status> {
        let gate = self.gate(&request, "PublishBatch")?;
        let _permits = admit(&gate, &self.broker, &request.get_ref().topic, &request.get_ref().messages)?;
        self.service.publish_batch(request).await
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<wire::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        // Where it is served (`door/stream.rs`), each step is asked about.
        self.gate(&request, "PublishStream")?.may_anywhere(Action::Publish)?;
        self.service.publish_stream(request).await
    }

    async fn subscribe(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        // As in `door/feed.rs`, where it is served.
        self.gate(&request, "Subscribe")?.may(Action::Subscribe, &request.get_ref().topic)?;
        self.service.subscribe(request).await
    }

    async fn consume(
        &self,
        mut request: Request<Streaming<wire::ConsumeRequest>>,
    ) -> Result<Response<ConsumeStream>, Status> {
        let gate = self.gate(&request, "Consume")?;
        gate.may_anywhere(Action::Subscribe)?;
        request.extensions_mut().insert(gate);
        self.service.consume(request).await
    }

    async fn ack(
        &self,
        mut request: Request<wire::AckRequest>,
    ) -> Result<Response<wire::AckResponse>, Status> {
        let gate = self.gate(&request, "Ack")?;
        gate.may_anywhere(Action::Subscribe)?;
        request.extensions_mut().insert(gate);
        self.service.ack(request).await
    }

    async fn settle(
        &self,
        mut request: Request<wire::SettleRequest>,
    ) -> Result<Response<wire::SettleResponse>, Status> {
        let gate = self.gate(&request, "Settle")?;
        if request.get_ref().messages.is_empty() {
            gate.may_anywhere(Action::Subscribe)?;
        }
        request.extensions_mut().insert(gate);
        self.service.settle(request).await
    }

    async fn trace_message(
        &self,
        request: Request<wire::TraceMessageRequest>,
    ) -> Result<Response<wire::TraceMessageResponse>, Status> {
        let gate = self.gate(&request, "TraceMessage")?;
        gate.may_anywhere(Action::Subscribe)?;
        // By the topic the id itself says, before anybody looks for the message.
        let id = MessageId::parse(&request.get_ref().message_id);
        if let Some(topic) = id.and_then(|id| self.broker.topic_of_message(id)) {
            if !gate.may_unnamed(Action::Subscribe, topic.as_str())? {
                return Err(status::no_message(&request.get_ref().message_id));
            }
            return self.service.trace_message(request).await;
        }
        // One that waits in the schedule: its topic comes with the answer, which takes one look and goes out only to those who may read that topic.
        let message_id = request.get_ref().message_id.clone();
        let response = self.service.trace_message(request).await?;
        if !gate.may_unnamed(Action::Subscribe, &response.get_ref().topic)? {
            return Err(status::no_message(&message_id));
        }
        Ok(response)
    }

    async fn describe_broker(
        &self,
        request: Request<wire::DescribeBrokerRequest>,
    ) -> Result<Response<wire::DescribeBrokerResponse>, Status> {
        let gate = self.gate(&request, "DescribeBroker")?;
        gate.may_anywhere(Action::Admin)?;
        self.service.describe_broker(request).await
    }
}

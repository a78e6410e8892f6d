//! The gRPC service: every call of the contract, each handed to the file that does it.

use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use ratatoskr_broker::limits::LISTED_BYTES_MAX;
use ratatoskr_broker::{Broker, Health, TopicSettings};
use ratatoskr_proto as wire;
use ratatoskr_proto::message_broker_server::MessageBroker;
use ratatoskr_proto::{OutgoingMessage, OutgoingPull};
use tokio_stream::Pending;
use tonic::{Request, Response, Status, Streaming};

use crate::access::Gate;
use crate::answers::{AnswerMemory, answer};
use crate::closing::Closing;
use crate::consume::{ConsumeStream, Joiner};
use crate::convert::{durability_to_wire, number};
use crate::limits::{LISTED_NAME_BYTES, LISTED_SUBSCRIPTION_BYTES, PICKED_ID_BYTES};
use crate::served::StreamEnds;
use crate::{consume, fetch, publish, settle, status, subscribe, subscriptions, topics};

/// What `DescribeBroker` tells beyond the broker's own figures, and what new topics start from.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Where the data is, as configured.
    pub(crate) data_dir: String,
    /// Settings of topics that are created without.
    pub(crate) topic_defaults: TopicSettings,
    /// When the server started.
    pub(crate) started: Instant,
}

/// The service. Cheap to clone: one per worker thread.
#[derive(Clone)]
pub(crate) struct Service {
    // Does the work.
    broker: Broker,
    // What the broker does not know about itself.
    identity: Arc<Identity>,
    // Ends streams when the server shuts down.
    closing: Closing,
}

impl Service {
    /// A service in front of a broker.
    pub(crate) fn new(broker: Broker, identity: Identity, closing: Closing) -> Service {
        Service { broker, identity: Arc::new(identity), closing }
    }

    /// The broker, where scans of the one who calls take turns with those of others.
    fn broker_for<T>(&self, request: &mut Request<T>) -> Broker {
        self.broker.scanning_as(gate_of(request).takes_turns_as())
    }

    fn describe(&self) -> wire::DescribeBrokerResponse {
        let counters = self.broker.counters();
        let uptime_ms = self.identity.started.elapsed().as_millis();
        wire::DescribeBrokerResponse {
            version: crate::VERSION.to_owned(),
            uptime_ms: i64::try_from(uptime_ms).unwrap_or(i64::MAX),
            topics: number(counters.topics),
            subscriptions: number(counters.subscriptions),
            scheduled_messages: number(counters.scheduled_messages),
            published_messages: number(counters.published_messages),
            delivered_messages: number(counters.delivered_messages),
            health: health_text(&self.broker.health()),
            data_directory: self.identity.data_dir.clone(),
            default_durability: durability_to_wire(self.identity.topic_defaults.durability).into(),
        }
    }
}

/// The gate that a call goes on to ask, by what it finds out, or has what it did written down by.
fn gate_of<T>(request: &mut Request<T>) -> Gate {
    request.extensions_mut().remove().expect("`guarded` puts it there")
}

/// A health in words, for people.
pub(crate) fn health_text(health: &Health) -> String {
    match health {
        Health::Serving => "serving".to_owned(),
        Health::DiskFull { free_hint } => format!("disk_full: {free_hint}"),
        Health::Blocked { reason } => format!("blocked: {reason}"),
        Health::Failed { reason } => format!("failed: {reason}"),
    }
}

#[tonic::async_trait]
impl MessageBroker for Service {
    type PublishStreamStream = Pending<Result<wire::PublishStreamResponse, Status>>;
    type SubscribeStream = Pending<Result<OutgoingMessage, Status>>;
    type ConsumeStream = ConsumeStream;

    async fn create_topic(
        &self,
        request: Request<wire::CreateTopicRequest>,
    ) -> Result<Response<wire::CreateTopicResponse>, Status> {
        topics::create(&self.broker, &self.identity.topic_defaults, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete_topic(
        &self,
        request: Request<wire::DeleteTopicRequest>,
    ) -> Result<Response<wire::DeleteTopicResponse>, Status> {
        topics::delete(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn list_topics(
        &self,
        request: Request<wire::ListTopicsRequest>,
    ) -> Result<Response<wire::ListTopicsResponse>, Status> {
        let names = self.broker.counters().topics as usize;
        let held = AnswerMemory::of(&request).hold(names * LISTED_NAME_BYTES)?;
        Ok(answer(topics::list(&self.broker), held))
    }

    async fn topic_exists(
        &self,
        request: Request<wire::TopicExistsRequest>,
    ) -> Result<Response<wire::TopicExistsResponse>, Status> {
        Ok(Response::new(topics::exists(&self.broker, request.get_ref())))
    }

    async fn get_stats(
        &self,
        request: Request<wire::GetStatsRequest>,
    ) -> Result<Response<wire::GetStatsResponse>, Status> {
        Ok(Response::new(topics::stats(&self.broker, request.into_inner())))
    }

    async fn publish(
        &self,
        request: Request<wire::PublishRequest>,
    ) -> Result<Response<wire::PublishResponse>, Status> {
        publish::publish(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn publish_batch(
        &self,
        request: Request<wire::PublishBatchRequest>,
    ) -> Result<Response<wire::PublishBatchResponse>, Status> {
        publish::publish_batch(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn publish_stream(
        &self,
        _request: Request<Streaming<wire::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        Err(status::not_plain())
    }

    async fn subscribe(
        &self,
        _request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(status::not_plain())
    }

    async fn unsubscribe(
        &self,
        request: Request<wire::UnsubscribeRequest>,
    ) -> Result<Response<wire::UnsubscribeResponse>, Status> {
        subscribe::unsubscribe(&self.broker, request.get_ref()).await.map(Response::new)
    }

    async fn add_credit(
        &self,
        request: Request<wire::AddCreditRequest>,
    ) -> Result<Response<wire::AddCreditResponse>, Status> {
        subscribe::add_credit(&self.broker, request.get_ref()).map(Response::new)
    }

    async fn describe_topic(
        &self,
        request: Request<wire::DescribeTopicRequest>,
    ) -> Result<Response<wire::DescribeTopicResponse>, Status> {
        topics::describe(&self.broker, request.get_ref()).map(Response::new)
    }

    async fn update_topic(
        &self,
        request: Request<wire::UpdateTopicRequest>,
    ) -> Result<Response<wire::UpdateTopicResponse>, Status> {
        topics::update(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn purge_topic(
        &self,
        request: Request<wire::PurgeTopicRequest>,
    ) -> Result<Response<wire::PurgeTopicResponse>, Status> {
        topics::purge(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn create_subscription(
        &self,
        request: Request<wire::CreateSubscriptionRequest>,
    ) -> Result<Response<wire::CreateSubscriptionResponse>, Status> {
        subscriptions::create(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn update_subscription(
        &self,
        request: Request<wire::UpdateSubscriptionRequest>,
    ) -> Result<Response<wire::UpdateSubscriptionResponse>, Status> {
        subscriptions::update(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn delete_subscription(
        &self,
        request: Request<wire::DeleteSubscriptionRequest>,
    ) -> Result<Response<wire::DeleteSubscriptionResponse>, Status> {
        subscriptions::delete(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn list_subscriptions(
        &self,
        request: Request<wire::ListSubscriptionsRequest>,
    ) -> Result<Response<wire::ListSubscriptionsResponse>, Status> {
        let topic = subscriptions::listed_topic(request.get_ref())?;
        let names = self.broker.count_subscriptions(topic.as_ref());
        let held = AnswerMemory::of(&request).hold(names * LISTED_SUBSCRIPTION_BYTES)?;
        subscriptions::list(&self.broker, topic.as_ref()).map(|list| answer(list, held))
    }

    async fn describe_subscription(
        &self,
        request: Request<wire::DescribeSubscriptionRequest>,
    ) -> Result<Response<wire::DescribeSubscriptionResponse>, Status> {
        subscriptions::describe(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn pull(&self, mut request: Request<wire::PullRequest>) -> Result<Response<OutgoingPull>, Status> {
        let memory = AnswerMemory::of(&request);
        let joiner = Joiner { broker: &self.broker, gate: &gate_of(&mut request) };
        let pulled = fetch::pull(&joiner, request.into_inner(), &self.closing, &memory).await;
        pulled.map(|(pulled, held)| answer(pulled, held))
    }

    async fn ack(
        &self,
        mut request: Request<wire::AckRequest>,
    ) -> Result<Response<wire::AckResponse>, Status> {
        let gate = gate_of(&mut request);
        settle::ack(&self.broker, &gate, request.into_inner()).await.map(Response::new)
    }

    async fn settle(
        &self,
        mut request: Request<wire::SettleRequest>,
    ) -> Result<Response<wire::SettleResponse>, Status> {
        let (gate, memory) = (gate_of(&mut request), AnswerMemory::of(&request));
        let settled = settle::settle(&self.broker, &gate, request.into_inner(), &memory).await;
        settled.map(|(response, held)| answer(response, held))
    }

    async fn seek_subscription(
        &self,
        request: Request<wire::SeekSubscriptionRequest>,
    ) -> Result<Response<wire::SeekSubscriptionResponse>, Status> {
        subscriptions::seek(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn peek_subscription(
        &self,
        mut request: Request<wire::PeekSubscriptionRequest>,
    ) -> Result<Response<wire::PeekSubscriptionResponse>, Status> {
        let held = AnswerMemory::of(&request).hold(LISTED_BYTES_MAX)?;
        let broker = self.broker_for(&mut request);
        subscriptions::peek(&broker, request.into_inner()).await.map(|peeked| answer(peeked, held))
    }

    async fn save_subscription(
        &self,
        request: Request<wire::SaveSubscriptionRequest>,
    ) -> Result<Response<wire::SaveSubscriptionResponse>, Status> {
        subscriptions::save(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn list_dead_letters(
        &self,
        mut request: Request<wire::ListDeadLettersRequest>,
    ) -> Result<Response<wire::ListDeadLettersResponse>, Status> {
        let held = AnswerMemory::of(&request).hold(LISTED_BYTES_MAX)?;
        let broker = self.broker_for(&mut request);
        let letters = subscriptions::list_dead_letters(&broker, request.into_inner()).await;
        letters.map(|letters| answer(letters, held))
    }

    async fn resolve_dead_letters(
        &self,
        mut request: Request<wire::ResolveDeadLettersRequest>,
    ) -> Result<Response<wire::ResolveDeadLettersResponse>, Status> {
        let ids = request.get_ref().ids.len() * PICKED_ID_BYTES;
        let held = AnswerMemory::of(&request).hold_request(request.get_ref().encoded_len() + ids)?;
        let broker = self.broker_for(&mut request);
        let resolved = subscriptions::resolve_dead_letters(&broker, request.into_inner()).await;
        resolved.map(|resolved| answer(resolved, held))
    }

    async fn trace_message(
        &self,
        request: Request<wire::TraceMessageRequest>,
    ) -> Result<Response<wire::TraceMessageResponse>, Status> {
        let held = AnswerMemory::of(&request).hold(LISTED_BYTES_MAX)?;
        subscriptions::trace(&self.broker, request.into_inner()).await.map(|life| answer(life, held))
    }

    async fn consume(
        &self,
        mut request: Request<Streaming<wire::ConsumeRequest>>,
    ) -> Result<Response<ConsumeStream>, Status> {
        let (gate, memory) = (gate_of(&mut request), AnswerMemory::of(&request));
        let peer_end = request.extensions_mut().remove().unwrap_or_default();
        let ends = StreamEnds::new(&self.closing, peer_end);
        let asking = consume::Asking { gate, memory };
        consume::consume(&self.broker, request.into_inner(), ends, asking).await
    }

    async fn describe_broker(
        &self,
        _request: Request<wire::DescribeBrokerRequest>,
    ) -> Result<Response<wire::DescribeBrokerResponse>, Status> {
        Ok(Response::new(self.describe()))
    }
}

//! Looking after topics: one call each.

use ratatoskr_proto::{
    AddCreditRequest, CreateTopicRequest, DeleteTopicRequest, DescribeBrokerRequest, DescribeBrokerResponse,
    DescribeTopicRequest, GetStatsRequest, ListTopicsRequest, PurgeTopicRequest, TopicDescription,
    TopicExistsRequest, TopicSettings, UnsubscribeRequest, UpdateTopicRequest,
};

use crate::client::Client;
use crate::error::ClientError;

/// A topic's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicStats {
    /// Messages it holds now.
    pub message_count: u64,
    /// Subscriptions that are open now.
    pub subscriber_count: u32,
}

impl Client {
    /// Creates a topic. Settings that are not given take the broker's defaults; an existing topic is an
    /// error of code `AlreadyExists` and stays as it is.
    pub async fn create_topic(&self, name: &str, settings: TopicSettings) -> Result<(), ClientError> {
        let request = self.call(CreateTopicRequest { name: name.to_owned(), settings: Some(settings) });
        let response = self.grpc().create_topic(request).await.map_err(self.failed())?.into_inner();
        if response.created { Ok(()) } else { Err(ClientError::refused(&response.error, name)) }
    }

    /// Deletes a topic with all its messages, and ends its subscriptions.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = self.call(DeleteTopicRequest { name: name.to_owned() });
        let response = self.grpc().delete_topic(request).await.map_err(self.failed())?.into_inner();
        if response.success { Ok(()) } else { Err(ClientError::refused(&response.error, name)) }
    }

    /// The names of all topics, sorted.
    pub async fn list_topics(&self) -> Result<Vec<String>, ClientError> {
        let response = self.grpc().list_topics(self.call(ListTopicsRequest {})).await;
        Ok(response.map_err(self.failed())?.into_inner().topics)
    }

    /// Whether a topic exists.
    pub async fn topic_exists(&self, name: &str) -> Result<bool, ClientError> {
        let request = self.call(TopicExistsRequest { name: name.to_owned() });
        Ok(self.grpc().topic_exists(request).await.map_err(self.failed())?.into_inner().exists)
    }

    /// A topic as it stands: settings, offsets, size.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        let request = self.call(DescribeTopicRequest { name: name.to_owned() });
        let response = self.grpc().describe_topic(request).await.map_err(self.failed())?;
        response
            .into_inner()
            .topic
            .ok_or_else(|| ClientError::protocol("DescribeTopic answered without a topic"))
    }

    /// Changes the settings that are given, and leaves the others. Durability cannot change.
    pub async fn update_topic(
        &self,
        name: &str,
        settings: TopicSettings,
    ) -> Result<TopicDescription, ClientError> {
        let request = self.call(UpdateTopicRequest { name: name.to_owned(), settings: Some(settings) });
        let response = self.grpc().update_topic(request).await.map_err(self.failed())?;
        response
            .into_inner()
            .topic
            .ok_or_else(|| ClientError::protocol("UpdateTopic answered without a topic"))
    }

    /// Removes a topic's messages, all or those before an offset, and tells how many went.
    pub async fn purge_topic(&self, name: &str, before: Option<u64>) -> Result<u64, ClientError> {
        let before = before.map(|offset| i64::try_from(offset).unwrap_or(i64::MAX));
        let request = self.call(PurgeTopicRequest { name: name.to_owned(), before });
        let response = self.grpc().purge_topic(request).await.map_err(self.failed())?;
        Ok(response.into_inner().removed.unsigned_abs())
    }

    /// A topic's figures.
    pub async fn stats(&self, topic: &str) -> Result<TopicStats, ClientError> {
        let request = self.call(GetStatsRequest { topic: topic.to_owned() });
        let response = self.grpc().get_stats(request).await.map_err(self.failed())?.into_inner();
        if !response.error.is_empty() {
            return Err(ClientError::refused(&response.error, topic));
        }
        Ok(TopicStats {
            message_count: response.message_count.unsigned_abs(),
            subscriber_count: response.subscriber_count.unsigned_abs(),
        })
    }

    /// The broker as it stands: version, uptime, totals, health.
    pub async fn describe_broker(&self) -> Result<DescribeBrokerResponse, ClientError> {
        let response = self.grpc().describe_broker(self.call(DescribeBrokerRequest {})).await;
        Ok(response.map_err(self.failed())?.into_inner())
    }

    /// Ends a subscription of this or any other client, by its reference.
    pub async fn unsubscribe(&self, topic: &str, reference: &str) -> Result<(), ClientError> {
        let message = UnsubscribeRequest { topic: topic.to_owned(), subscription_ref: reference.to_owned() };
        let response = self.grpc().unsubscribe(self.call(message)).await.map_err(self.failed())?.into_inner();
        if response.success { Ok(()) } else { Err(ClientError::refused(&response.error, topic)) }
    }

    /// Lets a subscription send more messages. For one of this client, use
    /// [`Subscription::add_credit`](crate::Subscription::add_credit), which also counts across reconnections.
    pub async fn add_credit(&self, topic: &str, reference: &str, messages: u64) -> Result<(), ClientError> {
        let request = self.call(AddCreditRequest {
            topic: topic.to_owned(),
            subscription_ref: reference.to_owned(),
            messages,
        });
        self.grpc().add_credit(request).await.map_err(self.failed())?;
        Ok(())
    }
}

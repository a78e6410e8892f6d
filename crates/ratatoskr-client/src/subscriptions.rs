//! Looking after durable subscriptions, and settling call by call.
//!
//! A [`Consumer`](crate::Consumer) is the usual way to work through a subscription. [`Client::pull`] and [`Client::settle`] are
//! for those who come by now and then, and [`Client::settle_and_publish`] for those who must do both or neither.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use ratatoskr_proto as wire;
use ratatoskr_proto::seek_subscription_request::Target;
use ratatoskr_proto::settlement::Outcome as WireOutcome;
use ratatoskr_proto::{
    Message, SubscriptionDescription, SubscriptionName, SubscriptionSettings, TraceMessageResponse,
};
use tonic::Request;

use crate::client::Client;
use crate::error::ClientError;
use crate::message::{NewMessage, Receipt};
use crate::settlement::{SettleError, Settlement};
use crate::subscription::Start;

/// A peek asks for no more once it has so much payload: as much as one answer of the broker holds.
const PEEKED_BYTES_MAX: usize = 3 << 20;

/// Where a subscription is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seek {
    /// At a place in the topic: everything from there on is delivered again, everything before is passed over.
    To(Start),
    /// Where it stood when its state was saved under this name.
    Saved(String),
    /// Behind the oldest so many unsettled messages.
    Skip(u64),
}

/// What a pull asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullOptions {
    /// At most so many messages, 1 to 10,000. Default 1.
    pub messages_max: u32,
    /// Wait so long for the first one, at most a minute. Default: not at all.
    pub wait: Duration,
    /// A name for people to read, at most 255 bytes.
    pub member: String,
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions { messages_max: 1, wait: Duration::ZERO, member: String::new() }
    }
}

impl Client {
    /// Creates a durable subscription. Settings that are not given take the defaults; an existing one is an error of code
    /// `AlreadyExists` and stays as it is.
    pub async fn create_subscription(
        &self,
        topic: &str,
        subscription: &str,
        start: Start,
        settings: SubscriptionSettings,
    ) -> Result<SubscriptionDescription, ClientError> {
        let (name, start) = (Some(named(topic, subscription)), Some(start.to_position()));
        let request = wire::CreateSubscriptionRequest { name, start, settings: Some(settings) };
        let response = self.grpc().create_subscription(self.call(request)).await.map_err(self.failed())?;
        described(response.into_inner().subscription, "CreateSubscription")
    }

    /// Changes the settings that are given, and leaves the others. `paused` pauses and resumes.
    pub async fn update_subscription(
        &self,
        topic: &str,
        subscription: &str,
        settings: SubscriptionSettings,
    ) -> Result<SubscriptionDescription, ClientError> {
        let name = Some(named(topic, subscription));
        let request = wire::UpdateSubscriptionRequest { name, settings: Some(settings) };
        let response = self.grpc().update_subscription(self.call(request)).await.map_err(self.failed())?;
        described(response.into_inner().subscription, "UpdateSubscription")
    }

    /// Deletes a subscription with all it remembers, and ends its members' streams. Messages stay in the topic.
    pub async fn delete_subscription(&self, topic: &str, subscription: &str) -> Result<(), ClientError> {
        let request = self.call(wire::DeleteSubscriptionRequest { name: Some(named(topic, subscription)) });
        self.grpc().delete_subscription(request).await.map_err(self.failed())?;
        Ok(())
    }

    /// The durable subscriptions of a topic, or all there are, sorted by topic and name.
    pub async fn list_subscriptions(
        &self,
        topic: Option<&str>,
    ) -> Result<Vec<SubscriptionName>, ClientError> {
        let topic = topic.unwrap_or_default().to_owned();
        let request = self.call(wire::ListSubscriptionsRequest { topic });
        let response = self.grpc().list_subscriptions(request).await.map_err(self.failed())?;
        Ok(response.into_inner().subscriptions)
    }

    /// A subscription as it stands: settings, figures, members, and why nothing is delivered.
    pub async fn describe_subscription(
        &self,
        topic: &str,
        subscription: &str,
    ) -> Result<SubscriptionDescription, ClientError> {
        let request = self.call(wire::DescribeSubscriptionRequest { name: Some(named(topic, subscription)) });
        let response = self.grpc().describe_subscription(request).await.map_err(self.failed())?;
        described(response.into_inner().subscription, "DescribeSubscription")
    }

    /// Moves a subscription. What its members hold becomes stale.
    pub async fn seek_subscription(
        &self,
        topic: &str,
        subscription: &str,
        seek: Seek,
    ) -> Result<SubscriptionDescription, ClientError> {
        let target = match seek {
            Seek::To(start) => Target::Position(start.to_position()),
            Seek::Saved(name) => Target::Saved(name),
            Seek::Skip(count) => Target::Skip(i64::try_from(count).unwrap_or(i64::MAX)),
        };
        let name = Some(named(topic, subscription));
        let request = self.call(wire::SeekSubscriptionRequest { name, target: Some(target) });
        let response = self.grpc().seek_subscription(request).await.map_err(self.failed())?;
        described(response.into_inner().subscription, "SeekSubscription")
    }

    /// The oldest unsettled messages that pass the filter, leased or not, without leasing them. 1 to 1,000, and no more than begin within
    /// 3 MiB of payload. Asks again while the broker has found fewer and not looked at all there are.
    pub async fn peek_subscription(
        &self,
        topic: &str,
        subscription: &str,
        messages_max: u32,
    ) -> Result<Vec<Message>, ClientError> {
        let name = Some(named(topic, subscription));
        let mut request = wire::PeekSubscriptionRequest { name, messages_max, from_offset: 0 };
        let (mut messages, mut bytes) = (Vec::new(), 0);
        loop {
            let call = self.call(request.clone());
            let response = self.grpc().peek_subscription(call).await.map_err(self.failed())?.into_inner();
            bytes += response.messages.iter().map(|message| message.payload.len()).sum::<usize>();
            messages.extend(response.messages);
            request.messages_max = messages_max.saturating_sub(messages.len() as u32);
            match response.next_offset {
                Some(next) if request.messages_max > 0 && bytes < PEEKED_BYTES_MAX => {
                    request.from_offset = next;
                }
                _ => return Ok(messages),
            }
        }
    }

    /// Saves where a subscription stands under a name; an earlier state of that name is replaced. At most 16.
    pub async fn save_subscription(
        &self,
        topic: &str,
        subscription: &str,
        saved: &str,
    ) -> Result<(), ClientError> {
        self.save_or_forget(named(topic, subscription), saved, false).await
    }

    /// Forgets a state that was saved.
    pub async fn forget_saved(
        &self,
        topic: &str,
        subscription: &str,
        saved: &str,
    ) -> Result<(), ClientError> {
        self.save_or_forget(named(topic, subscription), saved, true).await
    }

    async fn save_or_forget(
        &self,
        name: SubscriptionName,
        saved: &str,
        forget: bool,
    ) -> Result<(), ClientError> {
        let request = wire::SaveSubscriptionRequest { name: Some(name), saved: saved.to_owned(), forget };
        self.grpc().save_subscription(self.call(request)).await.map_err(self.failed())?;
        Ok(())
    }

    /// Fetches messages, each leased until it is settled by its `token`. A missing subscription is created if its topic exists.
    ///
    /// ```no_run
    /// # async fn example(client: ratatoskr_client::Client) -> Result<(), ratatoskr_client::ClientError> {
    /// use ratatoskr_client::{Outcome, PullOptions, Settlement};
    ///
    /// let options = PullOptions { messages_max: 100, ..PullOptions::default() };
    /// let messages = client.pull("orders", "report", options).await?;
    /// let done = messages.into_iter().map(|message| Settlement { token: message.token, outcome: Outcome::Ack });
    /// for fate in client.settle(done.collect()).await? {
    ///     fate?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn pull(
        &self,
        topic: &str,
        subscription: &str,
        options: PullOptions,
    ) -> Result<Vec<Message>, ClientError> {
        let PullOptions { messages_max, wait, member } = options;
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let name = Some(named(topic, subscription));
        let mut request = Request::new(wire::PullRequest { name, messages_max, wait_ms, member });
        // The wait is no failure to answer.
        request.set_timeout(self.call_timeout().saturating_add(wait));
        let response = self.grpc().pull(request).await.map_err(self.failed())?;
        Ok(response.into_inner().messages)
    }

    /// Settles messages, each for itself, at most 10,000; tells their fates in the same order. The outer error: nothing is
    /// known about any of them.
    pub async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<Result<(), SettleError>>, ClientError> {
        let mut fates = Vec::with_capacity(settlements.len());
        let mut request = wire::SettleRequest::default();
        let mut tokens = HashSet::with_capacity(settlements.len());
        for settlement in settlements {
            let token = settlement.token.clone();
            if !tokens.insert(token.clone()) {
                // A fate names the token it is of: two of one token could not be told apart.
                let reason = "the same token is settled twice in one call; settle it once".to_owned();
                fates.push(Err(SettleError::Invalid { reason }));
                continue;
            }
            match settlement.into_wire() {
                Ok(settlement) => {
                    request.settlements.push(settlement);
                    fates.push(Ok(token));
                }
                Err(error) => fates.push(Err(error)),
            }
        }
        if request.settlements.is_empty() {
            return Ok(fates.into_iter().map(|fate| fate.map(drop)).collect());
        }
        let response = self.grpc().settle(self.call(request)).await.map_err(self.failed())?.into_inner();
        let refused: HashMap<_, _> = response.refused.iter().map(|fate| (&fate.token, fate)).collect();
        let fate =
            |token: Bytes| refused.get(&token).map_or(Ok(()), |fate| Err(SettleError::from_fate(fate)));
        Ok(fates.into_iter().map(|sent| sent.and_then(fate)).collect())
    }

    /// Acks deliveries, of any subscriptions, and publishes messages, each to the topic beside it, in one step that happens wholly or not
    /// at all. A token that is stale refuses the whole step: code `FailedPrecondition`, reason `STALE`.
    pub async fn settle_and_publish(
        &self,
        acks: &[Bytes],
        messages: Vec<(&str, NewMessage)>,
    ) -> Result<Vec<Receipt>, ClientError> {
        if messages.is_empty() {
            // The broker would take each ack for itself then.
            let message = "there is no message to publish with the acks; use settle for acks alone";
            return Err(ClientError::invalid("NO_MESSAGES", message));
        }
        let ack = |token: &Bytes| wire::Settlement {
            token: token.clone(),
            outcome: Some(WireOutcome::Ack(wire::Done {})),
        };
        let topics: Vec<&str> = messages.iter().map(|(topic, _)| *topic).collect();
        let messages = messages.into_iter().map(|(topic, message)| message.into_request(topic)).collect();
        let request = wire::SettleRequest { settlements: acks.iter().map(ack).collect(), messages };
        let response = self.grpc().settle(self.call(request)).await.map_err(self.failed())?.into_inner();
        let results = response.results.into_iter().zip(topics);
        results.map(|(result, topic)| Receipt::from_response(result, topic)).collect()
    }

    /// The life of one message: published, handed to whom, settled how.
    pub async fn trace_message(&self, id: &str) -> Result<TraceMessageResponse, ClientError> {
        let request = self.call(wire::TraceMessageRequest { message_id: id.to_owned() });
        Ok(self.grpc().trace_message(request).await.map_err(self.failed())?.into_inner())
    }
}

pub(crate) fn named(topic: &str, subscription: &str) -> SubscriptionName {
    SubscriptionName { topic: topic.to_owned(), subscription: subscription.to_owned() }
}

fn described(
    subscription: Option<SubscriptionDescription>,
    call: &str,
) -> Result<SubscriptionDescription, ClientError> {
    subscription.ok_or_else(|| ClientError::protocol(format!("{call} answered without a subscription")))
}

//! [`Subscription`]: a topic's messages, without a gap across broken connections.
//!
//! ```text
//!   subscribe ──▶ first stream ── message ── message ── ✗ ──wait──▶ next stream from the next offset ──▶ …
//! ```
//!
//! Invariants:
//! - Every message is given out once, in the order of offsets.
//! - "From the latest" is fixed when `subscribe` returns: what is published during a broken
//!   connection is not passed over.
//! - What retention or a purge removed before it could be read is an error (`OutOfRange`), never a silent gap.
//!
//! There is no state at the broker to settle: remember the offset you have dealt with, and start at
//! the one after it.

use std::collections::BTreeMap;

use futures_core::Stream;
use ratatoskr_proto::start_position::Position;
use ratatoskr_proto::{Message, StartPosition, SubscribeRequest};
use tonic::{Code, Request, Streaming};

use crate::backoff::Backoff;
use crate::client::{Client, subscription_ref};
use crate::error::ClientError;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next message that is published.
    #[default]
    Latest,
    /// With the oldest message the topic still holds.
    Earliest,
    /// With the message of this offset.
    Offset(u64),
    /// With the first message of this time or later, in milliseconds since the Unix epoch.
    Time(u64),
}

impl Start {
    pub(crate) fn to_position(self) -> StartPosition {
        let position = match self {
            Start::Latest => Position::Latest(true),
            Start::Earliest => Position::Earliest(true),
            Start::Offset(offset) => Position::Offset(i64::try_from(offset).unwrap_or(i64::MAX)),
            Start::Time(time_ms) => Position::TimeMs(i64::try_from(time_ms).unwrap_or(i64::MAX)),
        };
        StartPosition { position: Some(position) }
    }
}

/// What a subscription asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Where to begin. Default: latest.
    pub start: Start,
    /// Only messages whose metadata has all these names with exactly these values. At most 16.
    pub filter: BTreeMap<String, String>,
    /// Only messages that pass this expression (`docs/filters.md`); empty for all. At most 4,096 bytes.
    pub filter_expression: String,
    /// A name for the broker's logs, at most 255 bytes. Need not be unique.
    pub subscriber_id: String,
    /// At most this many messages come until [`Subscription::add_credit`] allows more. `None`: no such bound,
    /// the transport alone holds messages back.
    pub credit: Option<u64>,
    /// What happens when the connection breaks.
    pub backoff: Backoff,
}

/// A topic's messages as they come. Made by [`Client::subscribe`]; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    topic: String,
    options: SubscribeOptions,
    /// Where the next stream begins; moves on with every message.
    next: Start,
    /// Messages that may still come; `None` without credit.
    credit_left: Option<u64>,
    /// The stream, while there is one.
    stream: Option<Streaming<Message>>,
    /// What Unsubscribe and `AddCredit` take; changes with every stream.
    reference: String,
    /// Failures since the last message.
    failures: u32,
}

impl Client {
    /// Follows a topic. Returns once the broker has accepted the subscription: what is published from
    /// then on is delivered.
    pub async fn subscribe(
        &self,
        topic: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, ClientError> {
        let mut next = options.start;
        if next == Start::Latest {
            next = Start::Offset(self.describe_topic(topic).await?.next_offset.unsigned_abs());
        }
        let mut subscription = Subscription {
            client: self.clone(),
            topic: topic.to_owned(),
            next,
            credit_left: options.credit,
            options,
            stream: None,
            reference: String::new(),
            failures: 0,
        };
        subscription.open().await?;
        Ok(subscription)
    }
}

impl Subscription {
    /// The next message. Waits for it, across reconnections. An error ends the subscription: the code is
    /// `Cancelled` after an unsubscribe, `NotFound` once the topic is deleted, `OutOfRange` when the next message
    /// is gone by retention, and `Unavailable` when the broker stays away.
    ///
    /// Cancel-safe: a message is never lost to a future that was dropped.
    pub async fn next(&mut self) -> Result<Message, ClientError> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.reopen().await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(message)) => return Ok(self.take(message)),
                Ok(None) => return Err(self.unsubscribed()),
                Err(status) => {
                    self.stream = None;
                    let error = ClientError::from_status(&status, self.client.address());
                    self.note_failure(error)?;
                }
            }
        }
    }

    /// The messages as a stream; ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Message, ClientError>> {
        futures_util::stream::unfold(Some(self), async |subscription| {
            let mut subscription = subscription?;
            match subscription.next().await {
                Ok(message) => Some((Ok(message), Some(subscription))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// Allows this many more messages. Without credit to begin with there is nothing to add to.
    pub async fn add_credit(&mut self, messages: u64) -> Result<(), ClientError> {
        let Some(left) = &mut self.credit_left else {
            return Err(ClientError::invalid(
                "NO_CREDIT",
                "this subscription was opened without credit; nothing holds it back",
            ));
        };
        *left = left.saturating_add(messages);
        if self.stream.is_none() {
            // The next stream asks for all of it.
            return Ok(());
        }
        match self.client.add_credit(&self.topic, &self.reference, messages).await {
            // The stream has just broken, and shows it by its next message; the next stream asks for all of it.
            Err(error) if error.is_retryable() || error.code() == Code::NotFound => {
                self.stream = None;
                Ok(())
            }
            other => other,
        }
    }

    /// What [`Client::unsubscribe`] takes. Changes when the connection breaks.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    fn take(&mut self, message: Message) -> Message {
        self.failures = 0;
        self.next = Start::Offset(message.offset.unsigned_abs() + 1);
        if let Some(left) = &mut self.credit_left {
            *left = left.saturating_sub(1);
        }
        message
    }

    fn unsubscribed(&self) -> ClientError {
        ClientError::new(
            Code::Cancelled,
            "UNSUBSCRIBED",
            format!("the subscription of topic {:?} was ended", self.topic),
        )
    }

    /// Counts a failure; gives it back when it is one too many, or none that waiting heals.
    fn note_failure(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failures += 1;
        if error.is_retryable() && self.failures <= self.options.backoff.attempts_max {
            Ok(())
        } else {
            Err(error)
        }
    }

    async fn reopen(&mut self) -> Result<(), ClientError> {
        if self.credit_left == Some(0) {
            // A stream without credit would bring nothing, and 0 on the wire means no bound. Whoever
            // adds credit drops this future first.
            return std::future::pending().await;
        }
        if let Some(wait) = self.options.backoff.wait(self.failures.max(1)) {
            tokio::time::sleep(wait).await;
        }
        match self.open().await {
            Ok(()) => Ok(()),
            Err(error) => self.note_failure(error),
        }
    }

    async fn open(&mut self) -> Result<(), ClientError> {
        let request = SubscribeRequest {
            topic: self.topic.clone(),
            subscriber_id: self.options.subscriber_id.clone(),
            start: Some(self.next.to_position()),
            filter_expression: self.options.filter_expression.clone(),
            filter: self.options.filter.clone(),
            credit: self.credit_left.unwrap_or(0),
            ..SubscribeRequest::default()
        };
        let response =
            self.client.grpc().subscribe(Request::new(request)).await.map_err(self.client.failed())?;
        self.reference = subscription_ref(&response);
        self.stream = Some(response.into_inner());
        Ok(())
    }
}

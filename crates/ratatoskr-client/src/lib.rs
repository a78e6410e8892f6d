//! The Rust client of Ratatoskr: publish, subscribe, work through durable subscriptions, and look after topics over gRPC.
//!
//! ```text
//!   Client ──publish, publish_batch──▶ one call, one receipt (or one per message)
//!      ├──publisher()──▶ Publisher ──PublishStream──▶ many on their way, receipts in order
//!      ├──subscribe()──▶ Subscription ◀──Subscribe── resumes at its next offset
//!      ├──consume()────▶ Consumer ◀──Consume──▶ deliveries, leased until they are settled
//!      ├──pull, settle, settle_and_publish, redrive_dead_letters … ──▶ one call each
//!      └──create_topic, list_topics, describe_topic, stats … ──▶ one call each
//! ```
//!
//! ```no_run
//! use ratatoskr_client::{Client, NewMessage, Start, SubscribeOptions};
//!
//! # async fn example() -> Result<(), ratatoskr_client::ClientError> {
//! let client = Client::connect("localhost:50051").await?;
//! let receipt = client.publish("orders", NewMessage::new("4711 paid").with_key("4711")).await?;
//! println!("{} is on disk at offset {}", receipt.id, receipt.offset);
//!
//! let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
//! let mut orders = client.subscribe("orders", options).await?;
//! let message = orders.next().await?;
//! assert_eq!(message.payload, "4711 paid");
//! # Ok(())
//! # }
//! ```
//!
//! A durable subscription is worked through by one or more consumers; each message is leased to one of them until it is settled:
//!
//! ```no_run
//! # async fn example(client: ratatoskr_client::Client) -> Result<(), ratatoskr_client::ClientError> {
//! use ratatoskr_client::ConsumeOptions;
//!
//! let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await?;
//! let delivery = consumer.next().await?;
//! println!("attempt {} of {}", delivery.attempt(), delivery.id());
//! // Awaited, it says that the ack is on disk; unawaited, it is on its way all the same.
//! delivery.ack().await?;
//! consumer.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A broker that asks who calls wants a token, a client certificate, or both; [`ClientOptions`] has a place for each:
//!
//! ```no_run
//! # async fn example() -> Result<(), ratatoskr_client::ClientError> {
//! use ratatoskr_client::{Client, ClientOptions, TlsOptions, Token};
//!
//! let tls = TlsOptions::new().ca_file("ca.pem")?;
//! let token = Token::from_file("/run/secrets/ratatoskr")?;
//! let options = ClientOptions { tls: Some(tls), token: Some(token), ..ClientOptions::default() };
//! let client = Client::connect_with("broker.internal:50051", options).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What happens when the connection breaks
//!
//! The connection itself comes back by the next call. Beyond that:
//! - Single calls are not repeated: after [`Code::Unavailable`] a publish may have happened or not.
//!   [`ClientError::is_retryable`] says whether repeating can help.
//! - A [`Publisher`] sends what has no receipt yet once more, in the same order. So a message may be
//!   published twice, never zero times while its receipt is good: *at least once*.
//! - A [`Subscription`] goes on at the offset after the last message it gave out: nothing is
//!   missing and nothing comes twice. What retention removed meanwhile is an error, not a silent gap.
//! - A [`Consumer`] joins its subscription again. What it held is the broker's again: settling it is
//!   [`SettleError::Stale`], and it is delivered again. What was being settled at that moment is settled or delivered again
//!   ([`SettleError::Unanswered`]).

mod address;
mod backoff;
mod client;
mod consumer;
mod conversation;
mod credentials;
mod dead_letters;
mod delivery;
mod error;
mod link;
mod message;
mod publisher;
mod settlement;
mod stream;
mod subscription;
mod subscriptions;
mod topics;

pub use backoff::Backoff;
pub use client::{Client, ClientOptions};
pub use consumer::{ConsumeOptions, Consumer};
pub use credentials::{TlsOptions, Token};
pub use dead_letters::{DeadLetter, DeadLetterChoice, DeadLetterPage};
pub use delivery::{Delivery, Settling};
pub use error::ClientError;
pub use message::{Due, NewMessage, Receipt};
pub use publisher::{PendingReceipt, PendingReceipts, Publisher, PublisherOptions};
pub use ratatoskr_proto::{
    DeadLetterGroup, DescribeBrokerResponse, Durability, MemberDescription, Message, SubscriptionDescription,
    SubscriptionName, SubscriptionSettings, TopicDescription, TopicSettings, TraceMessageResponse, TraceStep,
};
pub use settlement::{Outcome, SettleError, Settlement};
pub use subscription::{Start, SubscribeOptions, Subscription};
pub use subscriptions::{PullOptions, Seek};
pub use tonic::Code;
pub use topics::TopicStats;

/// Messages one batch may hold; the broker refuses more.
pub const BATCH_MESSAGES_MAX: usize = 10_000;
/// Bytes one batch may hold, payloads, keys and metadata together; the broker refuses more.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

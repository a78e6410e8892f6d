//! The Rust client of Ratatoskr: publish, subscribe and look after topics over gRPC.
//!
//! ```text
//!   Client ──publish, publish_batch──▶ one call, one receipt (or one per message)
//!      ├──publisher()──▶ Publisher ──PublishStream──▶ many on their way, receipts in order
//!      ├──subscribe()──▶ Subscription ◀──Subscribe── resumes at its next offset
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
//! # What happens when the connection breaks
//!
//! The connection itself comes back by the next call. Beyond that:
//! - Single calls are not repeated: after [`Code::Unavailable`] a publish may have happened or not.
//!   [`ClientError::is_retryable`] says whether repeating can help.
//! - A [`Publisher`] sends what has no receipt yet once more, in the same order. So a message may be
//!   published twice, never zero times while its receipt is good: *at least once*.
//! - A [`Subscription`] goes on at the offset after the last message it gave out: nothing is
//!   missing and nothing comes twice. What retention removed meanwhile is an error, not a silent gap.

mod address;
mod backoff;
mod client;
mod error;
mod message;
mod publisher;
mod stream;
mod subscription;
mod topics;

pub use backoff::Backoff;
pub use client::{Client, ClientOptions};
pub use error::ClientError;
pub use message::{NewMessage, Receipt};
pub use publisher::{PendingReceipt, PendingReceipts, Publisher, PublisherOptions};
pub use ratatoskr_proto::{DescribeBrokerResponse, Durability, Message, TopicDescription, TopicSettings};
pub use subscription::{Start, SubscribeOptions, Subscription};
pub use tonic::Code;
pub use topics::TopicStats;

/// Messages one batch may hold; the broker refuses more.
pub const BATCH_MESSAGES_MAX: usize = 10_000;
/// Bytes one batch may hold, payloads, keys and metadata together; the broker refuses more.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

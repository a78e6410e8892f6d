//! The wire types of Ratatoskr, generated from `proto/ratatoskr.proto`.
//!
//! ```text
//!   proto/ratatoskr.proto ──build.rs──▶ messages, message_broker_client   (this crate's root)
//!                                  └──▶ message_broker_server             (the same messages)
//!   hand-written: OutgoingMessage (what the server sends for `Message`) and what carries it, PublishView and ReceiptParts (publishing
//!   without the generated types), StrictCodec (how a server reads)
//! ```
//!
//! Client and server share every message type but those that carry messages: where the contract says `Message`, the
//! server's trait says [`OutgoingMessage`], which is encoded without an allocation of its own.
//! This crate knows no broker: it turns text and bytes into types, and judges nothing.

mod codec;
mod fields;
mod incoming;
mod outgoing;
mod outgoing_step;
mod receipt;
mod shape;

pub use codec::{StrictCodec, decode_counted, malformed};
pub use incoming::{BatchView, PublishView, ValueCounts};
pub use outgoing::{LeaseParts, MessageParts, OutgoingMessage};
pub use outgoing_step::{OutgoingMessages, OutgoingPull, OutgoingStep};
pub use receipt::ReceiptParts;
pub use shape::{BATCH_MESSAGES_MAX, SETTLEMENTS_MAX};

// The comments in the proto file are the documentation; generators have their own idea of style.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    pub(super) mod client {
        include!(concat!(env!("OUT_DIR"), "/client/ratatoskr.rs"));
    }
    pub(super) mod server {
        include!(concat!(env!("OUT_DIR"), "/server/ratatoskr.rs"));
    }
}

pub use generated::client::*;
pub use generated::server::message_broker_server;

/// The encoded `FileDescriptorSet` of the contract, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The service's full name, as health checks and reflection use it.
pub const SERVICE_NAME: &str = "ratatoskr.MessageBroker";

/// Key of Subscribe's initial metadata that holds the subscription's reference.
pub const SUBSCRIPTION_REF_METADATA: &str = "ratatoskr-subscription-ref";

/// Key of Subscribe's initial metadata that is there, with the value `true`, when the call has created the durable subscription.
pub const SUBSCRIPTION_CREATED_METADATA: &str = "ratatoskr-subscription-created";

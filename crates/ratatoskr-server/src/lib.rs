//! The front doors of the broker: gRPC for messages, HTTP for health and metrics.
//!
//! ```text
//!              ┌─ front thread ──────────────┐      ┌─ worker threads, one per core ────────────┐
//!   :50051 ───▶│ accept, deal out round robin│─────▶│ HTTP/2 ─▶ service ─┬─▶ topics             │
//!   :8080  ───▶│ HTTP pages, health reporter │      │                    ├─▶ publish(_stream)   │──▶ broker
//!              └─────────────────────────────┘      │                    └─▶ subscribe          │
//!                                                   └───────────────────────────────────────────┘
//! ```
//!
//! A connection stays on its worker: no task moves between cores, and a reply needs no lock. Wire types
//! become broker types in `convert`, errors become codes in `status`, and nowhere else.
//!
//! What is deliberately absent: any state of topics or subscriptions. A stream holds a cursor of
//! the broker's, and that is all.

pub mod access;
mod answers;
mod bucket;
mod clients;
mod closing;
pub mod config;
mod consume;
mod convert;
mod descriptors;
mod door;
mod encoding;
mod fetch;
mod guard;
mod guarded;
mod health;
mod http;
pub mod limits;
mod memory;
mod message_frame;
mod metrics;
mod origin;
mod peer_end;
mod publish;
mod revocable;
mod served;
mod server;
mod service;
mod settle;
mod status;
mod subscribe;
mod subscriptions;
pub mod tls;
mod topics;
mod traffic;
mod trusted_file;
mod watched_files;
mod worker;

pub use clients::ClientLimits;
pub use descriptors::DescriptorShares;
pub use server::{Running, Server, ServerOptions, StartError};

/// The version of this build, as `/version` and `DescribeBroker` tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

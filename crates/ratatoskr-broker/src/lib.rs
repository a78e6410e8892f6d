//! Ratatoskr in process: topics, publishing and subscribing on a durable journal, without a network.
//!
//! ```text
//!   Broker ── publish ──▶ inbox ──▶ sequencer ──▶ journal (ratatoskr-log)
//!      │                               │
//!      └── subscribe ──▶ Subscription ◀┘  a cursor into the topic's log, woken when it grows
//! ```
//!
//! The server is a thin layer on this crate; whatever is promised over the network is promised here. Start
//! with [`Broker`]; `examples/in_process.rs` is a whole program. Futures need no particular runtime, except that
//! reading old messages from disk uses tokio's blocking threads.
//!
//! Deliberately not here: gRPC, HTTP, configuration files, and bytes on disk.

mod answer;
mod broken;
mod broker;
mod command;
mod core;
mod dedup;
mod doctor;
mod draft;
mod durable;
mod error;
mod filter;
mod fullness;
mod id;
mod inbox;
mod memory;
mod message;
mod owner;
mod postbox;
mod publishing;
mod retention;
mod retention_clock;
mod schedule;
mod sequencer;
mod subscription;
mod topic;

pub use crate::core::{Counters, Health};
#[doc(hidden)]
pub use broken::Broken;
pub use broker::{Broker, BrokerConfig};
pub use doctor::{examine, examine_on};
pub use draft::{Draft, Refused};
pub use durable::{
    DEAD_ATTEMPTS, DEAD_FIRST_MS, DEAD_ID, DEAD_LAST_MS, DEAD_OFFSET, DEAD_REASON, DEAD_SUBSCRIPTION,
    DEAD_TOPIC, DeadLetter, DeadLetterQuery, Delivered, Fate, JoinOptions, Listed, Member, MemberDescription,
    MemberEnd, Outcome, OutcomeError, Resolution, Seek, SettleError, SubscriptionDescription,
    SubscriptionError, SubscriptionSettingsError, TOKEN_BYTES, Token, Trace, TraceStep, Window, WindowSetter,
};
pub use error::{
    CreateTopicError, DeleteTopicError, OpenError, PublishError, PurgeTopicError, ShutdownError,
    SubscribeError, SubscriptionEnd, Unavailable, UpdateTopicError,
};
pub use filter::{Filter, FilterError, FilterFacts};
pub use id::{IdMask, MessageId};
pub use memory::{MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MIN, Shares};
pub use message::{Delivery, Message, MessageError, MessageView, NewMessage, Receipt, SCHEDULED_ID};
pub use postbox::{Postbox, Posted, Published, Ticket};
pub use ratatoskr_log::{Diagnosis, Finding, RecoveryReport, Severity};
pub use ratatoskr_state::{
    DEAD_LETTERS_SUBSCRIPTION, DEDUP_WINDOW_MS_DEFAULT, Durability, Quoted, RETENTION_AGE_MS_DEFAULT,
    SHOWN_BYTES_MAX, SettingsError, SubscriptionName, SubscriptionNameError, SubscriptionRef,
    SubscriptionSettings, TopicName, TopicNameError, TopicSettings, dead_letter_topic, limits, quoted,
    shortened,
};
pub use subscription::{Start, SubscribeOptions, Subscription};
pub use topic::{TopicDescription, TopicStats};

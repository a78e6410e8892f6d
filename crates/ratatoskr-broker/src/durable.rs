//! Durable subscriptions: named, shared by members, settled message by message.
//!
//! ```text
//!   start     calls of the broker's users ──▶ dispatcher   one thread, owns all that follows
//!   member    one consumer, and its member queue  ◀──   │
//!                                               ├── active subscription      one subscription at work
//!                                               │     └── delivery   the life cycle, a pure machine
//!                                               ├── dead-lettering    dead letters
//!                                               ├── resolving what is done about them
//!                                               └── commits in flight   what waits for the journal
//!   state      what must survive: a function of the journal, changed by the sequencer alone
//! ```
//!
//! Why it is cut this way: ADR 0007.

mod active;
mod changes;
mod dead_lettering;
mod delivery;
mod describe;
mod dispatcher;
mod event;
mod in_flight;
mod lanes;
mod letters;
mod member;
mod ownership;
mod record_reader;
mod registration;
mod request;
mod resolving;
mod round_robin;
mod scan;
mod settings;
mod start;
mod states;
mod token;
mod trace;

pub(crate) use active::Facts;
pub(crate) use changes::reserve_of;
pub(crate) use dead_lettering::DEAD_PREFIX;
pub use dead_lettering::{
    DEAD_ATTEMPTS, DEAD_FIRST_MS, DEAD_ID, DEAD_LAST_MS, DEAD_OFFSET, DEAD_REASON, DEAD_SUBSCRIPTION,
    DEAD_TOPIC,
};
pub use describe::{MemberDescription, SubscriptionDescription};
pub(crate) use dispatcher::Dispatcher;
pub use event::{Outcome, OutcomeError, Window};
pub use letters::{DeadLetter, DeadLetterQuery, Listed};
pub use member::{Delivered, Member, MemberEnd, WindowSetter};
pub use request::{Fate, SettleError, SubscriptionError};
pub(crate) use request::{Refused, Request};
pub use resolving::Resolution;
pub(crate) use resolving::{NotResolved, Resolving};
pub(crate) use scan::{ScanSlots, Scanner};
pub use settings::SubscriptionSettingsError;
pub use start::{JoinOptions, Seek};
pub(crate) use states::SubscriptionStates;
pub use token::{TOKEN_BYTES, Token};
pub use trace::{Trace, TraceStep};

//! What the journal means: the bytes of a message, of a change, and of the batch that carries them from one machine to another.
//!
//! ```text
//!   RecordBatch ──place──▶ records ─┐
//!              create, trim, … ─────┴─▶ Entry ──▶ Batch ──▶ a frame of the local journal, or of another machine's
//! ```
//!
//! This crate does no I/O and knows no clock and no randomness: the same batches lead to the same state on every machine.
//! The formats are described in `docs/log-format.md`. Nobody else in the code knows the bytes of records, entries and batches.
//!
//! ```
//! use ratatoskr_state::{Batch, BatchBuilder, Entry, Position};
//!
//! let mut builder = BatchBuilder::behind(0);
//! builder.push(&Entry::Delete { topic: 7 });
//! let (bytes, _) = builder.finish(Position::default().next(1, 0));
//! let batch = Batch::parse(bytes).expect("it was just written");
//! assert_eq!(batch.entries().next(), Some(Ok(Entry::Delete { topic: 7 })));
//! ```

mod ages;
mod batch;
mod batch_date;
mod broken;
mod change;
mod checksum;
mod code;
mod dedup;
mod dedup_ids;
mod entry;
pub mod limits;
mod quoted;
mod ranges;
mod record;
mod schedule;
mod state;
mod subscription_settings;
mod subscriptions;
mod topic_name;
mod topic_settings;
mod topics;

pub use ages::{Ages, Bounds, Run};
pub use batch::{BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchHeader, Position};
pub use batch_date::BatchDate;
#[doc(hidden)]
pub use broken::Broken;
pub use change::{Change, Created, SettlementBatch, remembered};
pub use checksum::checksums_agree;
pub use code::Reader;
pub use dedup::{DedupDate, DedupEntry, DedupId, First, Window};
pub use dedup_ids::DedupIds;
pub use entry::{ENTRY_HEADER_BYTES, Entry, EntryError, Genesis, RawEntry};
pub use quoted::{Quoted, SHOWN_BYTES_MAX, quoted, shortened};
pub use ranges::Ranges;
pub use record::{
    Body, Marks, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record, RecordBatch, RecordChunk, RecordFacts,
    RecordHead, read_u32, read_u64,
};
pub use schedule::{Due, Progress};
pub use state::{State, StateSnapshot};
pub use subscription_settings::{
    DEAD_LETTERS_SUBSCRIPTION, SubscriptionName, SubscriptionNameError, SubscriptionRef,
    SubscriptionSettings, dead_letter_topic,
};
pub use subscriptions::{AckState, Counts, Returned, SavedState, SubscriptionState, Subscriptions};
pub use topic_name::{TopicName, TopicNameError};
pub use topic_settings::{
    DEDUP_WINDOW_MS_DEFAULT, Durability, RETENTION_AGE_MS_DEFAULT, SettingsError, TopicSettings,
};
pub use topics::{TopicState, Topics};

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

mod batch;
mod checksum;
mod entry;
mod record;

pub use batch::{BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchHeader, Position};
pub use checksum::checksums_agree;
pub use entry::{ENTRY_HEADER_BYTES, Entry, EntryError, Genesis, RawEntry};
pub use record::{
    Body, Marks, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record, RecordBatch, RecordChunk, RecordFacts,
    RecordHead, read_u32, read_u64,
};

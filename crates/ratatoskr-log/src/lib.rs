//! The bytes on disk: journal, segments, indexes, checkpoints, recovery.
//!
//! ```text
//!   Log ──write, sync──▶ journal          everything, all topics, synced before anyone is told
//!    │
//!    └──tail──▶ TopicLog ◀── readers      recent records in memory, older ones in segments
//!                  ▲
//!   Flusher ────────┘ ──▶ segments, checkpoint, retired journal files
//! ```
//!
//! The format and the crash argument of every operation stand in `docs/log-format.md`. This crate does no
//! networking, has no async, and knows nothing of names, settings or limits: that is the broker's. All file access
//! goes through [`Disk`], all time through [`Clock`].
//!
//! ```
//! use std::sync::Arc;
//! use ratatoskr_log::{LogOptions, Promise, RealClock, RealDisk, RecordBatch, Tail, open};
//!
//! let folder = std::env::temp_dir().join(format!("ratatoskr-doc-{}", std::process::id()));
//! let options = LogOptions {
//!     folder: folder.clone(),
//!     journal_file_bytes: 4 << 20,
//!     journal_reserve_bytes: 1 << 20,
//!     segment_bytes: 1 << 20,
//!     tail_bytes_max: 1 << 20,
//!     memory_bytes_max: 1 << 20,
//!     open_files_max: ratatoskr_log::OPEN_FILES_DEFAULT,
//!     entropy: [4, 2],
//!     promise_of: |_| Ok(Promise::Synced),
//! };
//! let mut opened = open(Arc::new(RealDisk), Arc::new(RealClock), options)?;
//! let topic = opened.log.stage_create("orders", "".into(), Promise::Synced);
//! opened.log.commit()?;
//! let mut batch = RecordBatch::default();
//! batch.push("", &[], b"hello");
//! let placed = opened.log.stage_append(&topic, &mut batch);
//! opened.log.commit()?; // from here on it survives a power cut
//! assert_eq!(placed.first, 0);
//! let Ok(Tail::Records(chunks)) = topic.read_tail(0, 1024) else { panic!("just written") };
//! assert_eq!(chunks[0].records().next().unwrap().body.payload(), "hello");
//! # drop(opened); std::fs::remove_dir_all(folder).unwrap();
//! # Ok::<(), ratatoskr_log::LogError>(())
//! ```

mod block;
mod checkpoint;
mod clock;
mod disk;
mod doctor;
mod error;
mod flush;
mod flusher;
mod header;
mod index;
mod journal;
mod layout;
mod log;
mod machine;
mod options;
mod recovery;
mod replay;
mod resume;
mod segment;
mod shared;
mod spares;
mod topic;
mod unsynced;

pub use clock::{Clock, Moment, RealClock};
pub use disk::{Disk, DiskFile, DiskLock, DiskSpace, OpenMode, RealDisk, SECTOR_BYTES};
pub use doctor::{Diagnosis, Finding, Severity, examine};
pub use error::{LogError, ReadError};
pub use flusher::Flusher;
pub use journal::Reserve;
pub use log::{Log, Placed, Pressure};
pub use machine::{NoState, Snapshot, StateMachine};
pub use options::{LogCounts, LogOptions, OPEN_FILES_DEFAULT, OPEN_FILES_MIN};
pub use ratatoskr_state::{
    Body, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, Record, RecordBatch, RecordChunk, RecordFacts,
};
pub use recovery::{Opened, RecoveryReport, open, open_with};
pub use replay::read_batches;
pub use topic::{Promise, SegmentCursor, Tail, TopicExtent, TopicLog};

//! What a log is told when it is opened, and what it tells of itself.

use std::path::PathBuf;

use crate::topic::Promise;

/// File handles a log holds at most, unless it is told otherwise.
pub const OPEN_FILES_DEFAULT: usize = 768;
/// The least it can work with.
pub const OPEN_FILES_MIN: usize = 24;

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The data directory.
    pub folder: PathBuf,
    /// Bytes of a journal file. At least 4 MiB and more than the largest block.
    pub journal_file_bytes: u64,
    /// Bytes at the end of a journal file that are kept for settlements, deletions and trims while the disk is full. Much less
    /// than a file has.
    pub journal_reserve_bytes: u64,
    /// Bytes of a segment, unless a topic asks for less.
    pub segment_bytes: u64,
    /// Bytes of recent records kept in memory over all topics.
    pub tail_bytes_max: usize,
    /// Bytes all memory topics may hold together; beyond it each drops its own oldest records first.
    pub memory_bytes_max: u64,
    /// File handles it may hold at a time, beside those that are opened and closed again at once.
    pub open_files_max: usize,
    /// Random bits, used when a data directory is made: the first number keys its journal's checksums and should be
    /// hard to guess, the second seeds the mask of its message ids, which clients can see.
    pub entropy: [u64; 2],
    /// What a topic with these settings promises. Settings are bytes to the log; this is all it asks of them.
    pub promise_of: fn(&[u8]) -> Result<Promise, String>,
}

/// Counts since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Blocks written.
    pub blocks: u64,
    /// Bytes of them.
    pub block_bytes: u64,
    /// Syncs of the journal.
    pub syncs: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Microseconds of the journal writer's time that they took; everybody waits meanwhile.
    pub checkpoint_pause_micros: u64,
    /// Bytes of recent records in memory.
    pub tail_bytes: u64,
    /// Bytes in no segment yet.
    pub unflushed_bytes: u64,
    /// Bytes of journal files a restart would read.
    pub journal_bytes: u64,
    /// Bytes all memory topics hold.
    pub memory_topic_bytes: u64,
}

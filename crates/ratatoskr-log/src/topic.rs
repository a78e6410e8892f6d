//! One topic's log: segments on disk, the newest records in memory, and where each begins and ends.
//!
//! ```text
//!        trimmed     │          in segments           │  in memory only   │ staged
//!  ─ ─ ─ ─ ─ ─ ─ ─ ─ ┼────────────────────────────────┼───────────────────┼─ ─ ─ ─
//!                  first                  ┌───── tail ┴──────────────┐   next
//!                                     tail base  (kept for readers)
//! ```
//!
//! Three parties meet here, each with its own lock, never two at a time but in this order:
//! the journal writer stages and publishes (`staged`), readers read (`state`), the flusher moves the tail
//! into segments. Invariants: `first ≤ next`; `tail base ≤ flushed ≤ next`; records in
//! `state` are as durable as the topic promises; segments and tail overlap or touch.

mod reading;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{ExtentEntry, SegmentEntry};
use crate::disk::Disk;
use ratatoskr_state::{Marks, RecordBatch, RecordChunk};

pub use reading::{SegmentCursor, Tail};

/// What a chunk costs in memory beyond its bytes, for the accounts.
const CHUNK_OVERHEAD_BYTES: usize = 96;

/// When a topic's records become visible and its publishers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// After the journal is synced.
    Synced,
    /// After the journal is written.
    Written,
    /// At once: nothing is written. Keeps at most so many bytes; the oldest records go first.
    Memory {
        /// The bound.
        bytes_max: u64,
    },
}

/// One topic's log; shared by everybody who works with the topic.
pub struct TopicLog {
    /// Its number, unique for ever within the data directory.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// When it was created, milliseconds since the Unix epoch.
    pub created_ms: u64,
    pub(crate) promise: Promise,
    pub(crate) folder: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    /// Places given out but not yet promised. Only the journal writer touches it.
    /// Identity of the data directory, which its segments' headers name.
    pub(crate) directory: u64,
    pub(crate) staged: Mutex<Staged>,
    state: RwLock<State>,
    /// Bytes at which a new segment is begun; a topic with little retention wants small ones.
    segment_bytes: AtomicU64,
    /// The most that can be.
    segment_bytes_max: u64,
    /// Bytes a memory topic keeps.
    memory_bytes_max: AtomicU64,
    deleted: AtomicBool,
    /// True while the flusher has a flush of this topic in its queue.
    pub(crate) flush_queued: AtomicBool,
}

/// Records that are on their way into the journal.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// Offset the next record gets.
    pub(crate) next: u64,
    /// Timestamps never go back within a topic, whatever the clock does.
    pub(crate) last_timestamp_ms: u64,
    /// Offset of the first record in `bytes`.
    pub(crate) first: u64,
    pub(crate) bytes: BytesMut,
    pub(crate) count: u32,
    pub(crate) has_dedup_ids: bool,
}

/// What readers see.
struct State {
    settings: Bytes,
    first: u64,
    next: u64,
    last_timestamp_ms: u64,
    /// Ascending, without gaps between them.
    segments: Vec<SegmentEntry>,
    /// Offset after the last record that is in a segment.
    flushed: u64,
    /// The newest chunks, ascending, without gaps, ending at `next`.
    tail: VecDeque<RecordChunk>,
    tail_bytes: usize,
    /// Bytes of the tail that are in no segment yet.
    unflushed_bytes: usize,
    /// A time no record before it is as young as the first one; saves looking it up again.
    oldest_timestamp_ms: Option<u64>,
}

/// Where a topic starts from.
pub(crate) struct TopicStart {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) created_ms: u64,
    pub(crate) settings: Bytes,
    pub(crate) promise: Promise,
    pub(crate) folder: PathBuf,
    /// Identity of the data directory.
    pub(crate) directory: u64,
    pub(crate) segment_bytes: u64,
}

/// Figures of a topic at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicExtent {
    /// The earliest offset that can be read.
    pub first: u64,
    /// The offset the next record gets.
    pub next: u64,
    /// Bytes held, on disk or (not yet there) in memory.
    pub bytes: u64,
    /// Segments on disk.
    pub segments: usize,
}

impl TopicLog {
    pub(crate) fn new(disk: Arc<dyn Disk>, start: TopicStart) -> TopicLog {
        TopicLog {
            number: start.number,
            name: start.name,
            created_ms: start.created_ms,
            promise: start.promise,
            folder: start.folder,
            directory: start.directory,
            disk,
            staged: Mutex::new(Staged::default()),
            state: RwLock::new(State {
                settings: start.settings,
                first: 0,
                next: 0,
                last_timestamp_ms: 0,
                segments: Vec::new(),
                flushed: 0,
                tail: VecDeque::new(),
                tail_bytes: 0,
                unflushed_bytes: 0,
                oldest_timestamp_ms: None,
            }),
            segment_bytes: AtomicU64::new(start.segment_bytes),
            segment_bytes_max: start.segment_bytes,
            memory_bytes_max: AtomicU64::new(match start.promise {
                Promise::Memory { bytes_max } => bytes_max,
                Promise::Synced | Promise::Written => 0,
            }),
            deleted: AtomicBool::new(false),
            flush_queued: AtomicBool::new(false),
        }
    }

    /// Its settings, as given to the log.
    pub fn settings(&self) -> Bytes {
        self.state.read().settings.clone()
    }

    pub(crate) fn set_settings(&self, settings: Bytes) {
        self.state.write().settings = settings;
    }

    /// Bytes at which a new segment is begun.
    pub fn segment_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    /// Has new segments begun at so many bytes, or at what the log was opened with if that is less.
    pub fn set_segment_bytes(&self, bytes: u64) {
        self.segment_bytes.store(bytes.min(self.segment_bytes_max), Ordering::Relaxed);
    }

    /// Changes the bytes a memory topic keeps, from its next record on.
    pub fn set_memory_bytes(&self, bytes_max: u64) {
        self.memory_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// True once the topic's deletion is durable.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// The offset the next record gets, as readers see it.
    pub fn next(&self) -> u64 {
        self.state.read().next
    }

    /// The newest timestamp it ever gave out, 0 if it never did.
    pub fn last_timestamp_ms(&self) -> u64 {
        self.state.read().last_timestamp_ms
    }

    /// Figures of this moment.
    pub fn extent(&self) -> TopicExtent {
        let state = self.state.read();
        let in_segments: u64 = state.segments.iter().map(|segment| segment.bytes).sum();
        let in_memory = if self.is_in_memory() {
            state.tail_bytes
        } else if state.first > state.flushed {
            // What was removed before it came into a segment is held no more, though it may be written yet.
            let from = state.tail.partition_point(|chunk| chunk.end() <= state.first);
            state.tail.range(from..).map(|chunk| chunk.bytes.len()).sum()
        } else {
            state.unflushed_bytes
        };
        TopicExtent {
            first: state.first,
            next: state.next,
            bytes: in_segments + in_memory as u64,
            segments: state.segments.len(),
        }
    }

    // ---- the journal writer ----

    /// Gives a batch its places. Nobody sees it before [`TopicLog::publish`].
    pub(crate) fn stage(&self, batch: &mut RecordBatch, now_ms: u64) -> (u64, u64) {
        let mut staged = self.staged.lock();
        let timestamp_ms = now_ms.max(staged.last_timestamp_ms);
        let first = staged.next;
        let count = batch.count();
        staged.has_dedup_ids |= batch.has_dedup_ids();
        let bytes = batch.place(first, timestamp_ms);
        if staged.count == 0 {
            staged.first = first;
            staged.bytes = bytes.split();
        } else {
            staged.bytes.extend_from_slice(bytes);
        }
        staged.count += count;
        staged.next = first + u64::from(count);
        staged.last_timestamp_ms = timestamp_ms;
        (first, timestamp_ms)
    }

    /// The offset the next staged record gets. On the journal writer's thread only.
    pub fn staged_next(&self) -> u64 {
        self.staged.lock().next
    }

    /// Takes back what was staged and not published.
    pub(crate) fn unstage(&self) {
        let (next, last_timestamp_ms) = {
            let state = self.state.read();
            (state.next, state.last_timestamp_ms)
        };
        *self.staged.lock() = Staged { next, last_timestamp_ms, ..Staged::default() };
    }

    /// Takes the staged records out, as one chunk.
    pub(crate) fn take_staged(&self) -> Option<RecordChunk> {
        let mut staged = self.staged.lock();
        if staged.count == 0 {
            return None;
        }
        let chunk = RecordChunk {
            bytes: exact(std::mem::take(&mut staged.bytes)),
            first: staged.first,
            count: staged.count,
            last_timestamp_ms: staged.last_timestamp_ms,
            has_dedup_ids: staged.has_dedup_ids,
            marks: Marks::for_count(staged.count),
        };
        (staged.count, staged.has_dedup_ids) = (0, false);
        Some(chunk)
    }

    /// Makes records visible. Answers the bytes the tail grew by and what it now holds unflushed.
    pub(crate) fn publish(&self, chunk: RecordChunk) -> Published {
        let cost = chunk.bytes.len() + CHUNK_OVERHEAD_BYTES;
        let mut state = self.state.write();
        assert_eq!(chunk.first, state.next, "topic {}: a chunk must continue its topic", self.number);
        state.last_timestamp_ms = chunk.last_timestamp_ms.max(state.last_timestamp_ms);
        state.next = chunk.end();
        let bytes = chunk.bytes.len();
        state.tail_bytes += cost;
        state.tail.push_back(chunk);
        let mut dropped = 0;
        if self.is_in_memory() {
            state.flushed = state.next;
            let bytes_max = self.memory_bytes_max.load(Ordering::Relaxed);
            while state.tail_bytes as u64 > bytes_max && state.tail.len() > 1 {
                dropped += state.drop_oldest_for_good();
            }
        } else {
            state.unflushed_bytes += bytes;
        }
        Published { cost, dropped, unflushed_bytes: state.unflushed_bytes }
    }

    /// Drops tail chunks that end at or before `end` and are in a segment. Answers the bytes freed.
    pub(crate) fn evict(&self, end: u64) -> usize {
        let mut state = self.state.write();
        let limit = end.min(state.flushed);
        let mut freed = 0;
        while state.tail.front().is_some_and(|chunk| chunk.end() <= limit) {
            freed += state.drop_oldest();
        }
        freed
    }

    /// The offset after the last record that is in a segment.
    pub(crate) fn flushed_end(&self) -> u64 {
        self.state.read().flushed
    }

    /// True when everything before `end` is in a segment.
    pub(crate) fn is_flushed(&self, end: u64) -> bool {
        self.state.read().flushed >= end
    }

    /// Moves the first offset. Answers the bytes a memory topic thereby gave back.
    pub(crate) fn trim(&self, first: u64) -> usize {
        let mut state = self.state.write();
        state.first = first.clamp(state.first, state.next);
        state.oldest_timestamp_ms = None;
        let mut dropped = 0;
        let first = state.first;
        while self.is_in_memory() && state.tail.front().is_some_and(|chunk| chunk.end() <= first) {
            dropped += state.drop_oldest();
        }
        dropped
    }

    /// Lets a memory topic give back at least so many bytes, its oldest records first, but not the newest chunk.
    pub(crate) fn drop_excess(&self, bytes: u64) -> usize {
        let mut state = self.state.write();
        let mut dropped = 0;
        while (dropped as u64) < bytes && state.tail.len() > 1 {
            dropped += state.drop_oldest_for_good();
        }
        dropped
    }

    /// Lets go of everything a deleted memory topic holds. Answers how much that was.
    pub(crate) fn drop_all(&self) -> usize {
        let mut state = self.state.write();
        state.tail.clear();
        std::mem::take(&mut state.tail_bytes)
    }

    /// Bytes of the topic that are in no segment yet.
    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.state.read().unflushed_bytes
    }

    /// Bytes of its records in memory.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.state.read().tail_bytes
    }

    /// True when a trim that leaves `first` as the earliest offset removes a segment from the disk.
    pub fn frees_a_segment(&self, first: u64) -> bool {
        self.state.read().segments.first().is_some_and(|segment| segment.next <= first)
    }

    /// True when nothing of the topic is ever on disk.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.promise, Promise::Memory { .. })
    }

    // ---- the flusher ----

    /// Chunks that are in no segment yet, up to `end`.
    pub(crate) fn unflushed(&self, end: u64) -> Vec<RecordChunk> {
        let state = self.state.read();
        let from = state.tail.partition_point(|chunk| chunk.end() <= state.flushed);
        state.tail.range(from..).take_while(|chunk| chunk.end() <= end).cloned().collect()
    }

    /// Passes over chunks that end at or before `end` and were trimmed before they came into a segment. Answers their bytes.
    /// None while there are segments, with which later ones would not be contiguous.
    pub(crate) fn skip_trimmed(&self, end: u64) -> usize {
        let mut state = self.state.write();
        if !state.segments.is_empty() {
            return 0;
        }
        let end = end.min(state.first);
        let (from, to) = (
            state.tail.partition_point(|chunk| chunk.end() <= state.flushed),
            state.tail.partition_point(|chunk| chunk.end() <= end),
        );
        if to <= from {
            return 0;
        }
        state.flushed = state.tail[to - 1].end();
        let bytes = state.tail.range(from..to).map(|chunk| chunk.bytes.len()).sum();
        state.unflushed_bytes = state.unflushed_bytes.saturating_sub(bytes);
        bytes
    }

    pub(crate) fn last_segment(&self) -> Option<SegmentEntry> {
        self.state.read().segments.last().copied()
    }

    /// Notes that a segment now reaches further, or that a new one exists.
    pub(crate) fn flushed(&self, segment: SegmentEntry, bytes: usize) {
        let mut state = self.state.write();
        state.flushed = segment.next;
        state.unflushed_bytes = state.unflushed_bytes.saturating_sub(bytes);
        match state.segments.last_mut() {
            Some(last) if last.base == segment.base => *last = segment,
            _ => state.segments.push(segment),
        }
    }

    pub(crate) fn segments(&self) -> Vec<SegmentEntry> {
        self.state.read().segments.clone()
    }

    /// Takes segments wholly below the first offset out of the list; their files can go.
    pub(crate) fn take_trimmed(&self) -> Vec<SegmentEntry> {
        let mut state = self.state.write();
        let keep_from = state.segments.partition_point(|segment| segment.next <= state.first);
        state.segments.drain(..keep_from).collect()
    }

    /// Lets go of everything a deleted topic holds in memory. Answers what was in no segment.
    pub(crate) fn forget(&self) -> usize {
        let mut state = self.state.write();
        state.tail.clear();
        state.tail_bytes = 0;
        std::mem::take(&mut state.unflushed_bytes)
    }

    /// Restores a segment a checkpoint lists.
    pub(crate) fn restore_segment(&self, segment: SegmentEntry) {
        let mut state = self.state.write();
        state.segments.push(segment);
        state.flushed = segment.next;
        state.next = segment.next;
        state.last_timestamp_ms = segment.last_timestamp_ms;
        if state.segments.len() == 1 && state.first < segment.base {
            state.first = segment.base;
        }
    }

    /// Restores what a checkpoint says of a topic as a whole, after its segments.
    pub(crate) fn restore_extent(&self, extent: ExtentEntry) {
        let ExtentEntry { first, last_timestamp_ms } = extent;
        let mut state = self.state.write();
        state.last_timestamp_ms = last_timestamp_ms.max(state.last_timestamp_ms);
        state.first = first;
        if state.next < first {
            state.next = first;
            state.flushed = first;
        }
    }
}

impl State {
    /// Drops the oldest chunk of a memory topic: nobody can read it any more.
    fn drop_oldest_for_good(&mut self) -> usize {
        let cost = self.drop_oldest();
        self.first = self.tail.front().map_or(self.next, |chunk| chunk.first).max(self.first);
        cost
    }

    fn drop_oldest(&mut self) -> usize {
        let cost = self.tail.pop_front().map_or(0, |chunk| chunk.bytes.len() + CHUNK_OVERHEAD_BYTES);
        self.tail_bytes -= cost;
        cost
    }
}

/// Batches that were joined left room to grow; a chunk stays in memory for long and gives it back.
fn exact(bytes: BytesMut) -> Bytes {
    let spare = bytes.capacity() - bytes.len();
    if spare > bytes.len() / 8 { Bytes::copy_from_slice(&bytes) } else { bytes.freeze() }
}

/// What publishing a chunk changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// Bytes of memory it takes.
    pub(crate) cost: usize,
    /// Bytes of memory that old records of a memory topic gave back.
    pub(crate) dropped: usize,
    /// Bytes of the topic that are in no segment yet.
    pub(crate) unflushed_bytes: usize,
}

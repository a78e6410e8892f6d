//! Moving a topic's tail into its segments: written behind, never synced here.
//!
//! ```text
//!   tail:  ▒▒▒▒▒▒ flushed ▒▒▒▒▒▒ │ chunk │ chunk │ chunk │
//!                                    └───────┴───────┴──▶ newest segment, or a new one when it is full
//! ```
//!
//! No promise depends on a flush: until the next checkpoint the journal has the same records. So a flush that
//! fails half-way is simply done again, over the same bytes. Invariant: a segment's known end moves only after the
//! bytes before it were written.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::checkpoint::SegmentEntry;
use crate::disk::{DiskFile, OpenMode};
use crate::error::LogError;
use crate::header::{FILE_HEADER_BYTES, FileHeader, FileKind};
use crate::index::{IndexEntry, IndexWriter, open_or_create, read_entries};
use crate::layout::{index_file, segment_file};
use crate::topic::TopicLog;
use ratatoskr_state::{RecordChunk, read_u32, read_u64};

/// Bytes gathered before they are written. Many times more would hold a core for a millisecond, where the kernel does not preempt itself.
const GATHER_BYTES: usize = 128 << 10;

/// The open end of a topic's newest segment.
#[derive(Default)]
pub(crate) struct SegmentWriter {
    open: Option<OpenSegment>,
}

/// What a flush needs beyond its topic.
pub(crate) struct Flush<'a> {
    pub(crate) topic: &'a TopicLog,
    /// Identity of the data directory, for new files.
    pub(crate) directory: u64,
    /// Chunks that end after this offset stay in memory.
    pub(crate) end: u64,
    /// Lent by the caller, so that topics do not each keep a buffer; empty before and after.
    pub(crate) gathered: &'a mut Vec<u8>,
}

struct OpenSegment {
    file: Arc<dyn DiskFile>,
    index: IndexWriter,
    segment: SegmentEntry,
}

/// What a flush touched: the checkpoint has to sync it.
#[derive(Default)]
pub(crate) struct Flushed {
    /// Bases of the segments written to, and the handles they were written through.
    pub(crate) segments: Vec<(u64, Arc<dyn DiskFile>)>,
    /// True when a file or the folder is new.
    pub(crate) has_new_names: bool,
    /// Bytes moved.
    pub(crate) bytes: usize,
}

impl SegmentWriter {
    /// Lets go of the open files; the next flush opens them again.
    pub(crate) fn close(&mut self) {
        *self = SegmentWriter::default();
    }

    /// Writes the topic's unflushed chunks up to `end` into segments. What was touched is noted in `flushed`, also
    /// when a later chunk fails: the topic counts on it from then on, so the checkpoint has to sync it.
    pub(crate) fn flush(&mut self, mut flush: Flush<'_>, flushed: &mut Flushed) -> Result<(), LogError> {
        let topic = flush.topic;
        for chunk in topic.unflushed(flush.end) {
            let full = self.open.as_ref().is_some_and(|open| {
                open.segment.bytes + (flush.gathered.len() + chunk.bytes.len()) as u64 > topic.segment_bytes()
            });
            if full {
                self.write_out(&mut flush, flushed)?;
                self.open = None;
            }
            if self.open.is_none() {
                self.open = Some(open_for(topic, flush.directory, &chunk, flushed)?);
            }
            self.gather(&chunk, flush.gathered);
            if flush.gathered.len() >= GATHER_BYTES {
                self.write_out(&mut flush, flushed)?;
            }
        }
        self.write_out(&mut flush, flushed)
    }

    /// Adds a chunk to what is written next.
    fn gather(&mut self, chunk: &RecordChunk, gathered: &mut Vec<u8>) {
        let open = self.open.as_mut().expect("a segment was opened for this chunk");
        let start = open.segment.bytes + gathered.len() as u64;
        let mut at = 0;
        while at < chunk.bytes.len() {
            open.index.note(IndexEntry {
                offset: read_u64(&chunk.bytes, at + 8),
                timestamp_ms: read_u64(&chunk.bytes, at + 16),
                position: (start + at as u64) as u32,
            });
            at += read_u32(&chunk.bytes, at) as usize;
        }
        if open.segment.base == open.segment.next && gathered.is_empty() {
            open.segment.first_timestamp_ms = read_u64(&chunk.bytes, 16);
        }
        open.segment.last_timestamp_ms = chunk.last_timestamp_ms;
        gathered.extend_from_slice(&chunk.bytes);
    }

    /// Writes what was gathered and tells the topic. A failure forgets the open segment: the next
    /// flush starts from what the topic knows.
    fn write_out(&mut self, flush: &mut Flush<'_>, flushed: &mut Flushed) -> Result<(), LogError> {
        let Some(open) = self.open.as_mut().filter(|_| !flush.gathered.is_empty()) else { return Ok(()) };
        let path = segment_file(&flush.topic.folder, open.segment.base);
        let bytes = flush.gathered.len();
        let written =
            open.file.write_all_at(flush.gathered, open.segment.bytes).and_then(|()| open.index.write());
        let last_offset = last_offset(flush.gathered);
        flush.gathered.clear();
        if let Err(error) = written {
            self.close();
            return Err(LogError::io("write", &path, error));
        }
        open.segment.bytes += bytes as u64;
        open.segment.next = last_offset + 1;
        flush.topic.flushed(open.segment, bytes);
        if flushed.segments.last().is_none_or(|(base, _)| *base != open.segment.base) {
            flushed.segments.push((open.segment.base, open.file.clone()));
        }
        flushed.bytes += bytes;
        Ok(())
    }
}

/// Opens the newest segment if it has room, else creates one that starts at the chunk.
fn open_for(
    topic: &TopicLog,
    directory: u64,
    chunk: &RecordChunk,
    flushed: &mut Flushed,
) -> Result<OpenSegment, LogError> {
    if let Some(segment) = topic.last_segment()
        && segment.next == chunk.first
        && segment.bytes + chunk.bytes.len() as u64 <= topic.segment_bytes()
        && let Some(open) = reopen(topic, segment)?
    {
        return Ok(open);
    }
    flushed.has_new_names = true;
    create(topic, directory, chunk.first)
}

/// Opens a segment to go on writing, cutting what stands behind its known end. `None` when the file is gone or too
/// short: it is left for the readers to report, and writing goes on in a new one.
fn reopen(topic: &TopicLog, segment: SegmentEntry) -> Result<Option<OpenSegment>, LogError> {
    let path = segment_file(&topic.folder, segment.base);
    let failed = |error| LogError::refused("open", &path, error);
    let file = match topic.disk.open(&path, OpenMode::Write) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let length = file.len().map_err(failed)?;
    if length < segment.bytes {
        return Ok(None);
    }
    if length > segment.bytes {
        file.set_len(segment.bytes).map_err(|error| LogError::io("cut", &path, error))?;
    }
    let index = open_index(topic, segment.base, segment.bytes)?;
    Ok(Some(OpenSegment { file, index, segment }))
}

fn create(topic: &TopicLog, directory: u64, base: u64) -> Result<OpenSegment, LogError> {
    let path = segment_file(&topic.folder, base);
    let failed = |error| LogError::refused("create", &path, error);
    topic.disk.create_dir(&topic.folder).map_err(failed)?;
    let file = match topic.disk.open(&path, OpenMode::CreateNew) {
        // Left by a run whose checkpoint never came: nothing refers to it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            topic.disk.remove(&path).map_err(failed)?;
            topic.disk.open(&path, OpenMode::CreateNew).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    let header =
        FileHeader { kind: FileKind::Segment, topic: topic.number, directory, number: base, sequence: 0 };
    file.write_all_at(&header.encode(), 0).map_err(|error| LogError::io("write", &path, error))?;
    let index = open_index(topic, base, 0)?;
    let segment = SegmentEntry {
        base,
        next: base,
        bytes: FILE_HEADER_BYTES as u64,
        first_timestamp_ms: 0,
        last_timestamp_ms: 0,
    };
    Ok(OpenSegment { file, index, segment })
}

fn open_index(topic: &TopicLog, base: u64, segment_bytes: u64) -> Result<IndexWriter, LogError> {
    let path = index_file(&topic.folder, base);
    let known = read_entries(&topic.disk, &path, base, segment_bytes);
    let file = open_or_create(&topic.disk, &path).map_err(|error| LogError::refused("open", &path, error))?;
    IndexWriter::continuing(file, base, &known).map_err(|error| LogError::io("write", &path, error))
}

fn last_offset(records: &[u8]) -> u64 {
    let (mut at, mut offset) = (0, 0);
    while at < records.len() {
        offset = read_u64(records, at + 8);
        at += read_u32(records, at) as usize;
    }
    offset
}

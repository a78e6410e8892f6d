//! Reading a topic: from memory when the place is there, from segments when it is not.
//!
//! ```text
//!   cursor ──▶ tail?  ──▶ chunks, shared with everybody who reads the same
//!         └──▶ segment? ──▶ a chunk of its own, from the file; the cursor remembers where it goes on
//! ```
//!
//! Any number of readers, none of which anybody waits for: the topic's state is locked only to look up where a place is,
//! never while a file is read. A segment that retention removes meanwhile is told apart from a lost one.

use super::TopicLog;
use crate::checkpoint::SegmentEntry;
use crate::error::ReadError;
use crate::segment::{Place, SegmentReader};
use ratatoskr_state::{Record, RecordChunk, read_u64};

/// What a reader finds at its cursor.
#[derive(Debug)]
pub enum Tail {
    /// Records, the first one at the cursor.
    Records(Vec<RecordChunk>),
    /// Nothing yet: the cursor is the end.
    End,
    /// Records, but only on disk: use [`TopicLog::read_segments`].
    Cold,
}

/// Where a reader of segments goes on, so that reading in order needs no search.
#[derive(Default)]
pub struct SegmentCursor {
    /// Boxed: most cursors are at the end, where nothing is open.
    open: Option<Box<(SegmentReader, Place)>>,
}

impl TopicLog {
    /// Reads from memory: chunks from `cursor` on, about `bytes_max` of them.
    pub fn read_tail(&self, cursor: u64, bytes_max: usize) -> Result<Tail, ReadError> {
        let state = self.state.read();
        if cursor < state.first {
            return Err(ReadError::Trimmed { cursor, first: state.first });
        }
        if cursor >= state.next {
            return Ok(Tail::End);
        }
        if state.tail.front().is_none_or(|chunk| cursor < chunk.first) {
            return Ok(Tail::Cold);
        }
        let from = state.tail.partition_point(|chunk| chunk.end() <= cursor);
        let mut bytes = 0;
        let mut chunks = Vec::new();
        for chunk in state.tail.range(from..) {
            if bytes > 0 && bytes + chunk.bytes.len() > bytes_max {
                break;
            }
            bytes += chunk.bytes.len();
            chunks.push(if chunk.first < cursor { chunk.starting_at(cursor) } else { chunk.clone() });
        }
        Ok(Tail::Records(chunks))
    }

    /// Reads from disk: sound records from `cursor` on, about `bytes_max` of them. May block on the disk.
    /// `None` when the place is in memory by now or nowhere yet.
    pub fn read_segments(
        &self,
        cursor: u64,
        at: &mut SegmentCursor,
        bytes_max: usize,
    ) -> Result<Option<RecordChunk>, ReadError> {
        let Some(segment) = self.segment_of(cursor)? else { return Ok(None) };
        let (reader, place) = match at.open.take().map(|open| *open) {
            Some((mut reader, place)) if reader.segment.base == segment.base && place.offset == cursor => {
                reader.segment = segment;
                (reader, place)
            }
            _ => {
                let reader = self.open_segment(segment, cursor)?;
                let place = reader.find_offset(cursor).map_err(|error| self.unless_trimmed(cursor, error))?;
                (reader, place)
            }
        };
        let (chunk, next) =
            reader.read(place, bytes_max).map_err(|error| self.unless_trimmed(cursor, error))?;
        at.open = Some(Box::new((reader, next)));
        Ok(Some(chunk))
    }

    /// One record, if it is in memory.
    pub fn read_from_memory(&self, offset: u64) -> Option<Record> {
        let Ok(Tail::Records(chunks)) = self.read_tail(offset, 1) else { return None };
        chunks.first()?.records().next()
    }

    /// One record; `None` past the end. May block on the disk.
    pub fn read_at(&self, offset: u64) -> Result<Option<Record>, ReadError> {
        loop {
            match self.read_tail(offset, 1)? {
                Tail::Records(chunks) => return Ok(chunks.first().and_then(|chunk| chunk.records().next())),
                Tail::End => return Ok(None),
                Tail::Cold => {}
            }
            let chunk = self.read_segments(offset, &mut SegmentCursor::default(), 1)?;
            // `None`: it moved between memory and disk while we looked.
            if let Some(chunk) = chunk {
                return Ok(chunk.starting_at(offset).records().next());
            }
            std::thread::yield_now();
        }
    }

    fn segment_of(&self, cursor: u64) -> Result<Option<SegmentEntry>, ReadError> {
        let state = self.state.read();
        if cursor < state.first {
            return Err(ReadError::Trimmed { cursor, first: state.first });
        }
        let place = state.segments.partition_point(|segment| segment.next <= cursor);
        Ok(state.segments.get(place).copied().filter(|segment| segment.base <= cursor))
    }

    /// Opens a segment; one that a trim removed meanwhile is told apart from a lost one.
    fn open_segment(&self, segment: SegmentEntry, cursor: u64) -> Result<SegmentReader, ReadError> {
        SegmentReader::open(self, segment).map_err(|error| self.unless_trimmed(cursor, error))
    }

    /// A segment that was cut or removed while it was read is no damage when a trim did it.
    fn unless_trimmed(&self, cursor: u64, error: ReadError) -> ReadError {
        let first = self.state.read().first;
        if cursor < first { ReadError::Trimmed { cursor, first } } else { error }
    }

    /// The first offset whose record is not older than a time, and that record's own time; the end and the time asked for if
    /// there is none. May block.
    pub fn offset_at_time(&self, timestamp_ms: u64) -> Result<(u64, u64), ReadError> {
        let (first, next, candidate, tail) = {
            let state = self.state.read();
            let place = state.segments.partition_point(|segment| segment.last_timestamp_ms < timestamp_ms);
            (state.first, state.next, state.segments.get(place).copied(), state.tail.clone())
        };
        if let Some(segment) = candidate {
            let reader = self.open_segment(segment, first)?;
            if let Some((place, found_ms)) = reader.find_time(timestamp_ms)? {
                return Ok((place.offset.max(first), found_ms));
            }
        }
        let from = tail.partition_point(|chunk| chunk.last_timestamp_ms < timestamp_ms);
        let record = tail
            .get(from)
            .and_then(|chunk| chunk.records().find(|record| record.timestamp_ms >= timestamp_ms));
        Ok(record.map_or((next, timestamp_ms), |record| (record.offset.max(first), record.timestamp_ms)))
    }

    /// The first offset that may stay when the topic is to hold at most `bytes_max` bytes, exact to one
    /// index interval. May block.
    pub fn offset_for_bytes(&self, bytes_max: u64) -> Result<u64, ReadError> {
        let (first, segments, unflushed) = {
            let state = self.state.read();
            (state.first, state.segments.clone(), state.unflushed_bytes as u64)
        };
        let mut held = unflushed + segments.iter().map(|segment| segment.bytes).sum::<u64>();
        for segment in segments {
            if held <= bytes_max {
                return Ok(first.max(segment.base));
            }
            if held - segment.bytes < bytes_max {
                let reader = self.open_segment(segment, first)?;
                return Ok(reader.offset_before(held - bytes_max).max(first));
            }
            held -= segment.bytes;
        }
        let state = self.state.read();
        Ok(state.flushed.max(state.first))
    }

    /// True when no record can be older than a time, as far as is known without looking at the disk.
    pub fn is_younger_than(&self, timestamp_ms: u64) -> bool {
        let state = self.state.read();
        if state.first == state.next {
            return true;
        }
        let known = state.oldest_timestamp_ms.or_else(|| {
            let from_segment = state.segments.first().map(|segment| segment.first_timestamp_ms);
            from_segment.or_else(|| state.tail.front().map(|chunk| read_u64(&chunk.bytes, 16)))
        });
        known.is_some_and(|oldest| oldest >= timestamp_ms)
    }

    /// Notes that everything from `first` on is not older than a time.
    pub fn note_younger_than(&self, first: u64, timestamp_ms: u64) {
        let mut state = self.state.write();
        if state.first == first {
            state.oldest_timestamp_ms = Some(timestamp_ms);
        }
    }
}

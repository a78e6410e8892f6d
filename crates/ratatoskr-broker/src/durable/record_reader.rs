//! Reading single messages of a log in order of offset: neighbours are read together.

use ratatoskr_log::{ReadError, Record, RecordChunk, SegmentCursor, Tail, TopicLog};

use ratatoskr_state::limits::READ_BYTES_MAX;

/// See the file's head. May block on the disk.
pub(super) struct RecordReader<'a> {
    log: &'a TopicLog,
    segments: SegmentCursor,
    /// What was read last, from the offset asked for on.
    chunk: Option<RecordChunk>,
}

impl RecordReader<'_> {
    pub(super) fn new(log: &TopicLog) -> RecordReader<'_> {
        RecordReader { log, segments: SegmentCursor::default(), chunk: None }
    }

    /// The message at an offset; `None` past the end.
    pub(super) fn read(&mut self, offset: u64) -> Result<Option<Record>, ReadError> {
        let at_hand = |chunk: &RecordChunk| (chunk.first..chunk.end()).contains(&offset);
        self.chunk = self.chunk.take().filter(at_hand).map(|chunk| chunk.starting_at(offset));
        if self.chunk.is_none() {
            self.chunk = next_chunk(self.log, offset, &mut self.segments)?;
        }
        Ok(self.chunk.as_ref().and_then(|chunk| chunk.records().next()))
    }
}

/// What comes next in a log, from memory or disk; `None` at its end. May block on the disk.
pub(super) fn next_chunk(
    log: &TopicLog,
    cursor: u64,
    segments: &mut SegmentCursor,
) -> Result<Option<RecordChunk>, ReadError> {
    loop {
        match log.read_tail(cursor, 1)? {
            Tail::Records(chunks) => return Ok(chunks.into_iter().next()),
            Tail::End => return Ok(None),
            Tail::Cold => {}
        }
        // `None`: it moved between disk and memory meanwhile.
        if let Some(chunk) = log.read_segments(cursor, segments, READ_BYTES_MAX)? {
            return Ok(Some(chunk.starting_at(cursor)));
        }
        std::thread::yield_now();
    }
}

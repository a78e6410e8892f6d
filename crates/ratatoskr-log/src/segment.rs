//! Reading one segment file: from a place, or looking for one.
//!
//! ```text
//!   64 bytes   record  record  record ✗damaged✗  record  …  ▏beyond the known end: not ours
//!  ┌─────────┬───────┬───────┬───────┬─────────┬───────┬─ ─▏
//!  │ header  │       │       │       │         │       │
//!  └─────────┴───────┴───────┴───────┴─────────┴───────┴─ ─▏
//! ```
//!
//! A sound header that names another topic or place refuses the whole segment; a damaged one says nothing, and is reported at the
//! start. Damage costs exactly the records it touches: behind a damaged body the sound head says where the next record
//! starts; behind a damaged head the next sound one is searched for. Offsets are never shifted.
//! Nothing here writes records, [`crate::flush`] does; an index is written anew here when it was lost.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::SegmentEntry;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{ReadError, read_refusal};
use crate::header::{FILE_HEADER_BYTES, FileHeader, FileKind};
use crate::index::{IndexEntry, IndexWriter, is_whole, read_entries};
use crate::layout::{index_file, segment_file};
use crate::topic::TopicLog;
use ratatoskr_state::{Body, Marks, RECORD_HEADER_BYTES, RecordChunk, RecordHead};

/// Bytes read at a time while looking for a place.
const WINDOW_BYTES: usize = 64 << 10;

/// An open segment with what its topic knows of it.
pub(crate) struct SegmentReader {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    index_path: PathBuf,
    pub(crate) segment: SegmentEntry,
}

/// Whose a segment is, by its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Belonging {
    /// The one that belongs at this place.
    Ours,
    /// A sound header that names another topic, place or data directory: its records are not the topic's.
    Foreign(String),
    /// The header cannot be read. Its records have offsets and checksums of their own.
    Unknown(String),
}

/// What the header of a segment says of it. A disk that cannot be read now says nothing.
pub(crate) fn belongs(file: &dyn DiskFile, (topic, directory): (u32, u64), base: u64) -> Belonging {
    let mut bytes = [0; FILE_HEADER_BYTES];
    let Ok(read) = file.read_at(&mut bytes, 0) else { return Belonging::Ours };
    match FileHeader::parse(&bytes[..read], FileKind::Segment) {
        Err(what) => Belonging::Unknown(what),
        Ok(header) if (header.topic, header.directory, header.number) == (topic, directory, base) => {
            Belonging::Ours
        }
        Ok(header) if header.directory != directory => {
            Belonging::Foreign("it belongs to another data directory".to_owned())
        }
        Ok(header) => Belonging::Foreign(format!(
            "it belongs to topic number {} from offset {} on, and stands where topic number {topic} goes on at offset {base}",
            header.topic, header.number
        )),
    }
}

/// A record's offset and byte position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) position: u64,
}

impl SegmentReader {
    pub(crate) fn open(topic: &TopicLog, segment: SegmentEntry) -> Result<SegmentReader, ReadError> {
        let (disk, folder) = (&topic.disk, &topic.folder);
        let path = segment_file(folder, segment.base);
        let file = disk.open(&path, OpenMode::Read).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                let (offset, resume) = (segment.base, segment.next);
                return ReadError::Damaged { offset, resume, path: path.clone(), position: 0 };
            }
            ReadError::Io { path: path.clone(), reason: read_refusal(&error) }
        })?;
        if let Belonging::Foreign(_) = belongs(&*file, (topic.number, topic.directory), segment.base) {
            let (offset, resume) = (segment.base, segment.next);
            return Err(ReadError::Damaged { offset, resume, path, position: 0 });
        }
        let index_path = index_file(folder, segment.base);
        Ok(SegmentReader { disk: disk.clone(), file, path, index_path, segment })
    }

    /// Reads whole, sound records from a place on: at least one, and about `bytes_max`.
    /// Answers them and the place after them.
    pub(crate) fn read(&self, from: Place, bytes_max: usize) -> Result<(RecordChunk, Place), ReadError> {
        let mut bytes = self.read_bytes(from.position, bytes_max.max(RECORD_HEADER_BYTES))?;
        let head = self.head_at(&bytes, from)?;
        if head.length > bytes.len() {
            bytes = self.read_bytes(from.position, head.length)?;
        }
        let (mut at, mut place, mut last_timestamp_ms) = (0, from, 0);
        while let Some(head) = self.sound_head(&bytes[at..], place) {
            let record = &bytes[at..];
            if record.len() < head.length {
                break;
            }
            if !head.body_is_sound(record) || !Body::is_readable(&record[RECORD_HEADER_BYTES..head.length]) {
                break;
            }
            at += head.length;
            last_timestamp_ms = head.timestamp_ms;
            place = Place { offset: head.offset + 1, position: place.position + head.length as u64 };
        }
        if at == 0 {
            return Err(self.damaged(from, from.offset + 1));
        }
        bytes.truncate(at);
        let count = (place.offset - from.offset) as u32;
        let bytes = Bytes::from(bytes);
        let marks = Marks::for_count(count);
        let has_dedup_ids = true;
        Ok((RecordChunk { bytes, first: from.offset, count, last_timestamp_ms, has_dedup_ids, marks }, place))
    }

    /// The place of an offset within this segment.
    pub(crate) fn find_offset(&self, offset: u64) -> Result<Place, ReadError> {
        let start = self.hint(|entry| entry.offset <= offset);
        let found = self.walk(start, |head, _| head.offset >= offset)?;
        match found {
            Some(place) if place.offset == offset => Ok(place),
            Some(place) => Err(self.damaged(Place { offset, position: place.position }, place.offset)),
            None => Err(self.damaged(Place { offset, position: self.segment.bytes }, self.segment.next)),
        }
    }

    /// The first record that is not older than a time, and its own time.
    pub(crate) fn find_time(&self, timestamp_ms: u64) -> Result<Option<(Place, u64)>, ReadError> {
        let start = self.hint(|entry| entry.timestamp_ms < timestamp_ms);
        let mut found_ms = 0;
        let found = self.walk(start, |head, _| {
            found_ms = head.timestamp_ms;
            found_ms >= timestamp_ms
        })?;
        Ok(found.map(|place| (place, found_ms)))
    }

    /// The last record the index knows to start at or before a byte position.
    pub(crate) fn offset_before(&self, position: u64) -> u64 {
        self.hint(|entry| u64::from(entry.position) <= position).offset
    }

    /// The last index entry for which `before` holds and where its record really stands.
    fn hint(&self, before: impl Fn(&IndexEntry) -> bool) -> Place {
        let start = Place { offset: self.segment.base, position: FILE_HEADER_BYTES as u64 };
        let entries = read_entries(&self.disk, &self.index_path, self.segment.base, self.segment.bytes);
        let usable = entries.partition_point(before);
        let Some(entry) = entries[..usable].last() else { return start };
        if self.stands_at(entry.place()) { entry.place() } else { start }
    }

    /// True when a sound record with this offset stands there.
    pub(crate) fn stands_at(&self, place: Place) -> bool {
        self.record_bytes_at(place) > 0
    }

    /// The length of the sound record with this offset; 0 if none stands there.
    fn record_bytes_at(&self, place: Place) -> u64 {
        let head = self.read_bytes(place.position, RECORD_HEADER_BYTES).ok();
        let head =
            head.and_then(|bytes| RecordHead::parse(&bytes)).filter(|head| head.offset == place.offset);
        head.map_or(0, |head| head.length as u64)
    }

    /// Writes the index anew if it has not all it should have. True when it did.
    pub(crate) fn mend_index(&self) -> io::Result<bool> {
        let (disk, segment) = (&self.disk, &self.segment);
        if is_whole(disk, &self.index_path, (segment.base, segment.bytes), |last| self.record_bytes_at(last))
        {
            return Ok(false);
        }
        match disk.remove(&self.index_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut index = IndexWriter::open(disk, &self.index_path, segment.base, segment.bytes)?;
        let start = Place { offset: segment.base, position: FILE_HEADER_BYTES as u64 };
        let walked = self.walk(start, |head, position| {
            let (offset, timestamp_ms, position) = (head.offset, head.timestamp_ms, position as u32);
            index.note(IndexEntry { offset, timestamp_ms, position });
            false
        });
        walked.map_err(io::Error::other)?;
        index.write()?;
        Ok(true)
    }

    /// Goes from record to record until `wanted` holds, stepping over damage. `None` at the end.
    fn walk(
        &self,
        start: Place,
        mut wanted: impl FnMut(&RecordHead, u64) -> bool,
    ) -> Result<Option<Place>, ReadError> {
        let mut place = start;
        let mut window = Vec::new();
        let mut window_at = 0;
        while place.position < self.segment.bytes && place.offset < self.segment.next {
            let inside = place
                .position
                .checked_sub(window_at)
                .filter(|at| *at as usize + RECORD_HEADER_BYTES <= window.len());
            let Some(at) = inside else {
                window = self.read_bytes(place.position, WINDOW_BYTES)?;
                window_at = place.position;
                if window.len() < RECORD_HEADER_BYTES {
                    return Ok(None);
                }
                continue;
            };
            match RecordHead::parse(&window[at as usize..]).filter(|head| head.offset == place.offset) {
                Some(head) if wanted(&head, place.position) => return Ok(Some(place)),
                Some(head) => {
                    place.offset += 1;
                    place.position += head.length as u64;
                }
                None => match self.next_sound_head(place)? {
                    Some(next) => place = next,
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    /// Searches behind a damaged head for the next record.
    fn next_sound_head(&self, damaged: Place) -> Result<Option<Place>, ReadError> {
        let mut position = damaged.position + 1;
        while position < self.segment.bytes {
            let window = self.read_bytes(position, WINDOW_BYTES)?;
            for at in 0..window.len().saturating_sub(RECORD_HEADER_BYTES - 1) {
                let plausible = RecordHead::parse(&window[at..]).filter(|head| {
                    head.offset > damaged.offset
                        && head.offset < self.segment.next
                        && position + (at + head.length) as u64 <= self.segment.bytes
                });
                if let Some(head) = plausible {
                    return Ok(Some(Place { offset: head.offset, position: position + at as u64 }));
                }
            }
            if window.len() < WINDOW_BYTES {
                return Ok(None);
            }
            position += (window.len() - RECORD_HEADER_BYTES + 1) as u64;
        }
        Ok(None)
    }

    fn sound_head(&self, bytes: &[u8], place: Place) -> Option<RecordHead> {
        RecordHead::parse(bytes).filter(|head| {
            head.offset == place.offset && place.position + head.length as u64 <= self.segment.bytes
        })
    }

    /// The head at a place, or how far the damage there reaches.
    fn head_at(&self, bytes: &[u8], place: Place) -> Result<RecordHead, ReadError> {
        if let Some(head) = self.sound_head(bytes, place) {
            return Ok(head);
        }
        let resume = self.next_sound_head(place)?.map_or(self.segment.next, |next| next.offset);
        Err(self.damaged(place, resume))
    }

    /// Reads at most up to the segment's known end.
    fn read_bytes(&self, position: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let left = self.segment.bytes.saturating_sub(position) as usize;
        let mut bytes = vec![0; length.min(left)];
        let read = self
            .file
            .read_at(&mut bytes, position)
            .map_err(|error| ReadError::Io { path: self.path.clone(), reason: read_refusal(&error) })?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn damaged(&self, place: Place, resume: u64) -> ReadError {
        ReadError::Damaged { offset: place.offset, resume, path: self.path.clone(), position: place.position }
    }
}

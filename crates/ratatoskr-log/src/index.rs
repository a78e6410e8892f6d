//! A segment's sparse index: where to start looking for an offset or a time.
//!
//! One entry for every 32 KiB of segment. An index is a hint and is treated as one: it is never synced,
//! entries count up to the first that does not check, and the caller believes a place only if
//! a sound record with that offset stands there. So a lost, short or foreign index costs a scan and nothing else, until the flusher, soon after the next start, has
//! written it anew.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::segment::Place;
use ratatoskr_state::{read_u32, read_u64};

/// Bytes of segment between two entries.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 32 << 10;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"RTKINDX1";

/// A record's place and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) position: u32,
}

impl IndexEntry {
    pub(crate) fn place(&self) -> Place {
        Place { offset: self.offset, position: self.position.into() }
    }

    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.timestamp_ms.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.position.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<IndexEntry> {
        if !ratatoskr_state::checksums_agree(crc32c::crc32c(&bytes[..20]), read_u32(bytes, 20)) {
            return None;
        }
        Some(IndexEntry {
            offset: read_u64(bytes, 0),
            timestamp_ms: read_u64(bytes, 8),
            position: read_u32(bytes, 16),
        })
    }
}

/// The index of the segment being written.
pub(crate) struct IndexWriter {
    file: Arc<dyn DiskFile>,
    entries: u64,
    /// Position in the segment of the last entry.
    last_position: u64,
    waiting: Vec<u8>,
}

impl IndexWriter {
    /// Starts or continues the index of the segment at `base` that has `segment_bytes` so far.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        base: u64,
        segment_bytes: u64,
    ) -> io::Result<IndexWriter> {
        let known = read_entries(disk, path, base, segment_bytes);
        IndexWriter::continuing(open_or_create(disk, path)?, base, &known)
    }

    /// Continues the index in an open file behind the entries it has.
    pub(crate) fn continuing(
        file: Arc<dyn DiskFile>,
        base: u64,
        known: &[IndexEntry],
    ) -> io::Result<IndexWriter> {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..].copy_from_slice(&base.to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.set_len((HEADER_BYTES + known.len() * ENTRY_BYTES) as u64)?;
        let last_position = known.last().map_or(0, |entry| entry.position.into());
        Ok(IndexWriter { file, entries: known.len() as u64, last_position, waiting: Vec::new() })
    }

    /// Notes a record if the last entry is far enough behind it.
    pub(crate) fn note(&mut self, entry: IndexEntry) {
        let position = u64::from(entry.position);
        if position >= self.last_position + INDEX_INTERVAL_BYTES {
            self.waiting.extend_from_slice(&entry.encode());
            self.last_position = position;
        }
    }

    /// Writes what was noted.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.waiting, HEADER_BYTES as u64 + self.entries * ENTRY_BYTES as u64)?;
        self.entries += (self.waiting.len() / ENTRY_BYTES) as u64;
        self.waiting.clear();
        Ok(())
    }
}

/// Opens an index for writing.
pub(crate) fn open_or_create(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    match disk.open(path, OpenMode::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.open(path, OpenMode::CreateNew),
        other => other,
    }
}

/// Which entries an index should have.
#[derive(Default)]
pub(crate) struct IndexPlan {
    entries: Vec<IndexEntry>,
}

impl IndexPlan {
    /// Notes a record if the last entry is far enough behind it: the rule of [`IndexWriter::note`].
    pub(crate) fn note(&mut self, entry: IndexEntry) {
        let last_position = self.entries.last().map_or(0, |last| u64::from(last.position));
        if u64::from(entry.position) >= last_position + INDEX_INTERVAL_BYTES {
            self.entries.push(entry);
        }
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }
}

/// True when an index has all the entries it should have, as far as a look at its end tells; `last_record_bytes` gives the length of
/// the record its last entry names. A single large record at the end may look like missing entries.
pub(crate) fn is_whole(
    disk: &Arc<dyn Disk>,
    path: &Path,
    (base, segment_bytes): (u64, u64),
    last_record_bytes: impl FnOnce(Place) -> u64,
) -> bool {
    let entries = read_entries(disk, path, base, segment_bytes);
    let length = disk.open(path, OpenMode::Read).and_then(|file| file.len()).unwrap_or(0);
    if length != (HEADER_BYTES + entries.len() * ENTRY_BYTES) as u64 {
        return false;
    }
    let Some(last) = entries.last() else { return segment_bytes < 2 * INDEX_INTERVAL_BYTES };
    let reach = u64::from(last.position) + last_record_bytes(last.place()).max(2 * INDEX_INTERVAL_BYTES);
    segment_bytes <= reach
}

/// The entries that check, in order, for positions below `segment_bytes`.
pub(crate) fn read_entries(
    disk: &Arc<dyn Disk>,
    path: &Path,
    base: u64,
    segment_bytes: u64,
) -> Vec<IndexEntry> {
    let Ok(bytes) = crate::journal::read_file(disk, path) else { return Vec::new() };
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC || read_u64(&bytes, 8) != base {
        return Vec::new();
    }
    let mut entries: Vec<IndexEntry> = Vec::new();
    for chunk in bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES) {
        let Some(entry) = IndexEntry::parse(chunk) else { break };
        let in_order =
            entries.last().is_none_or(|last| last.offset < entry.offset && last.position < entry.position);
        if !in_order || u64::from(entry.position) >= segment_bytes {
            break;
        }
        entries.push(entry);
    }
    entries
}

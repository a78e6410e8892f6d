//! Blocks and entries: the unit of atomicity of the journal, and of a checkpoint.
//!
//! ```text
//!  ┌──────────────── 48 bytes ────────────────┐┌─ 16 bytes ─┐┌─ length ─┐
//!  │ magic length file seq synced date n  CRC ││ entry head ││ content  │ … zeros to the page
//!  └──────────────────────────────────────────┘└────────────┘└──────────┘
//! ```
//!
//! This file turns entries into bytes and back. It does no I/O and keeps no state.

use crate::record::{read_u32, read_u64};

/// Blocks start on this boundary, so that no write touches an earlier block's page.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Bytes of a block's header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 48;
/// Bytes of an entry's header.
pub(crate) const ENTRY_HEADER_BYTES: usize = 16;

const MAGIC: &[u8; 4] = b"RBLK";

/// Rounds up to whole pages.
pub(crate) fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// What happened, as the journal tells it. Fields as in `docs/log-format.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Append {
        topic: u32,
        count: u32,
        records: &'a [u8],
    },
    Create {
        topic: u32,
        created_ms: u64,
        name: &'a str,
        settings: &'a [u8],
    },
    Update {
        topic: u32,
        settings: &'a [u8],
    },
    Delete {
        topic: u32,
    },
    Trim {
        topic: u32,
        first: u64,
    },
    /// In a checkpoint.
    Extent {
        topic: u32,
        extent: ExtentEntry,
    },
    Segment {
        topic: u32,
        segment: SegmentEntry,
    },
    Facts(Facts),
    End,
    /// For the ledger, in the journal.
    Event {
        topic: u32,
        content: &'a [u8],
    },
    /// From the ledger, in a checkpoint.
    State {
        content: &'a [u8],
    },
}

/// A segment as a checkpoint describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    /// Offset of the first record.
    pub(crate) base: u64,
    /// Offset after the last record.
    pub(crate) next: u64,
    /// Bytes that count, header included.
    pub(crate) bytes: u64,
    pub(crate) first_timestamp_ms: u64,
    pub(crate) last_timestamp_ms: u64,
}

/// What a checkpoint says of a topic as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtentEntry {
    /// The first offset that stays.
    pub(crate) first: u64,
    /// The newest timestamp given out: it may be that of a record that is gone.
    pub(crate) last_timestamp_ms: u64,
}

/// What a checkpoint knows beyond topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Sequence of the first block after the boundary.
    pub(crate) next_sequence: u64,
    /// Number of the first journal file after the boundary.
    pub(crate) journal_start: u64,
    /// The number the next new topic gets; numbers are never used twice.
    pub(crate) next_topic: u32,
    /// Random bits of this data directory, drawn once.
    pub(crate) id_mask: u128,
}

/// A block in the making.
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    entries: u32,
}

impl BlockBuilder {
    pub(crate) fn new() -> BlockBuilder {
        BlockBuilder { bytes: vec![0; BLOCK_HEADER_BYTES], entries: 0 }
    }

    /// Bytes so far, header included.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Forgets all entries; the buffer is kept, up to a bound.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(BLOCK_HEADER_BYTES);
        self.bytes.shrink_to(2 << 20);
        self.entries = 0;
    }

    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        let (kind, topic, count) = match entry {
            Entry::Append { topic, count, .. } => (1, *topic, *count),
            Entry::Create { topic, .. } => (2, *topic, 0),
            Entry::Update { topic, .. } => (3, *topic, 0),
            Entry::Delete { topic } => (4, *topic, 0),
            Entry::Trim { topic, .. } => (5, *topic, 0),
            Entry::Segment { topic, .. } => (6, *topic, 0),
            Entry::Facts(_) => (7, 0, 0),
            Entry::End => (8, 0, 0),
            Entry::Event { topic, .. } => (9, *topic, 0),
            Entry::State { .. } => (10, 0, 0),
            Entry::Extent { topic, .. } => (11, *topic, 0),
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, 0, 0, 0]);
        self.bytes.extend_from_slice(&topic.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&u32::to_le_bytes(count));
        self.push_content(entry);
        let length = (self.bytes.len() - start - ENTRY_HEADER_BYTES) as u32;
        self.bytes[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
        self.entries += 1;
    }

    fn push_content(&mut self, entry: &Entry<'_>) {
        match entry {
            Entry::Append { records, .. } => self.bytes.extend_from_slice(records),
            Entry::Create { created_ms, name, settings, .. } => {
                self.bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
                self.bytes.extend_from_slice(name.as_bytes());
                self.bytes.extend_from_slice(&created_ms.to_le_bytes());
                self.bytes.extend_from_slice(settings);
            }
            Entry::Update { settings, .. } => self.bytes.extend_from_slice(settings),
            Entry::Event { content, .. } | Entry::State { content } => self.bytes.extend_from_slice(content),
            Entry::Trim { first, .. } => self.bytes.extend_from_slice(&first.to_le_bytes()),
            Entry::Extent { extent, .. } => {
                self.bytes.extend_from_slice(&extent.first.to_le_bytes());
                self.bytes.extend_from_slice(&extent.last_timestamp_ms.to_le_bytes());
            }
            Entry::Segment { segment: s, .. } => {
                for value in [s.base, s.next, s.bytes, s.first_timestamp_ms, s.last_timestamp_ms] {
                    self.bytes.extend_from_slice(&value.to_le_bytes());
                }
            }
            Entry::Facts(facts) => {
                self.bytes.extend_from_slice(&facts.next_sequence.to_le_bytes());
                self.bytes.extend_from_slice(&facts.journal_start.to_le_bytes());
                self.bytes.extend_from_slice(&facts.next_topic.to_le_bytes());
                self.bytes.extend_from_slice(&facts.id_mask.to_le_bytes());
            }
            Entry::Delete { .. } | Entry::End => {}
        }
    }

    /// Fills in the header and pads to whole pages. The bytes are ready to be written.
    pub(crate) fn finish(&mut self, directory: u64, stamp: &BlockStamp) -> &[u8] {
        let length = (self.bytes.len() - BLOCK_HEADER_BYTES) as u32;
        self.bytes[0..4].copy_from_slice(MAGIC);
        self.bytes[4..8].copy_from_slice(&length.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&stamp.file.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&stamp.sequence.to_le_bytes());
        self.bytes[24..32].copy_from_slice(&stamp.synced_through.to_le_bytes());
        self.bytes[32..40].copy_from_slice(&stamp.date.to_le_bytes());
        self.bytes[40..44].copy_from_slice(&self.entries.to_le_bytes());
        let crc = block_crc(directory, &self.bytes);
        self.bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(pages(self.bytes.len()), 0);
        &self.bytes
    }
}

/// What a block's header says of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockStamp {
    pub(crate) file: u64,
    pub(crate) sequence: u64,
    pub(crate) synced_through: u64,
    /// See [`crate::Log::set_date`].
    pub(crate) date: u64,
}

/// Starts from the directory's id, which never leaves the disk: a publisher could otherwise put something that looks
/// like a block into a payload, to be found when the file is used again.
fn block_crc(directory: u64, block: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&directory.to_le_bytes()), &block[..44]);
    crc32c::crc32c_append(crc, &block[BLOCK_HEADER_BYTES..])
}

/// A block found in a buffer.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) stamp: BlockStamp,
    /// Bytes it takes on disk, padding included.
    pub(crate) padded_bytes: usize,
    content: &'a [u8],
    entries: u32,
}

impl<'a> Block<'a> {
    /// The block of this directory and file at the start of `bytes`, if one with a sound checksum stands there.
    pub(crate) fn parse(bytes: &'a [u8], directory: u64, file: u64) -> Option<Block<'a>> {
        let end = Block::length_of(bytes, file)?;
        let block = bytes.get(..end)?;
        if !crate::checksum::matches(block_crc(directory, block), read_u32(block, 44)) {
            return None;
        }
        Some(Block {
            stamp: BlockStamp {
                file: read_u64(block, 8),
                sequence: read_u64(block, 16),
                synced_through: read_u64(block, 24),
                date: read_u64(block, 32),
            },
            padded_bytes: pages(end),
            content: &block[BLOCK_HEADER_BYTES..],
            entries: read_u32(block, 40),
        })
    }

    /// Bytes of the block of this file whose header this is, as far as it can be told without the rest.
    pub(crate) fn length_of(header: &[u8], file: u64) -> Option<usize> {
        let named =
            header.len() >= BLOCK_HEADER_BYTES && &header[..4] == MAGIC && read_u64(header, 8) == file;
        named.then(|| BLOCK_HEADER_BYTES + read_u32(header, 4) as usize)
    }

    /// True when a header that does not check was nevertheless meant for this place: it agrees in two
    /// of magic, file and sequence. Leftovers of an earlier life of the file agree in the magic at most.
    pub(crate) fn was_begun(bytes: &[u8], file: u64, sequence: u64) -> bool {
        if bytes.len() < BLOCK_HEADER_BYTES {
            return false;
        }
        let agree = [&bytes[..4] == MAGIC, read_u64(bytes, 8) == file, read_u64(bytes, 16) == sequence];
        agree.into_iter().filter(|agrees| *agrees).count() >= 2
    }

    /// The entries, in order. A content that makes no sense behind a sound checksum ends in an `Err` with
    /// its position within the block: it was written by a newer version or by a fault of ours.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<Entry<'a>, u64>> {
        let (mut at, mut left) = (0, self.entries);
        let content = self.content;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let position = (BLOCK_HEADER_BYTES + at) as u64;
            left -= 1;
            let parsed = parse_entry(&content[at..]);
            if let Some((entry, length)) = parsed {
                at += length;
                return Some(Ok(entry));
            }
            left = 0;
            Some(Err(position))
        })
    }
}

fn parse_entry(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    let head = bytes.get(..ENTRY_HEADER_BYTES)?;
    let (topic, count) = (read_u32(head, 4), read_u32(head, 12));
    let end = ENTRY_HEADER_BYTES + read_u32(head, 8) as usize;
    let content = bytes.get(ENTRY_HEADER_BYTES..end)?;
    let has = |length: usize| content.len() >= length;
    let entry = match head[0] {
        1 => Entry::Append { topic, count, records: content },
        2 if has(10) => {
            let name_bytes = usize::from(u16::from_le_bytes([content[0], content[1]]));
            let name = std::str::from_utf8(content.get(2..2 + name_bytes)?).ok()?;
            let rest = content.get(2 + name_bytes..).filter(|rest| rest.len() >= 8)?;
            Entry::Create { topic, created_ms: read_u64(rest, 0), name, settings: &rest[8..] }
        }
        3 => Entry::Update { topic, settings: content },
        4 => Entry::Delete { topic },
        5 if has(8) => Entry::Trim { topic, first: read_u64(content, 0) },
        6 if has(40) => {
            let value = |n: usize| read_u64(content, n * 8);
            let segment = SegmentEntry {
                base: value(0),
                next: value(1),
                bytes: value(2),
                first_timestamp_ms: value(3),
                last_timestamp_ms: value(4),
            };
            Entry::Segment { topic, segment }
        }
        7 if has(36) => Entry::Facts(Facts {
            next_sequence: read_u64(content, 0),
            journal_start: read_u64(content, 8),
            next_topic: read_u32(content, 16),
            id_mask: u128::from_le_bytes(content[20..36].try_into().expect("sixteen bytes were sliced")),
        }),
        8 => Entry::End,
        9 => Entry::Event { topic, content },
        10 => Entry::State { content },
        11 if has(16) => {
            let extent = ExtentEntry { first: read_u64(content, 0), last_timestamp_ms: read_u64(content, 8) };
            Entry::Extent { topic, extent }
        }
        _ => return None,
    };
    Some((entry, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: u64 = 77;
    const STAMP: BlockStamp = BlockStamp { file: 3, sequence: 17, synced_through: 16, date: 5 };

    fn entries() -> Vec<Entry<'static>> {
        let segment =
            SegmentEntry { base: 1, next: 2, bytes: 3, first_timestamp_ms: 4, last_timestamp_ms: 5 };
        let facts = Facts { next_sequence: 1, journal_start: 2, next_topic: 3, id_mask: u128::MAX - 5 };
        vec![
            Entry::Facts(facts),
            Entry::Create { topic: 1, created_ms: 8, name: "orders", settings: b"{}" },
            Entry::Append { topic: 1, count: 2, records: b"not really records" },
            Entry::Update { topic: 1, settings: b"{\"a\":1}" },
            Entry::Segment { topic: 1, segment },
            Entry::Trim { topic: 1, first: 9 },
            Entry::Extent { topic: 1, extent: ExtentEntry { first: 9, last_timestamp_ms: 5 } },
            Entry::Delete { topic: 1 },
            Entry::Event { topic: 1, content: b"acked" },
            Entry::State { content: b"all acked" },
            Entry::End,
        ]
    }

    fn block() -> Vec<u8> {
        let mut builder = BlockBuilder::new();
        for entry in &entries() {
            builder.push(entry);
        }
        builder.finish(DIRECTORY, &STAMP).to_vec()
    }

    #[test]
    fn entries_come_back_in_order() {
        let bytes = block();
        let block = Block::parse(&bytes, DIRECTORY, STAMP.file).expect("just written");
        assert!(Block::parse(&bytes, DIRECTORY + 1, STAMP.file).is_none(), "another directory's block");
        assert!(Block::parse(&bytes, DIRECTORY, STAMP.file + 1).is_none(), "another file's block");
        assert_eq!(block.stamp, STAMP);
        assert_eq!(block.padded_bytes, PAGE_BYTES);
        let read: Result<Vec<_>, _> = block.entries().collect();
        assert_eq!(read, Ok(entries()));
    }

    #[cfg(not(feature = "broken-no-checksum"))]
    #[test]
    fn every_flipped_bit_is_seen_and_still_known_as_ours() {
        let bytes = block();
        let length = BLOCK_HEADER_BYTES + read_u32(&bytes, 4) as usize;
        for bit in 0..length * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::parse(&damaged, DIRECTORY, STAMP.file).is_none(), "bit {bit} flipped unseen");
            assert!(Block::was_begun(&damaged, STAMP.file, STAMP.sequence), "bit {bit} hides the block");
        }
    }

    #[test]
    fn leftovers_of_an_earlier_file_are_not_ours() {
        assert!(!Block::was_begun(&block(), STAMP.file + 1, STAMP.sequence + 90));
        assert!(!Block::was_begun(&[0; PAGE_BYTES], 1, 1));
    }
}

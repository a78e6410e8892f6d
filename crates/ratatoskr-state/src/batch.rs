//! [`Batch`]: what is committed together, in bytes that mean the same on every machine.
//!
//! ```text
//!  ┌───────────────────────────── 64 bytes ──────────────────────────────┐┌─ 16 bytes ─┐┌─ content ─┐
//!  │ length n epoch sequence  previous epoch, sequence, CRC  date    CRC ││ entry head ││           │ …
//!  └─────────────────────────────────────────────────────────────────────┘└────────────┘└───────────┘
//! ```
//!
//! Each batch names the one before it by epoch, sequence and checksum, so a reader needs no more than the bytes to know whether a batch
//! continues what it has read. A batch of a higher epoch than its predecessor begins that epoch: a new leader writes from here on. A
//! batch may be empty; then it carries its place and its date, and nothing else.
//! Where batches are stored, and in what frames, is not known here.

use crate::checksum::checksums_agree;
use crate::entry::{ENTRY_HEADER_BYTES, Entry, EntryError, RawEntry};
use crate::record::{read_u32, read_u64};

/// Bytes of a batch before its entries.
pub const BATCH_HEADER_BYTES: usize = 64;

/// Capacity that an empty builder keeps for the next batch.
const KEPT_BYTES: usize = 2 << 20;

/// The place of a batch in the one order of all batches, and the checksum that ties the next one to it. The default is the place before
/// the first batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Counts leaders: one more at each start of a broker.
    pub epoch: u64,
    /// Counts batches, from 1 on, without gaps.
    pub sequence: u64,
    /// The batch's CRC.
    pub crc: u32,
}

impl Position {
    /// The header of the batch that follows this one.
    pub fn next(self, epoch: u64, date: u64) -> BatchHeader {
        BatchHeader { epoch, sequence: self.sequence + 1, previous: self, date }
    }
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// See [`Position::epoch`].
    pub epoch: u64,
    /// See [`Position::sequence`].
    pub sequence: u64,
    /// The batch before it.
    pub previous: Position,
    /// The date its records count from, milliseconds since the Unix epoch; the highest bit says that it is doubted (ADR 0011).
    pub date: u64,
}

impl BatchHeader {
    /// True when nothing stands between that batch and this one.
    pub fn follows(&self, position: Position) -> bool {
        self.previous == position && self.sequence == position.sequence + 1 && self.epoch >= position.epoch
    }
}

/// A batch in the making.
pub struct BatchBuilder {
    /// Room for whatever is put around the batch, room for the header, then the entries.
    bytes: Vec<u8>,
    /// Where the batch begins in `bytes`.
    start: usize,
    entries: u32,
}

impl BatchBuilder {
    /// A builder that leaves so many bytes free in front of the batch, so that a frame can be put around it without a copy.
    pub fn behind(start: usize) -> BatchBuilder {
        BatchBuilder { bytes: vec![0; start + BATCH_HEADER_BYTES], start, entries: 0 }
    }

    /// Bytes so far: those in front of the batch, its header, and its entries.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty: there is always a header")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when anything was pushed.
    pub fn has_entries(&self) -> bool {
        self.entries > 0
    }

    /// Forgets all entries; the buffer is kept, up to 2 MiB.
    pub fn clear(&mut self) {
        self.bytes.truncate(self.start + BATCH_HEADER_BYTES);
        self.bytes.shrink_to(KEPT_BYTES);
        self.entries = 0;
    }

    /// Adds a change of state.
    pub fn push(&mut self, entry: &Entry<'_>) {
        let start = self.bytes.len();
        self.push_raw(entry.head(), |bytes| entry.put_content(bytes));
        self.bytes[start + 1] = entry.flags();
    }

    /// Adds an entry of another kind: kind, topic and count, and whatever puts its content behind the bytes there are.
    pub fn push_raw(&mut self, (kind, topic, count): (u8, u32, u32), put_content: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, 0, 0, 0]);
        self.bytes.extend_from_slice(&topic.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&count.to_le_bytes());
        put_content(&mut self.bytes);
        let length = (self.bytes.len() - start - ENTRY_HEADER_BYTES) as u32;
        self.bytes[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
        self.entries += 1;
    }

    /// The entries so far, as changes of state.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry<'_>, EntryError>> {
        entries_in(&self.bytes[self.start + BATCH_HEADER_BYTES..], self.entries).map(|raw| raw?.decode())
    }

    /// Fills in the header. Answers the whole buffer, the bytes in front of the batch included, and the batch's place. Whatever the caller
    /// adds behind the batch is gone with [`BatchBuilder::clear`], which comes before the next entry.
    pub fn finish(&mut self, header: BatchHeader) -> (&mut Vec<u8>, Position) {
        let batch = &mut self.bytes[self.start..];
        let length = (batch.len() - BATCH_HEADER_BYTES) as u32;
        batch[..BATCH_HEADER_BYTES].fill(0);
        batch[0..4].copy_from_slice(&length.to_le_bytes());
        batch[4..8].copy_from_slice(&self.entries.to_le_bytes());
        batch[8..16].copy_from_slice(&header.epoch.to_le_bytes());
        batch[16..24].copy_from_slice(&header.sequence.to_le_bytes());
        batch[24..32].copy_from_slice(&header.previous.epoch.to_le_bytes());
        batch[32..40].copy_from_slice(&header.previous.sequence.to_le_bytes());
        batch[40..44].copy_from_slice(&header.previous.crc.to_le_bytes());
        batch[48..56].copy_from_slice(&header.date.to_le_bytes());
        let crc = batch_crc(batch);
        batch[60..64].copy_from_slice(&crc.to_le_bytes());
        (&mut self.bytes, Position { epoch: header.epoch, sequence: header.sequence, crc })
    }
}

fn batch_crc(batch: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&batch[..60]), &batch[BATCH_HEADER_BYTES..])
}

/// A whole batch with a sound checksum.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What it says of itself.
    pub header: BatchHeader,
    /// How many entries it has.
    pub count: u32,
    crc: u32,
    content: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch that these bytes are; `None` unless they are all of it and match its checksum.
    pub fn parse(bytes: &'a [u8]) -> Option<Batch<'a>> {
        let head = bytes.get(..BATCH_HEADER_BYTES)?;
        let crc = read_u32(head, 60);
        if bytes.len() != Batch::length_of(head)? || !checksums_agree(batch_crc(bytes), crc) {
            return None;
        }
        let previous =
            Position { epoch: read_u64(head, 24), sequence: read_u64(head, 32), crc: read_u32(head, 40) };
        Some(Batch {
            header: BatchHeader {
                epoch: read_u64(head, 8),
                sequence: read_u64(head, 16),
                previous,
                date: read_u64(head, 48),
            },
            count: read_u32(head, 4),
            crc,
            content: &bytes[BATCH_HEADER_BYTES..],
        })
    }

    /// Bytes of the batch that starts with this header; `None` when these are too few to tell.
    pub fn length_of(header: &[u8]) -> Option<usize> {
        header.get(..BATCH_HEADER_BYTES).map(|head| BATCH_HEADER_BYTES + read_u32(head, 0) as usize)
    }

    /// The sequence in a header that may not be sound.
    pub fn sequence_of(header: &[u8]) -> Option<u64> {
        header.get(..BATCH_HEADER_BYTES).map(|head| read_u64(head, 16))
    }

    /// Its place.
    pub fn position(&self) -> Position {
        Position { epoch: self.header.epoch, sequence: self.header.sequence, crc: self.crc }
    }

    /// Its entries, in order. An entry that makes no sense ends them: it was written by a newer version or by a fault of ours.
    pub fn raw_entries(&self) -> impl Iterator<Item = Result<RawEntry<'a>, EntryError>> + use<'a> {
        entries_in(self.content, self.count)
    }

    /// The same as changes of state.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry<'a>, EntryError>> + use<'a> {
        self.raw_entries().map(|raw| raw?.decode())
    }
}

fn entries_in(content: &[u8], count: u32) -> impl Iterator<Item = Result<RawEntry<'_>, EntryError>> {
    let (mut at, mut left) = (0, count);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        left -= 1;
        let position = at as u64;
        let Some(raw) = content.get(at..).and_then(RawEntry::parse) else {
            left = 0;
            return Some(Err(EntryError { position }));
        };
        at += ENTRY_HEADER_BYTES + raw.content.len();
        Some(Ok(RawEntry { position, ..raw }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Genesis;

    const BEFORE: Position = Position { epoch: 3, sequence: 41, crc: 99 };

    fn entries() -> Vec<Entry<'static>> {
        vec![
            Entry::Genesis(Genesis { id_mask: u128::MAX - 5, token_key: 8 }),
            Entry::Create { topic: 1, created_ms: 8, name: "orders", settings: b"{}" },
            Entry::Append {
                topic: 1,
                count: 2,
                has_dedup_ids: true,
                newest_ms: 7,
                records: b"not really records",
            },
            Entry::Update { topic: 1, settings: b"{\"a\":1}" },
            Entry::Trim { topic: 1, first: 9 },
            Entry::Delete { topic: 1 },
            Entry::Change { topic: 1, content: b"acked" },
        ]
    }

    fn batch() -> Vec<u8> {
        let mut builder = BatchBuilder::behind(0);
        for entry in &entries() {
            builder.push(entry);
        }
        builder.finish(BEFORE.next(4, 5)).0.clone()
    }

    #[test]
    fn a_batch_comes_back_with_its_place_and_its_entries_in_order() {
        let bytes = batch();
        let read = Batch::parse(&bytes).unwrap();
        assert_eq!(read.header, BatchHeader { epoch: 4, sequence: 42, previous: BEFORE, date: 5 });
        assert_eq!(read.entries().collect::<Result<Vec<_>, _>>(), Ok(entries()));
        assert!(Batch::parse(&bytes[..bytes.len() - 1]).is_none());
        assert!(Batch::parse(&[&bytes[..], &[0]].concat()).is_none());
    }

    #[test]
    fn a_batch_follows_only_the_one_it_names() {
        let bytes = batch();
        let read = Batch::parse(&bytes).unwrap();
        assert!(read.header.follows(BEFORE));
        assert!(!read.header.follows(Position { crc: 98, ..BEFORE }));
        assert!(!read.header.follows(Position { epoch: 4, ..BEFORE }));
        assert!(!read.header.follows(read.position()));
        let older = BEFORE.next(2, 5);
        assert!(!older.follows(BEFORE), "an epoch never goes back");
        let mut builder = BatchBuilder::behind(0);
        let (next, _) = builder.finish(read.position().next(4, 5));
        assert!(Batch::parse(next).unwrap().header.follows(read.position()));
    }

    #[cfg(not(feature = "broken-no-checksum"))]
    #[test]
    fn every_flipped_bit_of_a_batch_is_seen() {
        let bytes = batch();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::parse(&damaged).is_none(), "bit {bit} flipped unseen");
        }
    }

    #[test]
    fn an_entry_of_an_unknown_kind_is_an_error_with_its_position() {
        let mut builder = BatchBuilder::behind(0);
        builder.push(&Entry::Delete { topic: 1 });
        builder.push_raw((99, 0, 0), |_| {});
        let bytes = builder.finish(BEFORE.next(4, 0)).0.clone();
        let read: Vec<_> = Batch::parse(&bytes).unwrap().entries().collect();
        let position = ENTRY_HEADER_BYTES as u64;
        assert_eq!(read, [Ok(Entry::Delete { topic: 1 }), Err(EntryError { position })]);
    }
}

//! The bytes of one message, the same in the journal, in a segment and in memory.
//!
//! ```text
//!  0        4         8         16          24         28
//!  ┌────────┬─────────┬─────────┬───────────┬──────────┬───────┬─────┬──────────┬─────────┐
//!  │ length │ head CRC│ offset  │ timestamp │ body CRC │ flags │ key │ metadata │ payload │
//!  └────────┴─────────┴─────────┴───────────┴──────────┴───────┴─────┴──────────┴─────────┘
//!  ◀── filled in when the record gets its place ──────▶◀── body: encoded by the publisher ─▶
//! ```
//!
//! Invariants: a [`Record`] has a sound head and body; a [`RecordBatch`] holds whole records.
//! The format is described in `docs/log-format.md`; nobody else in the code knows it.

use bytes::{Bytes, BytesMut};

use crate::checksum::checksums_agree;

/// Bytes before the body.
pub const RECORD_HEADER_BYTES: usize = 28;
/// Upper bound for the length field of a record; anything above is damage. It leaves room for the largest
/// payload (16 MiB), 64 metadata entries and a key.
pub const RECORD_BYTES_MAX: usize = 18 << 20;

mod body;
mod marks;
mod records;

pub use body::{Body, RecordFacts};

use body::{
    FLAG_ADDRESSED, FLAG_DEAD_LETTER, FLAG_DEDUP, FLAG_DELIVER_AT, FLAG_EXPIRES, FLAG_KEY, FLAG_METADATA,
};
pub use marks::Marks;
pub(crate) use records::{Records, first_offset};

/// Records on their way in: bodies encoded, places not yet known.
#[derive(Clone, Debug, Default)]
pub struct RecordBatch {
    bytes: BytesMut,
    count: u32,
    has_dedup_ids: bool,
}

impl RecordBatch {
    /// An empty batch with room for `bytes` of records.
    pub fn with_capacity(bytes: usize) -> RecordBatch {
        RecordBatch { bytes: BytesMut::with_capacity(bytes), ..RecordBatch::default() }
    }

    /// Adds a record. Names, values and the key are at most 65,535 bytes, and so is the number
    /// of metadata entries; the caller's limits are far below.
    pub fn push(&mut self, key: &str, metadata: &[(String, String)], payload: &[u8]) {
        self.push_with(&RecordFacts::default(), key, metadata, payload);
    }

    /// Adds a record that says more than key, metadata and payload.
    pub fn push_with<S: AsRef<str>>(
        &mut self,
        facts: &RecordFacts<'_>,
        key: &str,
        metadata: &[(S, S)],
        payload: &[u8],
    ) {
        let start = self.bytes.len();
        self.bytes.reserve(RECORD_HEADER_BYTES + 5 + key.len() + payload.len());
        self.bytes.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        let has_key = if key.is_empty() { 0 } else { FLAG_KEY };
        let has_metadata = if metadata.is_empty() { 0 } else { FLAG_METADATA };
        self.bytes.extend_from_slice(&[has_key | has_metadata]);
        if *facts != RecordFacts::default() {
            self.push_facts(start + RECORD_HEADER_BYTES, facts);
        }
        if !key.is_empty() {
            self.push_text(key);
        }
        if !metadata.is_empty() {
            let count = u16::try_from(metadata.len()).expect("metadata entries are limited far below 65,536");
            self.bytes.extend_from_slice(&count.to_le_bytes());
            for (name, value) in metadata {
                self.push_text(name.as_ref());
                self.push_text(value.as_ref());
            }
        }
        self.bytes.extend_from_slice(payload);
        let record = &mut self.bytes[start..];
        let length = u32::try_from(record.len()).expect("a record is at most 18 MiB");
        let body_crc = crc32c::crc32c(&record[RECORD_HEADER_BYTES..]);
        record[0..4].copy_from_slice(&length.to_le_bytes());
        record[24..28].copy_from_slice(&body_crc.to_le_bytes());
        self.count += 1;
    }

    fn push_facts(&mut self, flags_at: usize, facts: &RecordFacts<'_>) {
        if !facts.dedup_id.is_empty() {
            self.has_dedup_ids = true;
            self.bytes[flags_at] |= FLAG_DEDUP;
            self.push_text(facts.dedup_id);
        }
        for (flag, time_ms) in [(FLAG_EXPIRES, facts.expires_ms), (FLAG_DELIVER_AT, facts.deliver_at_ms)] {
            if time_ms != 0 {
                self.bytes[flags_at] |= flag;
                self.bytes.extend_from_slice(&time_ms.to_le_bytes());
            }
        }
        if facts.addressed_to != 0 {
            self.bytes[flags_at] |= FLAG_ADDRESSED;
            self.bytes.extend_from_slice(&facts.addressed_to.to_le_bytes());
        }
        if facts.is_dead_letter {
            self.bytes[flags_at] |= FLAG_DEAD_LETTER;
        }
    }

    fn push_text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).expect("texts are limited far below 64 KiB");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Whether any record has, or had, a dedup id.
    pub fn has_dedup_ids(&self) -> bool {
        self.has_dedup_ids
    }

    /// Records in the batch.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the batch.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes out the records at these indices, ascending. They must not have their places yet.
    pub fn remove(&mut self, indices: &[u32]) {
        if indices.is_empty() {
            return;
        }
        let mut kept = BytesMut::with_capacity(self.bytes.len());
        let (mut at, mut index) = (0, 0);
        while at < self.bytes.len() {
            let end = at + read_u32(&self.bytes, at) as usize;
            if indices.binary_search(&index).is_err() {
                kept.extend_from_slice(&self.bytes[at..end]);
            }
            (at, index) = (end, index + 1);
        }
        self.count -= indices.len() as u32;
        self.bytes = kept;
    }

    /// Gives every record its place: consecutive offsets from `first`, one timestamp.
    pub fn place(&mut self, first: u64, timestamp_ms: u64) -> &mut BytesMut {
        let mut at = 0;
        let mut offset = first;
        while at < self.bytes.len() {
            let length = read_u32(&self.bytes, at) as usize;
            let head = &mut self.bytes[at..at + RECORD_HEADER_BYTES];
            head[8..16].copy_from_slice(&offset.to_le_bytes());
            head[16..24].copy_from_slice(&timestamp_ms.to_le_bytes());
            let crc = head_crc(head);
            head[4..8].copy_from_slice(&crc.to_le_bytes());
            at += length;
            offset += 1;
        }
        &mut self.bytes
    }
}

fn head_crc(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[8..28]), &head[0..4])
}

/// What a sound head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Bytes of the whole record.
    pub length: usize,
    /// Its place in the topic.
    pub offset: u64,
    /// When it was taken in, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    body_crc: u32,
}

impl RecordHead {
    /// Reads a head; `None` when the bytes are too few or do not check.
    pub fn parse(bytes: &[u8]) -> Option<RecordHead> {
        let head = bytes.get(..RECORD_HEADER_BYTES)?;
        let length = read_u32(head, 0) as usize;
        if !(RECORD_HEADER_BYTES + 1..=RECORD_BYTES_MAX).contains(&length) {
            return None;
        }
        if !checksums_agree(head_crc(head), read_u32(head, 4)) {
            return None;
        }
        Some(RecordHead {
            length,
            offset: read_u64(head, 8),
            timestamp_ms: read_u64(head, 16),
            body_crc: read_u32(head, 24),
        })
    }

    /// True when `record` (head and body) is whole and its body checks.
    pub fn body_is_sound(&self, record: &[u8]) -> bool {
        record.len() >= self.length
            && checksums_agree(crc32c::crc32c(&record[RECORD_HEADER_BYTES..self.length]), self.body_crc)
    }
}

/// Whole records of one topic with consecutive offsets, sharing one buffer.
#[derive(Clone, Debug)]
pub struct RecordChunk {
    /// The records' bytes.
    pub bytes: Bytes,
    /// Offset of the first record.
    pub first: u64,
    /// How many records.
    pub count: u32,
    /// The timestamp of the last record, the youngest.
    pub last_timestamp_ms: u64,
    /// Whether any of them may have a dedup id.
    pub has_dedup_ids: bool,
    /// Where its records start; for whoever begins in the middle.
    pub marks: Marks,
}

impl RecordChunk {
    /// Makes a chunk of records that have their places, checking every one. `Err` is what is wrong.
    pub fn check(bytes: Bytes) -> Result<RecordChunk, String> {
        let marks = Marks::default();
        let mut chunk = RecordChunk {
            bytes: Bytes::new(),
            first: 0,
            count: 0,
            last_timestamp_ms: 0,
            has_dedup_ids: false,
            marks,
        };
        let mut at = 0;
        while at < bytes.len() {
            let record = &bytes[at..];
            let head = RecordHead::parse(record)
                .filter(|head| head.body_is_sound(record))
                .ok_or_else(|| format!("record {} of an append does not match its checksum", chunk.count))?;
            if !Body::is_readable(&record[RECORD_HEADER_BYTES..head.length]) {
                return Err(format!("record at offset {} was written by a newer version", head.offset));
            }
            if chunk.count == 0 {
                chunk.first = head.offset;
            }
            if head.offset != chunk.end() {
                return Err(format!("record at offset {} stands where {} belongs", head.offset, chunk.end()));
            }
            chunk.count += 1;
            chunk.last_timestamp_ms = head.timestamp_ms;
            chunk.has_dedup_ids |= record[RECORD_HEADER_BYTES] & FLAG_DEDUP != 0;
            at += head.length;
        }
        chunk.bytes = bytes;
        chunk.marks = Marks::for_count(chunk.count);
        Ok(chunk)
    }

    /// Offset after the last record.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// The chunk without the records before `offset`.
    #[must_use]
    pub fn starting_at(&self, offset: u64) -> RecordChunk {
        let skip = offset.saturating_sub(self.first).min(u64::from(self.count)) as u32;
        if skip == 0 {
            return self.clone();
        }
        RecordChunk {
            bytes: self.bytes.slice(self.marks.find(skip, &self.bytes)..),
            first: self.first + u64::from(skip),
            count: self.count - skip,
            last_timestamp_ms: self.last_timestamp_ms,
            has_dedup_ids: self.has_dedup_ids,
            marks: Marks::default(),
        }
    }

    /// The records, in order. They were checked when the chunk was made, so this cannot fail.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.records_flagged(0)
    }

    /// The records that have a dedup id, in order; the others are not looked into.
    pub fn records_with_dedup_id(&self) -> impl Iterator<Item = Record> {
        self.records_flagged(FLAG_DEDUP)
    }

    /// The records that have all of these flags.
    fn records_flagged(&self, wanted: u8) -> impl Iterator<Item = Record> {
        let bytes = self.bytes.clone();
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < bytes.len() {
                let (start, length) = (at, read_u32(&bytes, at) as usize);
                at += length;
                if bytes[start + RECORD_HEADER_BYTES] & wanted == wanted {
                    return Some(Record {
                        offset: read_u64(&bytes, start + 8),
                        timestamp_ms: read_u64(&bytes, start + 16),
                        body: Body::new(bytes.slice(start + RECORD_HEADER_BYTES..at)),
                    });
                }
            }
            None
        })
    }
}

/// One record with its place.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in the topic.
    pub offset: u64,
    /// When it was taken in, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Key, metadata and payload.
    pub body: Body,
}

impl Record {
    /// The same with memory of its own: a record shares that of the chunk it was read in, which may be far larger.
    #[must_use]
    pub fn detached(&self) -> Record {
        Record { body: self.body.detached(), ..*self }
    }
}

/// Reads a little-endian `u32` at a position that exists.
pub fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

/// Reads a little-endian `u64` at a position that exists.
pub fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_METADATA: &[(String, String)] = &[];

    fn metadata() -> Vec<(String, String)> {
        vec![("a".into(), "1".into()), ("type".into(), String::new())]
    }

    fn chunk() -> RecordChunk {
        let mut batch = RecordBatch::default();
        batch.push("", &[], b"");
        batch.push("k", &[], b"one");
        batch.push("", &metadata(), b"two");
        batch.push("key", &metadata(), &[0xff; 300]);
        RecordChunk::check(batch.place(7, 99).split().freeze()).expect("just made")
    }

    #[test]
    fn what_is_pushed_comes_back() {
        let records: Vec<Record> = chunk().records().collect();
        assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [7, 8, 9, 10]);
        assert!(records.iter().all(|r| r.timestamp_ms == 99));
        assert_eq!(records[0].body.payload(), Bytes::new());
        assert_eq!((records[1].body.key(), &records[1].body.payload()[..]), ("k", &b"one"[..]));
        assert_eq!(records[2].body.metadata().collect::<Vec<_>>(), [("a", "1"), ("type", "")]);
        assert_eq!(&records[2].body.payload()[..], b"two");
        assert_eq!(records[3].body.key(), "key");
        assert_eq!(&records[3].body.payload()[..], [0xff; 300]);
    }

    #[test]
    fn a_chunk_can_start_later() {
        let later = chunk().starting_at(9);
        assert_eq!((later.first, later.count, later.end()), (9, 2, 11));
        assert_eq!(later.records().next().map(|r| r.offset), Some(9));
        assert_eq!(chunk().starting_at(11).count, 0);
    }

    #[test]
    fn every_record_of_a_long_chunk_is_found_by_its_offset() {
        let mut batch = RecordBatch::default();
        (0..100).for_each(|number: usize| batch.push("", &[], &vec![7; number]));
        let chunk = RecordChunk::check(batch.place(1000, 1).split().freeze()).expect("just made");
        for offset in 1000..=1100 {
            let later = chunk.starting_at(offset);
            let first = later.records().next().map(|record| (record.offset, record.body.payload_bytes()));
            let expected = (offset < 1100).then(|| (offset, offset as usize - 1000));
            assert_eq!((first, later.end()), (expected, 1100));
        }
    }

    #[test]
    fn facts_come_back_and_leave_the_rest_alone() {
        let all = RecordFacts {
            dedup_id: "order-7",
            expires_ms: 5,
            deliver_at_ms: u64::MAX,
            addressed_to: 9,
            is_dead_letter: true,
        };
        let mut batch = RecordBatch::default();
        batch.push_with(&all, "key", &metadata(), b"one");
        batch.push_with(&RecordFacts { expires_ms: 8, ..RecordFacts::default() }, "", NO_METADATA, b"two");
        batch.push_with(
            &RecordFacts { dedup_id: "order-8", is_dead_letter: false, ..all },
            "k",
            NO_METADATA,
            b"three",
        );
        batch.push("k", &[], b"four");
        batch.remove(&[2]);
        let chunk = RecordChunk::check(batch.place(0, 1).split().freeze()).expect("just made");
        let bodies: Vec<Body> = chunk.records().map(|record| record.body).collect();
        assert_eq!(bodies.iter().map(Body::facts).collect::<Vec<_>>()[0], all);
        assert_eq!(
            (bodies[0].key(), &bodies[0].payload()[..], bodies[0].metadata().count()),
            ("key", &b"one"[..], 2)
        );
        assert_eq!((bodies[1].facts().expires_ms, bodies[1].facts().dedup_id), (8, ""));
        assert_eq!((bodies[1].key(), &bodies[1].payload()[..]), ("", &b"two"[..]));
        assert_eq!((bodies[2].key(), &bodies[2].payload()[..]), ("k", &b"four"[..]));
        assert!(bodies[0].has_facts() && !bodies[2].has_facts());
        let with_id = chunk.records_with_dedup_id().map(|record| record.offset);
        assert_eq!(with_id.collect::<Vec<_>>(), [0]);
    }

    #[cfg(not(feature = "broken-no-checksum"))]
    #[test]
    fn every_flipped_bit_of_a_record_is_seen() {
        let bytes = chunk().starting_at(10).bytes.to_vec();
        assert!(RecordHead::parse(&bytes).is_some_and(|head| head.body_is_sound(&bytes)));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let sound = RecordHead::parse(&damaged).is_some_and(|head| head.body_is_sound(&damaged));
            assert!(!sound, "bit {bit} flipped unseen");
        }
    }

    #[test]
    fn nonsense_in_a_body_is_not_readable() {
        assert!(Body::is_readable(&[0, 1, 2]));
        for body in [
            &[][..],
            &[4],
            &[128],
            &[8, 1, 2],
            &[32, 0],
            &[1],
            &[1, 5, 0, b'a'],
            &[2, 1, 0, 1, 0, b'a'],
            &[1, 1, 0, 0xff],
        ] {
            assert!(!Body::is_readable(body), "{body:?}");
        }
    }
}

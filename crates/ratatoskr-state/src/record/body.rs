//! What the publisher said: the part of a record that is encoded before it has its place.
//!
//! ```text
//!   flags │ dedup id │ expires │ deliver at │ addressed to │ key │ metadata │ payload
//!         └── each only if its flag is set ─────────────────────────────────┘
//! ```

use bytes::Bytes;

pub(super) const FLAG_KEY: u8 = 1;
pub(super) const FLAG_METADATA: u8 = 2;
pub(super) const FLAG_DEDUP: u8 = 4;
pub(super) const FLAG_EXPIRES: u8 = 8;
pub(super) const FLAG_DELIVER_AT: u8 = 16;
pub(super) const FLAG_ADDRESSED: u8 = 32;
pub(super) const FLAG_DEAD_LETTER: u8 = 64;
const FLAGS_FACTS: u8 = FLAG_DEDUP | FLAG_EXPIRES | FLAG_DELIVER_AT | FLAG_ADDRESSED | FLAG_DEAD_LETTER;
const FLAGS_KNOWN: u8 = FLAG_KEY | FLAG_METADATA | FLAGS_FACTS;

/// What a record says besides key, metadata and payload. All optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFacts<'a> {
    /// The publisher's own id, for finding duplicates; empty for none. At most 65,535 bytes; the caller's limit is far below.
    pub dedup_id: &'a str,
    /// Not to be delivered from this time on, milliseconds since the Unix epoch; 0 for never.
    pub expires_ms: u64,
    /// Not to be delivered before this time, milliseconds since the Unix epoch; 0 for at once.
    pub deliver_at_ms: u64,
    /// The number of the only subscription that is to see it; 0 for all.
    pub addressed_to: u32,
    /// The broker has set it aside as a dead letter, and what its metadata say of that is the broker's word. Publishers cannot say so.
    pub is_dead_letter: bool,
}

/// Key, metadata and payload of a record, still encoded; cheap to clone.
#[derive(Clone, Debug)]
pub struct Body {
    bytes: Bytes,
}

impl Body {
    pub(super) fn new(bytes: Bytes) -> Body {
        Body { bytes }
    }

    /// True when every flag and length inside makes sense: checked once when bytes come from a disk.
    pub fn is_readable(body: &[u8]) -> bool {
        let mut reader = Reader { bytes: body, at: 0 };
        let Some(flags) = reader.u8() else { return false };
        if flags & !FLAGS_KNOWN != 0 || reader.facts(flags).is_none() {
            return false;
        }
        if flags & FLAG_KEY != 0 && reader.text().is_none() {
            return false;
        }
        if flags & FLAG_METADATA != 0 {
            let Some(count) = reader.u16() else { return false };
            return (0..u32::from(count) * 2).all(|_| reader.text().is_some());
        }
        true
    }

    pub(super) fn detached(&self) -> Body {
        Body { bytes: Bytes::copy_from_slice(&self.bytes) }
    }

    /// True when there is more than key, metadata and payload.
    pub fn has_facts(&self) -> bool {
        self.bytes[0] & FLAGS_FACTS != 0
    }

    /// What it says besides key, metadata and payload.
    pub fn facts(&self) -> RecordFacts<'_> {
        facts_of(&self.bytes)
    }

    /// The key, empty for none.
    pub fn key(&self) -> &str {
        text(self.key_bytes()).unwrap_or("")
    }

    /// The same as bytes, for who sends it on. Whether they are UTF-8 was checked when they came, from a client or from a disk.
    pub fn key_bytes(&self) -> &[u8] {
        if self.bytes[0] & FLAG_KEY == 0 {
            return b"";
        }
        self.after_facts().text_bytes().unwrap_or(b"")
    }

    /// The publisher's own id, empty for none.
    pub fn dedup_id(&self) -> &str {
        self.facts().dedup_id
    }

    /// Metadata pairs in the order they were given.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata_bytes().filter_map(|(name, value)| Some((text(name)?, text(value)?)))
    }

    /// The same as bytes; see [`Body::key_bytes`].
    pub fn metadata_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (mut reader, count) = self.after_key();
        (0..count).filter_map(move |_| Some((reader.text_bytes()?, reader.text_bytes()?)))
    }

    /// The payload, sharing the record's buffer.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(self.payload_start()..)
    }

    /// Bytes of key, metadata and payload, as encoded.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the payload.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len() - self.payload_start()
    }

    fn payload_start(&self) -> usize {
        if self.bytes[0] == 0 {
            return 1;
        }
        let (mut reader, count) = self.after_key();
        for _ in 0..u32::from(count) * 2 {
            reader.text_bytes();
        }
        reader.at
    }

    /// A reader at the key, or where it would be.
    fn after_facts(&self) -> Reader<'_> {
        let mut reader = Reader { bytes: &self.bytes, at: 1 };
        if self.has_facts() {
            reader.facts(self.bytes[0]);
        }
        reader
    }

    /// A reader at the first metadata entry, and how many there are.
    fn after_key(&self) -> (Reader<'_>, u16) {
        let mut reader = self.after_facts();
        if self.bytes[0] & FLAG_KEY != 0 {
            reader.text_bytes();
        }
        let count = if self.bytes[0] & FLAG_METADATA == 0 { 0 } else { reader.u16().unwrap_or(0) };
        (reader, count)
    }
}

/// What the body of a record says besides key, metadata and payload.
pub(super) fn facts_of(body: &[u8]) -> RecordFacts<'_> {
    match body.first() {
        Some(flags) if flags & FLAGS_FACTS != 0 => {
            Reader { bytes: body, at: 1 }.facts(*flags).unwrap_or_default()
        }
        _ => RecordFacts::default(),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Option<u8> {
        let value = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(value)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u64(&mut self) -> Option<u64> {
        let bytes = self.bytes.get(self.at..self.at + 8)?;
        self.at += 8;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn facts(&mut self, flags: u8) -> Option<RecordFacts<'a>> {
        let mut facts =
            RecordFacts { is_dead_letter: flags & FLAG_DEAD_LETTER != 0, ..RecordFacts::default() };
        if flags & FLAG_DEDUP != 0 {
            facts.dedup_id = self.text()?;
        }
        if flags & FLAG_EXPIRES != 0 {
            facts.expires_ms = self.u64()?;
        }
        if flags & FLAG_DELIVER_AT != 0 {
            facts.deliver_at_ms = self.u64()?;
        }
        if flags & FLAG_ADDRESSED != 0 {
            let low = u32::from(self.u16()?);
            facts.addressed_to = low | u32::from(self.u16()?) << 16;
        }
        Some(facts)
    }

    fn text(&mut self) -> Option<&'a str> {
        text(self.text_bytes()?)
    }

    /// A text that nobody reads as one.
    fn text_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let bytes = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(bytes)
    }
}

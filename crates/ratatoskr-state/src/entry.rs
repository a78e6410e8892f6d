//! [`Entry`]: one change of state, as bytes.
//!
//! ```text
//!   │ kind │ flags │ 0 0 │ topic │ length │ count │ content …
//!     u8     u8            u32     u32      u32     `length` bytes
//! ```
//!
//! This file turns entries into bytes and back. Files that hold more than changes of state, such as checkpoints, write kinds of their
//! own in the same shape ([`RawEntry`]).

use crate::record::{read_u32, read_u64};

/// Bytes of an entry before its content.
pub const ENTRY_HEADER_BYTES: usize = 16;

const APPEND: u8 = 1;
const CREATE: u8 = 2;
const UPDATE: u8 = 3;
const DELETE: u8 = 4;
const TRIM: u8 = 5;
const CHANGE: u8 = 9;
const GENESIS: u8 = 12;

/// Flag of an append.
const HAS_DEDUP_IDS: u8 = 1;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Records were appended to a topic.
    Append {
        /// The topic's number.
        topic: u32,
        /// How many records.
        count: u32,
        /// Whether any of them may have a dedup id. Without, nobody need look into them.
        has_dedup_ids: bool,
        /// The timestamp of the last one, which is the newest, milliseconds since the Unix epoch.
        newest_ms: u64,
        /// Their bytes, with consecutive offsets.
        records: &'a [u8],
    },
    /// A topic was created.
    Create {
        /// Its number, never used before.
        topic: u32,
        /// Milliseconds since the Unix epoch.
        created_ms: u64,
        /// Its name.
        name: &'a str,
        /// Its settings, encoded.
        settings: &'a [u8],
    },
    /// A topic's settings were replaced.
    Update {
        /// The topic's number.
        topic: u32,
        /// The new settings, encoded.
        settings: &'a [u8],
    },
    /// A topic was deleted with all its messages.
    Delete {
        /// The topic's number.
        topic: u32,
    },
    /// A topic's messages before an offset were removed.
    Trim {
        /// The topic's number.
        topic: u32,
        /// The first offset that stays.
        first: u64,
    },
    /// Something happened to a subscription or to the schedule.
    Change {
        /// The number of the topic it concerns, 0 for none.
        topic: u32,
        /// What happened, encoded.
        content: &'a [u8],
    },
    /// The first entry of every journal.
    Genesis(Genesis),
}

/// What every copy of a journal has to agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Genesis {
    /// Random bits that message ids are masked with.
    pub id_mask: u128,
    /// Random bits that tokens are authenticated with. They are never sent to a client.
    pub token_key: u128,
}

/// Why a sound entry cannot be read: it was written by a newer version, or by a fault of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryError {
    /// Where the entry stands, in bytes from the first entry of its batch.
    pub position: u64,
}

/// An entry of any kind, its content not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// What it is.
    pub kind: u8,
    /// What else is said of it, by kind.
    pub flags: u8,
    /// The number of the topic it concerns, 0 for none.
    pub topic: u32,
    /// How many records the content has, if it has any.
    pub count: u32,
    /// The rest.
    pub content: &'a [u8],
    /// Where it stands, in bytes from the first entry of its batch.
    pub position: u64,
}

impl<'a> RawEntry<'a> {
    /// The entry at the start of `bytes`; `None` when they are too few. Its position is not known here and is 0.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<RawEntry<'a>> {
        let head = bytes.get(..ENTRY_HEADER_BYTES)?;
        let end = ENTRY_HEADER_BYTES.checked_add(read_u32(head, 8) as usize)?;
        Some(RawEntry {
            kind: head[0],
            flags: head[1],
            topic: read_u32(head, 4),
            count: read_u32(head, 12),
            content: bytes.get(ENTRY_HEADER_BYTES..end)?,
            position: 0,
        })
    }

    /// The same as a change of state.
    pub fn decode(&self) -> Result<Entry<'a>, EntryError> {
        self.decoded().ok_or(EntryError { position: self.position })
    }

    fn decoded(&self) -> Option<Entry<'a>> {
        let (topic, content) = (self.topic, self.content);
        let has = |length: usize| content.len() >= length;
        Some(match self.kind {
            APPEND if has(8) && self.flags & !HAS_DEDUP_IDS == 0 => Entry::Append {
                topic,
                count: self.count,
                has_dedup_ids: self.flags & HAS_DEDUP_IDS != 0,
                newest_ms: read_u64(content, 0),
                records: &content[8..],
            },
            CREATE if has(10) => {
                let name_bytes = usize::from(u16::from_le_bytes([content[0], content[1]]));
                let name = std::str::from_utf8(content.get(2..2 + name_bytes)?).ok()?;
                let rest = content.get(2 + name_bytes..).filter(|rest| rest.len() >= 8)?;
                Entry::Create { topic, created_ms: read_u64(rest, 0), name, settings: &rest[8..] }
            }
            UPDATE => Entry::Update { topic, settings: content },
            DELETE => Entry::Delete { topic },
            TRIM if has(8) => Entry::Trim { topic, first: read_u64(content, 0) },
            CHANGE => Entry::Change { topic, content },
            GENESIS => Entry::Genesis(Genesis::decode(content)?),
            _ => return None,
        })
    }
}

impl Genesis {
    /// Bytes of it.
    pub const BYTES: usize = 32;

    /// Its bytes.
    pub fn encode(&self) -> [u8; Genesis::BYTES] {
        let mut bytes = [0; Genesis::BYTES];
        bytes[..16].copy_from_slice(&self.id_mask.to_le_bytes());
        bytes[16..].copy_from_slice(&self.token_key.to_le_bytes());
        bytes
    }

    /// The genesis in these bytes; `None` when their number is wrong.
    pub fn decode(bytes: &[u8]) -> Option<Genesis> {
        let bytes: &[u8; Genesis::BYTES] = bytes.try_into().ok()?;
        let (halves, _) = bytes.as_chunks::<16>();
        Some(Genesis { id_mask: u128::from_le_bytes(halves[0]), token_key: u128::from_le_bytes(halves[1]) })
    }
}

impl Entry<'_> {
    /// Flags, as they stand in the entry's head.
    pub(crate) fn flags(&self) -> u8 {
        if let Entry::Append { has_dedup_ids: true, .. } = self { HAS_DEDUP_IDS } else { 0 }
    }

    /// Kind, topic and count, as they stand in the entry's head.
    pub(crate) fn head(&self) -> (u8, u32, u32) {
        match self {
            Entry::Append { topic, count, .. } => (APPEND, *topic, *count),
            Entry::Create { topic, .. } => (CREATE, *topic, 0),
            Entry::Update { topic, .. } => (UPDATE, *topic, 0),
            Entry::Delete { topic } => (DELETE, *topic, 0),
            Entry::Trim { topic, .. } => (TRIM, *topic, 0),
            Entry::Change { topic, .. } => (CHANGE, *topic, 0),
            Entry::Genesis(_) => (GENESIS, 0, 0),
        }
    }

    pub(crate) fn put_content(&self, bytes: &mut Vec<u8>) {
        match self {
            Entry::Append { newest_ms, records, .. } => {
                bytes.extend_from_slice(&newest_ms.to_le_bytes());
                bytes.extend_from_slice(records);
            }
            Entry::Create { created_ms, name, settings, .. } => {
                let name_bytes = u16::try_from(name.len()).expect("a topic's name is far below 64 KiB");
                bytes.extend_from_slice(&name_bytes.to_le_bytes());
                bytes.extend_from_slice(name.as_bytes());
                bytes.extend_from_slice(&created_ms.to_le_bytes());
                bytes.extend_from_slice(settings);
            }
            Entry::Update { settings, .. } => bytes.extend_from_slice(settings),
            Entry::Change { content, .. } => bytes.extend_from_slice(content),
            Entry::Trim { first, .. } => bytes.extend_from_slice(&first.to_le_bytes()),
            Entry::Genesis(genesis) => bytes.extend_from_slice(&genesis.encode()),
            Entry::Delete { .. } => {}
        }
    }
}

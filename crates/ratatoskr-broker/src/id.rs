//! [`MessageId`]: a UUID of version 7 that costs no byte on disk.
//!
//! ```text
//!   48 bits          4    12 bits             2    62 bits
//!  ┌────────────────┬───┬────────────────────┬───┬─────────────────────────────┐
//!  │ timestamp (ms) │ 7 │ mask ⊕ topic number and offset, 32 + 42 bits        … │
//!  └────────────────┴───┴────────────────────┴───┴─────────────────────────────┘
//! ```
//!
//! RFC 9562 §5.7 leaves 74 bits to the implementation. We put the topic's number (32 bits) and
//! the offset (42 bits: four million million messages a topic) there, masked with 74 random bits
//! drawn once per data directory. So an id is unique by construction within a broker, as unlikely to collide
//! between brokers as random bits, need not be stored, and leads back to its message without an index.
//!
//! What it deliberately is not: a secret. Whoever sees a few ids can guess others.

use std::fmt;

/// Bits of the offset inside an id.
const OFFSET_BITS: u32 = 42;
/// Bits RFC 9562 leaves to us.
const FREE_BITS: u32 = 74;

/// The random mask of one data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdMask(u128);

impl IdMask {
    /// A mask from random bits; only the lowest 74 count.
    pub fn new(random: u128) -> IdMask {
        IdMask(random & ((1 << FREE_BITS) - 1))
    }
}

/// A message's id. Shown and parsed as `018f3c…-7…` (lower-case hexadecimal with hyphens).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u128);

impl MessageId {
    /// The id of the message at an offset of a topic.
    pub fn new(mask: IdMask, topic: u32, offset: u64, timestamp_ms: u64) -> MessageId {
        let place = (u128::from(topic) << OFFSET_BITS) | u128::from(offset & ((1 << OFFSET_BITS) - 1));
        let free = place ^ mask.0;
        let (high, low) = (free >> 62, free & ((1 << 62) - 1));
        let time = u128::from(timestamp_ms & ((1 << 48) - 1));
        MessageId((time << 80) | (7 << 76) | (high << 64) | (2 << 62) | low)
    }

    /// The topic number and offset the id was made from.
    pub fn place(self, mask: IdMask) -> (u32, u64) {
        let free = (((self.0 >> 64) & 0xfff) << 62) | (self.0 & ((1 << 62) - 1));
        let place = free ^ mask.0;
        ((place >> OFFSET_BITS) as u32, (place & ((1 << OFFSET_BITS) - 1)) as u64)
    }

    /// The 16 bytes of the UUID.
    pub fn as_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Writes the 36 characters of the UUID.
    pub fn write_hyphenated(self, text: &mut [u8; 36]) {
        uuid::Uuid::from_u128(self.0).hyphenated().encode_lower(text);
    }

    /// Reads an id from its text.
    pub fn parse(text: &str) -> Option<MessageId> {
        uuid::Uuid::try_parse(text).ok().map(|uuid| MessageId(uuid.as_u128()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_7_uuid_that_leads_back_to_its_place() {
        let mask = IdMask::new(0x1234_5678_9abc_def0_1122_3344_5566_7788);
        let id = MessageId::new(mask, u32::MAX, (1 << OFFSET_BITS) - 1, 1_700_000_000_123);
        let uuid = uuid::Uuid::from_bytes(id.as_bytes());
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.place(mask), (u32::MAX, (1 << OFFSET_BITS) - 1));
        assert_eq!(MessageId::parse(&id.to_string()), Some(id));
        assert_ne!(id, MessageId::new(mask, u32::MAX, 0, 1_700_000_000_123));
    }
}

//! [`OutgoingMessage`]: the contract's `Message`, as the server sends it.
//!
//! ```text
//!   a batch of messages ──MessageParts──▶ one buffer  [ m0 | m1 | m2 | … ]
//!                                                       ▲    ▲    ▲
//!                              OutgoingMessages share slices of it, and of the payloads where they lie
//! ```
//!
//! The generated type would allocate an id, a topic, a key and a map for every message and every
//! subscriber. Here the fields are written straight from where they lie; a whole batch shares one
//! buffer, and many subscribers may share the batch. What is kept ([`MessageParts::copy`]) has its payload
//! in the buffer, so that it keeps nothing else alive; what goes out at once ([`MessageParts::share`]) has not.
//!
//! Invariant: the bytes are a valid encoding of `ratatoskr.Message`; a test decodes them with the
//! generated type. It deliberately cannot be decoded: a server never receives one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, encoded_len_varint, key_len};

use crate::Durability;
use crate::fields::{put_bytes, put_length, put_number};

/// Field numbers of `ratatoskr.Message`; the test against the generated type keeps them honest.
mod field {
    pub(super) const ID: u32 = 1;
    pub(super) const TOPIC: u32 = 2;
    pub(super) const PAYLOAD: u32 = 3;
    pub(super) const METADATA: u32 = 4;
    pub(super) const TIMESTAMP: u32 = 5;
    pub(super) const OFFSET: u32 = 6;
    pub(super) const KEY: u32 = 7;
    pub(super) const RECEIPT: u32 = 8;
    pub(super) const SUBSCRIPTION_REF: u32 = 9;
    pub(super) const TOKEN: u32 = 10;
    pub(super) const ATTEMPT: u32 = 11;
    pub(super) const LEASE_UNTIL_MS: u32 = 12;
    pub(super) const ENTRY_NAME: u32 = 1;
    pub(super) const ENTRY_VALUE: u32 = 2;
}

/// The fields of one message, borrowed from where they lie.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts<'a, M> {
    /// The id's text: 36 characters.
    pub id: &'a [u8; 36],
    /// The topic's name.
    pub topic: &'a str,
    /// The content.
    pub payload: &'a Bytes,
    /// Walks the names and values, which are UTF-8; called twice.
    pub metadata: M,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The place in the topic.
    pub offset: u64,
    /// The key, UTF-8; empty for none.
    pub key: &'a [u8],
    /// What the publisher's acknowledgement stood for.
    pub receipt: Durability,
    /// The subscription's reference, on the first message of a stream; else empty.
    pub subscription_ref: &'a str,
    /// How it is leased, from a durable subscription.
    pub lease: Option<LeaseParts<'a>>,
}

/// The fields of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct LeaseParts<'a> {
    /// What settles it.
    pub token: &'a [u8],
    /// Which delivery of the message it is.
    pub attempt: u32,
    /// Until when, milliseconds since the Unix epoch.
    pub until_ms: u64,
}

impl<'a, M, I> MessageParts<'a, M>
where
    M: Fn() -> I,
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    /// Encodes the message into a buffer that a batch shares.
    pub fn copy(&self, buffer: &mut BytesMut) -> OutgoingMessage {
        buffer.reserve(self.len_bytes_max());
        self.put_fields(buffer);
        put_bytes(buffer, field::PAYLOAD, self.payload);
        OutgoingMessage { fields: buffer.split().freeze(), payload: Bytes::new() }
    }

    /// Writes the message behind what a buffer holds.
    pub fn put(&self, buffer: &mut BytesMut) {
        self.put_fields(buffer);
        put_bytes(buffer, field::PAYLOAD, self.payload);
    }

    /// Encodes the message into a buffer that a batch shares, except for the payload, which stays where it is.
    pub fn share(&self, buffer: &mut BytesMut) -> OutgoingMessage {
        buffer.reserve(self.len_bytes_max() - self.payload.len());
        self.put_fields(buffer);
        if !self.payload.is_empty() {
            put_length(buffer, field::PAYLOAD, self.payload.len());
        }
        OutgoingMessage { fields: buffer.split().freeze(), payload: self.payload.clone() }
    }

    /// All but the payload; the wire format leaves the order of fields open.
    fn put_fields(&self, buffer: &mut BytesMut) {
        put_bytes(buffer, field::ID, self.id);
        put_bytes(buffer, field::TOPIC, self.topic.as_bytes());
        for (name, value) in (self.metadata)() {
            put_length(buffer, field::METADATA, entry_bytes(name, value));
            put_bytes(buffer, field::ENTRY_NAME, name);
            put_bytes(buffer, field::ENTRY_VALUE, value);
        }
        put_number(buffer, field::TIMESTAMP, self.timestamp_ms);
        put_number(buffer, field::OFFSET, self.offset);
        put_bytes(buffer, field::KEY, self.key);
        put_number(buffer, field::RECEIPT, self.receipt as u64);
        put_bytes(buffer, field::SUBSCRIPTION_REF, self.subscription_ref.as_bytes());
        if let Some(lease) = &self.lease {
            put_bytes(buffer, field::TOKEN, lease.token);
            put_number(buffer, field::ATTEMPT, lease.attempt.into());
            put_number(buffer, field::LEASE_UNTIL_MS, lease.until_ms);
        }
    }

    /// An upper bound of the encoded bytes, so that a batch's buffer grows once.
    pub fn len_bytes_max(&self) -> usize {
        // Twelve keys of one byte, lengths and numbers of at most ten.
        const FRAMING_BYTES_MAX: usize = 12 * 11;
        let metadata: usize =
            (self.metadata)().map(|(name, value)| entry_bytes(name, value) + FRAMING_BYTES_MAX).sum();
        let texts = self.id.len() + self.topic.len() + self.key.len() + self.subscription_ref.len();
        let token = self.lease.map_or(0, |lease| lease.token.len());
        FRAMING_BYTES_MAX + texts + token + self.payload.len() + metadata
    }
}

/// Bytes of a metadata entry's inner message. proto3 leaves out empty fields.
fn entry_bytes(name: &[u8], value: &[u8]) -> usize {
    let field_bytes = |number, text: &[u8]| {
        if text.is_empty() { 0 } else { key_len(number) + encoded_len_varint(text.len() as u64) + text.len() }
    };
    field_bytes(field::ENTRY_NAME, name) + field_bytes(field::ENTRY_VALUE, value)
}

/// One encoded `ratatoskr.Message`. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingMessage {
    // A slice of its batch's buffer: what comes before the rest of the payload. Written once, by `MessageParts`.
    fields: Bytes,
    // The payload's content, if it is not in `fields`.
    payload: Bytes,
}

impl OutgoingMessage {
    /// Bytes of the encoding.
    pub fn len_bytes(&self) -> usize {
        self.fields.len() + self.payload.len()
    }
}

impl prost::Message for OutgoingMessage {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.fields);
        buffer.put_slice(&self.payload);
    }

    fn encoded_len(&self) -> usize {
        self.len_bytes()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        // A server never receives a message it sends; whoever decodes wants the generated type.
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn clear(&mut self) {
        *self = OutgoingMessage::default();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    const ID: &[u8; 36] = b"018f3c00-0000-7000-8000-00000000000a";

    fn sent_and_received<'a, M, I>(parts: &MessageParts<'a, M>) -> crate::Message
    where
        M: Fn() -> I,
        I: Iterator<Item = (&'a [u8], &'a [u8])>,
    {
        let (copied, shared) = (parts.copy(&mut BytesMut::new()), parts.share(&mut BytesMut::new()));
        assert!(copied.len_bytes() <= parts.len_bytes_max());
        let copied = copied.encode_to_vec();
        assert_eq!(copied, shared.encode_to_vec());
        crate::Message::decode(copied.as_slice()).unwrap()
    }

    #[test]
    fn a_client_decodes_every_field_the_server_wrote() {
        let long = "v".repeat(8192);
        let metadata = [("kind", "order"), ("empty", ""), ("long", long.as_str())];
        let received = sent_and_received(&MessageParts {
            id: ID,
            topic: "orders",
            payload: &Bytes::from_static(b"\x00\xff payload"),
            metadata: || metadata.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
            timestamp_ms: 1_700_000_000_123,
            offset: 300,
            key: b"customer-7",
            receipt: Durability::Written,
            subscription_ref: "ref-1",
            lease: Some(LeaseParts { token: b"\x01token", attempt: 3, until_ms: 1_700_000_030_000 }),
        });
        let expected = crate::Message {
            id: String::from_utf8(ID.to_vec()).unwrap(),
            topic: "orders".to_owned(),
            payload: Bytes::from_static(b"\x00\xff payload"),
            metadata: metadata.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            timestamp: 1_700_000_000_123,
            offset: 300,
            key: "customer-7".to_owned(),
            receipt: Durability::Written.into(),
            subscription_ref: "ref-1".to_owned(),
            token: Bytes::from_static(b"\x01token"),
            attempt: 3,
            lease_until_ms: 1_700_000_030_000,
        };
        assert_eq!(received, expected);
    }

    #[test]
    fn empty_fields_take_no_bytes() {
        let parts = MessageParts {
            id: ID,
            topic: "t",
            payload: &Bytes::new(),
            metadata: std::iter::empty,
            timestamp_ms: 0,
            offset: 0,
            key: b"",
            receipt: Durability::Unspecified,
            subscription_ref: "",
            lease: None,
        };
        assert_eq!(parts.share(&mut BytesMut::new()).len_bytes(), 2 + 36 + 2 + 1);
        assert_eq!(sent_and_received(&parts).topic, "t");
    }
}

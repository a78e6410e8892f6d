//! [`OutgoingMessage`] and [`OutgoingStep`]: the contract's `Message` and `ConsumeResponse`, as the server sends them.
//!
//! ```text
//!   a batch of messages ──MessageParts::encode──▶ one buffer  [ m0 | m1 | m2 | … ]
//!                                                               ▲    ▲    ▲
//!                                      OutgoingMessages share slices of it
//! ```
//!
//! The generated type would allocate an id, a topic, a key and a map for every message and every
//! subscriber. Here the fields are written straight from where they lie; a whole batch shares one
//! buffer, and many subscribers may share the batch.
//!
//! Invariant: the bytes are a valid encoding of `ratatoskr.Message`; a test decodes them with the
//! generated type. It deliberately cannot be decoded: a server never receives one.

use std::fmt::Debug;
use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::Durability;

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
    pub(super) const STEP_DELIVERIES: u32 = 2;
    pub(super) const DELIVERIES_MESSAGES: u32 = 1;
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
    pub payload: &'a [u8],
    /// Walks the names and values; called twice.
    pub metadata: M,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The place in the topic.
    pub offset: u64,
    /// The key, empty for none.
    pub key: &'a str,
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
    I: Iterator<Item = (&'a str, &'a str)>,
{
    /// Appends the message's encoding to a buffer.
    pub fn encode(&self, buffer: &mut BytesMut) {
        buffer.reserve(self.len_bytes_max());
        put_bytes(buffer, field::ID, self.id);
        put_bytes(buffer, field::TOPIC, self.topic.as_bytes());
        put_bytes(buffer, field::PAYLOAD, self.payload);
        for (name, value) in (self.metadata)() {
            encode_key(field::METADATA, WireType::LengthDelimited, buffer);
            encode_varint(entry_bytes(name, value) as u64, buffer);
            put_bytes(buffer, field::ENTRY_NAME, name.as_bytes());
            put_bytes(buffer, field::ENTRY_VALUE, value.as_bytes());
        }
        put_number(buffer, field::TIMESTAMP, self.timestamp_ms);
        put_number(buffer, field::OFFSET, self.offset);
        put_bytes(buffer, field::KEY, self.key.as_bytes());
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
fn entry_bytes(name: &str, value: &str) -> usize {
    let field_bytes = |number, text: &str| {
        if text.is_empty() { 0 } else { key_len(number) + encoded_len_varint(text.len() as u64) + text.len() }
    };
    field_bytes(field::ENTRY_NAME, name) + field_bytes(field::ENTRY_VALUE, value)
}

fn put_bytes(buffer: &mut BytesMut, number: u32, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    encode_key(number, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

fn put_number(buffer: &mut BytesMut, number: u32, value: u64) {
    if value == 0 {
        return;
    }
    encode_key(number, WireType::Varint, buffer);
    encode_varint(value, buffer);
}

/// One encoded message of the contract's type `T`. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outgoing<T> {
    // Of a message of a batch a slice of the batch's buffer, written once.
    encoded: Bytes,
    of: PhantomData<fn() -> T>,
}

/// One encoded `ratatoskr.Message`, as [`MessageParts::encode`] writes it.
pub type OutgoingMessage = Outgoing<crate::Message>;

/// One encoded `ratatoskr.ConsumeResponse`.
pub type OutgoingStep = Outgoing<crate::ConsumeResponse>;

impl<T> Outgoing<T> {
    /// A message from its encoding.
    pub fn from_encoded(encoded: Bytes) -> Outgoing<T> {
        Outgoing { encoded, of: PhantomData }
    }

    /// Bytes of the encoding.
    pub fn len_bytes(&self) -> usize {
        self.encoded.len()
    }
}

impl OutgoingStep {
    /// A step with deliveries.
    pub fn deliveries(messages: &[OutgoingMessage]) -> OutgoingStep {
        let bytes_of = |message: &OutgoingMessage| {
            let bytes = message.len_bytes();
            key_len(field::DELIVERIES_MESSAGES) + encoded_len_varint(bytes as u64) + bytes
        };
        let bytes: usize = messages.iter().map(bytes_of).sum();
        let mut buffer = BytesMut::with_capacity(bytes + 11);
        encode_key(field::STEP_DELIVERIES, WireType::LengthDelimited, &mut buffer);
        encode_varint(bytes as u64, &mut buffer);
        for message in messages {
            encode_key(field::DELIVERIES_MESSAGES, WireType::LengthDelimited, &mut buffer);
            encode_varint(message.len_bytes() as u64, &mut buffer);
            buffer.put_slice(&message.encoded);
        }
        OutgoingStep::from_encoded(buffer.freeze())
    }
}

impl<T: prost::Message> From<&T> for Outgoing<T> {
    fn from(message: &T) -> Outgoing<T> {
        Outgoing::from_encoded(message.encode_to_vec().into())
    }
}

impl<T> prost::Message for Outgoing<T>
where
    Outgoing<T>: Debug + Send + Sync,
{
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.encoded);
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len()
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
        self.encoded.clear();
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
        I: Iterator<Item = (&'a str, &'a str)>,
    {
        let mut buffer = BytesMut::new();
        parts.encode(&mut buffer);
        assert!(buffer.len() <= parts.len_bytes_max());
        let encoded = OutgoingMessage::from_encoded(buffer.freeze()).encode_to_vec();
        crate::Message::decode(encoded.as_slice()).unwrap()
    }

    #[test]
    fn a_client_decodes_every_field_the_server_wrote() {
        let long = "v".repeat(8192);
        let metadata = [("kind", "order"), ("empty", ""), ("long", long.as_str())];
        let received = sent_and_received(&MessageParts {
            id: ID,
            topic: "orders",
            payload: b"\x00\xff payload",
            metadata: || metadata.iter().copied(),
            timestamp_ms: 1_700_000_000_123,
            offset: 300,
            key: "customer-7",
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
        let outgoing = OutgoingMessage::from(&expected);
        let step = OutgoingStep::deliveries(&[outgoing.clone(), outgoing]).encode_to_vec();
        let deliveries = crate::Deliveries { messages: vec![expected.clone(), expected] };
        let step = crate::ConsumeResponse::decode(step.as_slice()).unwrap().step;
        assert_eq!(step, Some(crate::consume_response::Step::Deliveries(deliveries)));
    }

    #[test]
    fn empty_fields_take_no_bytes() {
        let parts = MessageParts {
            id: ID,
            topic: "t",
            payload: b"",
            metadata: std::iter::empty,
            timestamp_ms: 0,
            offset: 0,
            key: "",
            receipt: Durability::Unspecified,
            subscription_ref: "",
            lease: None,
        };
        let mut buffer = BytesMut::new();
        parts.encode(&mut buffer);
        assert_eq!(buffer.len(), 2 + 36 + 2 + 1);
        assert_eq!(sent_and_received(&parts).topic, "t");
    }
}

//! [`OutgoingMessages`], [`OutgoingPull`] and [`OutgoingStep`]: what carries an [`OutgoingMessage`], as the server sends it.
//!
//! ```text
//!   Deliveries       { messages: [ m0 | m1 | … ] }   OutgoingMessages
//!   PullResponse     { messages: …, created }        OutgoingPull
//!   ConsumeResponse  { deliveries: { messages: … } } OutgoingStep::Deliveries
//!                    { anything else }               OutgoingStep::Other
//! ```
//!
//! The messages are written one after another where the response is put together, and nowhere before, so that a payload is copied once on
//! its way out.
//!
//! Invariant: the bytes are a valid encoding of the contract's type; a test decodes them with the generated one.

use bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use prost::{DecodeError, Message};

use crate::OutgoingMessage;

/// `messages` of `ratatoskr.PullResponse` and of `ratatoskr.Deliveries`.
const MESSAGES: u32 = 1;
/// `created` of `ratatoskr.PullResponse`.
const CREATED: u32 = 2;
/// `deliveries` of `ratatoskr.ConsumeResponse`.
const DELIVERIES: u32 = 2;

/// The `ratatoskr.Deliveries` of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingMessages {
    /// The messages.
    pub messages: Vec<OutgoingMessage>,
}

impl OutgoingMessages {
    /// Bytes that a message takes in here.
    pub fn len_bytes_of(message: &OutgoingMessage) -> usize {
        let bytes = message.len_bytes();
        key_len(MESSAGES) + encoded_len_varint(bytes as u64) + bytes
    }
}

impl Message for OutgoingMessages {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        for message in &self.messages {
            encode_key(MESSAGES, WireType::LengthDelimited, buffer);
            encode_varint(message.len_bytes() as u64, buffer);
            message.encode_raw(buffer);
        }
    }

    fn encoded_len(&self) -> usize {
        self.messages.iter().map(OutgoingMessages::len_bytes_of).sum()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        // As with `OutgoingMessage`.
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn clear(&mut self) {
        self.messages.clear();
    }
}

/// A `ratatoskr.PullResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingPull {
    /// Its messages: a field of the same number as theirs in `ratatoskr.Deliveries`.
    pub deliveries: OutgoingMessages,
    /// The call has created the subscription.
    pub created: bool,
}

impl Message for OutgoingPull {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        self.deliveries.encode_raw(buffer);
        if self.created {
            prost::encoding::bool::encode(CREATED, &true, buffer);
        }
    }

    fn encoded_len(&self) -> usize {
        let created = if self.created { prost::encoding::bool::encoded_len(CREATED, &true) } else { 0 };
        self.deliveries.encoded_len() + created
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        // As with `OutgoingMessage`.
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn clear(&mut self) {
        *self = OutgoingPull::default();
    }
}

/// A `ratatoskr.ConsumeResponse`.
#[derive(Clone, Debug, PartialEq)]
pub enum OutgoingStep {
    /// A step with deliveries.
    Deliveries(OutgoingMessages),
    /// Any other.
    Other(crate::ConsumeResponse),
}

impl Message for OutgoingStep {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        match self {
            OutgoingStep::Deliveries(deliveries) => {
                encode_key(DELIVERIES, WireType::LengthDelimited, buffer);
                encode_varint(deliveries.encoded_len() as u64, buffer);
                deliveries.encode_raw(buffer);
            }
            OutgoingStep::Other(step) => step.encode_raw(buffer),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            OutgoingStep::Deliveries(deliveries) => {
                let bytes = deliveries.encoded_len();
                key_len(DELIVERIES) + encoded_len_varint(bytes as u64) + bytes
            }
            OutgoingStep::Other(step) => step.encoded_len(),
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        // As with `OutgoingMessage`.
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn clear(&mut self) {
        *self = OutgoingStep::Other(crate::ConsumeResponse::default());
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::consume_response::Step;
    use crate::{Durability, LeaseParts, MessageParts};

    fn outgoing(payload: &Bytes) -> OutgoingMessage {
        let parts = MessageParts {
            id: b"018f3c00-0000-7000-8000-00000000000a",
            topic: "orders",
            payload,
            metadata: std::iter::empty,
            timestamp_ms: 1,
            offset: 2,
            key: b"",
            receipt: Durability::Fsync,
            subscription_ref: "",
            lease: Some(LeaseParts { token: b"token", attempt: 1, until_ms: 3 }),
        };
        parts.share(&mut BytesMut::new())
    }

    #[test]
    fn a_client_decodes_the_messages_the_server_wrote() {
        let payloads = [Bytes::new(), vec![7; 300].into(), vec![8; 70_000].into()];
        let outgoing = OutgoingMessages { messages: payloads.iter().map(outgoing).collect() };
        let pull = |created| OutgoingPull { deliveries: outgoing.clone(), created };
        let decode =
            |pull: OutgoingPull| crate::PullResponse::decode(pull.encode_to_vec().as_slice()).unwrap();
        let pulled = decode(pull(true));
        assert!(pulled.created && !decode(pull(false)).created);
        let received: Vec<_> = pulled.messages.iter().map(|message| message.payload.clone()).collect();
        assert_eq!(received, payloads);
        let step = OutgoingStep::Deliveries(outgoing).encode_to_vec();
        let step = crate::ConsumeResponse::decode(step.as_slice()).unwrap().step;
        assert_eq!(step, Some(Step::Deliveries(crate::Deliveries { messages: pulled.messages })));
    }

    #[test]
    fn any_other_step_is_what_the_contract_says() {
        let step = crate::ConsumeResponse { step: Some(Step::Heartbeat(crate::Heartbeat {})) };
        assert_eq!(OutgoingStep::Other(step.clone()).encode_to_vec(), step.encode_to_vec());
    }
}

//! Batches on their way to subscribers: encoded once per worker thread, shared by all its subscribers.
//!
//! ```text
//!   subscriber 1 ─┐                      ┌─ found: share the bytes
//!   subscriber 2 ─┼─▶ batch [m5 … m9] ───┤
//!   subscriber 3 ─┘                      └─ new: encode into one buffer, remember it
//! ```
//!
//! Subscribers that follow a topic's tail are woken by the same commits, so they ask for the same
//! batches within moments of each other. Each worker remembers its last few; the memory is its own,
//! so that looking needs no lock.
//!
//! Invariant: two batches with the same first and last id and without gaps hold the same messages,
//! since an id names one message for good. A batch that a filter left gaps in is never shared.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use ratatoskr_broker::limits::READ_BYTES_MAX;
use ratatoskr_broker::{Durability, Message, MessageId};
use ratatoskr_proto::{MessageParts, OutgoingMessage};

use crate::convert::durability_to_wire;

/// Batches a worker remembers: enough for subscribers that are a few commits apart.
const REMEMBERED_MAX: usize = 8;
/// Bytes of a batch that is worth remembering. A larger one is a giant message, where the bytes kept
/// would cost more than encoding it again.
const REMEMBERED_BYTES_MAX: usize = 2 * READ_BYTES_MAX;

/// A batch, encoded message by message.
pub(crate) type Encoded = Arc<[OutgoingMessage]>;

thread_local! {
    /// What this worker encoded last, newest at the back.
    static REMEMBERED: RefCell<VecDeque<(Span, Encoded)>> = const { RefCell::new(VecDeque::new()) };
}

/// What tells one batch without gaps from all others.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Span {
    first: MessageId,
    last: MessageId,
}

impl Span {
    /// The span of a batch; none if messages are missing in between.
    fn of(batch: &[Message]) -> Option<Span> {
        let (first, last) = (batch.first()?, batch.last()?);
        let without_gaps = last.offset - first.offset + 1 == batch.len() as u64;
        without_gaps.then_some(Span { first: first.id, last: last.id })
    }
}

/// Encodes a batch of one topic, or finds that this worker has done so already.
pub(crate) fn encode_shared(batch: &[Message], receipt: Durability) -> Encoded {
    let Some(span) = Span::of(batch) else { return encode(batch, receipt, "") };
    REMEMBERED.with_borrow_mut(|remembered| {
        if let Some((_, encoded)) = remembered.iter().rev().find(|(known, _)| *known == span) {
            return Arc::clone(encoded);
        }
        let encoded = encode(batch, receipt, "");
        let encoded_bytes: usize = encoded.iter().map(OutgoingMessage::len_bytes).sum();
        if encoded_bytes <= REMEMBERED_BYTES_MAX {
            if remembered.len() == REMEMBERED_MAX {
                remembered.pop_front();
            }
            remembered.push_back((span, Arc::clone(&encoded)));
        }
        encoded
    })
}

/// Encodes a batch of one topic for one subscriber. Its first message carries the reference, unless that
/// is empty.
pub(crate) fn encode(batch: &[Message], receipt: Durability, first_reference: &str) -> Encoded {
    let mut buffer = BytesMut::new();
    let mut reference = first_reference;
    let mut encoded = Vec::with_capacity(batch.len());
    for message in batch {
        let mut id = [0; 36];
        message.id.write_hyphenated(&mut id);
        let parts = MessageParts {
            id: &id,
            topic: message.topic.as_str(),
            payload: &message.payload(),
            metadata: || message.metadata(),
            timestamp_ms: message.timestamp_ms,
            offset: message.offset,
            key: message.key(),
            receipt: durability_to_wire(receipt),
            subscription_ref: std::mem::take(&mut reference),
        };
        if encoded.is_empty() {
            // Batches are made of like messages: one allocation fits most of them.
            buffer.reserve((parts.len_bytes_max() * batch.len()).min(REMEMBERED_BYTES_MAX));
        }
        parts.encode(&mut buffer);
        encoded.push(OutgoingMessage::from_encoded(buffer.split().freeze()));
    }
    encoded.into()
}

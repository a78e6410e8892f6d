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
use ratatoskr_broker::{Delivered, Durability, Message, MessageId};
use ratatoskr_proto::{LeaseParts, MessageParts, OutgoingMessage};

use crate::convert::durability_to_wire;

/// Batches a worker remembers: enough for subscribers that are a few commits apart.
const REMEMBERED_MAX: usize = 8;
/// Bytes of a batch that is worth remembering. A larger one is a giant message, where the bytes kept
/// would cost more than encoding it again.
const REMEMBERED_BYTES_MAX: usize = 2 * READ_BYTES_MAX;

/// A payload that goes out at once stays where it is from so many bytes on; copying a smaller one costs less than to keep hold of it.
const SHARED_BYTES_MIN: usize = 4 << 10;

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
    let mut reference = first_reference;
    let leased = batch.iter().map(|message| (message, std::mem::take(&mut reference), None));
    encode_each(leased, receipt).into()
}

/// Encodes deliveries of a durable subscription. They go out at once, so large payloads stay where they are.
pub(crate) fn encode_delivered(batch: &[Delivered], receipt: Durability) -> Vec<OutgoingMessage> {
    let tokens: Vec<_> = batch.iter().map(|delivered| delivered.token.to_bytes()).collect();
    let leased = batch.iter().zip(&tokens).map(|(delivered, token)| {
        let (attempt, until_ms) = (delivered.attempt, delivered.lease_until_ms);
        (&delivered.message, "", Some(LeaseParts { token, attempt, until_ms }))
    });
    encode_each(leased, receipt)
}

fn encode_each<'a>(
    batch: impl ExactSizeIterator<Item = (&'a Message, &'a str, Option<LeaseParts<'a>>)>,
    receipt: Durability,
) -> Vec<OutgoingMessage> {
    let mut buffer = BytesMut::new();
    let count = batch.len();
    let mut encoded = Vec::with_capacity(count);
    for (message, subscription_ref, lease) in batch {
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
            subscription_ref,
            lease,
        };
        let is_shared = lease.is_some() && parts.payload.len() >= SHARED_BYTES_MIN;
        let bytes_max = parts.len_bytes_max() - if is_shared { parts.payload.len() } else { 0 };
        if encoded.is_empty() {
            // Batches are made of like messages: one allocation fits most of them.
            buffer.reserve((bytes_max * count).min(REMEMBERED_BYTES_MAX));
        }
        encoded.push(if is_shared { parts.share(&mut buffer) } else { parts.copy(&mut buffer) });
    }
    encoded
}

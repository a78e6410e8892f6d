//! Messages on their way to subscribers, encoded once per worker thread and shared by all its subscribers.
//!
//! ```text
//!   subscriber 1 ─┐                                        ┌─ remembered: share the frames
//!   subscriber 2 ─┼─▶ what stands at offset 500 of topic 7 ─┤
//!   subscriber 3 ─┘                                        └─ new: read, encode into one buffer, remember
//! ```
//!
//! Subscribers that follow a topic's tail are woken by the same commits, so they stand at the same places within moments of each
//! other. Each worker remembers its last few batches; the memory is its own, so that looking needs no lock.
//!
//! Invariant: what is remembered was given to a subscription that takes every message, without gaps, and holds nothing that expires: so it is what
//! any other such subscription would be given at that place.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ratatoskr_broker::limits::READ_BYTES_MAX;
use ratatoskr_broker::{Delivered, Durability, Message, Subscription, SubscriptionEnd};
use ratatoskr_proto::{LeaseParts, MessageParts, OutgoingMessage};

use crate::convert::durability_to_wire;
use crate::memory::{Budget, counted};
use crate::message_frame::{PREFIX_BYTES, put_message};

/// Batches a worker remembers: enough for subscribers that are a few commits apart.
const REMEMBERED_MAX: usize = 8;
/// Bytes of a batch that is worth remembering. A larger one is a giant message, where the bytes kept
/// would cost more than encoding it again.
const REMEMBERED_BYTES_MAX: usize = 2 * READ_BYTES_MAX;

/// A payload that goes out at once stays where it is from so many bytes on; copying a smaller one costs less than to keep hold of it.
const SHARED_BYTES_MIN: usize = 4 << 10;

thread_local! {
    /// What this worker encoded last, newest at the back.
    static REMEMBERED: RefCell<VecDeque<Remembered>> = const { RefCell::new(VecDeque::new()) };
}

/// A batch of a topic from an offset on.
struct Remembered {
    topic: u32,
    from: u64,
    /// Where a subscriber goes on after it.
    next: u64,
    messages: u64,
    payload_bytes: u64,
    frames: Bytes,
}

/// The next batch of a subscription that takes every message and has something at its cursor, as gRPC frames.
pub(crate) async fn shared_frames(
    subscription: &mut Subscription,
    receipt: Durability,
    memory: &Arc<Budget>,
) -> Result<Bytes, SubscriptionEnd> {
    let (topic, from) = (subscription.topic_number(), subscription.cursor());
    let remembered = REMEMBERED.with_borrow(|remembered| {
        let known = remembered.iter().rev().find(|known| (known.topic, known.from) == (topic, from))?;
        if !subscription.is_kept() {
            return None;
        }
        subscription.pass(known.next, known.messages, known.payload_bytes);
        Some(known.frames.clone())
    });
    if let Some(frames) = remembered {
        return Ok(frames);
    }
    let batch = subscription.next_batch().await?;
    let frames = counted(frames(&batch, receipt, ""), memory);
    let (next, messages) = (subscription.cursor(), batch.len() as u64);
    let is_whole = next - from == messages && !batch.iter().any(Message::expires);
    if is_whole && frames.len() <= REMEMBERED_BYTES_MAX {
        let payload_bytes = batch.iter().map(|message| message.payload_bytes() as u64).sum();
        let new = Remembered { topic, from, next, messages, payload_bytes, frames: frames.clone() };
        REMEMBERED.with_borrow_mut(|remembered| {
            if remembered.len() == REMEMBERED_MAX {
                remembered.pop_front();
            }
            remembered.push_back(new);
        });
    }
    Ok(frames)
}

/// Forgets what was encoded: whoever comes for it now is not a moment behind, and others can use the memory.
pub(crate) fn forget() {
    REMEMBERED.with_borrow_mut(VecDeque::clear);
}

/// A batch of one topic as gRPC frames. Its first message carries the reference, unless that is empty.
pub(crate) fn frames(batch: &[Message], receipt: Durability, first_reference: &str) -> Bytes {
    let mut reference = first_reference;
    let mut buffer = BytesMut::new();
    for message in batch {
        let mut id = [0; 36];
        message.id.write_hyphenated(&mut id);
        let payload = message.payload();
        let parts = parts(message, (&id, &payload), || message.metadata_bytes(), receipt);
        let parts = MessageParts { subscription_ref: std::mem::take(&mut reference), ..parts };
        if buffer.is_empty() {
            // Batches are made of like messages: one allocation fits most of them.
            let bytes = (PREFIX_BYTES + parts.len_bytes_max()) * batch.len();
            buffer.reserve(bytes.min(REMEMBERED_BYTES_MAX));
        }
        put_message(&mut buffer, |buffer| parts.put(buffer));
    }
    buffer.freeze()
}

/// Encodes deliveries of a durable subscription. They go out at once, so large payloads stay where they are. The first one carries the
/// reference, unless that is empty.
pub(crate) fn encode_delivered(
    batch: &[Delivered],
    receipt: Durability,
    first_reference: &str,
) -> Vec<OutgoingMessage> {
    let tokens: Vec<_> = batch.iter().map(|delivered| delivered.token.to_bytes()).collect();
    let leased = batch.iter().zip(&tokens).map(|(delivered, token)| {
        let (attempt, until_ms) = (delivered.attempt, delivered.lease_until_ms);
        (&delivered.message, LeaseParts { token, attempt, until_ms })
    });
    encode_each(leased, receipt, first_reference)
}

fn encode_each<'a>(
    batch: impl ExactSizeIterator<Item = (&'a Message, LeaseParts<'a>)>,
    receipt: Durability,
    first_reference: &str,
) -> Vec<OutgoingMessage> {
    let mut reference = first_reference;
    let mut buffer = BytesMut::new();
    let count = batch.len();
    let mut encoded = Vec::with_capacity(count);
    for (message, lease) in batch {
        let mut id = [0; 36];
        message.id.write_hyphenated(&mut id);
        let payload = message.payload();
        let parts = MessageParts {
            lease: Some(lease),
            subscription_ref: std::mem::take(&mut reference),
            ..parts(message, (&id, &payload), || message.metadata_bytes(), receipt)
        };
        let is_shared = payload.len() >= SHARED_BYTES_MIN;
        let bytes_max = parts.len_bytes_max() - if is_shared { payload.len() } else { 0 };
        if encoded.is_empty() {
            buffer.reserve((bytes_max * count).min(REMEMBERED_BYTES_MAX));
        }
        encoded.push(if is_shared { parts.share(&mut buffer) } else { parts.copy(&mut buffer) });
    }
    encoded
}

fn parts<'a, M>(
    message: &'a Message,
    (id, payload): (&'a [u8; 36], &'a Bytes),
    metadata: M,
    receipt: Durability,
) -> MessageParts<'a, M> {
    MessageParts {
        id,
        topic: message.topic.as_str(),
        payload,
        metadata,
        timestamp_ms: message.timestamp_ms,
        offset: message.offset,
        key: message.key_bytes(),
        receipt: durability_to_wire(receipt),
        subscription_ref: "",
        lease: None,
    }
}

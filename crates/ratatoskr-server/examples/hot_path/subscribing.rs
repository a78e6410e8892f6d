//! What becomes of messages on their way to a subscriber: read from the topic's tail, made into frames.

use std::hint::black_box;

use bytes::{BufMut, BytesMut};
use futures_util::FutureExt;
use ratatoskr_broker::{Broker, Message, NewMessage, Start, SubscribeOptions};
use ratatoskr_proto::{Durability, MessageParts};
use tempfile::TempDir;

use crate::publishing::{broker, topic, wait};

/// Messages of one batch.
pub(super) const MESSAGES: u64 = 100;
/// What gRPC has before each message.
const PREFIX_BYTES: usize = 5;

/// A subscriber begins and takes the topic's messages, by the message.
pub(super) fn follow() -> Box<dyn FnMut()> {
    let (broker, folder) = filled();
    Box::new(move || {
        let _open = &folder;
        black_box(messages(&broker));
    })
}

/// A batch is made into frames, by the message.
pub(super) fn frames() -> Box<dyn FnMut()> {
    let (broker, _folder) = filled();
    let batch = messages(&broker);
    Box::new(move || {
        let mut buffer = BytesMut::new();
        for message in black_box(&batch) {
            put_frame(message, &mut buffer);
        }
        black_box(buffer.freeze());
    })
}

fn filled() -> (Broker, TempDir) {
    let (broker, folder) = broker();
    let message = NewMessage {
        key: "customer-4711".into(),
        metadata: vec![("kind".into(), "created".into())],
        ..NewMessage::new(vec![7; 256])
    };
    wait(broker.publish_batch(&topic(), vec![message; MESSAGES as usize])).expect("the topic takes them");
    (broker, folder)
}

fn messages(broker: &Broker) -> Vec<Message> {
    let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut subscription = broker.subscribe(&topic(), options).expect("the topic is there");
    let batch = subscription.next_batch().now_or_never().expect("it is in memory");
    let batch = batch.expect("the broker runs");
    assert_eq!(batch.len() as u64, MESSAGES);
    batch
}

/// As the server's `encoding::frames` does.
fn put_frame(message: &Message, buffer: &mut BytesMut) {
    let mut id = [0; 36];
    message.id.write_hyphenated(&mut id);
    let payload = message.payload();
    let parts = MessageParts {
        id: &id,
        topic: message.topic.as_str(),
        payload: &payload,
        metadata: || message.metadata_bytes(),
        timestamp_ms: message.timestamp_ms,
        offset: message.offset,
        key: message.key_bytes(),
        receipt: Durability::Fsync,
        subscription_ref: "",
        lease: None,
    };
    if buffer.is_empty() {
        buffer.reserve((PREFIX_BYTES + parts.len_bytes_max()) * MESSAGES as usize);
    }
    let start = buffer.len();
    buffer.put_bytes(0, PREFIX_BYTES);
    parts.put(buffer);
    let length = (buffer.len() - start - PREFIX_BYTES) as u32;
    buffer[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

//! What becomes of a request to publish, until its record waits for the sequencer, and what its publisher is told.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ratatoskr_broker::{
    Broker, BrokerConfig, Delivery, Draft, IdMask, MessageId, MessageView, TopicName, TopicSettings,
};
use ratatoskr_proto::{
    BatchView, Durability, PublishBatchRequest, PublishRequest, PublishView, ReceiptParts,
};
use tempfile::TempDir;

/// Messages of one batch.
pub(super) const BATCH_MESSAGES: u64 = 1000;
/// Room for what a record has and its request has not, as the server's door reckons.
const RECORD_OVERHEAD_BYTES: usize = 64;
const TOPIC: &str = "orders";

/// A request is read where it lies.
pub(super) fn read() -> Box<dyn FnMut()> {
    let request = request_bytes();
    Box::new(move || {
        black_box(PublishView::read(black_box(&request)).expect("it is a request"));
    })
}

/// Its message is checked and encoded as a record.
pub(super) fn draft() -> Box<dyn FnMut()> {
    let (broker, folder) = broker();
    let request = request_bytes();
    Box::new(move || {
        let _open = &folder;
        let view = PublishView::read(black_box(&request)).expect("it is a request");
        let mut draft = begin(&broker, request.len() + RECORD_OVERHEAD_BYTES);
        push(&mut draft, &view);
        black_box(draft);
    })
}

/// The same for a batch: read and encoded, by the message.
pub(super) fn batch() -> Box<dyn FnMut()> {
    let (broker, folder) = broker();
    let messages = vec![PublishRequest { topic: String::new(), ..request() }; BATCH_MESSAGES as usize];
    let request = PublishBatchRequest { topic: TOPIC.into(), messages };
    let request = request.encode_to_vec();
    Box::new(move || {
        let _open = &folder;
        let batch = BatchView::read_batch(black_box(&request)).expect("it is a request");
        let mut draft = begin(&broker, request.len() + batch.count * RECORD_OVERHEAD_BYTES);
        for message in batch.messages() {
            push(&mut draft, &PublishView::read(message).expect("it is a message"));
        }
        assert_eq!(u64::from(draft.count()), BATCH_MESSAGES);
        black_box(draft);
    })
}

/// A receipt is written: an id made and put into text, and the fields around it.
pub(super) fn receipt() -> Box<dyn FnMut()> {
    let mut buffer = BytesMut::new();
    Box::new(move || {
        buffer.clear();
        put_receipt(black_box(4711), &mut buffer);
        black_box(&buffer);
    })
}

/// The response of a `Publish`.
pub(super) fn receipt_bytes() -> Bytes {
    let mut buffer = BytesMut::new();
    put_receipt(4711, &mut buffer);
    buffer.freeze()
}

/// A `Publish` of 256 bytes with a key and one entry of metadata.
pub(super) fn request_bytes() -> Vec<u8> {
    request().encode_to_vec()
}

fn request() -> PublishRequest {
    PublishRequest {
        topic: TOPIC.into(),
        payload: Bytes::from_static(&[7; 256]),
        key: "customer-4711".into(),
        metadata: [("kind".into(), "created".into())].into(),
        ..PublishRequest::default()
    }
}

fn put_receipt(offset: i64, buffer: &mut BytesMut) {
    let (mask, timestamp_ms) = (IdMask::new(0x1234_5678_9abc_def0), 1_800_000_000_000);
    let mut id = [0; 36];
    MessageId::new(mask, 7, offset as u64, timestamp_ms).write_hyphenated(&mut id);
    let parts = ReceiptParts {
        message_id: &id,
        timestamp_ms,
        offset,
        receipt: Durability::Fsync,
        duplicate: false,
        scheduled: false,
    };
    parts.put(buffer);
}

/// A broker with one topic, in a folder that has to live as long.
pub(super) fn broker() -> (Broker, TempDir) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let broker = Broker::open(BrokerConfig::new(folder.path())).expect("the folder is empty");
    wait(broker.create_topic(&topic(), TopicSettings::default())).expect("there is no topic yet");
    (broker, folder)
}

pub(super) fn topic() -> TopicName {
    TopicName::parse(TOPIC).expect("it is a name")
}

/// Waits for what other threads do.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O needs nothing").block_on(future)
}

fn begin(broker: &Broker, bytes: usize) -> Draft {
    broker.draft(TOPIC, bytes).expect("it is a name")
}

fn push(draft: &mut Draft, view: &PublishView<'_>) {
    let message = MessageView {
        payload: view.payload,
        key: view.key,
        metadata: &view.metadata,
        ttl_ms: view.ttl_ms,
        dedup_id: view.dedup_id,
        delivery: Delivery::Now,
        expected_offset: None,
    };
    draft.push(&message).expect("it is plain");
}

//! `Publish` and `PublishBatch` on the short way: read where the request lies, submitted, answered by ticket.
//!
//! ```text
//!   request ──view──▶ draft ──▶ submit ··▶ receipt written straight into the connection
//!      └── anything but plain (refused, due later, several topics, malformed) ──▶ the long way, `crate::publish`
//! ```
//!
//! The long way gives every refusal; the short way knows none but a topic's name and what the broker says.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use ratatoskr_broker::limits::BATCH_MESSAGES_MAX;
use ratatoskr_broker::{Broker, Delivery, Draft, MessageView, PublishError, Published, Receipt};
use ratatoskr_http2::{Ending, StreamId};
use ratatoskr_proto::{BatchView, PublishBatchResponse, PublishView, ReceiptParts};
use tonic::Status;

use crate::access::Permit;
use crate::convert::{durability_to_wire, number, refused};
use crate::door::Worker;
use crate::door::asking::{self, Asked};
use crate::door::link::Link;
use crate::door::tickets::{Kind, Waiting};
use crate::door::tonic_call::refuse;
use crate::door::{calls, decoding};
use crate::message_frame::put_message;
use crate::{publish, status};

/// What a call of gRPC ends with when all went well.
pub(super) const OK: Ending = Ending::Known(&[("grpc-status", "0")]);

/// `Publish`.
pub(super) fn single(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    stream: StreamId,
    request: &Bytes,
    mut asked: Asked,
) {
    let way = match asking::message(&mut asked, &worker.broker, request) {
        Ok(way) => way,
        Err(status) => return refuse(link, stream, &status),
    };
    let way = match way.with(|| draft_single(&worker.broker, request)) {
        Ok(short) => return submit(worker, link, short, (stream, Kind::Single)),
        Err(way) => way,
    };
    let (request, bytes) = match decoding::message(request) {
        Ok(decoded) => decoded,
        Err(status) => return refuse(link, stream, &status),
    };
    let held = link.hold(bytes);
    let (broker, owner) = (worker.broker.clone(), Rc::clone(link));
    calls::spawn(link, stream, async move {
        let _until_done = (way, held);
        respond(&owner, stream, publish::publish(&broker, request).await);
    });
}

fn submit(
    worker: &Worker,
    link: &Rc<Link>,
    (draft, permit): (Draft, Permit),
    (stream, kind): (StreamId, Kind),
) {
    let waiting = Waiting { link: Rc::clone(link), stream, kind, _permit: permit };
    match worker.tickets.submit(draft, waiting, &worker.traffic) {
        Ok(None) => {}
        Ok(Some(task)) => calls::hold(link, stream, task),
        Err(status) => refuse(link, stream, &status),
    }
}

/// `PublishBatch`.
pub(super) fn batch(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    stream: StreamId,
    request: &Bytes,
    mut asked: Asked,
) {
    let way = match asking::batch(&mut asked, &worker.broker, request) {
        Ok(way) => way,
        Err(status) => return refuse(link, stream, &status),
    };
    let draft =
        || BatchView::read_batch(request).and_then(|view| draft_batch(&worker.broker, &view, request.len()));
    let way = match way.with(draft) {
        Ok(short) => {
            let kind = Kind::Batch(short.0.count());
            return submit(worker, link, short, (stream, kind));
        }
        Err(way) => way,
    };
    let (request, bytes) = match decoding::batch(request) {
        Ok(decoded) => decoded,
        Err(status) => return refuse(link, stream, &status),
    };
    let held = link.hold(bytes);
    let (broker, owner) = (worker.broker.clone(), Rc::clone(link));
    calls::spawn(link, stream, async move {
        let _until_done = (way, held);
        respond(&owner, stream, publish::publish_batch(&broker, request).await);
    });
}

fn draft_single(broker: &Broker, request: &[u8]) -> Option<Draft> {
    let view = PublishView::read(request)?;
    let mut draft = broker.draft(view.topic, request.len() + RECORD_OVERHEAD_BYTES).ok()?;
    push(&mut draft, &view)?;
    Some(draft)
}

/// Room for what a record has and its request has not.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// The messages of a batch for one topic; `None` unless all of them can be published as they are.
pub(super) fn draft_batch(broker: &Broker, batch: &BatchView<'_>, bytes: usize) -> Option<Draft> {
    if batch.count > BATCH_MESSAGES_MAX {
        return None;
    }
    let mut draft: Option<(&str, Draft)> = None;
    for message in batch.messages() {
        let view = PublishView::read(message)?;
        let topic = if view.topic.is_empty() { batch.topic } else { view.topic };
        let (known, draft) = match &mut draft {
            Some((known, draft)) => (*known, draft),
            none => {
                let begun = broker.draft(topic, bytes + batch.count * RECORD_OVERHEAD_BYTES).ok()?;
                let (known, draft) = none.insert((topic, begun));
                (*known, draft)
            }
        };
        if known != topic {
            return None;
        }
        push(draft, &view)?;
    }
    draft.map(|(_, draft)| draft)
}

fn push(draft: &mut Draft, view: &PublishView<'_>) -> Option<()> {
    if view.deliver_at_ms != 0 || view.delay_ms != 0 {
        return None;
    }
    let expected_offset = view.expected_offset.map(u64::try_from).transpose().ok()?;
    let message = MessageView {
        payload: view.payload,
        key: view.key,
        metadata: &view.metadata,
        ttl_ms: view.ttl_ms,
        dedup_id: view.dedup_id,
        delivery: Delivery::Now,
        expected_offset,
    };
    draft.push(&message).ok()
}

/// What became of a `Publish`.
pub(super) fn answer_single(
    worker: &Worker,
    link: &Link,
    stream: StreamId,
    outcome: Result<Published, PublishError>,
) {
    match outcome {
        Ok(published) => {
            let receipt = worker.broker.receipt_of(&published, 0);
            reply(link, stream, |buffer| with_parts(&receipt, |parts| parts.put(buffer)));
        }
        Err(error) => respond(link, stream, status::publish_refusal(&error).map(refused)),
    }
}

/// What became of a `PublishBatch`.
pub(super) fn answer_batch(
    worker: &Worker,
    link: &Link,
    stream: StreamId,
    count: u32,
    outcome: Result<Published, PublishError>,
) {
    match outcome {
        Ok(published) => {
            reply(link, stream, |buffer| {
                put_results(&worker.broker, (&published, count), 1, buffer);
                prost::encoding::int32::encode(2, &(count as i32), buffer);
            });
        }
        Err(error) => {
            let response = status::publish_refusal(&error).map(|text| PublishBatchResponse {
                results: vec![refused(text); count as usize],
                success_count: 0,
                error_count: count as i32,
            });
            respond(link, stream, response);
        }
    }
}

/// Writes the receipts of a batch or a step as field `field`.
pub(super) fn put_results(
    broker: &Broker,
    (published, count): (&Published, u32),
    field: u32,
    buffer: &mut BytesMut,
) {
    for index in 0..count {
        with_parts(&broker.receipt_of(published, index), |parts| parts.put_result(field, buffer));
    }
}

fn with_parts<R>(receipt: &Receipt, write: impl FnOnce(&ReceiptParts<'_>) -> R) -> R {
    let mut id = [0; 36];
    receipt.id.write_hyphenated(&mut id);
    write(&ReceiptParts {
        message_id: &id,
        timestamp_ms: receipt.timestamp_ms,
        offset: if receipt.scheduled { -1 } else { number(receipt.offset) },
        receipt: durability_to_wire(receipt.durability),
        duplicate: receipt.duplicate,
        scheduled: receipt.scheduled,
    })
}

/// Answers a call whose head has not gone out with one message, written by `write`.
fn reply(link: &Link, stream: StreamId, write: impl FnOnce(&mut BytesMut)) {
    link.reply(|http2, scratch| {
        scratch.clear();
        put_message(scratch, write);
        http2.send_headers(stream, |fields| {
            fields.known(":status", "200").known("content-type", "application/grpc");
        });
        http2.send_copied(stream, scratch);
        http2.end(stream, OK);
    });
}

fn respond<M: Message>(link: &Link, stream: StreamId, response: Result<M, Status>) {
    match response {
        Ok(response) => reply(link, stream, |buffer| response.encode_raw(buffer)),
        Err(status) => refuse(link, stream, &status),
    }
    link.wake();
}

//! Requests of publishers as the generated types, where the short way does not do.
//!
//! ```text
//!   request ──count what it has many of──▶ within the limits? ──▶ decode
//! ```
//!
//! A message takes two bytes on the wire and two hundred in memory, a metadata entry four and a hundred: 17 MiB could become gigabytes.
//! So they are counted before they are made.

use bytes::Bytes;
use prost::Message;
use ratatoskr_broker::limits::{BATCH_MESSAGES_MAX, METADATA_ENTRIES_MAX};
use ratatoskr_proto::{PublishBatchRequest, PublishRequest, PublishStreamRequest, ValueCounts};
use tonic::Status;

use crate::limits::{METADATA_ENTRY_BYTES, VALUE_BYTES};
use crate::status;

/// A request of so many bytes cannot become much.
const HARMLESS_BYTES: usize = 64 << 10;

/// A request, and the bytes it takes in memory until it is answered: what is made of it is kept beside what is appended.
pub(super) type Decoded<M> = Result<(M, usize), Status>;

pub(super) fn message(request: &Bytes) -> Decoded<PublishRequest> {
    decode(request, ValueCounts::of_message)
}

pub(super) fn batch(request: &Bytes) -> Decoded<PublishBatchRequest> {
    decode(request, ValueCounts::of_batch)
}

pub(super) fn step(request: &Bytes) -> Decoded<PublishStreamRequest> {
    decode(request, ValueCounts::of_step)
}

fn decode<M: Message + Default>(request: &Bytes, counts: fn(&[u8]) -> Option<ValueCounts>) -> Decoded<M> {
    let counts = counts(request);
    if request.len() > HARMLESS_BYTES {
        check(counts)?;
    }
    let values =
        counts.map_or(0, |counts| counts.messages * VALUE_BYTES + counts.entries * METADATA_ENTRY_BYTES);
    let decoded = M::decode(request.clone()).map_err(|error| ratatoskr_proto::malformed(&error))?;
    Ok((decoded, request.len() + values))
}

fn check(counts: Option<ValueCounts>) -> Result<(), Status> {
    let Some(ValueCounts { messages, entries }) = counts else {
        let text = "request does not follow the contract: it cannot be told what its fields are";
        return Err(Status::invalid_argument(text));
    };
    if messages > BATCH_MESSAGES_MAX {
        let text = format!("batch has {messages} messages; at most {BATCH_MESSAGES_MAX} are allowed");
        return Err(status::bad_field("messages", &text));
    }
    // A message with too many is refused later, in words of its own.
    if entries > 2 * METADATA_ENTRIES_MAX * messages {
        let text = format!(
            "the request has {entries} metadata entries; at most {METADATA_ENTRIES_MAX} a message are allowed"
        );
        return Err(status::bad_field("metadata", &text));
    }
    Ok(())
}

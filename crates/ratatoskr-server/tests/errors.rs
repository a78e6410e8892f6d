//! Errors that repeat what the caller sent: how much of it, whatever the call and the field.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use ratatoskr_http2::raw;
use ratatoskr_proto::{self as wire, TraceMessageRequest};
use support::hand::{Hand, data, head, value};
use support::policy::{PolicyFile, text_of, until};
use support::{Fixture, create, grpc_message};
use tonic::{Code, Request};

/// Bytes of a header list: names, values and 32 bytes a field.
const HEADER_LIST_BYTES_MAX: usize = 8 << 10;
/// What stands in one field of each request, 200 KB.
const LONG: &str = "ü";
const LONG_COUNT: usize = 100_000;
const HEADER_LIST_SETTING: u16 = 6;

fn size(fields: &[(String, String)]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

/// A field of length-delimited bytes.
fn put(number: i32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number.unsigned_abs(), WireType::LengthDelimited, &mut out);
    encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// All requests of a message's kind in which one text is long, with the path of that text.
fn long_requests(set: &FileDescriptorSet, message: &DescriptorProto, depth: u8) -> Vec<(String, Vec<u8>)> {
    let mut requests = Vec::new();
    let long = LONG.repeat(LONG_COUNT);
    for field in &message.field {
        let name = field.name();
        match field.r#type() {
            Type::String | Type::Bytes => {
                requests.push((name.to_owned(), put(field.number(), long.as_bytes())));
            }
            Type::Message if depth < 3 => {
                let kind = field.type_name().rsplit('.').next().unwrap();
                let nested = message.nested_type.iter();
                let known = set.file.iter().flat_map(|file| &file.message_type).chain(nested);
                let inner = known.into_iter().find(|known| known.name() == kind).unwrap();
                for (path, inner) in long_requests(set, inner, depth + 1) {
                    requests.push((format!("{name}.{path}"), put(field.number(), &inner)));
                }
            }
            _ => {}
        }
    }
    requests
}

/// What a request by hand is answered with: all its header lists, in order.
async fn answer(fixture: &Fixture, method: &str, request: &[u8]) -> Vec<Vec<(String, String)>> {
    let mut hand = Hand::greeted(fixture, &[(4, 1 << 24)]).await;
    hand.say(raw::window_update(0, 1 << 24)).await;
    let mut said = head(1, method, &[]);
    let framed = [&[0][..], &(request.len() as u32).to_be_bytes(), request].concat();
    let mut chunks = framed.chunks(16 << 10).peekable();
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_none() { raw::flag::END_STREAM } else { 0 };
        said.extend(data(1, flags, chunk));
    }
    hand.say(said).await;
    let mut lists = Vec::new();
    loop {
        let (fields, is_end) = hand.headers(1).await;
        let is_open = value(&fields, "grpc-status").is_none();
        lists.push(fields);
        // A subscriber waits for messages that never come.
        if is_end || (is_open && method == "Subscribe") {
            return lists;
        }
    }
}

#[tokio::test]
async fn whatever_field_is_long_its_error_is_short_and_the_next_call_is_served() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let set = FileDescriptorSet::decode(wire::FILE_DESCRIPTOR_SET).unwrap();
    let mut count = 0;
    for method in set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method) {
        let kind = method.input_type().rsplit('.').next().unwrap();
        let mut messages = set.file.iter().flat_map(|file| &file.message_type);
        let message = messages.find(|message| message.name() == kind).unwrap();
        let topic = message.field.iter().find(|field| field.name() == "topic");
        for (path, request) in long_requests(&set, message, 0) {
            let mut bases = vec![Vec::new()];
            bases.extend(topic.filter(|_| path != "topic").map(|topic| put(topic.number(), b"orders")));
            for base in bases {
                let request = [&base[..], &request].concat();
                let lists = answer(&fixture, method.name(), &request).await;
                for list in &lists {
                    let what = format!("{}.{path}: {} bytes", method.name(), size(list));
                    assert!(size(list) <= HEADER_LIST_BYTES_MAX, "{what}");
                    assert_ne!(value(list, "grpc-status"), Some("13"), "{what}");
                }
                count += 1;
            }
        }
    }
    assert!(count > 100, "{count} requests are not all there can be");
    create(&mut client, "still-served").await;
}

#[tokio::test]
async fn a_long_id_is_shown_in_part_with_its_length() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    for bytes in [5_000, 70_000, 1 << 20] {
        let request = TraceMessageRequest { message_id: "i".repeat(bytes) };
        let refused = client.trace_message(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(&format!("…\" ({bytes} bytes)")), "{refused}");
        assert!(refused.message().len() < 300, "{refused}");
    }
}

#[tokio::test]
async fn a_client_that_takes_shorter_header_lists_gets_shorter_ones() {
    let fixture = Fixture::start();
    for takes in [0, 120, 250, 400, 4096] {
        let mut hand = Hand::greeted(&fixture, &[(HEADER_LIST_SETTING, takes)]).await;
        hand.say(head(1, "TraceMessage", &[])).await;
        let request = TraceMessageRequest { message_id: "i".repeat(1000) };
        hand.say(data(1, raw::flag::END_STREAM, &grpc_message(&request))).await;
        let (fields, is_end) = hand.headers(1).await;
        assert!(is_end);
        assert_eq!(value(&fields, "grpc-status"), Some("3"));
        // Status, type and code come whatever it takes: without them it is no answer.
        let least =
            size(&fields.iter().filter(|(name, _)| name != "grpc-message").cloned().collect::<Vec<_>>());
        assert!(size(&fields) <= (takes as usize).max(least), "{takes}: {fields:?}");
        assert_eq!(value(&fields, "grpc-message").is_some(), takes >= 250, "{takes}: {fields:?}");
        assert_eq!(value(&fields, "grpc-status-details-bin").is_some(), takes == 4096, "{takes}: {fields:?}");
    }
}

#[tokio::test]
async fn the_audit_log_repeats_no_more_of_a_name_than_a_name_may_have() {
    let policy = PolicyFile::new(&[("nothing", "roles = []")], "");
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "nothing").await;
    let name = "ü".repeat(1 << 20);
    let request = Request::new(wire::DeleteTopicRequest { name });
    let refused = client.delete_topic(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let audit = policy.beside("audit.jsonl");
    until("the denial is in the audit log", async || text_of(&audit).contains("DeleteTopic")).await;
    assert!(text_of(&audit).len() < 2000, "{}", text_of(&audit).len());
}

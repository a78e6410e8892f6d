//! What a client may get wrong: every limit, and bytes that are no request at all.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use ratatoskr_proto::{
    CreateTopicRequest, DescribeTopicRequest, Durability, PublishBatchRequest, PublishRequest,
    PurgeTopicRequest, SubscribeRequest, TopicSettings, UpdateTopicRequest,
};
use support::{Fixture, create, message, publish};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const NAMES: [(&str, &str, &str); 9] = [
    ("", "empty_topic_name", "empty_topic"),
    ("a b", "invalid_topic_name_format", "invalid_topic_format"),
    ("a\n", "invalid_topic_name_format", "invalid_topic_format"),
    ("\0", "invalid_topic_name_format", "invalid_topic_format"),
    ("../etc", "invalid_topic_name_format", "invalid_topic_format"),
    ("ærlig", "invalid_topic_name_format", "invalid_topic_format"),
    ("a*", "invalid_topic_name_format", "invalid_topic_format"),
    ("a:b", "invalid_topic_name_format", "invalid_topic_format"),
    ("LONG", "topic_name_too_long", "topic_too_long"),
];

fn spelled_out(name: &str) -> String {
    if name == "LONG" { "x".repeat(256) } else { name.to_owned() }
}

#[tokio::test]
async fn bad_topic_names_are_refused_by_every_call_and_create_nothing() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    for (name, topic_code, publish_code) in NAMES {
        let name = spelled_out(name);
        let created =
            client.create_topic(CreateTopicRequest { name: name.clone(), settings: None }).await.unwrap();
        assert_eq!(created.into_inner().error, topic_code, "{name:?}");
        let published = client.publish(message(&name, "x")).await.unwrap().into_inner();
        assert_eq!((published.success, published.error.as_str()), (false, publish_code), "{name:?}");

        let subscribed = client
            .subscribe(SubscribeRequest { topic: name.clone(), ..Default::default() })
            .await
            .unwrap_err();
        let described = client.describe_topic(DescribeTopicRequest { name: name.clone() }).await.unwrap_err();
        let updated =
            client.update_topic(UpdateTopicRequest { name: name.clone(), settings: None }).await.unwrap_err();
        let purged =
            client.purge_topic(PurgeTopicRequest { name: name.clone(), before: None }).await.unwrap_err();
        for status in [subscribed, described, updated, purged] {
            assert_eq!(status.code(), Code::InvalidArgument, "{name:?}: {status}");
            assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_TOPIC_NAME");
            assert_eq!(status.get_details_error_info().unwrap().domain, "ratatoskr");
            assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), 1);
        }
    }
    let longest = "x".repeat(255);
    publish(&mut client, &longest, "the longest name is fine").await;
    assert_eq!(fixture.broker.list_topics().len(), 1);
}

#[tokio::test]
async fn messages_over_a_limit_are_refused_with_code_and_sentence() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let entries = |count: usize, name: usize, value: usize| -> BTreeMap<String, String> {
        (0..count).map(|number| (format!("{number:0name$}"), "v".repeat(value))).collect()
    };
    let plain = || message("orders", "x");
    for (code, request) in [
        ("payload_too_large: payload has 1048577 bytes; ", message("orders", vec![0; (1 << 20) + 1])),
        ("key_too_long: key has 1025 bytes; ", PublishRequest { key: "k".repeat(1025), ..plain() }),
        (
            "too_much_metadata: metadata has 65 entries; ",
            PublishRequest { metadata: entries(65, 3, 1), ..plain() },
        ),
        ("invalid_metadata_key: ", PublishRequest { metadata: entries(1, 257, 1), ..plain() }),
        (
            "invalid_metadata_key: ",
            PublishRequest { metadata: [(String::new(), "v".to_owned())].into(), ..plain() },
        ),
        ("metadata_value_too_long: ", PublishRequest { metadata: entries(1, 1, 8193), ..plain() }),
    ] {
        let refused = client.publish(request).await.unwrap().into_inner();
        assert!(!refused.success && refused.error.starts_with(code), "{code} {}", refused.error);
        assert_eq!((refused.message_id.as_str(), refused.timestamp), ("", 0));
    }
    assert!(!fixture.broker.list_topics().iter().any(|name| name.as_str() != "orders"));
    for request in [
        message("orders", ""),
        message("orders", vec![0; 1 << 20]),
        PublishRequest { key: "k".repeat(1024), metadata: entries(64, 256, 8192), ..plain() },
    ] {
        let accepted = client.publish(request).await.unwrap().into_inner();
        assert!(accepted.success, "{}", accepted.error);
    }
}

#[tokio::test]
async fn batches_over_a_limit_are_refused_as_a_whole() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let batch = |messages| PublishBatchRequest { topic: "orders".into(), messages };
    let long = client.publish_batch(batch(vec![message("", "x"); 10_001])).await.unwrap_err();
    assert_eq!(
        (long.code(), long.message()),
        (Code::InvalidArgument, "batch has 10001 messages; at most 10000 are allowed")
    );
    let large = client.publish_batch(batch(vec![message("", vec![0; 1 << 20]); 17])).await.unwrap_err();
    assert!(matches!(large.code(), Code::InvalidArgument | Code::OutOfRange), "{large}");
    assert_eq!(
        large.get_details_bad_request().map(|b| b.field_violations.len()),
        Some(1).filter(|_| large.code() == Code::InvalidArgument)
    );
    let giant = client.publish(message("orders", vec![0; 40 << 20])).await.unwrap_err();
    assert_eq!(giant.code(), Code::OutOfRange, "{giant}");
    assert!(fixture.broker.list_topics().is_empty(), "nothing is half-created");

    let largest =
        client.publish_batch(batch(vec![message("", vec![0; 1 << 20]); 16])).await.unwrap().into_inner();
    assert_eq!(largest.success_count, 16);
    let longest = client.publish_batch(batch(vec![message("", "x"); 10_000])).await.unwrap().into_inner();
    assert_eq!(longest.success_count, 10_000);
}

#[tokio::test]
async fn settings_out_of_range_are_refused_by_name() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let none = TopicSettings::default;
    for (word, settings) in [
        ("retention_age_ms", TopicSettings { retention_age_ms: Some(-1), ..none() }),
        ("retention_bytes", TopicSettings { retention_bytes: Some(i64::MIN), ..none() }),
        ("retention_messages", TopicSettings { retention_messages: Some(-5), ..none() }),
        ("durability", TopicSettings { durability: Some(9), ..none() }),
        ("subscribers_max", TopicSettings { subscribers_max: Some(0), ..none() }),
        ("message_bytes_max", TopicSettings { message_bytes_max: Some(0), ..none() }),
        ("message_bytes_max", TopicSettings { message_bytes_max: Some(u32::MAX), ..none() }),
    ] {
        let request = CreateTopicRequest { name: "new".into(), settings: Some(settings) };
        let error = client.create_topic(request).await.unwrap().into_inner().error;
        assert!(error.starts_with("invalid_settings: ") && error.contains(word), "{error}");
        let request = UpdateTopicRequest { name: "orders".into(), settings: Some(settings) };
        let status = client.update_topic(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(word), "{status}");
    }
    let memory = TopicSettings { durability: Some(Durability::Memory.into()), ..none() };
    let request = UpdateTopicRequest { name: "orders".into(), settings: Some(memory) };
    assert_eq!(client.update_topic(request).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(fixture.broker.list_topics().len(), 1, "nothing is half-created");
}

#[tokio::test]
async fn subscriptions_over_a_limit_are_refused_by_field() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let settings = TopicSettings { subscribers_max: Some(1), ..TopicSettings::default() };
    let request = CreateTopicRequest { name: "orders".into(), settings: Some(settings) };
    client.create_topic(request).await.unwrap();
    let request = |subscriber_id: usize, filter: usize| SubscribeRequest {
        topic: "orders".into(),
        subscriber_id: "s".repeat(subscriber_id),
        filter: (0..filter).map(|number| (number.to_string(), String::new())).collect(),
        ..SubscribeRequest::default()
    };
    for (field, request) in [("subscriber_id", request(256, 0)), ("filter", request(0, 17))] {
        let status = client.subscribe(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    let _only = client.subscribe(request(255, 16)).await.unwrap();
    let status = client.subscribe(request(0, 0)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().metadata["subscribers_max"], "1");
}

#[tokio::test]
async fn purging_past_the_end_is_refused() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "0").await;
    let purge = |before| PurgeTopicRequest { name: "orders".into(), before };
    for (before, code) in
        [(Some(2), Code::OutOfRange), (Some(i64::MAX), Code::OutOfRange), (Some(-1), Code::InvalidArgument)]
    {
        assert_eq!(client.purge_topic(purge(before)).await.unwrap_err().code(), code, "{before:?}");
    }
    assert_eq!(client.purge_topic(purge(None)).await.unwrap().into_inner().removed, 1);
    assert_eq!(client.purge_topic(purge(Some(0))).await.unwrap().into_inner().removed, 0);
    let missing = PurgeTopicRequest { name: "nope".into(), before: None };
    assert_eq!(client.purge_topic(missing).await.unwrap_err().code(), Code::NotFound);
}

/// Sends bytes as they are.
#[derive(Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;
    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }
    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_are_the_clients_fault_in_every_call() {
    let fixture = Fixture::start();
    let channel = fixture.channel().await;
    let garbage: [(&str, &[u8]); 5] = [
        ("text that is no UTF-8", b"\x0a\x02\xff\xfe"),
        ("a length past the end", b"\x0a\xff\xff\xff\xff\x0f"),
        ("a varint without end", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("a wire type that does not exist", b"\x0f"),
        ("a field cut in half", b"\x0a\x05ab"),
    ];
    let calls = [
        "CreateTopic",
        "DeleteTopic",
        "TopicExists",
        "GetStats",
        "Publish",
        "PublishBatch",
        "Subscribe",
        "Unsubscribe",
        "AddCredit",
        "DescribeTopic",
        "UpdateTopic",
        "PurgeTopic",
    ];
    for call in calls {
        for (what, bytes) in garbage {
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let path = format!("/ratatoskr.MessageBroker/{call}").parse().unwrap();
            let answer = grpc.unary(Request::new(Bytes::from_static(bytes)), path, RawCodec).await;
            let status = answer.expect_err(what);
            assert_eq!(status.code(), Code::InvalidArgument, "{call}, {what}: {status}");
            assert!(status.message().starts_with("request does not follow the contract: "), "{status}");
        }
    }
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = "/ratatoskr.MessageBroker/NoSuchCall".parse().unwrap();
    let status = grpc.unary(Request::new(Bytes::new()), path, RawCodec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(fixture.broker.list_topics().is_empty(), "nothing is half-created");
}

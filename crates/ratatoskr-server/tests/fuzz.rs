//! Bytes that nobody meant: every call of the contract gets requests that are almost right, and so does the configuration. The server answers
//! each, stays up, and is of use to others.
//!
//! The corpora are one sound request of each call, every key of a configuration, and what failed once. How to play more inputs, or one
//! again: [`ratatoskr_sim::fuzz`].
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::io::{Seek as _, Write as _};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use ratatoskr_broker::Health;
use ratatoskr_proto as wire;
use ratatoskr_server::config::{Given, load};
use ratatoskr_sim::{Target, fuzz};
use tokio::runtime::Handle;
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

mod support;

use support::Fixture;

/// Sends and takes messages as the bytes they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Calls whose request begins with a topic's name, or is another text.
const BY_TOPIC: [&str; 11] = [
    "DeleteTopic",
    "ListTopics",
    "TopicExists",
    "GetStats",
    "Unsubscribe",
    "AddCredit",
    "DescribeTopic",
    "PurgeTopic",
    "Ack",
    "TraceMessage",
    "DescribeBroker",
];
/// Calls whose request begins with a subscription's name.
const BY_NAME: [&str; 11] = [
    "CreateSubscription",
    "UpdateSubscription",
    "DeleteSubscription",
    "ListSubscriptions",
    "DescribeSubscription",
    "Pull",
    "SeekSubscription",
    "PeekSubscription",
    "SaveSubscription",
    "ListDeadLetters",
    "ResolveDeadLetters",
];

/// Every call, with a request it would take.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let topic = "orders".to_owned();
    let name = Some(wire::SubscriptionName { topic: topic.clone(), subscription: "billing".to_owned() });
    let publish = wire::PublishRequest {
        topic: topic.clone(),
        payload: Bytes::from_static(b"payload"),
        metadata: [("name".to_owned(), "value".to_owned())].into(),
        key: "key".to_owned(),
        dedup_id: "id".to_owned(),
        ttl_ms: 1000,
        ..wire::PublishRequest::default()
    };
    let batch = wire::PublishBatchRequest { topic: topic.clone(), messages: vec![publish.clone(); 3] };
    let start = Some(wire::StartPosition { position: Some(wire::start_position::Position::Earliest(true)) });
    let subscribe =
        wire::SubscribeRequest { topic: topic.clone(), start, ..wire::SubscribeRequest::default() };
    let open =
        wire::ConsumeOpen { name: name.clone(), member: "m".to_owned(), ..wire::ConsumeOpen::default() };
    let consume = wire::ConsumeRequest { step: Some(wire::consume_request::Step::Open(open)) };
    let token = Bytes::from_static(&[7; 24]);
    let nack = wire::settlement::Outcome::Nack(wire::Nack { delay_ms: Some(5), reason: "r".to_owned() });
    let settlement = wire::Settlement { token, outcome: Some(nack) };
    let settle = wire::SettleRequest { settlements: vec![settlement], ..wire::SettleRequest::default() };
    let settings = Some(wire::SubscriptionSettings {
        filter: Some("key == 'a'".to_owned()),
        lease_ms: Some(30_000),
        ..wire::SubscriptionSettings::default()
    });
    let create = wire::CreateSubscriptionRequest {
        name: name.clone(),
        settings,
        ..wire::CreateSubscriptionRequest::default()
    };
    let topic_settings =
        Some(wire::TopicSettings { retention_messages: Some(5), ..wire::TopicSettings::default() });
    let create_topic = wire::CreateTopicRequest { name: topic.clone(), settings: topic_settings };
    // The others begin with a topic's name, or a subscription's: any of these is one of theirs as well, or almost.
    let (by_topic, by_name) = (wire::GetStatsRequest { topic }.encode_to_vec(), create.encode_to_vec());
    let mut seeds = vec![
        ("CreateTopic", create_topic.encode_to_vec()),
        ("UpdateTopic", create_topic.encode_to_vec()),
        ("Publish", publish.encode_to_vec()),
        ("PublishBatch", batch.encode_to_vec()),
        ("PublishStream", batch.encode_to_vec()),
        ("Subscribe", subscribe.encode_to_vec()),
        ("Consume", consume.encode_to_vec()),
        ("Settle", settle.encode_to_vec()),
    ];
    seeds.extend(BY_TOPIC.map(|method| (method, by_topic.clone())));
    seeds.extend(BY_NAME.map(|method| (method, by_name.clone())));
    seeds
}

#[test]
fn every_call_of_the_contract_is_tried() {
    let contract = include_str!("../../../proto/ratatoskr.proto");
    let calls = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('('));
    let mut calls: Vec<&str> = calls.map(|(call, _)| call).collect();
    let mut tried: Vec<&str> = seeds().iter().map(|(method, _)| *method).collect();
    calls.sort_unstable();
    tried.sort_unstable();
    assert_eq!(tried, calls);
}

/// An input is the call's name on a line of its own, and the request behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_a_request_says_it_is_answered_and_the_server_stays_of_use() {
    let fixture = Fixture::start();
    let channel = fixture.channel().await;
    let corpus = seeds().iter().map(|(call, request)| [call.as_bytes(), b"\n", request].concat()).collect();
    let target = Target { name: "requests", package: env!("CARGO_MANIFEST_DIR"), corpus, inputs: 20_000 };
    let (mut answered, mut refused) = (0, 0);
    let played = fuzz(target, |input| {
        let call = call(channel.clone(), input);
        match tokio::task::block_in_place(|| Handle::current().block_on(call)) {
            Called::Answered => answered += 1,
            Called::Refused => refused += 1,
            Called::Waits => {}
        }
    });
    assert!(answered * 200 >= played && refused * 200 >= played, "{answered} answered, {refused} refused");
    assert_eq!(fixture.broker.health(), Health::Serving);
    assert_eq!(
        fixture.broker.counters().topic_restarts,
        0,
        "a topic's owner, or a subscription, has panicked"
    );
    let mut client = fixture.client().await;
    let request = wire::PublishRequest { topic: "afterwards".to_owned(), ..wire::PublishRequest::default() };
    assert!(client.publish(request).await.unwrap().into_inner().success);
}

enum Called {
    Answered,
    Refused,
    /// A stream of deliveries may have nothing to say for as long as it likes: what matters is that the call is taken.
    Waits,
}

async fn call(channel: tonic::transport::Channel, input: &[u8]) -> Called {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (method, request) = input.split_at(line);
    let Ok(path) = format!("/{}/{}", wire::SERVICE_NAME, String::from_utf8_lossy(method)).parse() else {
        return Called::Refused;
    };
    let request = Bytes::copy_from_slice(request.get(1..).unwrap_or_default());
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let call = client.streaming(Request::new(tokio_stream::once(request)), path, Raw);
    // A pull waits for as long as it says, up to a minute.
    let may_wait = method == b"Pull";
    let patience = if may_wait { Duration::from_millis(100) } else { Duration::from_secs(20) };
    let answer = match tokio::time::timeout(patience, call).await {
        Err(_) if may_wait => return Called::Waits,
        answer => answer.expect("a call was not answered"),
    };
    match answer {
        Err(status) => {
            assert_ne!(status.code(), tonic::Code::Internal, "{status}");
            Called::Refused
        }
        Ok(response) => {
            let mut responses = response.into_inner();
            let first = tokio::time::timeout(Duration::from_millis(20), responses.next()).await;
            if matches!(first, Ok(Some(Ok(_)))) { Called::Answered } else { Called::Waits }
        }
    }
}

#[test]
fn whatever_a_configuration_says_it_is_read_or_refused() {
    let whole = include_str!("fuzz/config.txt");
    let mut corpus: Vec<Vec<u8>> = whole.lines().map(|line| format!("{line}\n").into_bytes()).collect();
    corpus.push(whole.as_bytes().to_vec());
    let target = Target { name: "config", package: env!("CARGO_MANIFEST_DIR"), corpus, inputs: 1_000 };
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let (mut read, mut refused) = (0, 0);
    let played = fuzz(target, |input| {
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(input).unwrap();
        let given = Given { file: Some(file.path().to_owned()), ..Given::default() };
        if load(&given).is_ok() { read += 1 } else { refused += 1 }
    });
    assert!(read * 200 >= played && refused * 200 >= played, "{read} read, {refused} refused");
}

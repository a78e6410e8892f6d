//! Bytes that nobody meant: every call of the contract gets requests that are almost right, and so does the configuration. The server answers
//! each, stays up, and is of use to others.
//!
//! The seeds are one sound request of each call; they are changed by a small mutator, the same way each time.
//! `RATATOSKR_FUZZ_INPUTS=n` makes more of them.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use ratatoskr_broker::Health;
use ratatoskr_proto as wire;
use ratatoskr_server::config::{Given, load};
use ratatoskr_sim::Mutator;
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

mod support;

use support::Fixture;

fn inputs(default: u64) -> u64 {
    let text = std::env::var("RATATOSKR_FUZZ_INPUTS").ok();
    text.map_or(default, |text| text.parse().expect("RATATOSKR_FUZZ_INPUTS takes a number"))
}

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

#[tokio::test]
async fn whatever_a_request_says_it_is_answered_and_the_server_stays_of_use() {
    let fixture = Fixture::start();
    let channel = fixture.channel().await;
    let seeds = seeds();
    let corpus: Vec<Vec<u8>> = seeds.iter().map(|(_, request)| request.clone()).collect();
    let (mut answered, mut refused) = (0, 0);
    for (number, (method, request)) in seeds.iter().enumerate() {
        // Mostly its own request, now and then pieces of others.
        let own: Vec<Vec<u8>> = [vec![request.clone(); corpus.len()], corpus.clone()].concat();
        let mut mutator = Mutator::new(&own, number as u64);
        for _ in 0..inputs(40) {
            let input = Bytes::from(mutator.next_input());
            let mut client = tonic::client::Grpc::new(channel.clone());
            client.ready().await.unwrap();
            let path = format!("/{}/{method}", wire::SERVICE_NAME).parse().unwrap();
            let call = client.streaming(Request::new(tokio_stream::once(input)), path, Raw);
            // A stream of deliveries may have nothing to say for as long as it likes: what matters is that the call is taken.
            match tokio::time::timeout(Duration::from_secs(20), call).await.expect("a call was not answered")
            {
                Err(status) => {
                    assert_ne!(status.code(), tonic::Code::Internal, "{method}: {status}");
                    refused += 1;
                }
                Ok(response) => {
                    let mut responses = response.into_inner();
                    let first = tokio::time::timeout(Duration::from_millis(20), responses.next()).await;
                    answered += u64::from(matches!(first, Ok(Some(Ok(_)))));
                }
            }
        }
    }
    assert!(answered > 20 && refused > 20, "{answered} answered, {refused} refused");
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

#[test]
fn whatever_a_configuration_says_it_is_read_or_refused() {
    let whole = include_str!("fuzz/config.txt");
    let mut corpus: Vec<Vec<u8>> = whole.lines().map(|line| format!("{line}\n").into_bytes()).collect();
    corpus.push(whole.as_bytes().to_vec());
    let (mut mutator, mut read, mut refused) = (Mutator::new(&corpus, 5), 0, 0);
    for _ in 0..inputs(1_000) {
        let input = mutator.next_input();
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(&input).unwrap();
        let given = Given { file: Some(file.path().to_owned()), ..Given::default() };
        let tried = catch_unwind(AssertUnwindSafe(|| load(&given).is_ok()));
        let is_read = tried.unwrap_or_else(|_| panic!("{:?} made it panic", String::from_utf8_lossy(&input)));
        if is_read { read += 1 } else { refused += 1 }
    }
    let all = read + refused;
    assert!(read * 200 > all && refused * 200 > all, "{read} read, {refused} refused");
}

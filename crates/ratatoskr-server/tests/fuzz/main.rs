//! Bytes that nobody meant: every call of the contract gets requests that are almost right, and so does the configuration. The server answers
//! each, stays up, and is of use to others.
//!
//! The corpora are sound requests of each call, every key of a configuration, and what failed once. How to play more inputs, or one
//! again: [`ratatoskr_sim::fuzz`]. Of 20,000 requests, 34 % do what they ask for, and 22 % are sound but ask for what is not there, or is
//! there already; 44 % are broken. What became of them is printed with `--nocapture`.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::io::{Seek as _, Write as _};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use ratatoskr_broker::Health;
use ratatoskr_proto as wire;
use ratatoskr_server::config::{Given, load};
use ratatoskr_sim::{Shape, Target, fuzz};
use tokio::runtime::Handle;
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

mod calls;
#[path = "../support/mod.rs"]
mod support;

use calls::{Call, seeds, setting};
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

#[test]
fn every_call_of_the_contract_is_tried() {
    let contract = include_str!("../../../../proto/ratatoskr.proto");
    let calls = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('('));
    let calls: BTreeSet<&str> = calls.map(|(call, _)| call).collect();
    let tried: BTreeSet<&str> = seeds().iter().map(|(method, _)| *method).collect();
    assert_eq!(tried, calls);
}

#[tokio::test]
async fn every_request_of_the_corpus_is_sound() {
    let fixture = Fixture::start();
    let channel = fixture.channel().await;
    for seed in seeds() {
        for call in setting() {
            send(channel.clone(), &input(&call)).await;
        }
        let called = send(channel.clone(), &input(&seed)).await;
        // Some are about what is not there, or is there already.
        let may_be = [
            Called::Taken,
            Called::Waits,
            Called::Error,
            Called::Status(Code::NotFound),
            Called::Status(Code::AlreadyExists),
            Called::Status(Code::FailedPrecondition),
        ];
        assert!(may_be.contains(&called), "{}: {called:?}", seed.0);
    }
}

/// The call's name on a line of its own, and the request behind it.
fn input((call, request): &Call) -> Vec<u8> {
    [call.as_bytes(), b"\n", request].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_a_request_says_it_is_answered_and_the_server_stays_of_use() {
    let fixture = Fixture::start();
    let channel = fixture.channel().await;
    let target = Target {
        name: "requests",
        package: env!("CARGO_MANIFEST_DIR"),
        corpus: seeds().iter().map(input).collect(),
        shape: Shape::Call,
        inputs: 20_000,
    };
    let called = |input: &[u8]| {
        let call = send(channel.clone(), input);
        tokio::task::block_in_place(|| Handle::current().block_on(call))
    };
    let mut tally = HashMap::<Called, u64>::new();
    let mut is_set = false;
    let played = fuzz(target, |changed| {
        // What an input deletes is there again for the next one.
        if !is_set {
            for call in setting() {
                called(&input(&call));
            }
        }
        let called = called(changed);
        is_set = !(called == Called::Taken && changed.starts_with(b"Delete"));
        *tally.entry(called).or_default() += 1;
    });
    println!("fuzz requests: {}", shares(&tally, played));
    let broken = [Called::NoCall, Called::Status(Code::Unimplemented), Called::Status(Code::InvalidArgument)];
    let broken: u64 = broken.iter().filter_map(|called| tally.get(called)).sum();
    let taken = tally.get(&Called::Taken).copied().unwrap_or_default();
    // A few inputs, or one that is played again, may all be of one sort.
    let are_many = played >= 1000;
    assert!(!are_many || (taken * 5 >= played && broken * 5 >= played), "{taken} taken, {broken} broken");
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

/// Each outcome with its share in percent, the most frequent one first.
fn shares(tally: &HashMap<Called, u64>, played: u64) -> String {
    let mut sorted: Vec<_> = tally.iter().collect();
    sorted.sort_by_key(|(_, count)| Reverse(**count));
    let share = |(called, count): (&Called, &u64)| {
        format!("{called:?} {:.1} %", *count as f64 * 100.0 / played as f64)
    };
    sorted.into_iter().map(share).collect::<Vec<_>>().join(", ")
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Called {
    /// The call did what it was asked for.
    Taken,
    /// Nothing was wrong with the request. A stream of deliveries may have nothing to say for as long as it likes.
    Waits,
    /// Refused within the answer.
    Error,
    /// No address could be made of the call's name.
    NoCall,
    Status(Code),
}

async fn send(channel: tonic::transport::Channel, input: &[u8]) -> Called {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (method, request) = input.split_at(line);
    let Ok(path) = format!("/{}/{}", wire::SERVICE_NAME, String::from_utf8_lossy(method)).parse() else {
        return Called::NoCall;
    };
    let request = Bytes::copy_from_slice(request.get(1..).unwrap_or_default());
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let call = client.streaming(Request::new(tokio_stream::once(request)), path, Raw);
    // A pull waits for as long as it says, up to a minute.
    let may_wait = method == b"Pull";
    let patience = if may_wait { Duration::from_millis(20) } else { Duration::from_secs(20) };
    let answer = match tokio::time::timeout(patience, call).await {
        Err(_) if may_wait => return Called::Waits,
        answer => answer.expect("a call was not answered"),
    };
    let mut responses = match answer {
        Err(status) => return refused(&status),
        Ok(response) => response.into_inner(),
    };
    match tokio::time::timeout(Duration::from_millis(20), responses.next()).await {
        Err(_) | Ok(None) => Called::Waits,
        Ok(Some(Err(status))) => refused(&status),
        Ok(Some(Ok(response))) if says_no(method, response.clone()) => Called::Error,
        Ok(Some(Ok(_))) => Called::Taken,
    }
}

fn refused(status: &Status) -> Called {
    assert_ne!(status.code(), Code::Internal, "{status}");
    Called::Status(status.code())
}

/// Whether an answer is an error, for the calls that say so within.
fn says_no(method: &[u8], response: Bytes) -> bool {
    let error = match method {
        b"CreateTopic" => wire::CreateTopicResponse::decode(response).unwrap().error,
        b"DeleteTopic" => wire::DeleteTopicResponse::decode(response).unwrap().error,
        b"GetStats" => wire::GetStatsResponse::decode(response).unwrap().error,
        b"Publish" => wire::PublishResponse::decode(response).unwrap().error,
        b"Unsubscribe" => wire::UnsubscribeResponse::decode(response).unwrap().error,
        b"PublishBatch" => {
            return wire::PublishBatchResponse::decode(response).unwrap().success_count == 0;
        }
        b"PublishStream" => {
            let results = wire::PublishStreamResponse::decode(response).unwrap().results;
            return !results.iter().any(|result| result.success);
        }
        _ => String::new(),
    };
    !error.is_empty()
}

#[test]
fn whatever_a_configuration_says_it_is_read_or_refused() {
    let whole = include_str!("config.txt");
    let mut corpus: Vec<Vec<u8>> = whole.lines().map(|line| format!("{line}\n").into_bytes()).collect();
    corpus.push(whole.as_bytes().to_vec());
    let target = Target {
        name: "config",
        package: env!("CARGO_MANIFEST_DIR"),
        corpus,
        shape: Shape::Bytes,
        inputs: 1_000,
    };
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

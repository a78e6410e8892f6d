//! The pipelined publish stream.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use ratatoskr_proto::start_position::Position;
use ratatoskr_proto::{PublishStreamRequest, StartPosition, SubscribeRequest};
use support::{Fixture, PATIENCE, message, payloads, subscribe};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

fn step(sequence: u64, payloads: &[&str]) -> PublishStreamRequest {
    let messages = payloads.iter().map(|payload| message("", (*payload).to_owned())).collect();
    PublishStreamRequest { sequence, topic: "orders".into(), messages }
}

#[tokio::test]
async fn responses_come_in_request_order_and_messages_keep_theirs() {
    const STEPS: u64 = 3000;
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    // More steps than may be on their way, sent without waiting for a single answer.
    let steps: Vec<_> = (0..STEPS).map(|n| step(n, &[&format!("{n}a"), &format!("{n}b")])).collect();
    let mut answers = client.publish_stream(tokio_stream::iter(steps)).await.unwrap().into_inner();
    for n in 0..STEPS {
        let answer = timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.sequence, n);
        let offsets: Vec<i64> = answer.results.iter().map(|result| result.offset).collect();
        assert_eq!(offsets, [n as i64 * 2, n as i64 * 2 + 1]);
    }
    assert!(answers.message().await.unwrap().is_none(), "the stream ends well");

    let start = Some(StartPosition { position: Some(Position::Earliest(true)) });
    let request = SubscribeRequest { topic: "orders".into(), start, ..SubscribeRequest::default() };
    let mut stream = subscribe(&mut client, request).await;
    let expected: Vec<String> = (0..STEPS).flat_map(|n| [format!("{n}a"), format!("{n}b")]).collect();
    assert_eq!(payloads(&mut stream, expected.len()).await, expected);
}

#[tokio::test]
async fn a_stream_answers_while_the_client_still_sends() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let (sender, steps) = mpsc::channel(1);
    sender.send(step(7, &["first"])).await.unwrap();
    let mut answers = client.publish_stream(ReceiverStream::new(steps)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().sequence, 7);
    sender.send(step(8, &[])).await.unwrap();
    let empty = answers.message().await.unwrap().unwrap();
    assert_eq!((empty.sequence, empty.results.len()), (8, 0));
    sender.send(step(7, &["sequences", "are", "the client's"])).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 3);
}

#[tokio::test]
async fn a_refused_message_stops_neither_its_step_nor_the_stream() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let mut mixed = step(1, &["good", "bad", "own topic"]);
    mixed.messages[1].topic = "no good".into();
    mixed.messages[2].topic = "bills".into();
    let nowhere = PublishStreamRequest { topic: String::new(), ..step(2, &["lost"]) };
    let steps = tokio_stream::iter([mixed, nowhere, step(3, &["next"])]);
    let mut answers = client.publish_stream(steps).await.unwrap().into_inner();
    let mut errors = Vec::new();
    while let Some(answer) = timeout(PATIENCE, answers.message()).await.unwrap().unwrap() {
        errors.push(answer.results.into_iter().map(|result| result.error).collect::<Vec<_>>());
    }
    assert_eq!(errors, [vec!["", "invalid_topic_format", ""], vec!["empty_topic"], vec![""]]);
}

#[tokio::test]
async fn a_step_over_the_batch_limit_ends_the_stream_after_what_came_before_it() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let long = step(2, &vec!["x"; 10_001]);
    let steps = tokio_stream::iter([step(1, &["fine"]), long, step(3, &["never read"])]);
    let mut answers = client.publish_stream(steps).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().sequence, 1);
    let status = timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "batch has 10001 messages; at most 10000 are allowed");
}

#[tokio::test]
async fn steps_with_refused_messages_keep_their_place_among_the_others() {
    const STEPS: u64 = 300;
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let steps = (0..STEPS).map(|n| {
        let mut step = step(n, &["first", "middle", "last"]);
        if n % 3 == 0 {
            step.messages[1].key = "k".repeat(1025);
        }
        step
    });
    let steps: Vec<_> = steps.collect();
    let mut answers = client.publish_stream(tokio_stream::iter(steps)).await.unwrap().into_inner();
    let mut offsets = Vec::new();
    while let Some(answer) = timeout(PATIENCE, answers.message()).await.unwrap().unwrap() {
        offsets.extend(answer.results.iter().filter(|result| result.success).map(|result| result.offset));
    }
    let expected: Vec<i64> = (0..STEPS as i64 * 3 - STEPS as i64 / 3).collect();
    assert_eq!(offsets, expected);
}

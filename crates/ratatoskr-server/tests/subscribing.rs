//! Where a subscription starts, what it lets through, how it is held back, and how it ends.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use std::time::Duration;

use ratatoskr_proto::start_position::Position;
use ratatoskr_proto::{
    AddCreditRequest, DeleteTopicRequest, GetStatsRequest, PublishRequest, PurgeTopicRequest, StartPosition,
    SubscribeRequest,
};
use support::{Fixture, PATIENCE, create, message, next, payloads, publish, subscribe};
use tokio::time::{sleep, timeout};
use tonic::Code;

fn from(position: Position) -> SubscribeRequest {
    SubscribeRequest {
        topic: "orders".into(),
        start: Some(StartPosition { position: Some(position) }),
        ..SubscribeRequest::default()
    }
}

#[tokio::test]
async fn a_subscription_starts_where_it_is_told_to() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    for payload in ["0", "1"] {
        publish(&mut client, "orders", payload).await;
    }
    sleep(Duration::from_millis(5)).await;
    let time_ms = publish(&mut client, "orders", "2").await.timestamp;

    let mut latest = subscribe(&mut client, from(Position::Latest(true))).await;
    let mut at_the_end = subscribe(&mut client, from(Position::Offset(3))).await;
    let mut earliest = subscribe(&mut client, from(Position::Earliest(true))).await;
    let mut at_offset = subscribe(&mut client, from(Position::Offset(1))).await;
    let mut at_time = subscribe(&mut client, from(Position::TimeMs(time_ms))).await;
    let mut at_start_of_time = subscribe(&mut client, from(Position::TimeMs(0))).await;
    publish(&mut client, "orders", "3").await;

    assert_eq!(payloads(&mut latest, 1).await, ["3"]);
    assert_eq!(payloads(&mut at_the_end, 1).await, ["3"]);
    assert_eq!(payloads(&mut earliest, 4).await, ["0", "1", "2", "3"]);
    assert_eq!(payloads(&mut at_offset, 3).await, ["1", "2", "3"]);
    assert_eq!(payloads(&mut at_time, 2).await, ["2", "3"]);
    assert_eq!(payloads(&mut at_start_of_time, 4).await, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_position_outside_the_topic_is_refused_with_what_is_allowed() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    for payload in ["0", "1"] {
        publish(&mut client, "orders", payload).await;
    }
    client.purge_topic(PurgeTopicRequest { name: "orders".into(), before: Some(1) }).await.unwrap();
    for (position, code) in [
        (Position::Offset(3), Code::OutOfRange),
        (Position::Offset(i64::MAX), Code::OutOfRange),
        (Position::Offset(0), Code::OutOfRange),
        (Position::Offset(-1), Code::InvalidArgument),
        (Position::TimeMs(-1), Code::InvalidArgument),
        (Position::Latest(false), Code::InvalidArgument),
        (Position::Earliest(false), Code::InvalidArgument),
    ] {
        let status = client.subscribe(from(position)).await.unwrap_err();
        assert_eq!(status.code(), code, "{position:?}: {status}");
    }
}

#[tokio::test]
async fn a_filter_lets_only_messages_through_that_match_all_of_it() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
    let request = SubscribeRequest {
        topic: "orders".into(),
        filter: pairs(&[("kind", "new"), ("country", "no")]),
        ..SubscribeRequest::default()
    };
    let mut stream = subscribe(&mut client, request).await;
    for (payload, metadata) in [
        ("a", pairs(&[])),
        ("b", pairs(&[("kind", "new")])),
        ("c", pairs(&[("kind", "new"), ("country", "no"), ("more", "x")])),
        ("d", pairs(&[("kind", "old"), ("country", "no")])),
        ("e", pairs(&[("country", "no"), ("kind", "new")])),
    ] {
        client.publish(PublishRequest { metadata, ..message("orders", payload) }).await.unwrap();
    }
    assert_eq!(payloads(&mut stream, 2).await, ["c", "e"]);
}

#[tokio::test]
async fn credit_holds_messages_back_until_more_is_added() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    for payload in ["0", "1", "2", "3", "4"] {
        publish(&mut client, "orders", payload).await;
    }
    let request = SubscribeRequest { credit: 2, ..from(Position::Earliest(true)) };
    let response = client.subscribe(request).await.unwrap();
    let subscription_ref =
        response.metadata().get("ratatoskr-subscription-ref").unwrap().to_str().unwrap().to_owned();
    let mut stream = response.into_inner();
    assert_eq!(payloads(&mut stream, 2).await, ["0", "1"]);
    let more = timeout(Duration::from_millis(200), stream.message()).await;
    assert!(more.is_err(), "nothing comes without credit");

    let credit = AddCreditRequest { topic: "orders".into(), subscription_ref, messages: 2 };
    client.add_credit(credit.clone()).await.unwrap();
    assert_eq!(payloads(&mut stream, 2).await, ["2", "3"]);
    for (credit, code) in [
        (AddCreditRequest { messages: 0, ..credit.clone() }, Code::InvalidArgument),
        (AddCreditRequest { topic: "nope".into(), ..credit.clone() }, Code::NotFound),
        (AddCreditRequest { topic: "no good".into(), ..credit.clone() }, Code::InvalidArgument),
        (AddCreditRequest { subscription_ref: "nope".into(), ..credit.clone() }, Code::NotFound),
    ] {
        assert_eq!(client.add_credit(credit).await.unwrap_err().code(), code);
    }
    let absurd = AddCreditRequest { messages: u64::MAX, ..credit };
    client.add_credit(absurd.clone()).await.unwrap();
    client.add_credit(absurd).await.unwrap();
    assert_eq!(payloads(&mut stream, 1).await, ["4"]);
}

#[tokio::test]
async fn a_deleted_topic_ends_its_subscriptions() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let mut stream = subscribe(&mut client, from(Position::Latest(true))).await;
    client.delete_topic(DeleteTopicRequest { name: "orders".into() }).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_dropped_stream_unsubscribes() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let stream = subscribe(&mut client, from(Position::Latest(true))).await;
    drop(stream);
    let gone = async {
        let request = GetStatsRequest { topic: "orders".into() };
        while client.get_stats(request.clone()).await.unwrap().into_inner().subscriber_count > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the subscription ends with its stream");
}

#[tokio::test]
async fn many_subscribers_on_one_connection_all_get_every_message() {
    const SUBSCRIBERS: usize = 300;
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let mut streams = Vec::new();
    for _ in 0..SUBSCRIBERS {
        streams.push(subscribe(&mut client, from(Position::Latest(true))).await);
    }
    let sent: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for payload in &sent {
        publish(&mut client, "orders", payload).await;
    }
    for stream in &mut streams {
        assert_eq!(&payloads(stream, sent.len()).await, &sent);
    }
}

//! What callers may have: memory, connections, calls. Whoever wants more is told so, when to come back, and others go on.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{
    ConsumeOpen, ConsumeRequest, ConsumeSettle, PublishBatchRequest, PublishRequest, PublishStreamRequest,
    PullRequest, SettleRequest, Settlement, StartPosition, SubscribeRequest, SubscriptionName,
    TopicExistsRequest, consume_request, start_position,
};
use ratatoskr_server::{ClientLimits, ServerOptions};
use support::{Fixture, PATIENCE, create, message, publish};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

fn small_memory(options: &mut ServerOptions) {
    options.callers_memory = 4 << 20;
}

/// What it is refused with, and that it is told when to come back.
fn refused(status: &Status) -> String {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{status}");
    details.error_info().unwrap().reason.clone()
}

/// A publish stream that stays open for as long as the answer is kept.
async fn open_stream(client: &mut MessageBrokerClient<Channel>) -> impl Sized + use<> {
    let (requests, receiver) = mpsc::channel(1);
    let responses =
        client.publish_stream(ReceiverStream::<PublishStreamRequest>::new(receiver)).await.unwrap();
    (requests, responses)
}

#[tokio::test]
async fn a_client_has_so_many_open_calls_and_another_one_its_own() {
    let limits = ClientLimits { calls_max: Some(3), ..ClientLimits::default() };
    let fixture = Fixture::start_with(|options| options.client_limits = limits);
    let (mut one, mut other) = (fixture.client_from(1).await, fixture.client_from(2).await);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(open_stream(&mut one).await);
    }
    let too_many = one.topic_exists(TopicExistsRequest { name: "orders".into() }).await.unwrap_err();
    assert_eq!(refused(&too_many), "TOO_MANY_CALLS");
    assert!(too_many.message().contains("client_calls_max"), "{too_many}");
    // On another connection it is the same client.
    let mut same = fixture.client_from(1).await;
    assert_eq!(refused(&same.publish(message("orders", "x")).await.unwrap_err()), "TOO_MANY_CALLS");
    publish(&mut other, "orders", "served").await;
    drop(streams);
    let again = async {
        while one.publish(message("orders", "x")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("calls that have ended count for ever");
}

#[tokio::test]
async fn a_client_begins_so_many_calls_a_second_and_steps_of_streams_are_calls() {
    let limits = ClientLimits { calls_per_second: Some(20), ..ClientLimits::default() };
    let fixture = Fixture::start_with(|options| options.client_limits = limits);
    let (mut one, mut other) = (fixture.client_from(1).await, fixture.client_from(2).await);
    let mut taken = 0;
    let refusal = loop {
        match one.publish(message("orders", "x")).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
        assert!(taken < 10_000, "nobody is held back");
    };
    assert!(taken >= 20, "only {taken}");
    assert_eq!(refused(&refusal), "TOO_MANY_CALLS_A_SECOND");
    let steps = futures_util::stream::iter((1..=100).map(|sequence| PublishStreamRequest {
        sequence,
        topic: "orders".into(),
        messages: vec![PublishRequest { payload: "x".into(), ..PublishRequest::default() }],
    }));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut responses = one.publish_stream(steps).await.unwrap().into_inner();
    let end = loop {
        match timeout(PATIENCE, responses.next()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(status)) => break status,
            None => panic!("100 steps at once are let through"),
        }
    };
    assert_eq!(refused(&end), "TOO_MANY_CALLS_A_SECOND");
    publish(&mut other, "orders", "served").await;
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_is_told_why_not_more() {
    let limits = ClientLimits { connections_max: Some(1), ..ClientLimits::default() };
    let fixture = Fixture::start_with(|options| options.client_limits = limits);
    let mut one = fixture.client_from(1).await;
    publish(&mut one, "orders", "served").await;
    let mut more = fixture.client_from(1).await;
    let refusal = more.publish(message("orders", "x")).await.unwrap_err();
    assert_eq!(refused(&refusal), "TOO_MANY_CONNECTIONS");
    assert!(refusal.message().contains("client_connections_max"), "{refusal}");
    publish(&mut fixture.client_from(2).await, "orders", "served").await;
    publish(&mut one, "orders", "served").await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_of_all_clients_is_told_and_those_before_it_go_on() {
    let fixture = Fixture::start_with(|options| options.connections_max = 2);
    let (mut one, mut other) = (fixture.client_from(1).await, fixture.client_from(2).await);
    publish(&mut one, "orders", "served").await;
    publish(&mut other, "orders", "served").await;
    let refusal = fixture.client_from(3).await.publish(message("orders", "x")).await.unwrap_err();
    assert_eq!(refused(&refusal), "BROKER_HAS_TOO_MANY_CONNECTIONS");
    assert!(refusal.message().contains("`connections_max`"), "{refusal}");
    publish(&mut one, "orders", "served").await;
    publish(&mut other, "orders", "served").await;
}

#[tokio::test]
async fn memory_that_one_client_hoards_is_refused_to_it_and_others_go_on() {
    let fixture = Fixture::start_with(small_memory);
    let (mut one, mut other) = (fixture.client_from(1).await, fixture.client_from(2).await);
    create(&mut other, "orders").await;
    // Half of 4 MiB is 256 open calls of 8 KiB.
    let mut streams = Vec::new();
    let refusal = loop {
        match subscribe_or_refused(&mut one).await {
            Ok(stream) => streams.push(stream),
            Err(status) => break status,
        }
        assert!(streams.len() < 1000, "nobody is held back");
    };
    assert!(streams.len() > 100, "only {}", streams.len());
    assert_eq!(refused(&refusal), "CLIENT_MEMORY_EXHAUSTED");
    for _ in 0..10 {
        publish(&mut other, "orders", "served").await;
    }
    assert!(fixture.page("/metrics").await.contains("ratatoskr_calls_without_memory_total 1\n"));
    drop(streams);
    let again = async {
        while one.publish(message("orders", "x")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("what has been given back is missing for ever");
}

async fn subscribe_or_refused(
    client: &mut MessageBrokerClient<Channel>,
) -> Result<Streaming<ratatoskr_proto::Message>, Status> {
    let request = ratatoskr_proto::SubscribeRequest { topic: "orders".into(), ..Default::default() };
    client.subscribe(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn who_was_let_in_goes_on_when_more_are_refused() {
    let fixture = Fixture::start_with(small_memory);
    let (mut one, mut other) = (fixture.client_from(1).await, fixture.client_from(2).await);
    create(&mut other, "orders").await;
    let mut streams = Vec::new();
    while let Ok(stream) = subscribe_or_refused(&mut one).await {
        streams.push(stream);
    }
    for _ in 0..5 {
        publish(&mut other, "orders", "served").await;
        for stream in &mut streams {
            assert_eq!(support::payloads(stream, 1).await, ["served"]);
        }
    }
}

#[tokio::test]
async fn idle_calls_of_a_few_clients_do_not_keep_others_out() {
    let fixture = Fixture::start_with(small_memory);
    let mut modest = fixture.client_from(1).await;
    create(&mut modest, "orders").await;
    let mut own = subscribe_or_refused(&mut modest).await.unwrap();
    let mut streams = Vec::new();
    for last in 2..=4 {
        let mut hoarder = fixture.client_from(last).await;
        while let Ok(stream) = subscribe_or_refused(&mut hoarder).await {
            streams.push((hoarder.clone(), stream));
        }
    }
    // Also who comes only now is told why, and when to come back.
    let mut late = fixture.client_from(5).await;
    for client in [&mut modest, &mut late] {
        let refusal = client.publish(message("orders", "x")).await.unwrap_err();
        assert_eq!(refused(&refusal), "MEMORY_EXHAUSTED");
    }
    let served = async {
        while late.publish(message("orders", "x")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("whoever came first keeps all there is");
    assert_eq!(support::payloads(&mut own, 1).await, ["x"], "who has little loses nothing");
    drop(streams);
}

#[tokio::test]
async fn calls_that_are_answered_do_not_wait_for_the_memory_they_hold() {
    let fixture = Fixture::start_with(|options| options.callers_memory = 1 << 20);
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let name = SubscriptionName { topic: "orders".into(), subscription: "billing".into() };
    let pulls = (0..60).map(|_| {
        let (mut client, name) = (client.clone(), Some(name.clone()));
        async move {
            client.pull(PullRequest { name, messages_max: 1, wait_ms: 500, ..PullRequest::default() }).await
        }
    });
    let answers = timeout(PATIENCE, futures_util::future::join_all(pulls)).await.unwrap();
    let refusals: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(
        refusals.len() < 60 && refusals.iter().all(|status| refused(status) == "CLIENT_MEMORY_EXHAUSTED")
    );
}

#[tokio::test]
async fn what_was_encoded_for_subscribers_is_not_held_once_they_have_gone() {
    let fixture = Fixture::start_with(small_memory);
    let mut client = fixture.client().await;
    for _ in 0..20 {
        publish(&mut client, "orders", &"x".repeat(60_000)).await;
    }
    let start = Some(StartPosition { position: Some(start_position::Position::Earliest(true)) });
    let request = SubscribeRequest { topic: "orders".into(), start, ..SubscribeRequest::default() };
    let mut stream = support::subscribe(&mut client, request).await;
    support::payloads(&mut stream, 20).await;
    drop((stream, client));
    fixture.until_nothing_is_held().await;
}

#[tokio::test]
async fn what_would_become_millions_of_values_is_refused_before_it_does() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let many =
        PublishBatchRequest { topic: "orders".into(), messages: vec![PublishRequest::default(); 10_001] };
    let refusal = client.publish_batch(many).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("10001 messages"), "{refusal}");
    let metadata = (0..20_000).map(|number| (number.to_string(), String::new())).collect();
    let message = PublishRequest { topic: "orders".into(), metadata, ..PublishRequest::default() };
    let refusal = client.publish(message).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("20000 metadata entries"), "{refusal}");
    let settlements = vec![Settlement::default(); 100_001];
    let refusal = client.settle(SettleRequest { settlements, ..SettleRequest::default() }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("settlements has 100001 entries; at most 100000"), "{refusal}");
    let filter = (0..120_000).map(|number| (number.to_string(), String::new())).collect();
    let subscribe = SubscribeRequest { topic: "orders".into(), filter, ..SubscribeRequest::default() };
    let refusal = client.subscribe(subscribe).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("more values than the 110000"), "{refusal}");
    let metadata: BTreeMap<_, _> = (0..1000).map(|number| (number.to_string(), String::new())).collect();
    let message = PublishRequest { topic: "orders".into(), metadata, ..PublishRequest::default() };
    let request = SettleRequest { messages: vec![message; 1000], ..SettleRequest::default() };
    let refusal = client.settle(request).await.unwrap_err();
    assert!(refusal.message().contains("800000 in those"), "{refusal}");
    let settle =
        ConsumeSettle { settlements: vec![Settlement::default(); 100_001], ..ConsumeSettle::default() };
    let settle = ConsumeRequest { step: Some(consume_request::Step::Settle(settle)) };
    let refusal = client.consume(tokio_stream::iter([settle])).await;
    let refusal = match refusal {
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
        Err(refusal) => refusal,
    };
    assert!(refusal.message().contains("settlements has 100001 entries; at most 100000"), "{refusal}");
}

#[tokio::test]
async fn settlements_whose_fates_nobody_reads_count_for_their_client_and_are_refused_beyond_its_memory() {
    let fixture = Fixture::start_with(small_memory);
    let (mut one, mut other) = (fixture.client_from(1).await, fixture.client_from(2).await);
    create(&mut other, "orders").await;
    let step = |step| ConsumeRequest { step: Some(step) };
    let open = ConsumeOpen {
        name: Some(SubscriptionName { topic: "orders".into(), subscription: "billing".into() }),
        ..ConsumeOpen::default()
    };
    // Tokens of nobody: each is told so at length.
    let acks = vec![vec![7; 24].into(); 20_000];
    let settle = step(consume_request::Step::Settle(ConsumeSettle { acks, ..ConsumeSettle::default() }));
    let (requests, receiver) = mpsc::channel(1);
    requests.send(step(consume_request::Step::Open(open))).await.unwrap();
    let mut responses = one.consume(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let sending = async {
        // Until the stream is not read on, or has ended.
        while requests.send(settle.clone()).await.is_ok() {}
    };
    let is_refused = async {
        while !fixture.page("/metrics").await.contains("\nratatoskr_calls_without_memory_total 1\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = sending => {}
        () = timeout(PATIENCE, is_refused).map(|refused| refused.expect("settlements without end are taken")) => {}
    }
    publish(&mut other, "orders", "served").await;
    let status = loop {
        match timeout(PATIENCE, responses.message()).await.expect("the stream goes on") {
            Ok(told) => assert!(told.is_some(), "the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused(&status), "CLIENT_MEMORY_EXHAUSTED");
    drop((responses, one, other));
    fixture.until_nothing_is_held().await;
}

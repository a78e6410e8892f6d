//! `Consume` and `Pull` where it gets narrow: a client that does not read, large messages, settlements that make no sense, the
//! broker's end.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ratatoskr_broker::{SubscriptionDescription, SubscriptionRef};
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::settlement::Outcome;
use ratatoskr_proto::{
    ConsumeOpen, ConsumeRequest, ConsumeResponse, ConsumeSettle, CreateTopicRequest, Done, Extend, FateCode,
    Fates, Message, Nack, PublishBatchRequest, PublishRequest, PullRequest, Settlement, SubscribeRequest,
    SubscriptionName, SubscriptionSettings, TopicSettings, Window,
};
use support::{Fixture, PATIENCE, message, publish};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

fn name() -> SubscriptionName {
    SubscriptionName { topic: "orders".into(), subscription: "billing".into() }
}

/// One `Consume` stream.
struct Consumer {
    steps: mpsc::Sender<ConsumeRequest>,
    responses: Streaming<ConsumeResponse>,
}

impl Consumer {
    async fn open(client: &mut MessageBrokerClient<Channel>, settings: SubscriptionSettings) -> Consumer {
        let (steps, asked) = mpsc::channel(1000);
        let window = Some(Window { messages: 100, bytes: 0 });
        let open =
            ConsumeOpen { name: Some(name()), settings: Some(settings), window, ..ConsumeOpen::default() };
        steps.send(ConsumeRequest { step: Some(Ask::Open(open)) }).await.unwrap();
        let responses = client.consume(ReceiverStream::new(asked)).await.unwrap().into_inner();
        let mut consumer = Consumer { steps, responses };
        assert!(matches!(consumer.next().await.unwrap(), Tell::Opened(_)));
        consumer
    }

    async fn next(&mut self) -> Result<Tell, Status> {
        let response = timeout(PATIENCE, self.responses.message()).await.expect("nothing came")?;
        Ok(response.expect("the stream ended").step.unwrap())
    }

    async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            if let Tell::Deliveries(deliveries) = self.next().await.unwrap() {
                messages.extend(deliveries.messages);
            }
        }
        messages
    }

    async fn settle(&self, settlements: Vec<Settlement>) {
        let settle = ConsumeSettle { settlements, ..ConsumeSettle::default() };
        self.steps.send(ConsumeRequest { step: Some(Ask::Settle(settle)) }).await.unwrap();
    }

    async fn fates(&mut self) -> Fates {
        loop {
            if let Tell::Fates(fates) = self.next().await.unwrap() {
                return fates;
            }
        }
    }
}

fn settlement(message: &Message, outcome: Outcome) -> Settlement {
    Settlement { token: message.token.clone(), outcome: Some(outcome) }
}

fn nack(message: &Message, delay_ms: i64, reason: String) -> Settlement {
    settlement(message, Outcome::Nack(Nack { delay_ms: Some(delay_ms), reason }))
}

async fn publish_large(client: &mut MessageBrokerClient<Channel>, count: usize, bytes: usize) {
    for _ in 0..count {
        let messages = vec![message("orders", vec![7; bytes])];
        client.publish_batch(PublishBatchRequest { messages, ..Default::default() }).await.unwrap();
    }
}

/// To a client with little room for what comes: a response stream waits for it.
async fn narrow_channel(fixture: &Fixture) -> Channel {
    let address = fixture.running.as_ref().unwrap().grpc_addr();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(16 << 10).initial_connection_window_size(1 << 20);
    endpoint.connect().await.unwrap()
}

async fn until(fixture: &Fixture, what: impl Fn(&SubscriptionDescription) -> bool) {
    let name = SubscriptionRef {
        topic: ratatoskr_broker::TopicName::parse("orders").unwrap(),
        name: ratatoskr_broker::SubscriptionName::parse("billing").unwrap(),
    };
    let started = Instant::now();
    loop {
        let description = fixture.broker.describe_subscription(&name).await.unwrap();
        if what(&description) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{description:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn acks_are_heard_while_the_client_reads_nothing() {
    let fixture = Fixture::start();
    let mut narrow = MessageBrokerClient::new(narrow_channel(&fixture).await);
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "small").await;
    let mut consumer = Consumer::open(&mut narrow, SubscriptionSettings::default()).await;
    let small = consumer.take(1).await;
    publish_large(&mut client, 20, 64 << 10).await;
    until(&fixture, |description| description.leased == 21).await;
    let extend = Outcome::Extend(Extend { lease_ms: 60_000 });
    consumer.settle(vec![settlement(&small[0], extend)]).await;
    consumer.settle(vec![settlement(&small[0], Outcome::Ack(Done {}))]).await;
    until(&fixture, |description| description.acked == 1).await;
    // What waited is there once it is read.
    assert_eq!(consumer.take(20).await.len(), 20);
}

#[tokio::test]
async fn a_batch_fits_an_ordinary_client_also_when_it_comes_again() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish_large(&mut client, 30, 200 << 10).await;
    let mut strict = fixture.client().await.max_decoding_message_size(1 << 20);
    let mut consumer = Consumer::open(&mut strict, SubscriptionSettings::default()).await;
    let first = consumer.take(30).await;
    consumer.settle(first.iter().map(|message| nack(message, 0, String::new())).collect()).await;
    let again = consumer.take(30).await;
    assert!(again.iter().all(|message| message.attempt == 2));
}

#[tokio::test]
async fn a_pull_fits_an_ordinary_client_and_leaves_the_rest_unharmed() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish_large(&mut client, 8, 1 << 20).await;
    let mut seen = 0;
    while seen < 8 {
        let request =
            PullRequest { name: Some(name()), messages_max: 8, wait_ms: 10_000, ..Default::default() };
        let messages = client.pull(request).await.unwrap().into_inner().messages;
        assert!((1..=3).contains(&messages.len()), "{} messages", messages.len());
        assert!(messages.iter().all(|message| message.attempt == 1));
        seen += messages.len();
    }
}

#[tokio::test]
async fn a_settlement_that_makes_no_sense_is_told_so_and_the_stream_goes_on() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "one").await;
    let mut consumer = Consumer::open(&mut client, SubscriptionSettings::default()).await;
    let messages = consumer.take(1).await;
    let extend = Outcome::Extend(Extend { lease_ms: 43_200_001 });
    let bad = [
        (
            nack(&messages[0], 43_200_001, String::new()),
            "delay_ms is 43200001 ms; allowed are 0 to 43200000 ms",
        ),
        (settlement(&messages[0], extend), "lease_ms is 43200001 ms; allowed are 100 to 43200000 ms"),
        (nack(&messages[0], -1, String::new()), "nack.delay_ms is -1; allowed are 0 and above"),
        (Settlement { token: messages[0].token.clone(), outcome: None }, "outcome is missing"),
    ];
    for (settlement, reason) in bad {
        consumer.settle(vec![settlement]).await;
        let fates = consumer.fates().await;
        assert_eq!((fates.settled, fates.refused[0].code()), (0, FateCode::Invalid));
        assert!(fates.refused[0].reason.starts_with(reason), "{}", fates.refused[0].reason);
    }
    // The lease has gone on, and a reason of any length is taken.
    consumer.settle(vec![nack(&messages[0], 0, "ü".repeat(5_000))]).await;
    assert_eq!(consumer.fates().await.settled, 1);
    assert_eq!(consumer.take(1).await[0].attempt, 2);
}

#[tokio::test]
async fn the_brokers_own_end_uses_up_no_attempt() {
    let mut fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "one").await;
    let once = SubscriptionSettings { attempts_max: Some(1), ..SubscriptionSettings::default() };
    let mut consumer = Consumer::open(&mut client, once).await;
    consumer.take(1).await;
    let running = fixture.running.take();
    let stopping = tokio::task::spawn_blocking(move || drop(running));
    let end = loop {
        match consumer.next().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    stopping.await.unwrap();
    until(&fixture, |description| description.member_count == 0).await;
    until(&fixture, |description| {
        (description.leased, description.dead, description.lag_messages) == (0, 0, 1)
    })
    .await;
}

#[tokio::test]
async fn a_pull_is_bounded_by_all_that_its_messages_hold_but_the_largest_goes_alone() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let wide = TopicSettings { message_bytes_max: Some(16 << 20), ..TopicSettings::default() };
    let create = CreateTopicRequest { name: "orders".into(), settings: Some(wide) };
    client.create_topic(create).await.unwrap();
    // Little payload, much metadata; then one that is larger than what a pull may weigh.
    let metadata: BTreeMap<_, _> = (0..50).map(|number| (number.to_string(), "v".repeat(8000))).collect();
    for _ in 0..12 {
        let small = PublishRequest { metadata: metadata.clone(), ..message("orders", "small") };
        assert!(client.publish(small).await.unwrap().into_inner().success);
    }
    publish_large(&mut client, 1, 6 << 20).await;
    let pull =
        || PullRequest { name: Some(name()), messages_max: 100, wait_ms: 10_000, ..Default::default() };
    let mut seen = 0;
    while seen < 12 {
        let messages = client.pull(pull()).await.unwrap().into_inner().messages;
        assert!((1..=7).contains(&messages.len()), "{} messages", messages.len());
        assert!(messages.iter().all(|message| message.attempt == 1));
        seen += messages.len();
    }
    let mut patient = fixture.client().await.max_decoding_message_size(32 << 20);
    let messages = patient.pull(pull()).await.unwrap().into_inner().messages;
    assert_eq!(messages.iter().map(|message| message.payload.len()).collect::<Vec<_>>(), [6 << 20]);
}

#[tokio::test]
async fn what_was_settled_when_the_server_stops_is_told_before_the_stream_ends() {
    let mut fixture = Fixture::start();
    let mut client = fixture.client().await;
    let messages = (0..100).map(|number: u32| message("orders", number.to_string())).collect();
    client.publish_batch(PublishBatchRequest { messages, ..Default::default() }).await.unwrap();
    let mut consumer = Consumer::open(&mut client, SubscriptionSettings::default()).await;
    for message in consumer.take(100).await {
        consumer.settle(vec![settlement(&message, Outcome::Ack(Done {}))]).await;
    }
    let running = fixture.running.take();
    let stopping = tokio::task::spawn_blocking(move || drop(running));
    let mut told = 0;
    let end = loop {
        match consumer.next().await {
            Ok(Tell::Fates(fates)) => told += u64::from(fates.settled),
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    stopping.await.unwrap();
    until(&fixture, |description| (description.acked, description.member_count) == (told, 0)).await;
}

#[tokio::test]
async fn a_step_that_cannot_be_ends_the_stream_and_uses_up_no_attempt() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "one").await;
    let window = Window { messages: 100_001, bytes: 0 };
    for bad in [Ask::Window(window), Ask::Open(ConsumeOpen::default())] {
        let mut consumer = Consumer::open(&mut client, SubscriptionSettings::default()).await;
        assert_eq!(consumer.take(1).await[0].attempt, 1);
        consumer.steps.send(ConsumeRequest { step: Some(bad) }).await.unwrap();
        assert_eq!(consumer.next().await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn what_a_plain_stream_holds_that_is_cancelled_has_used_up_no_attempt() {
    let fixture = Fixture::start();
    let mut narrow = MessageBrokerClient::new(narrow_channel(&fixture).await);
    let mut client = fixture.client().await;
    publish_large(&mut client, 40, 16 << 10).await;
    let request = SubscribeRequest {
        topic: "orders".into(),
        subscription: "billing".into(),
        credit: 100,
        ..Default::default()
    };
    let mut stream = narrow.subscribe(request).await.unwrap().into_inner();
    assert_eq!(support::next(&mut stream).await.unwrap().unwrap().attempt, 1);
    drop(stream);
    until(&fixture, |description| (description.member_count, description.leased) == (0, 0)).await;
    let pull =
        PullRequest { name: Some(name()), messages_max: 40, wait_ms: 10_000, ..PullRequest::default() };
    let messages = client.pull(pull).await.unwrap().into_inner().messages;
    assert_eq!(messages.len(), 40);
    assert!(messages.iter().all(|message| message.attempt == 1));
}

#[tokio::test]
async fn a_member_whose_settlements_are_refused_is_at_work_and_not_silent() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "first").await;
    publish(&mut client, "orders", "second").await;
    let settings = SubscriptionSettings { lease_ms: Some(1_000), ..SubscriptionSettings::default() };
    let mut consumer = Consumer::open(&mut client, settings).await;
    let messages = consumer.take(2).await;
    let nonsense = Settlement { token: messages[0].token.clone(), outcome: None };
    consumer.settle(vec![nonsense]).await;
    assert_eq!(consumer.fates().await.refused[0].code(), FateCode::Invalid);
    let again = consumer.take(2).await;
    assert_eq!(again.iter().map(|message| message.attempt).collect::<Vec<_>>(), [2, 2]);
    // A silent member would be tried with one at a time.
    until(&fixture, |description| description.leased == 2).await;
}

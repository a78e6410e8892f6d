//! As many settlements at once as a member can hold, and one more.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use std::collections::BTreeSet;

use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::settlement::Outcome;
use ratatoskr_proto::{
    ConsumeOpen, ConsumeRequest, ConsumeResponse, ConsumeSettle, CreateSubscriptionRequest,
    DescribeSubscriptionRequest, Done, FateCode, PublishBatchRequest, PublishRequest, SettleRequest,
    Settlement, SubscriptionName, SubscriptionSettings, Window,
};
use support::{Fixture, PATIENCE};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

const WINDOW: usize = 100_000;
const BATCH: usize = 10_000;

fn name() -> SubscriptionName {
    SubscriptionName { topic: "orders".into(), subscription: "billing".into() }
}

/// A subscription with as many messages as one window can have.
async fn prepare(client: &mut MessageBrokerClient<Channel>) {
    for _ in 0..WINDOW / BATCH {
        let messages = vec![PublishRequest { payload: "x".into(), ..PublishRequest::default() }; BATCH];
        let request = PublishBatchRequest { topic: "orders".into(), messages };
        client.publish_batch(request).await.unwrap();
    }
    let settings = SubscriptionSettings {
        outstanding_max: Some(WINDOW as u32),
        member_outstanding_max: Some(WINDOW as u32),
        ..SubscriptionSettings::default()
    };
    let request =
        CreateSubscriptionRequest { name: Some(name()), settings: Some(settings), ..Default::default() };
    client.create_subscription(request).await.unwrap();
}

async fn acked(client: &mut MessageBrokerClient<Channel>) -> i64 {
    let request = DescribeSubscriptionRequest { name: Some(name()) };
    client.describe_subscription(request).await.unwrap().into_inner().subscription.unwrap().acked
}

struct Consumer {
    steps: mpsc::UnboundedSender<ConsumeRequest>,
    responses: Streaming<ConsumeResponse>,
}

impl Consumer {
    async fn open(client: &mut MessageBrokerClient<Channel>) -> Consumer {
        let (steps, asked) = mpsc::unbounded_channel();
        let window = Some(Window { messages: WINDOW as u32, bytes: 0 });
        let open = ConsumeOpen { name: Some(name()), window, ..ConsumeOpen::default() };
        steps.send(ConsumeRequest { step: Some(Ask::Open(open)) }).unwrap();
        let responses = client.consume(UnboundedReceiverStream::new(asked)).await.unwrap().into_inner();
        Consumer { steps, responses }
    }

    async fn next(&mut self) -> Result<Tell, Status> {
        let response = timeout(PATIENCE, self.responses.message()).await.expect("nothing came")?;
        Ok(response.expect("the stream ended").step.unwrap())
    }

    async fn tokens(&mut self) -> Vec<bytes::Bytes> {
        let mut tokens = Vec::new();
        while tokens.len() < WINDOW {
            if let Tell::Deliveries(deliveries) = self.next().await.unwrap() {
                tokens.extend(deliveries.messages.into_iter().map(|message| message.token));
            }
        }
        tokens
    }

    fn ack(&self, acks: Vec<bytes::Bytes>) {
        let settle = ConsumeSettle { sequence: 7, acks, settlements: Vec::new() };
        self.steps.send(ConsumeRequest { step: Some(Ask::Settle(settle)) }).unwrap();
    }
}

fn acks(tokens: &[bytes::Bytes]) -> Vec<Settlement> {
    let ack =
        |token: &bytes::Bytes| Settlement { token: token.clone(), outcome: Some(Outcome::Ack(Done {})) };
    tokens.iter().map(ack).collect()
}

#[tokio::test]
async fn all_that_a_window_can_have_is_acked_in_one_step_and_one_more_is_refused_by_name() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    prepare(&mut client).await;
    let mut consumer = Consumer::open(&mut client).await;
    let tokens = consumer.tokens().await;

    let one_more: Vec<_> = tokens.iter().chain(&tokens[..1]).cloned().collect();
    let settle = SettleRequest { settlements: acks(&tokens[..=BATCH]), messages: Vec::new() };
    let refused = client.settle(settle).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("settlements has 10001 entries; at most 10000"), "{refused}");
    assert_eq!(acked(&mut client).await, 0, "a refused request settles nothing");

    consumer.ack(tokens.clone());
    let fates = loop {
        if let Tell::Fates(fates) = consumer.next().await.unwrap() {
            break fates;
        }
    };
    assert_eq!((fates.sequence, fates.settled, fates.refused.len()), (7, WINDOW as u32, 0));
    assert_eq!(acked(&mut client).await, WINDOW as i64);

    consumer.ack(one_more);
    let end = loop {
        match consumer.next().await {
            Ok(step) => assert!(matches!(step, Tell::Heartbeat(_)), "{step:?}"),
            Err(end) => break end,
        }
    };
    assert_eq!(end.code(), Code::InvalidArgument, "{end}");
    assert!(end.message().contains("acks has 100001 entries; at most 100000"), "{end}");
}

#[tokio::test]
async fn settle_takes_as_many_as_a_pull_returns_and_all_fates_of_a_step_fit_stock_clients() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    prepare(&mut client).await;
    let mut consumer = Consumer::open(&mut client).await;
    let tokens = consumer.tokens().await;
    for some in tokens.chunks(BATCH) {
        let settle = SettleRequest { settlements: acks(some), messages: Vec::new() };
        assert_eq!(client.settle(settle).await.unwrap().into_inner().refused, []);
    }
    assert_eq!(acked(&mut client).await, WINDOW as i64);
    // All of them are stale now; this client takes 4 MiB, as clients do unless they are told otherwise.
    consumer.ack(tokens);
    let refused = loop {
        if let Tell::Fates(fates) = consumer.next().await.unwrap() {
            break fates.refused;
        }
    };
    let told: BTreeSet<_> = refused.iter().map(|fate| fate.token.clone()).collect();
    assert_eq!(told.len(), WINDOW);
    assert!(refused.iter().all(|fate| fate.code() == FateCode::Stale));
    assert!(!refused[0].reason.is_empty());
}

//! Members of durable subscriptions whose calls are given up, and subscriptions that calls create: nobody is left behind, and nothing
//! happens unsaid.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use std::time::Duration;

use ratatoskr_proto::SUBSCRIPTION_CREATED_METADATA;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{
    ConsumeOpen, ConsumeRequest, CreateSubscriptionRequest, DescribeSubscriptionRequest, PullRequest,
    SubscribeRequest, SubscriptionDescription, SubscriptionName, SubscriptionSettings,
};
use support::{Fixture, PATIENCE, create, publish};
use tokio::time::timeout;
use tonic::transport::Channel;

type Client = MessageBrokerClient<Channel>;

fn name() -> SubscriptionName {
    SubscriptionName { topic: "orders".into(), subscription: "billing".into() }
}

fn pull_request(wait_ms: i64) -> PullRequest {
    PullRequest { name: Some(name()), messages_max: 1, wait_ms, member: String::new() }
}

async fn describe(client: &mut Client) -> SubscriptionDescription {
    let request = DescribeSubscriptionRequest { name: Some(name()) };
    client.describe_subscription(request).await.unwrap().into_inner().subscription.unwrap()
}

/// The calls that make a member, each as it is made by a client that then gives up.
#[derive(Clone, Copy, Debug)]
enum Call {
    Pull,
    Subscribe,
    Consume,
}

impl Call {
    async fn make(self, mut client: Client) {
        match self {
            Call::Pull => drop(client.pull(pull_request(60_000)).await),
            Call::Subscribe => {
                let SubscriptionName { topic, subscription } = name();
                let request = SubscribeRequest { topic, subscription, ..SubscribeRequest::default() };
                let stream = client.subscribe(request).await;
                std::future::pending::<()>().await;
                drop(stream);
            }
            Call::Consume => {
                let open = ConsumeOpen { name: Some(name()), ..ConsumeOpen::default() };
                let step = ConsumeRequest { step: Some(Ask::Open(open)) };
                let stream = client.consume(tokio_stream::iter([step])).await;
                std::future::pending::<()>().await;
                drop(stream);
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_joins_leaves_no_member_behind() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    client
        .create_subscription(CreateSubscriptionRequest { name: Some(name()), ..Default::default() })
        .await
        .unwrap();
    for call in [Call::Pull, Call::Subscribe, Call::Consume] {
        // Cancelled at any point between the request's arrival and the first answer: whichever the scheduler makes of it.
        for step in 0..300 {
            let made = tokio::spawn(call.make(client.clone()));
            tokio::time::sleep(Duration::from_micros(step * 7)).await;
            made.abort();
        }
        let all_gone = async {
            while describe(&mut client).await.member_count > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, all_gone).await.unwrap_or_else(|_| panic!("{call:?} left a member behind"));
    }
    publish(&mut client, "orders", "one").await;
    let pulled = client.pull(pull_request(10_000)).await.unwrap().into_inner();
    assert_eq!(pulled.messages[0].attempt, 1, "somebody was given the message before");
}

/// The lines of an audit log about subscriptions that nobody asked for by name: outcome, who, by, call and subscription.
fn lines_about_subscriptions(path: &std::path::Path) -> Vec<[String; 5]> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines = lines.filter(|line| line["subscription"].is_string());
    let fields = ["outcome", "who", "by", "call", "subscription"];
    lines.map(|line| fields.map(|field| line[field].as_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn a_call_that_creates_a_subscription_says_so_and_so_does_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let fixture = Fixture::start_with(|options| options.audit_log = Some(path.clone()));
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let named = |subscription: &str| {
        let (topic, subscription) = ("orders".to_owned(), subscription.to_owned());
        SubscriptionName { topic, subscription }
    };

    let pull = PullRequest { name: Some(named("pulled")), ..PullRequest::default() };
    assert!(client.pull(pull.clone()).await.unwrap().into_inner().created);
    assert!(!client.pull(pull).await.unwrap().into_inner().created);

    for is_new in [true, false] {
        let open = ConsumeOpen { name: Some(named("consumed")), ..ConsumeOpen::default() };
        let step = ConsumeRequest { step: Some(Ask::Open(open)) };
        let mut steps = client.consume(tokio_stream::iter([step])).await.unwrap().into_inner();
        let opened = timeout(PATIENCE, steps.message()).await.unwrap().unwrap().unwrap().step;
        let Some(Tell::Opened(opened)) = opened else { panic!("{opened:?}") };
        assert_eq!(opened.created, is_new);
    }

    for is_new in [true, false] {
        let SubscriptionName { topic, subscription } = named("subscribed");
        let request = SubscribeRequest { topic, subscription, ..SubscribeRequest::default() };
        let stream = client.subscribe(request).await.unwrap();
        let said = stream.metadata().get(SUBSCRIPTION_CREATED_METADATA);
        assert_eq!(said.is_some_and(|value| value == "true"), is_new, "{said:?}");
    }

    let settings = Some(SubscriptionSettings { expiry_ms: Some(1000), ..SubscriptionSettings::default() });
    let request = CreateSubscriptionRequest { name: Some(named("unused")), settings, ..Default::default() };
    client.create_subscription(request).await.unwrap();
    let expected = [
        ["created", "anonymous", "nobody", "Pull", "pulled"],
        ["created", "anonymous", "nobody", "Consume", "consumed"],
        ["created", "anonymous", "nobody", "Subscribe", "subscribed"],
        ["expired", "", "broker", "", "unused"],
    ];
    let all_written = async {
        while lines_about_subscriptions(&path).len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all_written).await.expect("they are written down");
    assert_eq!(lines_about_subscriptions(&path), expected);
}

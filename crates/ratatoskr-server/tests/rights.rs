//! Rights are decided by the resource that is acted on, at the moment it is acted on.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use ratatoskr_broker::TopicName;
use ratatoskr_http2::raw::flag;
use ratatoskr_proto as wire;
use support::hand::{Hand, data, head, value};
use support::policy::{Client, PolicyFile, until};
use support::{grpc_message, message};
use tonic::{Code, Status};

const ROLES: &str = r#"
[roles.reader]
allow = [{ actions = ["subscribe"], topics = ["orders"] }]
[roles.root]
allow = [{ actions = ["publish", "subscribe", "manage"], topics = ["*"] }]
[roles.orders]
allow = [{ actions = ["publish", "subscribe", "manage"], topics = ["orders"] }]
[roles.other]
allow = [{ actions = ["subscribe"], topics = ["other"] }]
"#;

fn on_orders(subscription: &str) -> wire::SubscriptionName {
    wire::SubscriptionName { topic: "orders".into(), subscription: subscription.into() }
}

fn billing() -> wire::SubscriptionName {
    on_orders("billing")
}

async fn pull(client: &mut Client, wait_ms: i64) -> Result<Vec<wire::Message>, Status> {
    pull_from(client, "billing", wait_ms).await
}

async fn pull_from(
    client: &mut Client,
    subscription: &str,
    wait_ms: i64,
) -> Result<Vec<wire::Message>, Status> {
    let name = Some(on_orders(subscription));
    let request = wire::PullRequest { name, messages_max: 1, wait_ms, ..Default::default() };
    client.pull(request).await.map(|pulled| pulled.into_inner().messages)
}

/// An id that points at no topic.
fn uuid_of_nothing() -> String {
    "00000000-0000-7000-8000-000000000000".to_owned()
}

#[tokio::test]
async fn an_ack_by_message_id_is_decided_by_the_topic_of_the_id_whether_or_not_the_message_is_leased() {
    let policy =
        PolicyFile::new(&[("alice", "roles = [\"orders\"]"), ("mallory", "roles = [\"other\"]")], ROLES);
    let fixture = policy.serve();
    let mut alice = policy.client(&fixture, "alice").await;
    let mut mallory = policy.client(&fixture, "mallory").await;
    let published = alice.publish(message("orders", "one")).await.unwrap().into_inner();
    let ack = wire::AckRequest { message_id: published.message_id, success: true, ..Default::default() };
    // Nobody has it: what would be looked up between this and a lease is not what was decided on.
    let free = mallory.ack(ack.clone()).await;
    let held = pull(&mut alice, 20_000).await.unwrap().remove(0);
    let leased = mallory.ack(ack.clone()).await;
    // As for an id of no topic.
    let missing = wire::AckRequest { message_id: uuid_of_nothing(), ..ack.clone() };
    for answer in [mallory.ack(missing).await, free, leased] {
        assert_eq!(answer.unwrap().into_inner(), wire::AckResponse { acknowledged: false });
    }
    until("the attempts are written down", async || {
        policy.audit().iter().filter(|line| line["call"] == "Ack" && line["topic"] == "orders").count() == 2
    })
    .await;
    assert!(alice.ack(ack).await.unwrap().into_inner().acknowledged, "{held:?}");
}

#[tokio::test]
async fn a_trace_is_decided_by_the_topic_of_the_id_before_anybody_looks_for_the_message() {
    let policy =
        PolicyFile::new(&[("alice", "roles = [\"orders\"]"), ("mallory", "roles = [\"other\"]")], ROLES);
    let fixture = policy.serve();
    let mut alice = policy.client(&fixture, "alice").await;
    let mut mallory = policy.client(&fixture, "mallory").await;
    let message_id = alice.publish(message("orders", "one")).await.unwrap().into_inner().message_id;
    // The same place at another time: no message has this id.
    let missing = format!("1{}", &message_id[1..]);
    for message_id in [&message_id, &missing] {
        let request = wire::TraceMessageRequest { message_id: message_id.clone() };
        let status = mallory.trace_message(request).await.unwrap_err();
        // As for an id of no topic.
        let nothing = wire::TraceMessageRequest { message_id: uuid_of_nothing() };
        let of_nothing = mallory.trace_message(nothing).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert_eq!(
            status.message().replace(message_id, ""),
            of_nothing.message().replace(&uuid_of_nothing(), "")
        );
    }
    let request = wire::TraceMessageRequest { message_id: missing };
    assert_eq!(alice.trace_message(request).await.unwrap_err().code(), Code::NotFound);
    let request = wire::TraceMessageRequest { message_id };
    assert_eq!(alice.trace_message(request).await.unwrap().into_inner().topic, "orders");
}

#[tokio::test]
async fn a_token_of_a_subscription_that_is_not_there_settles_nothing_whoever_shows_it() {
    let policy = PolicyFile::new(&[("alice", "roles = [\"orders\"]")], ROLES);
    let fixture = policy.serve();
    let mut alice = policy.client(&fixture, "alice").await;
    let token = bytes::Bytes::from_static(&[0x77; 24]);
    let ack = wire::AckRequest { token: token.clone(), success: true, ..Default::default() };
    assert!(!alice.ack(ack).await.unwrap().into_inner().acknowledged);
    let outcome = Some(wire::settlement::Outcome::Ack(wire::Done {}));
    let settlements = vec![wire::Settlement { token: token.clone(), outcome }];
    let settle = wire::SettleRequest { settlements: settlements.clone(), messages: Vec::new() };
    let refused = alice.settle(settle).await.unwrap().into_inner().refused;
    assert_eq!((refused.len(), refused[0].code()), (1, wire::FateCode::Unknown));
    // With messages it is one step, and none of it happens.
    let step = wire::SettleRequest { settlements, messages: vec![message("orders", "one")] };
    let status = alice.settle(step).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(fixture.broker.list_topics().is_empty());
}

#[tokio::test]
async fn a_pull_that_waits_ends_when_its_caller_may_no_more() {
    let identities = [("alice", "roles = [\"orders\"]"), ("bob", "roles = [\"orders\"]")];
    let policy = PolicyFile::new(&identities, ROLES);
    let fixture = policy.serve();
    let mut alice = policy.client(&fixture, "alice").await;
    let mut bob = policy.client(&fixture, "bob").await;
    alice.create_topic(wire::CreateTopicRequest { name: "orders".into(), settings: None }).await.unwrap();
    let waiting = tokio::spawn(async move { pull(&mut bob, 20_000).await });
    until("bob's pull waits", async || {
        let request = wire::DescribeSubscriptionRequest { name: Some(billing()) };
        let described = alice.describe_subscription(request).await;
        described.is_ok_and(|described| described.into_inner().subscription.unwrap().member_count == 1)
    })
    .await;
    policy.write(&identities[..1], ROLES);
    let status = waiting.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    // What he would have been handed is there for others.
    alice.publish(message("orders", "one")).await.unwrap();
    assert_eq!(pull(&mut alice, 20_000).await.unwrap()[0].payload, "one");
}

/// The same subscription by each call that makes a missing one.
async fn join_each_way(client: &mut Client, subscription: &str) -> [Result<(), Status>; 3] {
    let pulled = pull_from(client, subscription, 1).await.map(drop);
    let request = wire::SubscribeRequest {
        topic: "orders".into(),
        subscription: subscription.into(),
        ..Default::default()
    };
    let subscribed = client.subscribe(request).await.map(drop);
    let open = wire::ConsumeOpen { name: Some(on_orders(subscription)), ..Default::default() };
    let step = wire::ConsumeRequest { step: Some(wire::consume_request::Step::Open(open)) };
    let consumed = client.consume(tokio_stream::iter([step])).await.map(drop);
    [pulled, subscribed, consumed]
}

#[tokio::test]
async fn nobody_names_a_subscription_so_that_its_dead_letters_go_to_a_topic_of_others() {
    let identities = [("reader", "roles = [\"reader\"]"), ("root", "roles = [\"root\"]")];
    let policy = PolicyFile::new(&identities, ROLES);
    let fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    let mut reader = policy.client(&fixture, "reader").await;
    // One is a topic of its own, one is where another subscription's dead letters go, and one where they go by another spelling.
    for topic in ["orders", "payments", "orders.archive.dlq"] {
        root.create_topic(wire::CreateTopicRequest { name: topic.into(), settings: None }).await.unwrap();
    }
    let dead_letter_topic = Some("orders.shared.dlq".to_owned());
    let settings = wire::SubscriptionSettings { dead_letter_topic, ..Default::default() };
    let name = Some(wire::SubscriptionName { topic: "payments".into(), subscription: "bank".into() });
    let request = wire::CreateSubscriptionRequest { name, settings: Some(settings), ..Default::default() };
    root.create_subscription(request).await.unwrap();
    join_each_way(&mut reader, "eu_pay").await.into_iter().for_each(Result::unwrap);
    for taken in ["archive", "shared", "eu.pay"] {
        for refused in join_each_way(&mut reader, taken).await {
            let status = refused.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{taken}: {status}");
            assert!(status.message().contains("may not publish to topic \"orders."), "{status}");
        }
    }
    // Who may publish there may.
    join_each_way(&mut root, "archive").await.into_iter().for_each(Result::unwrap);
    // And who works through what is there already asks for nothing more.
    join_each_way(&mut reader, "archive").await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_default_dead_letter_topic_in_the_namespace_of_another_tenant_needs_leave() {
    let identities = [("reader", "roles = [\"reader\"]"), ("root", "roles = [\"root\"]")];
    let policy = PolicyFile::new(&identities, &format!("{ROLES}[namespaces.shop]\nprefix = \"orders.\"\n"));
    let fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    let mut reader = policy.client(&fixture, "reader").await;
    root.create_topic(wire::CreateTopicRequest { name: "orders".into(), settings: None }).await.unwrap();
    // Its dead letters would go to `orders.billing.dlq`, which is the tenant's, as `orders` is not.
    for refused in join_each_way(&mut reader, "billing").await {
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    join_each_way(&mut root, "billing").await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn a_default_dead_letter_topic_needs_no_leave_of_the_subscription_it_was_made_for() {
    let identities = [("reader", "roles = [\"reader\"]"), ("root", "roles = [\"root\"]")];
    let policy = PolicyFile::new(&identities, ROLES);
    let fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    let mut reader = policy.client(&fixture, "reader").await;
    root.publish(message("orders", "one")).await.unwrap();
    let handed = pull(&mut reader, 20_000).await.unwrap().remove(0);
    let reject = wire::settlement::Outcome::Reject(wire::Reject { reason: "no".into() });
    let settlement = wire::Settlement { token: handed.token, outcome: Some(reject) };
    let settle = wire::SettleRequest { settlements: vec![settlement], messages: Vec::new() };
    assert_eq!(reader.settle(settle).await.unwrap().into_inner().refused, []);
    let dead = TopicName::parse("orders.billing.dlq").unwrap();
    until("the dead letter is there", async || fixture.broker.topic_exists(&dead)).await;

    let update = wire::UpdateTopicRequest { name: dead.to_string(), settings: None };
    root.update_topic(update).await.unwrap();
    root.delete_subscription(wire::DeleteSubscriptionRequest { name: Some(billing()) }).await.unwrap();
    join_each_way(&mut reader, "billing").await.into_iter().for_each(Result::unwrap);
}

#[tokio::test]
async fn dead_letters_are_resolved_by_acks_of_those_who_may_manage_their_topic_and_nobody_else() {
    let letters = "[roles.letters]\nallow = [{ actions = [\"subscribe\"], topics = [\"*.dlq\"] }]\n";
    let identities = [("root", "roles = [\"root\"]"), ("reader", "roles = [\"letters\"]")];
    let policy = PolicyFile::new(&identities, &format!("{ROLES}{letters}"));
    let fixture = policy.serve();
    let (mut root, mut reader) =
        (policy.client(&fixture, "root").await, policy.client(&fixture, "reader").await);
    root.publish(message("orders", "one")).await.unwrap();
    let handed = pull(&mut root, 20_000).await.unwrap().remove(0);
    let reject = wire::settlement::Outcome::Reject(wire::Reject { reason: "no".into() });
    let settlement = wire::Settlement { token: handed.token, outcome: Some(reject) };
    let settle = wire::SettleRequest { settlements: vec![settlement], messages: Vec::new() };
    root.settle(settle).await.unwrap();
    let dead = TopicName::parse("orders.billing.dlq").unwrap();
    until("the dead letter is there", async || fixture.broker.topic_exists(&dead)).await;

    let keeper = wire::SubscriptionName { topic: dead.to_string(), subscription: "dlq".into() };
    let pulled = |wait_ms| wire::PullRequest {
        name: Some(keeper.clone()),
        messages_max: 1,
        wait_ms,
        ..Default::default()
    };
    let open = wire::ConsumeOpen { name: Some(keeper.clone()), ..Default::default() };
    let open = wire::ConsumeRequest { step: Some(wire::consume_request::Step::Open(open)) };
    let subscribe =
        wire::SubscribeRequest { topic: dead.to_string(), subscription: "dlq".into(), ..Default::default() };
    let joined = [
        reader.pull(pulled(0)).await.map(drop),
        reader.consume(tokio_stream::iter([open])).await.map(drop),
        reader.subscribe(subscribe.clone()).await.map(drop),
    ];
    for joined in joined {
        assert_eq!(joined.unwrap_err().code(), Code::PermissionDenied);
    }
    // They may read the letters all the same.
    let plain = wire::SubscribeRequest { subscription: String::new(), ..subscribe };
    reader.subscribe(plain).await.unwrap();

    let letter = root.pull(pulled(20_000)).await.unwrap().into_inner().messages.remove(0);
    let ack = |token: &[u8], id: &str| wire::AckRequest {
        token: token.to_vec().into(),
        message_id: id.to_owned(),
        success: true,
        ..Default::default()
    };
    for by in [ack(&letter.token, ""), ack(&[], &letter.id)] {
        let status = reader.ack(by).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    let settle = wire::Settlement {
        token: letter.token.clone(),
        outcome: Some(wire::settlement::Outcome::Ack(wire::Done {})),
    };
    let settle = wire::SettleRequest { settlements: vec![settle], messages: Vec::new() };
    assert_eq!(reader.settle(settle).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(root.ack(ack(&letter.token, "")).await.unwrap().into_inner().acknowledged);
}

#[tokio::test]
async fn nobody_publishes_what_the_broker_says_of_dead_letters() {
    let policy = PolicyFile::new(&[("root", "roles = [\"root\"]")], ROLES);
    let fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    let mut forged = message("orders.billing.dlq", "forged");
    forged.metadata.insert("ratatoskr-dead-topic".into(), "orders".into());
    let one = root.publish(forged.clone()).await;
    let batch = wire::PublishBatchRequest { topic: String::new(), messages: vec![forged.clone()] };
    let many = root.publish_batch(batch).await;
    let settle = wire::SettleRequest { settlements: Vec::new(), messages: vec![forged.clone()] };
    let step = root.settle(settle).await;
    let later = root.publish(wire::PublishRequest { delay_ms: 60_000, ..forged }).await;
    let answers = [format!("{one:?}"), format!("{many:?}"), format!("{step:?}"), format!("{later:?}")];
    for answer in answers {
        assert!(
            answer.contains("ratatoskr-dead-topic") || answer.contains("invalid_metadata_key"),
            "{answer}"
        );
    }
    let dead = TopicName::parse("orders.billing.dlq").unwrap();
    let found = fixture.broker.describe_topic(&dead).map(|topic| topic.next_offset);
    assert!(matches!(found, None | Some(0)), "{found:?}");
}

#[tokio::test]
async fn a_request_that_comes_after_its_callers_rights_have_gone_is_refused_by_its_head() {
    let identities = [("alice", "roles = [\"root\"]"), ("mallory", "roles = [\"root\"]")];
    let policy = PolicyFile::new(&identities, ROLES);
    let fixture = policy.serve();
    let shown = format!("Bearer {}", policy.token("mallory"));
    let credential = [("authorization", shown.as_str())];
    let mut alice = policy.client(&fixture, "alice").await;
    alice.publish(message("orders", "one")).await.unwrap();

    let mut hand = Hand::greeted(&fixture, &[]).await;
    let subscribe = wire::SubscribeRequest { topic: "orders".into(), ..Default::default() };
    let durable = wire::SubscribeRequest { subscription: "billing".into(), ..subscribe.clone() };
    let open = wire::ConsumeOpen { name: Some(billing()), ..Default::default() };
    let open = wire::ConsumeRequest { step: Some(wire::consume_request::Step::Open(open)) };
    let batch = wire::PublishBatchRequest { messages: vec![message("orders", "x")], ..Default::default() };
    let requests = [
        ("Publish", grpc_message(&message("orders", "x"))),
        ("PublishBatch", grpc_message(&batch)),
        ("Subscribe", grpc_message(&subscribe)),
        ("Subscribe", grpc_message(&durable)),
        ("Consume", grpc_message(&open)),
        ("Pull", grpc_message(&wire::PullRequest { name: Some(billing()), ..Default::default() })),
    ];
    let streams: Vec<u32> = (0..).map(|number| 2 * number + 1).take(requests.len()).collect();
    for (stream, (call, _)) in streams.iter().zip(&requests) {
        hand.say(head(*stream, call, &credential)).await;
    }
    // What comes behind the heads on the connection is answered, so they have been let in.
    let last = 2 * requests.len() as u32 + 1;
    let whole = grpc_message(&message("orders", "x"));
    hand.say([head(last, "Publish", &credential), data(last, flag::END_STREAM, &whole)].concat()).await;
    hand.headers(last).await;

    policy.write(&[("alice", "roles = [\"root\"]")], ROLES);
    let mut mallory = policy.client(&fixture, "mallory").await;
    until("the new policy is in force", async || mallory.publish(message("orders", "x")).await.is_err())
        .await;
    for (stream, (call, request)) in streams.iter().zip(&requests) {
        hand.say(data(*stream, flag::END_STREAM, request)).await;
        let (fields, is_end) = hand.headers(*stream).await;
        assert!(is_end, "{call}: {fields:?}");
        assert_eq!(value(&fields, "grpc-status"), Some("16"), "{call}: {fields:?}");
    }
}

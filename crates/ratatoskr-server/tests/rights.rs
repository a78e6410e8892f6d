//! Rights are decided by the resource that is acted on, at the moment it is acted on.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use ratatoskr_proto as wire;
use support::message;
use support::policy::{Client, PolicyFile, until};
use tonic::Code;

const ROLES: &str = r#"
[roles.orders]
allow = [{ actions = ["publish", "subscribe", "manage"], topics = ["orders"] }]
[roles.other]
allow = [{ actions = ["subscribe"], topics = ["other"] }]
"#;

fn billing() -> Option<wire::SubscriptionName> {
    Some(wire::SubscriptionName { topic: "orders".into(), subscription: "billing".into() })
}

async fn pull(client: &mut Client, wait_ms: i64) -> Result<Vec<wire::Message>, tonic::Status> {
    let request = wire::PullRequest { name: billing(), messages_max: 1, wait_ms, ..Default::default() };
    client.pull(request).await.map(|pulled| pulled.into_inner().messages)
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
    let free = mallory.ack(ack.clone()).await.unwrap_err();
    let held = pull(&mut alice, 20_000).await.unwrap().remove(0);
    let leased = mallory.ack(ack.clone()).await.unwrap_err();
    for status in [free, leased] {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(!status.message().contains("orders"), "{status}");
    }
    assert!(alice.ack(ack).await.unwrap().into_inner().acknowledged, "{held:?}");
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
        let request = wire::DescribeSubscriptionRequest { name: billing() };
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

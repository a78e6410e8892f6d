//! What durable subscriptions may hold together, and that nobody is stuck for it.
#![allow(clippy::unwrap_used)] // a test may end here

use std::time::Duration;

use ratatoskr_broker::limits::{
    BATCH_MESSAGES_MAX, SETTLEMENTS_MAX, UNSETTLED_BYTES_MIN, UNSETTLED_MESSAGE_BYTES,
};
use ratatoskr_broker::{
    Broker, BrokerConfig, Delivered, Fate, JoinOptions, MEMORY_BYTES_MIN, Member, NewMessage, Outcome,
    Shares, Start, SubscriptionName, SubscriptionRef, SubscriptionSettings, TopicName, TopicSettings, Window,
};

const MESSAGES: usize = 60_000;

fn name(name: &str) -> SubscriptionRef {
    let topic = TopicName::parse("orders").unwrap();
    SubscriptionRef { topic, name: SubscriptionName::parse(name).unwrap() }
}

/// A member that takes all it can get, of a subscription that lets it.
async fn join(broker: &Broker, subscription: &str) -> Member {
    join_with(broker, subscription, Window { messages: 100_000, ..Window::default() }).await
}

async fn join_with(broker: &Broker, subscription: &str, window: Window) -> Member {
    let settings = SubscriptionSettings {
        outstanding_max: 100_000,
        member_outstanding_max: 100_000,
        lease_ms: 600_000,
        ..SubscriptionSettings::default()
    };
    let create = Some((Start::Earliest, settings));
    broker.join(&name(subscription), JoinOptions { member: "worker".into(), window, create }).await.unwrap()
}

/// What is delivered until nothing more comes for two seconds, which is two of the courier's sweeps.
async fn all_there_is(member: &mut Member) -> Vec<Delivered> {
    let mut delivered = Vec::new();
    while let Ok(batch) = tokio::time::timeout(Duration::from_secs(2), member.next_batch()).await {
        delivered.extend(batch.unwrap());
    }
    delivered
}

#[tokio::test]
async fn what_is_read_and_not_settled_is_bounded_over_all_subscriptions_and_none_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let broker =
        Broker::open(BrokerConfig { memory: MEMORY_BYTES_MIN, ..BrokerConfig::new(folder.path()) }).unwrap();
    for _ in 0..MESSAGES / 10_000 {
        let batch = (0..10_000).map(|number| NewMessage::new(number.to_string())).collect();
        broker.publish_batch(&name("any").topic, batch).await.unwrap();
    }
    let share = (Shares::of(MEMORY_BYTES_MIN).unsettled / UNSETTLED_MESSAGE_BYTES) as usize;
    let mut greedy = join(&broker, "greedy").await;
    let held = all_there_is(&mut greedy).await;
    // What is read at a time is taken in whole: up to a batch.
    assert!((share / 2..=share + BATCH_MESSAGES_MAX).contains(&held.len()), "{} of {share}", held.len());
    let described = broker.describe_subscription(&name("greedy")).await.unwrap();
    assert!(described.why.starts_with("unsettled_max"), "{}", described.why);

    // However much the first one holds, another has its least.
    let mut modest = join(&broker, "modest").await;
    let least = (UNSETTLED_BYTES_MIN / UNSETTLED_MESSAGE_BYTES) as usize;
    assert!(all_there_is(&mut modest).await.len() >= least);

    for held in held.chunks(SETTLEMENTS_MAX) {
        let acks = held.iter().map(|delivered| (delivered.token, Outcome::Ack)).collect();
        let fates = greedy.settle(acks).unwrap().await;
        assert!(fates.iter().all(|fate| *fate == Fate::Settled));
    }
    let more = all_there_is(&mut greedy).await;
    assert_eq!(held.len() + more.len(), MESSAGES, "what waited for memory is not delivered");
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn a_member_that_looks_late_reads_what_was_not_kept_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    broker.create_topic(&name("late").topic, TopicSettings::default()).await.unwrap();
    let mut member = join_with(&broker, "late", Window { messages: 100, bytes: u64::MAX }).await;
    for number in 0..60_u8 {
        // 6 MiB together; a member is handed the messages themselves up to 1 MiB.
        broker.publish(&name("late").topic, NewMessage::new(vec![number; 100 << 10])).await.unwrap();
    }
    while broker.describe_subscription(&name("late")).await.unwrap().leased < 60 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut payloads = Vec::new();
    while payloads.len() < 60 {
        let batch = tokio::time::timeout(Duration::from_secs(20), member.next_batch()).await;
        payloads.extend(
            batch.expect("all of them come").unwrap().iter().map(|delivered| delivered.message.payload()),
        );
    }
    for (number, payload) in (0..60_u8).zip(&payloads) {
        assert_eq!(payload[..], vec![number; 100 << 10]);
    }
    broker.shutdown().unwrap();
}

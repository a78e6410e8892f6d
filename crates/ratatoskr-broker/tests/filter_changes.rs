//! What becomes of messages that were read before the filter changed.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ratatoskr_broker::{
    Broker, Delivered, JoinOptions, Member, NewMessage, Outcome, Start, SubscriptionSettings, Window,
};
use support::{Faulty, PATIENCE, named, open, open_on, publish, topic, until};

async fn join(broker: &Broker, window: u32) -> Member {
    let window = Window { messages: window, ..Window::default() };
    let settings = SubscriptionSettings { lease_ms: 300_000, ..SubscriptionSettings::default() };
    let create = Some((Start::Earliest, settings));
    broker.join(&named("billing"), JoinOptions { member: "worker".to_owned(), window, create }).await.unwrap()
}

async fn next(member: &mut Member) -> Vec<Delivered> {
    tokio::time::timeout(PATIENCE, member.next_batch()).await.expect("deliveries come in time").unwrap()
}

async fn filter(broker: &Broker, filter: &str) {
    let filter = filter.to_owned();
    let change = move |settings: &SubscriptionSettings| SubscriptionSettings {
        filter: filter.clone(),
        ..settings.clone()
    };
    broker.change_subscription(&named("billing"), change).await.unwrap();
}

/// Messages in segments alone: nothing of them is in memory.
async fn on_disk(folder: &Path, count: usize) {
    let broker = open(folder);
    publish(&broker, count).await;
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn what_was_leased_when_a_filter_excluded_it_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 4).await;
    let mut member = join(&broker, 2).await;
    let held = next(&mut member).await;
    assert_eq!(held.len(), 2);
    filter(&broker, "size > 100").await;
    until(&broker, "billing", |description| description.passed == 2).await;
    let nack = Outcome::Nack { delay_ms: Some(0), reason: "no".to_owned() };
    member.settle(vec![(held[0].token, nack), (held[1].token, Outcome::Release)]).unwrap().await;
    let done = until(&broker, "billing", |description| description.passed == 4).await;
    assert_eq!((done.lag_messages, done.leased, done.waiting), (0, 0, 0));
}

#[tokio::test]
async fn a_member_does_not_see_what_a_filter_excluded_before_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 10).await;
    let mut member = join(&broker, 10).await;
    until(&broker, "billing", |description| description.leased == 10).await;
    filter(&broker, "size > 100").await;
    until(&broker, "billing", |description| description.passed == 10).await;
    broker.publish(&topic(), NewMessage::new("x".repeat(101))).await.unwrap();
    let seen = next(&mut member).await;
    assert_eq!(seen.iter().map(|delivered| delivered.message.offset).collect::<Vec<_>>(), [10]);
}

#[tokio::test]
async fn deliveries_go_on_though_what_was_read_before_cannot_be_matched_against_the_new_filter() {
    let folder = tempfile::tempdir().unwrap();
    on_disk(folder.path(), 100).await;
    let disk = Faulty::default();
    let broker = open_on(&disk, folder.path());
    let mut member = join(&broker, 1).await;
    let held = next(&mut member).await;
    disk.no_segments.store(true, Ordering::Relaxed);
    filter(&broker, "size > 100").await;
    // No segment can be opened, and deliveries are not held up: what is published now comes.
    member.settle(vec![(held[0].token, Outcome::Ack)]).unwrap().await;
    member.set_window(Window { messages: 200, ..Window::default() });
    broker.publish(&topic(), NewMessage::new("x".repeat(101))).await.unwrap();
    let came =
        async { while next(&mut member).await.iter().all(|delivered| delivered.message.offset != 100) {} };
    tokio::time::timeout(Duration::from_secs(60), came).await.expect("deliveries go on");
    let described = broker.describe_subscription(&named("billing")).await.unwrap();
    assert!(!described.why.starts_with("filter_review"), "{}", described.why);
}

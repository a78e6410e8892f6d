//! Subscriptions that nobody uses are deleted, those that somebody uses are not; and a subscription that a join creates is told of.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, Delivered, Fate, JoinOptions, Member, NewMessage, Outcome, Start, SubscriptionName,
    SubscriptionRef, SubscriptionSettings, TopicName, Window,
};
use ratatoskr_sim::{SimClock, SimDisk};

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than an expiry below, and shorter than two.
const STEP_MS: u64 = 40_000;

fn named(name: &str) -> SubscriptionRef {
    let topic = TopicName::parse("orders").unwrap();
    SubscriptionRef { topic, name: SubscriptionName::parse(name).unwrap() }
}

/// Unused for a minute, it is deleted; its leases take an hour.
fn settings() -> SubscriptionSettings {
    SubscriptionSettings { expiry_ms: Some(60_000), lease_ms: 3_600_000, ..SubscriptionSettings::default() }
}

struct World {
    clock: SimClock,
    broker: Broker,
}

impl World {
    fn new() -> World {
        let clock = SimClock::at(1_000_000_000_000);
        let config = BrokerConfig::new("/var/ratatoskr");
        let broker = Broker::open_on(&config, Arc::new(SimDisk::new()), Arc::new(clock.clone())).unwrap();
        World { clock, broker }
    }

    async fn publish(&self, count: usize) {
        let messages = (0..count).map(|number| NewMessage::new(number.to_string())).collect();
        self.broker.publish_batch(&named("billing").topic, messages).await.unwrap();
    }

    async fn join(&self, name: &str) -> Member {
        let (window, create) = (Window::default(), Some((Start::Earliest, settings())));
        self.broker.join(&named(name), JoinOptions { member: "worker".into(), window, create }).await.unwrap()
    }

    /// Fetches so many messages, as a call that does not stay: they stay leased.
    async fn fetch(&self, count: usize) -> Vec<Delivered> {
        let mut member = self.join("billing").await;
        let mut fetched = Vec::new();
        while fetched.len() < count {
            fetched.extend(tokio::time::timeout(PATIENCE, member.next_batch()).await.unwrap().unwrap());
        }
        member.detach();
        fetched
    }

    /// Lets time pass, and waits until the broker has looked for subscriptions that nobody uses: a fresh one, unused for so long, is deleted.
    async fn pass(&self) {
        let unused = SubscriptionSettings { expiry_ms: Some(STEP_MS / 2), ..settings() };
        self.broker.create_subscription(&named("unused"), Start::Earliest, unused).await.unwrap();
        self.clock.advance(STEP_MS);
        let swept = async {
            while self.broker.describe_subscription(&named("unused")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, swept).await.expect("an unused subscription is deleted");
    }

    async fn is_there(&self) -> bool {
        self.broker.describe_subscription(&named("billing")).await.is_ok()
    }
}

#[tokio::test]
async fn a_subscription_whose_messages_are_leased_is_in_use() {
    let world = World::new();
    world.publish(2).await;
    let fetched = world.fetch(2).await;
    for _ in 0..4 {
        world.pass().await;
        assert!(world.is_there().await, "it was deleted while somebody worked on its messages");
    }
    let acks = fetched.iter().map(|delivered| (delivered.token, Outcome::Ack)).collect();
    let fates = world.broker.settle(acks).unwrap().await;
    assert_eq!(fates, [Fate::Settled, Fate::Settled]);
    // With nothing leased, the settlement was its last use.
    world.pass().await;
    assert!(world.is_there().await, "it was settled of less than its expiry ago");
    world.pass().await;
    assert!(!world.is_there().await, "nobody has used it for longer than its expiry");
}

#[tokio::test]
async fn settling_is_a_use_even_if_it_comes_too_late() {
    let world = World::new();
    world.publish(1).await;
    let token = world.fetch(1).await[0].token;
    assert_eq!(world.broker.settle(vec![(token, Outcome::Ack)]).unwrap().await, [Fate::Settled]);
    for _ in 0..4 {
        world.pass().await;
        assert_eq!(world.broker.settle(vec![(token, Outcome::Ack)]).unwrap().await, [Fate::Stale]);
    }
    assert!(world.is_there().await);
}

#[tokio::test]
async fn whoever_watches_is_told_which_subscriptions_expired() {
    let world = World::new();
    world.publish(1).await;
    let mut watching = world.broker.watch_expired_subscriptions();
    world.join("billing").await.close();
    world
        .broker
        .create_subscription(&named("kept"), Start::Earliest, SubscriptionSettings::default())
        .await
        .unwrap();
    world.pass().await;
    world.pass().await;
    let mut expired = Vec::new();
    while let Ok(name) = watching.try_recv() {
        expired.push(name.name.to_string());
    }
    expired.sort_unstable();
    assert_eq!(expired, ["billing", "unused", "unused"]);
}

#[tokio::test]
async fn a_join_tells_whether_it_created_the_subscription() {
    let world = World::new();
    world.publish(1).await;
    assert!(world.join("billing").await.has_created());
    assert!(!world.join("billing").await.has_created());
}

#[tokio::test]
async fn a_created_subscription_is_noted_once_even_if_nobody_waits_for_the_join() {
    let world = World::new();
    world.publish(1).await;
    let noted = Arc::new(AtomicUsize::new(0));
    let join = || {
        let noted = noted.clone();
        let options = JoinOptions { create: Some((Start::Earliest, settings())), ..JoinOptions::default() };
        let (broker, name) = (world.broker.clone(), named("billing"));
        async move {
            let note = move || {
                noted.fetch_add(1, Ordering::Relaxed);
            };
            broker.join_noting(&name, options, note).await.map(drop)
        }
    };
    let mut given_up = Box::pin(join());
    // Asked once, and then dropped.
    let first = std::future::poll_fn(|context| std::task::Poll::Ready(given_up.as_mut().poll(context))).await;
    assert!(first.is_pending());
    drop(given_up);
    join().await.unwrap();
    assert_eq!(noted.load(Ordering::Relaxed), 1);
}

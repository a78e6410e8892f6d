//! A full disk, as a consumer and an operator meet it: acks, changes and purges go on, a restart too, and a purge brings publishing back.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, Delivered, Fate, Health, JoinOptions, Member, NewMessage, Outcome, Start,
    SubscriptionName, SubscriptionRef, SubscriptionSettings, TopicName, TopicSettings, Window,
};
use ratatoskr_sim::{SimClock, SimDisk};

const PATIENCE: Duration = Duration::from_secs(20);
/// Messages of `orders`, half of which are acked before the restart.
const ORDERS: usize = 80;

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn open(disk: &SimDisk, clock: &SimClock) -> Broker {
    let config = BrokerConfig::new("/var/ratatoskr");
    Broker::open_on(&config, Arc::new(disk.clone()), Arc::new(clock.clone())).unwrap()
}

async fn join(broker: &Broker) -> Member {
    let billing =
        SubscriptionRef { topic: topic("orders"), name: SubscriptionName::parse("billing").unwrap() };
    let create = Some((Start::Earliest, SubscriptionSettings::default()));
    let window = Window { messages: ORDERS as u32, ..Window::default() };
    let options = JoinOptions { member: "worker".to_owned(), window, create };
    broker.join(&billing, options).await.unwrap()
}

async fn next(member: &mut Member, count: usize) -> Vec<Delivered> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(tokio::time::timeout(PATIENCE, member.next_batch()).await.expect("in time").unwrap());
    }
    all
}

async fn ack(member: &Member, delivered: &Delivered) -> Fate {
    member.settle(vec![(delivered.token, Outcome::Ack)]).unwrap().await[0].clone()
}

/// Publishes to `load` until the disk is full.
async fn fill(broker: &Broker) {
    for _ in 0..200 {
        if broker.publish(&topic("load"), NewMessage::new(vec![0; 1 << 20])).await.is_err() {
            return assert_full(broker);
        }
    }
    panic!("the disk took everything");
}

fn assert_full(broker: &Broker) {
    assert!(matches!(broker.health(), Health::DiskFull { .. }), "{:?}", broker.health());
}

#[tokio::test]
async fn acks_and_changes_go_on_while_the_disk_is_full_and_a_purge_after_a_restart_ends_it() {
    let (disk, clock) = (SimDisk::new(), SimClock::at(1_700_000_000_000));
    let broker = open(&disk, &clock);
    for name in ["orders", "load"] {
        broker.create_topic(&topic(name), TopicSettings::default()).await.unwrap();
    }
    for number in 0..ORDERS {
        broker.publish(&topic("orders"), NewMessage::new(number.to_string())).await.unwrap();
    }
    let mut member = join(&broker).await;
    let orders = next(&mut member, ORDERS).await;
    disk.set_capacity(Some(disk.used_bytes() + (80 << 20)));
    fill(&broker).await;
    disk.set_capacity(Some(disk.used_bytes()));

    // A publish that is refused at the same moment takes no ack with it.
    let load = topic("load");
    for order in &orders[..ORDERS / 2] {
        let publish = broker.publish(&load, NewMessage::new(vec![0; 1 << 20]));
        let (fate, published) = tokio::join!(ack(&member, order), publish);
        assert_eq!(fate, Fate::Settled);
        assert!(published.is_err());
    }
    let settings = TopicSettings { retention_messages: Some(1000), ..TopicSettings::default() };
    broker.update_topic(&topic("orders"), settings).await.unwrap();
    drop(member);
    broker.shutdown().expect("stopping needs no room");
    drop(broker);

    let broker = open(&disk, &clock);
    assert_full(&broker);
    assert!(broker.recovery().full.is_some());
    assert_eq!(
        broker.describe_topic(&topic("orders")).unwrap().settings.retention_messages,
        Some(1000),
        "a change that was confirmed holds"
    );
    let mut member = join(&broker).await;
    let left = next(&mut member, ORDERS / 2).await;
    let offset = |delivered: &Delivered| delivered.message.offset;
    assert_eq!(offset(&left[0]), (ORDERS / 2) as u64, "acks that were confirmed hold");
    assert_eq!(ack(&member, &left[0]).await, Fate::Settled);

    broker.purge_topic(&topic("load"), None).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while broker.publish(&topic("load"), NewMessage::new(vec![0; 1 << 20])).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the purge has brought nothing back");
        clock.advance(1000); // a full disk is not looked at more often than that
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

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
    join_with(broker, ORDERS).await
}

async fn join_with(broker: &Broker, window: usize) -> Member {
    let billing =
        SubscriptionRef { topic: topic("orders"), name: SubscriptionName::parse("billing").unwrap() };
    let settings =
        SubscriptionSettings { member_outstanding_max: 100_000, ..SubscriptionSettings::default() };
    let create = Some((Start::Earliest, settings));
    let window = Window { messages: window as u32, ..Window::default() };
    let options = JoinOptions { member: "worker".to_owned(), window, create };
    broker.join(&billing, options).await.unwrap()
}

async fn next(member: &mut Member, count: usize) -> Vec<Delivered> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(
            tokio::time::timeout(PATIENCE, member.next_batch())
                .await
                .unwrap_or_else(|_| panic!("{} of {count} messages came", all.len()))
                .unwrap(),
        );
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

/// The same until it stays full: a checkpoint that was under way meanwhile lets journal files go.
async fn fill_for_good(broker: &Broker, disk: &SimDisk) {
    disk.set_capacity(Some(disk.used_bytes() + (80 << 20)));
    fill(broker).await;
    let mut refused = 0;
    while refused < 5 {
        disk.set_capacity(Some(disk.used_bytes()));
        let took = broker.publish(&topic("load"), NewMessage::new(vec![0; 1 << 20])).await.is_ok();
        refused = if took { 0 } else { refused + 1 };
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn assert_full(broker: &Broker) {
    assert!(matches!(broker.health(), Health::DiskFull { .. }), "{:?}", broker.health());
}

/// Messages of `name`, in as few commits as may be.
async fn publish_many(broker: &Broker, name: &str, count: usize) {
    for first in (0..count).step_by(1000) {
        let messages = (first..count.min(first + 1000)).map(|number| NewMessage::new(number.to_string()));
        broker.publish_batch(&topic(name), messages.collect()).await.unwrap();
    }
}

#[tokio::test]
async fn changes_leave_acks_their_part_of_the_reserve_and_acks_leave_purges_theirs() {
    let (disk, clock) = (SimDisk::new(), SimClock::at(1_700_000_000_000));
    let broker = open(&disk, &clock);
    publish_many(&broker, "orders", 2000).await;
    broker.create_topic(&topic("load"), TopicSettings::default()).await.unwrap();
    let mut member = join_with(&broker, 2000).await;
    let orders = next(&mut member, 2000).await;
    fill_for_good(&broker, &disk).await;

    let mut changes = 0;
    loop {
        let settings = TopicSettings { retention_messages: Some(5000 + changes), ..TopicSettings::default() };
        if broker.update_topic(&topic("orders"), settings).await.is_err() {
            break;
        }
        changes += 1;
    }
    assert!((512..1024).contains(&changes), "{changes} changes took a page each of the first 2 MiB");
    let mut acks = 0;
    for order in &orders {
        match ack(&member, order).await {
            Fate::Settled => acks += 1,
            Fate::Unavailable(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acks, 1280, "5 MiB in pages of 4 KiB");
    broker.purge_topic(&topic("load"), None).await.unwrap();
}

#[tokio::test]
async fn of_more_settlements_than_the_reserve_has_room_for_those_that_fit_are_confirmed() {
    const NACKS: usize = 60_000;
    let (disk, clock) = (SimDisk::new(), SimClock::at(1_700_000_000_000));
    let broker = open(&disk, &clock);
    publish_many(&broker, "orders", NACKS).await;
    broker.create_topic(&topic("load"), TopicSettings::default()).await.unwrap();
    let mut member = join_with(&broker, NACKS).await;
    let orders = next(&mut member, NACKS).await;
    fill_for_good(&broker, &disk).await;

    let nack = || Outcome::Nack { delay_ms: Some(3_600_000), reason: "x".repeat(128) };
    let nacks = orders.iter().map(|order| (order.token, nack())).collect();
    let fates = member.settle(nacks).unwrap().await;
    let settled = fates.iter().filter(|fate| **fate == Fate::Settled).count();
    let refused = fates.iter().filter(|fate| matches!(fate, Fate::Unavailable(_))).count();
    assert_eq!(settled + refused, NACKS);
    assert!(refused > 0, "all of it fitted: the test shows nothing");
    assert!(settled > NACKS / 2, "{settled} fitted into 7 MiB");
}

#[tokio::test]
async fn retention_waits_until_it_frees_a_segment_while_the_disk_is_full() {
    let (disk, clock) = (SimDisk::new(), SimClock::at(1_700_000_000_000));
    let config = BrokerConfig { segment_bytes: 1 << 20, ..BrokerConfig::new("/var/ratatoskr") };
    let broker = Broker::open_on(&config, Arc::new(disk.clone()), Arc::new(clock.clone())).unwrap();
    let settings = TopicSettings { retention_age_ms: Some(60_000), ..TopicSettings::default() };
    for name in ["orders", "whole"] {
        broker.create_topic(&topic(name), settings.clone()).await.unwrap();
    }
    broker.create_topic(&topic("load"), TopicSettings::default()).await.unwrap();
    // Of one segment the first message is old, of the other all are.
    broker.publish(&topic("orders"), NewMessage::new("old")).await.unwrap();
    for _ in 0..3 {
        broker.publish(&topic("whole"), NewMessage::new(vec![0; 600 << 10])).await.unwrap();
    }
    clock.advance(30_000);
    broker.publish(&topic("orders"), NewMessage::new(vec![0; 600 << 10])).await.unwrap();
    fill_for_good(&broker, &disk).await;
    let segments = |name: &str| broker.describe_topic(&topic(name)).unwrap().segments;
    until(|| segments("orders") > 0 && segments("whole") > 1).await;

    clock.advance(40_000);
    until(|| broker.describe_topic(&topic("whole")).unwrap().first_offset > 0).await;
    assert_full(&broker);
    let orders = broker.describe_topic(&topic("orders")).unwrap();
    assert_eq!(orders.first_offset, 0, "its trim frees nothing and takes a page");
}

#[tokio::test]
async fn a_purge_that_frees_far_less_than_a_journal_file_brings_publishing_back_and_leaves_acks_their_reserve()
 {
    let (disk, clock) = (SimDisk::new(), SimClock::at(1_700_000_000_000));
    let broker = open(&disk, &clock);
    publish_many(&broker, "orders", 2000).await;
    let mut member = join_with(&broker, 2000).await;
    let mut orders = next(&mut member, 2000).await.into_iter();
    for name in ["small", "load"] {
        broker.create_topic(&topic(name), TopicSettings::default()).await.unwrap();
    }
    for _ in 0..4 {
        broker.publish(&topic("small"), NewMessage::new(vec![0; 1 << 20])).await.unwrap();
    }
    disk.set_capacity(Some(disk.used_bytes() + (80 << 20)));
    fill(&broker).await;
    until(|| broker.describe_topic(&topic("small")).unwrap().segments > 0).await;
    disk.set_capacity(Some(disk.used_bytes()));
    assert_eq!(ack(&member, &orders.next().unwrap()).await, Fate::Settled);

    // As much as the error says is enough.
    let refused = broker.publish(&topic("load"), NewMessage::new(vec![0; 1 << 20])).await.unwrap_err();
    let numbers = refused.to_string();
    let wanted = numbers.split(' ').filter_map(|word| word.parse::<u64>().ok()).max().unwrap();
    assert!((1..4 << 20).contains(&wanted), "{refused}");
    broker.purge_topic(&topic("small"), None).await.unwrap();
    publish_in_time(&broker, &clock).await;
    fill(&broker).await;

    let (mut acks, mut fates) = (0, Vec::new());
    for order in orders {
        match ack(&member, &order).await {
            Fate::Settled => acks += 1,
            other => fates.push(other),
        }
        if !fates.is_empty() {
            break;
        }
    }
    assert!(acks >= 1500, "{acks} acks went into the reserve, then {fates:?}");
    broker.purge_topic(&topic("orders"), Some(1)).await.expect("purges have the last of it");
}

/// What brings room back is noticed within a second.
async fn publish_in_time(broker: &Broker, clock: &SimClock) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = broker.publish(&topic("load"), NewMessage::new(vec![0; 1 << 20])).await {
        assert!(tokio::time::Instant::now() < deadline, "nothing was brought back: {error}");
        clock.advance(1000); // a full disk is not looked at more often than that
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_larger_journal_file_than_a_full_disk_has_room_for_does_not_keep_the_broker_from_starting() {
    let (disk, clock) = (SimDisk::new(), SimClock::at(1_700_000_000_000));
    let broker = open(&disk, &clock);
    broker.publish(&topic("load"), NewMessage::new("kept")).await.unwrap();
    broker.shutdown().unwrap();
    drop(broker);
    for bytes in [64 << 20, 128 << 20] {
        disk.set_capacity(Some(disk.used_bytes()));
        let config = BrokerConfig { journal_file_bytes: bytes, ..BrokerConfig::new("/var/ratatoskr") };
        // Each run leaves a checkpoint, behind which its journal begins.
        let broker =
            Broker::open_on(&config, Arc::new(disk.clone()), Arc::new(clock.clone())).expect("it starts");
        assert_eq!(broker.describe_topic(&topic("load")).unwrap().next_offset, 1);
        broker.delete_topic(&topic("load")).await.expect("what makes room goes on");
        disk.set_capacity(None);
        publish_in_time(&broker, &clock).await;
        broker.shutdown().unwrap();
        drop(broker);
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
    fill_for_good(&broker, &disk).await;

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
    publish_in_time(&broker, &clock).await;
}

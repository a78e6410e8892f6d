//! Two clocks: the wall clock jumps by years in both directions, and offsets, leases, retries, duplicates and retention stay sane.
//! On a simulated disk with simulated clocks: what a jump did not do is seen by what was done meanwhile, not by waiting.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, Delivered, Fate, JoinOptions, Member, NewMessage, Outcome, Start, SubscriptionName,
    SubscriptionRef, SubscriptionSettings, TopicName, TopicSettings, Window,
};
use ratatoskr_log::Clock;
use ratatoskr_sim::{SimClock, SimDisk};

const HOUR_MS: u64 = 60 * 60 * 1000;
const YEAR_MS: u64 = 365 * 24 * HOUR_MS;
const START_MS: u64 = 50 * YEAR_MS;
/// A jump ahead is doubted for an hour.
const DOUBT_MS: u64 = HOUR_MS;

struct World {
    disk: SimDisk,
    clock: SimClock,
}

impl World {
    fn new() -> World {
        World { disk: SimDisk::new(), clock: SimClock::at(START_MS) }
    }

    fn open(&self) -> Broker {
        let config = BrokerConfig::new("/var/ratatoskr");
        Broker::open_on(&config, Arc::new(self.disk.clone()), Arc::new(self.clock.clone())).unwrap()
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn billing() -> SubscriptionRef {
    SubscriptionRef { topic: topic("orders"), name: SubscriptionName::parse("billing").unwrap() }
}

async fn create(broker: &Broker, name: &str, settings: TopicSettings) {
    broker.create_topic(&topic(name), settings).await.unwrap();
}

async fn publish(broker: &Broker, name: &str, payload: &str) -> u64 {
    broker.publish(&topic(name), NewMessage::new(payload.to_owned())).await.unwrap().offset
}

fn first_offset(broker: &Broker, name: &str) -> u64 {
    broker.describe_topic(&topic(name)).unwrap().first_offset
}

/// Waits until retention has looked at every topic: `probe` keeps one message, so that its second one goes with the next sweep.
async fn sweep(world: &World, broker: &Broker) {
    let newest = publish(broker, "probe", "one more").await;
    // Sweeps are a second apart, and this is all the time that passes.
    world.clock.advance(1_000);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while first_offset(broker, "probe") < newest {
        assert!(tokio::time::Instant::now() < deadline, "no sweep within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Topics are looked at in any order, and all trims of one sweep stand in the inbox together: this comes behind them.
    publish(broker, "fence", "").await;
}

async fn with_probe(broker: &Broker) {
    create(broker, "probe", TopicSettings { retention_messages: Some(1), ..TopicSettings::default() }).await;
    publish(broker, "probe", "first").await;
}

async fn join(broker: &Broker) -> Member {
    let settings = SubscriptionSettings { lease_ms: 30_000, ..SubscriptionSettings::default() };
    let (window, create) = (Window::default(), Some((Start::Earliest, settings)));
    broker.join(&billing(), JoinOptions { member: "worker".to_owned(), window, create }).await.unwrap()
}

async fn next(member: &mut Member) -> Delivered {
    let batch = tokio::time::timeout(Duration::from_secs(20), member.next_batch()).await;
    let mut batch = batch.expect("deliveries come in time").unwrap();
    assert_eq!(batch.len(), 1);
    batch.remove(0)
}

async fn settle(member: &Member, delivered: &Delivered, outcome: Outcome) -> Fate {
    member.settle(vec![(delivered.token, outcome)]).unwrap().await[0].clone()
}

#[tokio::test]
async fn a_jump_of_ten_years_removes_nothing_until_it_has_lasted_an_hour() {
    let world = World::new();
    let broker = world.open();
    with_probe(&broker).await;
    let aged = TopicSettings { retention_age_ms: Some(24 * HOUR_MS), ..TopicSettings::default() };
    create(&broker, "orders", aged).await;
    publish(&broker, "orders", "precious").await;
    world.clock.jump_ahead(10 * YEAR_MS);
    sweep(&world, &broker).await;
    assert_eq!(first_offset(&broker, "orders"), 0, "one jump of the clock has wiped the topic");

    // The date is in the checkpoint: neither a restart nor what was published since the jump is a way around the doubt.
    broker.shutdown().unwrap();
    drop(broker);
    world.clock.jump_ahead(10 * YEAR_MS);
    let broker = world.open();
    sweep(&world, &broker).await;
    assert_eq!(first_offset(&broker, "orders"), 0, "a restart has believed the jump at once");

    world.clock.advance(DOUBT_MS);
    sweep(&world, &broker).await;
    sweep(&world, &broker).await;
    assert_eq!(first_offset(&broker, "orders"), 1, "what lasts is believed");
}

#[tokio::test]
async fn messages_go_at_their_age_however_the_clock_went_back_and_forth_meanwhile() {
    let world = World::new();
    let broker = world.open();
    with_probe(&broker).await;
    let aged = TopicSettings { retention_age_ms: Some(24 * HOUR_MS), ..TopicSettings::default() };
    create(&broker, "orders", aged).await;
    publish(&broker, "orders", "old").await;
    for _ in 0..4 {
        world.clock.advance(5 * HOUR_MS);
        world.clock.jump_ahead(YEAR_MS);
        sweep(&world, &broker).await;
        world.clock.jump_back(YEAR_MS);
        sweep(&world, &broker).await;
    }
    assert_eq!(first_offset(&broker, "orders"), 0, "it is 20 hours old");
    world.clock.advance(5 * HOUR_MS);
    sweep(&world, &broker).await;
    sweep(&world, &broker).await;
    assert_eq!(first_offset(&broker, "orders"), 1, "it is more than a day old");
}

#[tokio::test]
async fn offsets_and_times_of_a_topic_never_go_back() {
    let world = World::new();
    let broker = world.open();
    let mut last = (0, 0);
    for jump in 0..40_u64 {
        let receipt = broker.publish(&topic("orders"), NewMessage::new(jump.to_string())).await.unwrap();
        assert_eq!(receipt.offset, jump);
        assert!(receipt.timestamp_ms >= last.1, "time went back from {} to {}", last.1, receipt.timestamp_ms);
        last = (receipt.offset, receipt.timestamp_ms);
        if jump % 2 == 0 { world.clock.jump_back(YEAR_MS) } else { world.clock.jump_ahead(HOUR_MS * jump) }
    }
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_it_says_whatever_the_clock_shows() {
    let world = World::new();
    let broker = world.open();
    publish(&broker, "orders", "a").await;
    let mut member = join(&broker).await;
    let delivered = next(&mut member).await;
    assert_eq!(delivered.lease_until_ms, START_MS + 30_000);
    world.clock.jump_ahead(YEAR_MS);
    // Later requests than this one are worked off later: had the lease ended, the ack would come too late.
    assert_eq!(broker.describe_subscription(&billing()).await.unwrap().leased, 1);
    assert_eq!(settle(&member, &delivered, Outcome::Extend { lease_ms: None }).await, Fate::Settled);
    world.clock.jump_back(2 * YEAR_MS);
    world.clock.advance(29_000);
    assert_eq!(settle(&member, &delivered, Outcome::Extend { lease_ms: None }).await, Fate::Settled);
    // The clock stands far back, and yet the lease ends when its time is over.
    world.clock.advance(30_001);
    assert_eq!(settle(&member, &delivered, Outcome::Ack).await, Fate::Stale);
    let again = next(&mut member).await;
    assert_eq!(again.attempt, 2);
    assert_eq!(again.lease_until_ms, world.clock.now_ms() + 30_000);
    assert_eq!(settle(&member, &again, Outcome::Ack).await, Fate::Settled);
}

#[tokio::test]
async fn a_retry_comes_after_its_delay_and_after_a_restart_not_much_later() {
    let world = World::new();
    let broker = world.open();
    publish(&broker, "orders", "a").await;
    let mut member = join(&broker).await;
    let delivered = next(&mut member).await;
    let later = Outcome::Nack { delay_ms: Some(60_000), reason: "later".to_owned() };
    assert_eq!(settle(&member, &delivered, later.clone()).await, Fate::Settled);
    world.clock.jump_ahead(YEAR_MS);
    assert_eq!(broker.describe_subscription(&billing()).await.unwrap().waiting, 1, "it came too early");
    world.clock.jump_back(2 * YEAR_MS);
    world.clock.advance(60_000);
    let again = next(&mut member).await;
    assert_eq!(again.attempt, 2);

    // What is written down is wall time. Set back by years while the broker is down, it still ends.
    assert_eq!(settle(&member, &again, later).await, Fate::Settled);
    broker.shutdown().unwrap();
    drop((member, broker));
    world.clock.jump_back(YEAR_MS);
    let broker = world.open();
    let mut member = join(&broker).await;
    // It waits from when it has been read again.
    while broker.describe_subscription(&billing()).await.unwrap().waiting == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.clock.advance(12 * HOUR_MS);
    assert_eq!(next(&mut member).await.attempt, 3);
}

#[tokio::test]
async fn a_jump_of_the_clock_makes_no_duplicate() {
    let world = World::new();
    let broker = world.open();
    with_probe(&broker).await;
    let message = NewMessage { dedup_id: "order 1".to_owned(), ..NewMessage::new("a".to_owned()) };
    let orders = topic("orders");
    let first = broker.publish(&orders, message.clone()).await.unwrap();
    for jump in [true, false, true] {
        if jump {
            world.clock.jump_ahead(3 * YEAR_MS);
        } else {
            world.clock.jump_back(5 * YEAR_MS);
        }
        sweep(&world, &broker).await;
        let again = broker.publish(&orders, message.clone()).await.unwrap();
        assert!(again.duplicate, "the id was forgotten by a jump of the clock");
        assert_eq!(again.id, first.id);
    }
}

fn aged() -> TopicSettings {
    TopicSettings {
        retention_age_ms: Some(24 * HOUR_MS),
        dedup_window_ms: HOUR_MS,
        ..TopicSettings::default()
    }
}

fn with_id(id: &str) -> NewMessage {
    NewMessage { dedup_id: id.to_owned(), ..NewMessage::new("a".to_owned()) }
}

/// Ends a broker as a crash does, and starts the next one on what is on disk.
fn crash(world: &mut World, broker: Broker) -> Broker {
    world.disk = world.disk.kill();
    drop(broker);
    world.open()
}

#[tokio::test]
async fn messages_of_a_topic_whose_clock_was_ahead_go_at_their_age() {
    tokio::join!(ages_after(""), ages_after("a restart"), ages_after("a crash"));
}

async fn ages_after(what: &str) {
    let mut world = World::new();
    let mut broker = world.open();
    with_probe(&broker).await;
    create(&broker, "orders", aged()).await;
    publish(&broker, "orders", "before").await;
    world.clock.jump_ahead(YEAR_MS);
    publish(&broker, "orders", "while it was ahead").await;
    sweep(&world, &broker).await;
    world.clock.jump_back(YEAR_MS);
    for _ in 0..5 {
        publish(&broker, "orders", "since then").await;
        world.clock.advance(2 * HOUR_MS);
        sweep(&world, &broker).await;
    }
    match what {
        "a restart" => {
            broker.shutdown().unwrap();
            broker = world.open();
        }
        "a crash" => broker = crash(&mut world, broker),
        _ => {}
    }
    world.clock.advance(DOUBT_MS);
    sweep(&world, &broker).await;
    world.clock.advance(12 * HOUR_MS);
    sweep(&world, &broker).await;
    assert_eq!(first_offset(&broker, "orders"), 0, "after {what:?}; the oldest is 23 hours old");
    world.clock.advance(5 * HOUR_MS);
    sweep(&world, &broker).await;
    sweep(&world, &broker).await;
    let first = first_offset(&broker, "orders");
    assert!((2..=5).contains(&first), "after {what:?}; the first is {first}");
    world.clock.advance(12 * HOUR_MS);
    sweep(&world, &broker).await;
    sweep(&world, &broker).await;
    assert_eq!(first_offset(&broker, "orders"), 7, "after {what:?}; all are more than a day old");
}

#[tokio::test]
async fn messages_of_a_clock_that_was_behind_stay_for_their_age() {
    let mut world = World::new();
    let broker = world.open();
    with_probe(&broker).await;
    // As machines start that keep no time while they are off, and are told by the network later.
    world.clock.jump_back(40 * YEAR_MS);
    create(&broker, "orders", aged()).await;
    publish(&broker, "orders", "a").await;
    world.clock.advance(3 * HOUR_MS);
    publish(&broker, "orders", "b").await;
    sweep(&world, &broker).await;
    let broker = crash(&mut world, broker);
    world.clock.jump_ahead(40 * YEAR_MS);
    for _ in 0..4 {
        world.clock.advance(5 * HOUR_MS);
        sweep(&world, &broker).await;
        assert_eq!(first_offset(&broker, "orders"), 0, "the oldest message is less than a day old");
    }
    world.clock.advance(9 * HOUR_MS);
    sweep(&world, &broker).await;
    sweep(&world, &broker).await;
    assert_eq!(first_offset(&broker, "orders"), 2);
}

#[tokio::test]
async fn the_window_of_an_id_ends_though_the_clock_was_ahead_when_it_was_given() {
    for what in ["", "a restart", "a crash"] {
        let mut world = World::new();
        let mut broker = world.open();
        create(&broker, "orders", aged()).await;
        world.clock.jump_ahead(YEAR_MS);
        let orders = topic("orders");
        broker.publish(&orders, with_id("while it was ahead")).await.unwrap();
        world.clock.jump_back(YEAR_MS);
        broker.publish(&orders, with_id("since then")).await.unwrap();
        match what {
            "a restart" => {
                broker.shutdown().unwrap();
                broker = world.open();
            }
            "a crash" => broker = crash(&mut world, broker),
            _ => {}
        }
        for id in ["while it was ahead", "since then"] {
            assert!(broker.publish(&orders, with_id(id)).await.unwrap().duplicate, "after {what:?}; {id}");
        }
        world.clock.advance(HOUR_MS + 1);
        // A restart may make the broker doubt the time that has passed.
        publish(&broker, "orders", "").await;
        world.clock.advance(DOUBT_MS);
        for id in ["while it was ahead", "since then"] {
            let again = broker.publish(&orders, with_id(id)).await.unwrap();
            assert!(!again.duplicate, "after {what:?}; {id} is known for ever");
        }
        assert_eq!(broker.counters().dedup_ids, 2, "after {what:?}");
    }
}

#[tokio::test]
async fn times_of_a_topic_do_not_go_back_though_all_its_messages_are_gone() {
    let world = World::new();
    let broker = world.open();
    let orders = topic("orders");
    let last_ms = broker.publish(&orders, NewMessage::new("a".to_owned())).await.unwrap().timestamp_ms;
    broker.purge_topic(&orders, None).await.unwrap();
    broker.shutdown().unwrap();
    drop(broker);
    world.clock.jump_back(YEAR_MS);
    let broker = world.open();
    let receipt = broker.publish(&orders, NewMessage::new("b".to_owned())).await.unwrap();
    assert!(receipt.timestamp_ms >= last_ms, "{} is before {last_ms}", receipt.timestamp_ms);
    assert_eq!(receipt.offset, 1);
}

//! Consumers of durable subscriptions against a real server in this process.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod house;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use house::{House, numbered};
use ratatoskr_client::{
    Backoff, Client, Code, ConsumeOptions, Consumer, Delivery, Outcome, SettleError, SubscriptionSettings,
    TopicSettings,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn quick_retries() -> ConsumeOptions {
    let settings = SubscriptionSettings { retry_delay_ms: Some(10), ..SubscriptionSettings::default() };
    ConsumeOptions { settings, ..ConsumeOptions::default() }
}

fn short_lease() -> ConsumeOptions {
    let settings = SubscriptionSettings { lease_ms: Some(500), ..SubscriptionSettings::default() };
    ConsumeOptions { settings, ..ConsumeOptions::default() }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a message comes").unwrap()
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let wanted = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wanted).await.is_ok(), "waited {PATIENCE:?} until {what}");
}

#[tokio::test]
async fn what_is_acked_is_settled_and_does_not_come_again() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..500)).await.unwrap();
    let options =
        ConsumeOptions { member: "one".to_owned(), window_messages: 50, ..ConsumeOptions::default() };
    let mut consumer = client.consume("orders", "billing", options).await.unwrap();
    let mut fates = Vec::new();
    for offset in 0..500 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.offset(), delivery.attempt()), (offset, 1));
        assert_eq!(delivery.payload().as_ref(), offset.to_string().as_bytes());
        assert!(delivery.lease_until_ms() > 0 && !delivery.id().is_empty());
        fates.push(delivery.ack());
    }
    for fate in fates {
        assert_eq!(fate.await, Ok(()));
    }
    let described = client.describe_subscription("orders", "billing").await.unwrap();
    assert_eq!((described.acked, described.lag_messages, described.member_count), (500, 0, 1));
    assert_eq!((described.members[0].name.as_str(), described.members[0].window_messages), ("one", 50));
    assert!(consumer.try_next().is_none());
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn a_nacked_message_returns_with_its_second_attempt_after_the_delay() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..1)).await.unwrap();
    let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    let delivery = next(&mut consumer).await;
    let started = std::time::Instant::now();
    let delay = Duration::from_millis(300);
    delivery.nack(Some(delay), "not yet").await.unwrap();
    let again = next(&mut consumer).await;
    assert!(started.elapsed() >= delay);
    assert_eq!((again.offset(), again.attempt()), (0, 2));
    assert_eq!(delivery.ack().await, Err(SettleError::Stale));
    // What the broker would refuse, and end the stream for, does not get that far.
    let day = Some(Duration::from_secs(86_400));
    assert!(matches!(again.nack(day, "").await, Err(SettleError::Invalid { .. })));
    // These travel together, and yet each has its own fate.
    let (extended, acked) = (again.extend(Some(Duration::from_secs(60))), again.ack());
    assert_eq!((extended.await, acked.await), (Ok(()), Ok(())));
    assert_eq!(again.ack().await, Err(SettleError::Stale));
}

#[tokio::test]
async fn a_rejected_message_and_one_out_of_attempts_are_dead_letters_with_their_reasons() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..2)).await.unwrap();
    let mut consumer = client.consume("orders", "billing", quick_retries()).await.unwrap();
    let mut failed = 0;
    while failed < 3 {
        let delivery = next(&mut consumer).await;
        if delivery.offset() == 0 {
            delivery.reject("no such customer").await.unwrap();
        } else {
            delivery.nack(None, "the printer burns").await.unwrap();
            failed += 1;
        }
    }
    let described = client.describe_subscription("orders", "billing").await.unwrap();
    assert_eq!((described.dead, described.lag_messages), (2, 0));
}

#[tokio::test]
async fn what_is_held_when_the_doors_close_is_stale_and_comes_again() {
    let mut house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..4)).await.unwrap();
    let options = ConsumeOptions { window_messages: 2, ..ConsumeOptions::default() };
    let mut consumer = client.consume("orders", "billing", options).await.unwrap();
    next(&mut consumer).await.ack().await.unwrap();
    let held = next(&mut consumer).await;
    house.close_doors().await;
    // Nobody waits for a broker that is away: either the break was seen already, or it answers.
    let fate = held.ack().await;
    assert!(matches!(fate, Err(SettleError::Stale | SettleError::Unanswered)), "{fate:?}");
    house.open_doors();
    let mut offsets = BTreeSet::new();
    while offsets.len() < 3 {
        let delivery = next(&mut consumer).await;
        delivery.ack().await.unwrap();
        offsets.insert(delivery.offset());
    }
    assert_eq!(offsets, BTreeSet::from([1, 2, 3]));
    assert_eq!(held.ack().await, Err(SettleError::Stale));
}

#[tokio::test]
async fn a_consumer_works_on_when_the_broker_restarts_in_the_middle() {
    let mut house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..1000)).await.unwrap();
    let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    let (mut confirmed, mut seen) = (BTreeSet::new(), 0);
    while confirmed.len() < 1000 {
        let delivery = next(&mut consumer).await;
        seen += 1;
        if seen == 300 {
            house.restart().await;
        }
        if delivery.ack().await.is_ok() {
            assert!(confirmed.insert(delivery.offset()), "a settled message came again");
        }
    }
    assert_eq!(client.describe_subscription("orders", "billing").await.unwrap().acked, 1000);
    assert_eq!(confirmed.first(), Some(&0));
}

#[tokio::test]
async fn closing_gives_back_unharmed_what_is_held_and_waits_for_the_fates() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..10)).await.unwrap();
    let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    let fate = first.ack();
    consumer.close().await.unwrap();
    assert_eq!(fate.now_or_never(), Some(Ok(())));
    assert_eq!(second.ack().await, Err(SettleError::Stale));
    let described = client.describe_subscription("orders", "billing").await.unwrap();
    assert_eq!((described.acked, described.leased, described.member_count), (1, 0, 0));

    // To drop it is to close it without waiting.
    let mut dropped = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    next(&mut dropped).await;
    drop(dropped);
    let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    for offset in 1..10 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.offset(), delivery.attempt()), (offset, 1));
        // What came back twice comes alone.
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn two_members_share_the_work() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..200)).await.unwrap();
    let options = ConsumeOptions { window_messages: 5, ..ConsumeOptions::default() };
    let mut one = client.consume("orders", "billing", options.clone()).await.unwrap();
    let mut other = client.consume("orders", "billing", options).await.unwrap();
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    while of_one.len() + of_other.len() < 200 {
        let (delivery, whose) = tokio::select! {
            delivery = next(&mut one) => (delivery, &mut of_one),
            delivery = next(&mut other) => (delivery, &mut of_other),
        };
        delivery.ack();
        whose.push(delivery.offset());
    }
    assert!(!of_one.is_empty() && !of_other.is_empty());
    let all: BTreeSet<_> = of_one.iter().chain(&of_other).copied().collect();
    assert_eq!(all, (0..200).collect());
    until("all are acked", async || {
        client.describe_subscription("orders", "billing").await.unwrap().acked == 200
    })
    .await;
}

#[tokio::test]
async fn the_window_bounds_what_is_held_and_can_change() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..20)).await.unwrap();
    let options = ConsumeOptions { window_messages: 2, ..ConsumeOptions::default() };
    let mut consumer = client.consume("orders", "billing", options).await.unwrap();
    let held = [next(&mut consumer).await, next(&mut consumer).await];
    let described = client.describe_subscription("orders", "billing").await.unwrap();
    assert_eq!(described.leased, 2);
    assert!(described.why.starts_with("no_credit:"), "{}", described.why);
    consumer.set_window(4, 1 << 20);
    let more = [next(&mut consumer).await, next(&mut consumer).await];
    assert_eq!(more.map(|delivery| delivery.offset()), [2, 3]);
    for delivery in held {
        delivery.settle(Outcome::Release).await.unwrap();
    }
    assert_eq!(next(&mut consumer).await.attempt(), 1);
}

#[tokio::test]
async fn work_that_takes_longer_than_the_lease_keeps_its_message() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..1)).await.unwrap();
    let mut consumer = client.consume("orders", "billing", short_lease()).await.unwrap();
    let delivery = next(&mut consumer).await;
    delivery.keep_during(tokio::time::sleep(Duration::from_millis(1500))).await;
    delivery.ack().await.unwrap();
    assert_eq!(client.describe_subscription("orders", "billing").await.unwrap().redelivered, 0);
}

#[tokio::test]
async fn messages_nobody_takes_use_up_no_attempts() {
    let house = House::open();
    let client = house.client().await;
    let receipts = client.publish_batch("orders", numbered(0..5)).await.unwrap();
    let last = receipts.last().unwrap().as_ref().unwrap().id.clone();
    let mut consumer = client.consume("orders", "billing", short_lease()).await.unwrap();
    // Attempts enough for dead letters, if they were counted.
    until("it has been handed out five times", async || {
        let steps = client.trace_message(&last).await.unwrap().steps;
        steps.iter().filter(|step| step.what.starts_with("handed to member")).count() >= 5
    })
    .await;
    for offset in 0..5 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.offset(), delivery.attempt()), (offset, 1));
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_consumer_ends_with_its_subscription_and_does_not_make_it_anew() {
    let mut house = House::open();
    let client = house.client().await;
    let missing = client.consume("nothing", "billing", ConsumeOptions::default()).await.unwrap_err();
    assert_eq!((missing.code(), missing.reason()), (Code::NotFound, "TOPIC_NOT_FOUND"));
    client.create_topic("orders", TopicSettings::default()).await.unwrap();
    let strict = ConsumeOptions { must_exist: true, ..ConsumeOptions::default() };
    let missing = client.consume("orders", "billing", strict).await.unwrap_err();
    assert_eq!(missing.reason(), "SUBSCRIPTION_NOT_FOUND");
    let none = ConsumeOptions { window_messages: 0, ..ConsumeOptions::default() };
    assert_eq!(client.consume("orders", "billing", none).await.unwrap_err().reason(), "INVALID_OPTION");

    let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    client.delete_subscription("orders", "billing").await.unwrap();
    let error = consumer.next().await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::NotFound, "SUBSCRIPTION_DELETED"));
    // It stays so, and closing tells it again.
    assert_eq!(consumer.next().await.unwrap_err(), error);
    assert_eq!(consumer.close().await.unwrap_err(), error);

    // Deleted while the doors are closed: the reconnection must not create it.
    let consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    house.close_doors().await;
    let orders = ratatoskr_broker::SubscriptionRef {
        topic: ratatoskr_broker::TopicName::parse("orders").unwrap(),
        name: ratatoskr_broker::SubscriptionName::parse("billing").unwrap(),
    };
    house.broker.delete_subscription(&orders).await.unwrap();
    house.open_doors();
    let mut messages = std::pin::pin!(consumer.into_stream());
    assert_eq!(messages.next().await.unwrap().unwrap_err().reason(), "SUBSCRIPTION_NOT_FOUND");
    assert!(messages.next().await.is_none());
}

#[tokio::test]
async fn a_consumer_gives_up_after_as_many_failures_as_it_may_have() {
    let mut house = House::open();
    let client = house.client().await;
    client.create_topic("orders", TopicSettings::default()).await.unwrap();
    let backoff = Backoff { initial: Duration::from_millis(1), attempts_max: 3, ..Backoff::default() };
    let options = ConsumeOptions { backoff, ..ConsumeOptions::default() };
    let mut consumer = client.consume("orders", "billing", options).await.unwrap();
    house.close_doors().await;
    assert_eq!(consumer.next().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_program_that_stood_still_does_not_blame_the_broker() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..1)).await.unwrap();
    let options = ConsumeOptions { heartbeat: Duration::from_millis(100), ..ConsumeOptions::default() };
    let mut consumer = client.consume("orders", "billing", options).await.unwrap();
    let delivery = next(&mut consumer).await;
    // Nothing of this program runs meanwhile: the consumer's task neither.
    std::thread::sleep(Duration::from_secs(1));
    // The same stream goes on: the delivery is still good.
    delivery.ack().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_goes_silent_without_breaking_is_replaced() {
    let house = House::open();
    let direct = house.client().await;
    direct.publish_batch("orders", numbered(0..1)).await.unwrap();
    let silent = Arc::new(AtomicBool::new(false));
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap().to_string();
    tokio::spawn(pass_on(door, direct.address().to_owned(), silent.clone()));

    let client = Client::connect(&address).await.unwrap();
    // The broker cannot know that its member is gone: what it sends there comes again when the lease ends.
    let mut options = ConsumeOptions { heartbeat: Duration::from_millis(200), ..short_lease() };
    options.settings.attempts_max = Some(0);
    options.settings.retry_delay_ms = Some(0);
    let mut consumer = client.consume("orders", "billing", options).await.unwrap();
    next(&mut consumer).await.ack().await.unwrap();
    silent.store(true, Ordering::Relaxed);
    direct.publish_batch("orders", numbered(1..2)).await.unwrap();
    assert_eq!(next(&mut consumer).await.payload(), "1");
}

/// Passes connections on to the broker. When it falls silent, those there are stay open and say no more; new ones work.
async fn pass_on(door: tokio::net::TcpListener, broker: String, silent: Arc<AtomicBool>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    loop {
        let (client, _) = door.accept().await.unwrap();
        let server = tokio::net::TcpStream::connect(&broker).await.unwrap();
        let born_silent = silent.load(Ordering::Relaxed);
        let (client, server) = (client.into_split(), server.into_split());
        for (mut from, mut to) in [(client.0, server.1), (server.0, client.1)] {
            let silent = silent.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                loop {
                    let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
                    if silent.load(Ordering::Relaxed) && !born_silent {
                        return std::future::pending().await;
                    }
                    to.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
    }
}

//! Durable subscriptions when things happen at once, or fail for a moment: nobody waits for ever, nothing confirmed comes again,
//! nothing is lost.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ratatoskr_broker::{
    Broker, Delivered, Durability, Fate, Health, JoinOptions, Member, MemberEnd, NewMessage, Outcome, Seek,
    Start, SubscriptionSettings, Token, TopicSettings, Window,
};
use support::{Faulty, PATIENCE, named, open, open_on, publish, topic, until};

async fn join(broker: &Broker, settings: SubscriptionSettings) -> Member {
    let window = Window { messages: 200, ..Window::default() };
    let create = Some((Start::Earliest, settings));
    broker.join(&named("billing"), JoinOptions { member: "worker".to_owned(), window, create }).await.unwrap()
}

async fn next(member: &mut Member, count: usize) -> Vec<Delivered> {
    let mut delivered = Vec::new();
    while delivered.len() < count {
        let batch = tokio::time::timeout(PATIENCE, member.next_batch()).await;
        delivered.extend(batch.expect("deliveries come in time").unwrap());
    }
    delivered
}

async fn settle(broker: &Broker, settlements: Vec<(Token, Outcome)>) -> Vec<Fate> {
    let fates = broker.settle(settlements).unwrap();
    tokio::time::timeout(PATIENCE, fates).await.expect("nobody waits for ever")
}

fn rejected() -> Outcome {
    Outcome::Reject { reason: "no".to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describing_a_subscription_while_its_topic_goes_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    for _ in 0..40 {
        broker.create_topic(&topic(), TopicSettings::default()).await.unwrap();
        let settings = SubscriptionSettings::default();
        broker.create_subscription(&named("billing"), Start::Earliest, settings).await.unwrap();
        let describing = (0..8).map(|_| {
            let broker = broker.clone();
            tokio::spawn(
                async move { while broker.describe_subscription(&named("billing")).await.is_ok() {} },
            )
        });
        let describing: Vec<_> = describing.collect();
        broker.delete_topic(&topic()).await.unwrap();
        for task in describing {
            tokio::time::timeout(PATIENCE, task).await.expect("it ends").unwrap();
        }
        assert_eq!(broker.health(), Health::Serving);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_while_a_subscription_is_moved_are_answered_and_hold_if_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 3_000).await;
    let mut member = join(&broker, SubscriptionSettings::default()).await;
    let confirmed = Arc::new(Mutex::new(HashSet::new()));
    let is_done = Arc::new(AtomicBool::new(false));
    let skipping = {
        let (broker, is_done) = (broker.clone(), is_done.clone());
        tokio::spawn(async move {
            while !is_done.load(Ordering::Relaxed) {
                broker.seek_subscription(&named("billing"), Seek::Skip(1)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let mut acking = Vec::new();
    // When all is settled nothing comes any more.
    while let Ok(batch) = tokio::time::timeout(Duration::from_secs(1), member.next_batch()).await {
        for delivered in batch.unwrap() {
            let offset = delivered.message.offset;
            assert!(!confirmed.lock().unwrap().contains(&offset), "{offset} was confirmed and comes again");
            let fates = member.settle(vec![(delivered.token, Outcome::Ack)]).unwrap();
            let confirmed = confirmed.clone();
            acking.push(tokio::spawn(async move {
                let fates = tokio::time::timeout(PATIENCE, fates).await.expect("nobody waits for ever");
                if fates[0] == Fate::Settled {
                    confirmed.lock().unwrap().insert(offset);
                }
            }));
        }
    }
    is_done.store(true, Ordering::Relaxed);
    skipping.await.unwrap();
    for task in acking {
        task.await.unwrap();
    }
    let description = broker.describe_subscription(&named("billing")).await.unwrap();
    assert_eq!((description.acked + description.passed, description.lag_messages), (3_000, 0));
    assert_eq!(description.acked, confirmed.lock().unwrap().len() as u64);
}

#[tokio::test]
async fn settlements_under_way_when_a_subscription_is_deleted_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 50).await;
    let mut member = join(&broker, SubscriptionSettings::default()).await;
    let delivered = next(&mut member, 50).await;
    let (acks, rejects) = delivered.split_at(25);
    let acks = broker.settle(acks.iter().map(|one| (one.token, Outcome::Ack)).collect()).unwrap();
    let rejects = broker.settle(rejects.iter().map(|one| (one.token, rejected())).collect()).unwrap();
    broker.delete_subscription(&named("billing")).await.unwrap();
    for fates in [tokio::time::timeout(PATIENCE, acks).await, tokio::time::timeout(PATIENCE, rejects).await] {
        assert_eq!(fates.expect("nobody waits for ever").len(), 25);
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_for_a_moment_still_becomes_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    {
        let broker = open(folder.path());
        publish(&broker, 2).await;
        broker.shutdown().unwrap();
    }
    let disk = Faulty::default();
    let broker = open_on(&disk, folder.path());
    let mut member = join(&broker, SubscriptionSettings::default()).await;
    let delivered = next(&mut member, 2).await;
    disk.no_segments.store(true, Ordering::Relaxed);
    let fates = settle(&broker, vec![(delivered[0].token, rejected())]).await;
    assert!(
        matches!(&fates[0], Fate::Unavailable(reason) if reason.to_string().contains("too many")),
        "{fates:?}"
    );
    disk.no_segments.store(false, Ordering::Relaxed);
    // Its holder may try again, as told.
    assert_eq!(settle(&broker, vec![(delivered[0].token, rejected())]).await, [Fate::Settled]);
    until(&broker, "billing", |description| description.dead == 1 && description.expired == 0).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_for_a_moment_comes_again_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    {
        let broker = open(folder.path());
        publish(&broker, 3).await;
        broker.shutdown().unwrap();
    }
    let disk = Faulty::default();
    let broker = open_on(&disk, folder.path());
    let mut member = join(&broker, SubscriptionSettings::default()).await;
    let delivered = next(&mut member, 3).await;
    disk.no_segments.store(true, Ordering::Relaxed);
    // Delivered again it is read again, which fails.
    assert_eq!(settle(&broker, vec![(delivered[1].token, Outcome::Release)]).await, [Fate::Settled]);
    assert!(tokio::time::timeout(Duration::from_millis(300), member.next_batch()).await.is_err());
    disk.no_segments.store(false, Ordering::Relaxed);
    let again = next(&mut member, 1).await;
    assert_eq!((again[0].message.offset, again[0].attempt), (1, 1));
    until(&broker, "billing", |description| description.expired == 0 && description.leased == 3).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_goes_back_before_its_lease_ends() {
    let folder = tempfile::tempdir().unwrap();
    {
        let broker = open(folder.path());
        publish(&broker, 1).await;
        broker.shutdown().unwrap();
    }
    let disk = Faulty::default();
    let broker = open_on(&disk, folder.path());
    let once = SubscriptionSettings { lease_ms: 300, attempts_max: 1, ..SubscriptionSettings::default() };
    let mut member = join(&broker, once).await;
    let delivered = next(&mut member, 1).await;
    disk.no_segments.store(true, Ordering::Relaxed);
    assert_eq!(settle(&broker, vec![(delivered[0].token, Outcome::Release)]).await, [Fate::Settled]);
    // Longer than the lease, several times over: its only attempt is not used up by what the member never saw.
    assert!(tokio::time::timeout(Duration::from_secs(1), member.next_batch()).await.is_err());
    disk.no_segments.store(false, Ordering::Relaxed);
    assert_eq!(next(&mut member, 1).await[0].attempt, 1);
    until(&broker, "billing", |description| description.dead == 0 && description.leased == 1).await;
}

#[tokio::test]
async fn what_a_vanished_member_could_not_read_has_used_up_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    {
        let broker = open(folder.path());
        publish(&broker, 2).await;
        broker.shutdown().unwrap();
    }
    let disk = Faulty::default();
    let broker = open_on(&disk, folder.path());
    let mut member = join(&broker, SubscriptionSettings::default()).await;
    let delivered = next(&mut member, 2).await;
    disk.no_segments.store(true, Ordering::Relaxed);
    assert_eq!(settle(&broker, vec![(delivered[1].token, Outcome::Release)]).await, [Fate::Settled]);
    assert!(tokio::time::timeout(Duration::from_millis(200), member.next_batch()).await.is_err());
    drop(member);
    disk.no_segments.store(false, Ordering::Relaxed);
    let mut member = join(&broker, SubscriptionSettings::default()).await;
    let unread = next(&mut member, 1).await;
    assert_eq!((unread[0].message.offset, unread[0].attempt), (1, 1));
    assert_eq!(settle(&broker, vec![(unread[0].token, Outcome::Ack)]).await, [Fate::Settled]);
    // The one it held may be what it vanished over: it comes alone.
    let read = next(&mut member, 1).await;
    assert_eq!((read[0].message.offset, read[0].attempt), (0, 2));
}

#[tokio::test]
async fn a_member_that_goes_because_the_broker_stops_has_used_up_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let broker = open_on(&disk, folder.path());
    publish(&broker, 2).await;
    let once = SubscriptionSettings { attempts_max: 1, ..SubscriptionSettings::default() };
    let mut member = join(&broker, once).await;
    let delivered = next(&mut member, 2).await;
    // The broker waits for this one before it stops.
    disk.slow_sync.store(true, Ordering::Relaxed);
    let acked = broker.settle(vec![(delivered[0].token, Outcome::Ack)]).unwrap();
    let stopping = {
        let broker = broker.clone();
        std::thread::spawn(move || broker.shutdown().unwrap())
    };
    let end = tokio::time::timeout(PATIENCE, member.next_batch()).await.unwrap();
    assert_eq!(end.unwrap_err(), MemberEnd::ShuttingDown);
    drop(member);
    assert_eq!(tokio::time::timeout(PATIENCE, acked).await.unwrap(), [Fate::Settled]);
    stopping.join().unwrap();
    drop(broker);
    let broker = open(folder.path());
    until(&broker, "billing", |description| (description.dead, description.acked) == (0, 1)).await;
    let mut member = join(&broker, SubscriptionSettings::default()).await;
    assert_eq!(next(&mut member, 1).await[0].attempt, 1);
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_moment_costs_no_lease_and_no_count() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Faulty::default();
    let broker = open_on(&disk, folder.path());
    let settings =
        SubscriptionSettings { filter: "key == 'x'".to_owned(), ..SubscriptionSettings::default() };
    publish(&broker, 100).await;
    broker.publish(&topic(), NewMessage { key: "x".to_owned(), ..NewMessage::new("wanted") }).await.unwrap();
    // As a pull does: a member that goes and leaves what it holds leased.
    let mut member = join(&broker, settings.clone()).await;
    let delivered = next(&mut member, 1).await;
    member.detach();
    disk.no_room.store(true, Ordering::Relaxed);
    let ack = vec![(delivered[0].token, Outcome::Ack)];
    assert!(matches!(settle(&broker, ack.clone()).await[0], Fate::Unavailable(_)));
    disk.no_room.store(false, Ordering::Relaxed);
    let started = Instant::now();
    loop {
        match &settle(&broker, ack.clone()).await[0] {
            Fate::Settled => break,
            Fate::Unavailable(_) if started.elapsed() < PATIENCE => {}
            other => panic!("the lease goes on: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was passed over is written in the end, though its first round was refused.
    until(&broker, "billing", |description| description.lag_messages == 0 && description.passed == 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_subscription_hears_of_messages_at_once_whatever_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let settings = TopicSettings { durability: Durability::Memory, ..TopicSettings::default() };
    broker.create_topic(&topic(), settings).await.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (broker, is_done) = (broker.clone(), is_done.clone());
        tokio::spawn(async move {
            while !is_done.load(Ordering::Relaxed) {
                broker.publish(&topic(), NewMessage::new("x")).await.unwrap();
            }
        })
    };
    for round in 0..20 {
        let old = named(&format!("old{round}"));
        broker.create_subscription(&old, Start::Latest, SubscriptionSettings::default()).await.unwrap();
        broker.delete_subscription(&old).await.unwrap();
    }
    is_done.store(true, Ordering::Relaxed);
    publishing.await.unwrap();
    let settings = SubscriptionSettings::default();
    broker.create_subscription(&named("billing"), Start::Latest, settings.clone()).await.unwrap();
    let mut member = join(&broker, settings).await;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let started = Instant::now();
        broker.publish(&topic(), NewMessage::new("y")).await.unwrap();
        let delivered = next(&mut member, 1).await;
        waits.push(started.elapsed());
        settle(&broker, vec![(delivered[0].token, Outcome::Ack)]).await;
    }
    waits.sort_unstable();
    // Told, it takes milliseconds; not told, the look once a second: half a second and more in the middle.
    assert!(waits[4] < Duration::from_millis(400), "{waits:?}");
}

#[tokio::test]
async fn order_holds_from_the_moment_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let keyed = |number: usize| NewMessage { key: "k".to_owned(), ..NewMessage::new(number.to_string()) };
    broker.publish_batch(&topic(), (0..4).map(keyed).collect()).await.unwrap();
    let unordered = SubscriptionSettings { ordered: false, ..SubscriptionSettings::default() };
    let mut member = join(&broker, unordered).await;
    let before = next(&mut member, 4).await;
    let change = |settings: &SubscriptionSettings| SubscriptionSettings { ordered: true, ..settings.clone() };
    broker.change_subscription(&named("billing"), change).await.unwrap();
    assert_eq!(settle(&broker, vec![(before[0].token, Outcome::Ack)]).await, [Fate::Stale]);
    for offset in 0..4 {
        let delivered = next(&mut member, 1).await;
        assert_eq!((delivered.len(), delivered[0].message.offset), (1, offset));
        assert_eq!(settle(&broker, vec![(delivered[0].token, Outcome::Ack)]).await, [Fate::Settled]);
    }
}

#[tokio::test]
async fn a_subscription_created_while_its_topic_goes_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    for _ in 0..30 {
        broker.create_topic(&topic(), TopicSettings::default()).await.unwrap();
        let name = named("billing");
        let creating = broker.create_subscription(&name, Start::Earliest, SubscriptionSettings::default());
        let topic = topic();
        let (_, deleted) = tokio::join!(creating, broker.delete_topic(&topic));
        deleted.unwrap();
    }
    broker.shutdown().unwrap();
    drop(broker);
    let broker = open(folder.path());
    broker.create_topic(&topic(), TopicSettings::default()).await.unwrap();
    assert!(broker.list_subscriptions(None).is_empty());
    let settings = SubscriptionSettings::default();
    broker.create_subscription(&named("billing"), Start::Earliest, settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_join_a_new_subscription_at_once_all_join() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 1).await;
    for round in 0..20 {
        let name = named(&format!("new{round}"));
        let joining = (0..4).map(|_| {
            let (broker, name) = (broker.clone(), name.clone());
            let create = Some((Start::Earliest, SubscriptionSettings::default()));
            tokio::spawn(
                async move { broker.join(&name, JoinOptions { create, ..JoinOptions::default() }).await },
            )
        });
        let joining: Vec<_> = joining.collect();
        for joined in joining {
            joined.await.unwrap().unwrap();
        }
    }
}

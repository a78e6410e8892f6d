//! Publishing with conditions, on a real disk: no duplicates, the expected offset, not before its time.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, Delivery, Durability, Message, NewMessage, PublishError, Receipt, SCHEDULED_ID,
    Start, SubscribeOptions, TopicName, TopicSettings,
};
use ratatoskr_log::{Clock, RealClock, RealDisk};

/// A clock that goes on by itself, and can be set.
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        RealClock.now_ms().wrapping_add(self.0.load(Ordering::Relaxed))
    }

    fn steady_ms(&self) -> u64 {
        RealClock.steady_ms().wrapping_add(self.0.load(Ordering::Relaxed))
    }
}

impl SetClock {
    fn pass(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn open(folder: &Path) -> (Broker, Arc<SetClock>) {
    open_at(folder, 0)
}

fn open_at(folder: &Path, ahead_ms: u64) -> (Broker, Arc<SetClock>) {
    let clock = Arc::new(SetClock(AtomicU64::new(ahead_ms)));
    let broker = Broker::open_on(&BrokerConfig::new(folder), Arc::new(RealDisk), clock.clone()).unwrap();
    (broker, clock)
}

fn with_id(id: &str) -> NewMessage {
    NewMessage { dedup_id: id.to_owned(), ..NewMessage::new(id.to_owned()) }
}

fn later(payload: &str, delivery: Delivery) -> NewMessage {
    NewMessage { delivery, ..NewMessage::new(payload.to_owned()) }
}

fn next_offset(broker: &Broker) -> u64 {
    broker.stats(&topic()).unwrap().next_offset
}

/// The topic's messages from the first on, as many as asked for.
async fn read(broker: &Broker, count: usize) -> Vec<Message> {
    let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut subscription = broker.subscribe(&topic(), options).unwrap();
    let mut messages = Vec::new();
    while messages.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
        messages.push(next.expect("messages come in time").unwrap());
    }
    messages
}

fn payloads(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.payload().to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn a_second_message_with_an_id_is_not_published_and_gets_the_firsts_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let first = broker.publish(&topic(), with_id("a")).await.unwrap();
    assert!(!first.duplicate);
    let again = broker.publish(&topic(), with_id("a")).await.unwrap();
    assert_eq!(again, Receipt { duplicate: true, ..first });

    // In a batch: known before, new, and twice within it.
    let batch = ["b", "a", "b", "c"].map(with_id).to_vec();
    let receipts = broker.publish_batch(&topic(), batch).await.unwrap();
    let places: Vec<_> = receipts.iter().map(|receipt| (receipt.offset, receipt.duplicate)).collect();
    assert_eq!(places, [(1, false), (0, true), (1, true), (2, false)]);
    assert_eq!(receipts[2].id, receipts[0].id);

    // Two at once: one of them is first.
    let (broker, topic) = (&broker, &topic());
    let (left, right) =
        tokio::join!(broker.publish(topic, with_id("d")), broker.publish(topic, with_id("d")));
    let (left, right) = (left.unwrap(), right.unwrap());
    assert_eq!((left.id, left.duplicate, right.duplicate), (right.id, false, true));

    // Another topic knows nothing of it, and the window ends.
    let other = TopicName::parse("other").unwrap();
    assert!(!broker.publish(&other, with_id("a")).await.unwrap().duplicate);
    clock.pass(121_000);
    assert!(!broker.publish(topic, with_id("a")).await.unwrap().duplicate);
    assert!(broker.publish(topic, with_id("a")).await.unwrap().duplicate);
    assert_eq!(payloads(&read(broker, 5).await), ["a", "b", "c", "d", "a"]);
}

#[tokio::test]
async fn ids_are_known_after_a_crash_and_after_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let first = {
        let (broker, _) = open(folder.path());
        let first = broker.publish(&topic(), with_id("a")).await.unwrap();
        // As after a crash: no checkpoint is made.
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        let (crashed, _) = open(copy.path());
        assert_eq!(
            crashed.publish(&topic(), with_id("a")).await.unwrap(),
            Receipt { duplicate: true, ..first }
        );
        crashed.shutdown().unwrap();
        broker.shutdown().unwrap();
        first
    };
    let (broker, clock) = open(folder.path());
    assert_eq!(broker.recovery().replayed_records, 0, "the id is in the checkpoint");
    assert_eq!(broker.publish(&topic(), with_id("a")).await.unwrap(), Receipt { duplicate: true, ..first });
    clock.pass(121_000);
    assert!(!broker.publish(&topic(), with_id("a")).await.unwrap().duplicate);
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_memory_topic_forgets_ids_with_its_messages_and_a_window_of_zero_keeps_none() {
    let folder = tempfile::tempdir().unwrap();
    let memory = TopicSettings { durability: Durability::Memory, ..TopicSettings::default() };
    {
        let (broker, _) = open(folder.path());
        broker.create_topic(&topic(), memory).await.unwrap();
        broker.publish(&topic(), with_id("a")).await.unwrap();
        assert!(broker.publish(&topic(), with_id("a")).await.unwrap().duplicate);
        broker.shutdown().unwrap();
    }
    let (broker, _) = open(folder.path());
    assert!(!broker.publish(&topic(), with_id("a")).await.unwrap().duplicate);

    let off = TopicName::parse("off").unwrap();
    let settings = TopicSettings { dedup_window_ms: 0, ..TopicSettings::default() };
    broker.create_topic(&off, settings).await.unwrap();
    for offset in 0..2 {
        let receipt = broker.publish(&off, with_id("a")).await.unwrap();
        assert_eq!((receipt.offset, receipt.duplicate), (offset, false));
    }
    assert_eq!(broker.counters().dedup_ids, 1);
}

#[tokio::test]
async fn what_a_failing_topic_took_back_is_no_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, _) = open(folder.path());
    broker.create_topic(&topic(), TopicSettings::default()).await.unwrap();
    broker.crash_topic(&topic());
    assert!(matches!(broker.publish(&topic(), with_id("a")).await, Err(PublishError::Unavailable(_))));
    let receipt = broker.publish(&topic(), with_id("a")).await.unwrap();
    assert_eq!((receipt.offset, receipt.duplicate), (0, false));
}

#[tokio::test]
async fn a_message_that_would_get_another_offset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, _) = open(folder.path());
    let expecting = |offset, id: &str| NewMessage { expected_offset: Some(offset), ..with_id(id) };
    assert_eq!(broker.publish(&topic(), expecting(0, "a")).await.unwrap().offset, 0);
    let other = PublishError::OtherOffset { expected: 0, next_offset: 1 };
    assert_eq!(broker.publish(&topic(), expecting(0, "b")).await, Err(other.clone()));
    assert_eq!(other.to_string(), "expected_offset is 0, and the topic goes on at 1; nothing was published");
    // A retry is told where its first try went, though the topic has gone on.
    assert!(broker.publish(&topic(), expecting(0, "a")).await.unwrap().duplicate);
    // Of a batch, all or none; duplicates take no place.
    let batch = |first| vec![with_id("a"), expecting(first, "c"), expecting(first + 1, "d")];
    assert!(broker.publish_batch(&topic(), batch(2)).await.is_err());
    assert_eq!(next_offset(&broker), 1);
    let receipts = broker.publish_batch(&topic(), batch(1)).await.unwrap();
    assert_eq!(receipts.iter().map(|receipt| receipt.offset).collect::<Vec<_>>(), [0, 1, 2]);
    // Of several who race for one place, one gets it.
    let racing: Vec<_> = (0..8)
        .map(|racer| {
            let (broker, message) = (broker.clone(), expecting(3, &format!("racer {racer}")));
            tokio::spawn(async move { broker.publish(&topic(), message).await })
        })
        .collect();
    let mut won = 0;
    for racer in racing {
        won += usize::from(racer.await.unwrap().is_ok());
    }
    assert_eq!((won, next_offset(&broker)), (1, 4));
}

#[tokio::test]
async fn a_message_is_put_into_its_topic_when_it_is_due_and_tells_its_first_id() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let hour = later("in an hour", Delivery::After(3_600_000));
    let receipt = broker.publish(&topic(), NewMessage { key: "k".to_owned(), ..hour }).await.unwrap();
    assert_eq!((receipt.scheduled, receipt.offset), (true, Receipt::NO_OFFSET));
    let at_ms = clock.now_ms() + 1_800_000;
    broker.publish(&topic(), later("in half an hour", Delivery::At(at_ms))).await.unwrap();
    let past = broker.publish(&topic(), later("at once", Delivery::At(at_ms - 3_600_000))).await.unwrap();
    assert_eq!((past.scheduled, past.offset), (false, 0));
    assert_eq!(broker.counters().scheduled_messages, 2);
    assert_eq!(broker.list_topics(), [topic()], "the schedule is nobody's topic");
    let life = broker.trace_message(receipt.id).await.unwrap().unwrap();
    assert!(life.steps[1].what.starts_with("now waits for "), "{life:?}");
    clock.pass(1_801_000);
    assert_eq!(payloads(&read(&broker, 2).await), ["at once", "in half an hour"]);
    clock.pass(1_801_000);
    let messages = read(&broker, 3).await;
    let last = &messages[2];
    assert_eq!((&last.payload()[..], last.key(), last.offset), (&b"in an hour"[..], "k", 2));
    assert_eq!(last.metadata().collect::<Vec<_>>(), [(SCHEDULED_ID, receipt.id.to_string().as_str())]);
    assert_eq!(broker.counters().scheduled_messages, 0);
}

#[tokio::test]
async fn a_batch_with_messages_for_later_happens_wholly_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let hour = || later("later", Delivery::After(3_600_000));
    let expecting = |offset| NewMessage { expected_offset: Some(offset), ..NewMessage::new("now") };
    let refused = broker.publish_batch(&topic(), vec![hour(), expecting(5)]).await;
    assert_eq!(refused, Err(PublishError::OtherOffset { expected: 5, next_offset: 0 }));
    assert_eq!(broker.counters().scheduled_messages, 0);
    let receipts = broker.publish_batch(&topic(), vec![hour(), expecting(0), hour()]).await.unwrap();
    let scheduled: Vec<_> = receipts.iter().map(|receipt| (receipt.scheduled, receipt.offset)).collect();
    assert_eq!(scheduled, [(true, Receipt::NO_OFFSET), (false, 0), (true, Receipt::NO_OFFSET)]);
    clock.pass(3_601_000);
    assert_eq!(payloads(&read(&broker, 3).await), ["now", "later", "later"]);
}

#[tokio::test]
async fn large_messages_that_are_due_at_once_come_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let at_ms = clock.now_ms() + 60_000;
    for number in 0..20_u8 {
        let message = NewMessage { delivery: Delivery::At(at_ms), ..NewMessage::new(vec![number; 900_000]) };
        broker.publish(&topic(), message).await.unwrap();
    }
    clock.pass(61_000);
    let numbers: Vec<u8> = read(&broker, 20).await.iter().map(|message| message.payload()[0]).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_waits_survives_crash_and_restart_and_comes_once() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    {
        let (broker, clock) = open(folder.path());
        for delay_s in [100, 200, 300] {
            let delivery = Delivery::After(delay_s * 1000);
            broker.publish(&topic(), later(&delay_s.to_string(), delivery)).await.unwrap();
        }
        clock.pass(101_000);
        assert_eq!(payloads(&read(&broker, 1).await), ["100"]);
        copy_folder(folder.path(), copy.path());
        broker.shutdown().unwrap();
    }
    for folder in [folder.path(), copy.path()] {
        let (broker, clock) = open_at(folder, 101_000);
        assert_eq!(broker.counters().scheduled_messages, 2);
        clock.pass(201_000);
        assert_eq!(payloads(&read(&broker, 3).await), ["100", "200", "300"]);
        // What comes now comes after everything the schedule could have done twice.
        broker.publish(&topic(), later("last", Delivery::After(1))).await.unwrap();
        assert_eq!(payloads(&read(&broker, 4).await)[3], "last");
        broker.shutdown().unwrap();
    }
}

#[tokio::test]
async fn a_scheduled_message_has_a_dedup_id_too_and_goes_with_its_topic() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let waiting = NewMessage { delivery: Delivery::After(60_000), ..with_id("a") };
    let first = broker.publish(&topic(), waiting.clone()).await.unwrap();
    let again = broker.publish(&topic(), waiting).await.unwrap();
    assert_eq!(again, Receipt { duplicate: true, ..first });
    assert!(broker.publish(&topic(), with_id("a")).await.unwrap().duplicate);
    let doomed = TopicName::parse("doomed").unwrap();
    broker.publish(&doomed, later("never", Delivery::After(1_000))).await.unwrap();
    broker.delete_topic(&doomed).await.unwrap();
    clock.pass(61_000);
    assert_eq!(payloads(&read(&broker, 1).await), ["a"]);
    assert_eq!((broker.counters().scheduled_messages, broker.topic_exists(&doomed)), (0, false));
}

/// Waits until so many messages are counted as scheduled.
async fn until_scheduled(broker: &Broker, count: u64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while broker.counters().scheduled_messages != count {
        let counted = broker.counters().scheduled_messages;
        assert!(tokio::time::Instant::now() < deadline, "{counted} are counted as scheduled, not {count}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_is_scheduled_for_a_topic_goes_when_the_topic_goes() {
    const YEARS_MS: u64 = 3 * 365 * 24 * 60 * 60 * 1000;
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (broker, _) = open(folder.path());
    let doomed = TopicName::parse("doomed").unwrap();
    let never = || (0..100).map(|_| later("never", Delivery::After(YEARS_MS))).collect();
    broker.publish_batch(&doomed, never()).await.unwrap();
    for payload in ["first", "second"] {
        broker.publish(&topic(), later(payload, Delivery::After(300_000))).await.unwrap();
        broker.publish_batch(&doomed, never()).await.unwrap();
    }
    assert_eq!(broker.counters().scheduled_messages, 302);
    broker.delete_topic(&doomed).await.unwrap();
    until_scheduled(&broker, 2).await;
    // Another topic of that name has nothing to do with it.
    broker.publish(&doomed, later("anew", Delivery::After(300_000))).await.unwrap();
    until_scheduled(&broker, 3).await;
    copy_folder(folder.path(), copy.path());
    broker.shutdown().unwrap();
    for folder in [folder.path(), copy.path()] {
        let (broker, clock) = open_at(folder, 1_000);
        until_scheduled(&broker, 3).await;
        clock.pass(301_000);
        assert_eq!(payloads(&read(&broker, 2).await), ["first", "second"]);
        until_scheduled(&broker, 0).await;
        clock.pass(YEARS_MS);
        broker.publish(&topic(), later("last", Delivery::After(1_000))).await.unwrap();
        clock.pass(2_000);
        assert_eq!(payloads(&read(&broker, 3).await)[2], "last");
        assert_eq!(broker.stats(&doomed).unwrap().next_offset, 1);
        broker.shutdown().unwrap();
    }
}

#[tokio::test]
async fn a_topic_that_fails_does_not_hold_up_what_is_due_in_others() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let failing = TopicName::parse("failing").unwrap();
    broker.publish(&failing, later("postponed", Delivery::After(60_000))).await.unwrap();
    broker.publish(&topic(), later("in time", Delivery::After(60_000))).await.unwrap();
    broker.crash_topic(&failing);
    clock.pass(61_000);
    assert_eq!(payloads(&read(&broker, 1).await), ["in time"]);
    clock.pass(10_000);
    let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut subscription = broker.subscribe(&failing, options).unwrap();
    let message = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap().unwrap();
    assert_eq!(&message.payload()[..], b"postponed");
}

#[tokio::test]
async fn thousands_of_scheduled_messages_come_in_order_of_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let start_ms = clock.now_ms() + 100_000;
    let mut random = fastrand::Rng::with_seed(7);
    let mut times: Vec<u64> = (0..5_000).map(|_| start_ms + random.u64(..50_000)).collect();
    for times in times.chunks(1_000) {
        let messages = times.iter().map(|at| later(&at.to_string(), Delivery::At(*at))).collect();
        broker.publish_batch(&topic(), messages).await.unwrap();
    }
    clock.pass(160_000);
    times.sort_unstable();
    let expected: Vec<String> = times.iter().map(u64::to_string).collect();
    assert_eq!(payloads(&read(&broker, 5_000).await), expected);
}

#[tokio::test]
async fn terms_out_of_range_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, clock) = open(folder.path());
    let refusal = async |message| broker.publish(&topic(), message).await.unwrap_err().to_string();
    let long = NewMessage { dedup_id: "d".repeat(257), ..NewMessage::default() };
    assert_eq!(refusal(long).await, "dedup_id has 257 bytes; at most 256 are allowed");
    // Microseconds are a common slip.
    let far = later("", Delivery::At(clock.now_ms() * 1000));
    assert!(refusal(far).await.starts_with("deliver_at_ms lies "));
    let both = NewMessage { expected_offset: Some(1), ..later("", Delivery::After(1)) };
    assert!(refusal(both).await.starts_with("expected_offset cannot be given together"));
    let settings = TopicSettings { dedup_window_ms: 604_800_001, ..TopicSettings::default() };
    let refused = broker.create_topic(&topic(), settings).await.unwrap_err().to_string();
    assert_eq!(refused, "setting dedup_window_ms is 604800001; allowed are 0 to 604800000 ms (7 days)");
}

//! Scans in process, on a real disk: peeks and listings that find nothing, and those who read beside them.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use ratatoskr_broker::limits::{SCAN_PAGE_BYTES_MAX, SCAN_STEP_BYTES, SCANS_AT_ONCE};
use ratatoskr_broker::{
    Broker, BrokerConfig, DeadLetterQuery, Filter, JoinOptions, NewMessage, Outcome, Resolution, Start,
    SubscribeOptions, SubscriptionName, SubscriptionRef, SubscriptionSettings, TopicName, TopicSettings,
    Window,
};

const MESSAGE_BYTES: usize = 512 << 10;
/// Twice what a page examines, and more than memory holds of it.
const MESSAGES: usize = 2 * SCAN_PAGE_BYTES_MAX as usize / MESSAGE_BYTES;

fn named(topic: &str, name: &str) -> SubscriptionRef {
    SubscriptionRef { topic: TopicName::parse(topic).unwrap(), name: SubscriptionName::parse(name).unwrap() }
}

/// With the smallest memory, so that old messages are read from disk.
fn open(folder: &Path) -> Broker {
    Broker::open(BrokerConfig { memory: 64 << 20, ..BrokerConfig::new(folder) }).unwrap()
}

async fn publish(broker: &Broker, topic: &str, messages: usize) {
    let topic = TopicName::parse(topic).unwrap();
    for number in 0..messages {
        let metadata = vec![("number".to_owned(), number.to_string())];
        let message = NewMessage { metadata, ..NewMessage::new(vec![7; MESSAGE_BYTES]) };
        broker.publish(&topic, message).await.unwrap();
    }
}

async fn create(broker: &Broker, name: &SubscriptionRef, filter: &str) {
    let settings = SubscriptionSettings { filter: filter.to_owned(), ..SubscriptionSettings::default() };
    broker.create_subscription(name, Start::Earliest, settings).await.unwrap();
}

#[tokio::test]
async fn a_peek_that_finds_nothing_ends_after_a_page_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let (nothing, last) = (named("large", "nothing"), named("large", "last"));
    publish(&broker, "large", MESSAGES).await;
    create(&broker, &nothing, r#"metadata.number == "none""#).await;
    create(&broker, &last, &format!(r#"metadata.number == "{}""#, MESSAGES - 1)).await;

    let before = broker.counters().scanned_bytes;
    let page = broker.peek_page(&nothing, 0, 10).await.unwrap();
    let examined = broker.counters().scanned_bytes - before;
    assert!(page.items.is_empty());
    let next = page.next_offset.expect("there is more to look at");
    assert!((1..MESSAGES as u64).contains(&next), "{next}");
    let message_bytes = MESSAGE_BYTES as u64 + 100;
    assert!((SCAN_PAGE_BYTES_MAX..=SCAN_PAGE_BYTES_MAX + message_bytes).contains(&examined), "{examined}");

    for (name, wanted) in [(&nothing, 0), (&last, 1)] {
        let (mut from, mut found) = (0, Vec::new());
        loop {
            let page = broker.peek_page(name, from, 10).await.unwrap();
            found.extend(page.items);
            let Some(next) = page.next_offset else { break };
            assert!(next > from, "a page moves on: {next} after {from}");
            from = next;
        }
        assert_eq!(found.len(), wanted);
        assert_eq!(broker.peek_subscription(name, 10).await.unwrap().len(), wanted, "or all at once");
    }
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn a_scan_ends_with_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("large", "nothing");
    publish(&broker, "large", MESSAGES).await;
    create(&broker, &name, r#"metadata.number == "none""#).await;
    let scans: Vec<_> = (0..8)
        .map(|_| {
            let (broker, name) = (broker.clone(), name.clone());
            tokio::spawn(async move { broker.peek_subscription(&name, 10).await })
        })
        .collect();
    let before = broker.counters().scanned_bytes;
    while broker.counters().scanned_bytes == before {
        tokio::task::yield_now().await;
    }
    for scan in &scans {
        scan.abort();
    }
    for scan in scans {
        assert!(scan.await.is_err_and(|error| error.is_cancelled()), "it was not through yet");
    }
    let left = broker.counters().scanned_bytes;
    // Scans take turns, so what those of before had begun is over when these are.
    for _ in 0..SCANS_AT_ONCE {
        let page = broker.peek_page(&name, 0, 10).await.unwrap();
        assert!(page.items.is_empty());
    }
    let message_bytes = MESSAGE_BYTES as u64 + 100;
    let of_pages = SCANS_AT_ONCE as u64 * (SCAN_PAGE_BYTES_MAX + message_bytes);
    let of_steps = SCANS_AT_ONCE as u64 * (SCAN_STEP_BYTES + message_bytes);
    let more = broker.counters().scanned_bytes - left;
    assert!(more <= of_pages + of_steps, "{more} bytes, the pages' own {of_pages}");
    broker.shutdown().unwrap();
}

#[test]
fn scans_leave_the_disk_to_those_who_read() {
    // One thread that may wait for the disk: whoever comes stands behind all that is asked of it.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let broker = open(folder.path());
        let name = named("large", "nothing");
        publish(&broker, "large", MESSAGES).await;
        create(&broker, &name, r#"metadata.number == "none""#).await;
        let never = Filter::parse(r#"metadata.number == "none""#).unwrap();
        let scan = || {
            let (broker, name) = (broker.clone(), name.clone());
            tokio::spawn(async move { broker.peek_subscription(&name, 10).await.unwrap() })
        };
        // Subscribers whose filter passes nothing scan as well.
        let follow = || {
            let (broker, topic, expression) = (broker.clone(), name.topic.clone(), Some(never.clone()));
            let options =
                SubscribeOptions { start: Start::Earliest, expression, ..SubscribeOptions::default() };
            tokio::spawn(async move { broker.subscribe(&topic, options).unwrap().next().await })
        };
        let scans: Vec<_> = (0..20).map(|_| scan()).collect();
        let followers: Vec<_> = (0..20).map(|_| follow()).collect();
        let before = broker.counters().scanned_bytes;
        while broker.counters().scanned_bytes == before {
            tokio::task::yield_now().await;
        }
        let begun = broker.counters().scanned_bytes;
        let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
        let mut reader = broker.subscribe(&name.topic, options).unwrap();
        for offset in 0..5 {
            assert_eq!(reader.next().await.unwrap().offset, offset);
        }
        // A message takes one read, each of which waits for the steps that run, and no more.
        let meanwhile = broker.counters().scanned_bytes - begun;
        let step_bytes = SCAN_STEP_BYTES + MESSAGE_BYTES as u64 + 100;
        let bound = 5 * (1 + SCANS_AT_ONCE as u64) * step_bytes;
        assert!(
            meanwhile <= bound,
            "{meanwhile} bytes were scanned while 5 messages were read, bound {bound}"
        );
        for scan in scans {
            scan.abort();
        }
        for follower in followers {
            follower.abort();
        }
        broker.shutdown().unwrap();
    });
}

#[tokio::test]
async fn dead_letters_are_listed_and_counted_page_by_page_and_resolved_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    broker.create_topic(&name.topic, TopicSettings::default()).await.unwrap();
    let options = JoinOptions {
        member: "worker".to_owned(),
        window: Window { messages: 100, bytes: 64 << 20 },
        create: Some((Start::Earliest, SubscriptionSettings::default())),
    };
    let mut member = broker.join(&name, options).await.unwrap();
    publish(&broker, "orders", MESSAGES).await;
    let mut dead = 0;
    while dead < MESSAGES {
        let batch = tokio::time::timeout(Duration::from_secs(20), member.next_batch()).await;
        let batch = batch.expect("deliveries come in time").unwrap();
        dead += batch.len();
        let reject = |delivered: &ratatoskr_broker::Delivered| {
            (delivered.token, Outcome::Reject { reason: "never".to_owned() })
        };
        member.settle(batch.iter().map(reject).collect()).unwrap().await;
    }

    let last = Filter::parse(&format!(r#"metadata.number == "{}""#, MESSAGES - 1)).unwrap();
    let query = |filter: &Filter, from_offset| DeadLetterQuery {
        filter: Some(filter.clone()),
        from_offset,
        ..DeadLetterQuery::default()
    };
    let page = broker.dead_letters_page(&name, query(&last, 0), 10).await.unwrap();
    assert!(page.items.is_empty(), "the one that is wanted is beyond the first page");
    let next = page.next_offset.expect("there is more to look at");
    let page = broker.dead_letters_page(&name, query(&last, next), 10).await.unwrap();
    assert_eq!(page.items.len(), 1);

    let first = broker.dead_letter_counts_page(&name, DeadLetterQuery::default()).await.unwrap();
    let from_offset = first.next_offset.expect("there are more to count");
    let rest = DeadLetterQuery { from_offset, ..DeadLetterQuery::default() };
    let second = broker.dead_letter_counts_page(&name, rest).await.unwrap();
    let counts = [&first.items[0], &second.items[0]].map(|(_, count)| *count);
    assert!(counts.iter().all(|count| *count > 0) && counts.iter().sum::<u64>() <= MESSAGES as u64);

    let all = broker.resolve_dead_letters(&name, query(&last, 0), Resolution::Drop, None).await.unwrap();
    assert_eq!(all, 1, "what is resolved is looked for to the end");
    let left = broker.count_dead_letters(&name, DeadLetterQuery::default()).await.unwrap();
    assert_eq!(left, [("never".to_owned(), MESSAGES as u64 - 1)]);
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn one_who_scans_much_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("large", "nothing");
    publish(&broker, "large", MESSAGES).await;
    create(&broker, &name, r#"metadata.number == "none""#).await;
    let (alice, bob) = (broker.scanning_as("alice"), broker.scanning_as("bob"));
    let scans: Vec<_> = (0..40)
        .map(|_| {
            let (alice, name) = (alice.clone(), name.clone());
            tokio::spawn(async move { while alice.peek_page(&name, 0, 10).await.is_ok() {} })
        })
        .collect();
    let before = broker.counters().scanned_bytes;
    while broker.counters().scanned_bytes == before {
        tokio::task::yield_now().await;
    }
    let before = broker.counters().scanned_bytes;
    bob.peek_page(&name, 0, 10).await.unwrap();
    let examined = broker.counters().scanned_bytes - before;
    scans.iter().for_each(tokio::task::JoinHandle::abort);
    // A step of bob's for one or two of alice's; with turns by scan it would be one for forty.
    assert!(examined <= 6 * SCAN_PAGE_BYTES_MAX, "{examined} bytes until bob was through");
    broker.shutdown().unwrap();
}

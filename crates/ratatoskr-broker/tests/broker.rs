//! What a user of the broker in process can rely on.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, CreateTopicError, DeleteTopicError, Durability, Health, MEMORY_BYTES_MIN,
    MessageError, NewMessage, OpenError, PublishError, PurgeTopicError, SettingsError, Start, SubscribeError,
    SubscribeOptions, Subscription, SubscriptionEnd, TopicName, TopicSettings, Unavailable, UpdateTopicError,
    limits,
};

fn open(folder: &Path) -> Broker {
    let mut config = BrokerConfig::new(folder);
    config.segment_bytes = 1 << 20;
    config.memory = MEMORY_BYTES_MIN;
    Broker::open(config).unwrap()
}

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn from(start: Start) -> SubscribeOptions {
    SubscribeOptions { start, ..SubscribeOptions::default() }
}

async fn publish(broker: &Broker, topic: &str, text: &str) -> u64 {
    broker.publish(&name(topic), NewMessage::new(text.to_owned())).await.unwrap().offset
}

async fn texts(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let message =
            tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap().unwrap();
        texts.push(String::from_utf8(message.payload().to_vec()).unwrap());
    }
    texts
}

#[tokio::test]
async fn a_published_message_reaches_subscribers_with_everything_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let topic = name("orders");
    publish(&broker, "orders", "before").await;
    let mut subscription = broker.subscribe(&topic, SubscribeOptions::default()).unwrap();
    let message = NewMessage {
        payload: "two".into(),
        key: "k".into(),
        metadata: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
        ..NewMessage::default()
    };
    let receipt = broker.publish(&topic, message).await.unwrap();
    assert_eq!((receipt.offset, receipt.durability), (1, Durability::Fsync));
    let seen = subscription.next().await.unwrap();
    assert_eq!((seen.id, seen.offset, seen.timestamp_ms), (receipt.id, 1, receipt.timestamp_ms));
    assert_eq!((seen.topic.as_str(), seen.key(), &seen.payload()[..]), ("orders", "k", &b"two"[..]));
    assert_eq!(seen.metadata().collect::<Vec<_>>(), [("b", "2"), ("a", "1")]);
    assert_eq!(broker.stats(&topic).unwrap().subscriber_count, 1);
    drop(subscription);
    assert_eq!(broker.stats(&topic).unwrap().subscriber_count, 0);
}

#[tokio::test]
async fn a_subscription_starts_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let topic = name("t");
    for n in 0..5 {
        publish(&broker, "t", &n.to_string()).await;
    }
    let middle = broker.subscribe(&topic, from(Start::Earliest)).unwrap().next().await.unwrap().timestamp_ms;
    let start = |start| broker.subscribe(&topic, from(start));
    assert_eq!(texts(&mut start(Start::Earliest).unwrap(), 5).await, ["0", "1", "2", "3", "4"]);
    assert_eq!(texts(&mut start(Start::Offset(3)).unwrap(), 2).await, ["3", "4"]);
    assert_eq!(texts(&mut start(Start::Time(0)).unwrap(), 1).await, ["0"]);
    assert_eq!(texts(&mut start(Start::Time(middle)).unwrap(), 1).await, ["0"]);
    let mut at_end = [
        start(Start::Offset(5)).unwrap(),
        start(Start::Latest).unwrap(),
        start(Start::Time(u64::MAX)).unwrap(),
    ];
    assert_eq!(start(Start::Offset(6)).err(), Some(SubscribeError::PastEnd { offset: 6, next_offset: 5 }));
    assert_eq!(
        start(Start::Offset(u64::MAX)).err(),
        Some(SubscribeError::PastEnd { offset: u64::MAX, next_offset: 5 })
    );
    publish(&broker, "t", "5").await;
    for subscription in &mut at_end {
        assert_eq!(texts(subscription, 1).await, ["5"]);
    }
}

#[tokio::test]
async fn references_of_subscribers_do_not_follow_from_the_state_of_a_generator() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, "orders", "before").await;
    let reference = || {
        fastrand::seed(7);
        broker.subscribe(&name("orders"), SubscribeOptions::default()).unwrap().reference().to_owned()
    };
    assert_ne!(reference(), reference());
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn filter_credit_and_unsubscribe_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let topic = name("t");
    for n in 0..10 {
        let metadata = vec![("parity".to_owned(), if n % 2 == 0 { "even" } else { "odd" }.to_owned())];
        let message = NewMessage { payload: n.to_string().into(), metadata, ..NewMessage::default() };
        broker.publish(&topic, message).await.unwrap();
    }
    let options = SubscribeOptions {
        filter: vec![("parity".into(), "odd".into())],
        credit: Some(2),
        ..from(Start::Earliest)
    };
    let mut subscription = broker.subscribe(&topic, options).unwrap();
    assert_eq!(texts(&mut subscription, 2).await, ["1", "3"]);
    let more = tokio::time::timeout(Duration::ZERO, subscription.next()).await;
    assert!(more.is_err(), "the credit is used up");
    let reference = subscription.reference().to_owned();
    assert!(broker.add_credit(&topic, &reference, 1));
    assert_eq!(texts(&mut subscription, 1).await, ["5"]);
    assert!(broker.unsubscribe(&topic, &reference));
    assert!(!broker.unsubscribe(&topic, &reference));
    assert_eq!(subscription.next().await.unwrap_err(), SubscriptionEnd::Unsubscribed);
    assert!(!broker.add_credit(&topic, &reference, 1));
}

#[tokio::test]
async fn old_messages_come_from_disk_and_a_restart_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let topic = name("big");
    let text = |n: usize| format!("{n} {}", "x".repeat(1000));
    for batch in 0..50 {
        let messages = (0..100).map(|n| NewMessage::new(text(batch * 100 + n))).collect();
        let receipts = broker.publish_batch(&topic, messages).await.unwrap();
        assert_eq!(receipts[99].offset, batch as u64 * 100 + 99);
    }
    let expected: Vec<_> = (0..5000).map(text).collect();
    let mut subscription = broker.subscribe(&topic, from(Start::Earliest)).unwrap();
    assert_eq!(texts(&mut subscription, 5000).await, expected);
    let ids = broker.describe_topic(&topic).unwrap();
    assert!(ids.segments > 3, "{ids:?}");
    drop((subscription, broker));
    let broker = open(folder.path());
    assert_eq!((broker.recovery().messages, broker.recovery().replayed_records), (5000, 0));
    let mut subscription = broker.subscribe(&topic, from(Start::Offset(10))).unwrap();
    assert_eq!(texts(&mut subscription, 4990).await, expected[10..]);
}

#[tokio::test]
async fn topics_are_created_described_updated_purged_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let topic = name("t");
    let settings = TopicSettings { subscribers_max: 1, ..TopicSettings::default() };
    let created = broker.create_topic(&topic, settings.clone()).await.unwrap();
    assert_eq!((created.settings, created.next_offset), (settings.clone(), 0));
    let again = broker.create_topic(&topic, settings.clone()).await.unwrap_err();
    assert_eq!(again, CreateTopicError::AlreadyExists { name: topic.clone() });
    let longer = TopicSettings { retention_messages: Some(3), ..settings.clone() };
    assert_eq!(broker.update_topic(&topic, longer.clone()).await.unwrap().settings, longer);
    let other = TopicSettings { durability: Durability::Written, ..settings };
    let fixed = broker.update_topic(&topic, other).await.unwrap_err();
    assert!(matches!(fixed, UpdateTopicError::Settings(SettingsError::Fixed { field: "durability", .. })));

    for n in 0..4 {
        publish(&broker, "t", &n.to_string()).await;
    }
    let mut first = broker.subscribe(&topic, from(Start::Earliest)).unwrap();
    let second = broker.subscribe(&topic, SubscribeOptions::default()).err();
    assert_eq!(second, Some(SubscribeError::TooManySubscribers { max: 1 }));
    let past = broker.purge_topic(&topic, Some(5)).await.unwrap_err();
    assert_eq!(past, PurgeTopicError::PastEnd { before: 5, next_offset: 4 });
    assert_eq!(broker.purge_topic(&topic, Some(3)).await, Ok(3));
    assert_eq!(broker.purge_topic(&topic, Some(3)).await, Ok(0));
    assert_eq!(first.next().await.unwrap_err(), SubscriptionEnd::Trimmed { cursor: 0, first_offset: 3 });
    drop(first);
    let trimmed = broker.subscribe(&topic, from(Start::Offset(2))).err();
    assert_eq!(trimmed, Some(SubscribeError::Trimmed { offset: 2, first_offset: 3 }));

    let mut last = broker.subscribe(&topic, from(Start::Latest)).unwrap();
    broker.delete_topic(&topic).await.unwrap();
    assert_eq!(last.next().await.unwrap_err(), SubscriptionEnd::TopicDeleted);
    let gone = broker.delete_topic(&topic).await.unwrap_err();
    assert_eq!(gone, DeleteTopicError::NotFound { name: topic.clone() });
    assert_eq!(
        broker.subscribe(&topic, from(Start::Latest)).err(),
        Some(SubscribeError::NotFound { name: topic })
    );
    assert_eq!(publish(&broker, "t", "a new life").await, 0, "publishing creates it anew, from offset 0");
}

#[tokio::test]
async fn retention_by_count_age_and_bytes_removes_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let by_count = TopicSettings { retention_messages: Some(10), ..TopicSettings::default() };
    let by_age = TopicSettings { retention_age_ms: Some(1), ..TopicSettings::default() };
    let by_bytes = TopicSettings { retention_bytes: Some(1 << 20), ..TopicSettings::default() };
    for (topic, settings) in [("count", by_count), ("age", by_age), ("bytes", by_bytes)] {
        broker.create_topic(&name(topic), settings).await.unwrap();
        for _ in 0..40 {
            let messages = (0..10).map(|_| NewMessage::new(vec![7; 10_000])).collect();
            broker.publish_batch(&name(topic), messages).await.unwrap();
        }
    }
    let held = |topic: &str| broker.stats(&name(topic)).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let is_done = || {
        held("count").message_count == 10 && held("age").message_count == 0 && held("bytes").bytes < 3 << 20
    };
    while !is_done() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?} {:?} {:?}",
            held("count"),
            held("age"),
            held("bytes")
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(held("bytes").message_count >= 100, "a megabyte of it stays");
    assert_eq!(held("count").next_offset, 400);
    let mut rest = broker.subscribe(&name("count"), from(Start::Earliest)).unwrap();
    assert_eq!(rest.next().await.unwrap().offset, 390);
}

#[tokio::test]
async fn what_a_message_may_not_be_is_refused_by_name_and_nothing_is_half_done() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let topic = name("t");
    let pairs = |count: usize| (0..count).map(|n| (n.to_string(), String::new())).collect::<Vec<_>>();
    let message = NewMessage::default;
    let cases = [
        (
            NewMessage::new(vec![0; (1 << 20) + 1]),
            MessageError::PayloadTooLarge { bytes: (1 << 20) + 1, bytes_max: 1 << 20 },
        ),
        (NewMessage { key: "k".repeat(1025), ..message() }, MessageError::KeyTooLong { bytes: 1025 }),
        (NewMessage { metadata: pairs(65), ..message() }, MessageError::TooMuchMetadata { entries: 65 }),
        (
            NewMessage { metadata: vec![(String::new(), "v".into())], ..message() },
            MessageError::MetadataKeyLength { bytes: 0 },
        ),
        (
            NewMessage { metadata: vec![("k".repeat(257), "v".into())], ..message() },
            MessageError::MetadataKeyLength { bytes: 257 },
        ),
        (
            NewMessage { metadata: vec![("k".into(), "v".repeat(8193))], ..message() },
            MessageError::MetadataValueTooLong { key: "k".into(), bytes: 8193 },
        ),
    ];
    for (bad, error) in cases {
        let alone = broker.publish(&topic, bad.clone()).await.unwrap_err();
        assert_eq!(alone, PublishError::Message { index: 0, error: error.clone() });
        let batch = broker.publish_batch(&topic, vec![NewMessage::new("good"), bad]).await.unwrap_err();
        assert_eq!(batch, PublishError::Message { index: 1, error });
    }
    assert!(!broker.topic_exists(&topic), "a refused message creates no topic");
    assert_eq!(broker.publish_batch(&topic, vec![]).await, Err(PublishError::EmptyBatch));
    let long = vec![NewMessage::default(); limits::BATCH_MESSAGES_MAX + 1];
    assert_eq!(
        broker.publish_batch(&topic, long).await,
        Err(PublishError::BatchTooLong { messages: 10_001 })
    );
    let large = vec![NewMessage::new(vec![0; 1 << 20]); 17];
    assert_eq!(
        broker.publish_batch(&topic, large).await,
        Err(PublishError::BatchTooLarge { bytes: 17 << 20 })
    );

    let payload = vec![1; 1 << 20].into();
    let widest = NewMessage { key: "k".repeat(1024), metadata: pairs(64), payload, ..NewMessage::default() };
    assert_eq!(broker.publish(&topic, widest.clone()).await.unwrap().offset, 0);
    let full = vec![NewMessage::new(vec![0; 1 << 20]); 16];
    assert_eq!(broker.publish_batch(&topic, full).await.unwrap()[15].offset, 16);
    let mut subscription = broker.subscribe(&topic, from(Start::Earliest)).unwrap();
    assert_eq!(subscription.next().await.unwrap().payload(), widest.payload);

    let options = |options: SubscribeOptions| broker.subscribe(&topic, options).err().unwrap();
    let base = SubscribeOptions::default;
    assert_eq!(options(SubscribeOptions { credit: Some(0), ..base() }), SubscribeError::ZeroCredit);
    assert_eq!(
        options(SubscribeOptions { filter: pairs(17), ..base() }),
        SubscribeError::FilterTooLong { entries: 17 }
    );
    let subscriber_id = "s".repeat(256);
    assert_eq!(
        options(SubscribeOptions { subscriber_id, ..base() }),
        SubscribeError::SubscriberIdTooLong { bytes: 256 }
    );
    let zero = TopicSettings { message_bytes_max: 0, ..TopicSettings::default() };
    let refused = broker.create_topic(&name("zero"), zero).await.unwrap_err();
    assert!(refused.to_string().contains("message_bytes_max is 0"), "{refused}");
    let huge = TopicSettings { message_bytes_max: u32::MAX, ..TopicSettings::default() };
    assert!(broker.create_topic(&name("huge"), huge).await.is_err());
    assert!(!broker.topic_exists(&name("zero")) && !broker.topic_exists(&name("huge")));
}

#[tokio::test]
async fn a_topic_that_fails_restarts_and_the_others_do_not_notice() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, "a", "a0").await;
    publish(&broker, "b", "b0").await;
    let mut follower = broker.subscribe(&name("a"), from(Start::Earliest)).unwrap();
    broker.crash_topic(&name("a"));
    let error = broker.publish(&name("a"), NewMessage::new("lost")).await.unwrap_err();
    assert_eq!(error, PublishError::Unavailable(Unavailable::TopicRestarting { topic: name("a") }));
    assert_eq!(publish(&broker, "b", "b1").await, 1);
    assert_eq!(publish(&broker, "a", "a1").await, 1, "it goes on where the log ends");
    assert_eq!(texts(&mut follower, 2).await, ["a0", "a1"]);
    assert_eq!(broker.counters().topic_restarts, 1);
    for _ in 0..6 {
        broker.crash_topic(&name("a"));
        broker.publish(&name("a"), NewMessage::new("lost")).await.unwrap_err();
    }
    broker.publish(&name("a"), NewMessage::new("paused")).await.unwrap_err();
    assert_eq!(publish(&broker, "b", "b2").await, 2);
    assert_eq!(broker.health(), Health::Serving);
    drop(follower);
    drop(broker);
    let broker = open(folder.path());
    assert_eq!(broker.stats(&name("a")).unwrap().message_count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_and_topics_that_come_and_go_keep_every_topic_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..8 {
        let broker = broker.clone();
        publishers.spawn(async move {
            for n in 0..200 {
                publish(&broker, "shared", &format!("{publisher} {n}")).await;
                let own = format!("own-{publisher}-{}", n / 10);
                publish(&broker, &own, &n.to_string()).await;
                if n % 10 == 9 {
                    assert_eq!(broker.stats(&name(&own)).unwrap().message_count, 10);
                    broker.delete_topic(&name(&own)).await.unwrap();
                }
            }
        });
    }
    let mut subscription = loop {
        match broker.subscribe(&name("shared"), from(Start::Earliest)) {
            Ok(subscription) => break subscription,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut last = [-1; 8];
    for text in texts(&mut subscription, 1600).await {
        let (publisher, n) = text.split_once(' ').unwrap();
        let (publisher, n): (usize, i32) = (publisher.parse().unwrap(), n.parse().unwrap());
        assert_eq!(n, last[publisher] + 1, "publisher {publisher}");
        last[publisher] = n;
    }
    while let Some(result) = publishers.join_next().await {
        result.unwrap();
    }
    assert_eq!(broker.list_topics(), [name("shared")]);
    drop((subscription, broker));
    assert_eq!(open(folder.path()).stats(&name("shared")).unwrap().message_count, 1600);
}

#[tokio::test]
async fn memory_and_written_topics_say_what_their_ack_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    for (topic, durability) in [("w", Durability::Written), ("m", Durability::Memory)] {
        let settings =
            TopicSettings { durability, retention_bytes: Some(100_000), ..TopicSettings::default() };
        broker.create_topic(&name(topic), settings).await.unwrap();
        let receipt = broker.publish(&name(topic), NewMessage::new("x")).await.unwrap();
        assert_eq!(receipt.durability, durability);
    }
    for _ in 0..100 {
        broker.publish(&name("m"), NewMessage::new(vec![1; 10_000])).await.unwrap();
    }
    let stats = broker.stats(&name("m")).unwrap();
    assert!(stats.bytes <= 110_000 && stats.message_count >= 8, "{stats:?}");
    drop(broker);
    let broker = open(folder.path());
    assert_eq!(broker.stats(&name("w")).unwrap().message_count, 1);
    assert_eq!(broker.stats(&name("m")).unwrap().message_count, 0);
}

#[tokio::test]
async fn shutting_down_ends_everything_and_bad_configuration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, "t", "x").await;
    let mut subscription = broker.subscribe(&name("t"), from(Start::Latest)).unwrap();
    let waiting = tokio::spawn(async move { subscription.next().await });
    tokio::task::yield_now().await;
    broker.shutdown().unwrap();
    broker.shutdown().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err(), SubscriptionEnd::ShuttingDown);
    let refused = broker.publish(&name("t"), NewMessage::new("y")).await.unwrap_err();
    assert_eq!(refused, PublishError::Unavailable(Unavailable::ShuttingDown));
    assert!(broker.create_topic(&name("u"), TopicSettings::default()).await.is_err());
    let mut config = BrokerConfig::new(folder.path());
    config.journal_file_bytes = 1;
    assert!(matches!(Broker::open(config), Err(OpenError::Config { field: "journal_file_bytes", .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_meets_a_delete_leaves_a_journal_that_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    for round in 0..100 {
        let topic = name(&format!("t{round}"));
        publish(&broker, topic.as_str(), "x").await;
        let other = name("other");
        let (_, deleted, _) = tokio::join!(
            broker.publish(&other, NewMessage::new("y")),
            broker.delete_topic(&topic),
            broker.purge_topic(&topic, None)
        );
        deleted.unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(folder.path())
        .arg(copy.path().join("killed"))
        .status();
    assert!(copied.unwrap().success());
    let killed = open(&copy.path().join("killed"));
    assert_eq!(killed.list_topics(), [name("other")]);
    assert!(killed.recovery().replayed_records >= 100, "the copy was taken as if the broker had been killed");
}

#[tokio::test]
async fn a_memory_topic_keeps_its_newest_messages_whatever_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let settings = TopicSettings { durability: Durability::Memory, ..TopicSettings::default() };
    broker.create_topic(&name("m"), settings.clone()).await.unwrap();
    for _ in 0..10 {
        broker.publish(&name("m"), NewMessage::new(vec![1; 100_000])).await.unwrap();
    }
    let smaller = TopicSettings { retention_bytes: Some(350_000), ..settings };
    broker.update_topic(&name("m"), smaller).await.unwrap();
    broker.publish(&name("m"), NewMessage::new(vec![2; 100_000])).await.unwrap();
    let stats = broker.stats(&name("m")).unwrap();
    assert_eq!((stats.message_count, stats.next_offset), (3, 11));
    broker.publish(&name("m"), NewMessage::new(vec![3; 1_000_000])).await.unwrap();
    assert_eq!(
        broker.stats(&name("m")).unwrap().message_count,
        1,
        "one larger than the bound stays all the same"
    );
}

#[tokio::test]
async fn changes_of_one_topic_at_the_same_time_do_not_undo_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let topic = name("t");
    broker.create_topic(&topic, TopicSettings::default()).await.unwrap();
    let count = |now: &TopicSettings| TopicSettings { retention_messages: Some(7), ..now.clone() };
    let bytes = |now: &TopicSettings| TopicSettings { retention_bytes: Some(9), ..now.clone() };
    let both = tokio::join!(broker.change_topic(&topic, count), broker.change_topic(&topic, bytes));
    assert!(both.0.is_ok() && both.1.is_ok());
    let settings = broker.describe_topic(&topic).unwrap().settings;
    assert_eq!((settings.retention_messages, settings.retention_bytes), (Some(7), Some(9)));
}

#[tokio::test]
async fn a_subscriber_knows_that_what_is_at_its_place_was_purged() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, "orders", "one").await;
    publish(&broker, "orders", "two").await;
    let mut subscription = broker.subscribe(&name("orders"), from(Start::Earliest)).unwrap();
    assert!(subscription.takes_all() && subscription.is_kept());
    broker.purge_topic(&name("orders"), Some(1)).await.unwrap();
    assert!(!subscription.is_kept());
    let end = subscription.next_batch().await.unwrap_err();
    assert_eq!(end, SubscriptionEnd::Trimmed { cursor: 0, first_offset: 1 });
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn a_filter_has_a_few_thousand_bytes_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    broker.create_topic(&name("orders"), TopicSettings::default()).await.unwrap();
    let options = |bytes: usize| {
        let filter = vec![("name".to_owned(), "v".repeat(bytes))];
        broker.subscribe(&name("orders"), SubscribeOptions { filter, ..SubscribeOptions::default() })
    };
    assert!(options(4092).is_ok());
    assert_eq!(options(4093).err(), Some(SubscribeError::FilterTooLarge { bytes: 4097 }));
}

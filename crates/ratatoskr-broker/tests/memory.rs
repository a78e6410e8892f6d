//! What durable subscriptions may hold together, and that nobody is stuck for it.
#![allow(clippy::unwrap_used)] // a test may end here

use std::time::Duration;

use ratatoskr_broker::limits::{
    BATCH_MESSAGES_MAX, REASON_REMEMBERED_BYTES_MAX, SETTLEMENTS_MAX, UNSETTLED_BYTES_MIN,
    UNSETTLED_MESSAGE_BYTES,
};
use ratatoskr_broker::{
    Broker, BrokerConfig, DeadLetterQuery, Delivered, Durability, Fate, JoinOptions, MEMORY_BYTES_MIN,
    Member, NewMessage, Outcome, PublishError, Seek, Shares, Start, SubscriptionError, SubscriptionName,
    SubscriptionRef, SubscriptionSettings, TopicName, TopicSettings, Window,
};

const MESSAGES: usize = 60_000;

fn name(name: &str) -> SubscriptionRef {
    let topic = TopicName::parse("orders").unwrap();
    SubscriptionRef { topic, name: SubscriptionName::parse(name).unwrap() }
}

/// A member that takes all it can get, of a subscription that lets it.
async fn join(broker: &Broker, subscription: &str) -> Member {
    join_with(broker, subscription, Window { messages: 100_000, ..Window::default() }).await
}

async fn join_with(broker: &Broker, subscription: &str, window: Window) -> Member {
    let settings = SubscriptionSettings {
        outstanding_max: 100_000,
        member_outstanding_max: 100_000,
        lease_ms: 600_000,
        ..SubscriptionSettings::default()
    };
    let create = Some((Start::Earliest, settings));
    broker.join(&name(subscription), JoinOptions { member: "worker".into(), window, create }).await.unwrap()
}

/// What is delivered until nothing more comes for two seconds, which is two of the dispatcher's sweeps.
async fn all_there_is(member: &mut Member) -> Vec<Delivered> {
    let mut delivered = Vec::new();
    while let Ok(batch) = tokio::time::timeout(Duration::from_secs(2), member.next_batch()).await {
        delivered.extend(batch.unwrap());
    }
    delivered
}

#[tokio::test]
async fn what_is_read_and_not_settled_is_bounded_over_all_subscriptions_and_none_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let broker =
        Broker::open(BrokerConfig { memory: MEMORY_BYTES_MIN, ..BrokerConfig::new(folder.path()) }).unwrap();
    for _ in 0..MESSAGES / 10_000 {
        let batch = (0..10_000).map(|number| NewMessage::new(number.to_string())).collect();
        broker.publish_batch(&name("any").topic, batch).await.unwrap();
    }
    let share = (Shares::of(MEMORY_BYTES_MIN).unsettled / UNSETTLED_MESSAGE_BYTES) as usize;
    let mut greedy = join(&broker, "greedy").await;
    let held = all_there_is(&mut greedy).await;
    // What is read at a time is taken in whole: up to a batch.
    assert!((share / 2..=share + BATCH_MESSAGES_MAX).contains(&held.len()), "{} of {share}", held.len());
    let described = broker.describe_subscription(&name("greedy")).await.unwrap();
    assert!(described.why.starts_with("unsettled_max"), "{}", described.why);

    // However much the first one holds, another has its least.
    let mut modest = join(&broker, "modest").await;
    let least = (UNSETTLED_BYTES_MIN / UNSETTLED_MESSAGE_BYTES) as usize;
    assert!(all_there_is(&mut modest).await.len() >= least);

    let (mut held, mut delivered) = (held, 0);
    while !held.is_empty() {
        delivered += held.len();
        for some in held.chunks(SETTLEMENTS_MAX) {
            let acks = some.iter().map(|delivered| (delivered.token, Outcome::Ack)).collect();
            let fates = greedy.settle(acks).unwrap().await;
            assert!(fates.iter().all(|fate| *fate == Fate::Settled));
        }
        held = all_there_is(&mut greedy).await;
    }
    assert_eq!(delivered, MESSAGES, "what waited for memory is delivered");
    broker.shutdown().unwrap();
}

/// Has every second message acked, so that what is settled is as many ranges.
async fn settle_every_second(broker: &Broker, subscription: &str) {
    let mut member = join(broker, subscription).await;
    let held = all_there_is(&mut member).await;
    assert!(held.len() > 10_000, "{}", held.len());
    for some in held.chunks(SETTLEMENTS_MAX) {
        let odd = some.iter().filter(|delivered| delivered.message.offset % 2 == 1);
        let acks = odd.map(|delivered| (delivered.token, Outcome::Ack)).collect();
        let fates = member.settle(acks).unwrap().await;
        assert!(fates.iter().all(|fate| *fate == Fate::Settled));
    }
    member.close();
}

#[tokio::test]
async fn saved_states_take_no_more_than_their_share_and_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let broker =
        Broker::open(BrokerConfig { memory: MEMORY_BYTES_MIN, ..BrokerConfig::new(folder.path()) }).unwrap();
    for _ in 0..2 {
        let batch = (0..10_000).map(|number| NewMessage::new(number.to_string())).collect();
        broker.publish_batch(&name("any").topic, batch).await.unwrap();
    }
    let (mut saved, mut refusal, mut lags) = (0, None, Vec::new());
    for subscription in ["a", "b", "c", "d", "e"] {
        settle_every_second(&broker, subscription).await;
        lags.push(broker.describe_subscription(&name(subscription)).await.unwrap().lag_messages);
        for state in 0..16 {
            match broker.save_subscription(&name(subscription), &format!("s{state}")).await {
                Ok(()) => saved += 1,
                Err(error) => {
                    refusal = Some(error);
                    break;
                }
            }
        }
        // What it has read leaves room for the next one.
        broker.seek_subscription(&name(subscription), Seek::To(Start::Latest)).await.unwrap();
    }
    let refusal = refusal.expect("all of them together are more than there is room for");
    assert!(matches!(refusal, SubscriptionError::SavedStatesFull { .. }), "{refusal}");
    assert!(saved > 16, "they are kept as small as they are written: {saved}");

    let moved = broker.seek_subscription(&name("a"), Seek::Saved("s0".to_owned())).await.unwrap();
    assert_eq!(moved.lag_messages, lags[0]);
    // Replacing one takes nothing more, and forgetting one makes room.
    broker.save_subscription(&name("a"), "s1").await.unwrap();
    broker.forget_saved(&name("a"), "s2").await.unwrap();
    broker.save_subscription(&name("a"), "s3").await.unwrap();
    broker.save_subscription(&name("a"), "s2").await.unwrap();
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn of_the_reason_for_a_return_the_beginning_is_remembered_and_a_dead_letter_has_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    let sent = broker.publish(&name("any").topic, NewMessage::new("payload")).await.unwrap();
    let mut member = join(&broker, "billing").await;
    let reason = "é".repeat(512);
    let first = all_there_is(&mut member).await;
    let nack = Outcome::Nack { delay_ms: Some(0), reason: reason.clone() };
    member.settle(vec![(first[0].token, nack)]).unwrap().await;
    let again = all_there_is(&mut member).await;
    assert_eq!(again[0].attempt, 2);
    let steps = broker.trace_message(sent.id).await.unwrap().unwrap().steps;
    let beginning = "é".repeat(REASON_REMEMBERED_BYTES_MAX / 2);
    let returned = steps.iter().find(|step| step.what.contains("came back")).unwrap();
    assert!(returned.what.contains(&format!("{beginning:?}")), "{}", returned.what);
    let reject = Outcome::Reject { reason: reason.clone() };
    member.settle(vec![(again[0].token, reject)]).unwrap().await;
    let letters = broker.list_dead_letters(&name("billing"), DeadLetterQuery::default(), 1).await.unwrap();
    assert_eq!(letters[0].reason, reason);
    let steps = broker.trace_message(sent.id).await.unwrap().unwrap().steps;
    assert!(steps.iter().all(|step| !step.what.contains(&reason)), "what is remembered of all is short");
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn topics_and_subscriptions_are_as_many_as_memory_allows_and_no_topic_uses_up_all() {
    let folder = tempfile::tempdir().unwrap();
    // In memory, so that thousands of topics need no folder each.
    let topic_defaults = TopicSettings { durability: Durability::Memory, ..TopicSettings::default() };
    let config =
        BrokerConfig { memory: MEMORY_BYTES_MIN, topic_defaults, ..BrokerConfig::new(folder.path()) };
    let broker = Broker::open(config).unwrap();
    let Shares { topics, subscriptions, .. } = Shares::of(MEMORY_BYTES_MIN);
    broker.create_topic(&name("any").topic, TopicSettings::default()).await.unwrap();
    let create = |number: usize| {
        let broker = broker.clone();
        let name = name(&format!("s{number}"));
        async move { broker.create_subscription(&name, Start::Earliest, SubscriptionSettings::default()).await }
    };
    let made: Vec<_> = (0..=subscriptions / 4).map(|number| tokio::spawn(create(number))).collect();
    let mut refused = Vec::new();
    for made in made {
        refused.extend(made.await.unwrap().err());
    }
    assert_eq!(refused.len(), 1);
    assert!(matches!(refused[0], SubscriptionError::TooManySubscriptionsOfTopic { .. }), "{}", refused[0]);
    assert_eq!(broker.count_subscriptions(Some(&name("any").topic)), subscriptions / 4);
    assert_eq!(broker.count_subscriptions(None), subscriptions / 4);

    // A topic for each of many messages, as a batch for many topics makes them.
    let publish = |number: usize| {
        let (broker, topic) = (broker.clone(), TopicName::parse(&format!("t{number}")).unwrap());
        async move { broker.publish(&topic, NewMessage::new("")).await }
    };
    let sent: Vec<_> = (0..topics).map(|number| tokio::spawn(publish(number))).collect();
    let mut refused = Vec::new();
    for sent in sent {
        refused.extend(sent.await.unwrap().err());
    }
    assert_eq!(refused.len(), 1, "one of them was there before");
    assert!(matches!(refused[0], PublishError::TooManyTopics { topics_max } if topics_max == topics));
    assert_eq!(broker.count_subscriptions(Some(&TopicName::parse("missing").unwrap())), 0);
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn a_member_that_looks_late_reads_what_was_not_kept_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    broker.create_topic(&name("late").topic, TopicSettings::default()).await.unwrap();
    let mut member = join_with(&broker, "late", Window { messages: 100, bytes: u64::MAX }).await;
    for number in 0..60_u8 {
        // 6 MiB together; a member is handed the messages themselves up to 1 MiB.
        broker.publish(&name("late").topic, NewMessage::new(vec![number; 100 << 10])).await.unwrap();
    }
    while broker.describe_subscription(&name("late")).await.unwrap().leased < 60 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut payloads = Vec::new();
    while payloads.len() < 60 {
        let batch = tokio::time::timeout(Duration::from_secs(20), member.next_batch()).await;
        payloads.extend(
            batch.expect("all of them come").unwrap().iter().map(|delivered| delivered.message.payload()),
        );
    }
    for (number, payload) in (0..60_u8).zip(&payloads) {
        assert_eq!(payload[..], vec![number; 100 << 10]);
    }
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn a_trace_tells_of_a_thousand_subscriptions_and_first_of_those_that_were_given_the_message() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    let sent = broker.publish(&name("any").topic, NewMessage::new("payload")).await.unwrap();
    let create = |number: usize| {
        let broker = broker.clone();
        let name = name(&format!("s{number}"));
        async move { broker.create_subscription(&name, Start::Earliest, SubscriptionSettings::default()).await }
    };
    let made: Vec<_> = (0..1010).map(|number| tokio::spawn(create(number))).collect();
    for made in made {
        made.await.unwrap().unwrap();
    }
    let mut member = join(&broker, "newest").await;
    assert_eq!(member.next_batch().await.unwrap().len(), 1);
    let steps = broker.trace_message(sent.id).await.unwrap().unwrap().steps;
    let of_newest = |step: &&ratatoskr_broker::TraceStep| {
        step.subscription.as_ref().is_some_and(|name| name.as_str() == "newest")
    };
    let told: Vec<_> = steps.iter().filter(of_newest).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].what.starts_with("handed to member"), "{told:?}");
    assert!(told[1].what.starts_with("now leased"), "{told:?}");
    let standings = steps.iter().filter(|step| step.what.starts_with("now ")).count();
    assert_eq!(standings, 1000);
    broker.shutdown().unwrap();
}

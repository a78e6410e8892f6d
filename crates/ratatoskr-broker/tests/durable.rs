//! Durable subscriptions in process, on a real disk.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, DEAD_ATTEMPTS, DEAD_REASON, DeadLetterQuery, Delivered, Fate, JoinOptions, Member,
    MemberEnd, NewMessage, Outcome, Resolution, Seek, SettleError, Start, SubscribeOptions,
    SubscriptionError, SubscriptionName, SubscriptionRef, SubscriptionSettings, TopicName, TopicSettings,
    Window,
};

fn name() -> SubscriptionRef {
    SubscriptionRef {
        topic: TopicName::parse("orders").unwrap(),
        name: SubscriptionName::parse("billing").unwrap(),
    }
}

fn open(folder: &Path) -> Broker {
    Broker::open(BrokerConfig::new(folder)).unwrap()
}

async fn publish(broker: &Broker, payloads: impl IntoIterator<Item = (&'static str, String)>) {
    let message =
        |(key, payload): (&str, String)| NewMessage { key: key.to_owned(), ..NewMessage::new(payload) };
    broker.publish_batch(&name().topic, payloads.into_iter().map(message).collect()).await.unwrap();
}

fn quick() -> SubscriptionSettings {
    SubscriptionSettings { retry_delay_ms: 20, lease_ms: 60_000, ..SubscriptionSettings::default() }
}

async fn join_with(broker: &Broker, window: u32, settings: SubscriptionSettings) -> Member {
    let window = Window { messages: window, ..Window::default() };
    let create = Some((Start::Earliest, settings));
    broker.join(&name(), JoinOptions { member: "worker".to_owned(), window, create }).await.unwrap()
}

async fn join(broker: &Broker, window: u32) -> Member {
    join_with(broker, window, quick()).await
}

async fn next(member: &mut Member, count: usize) -> Vec<Delivered> {
    let mut delivered = Vec::new();
    while delivered.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(20), member.next_batch()).await;
        delivered.extend(batch.expect("deliveries come in time").unwrap());
    }
    assert_eq!(delivered.len(), count, "no more than asked for");
    delivered
}

async fn settle(member: &Member, delivered: &[Delivered], outcome: Outcome) {
    let all = delivered.iter().map(|delivered| (delivered.token, outcome.clone())).collect();
    let fates = member.settle(all).unwrap().await;
    assert!(fates.iter().all(|fate| *fate == Fate::Settled), "{fates:?}");
}

fn offsets(delivered: &[Delivered]) -> Vec<u64> {
    delivered.iter().map(|delivered| delivered.message.offset).collect()
}

fn numbered(count: usize) -> Vec<(&'static str, String)> {
    (0..count).map(|number| ("", number.to_string())).collect()
}

#[tokio::test]
async fn what_is_acked_is_not_delivered_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(10)).await;
    let mut member = join(&broker, 10).await;
    let delivered = next(&mut member, 10).await;
    assert_eq!(offsets(&delivered), (0..10).collect::<Vec<_>>());
    assert!(delivered.iter().all(|delivered| delivered.attempt == 1));
    settle(&member, &delivered[..4], Outcome::Ack).await;
    settle(&member, &delivered[7..8], Outcome::Ack).await;
    settle(&member, &delivered[9..], Outcome::Nack { delay_ms: Some(0), reason: "later".to_owned() }).await;
    let again = next(&mut member, 1).await;
    assert_eq!((offsets(&again), again[0].attempt), (vec![9], 2));
    broker.shutdown().unwrap();
    drop((member, broker));

    let broker = open(folder.path());
    let mut member = join(&broker, 10).await;
    let rest = next(&mut member, 5).await;
    assert_eq!(offsets(&rest), [4, 5, 6, 8, 9]);
    // A lease the restart cut short has not used up an attempt; the nack before it has.
    assert_eq!(rest.iter().map(|delivered| delivered.attempt).collect::<Vec<_>>(), [1, 1, 1, 1, 2]);
    assert_eq!(member.settle(vec![(delivered[5].token, Outcome::Ack)]).unwrap().await, [Fate::Stale]);
    settle(&member, &rest, Outcome::Ack).await;
    let described = broker.describe_subscription(&name()).await.unwrap();
    assert_eq!((described.lag_messages, described.acked, described.leased), (0, 10, 0));
    assert!(described.why.starts_with("caught_up"), "{}", described.why);
}

#[tokio::test]
async fn members_share_the_work_and_what_a_vanished_one_held_comes_to_the_others_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    broker.create_topic(&name().topic, TopicSettings::default()).await.unwrap();
    let (mut one, mut two) = (join(&broker, 10).await, join(&broker, 10).await);
    publish(&broker, numbered(10)).await;
    let (first, second) = (next(&mut one, 5).await, next(&mut two, 5).await);
    drop(one);
    settle(&two, &second, Outcome::Ack).await;
    // Any of them may be what it vanished over, so none has used up an attempt and each comes alone.
    for offset in offsets(&first) {
        let alone = two.next_batch().await.unwrap();
        assert_eq!(offsets(&alone), [offset]);
        assert_eq!(alone[0].attempt, 1);
        settle(&two, &alone, Outcome::Ack).await;
    }
}

#[tokio::test]
async fn what_a_member_held_that_closes_goes_to_the_next_one_and_has_used_up_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(5)).await;
    let mut one = join(&broker, 10).await;
    let first = next(&mut one, 5).await;
    one.close();
    let mut two = join(&broker, 10).await;
    let handed_back = next(&mut two, 5).await;
    assert_eq!(offsets(&handed_back), offsets(&first));
    assert!(handed_back.iter().all(|delivered| delivered.attempt == 1));
}

#[tokio::test]
async fn a_member_is_ended_by_its_reference_and_gives_back_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(3)).await;
    let mut one = join(&broker, 10).await;
    next(&mut one, 3).await;
    let reference = one.reference().to_string();
    assert!(!broker.end_member(&name().topic, "nobody").await.unwrap());
    assert!(broker.end_member(&name().topic, &reference).await.unwrap());
    assert_eq!(one.next_batch().await.unwrap_err(), MemberEnd::Unsubscribed);
    one.close();
    let mut two = join(&broker, 10).await;
    let given_back = next(&mut two, 3).await;
    assert!(given_back.iter().all(|delivered| delivered.attempt == 1));
    assert!(!broker.end_member(&name().topic, &reference).await.unwrap());
}

#[tokio::test]
async fn a_new_filter_holds_for_what_was_read_before_it_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let keyed = |number: u32| (if number.is_multiple_of(2) { "even" } else { "odd" }, number.to_string());
    publish(&broker, (0..1_000).map(keyed)).await;
    let mut member = join(&broker, 1).await;
    let first = next(&mut member, 1).await;
    let odd = |settings: &SubscriptionSettings| SubscriptionSettings {
        filter: "key == \"odd\"".to_owned(),
        ..settings.clone()
    };
    broker.change_subscription(&name(), odd).await.unwrap();
    // What is leased may still be settled.
    settle(&member, &first, Outcome::Ack).await;
    let mut came = 0;
    while came < 500 {
        let delivered = member.next_batch().await.unwrap();
        assert!(delivered.iter().all(|delivered| delivered.message.key() == "odd"), "{delivered:?}");
        came += delivered.len();
        settle(&member, &delivered, Outcome::Ack).await;
    }
    let description = broker.describe_subscription(&name()).await.unwrap();
    assert_eq!((description.acked, description.passed), (501, 499), "{description:?}");
}

#[tokio::test]
async fn after_a_purge_has_been_answered_nothing_that_was_purged_comes() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(5_000)).await;
    let mut member = join(&broker, 50).await;
    let first = member.next_batch().await.unwrap();
    assert_eq!(broker.purge_topic(&name().topic, None).await.unwrap(), 5_000);
    settle(&member, &first, Outcome::Ack).await;
    publish(&broker, numbered(1)).await;
    let delivered = next(&mut member, 1).await;
    assert_eq!(offsets(&delivered), [5_000]);
}

#[tokio::test]
async fn after_the_last_attempt_a_message_is_a_dead_letter_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(2)).await;
    let mut member = join(&broker, 10).await;
    let poison = next(&mut member, 2).await;
    settle(&member, &poison[1..], Outcome::Reject { reason: "never".to_owned() }).await;
    for attempt in 1..=3 {
        let delivered = if attempt == 1 { poison[..1].to_vec() } else { next(&mut member, 1).await };
        assert_eq!((delivered[0].message.offset, delivered[0].attempt), (0, attempt));
        settle(&member, &delivered, Outcome::Nack { delay_ms: None, reason: format!("try {attempt}") }).await;
    }
    let dead = TopicName::parse("orders.billing.dlq").unwrap();
    let from_start = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut letters = broker.subscribe(&dead, from_start).unwrap();
    let facts = |message: &ratatoskr_broker::Message, name: &str| {
        message.metadata().find(|(found, _)| *found == name).map(|(_, value)| value.to_owned()).unwrap()
    };
    let rejected = letters.next().await.unwrap();
    assert_eq!((rejected.payload(), facts(&rejected, DEAD_REASON)), ("1".into(), "never".to_owned()));
    let exhausted = letters.next().await.unwrap();
    assert_eq!((exhausted.payload(), facts(&exhausted, DEAD_REASON)), ("0".into(), "try 3".to_owned()));
    assert_eq!(facts(&exhausted, DEAD_ATTEMPTS), "3");
    let described = broker.describe_subscription(&name()).await.unwrap();
    assert_eq!((described.dead, described.lag_messages), (2, 0));
}

#[tokio::test]
async fn a_failing_key_parks_itself_and_the_others_flow() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let keys = ["a", "b", "a", "b", "a"];
    publish(&broker, keys.into_iter().map(|key| (key, key.to_owned()))).await;
    let mut member = join(&broker, 10).await;
    let heads = next(&mut member, 2).await;
    assert_eq!(offsets(&heads), [0, 1]);
    settle(&member, &heads[..1], Outcome::Nack { delay_ms: Some(300), reason: String::new() }).await;
    settle(&member, &heads[1..], Outcome::Ack).await;
    assert_eq!(offsets(&next(&mut member, 1).await), [3], "the other key goes on");
    let described = broker.describe_subscription(&name()).await.unwrap();
    assert_eq!((described.parked, described.parked_keys, described.waiting), (2, 1, 1));
    assert!(described.why.starts_with("key_parked"), "{}", described.why);
    for offset in [0, 2, 4] {
        let delivered = next(&mut member, 1).await;
        assert_eq!(offsets(&delivered), [offset]);
        settle(&member, &delivered, Outcome::Ack).await;
    }
}

#[tokio::test]
async fn a_subscription_can_be_sought_saved_skipped_paused_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(10)).await;
    let mut member = join(&broker, 4).await;
    let delivered = next(&mut member, 4).await;
    settle(&member, &delivered[..2], Outcome::Ack).await;
    let _ = next(&mut member, 2).await;
    broker.save_subscription(&name(), "before").await.unwrap();
    let described = broker.seek_subscription(&name(), Seek::To(Start::Offset(8))).await.unwrap();
    assert_eq!((described.lag_messages, described.saved), (2, vec!["before".to_owned()]));
    let rest = next(&mut member, 2).await;
    assert_eq!(offsets(&rest), [8, 9]);
    assert_eq!(member.settle(vec![(delivered[2].token, Outcome::Ack)]).unwrap().await, [Fate::Stale]);
    broker.seek_subscription(&name(), Seek::Saved("before".to_owned())).await.unwrap();
    assert_eq!(offsets(&next(&mut member, 4).await), [2, 3, 4, 5]);
    let described = broker.seek_subscription(&name(), Seek::Skip(3)).await.unwrap();
    assert_eq!(described.oldest_unsettled_offset, 5);
    assert_eq!(offsets(&next(&mut member, 4).await), [5, 6, 7, 8]);
    let pause = |settings: &SubscriptionSettings| SubscriptionSettings { paused: true, ..settings.clone() };
    let described = broker.change_subscription(&name(), pause).await.unwrap();
    assert!(described.why.starts_with("paused"), "{}", described.why);
    broker.delete_subscription(&name()).await.unwrap();
    assert!(member.next_batch().await.is_err());
    let missing = broker.describe_subscription(&name()).await.unwrap_err();
    assert!(matches!(missing, SubscriptionError::NotFound(_)), "{missing}");
}

#[tokio::test]
async fn a_message_whose_time_is_up_is_delivered_to_nobody_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let short = NewMessage { ttl_ms: 1, ..NewMessage::new("short") };
    broker.publish(&name().topic, short).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    publish(&broker, [("", "long".to_owned())]).await;
    let mut member = join(&broker, 10).await;
    let delivered = next(&mut member, 1).await;
    assert_eq!(delivered[0].message.payload(), "long");
    settle(&member, &delivered, Outcome::Ack).await;
    let described = broker.describe_subscription(&name()).await.unwrap();
    assert_eq!((described.expired, described.acked, described.lag_messages), (1, 1, 0));
    let from_start = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut plain = broker.subscribe(&name().topic, from_start).unwrap();
    assert_eq!(plain.next().await.unwrap().payload(), "long");
}

#[tokio::test]
async fn dead_letters_are_listed_counted_redriven_to_their_subscription_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(3)).await;
    let mut member = join(&broker, 10).await;
    let delivered = next(&mut member, 3).await;
    settle(&member, &delivered, Outcome::Reject { reason: "never".to_owned() }).await;
    let all = DeadLetterQuery::default;
    let letters = broker.list_dead_letters(&name(), all(), 10).await.unwrap();
    let facts: Vec<_> = letters.iter().map(|letter| (letter.origin_offset, letter.attempts)).collect();
    assert_eq!(facts, [(0, 1), (1, 1), (2, 1)]);
    let counts = broker.count_dead_letters(&name(), all()).await.unwrap();
    assert_eq!(counts, [("never".to_owned(), 3)]);
    let one = DeadLetterQuery { ids: vec![letters[1].message.id], ..all() };
    let redriven = broker.resolve_dead_letters(&name(), one, Resolution::Redrive, None).await.unwrap();
    assert_eq!(redriven, 1);
    let again = next(&mut member, 1).await;
    assert_eq!((again[0].message.payload(), again[0].attempt), ("1".into(), 1));
    let dropped = broker.resolve_dead_letters(&name(), all(), Resolution::Drop, Some(1000)).await.unwrap();
    assert_eq!(dropped, 2);
    assert_eq!(broker.resolve_dead_letters(&name(), all(), Resolution::Count, None).await.unwrap(), 0);
}

#[tokio::test]
async fn acks_and_publications_happen_together_and_a_message_tells_its_life() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, numbered(1)).await;
    let mut member = join(&broker, 10).await;
    let delivered = next(&mut member, 1).await;
    let peeked = broker.peek_subscription(&name(), 10).await.unwrap();
    assert_eq!(peeked.len(), 1, "leased or not");
    let id = delivered[0].message.id;
    assert_eq!(broker.token_of(id).await.unwrap(), Some(delivered[0].token));
    let out = TopicName::parse("out").unwrap();
    let step =
        || broker.settle_and_publish(vec![delivered[0].token], vec![(out.clone(), NewMessage::new("done"))]);
    assert_eq!(step().await.unwrap()[0].offset, 0);
    assert!(matches!(step().await.unwrap_err(), SettleError::Stale { .. }));
    assert_eq!(broker.stats(&out).unwrap().message_count, 1);
    assert!(broker.peek_subscription(&name(), 10).await.unwrap().is_empty());
    let trace = broker.trace_message(id).await.unwrap().unwrap();
    let told: Vec<&str> = trace.steps.iter().map(|step| step.what.as_str()).collect();
    assert!(told[0].starts_with("published to orders at offset 0"), "{told:?}");
    assert_eq!(told[1..], ["handed to member \"worker\", attempt 1", "acked", "now is done with"]);
}

#[tokio::test]
async fn a_message_that_is_purged_while_it_waits_for_its_retry_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, [("k", "1".to_owned()), ("k", "2".to_owned())]).await;
    let mut member = join(&broker, 10).await;
    let first = next(&mut member, 1).await;
    let hours = Outcome::Nack { delay_ms: Some(10_000_000), reason: "later".to_owned() };
    settle(&member, &first, hours).await;
    broker.purge_topic(&name().topic, Some(1)).await.unwrap();
    let second = next(&mut member, 1).await;
    assert_eq!((second[0].message.offset, second[0].attempt), (1, 1));
    settle(&member, &second, Outcome::Ack).await;
    let description = broker.describe_subscription(&name()).await.unwrap();
    assert_eq!((description.acked, description.expired, description.waiting), (1, 1, 0), "{description:?}");
}

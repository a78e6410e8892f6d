//! Dead letters in process, on a real disk: whose they are, and what becomes of them when several things happen at once.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, DeadLetterQuery, Delivered, Durability, Fate, JoinOptions, Member, NewMessage,
    Outcome, Resolution, SettleError, Start, SubscriptionError, SubscriptionName, SubscriptionRef,
    SubscriptionSettings, TopicName, TopicSettings, Window,
};

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn named(topic_name: &str, name: &str) -> SubscriptionRef {
    SubscriptionRef { topic: topic(topic_name), name: SubscriptionName::parse(name).unwrap() }
}

fn open(folder: &Path) -> Broker {
    Broker::open(BrokerConfig::new(folder)).unwrap()
}

fn all() -> DeadLetterQuery {
    DeadLetterQuery::default()
}

fn dead_letters_to(topic: &str) -> SubscriptionSettings {
    SubscriptionSettings { dead_letter_topic: Some(topic.to_owned()), ..SubscriptionSettings::default() }
}

async fn publish(broker: &Broker, name: &str, payloads: Vec<Vec<u8>>) {
    for payload in payloads {
        broker.publish(&topic(name), NewMessage::new(payload)).await.unwrap();
    }
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_string().into_bytes()).collect()
}

async fn join(broker: &Broker, name: &SubscriptionRef, settings: SubscriptionSettings) -> Member {
    let window = Window { messages: 100, bytes: 64 << 20 };
    let create = Some((Start::Earliest, settings));
    broker.join(name, JoinOptions { member: "worker".to_owned(), window, create }).await.unwrap()
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

fn reject() -> Outcome {
    Outcome::Reject { reason: "never".to_owned() }
}

/// Has messages published and rejected; answers the member, which is still there.
async fn bury(
    broker: &Broker,
    name: &SubscriptionRef,
    settings: SubscriptionSettings,
    payloads: Vec<Vec<u8>>,
) -> Member {
    let count = payloads.len();
    publish(broker, name.topic.as_str(), payloads).await;
    let member = join(broker, name, settings).await;
    bury_waiting(member, count).await
}

/// Has what waits for a member rejected.
async fn bury_waiting(mut member: Member, count: usize) -> Member {
    let delivered = next(&mut member, count).await;
    settle(&member, &delivered, reject()).await;
    member
}

async fn unresolved(broker: &Broker, name: &SubscriptionRef) -> u64 {
    broker.resolve_dead_letters(name, all(), Resolution::Count, None).await.unwrap()
}

#[tokio::test]
async fn subscriptions_that_share_a_dead_letter_topic_have_their_own_letters() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let (one, two, other) = (named("left", "a"), named("right", "a"), named("left", "b"));
    let mut member = bury(&broker, &one, dead_letters_to("graves"), numbered(2)).await;
    let _two = bury(&broker, &two, dead_letters_to("graves"), numbered(3)).await;
    let mut others = join(&broker, &other, dead_letters_to("graves")).await;
    let delivered = next(&mut others, 2).await;
    settle(&others, &delivered[..1], reject()).await;
    let of_two = broker.list_dead_letters(&two, all(), 10).await.unwrap();
    assert!(of_two.iter().all(|letter| letter.origin_topic == "right"), "{of_two:?}");
    let left = [unresolved(&broker, &one).await, unresolved(&broker, &two).await];
    assert_eq!((left, unresolved(&broker, &other).await), ([2, 3], 1));

    let redriven = broker.resolve_dead_letters(&one, all(), Resolution::Redrive, None).await.unwrap();
    assert_eq!(redriven, 2);
    assert!(next(&mut member, 2).await.iter().all(|delivered| delivered.attempt == 1));
    assert_eq!(
        broker.stats(&one.topic).unwrap().message_count,
        4,
        "two of its own came again, and no others"
    );
    assert_eq!(broker.resolve_dead_letters(&other, all(), Resolution::Drop, None).await.unwrap(), 1);
    let left = [unresolved(&broker, &one).await, unresolved(&broker, &two).await];
    assert_eq!((left, unresolved(&broker, &other).await), ([0, 3], 0));
}

#[tokio::test]
async fn an_id_names_a_dead_letter_only_with_all_its_bits() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    let elsewhere = broker.publish(&topic("elsewhere"), NewMessage::new("0")).await.unwrap();
    let _member = bury(&broker, &name, SubscriptionSettings::default(), numbered(1)).await;
    let letters = broker.list_dead_letters(&name, all(), 10).await.unwrap();
    assert_eq!(letters[0].message.offset, elsewhere.offset);
    let of = |id| DeadLetterQuery { ids: vec![id], ..all() };
    let wrong = broker.resolve_dead_letters(&name, of(elsewhere.id), Resolution::Drop, None).await.unwrap();
    assert_eq!((wrong, unresolved(&broker, &name).await), (0, 1));
    let right =
        broker.resolve_dead_letters(&name, of(letters[0].message.id), Resolution::Drop, None).await.unwrap();
    assert_eq!((right, unresolved(&broker, &name).await), (1, 0));
}

#[tokio::test]
async fn two_redrives_at_once_send_each_letter_once_and_count_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    let _member = bury(&broker, &name, SubscriptionSettings::default(), numbered(10)).await;
    // The first look makes the subscription that looks after them; both redrives then read the same letters.
    assert_eq!(unresolved(&broker, &name).await, 10);
    let redrive = || broker.resolve_dead_letters(&name, all(), Resolution::Redrive, None);
    let (one, two) = tokio::join!(redrive(), redrive());
    assert_eq!(one.unwrap() + two.unwrap(), 10);
    assert_eq!(broker.stats(&name.topic).unwrap().message_count, 20);
    assert_eq!(unresolved(&broker, &name).await, 0);
}

/// Letters that are sent again two a second, and the topic they go to once the first two are there.
async fn slow_redrive(
    broker: &Broker,
    name: &SubscriptionRef,
    letters: u64,
) -> tokio::task::JoinHandle<Result<u64, SettleError>> {
    let (clone, owner) = (broker.clone(), name.clone());
    let redrive =
        tokio::spawn(
            async move { clone.resolve_dead_letters(&owner, all(), Resolution::Redrive, Some(2)).await },
        );
    while broker.stats(&name.topic).unwrap().message_count < letters + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    redrive
}

#[tokio::test]
async fn a_redrive_to_a_subscription_made_anew_meanwhile_is_refused_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    let _member = bury(&broker, &name, SubscriptionSettings::default(), numbered(6)).await;
    let redrive = slow_redrive(&broker, &name, 6).await;
    broker.delete_subscription(&name).await.unwrap();
    broker.create_subscription(&name, Start::Latest, SubscriptionSettings::default()).await.unwrap();
    let refused = redrive.await.unwrap().unwrap_err();
    let gone =
        matches!(&refused, SettleError::Subscription(SubscriptionError::NotFound(gone)) if *gone == name);
    assert!(gone, "{refused}");
    assert_eq!(unresolved(&broker, &name).await, 4);
    let mut member = join(&broker, &name, SubscriptionSettings::default()).await;
    let redriven = broker.resolve_dead_letters(&name, all(), Resolution::Redrive, None).await.unwrap();
    assert_eq!(redriven, 4);
    let payloads: Vec<_> = next(&mut member, 4).await.iter().map(|d| d.message.payload()).collect();
    assert_eq!(payloads, ["2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_redrive_whose_dead_letter_topic_goes_meanwhile_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    let _member = bury(&broker, &name, SubscriptionSettings::default(), numbered(6)).await;
    let redrive = slow_redrive(&broker, &name, 6).await;
    broker.delete_topic(&topic("orders.billing.dlq")).await.unwrap();
    let refused = redrive.await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "topic orders.billing.dlq has no subscription dlq");
    assert_eq!(broker.stats(&name.topic).unwrap().message_count, 8);
}

#[tokio::test]
async fn a_redrive_of_large_letters_goes_in_steps_of_a_megabyte() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    let payloads = vec![vec![7; 400 << 10]; 8];
    let _member = bury(&broker, &name, SubscriptionSettings::default(), payloads).await;
    assert_eq!(unresolved(&broker, &name).await, 8);
    let before = broker.counters().commits;
    let redriven = broker.resolve_dead_letters(&name, all(), Resolution::Redrive, None).await.unwrap();
    assert_eq!((redriven, unresolved(&broker, &name).await), (8, 0));
    let commits = broker.counters().commits - before;
    assert!(commits >= 3, "two letters go in one step: {commits} commits");
}

#[tokio::test]
async fn what_is_listed_or_peeked_at_fits_an_answer_and_goes_on_from_its_last_offset() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    publish(&broker, "orders", vec![vec![7; 900 << 10]; 4]).await;
    broker.create_subscription(&name, Start::Earliest, SubscriptionSettings::default()).await.unwrap();
    assert_eq!(broker.peek_subscription(&name, 1000).await.unwrap().len(), 3);
    let member = join(&broker, &name, SubscriptionSettings::default()).await;
    let _member = bury_waiting(member, 4).await;
    let mut listed = Vec::new();
    for wanted in [3, 1, 0] {
        let from_offset = listed.last().map_or(0, |offset| offset + 1);
        let query = DeadLetterQuery { from_offset, ..all() };
        let letters = broker.list_dead_letters(&name, query, 1000).await.unwrap();
        assert_eq!(letters.len(), wanted);
        listed.extend(letters.iter().map(|letter| letter.message.offset));
    }
    assert_eq!(listed, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_message_larger_than_an_answer_is_shown_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    let settings = TopicSettings { message_bytes_max: 16 << 20, ..TopicSettings::default() };
    broker.create_topic(&name.topic, settings).await.unwrap();
    publish(&broker, "orders", vec![vec![7; 5 << 20], vec![8; 10]]).await;
    broker.create_subscription(&name, Start::Earliest, SubscriptionSettings::default()).await.unwrap();
    let peeked = broker.peek_subscription(&name, 1000).await.unwrap();
    assert_eq!(peeked.iter().map(|message| message.payload().len()).collect::<Vec<_>>(), [5 << 20]);
}

#[tokio::test]
async fn a_dead_letter_topic_deleted_while_letters_are_on_their_way_comes_back_without_an_age_bound() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let (name, dead) = (named("orders", "billing"), topic("orders.billing.dlq"));
    let mut member = bury(&broker, &name, SubscriptionSettings::default(), numbered(1)).await;
    for round in 0..100 {
        publish(&broker, "orders", numbered(1)).await;
        let delivered = next(&mut member, 1).await;
        let (deleted, ()) = tokio::join!(broker.delete_topic(&dead), settle(&member, &delivered, reject()));
        deleted.unwrap();
        if let Some(described) = broker.describe_topic(&dead) {
            assert_eq!(described.settings.retention_age_ms, None, "round {round}");
        } else {
            let _ = broker
                .create_topic(&dead, TopicSettings { retention_age_ms: None, ..TopicSettings::default() })
                .await;
        }
    }
}

#[tokio::test]
async fn letters_of_a_topic_on_disk_wait_rather_than_go_to_a_topic_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let in_memory = TopicSettings { durability: Durability::Memory, ..TopicSettings::default() };
    broker.create_topic(&topic("graves"), in_memory.clone()).await.unwrap();
    let name = named("orders", "billing");
    publish(&broker, "orders", numbered(1)).await;
    let mut member = join(&broker, &name, dead_letters_to("graves")).await;
    let delivered = next(&mut member, 1).await;
    let fates = member.settle(vec![(delivered[0].token, reject())]).unwrap().await;
    let Fate::Unavailable(reason) = &fates[0] else { panic!("{fates:?}") };
    assert!(reason.to_string().starts_with("topic graves keeps messages in memory only"), "{reason}");
    assert_eq!(broker.stats(&topic("graves")).unwrap().message_count, 0);
    let change = |settings: &SubscriptionSettings| SubscriptionSettings {
        dead_letter_topic: None,
        ..settings.clone()
    };
    broker.change_subscription(&name, change).await.unwrap();
    settle(&member, &delivered, reject()).await;
    assert_eq!(unresolved(&broker, &name).await, 1);

    // What was never promised to survive may go where nothing survives.
    broker.create_topic(&topic("ticks"), in_memory).await.unwrap();
    let ticks = named("ticks", "chart");
    let _member = bury(&broker, &ticks, dead_letters_to("graves"), numbered(1)).await;
    assert_eq!(unresolved(&broker, &ticks).await, 1);
}

#[tokio::test]
async fn a_subscription_cannot_be_its_own_dead_letter_topic() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    publish(&broker, "orders", numbered(1)).await;
    let created = broker.create_subscription(&name, Start::Earliest, dead_letters_to("orders")).await;
    let refused = created.unwrap_err().to_string();
    assert!(
        refused.starts_with("setting dead_letter_topic is \"orders\", the subscription's own topic"),
        "{refused}"
    );
}

#[tokio::test]
async fn only_the_broker_says_how_the_subscription_of_unresolved_dead_letters_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let (name, keeper) = (named("orders", "billing"), named("orders.billing.dlq", "dlq"));
    let _member = bury(&broker, &name, SubscriptionSettings::default(), numbered(2)).await;
    let hiding = || SubscriptionSettings {
        filter: "metadata['kind'] == 'none'".to_owned(),
        expiry_ms: Some(1000),
        attempts_max: 1,
        ..SubscriptionSettings::default()
    };
    let created = broker.create_subscription(&keeper, Start::Latest, hiding()).await;
    assert!(matches!(created, Err(SubscriptionError::Reserved(_))), "{created:?}");
    // On any other topic as well, because dead letters may go there some day.
    let options = || JoinOptions { create: Some((Start::Latest, hiding())), ..JoinOptions::default() };
    let elsewhere = broker.join(&named("orders", "dlq"), options()).await.map(drop);
    assert!(matches!(elsewhere, Err(SubscriptionError::Reserved(_))), "{elsewhere:?}");

    // Whoever is the first to work through them gets all of them, as often as it takes.
    let mut member = broker.join(&keeper, options()).await.unwrap();
    assert!(member.has_created());
    let settings = member.settings();
    assert_eq!((settings.filter.as_str(), settings.expiry_ms, settings.attempts_max), ("", None, 0));
    assert_eq!(next(&mut member, 2).await[0].message.offset, 0);
    assert_eq!(unresolved(&broker, &name).await, 2);
}

#[tokio::test]
async fn whoever_consumes_dead_letters_as_a_member_leaves_their_facts_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let name = named("orders", "billing");
    let mut member = bury(&broker, &name, SubscriptionSettings::default(), numbered(1)).await;
    assert_eq!(unresolved(&broker, &name).await, 1);
    let mut undertaker =
        join(&broker, &named("orders.billing.dlq", "dlq"), SubscriptionSettings::default()).await;
    for attempt in 1..=5 {
        let delivered = next(&mut undertaker, 1).await;
        assert_eq!((delivered[0].message.offset, delivered[0].attempt), (0, attempt));
        let nack = Outcome::Nack { delay_ms: Some(0), reason: "not yet".to_owned() };
        settle(&undertaker, &delivered, nack).await;
    }
    let delivered = next(&mut undertaker, 1).await;
    settle(&undertaker, &delivered, Outcome::Reject { reason: "not by me".to_owned() }).await;
    let letters = broker.list_dead_letters(&name, all(), 10).await.unwrap();
    let facts: Vec<_> =
        letters.iter().map(|l| (l.origin_topic.as_str(), l.origin_offset, l.attempts)).collect();
    assert_eq!((facts, letters[0].reason.as_str()), (vec![("orders", 0, 1)], "not by me"));
    assert_eq!(broker.resolve_dead_letters(&name, all(), Resolution::Redrive, None).await.unwrap(), 1);
    assert_eq!(next(&mut member, 1).await[0].message.payload(), "0");
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
async fn a_journal_in_which_a_dead_letter_topic_goes_while_letters_come_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let (name, dead, other) = (named("orders", "billing"), topic("orders.billing.dlq"), topic("other"));
    let mut member = bury(&broker, &name, SubscriptionSettings::default(), numbered(1)).await;
    for _ in 0..100 {
        publish(&broker, "orders", numbered(1)).await;
        let delivered = next(&mut member, 1).await;
        // The first keeps the disk busy, so that the other two wait for the same block.
        let (_, deleted, ()) = tokio::join!(
            broker.publish(&other, NewMessage::new(vec![7; 100_000])),
            broker.delete_topic(&dead),
            settle(&member, &delivered, reject())
        );
        deleted.unwrap();
        if !broker.topic_exists(&dead) {
            let settings = TopicSettings { retention_age_ms: None, ..TopicSettings::default() };
            broker.create_topic(&dead, settings).await.unwrap();
        }
    }
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder.path(), copy.path());
    let again = open(copy.path());
    let letters = |broker: &Broker| broker.stats(&dead).unwrap().message_count;
    assert_eq!(letters(&again), letters(&broker));
    assert_eq!(again.describe_subscription(&name).await.unwrap().dead, 101);
}

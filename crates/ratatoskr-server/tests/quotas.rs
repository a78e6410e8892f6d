//! What a tenant's namespace may store, at the real door: bursts, restarts, changes of the policy, and what no quota holds back.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use std::time::{Duration, Instant};

use ratatoskr_broker::{Broker, BrokerConfig, NewMessage, Start, SubscribeOptions, TopicName};
use ratatoskr_proto as wire;
use support::policy::{Client, PolicyFile, until};
use support::{Fixture, PATIENCE, message};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const KIB: u64 = 1024;
const ROOT: &[(&str, &str)] = &[("root", "roles = [\"everything\"]")];

/// A namespace that may store so much, and one without limits.
fn rest(stored: &str) -> String {
    format!(
        "[roles.everything]\nallow = [{{ actions = [\"publish\", \"subscribe\", \"manage\", \"admin\"], topics = [\"*\"] }}]\n\
         [namespaces.acme]\nprefix = \"acme.\"\nstored_bytes_max = \"{stored}\"\n[namespaces.free]\nprefix = \"free.\"\n"
    )
}

fn policy(stored: &str) -> PolicyFile {
    PolicyFile::new(ROOT, &rest(stored))
}

/// What all topics of the namespace hold, as they say themselves.
fn stored(fixture: &Fixture) -> u64 {
    let names = fixture.broker.list_topics().into_iter().filter(|name| name.as_str().starts_with("acme."));
    names.filter_map(|name| fixture.broker.describe_topic(&name)).map(|topic| topic.bytes).sum()
}

async fn publish(client: &mut Client, topic: &str, payload: String) -> Result<(), Status> {
    let response = client.publish(message(topic, payload)).await?.into_inner();
    assert!(response.success, "{}", response.error);
    Ok(())
}

/// Publishes until it is refused. Answers why.
async fn fill(client: &mut Client, topic: &str, payload_bytes: usize) -> Status {
    for _ in 0..10_000 {
        if let Err(status) = publish(client, topic, "x".repeat(payload_bytes)).await {
            return status;
        }
    }
    panic!("nothing is refused");
}

/// The same until the namespace of 256 KiB is nearly full. What is on its way while a look is taken may be counted twice until the next
/// one, so something may be refused too early.
async fn fill_up(fixture: &Fixture, client: &mut Client, topic: &str) -> Status {
    let began = Instant::now();
    loop {
        let status = fill(client, topic, 10_000).await;
        assert_is_full(&status);
        if stored(fixture) >= 240 * KIB {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until what is counted is what is stored, as the metric says it.
async fn until_looked(fixture: &Fixture, policy: &PolicyFile) {
    let shown = format!("authorization: Bearer {}\r\n", policy.token("root"));
    until("the metric says what is stored", async || {
        let page = fixture.page_with("/metrics", &shown).await;
        assert!(page.contains("ratatoskr_namespace_stored_bytes_max{namespace=\"acme\"} 262144\n"), "{page}");
        assert!(!page.contains("namespace=\"free\""), "{page}");
        page.contains(&format!(
            "ratatoskr_namespace_stored_bytes{{namespace=\"acme\"}} {}\n",
            stored(fixture)
        ))
    })
    .await;
}

fn assert_is_full(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "STORAGE_QUOTA_EXCEEDED");
}

/// Publishes as soon as it may.
async fn publish_once_there_is_room(client: &mut Client, topic: &str) -> Duration {
    let began = Instant::now();
    while let Err(status) = publish(client, topic, "x".repeat(10_000)).await {
        assert_is_full(&status);
        assert!(began.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_what_to_do_until_there_is_room() {
    let policy = policy("256KiB");
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "root").await;
    let status = fill_up(&fixture, &mut client, "acme.one").await;
    let full = stored(&fixture);
    assert!((240 * KIB..=256 * KIB).contains(&full), "{full}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((&*info.metadata["namespace"], &*info.metadata["stored_bytes_max"]), ("acme", "262144"));
    let counted: u64 = info.metadata["stored_bytes"].parse().unwrap();
    assert!((full..=256 * KIB).contains(&counted), "{counted}, {full} are stored");
    for part in ["namespace \"acme\" holds ", "of the 262144 bytes", "purge topics", "raise stored_bytes_max"]
    {
        assert!(status.message().contains(part), "{status}");
    }
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay.unwrap(), Duration::from_secs(1));

    // The quota is on all topics together, and on no others.
    assert_is_full(&publish(&mut client, "acme.two", "x".repeat(20_000)).await.unwrap_err());
    publish(&mut client, "free.one", "x".repeat(300_000)).await.unwrap();
    publish(&mut client, "other", "x".repeat(300_000)).await.unwrap();
    until_looked(&fixture, &policy).await;

    // Room is seen soon after it is made.
    client.purge_topic(wire::PurgeTopicRequest { name: "acme.one".into(), before: None }).await.unwrap();
    let purged = publish_once_there_is_room(&mut client, "acme.one").await;
    fill(&mut client, "acme.one", 10_000).await;
    client.delete_topic(wire::DeleteTopicRequest { name: "acme.one".into() }).await.unwrap();
    let deleted = publish_once_there_is_room(&mut client, "acme.two").await;
    assert!(purged < Duration::from_secs(5) && deleted < Duration::from_secs(5), "{purged:?} {deleted:?}");
}

#[tokio::test]
async fn retention_makes_room_by_itself() {
    let policy = policy("256KiB");
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "root").await;
    assert_is_full(&fill(&mut client, "acme.one", 10_000).await);
    let settings = wire::TopicSettings { retention_messages: Some(1), ..Default::default() };
    let update = wire::UpdateTopicRequest { name: "acme.one".into(), settings: Some(settings) };
    client.update_topic(update).await.unwrap();
    publish_once_there_is_room(&mut client, "acme.one").await;
}

fn batch(payload_bytes_max: usize) -> Vec<wire::PublishRequest> {
    (0..100).map(|n| message("", "x".repeat(n.min(payload_bytes_max)))).collect()
}

/// Fills a topic of its own by a stream, what is left by batches, and what is left then by single messages.
async fn press(mut client: Client, number: usize) {
    let topic = format!("acme.{number}");
    let payload_bytes_max = if number < 2 { 1 } else { 100 };
    let step = |sequence| wire::PublishStreamRequest {
        sequence,
        topic: topic.clone(),
        messages: batch(payload_bytes_max),
    };
    let steps: Vec<_> = (1..1000).map(step).collect();
    let mut answers = client.publish_stream(tokio_stream::iter(steps)).await.unwrap().into_inner();
    let status = loop {
        match answers.message().await {
            Ok(answer) => assert!(answer.is_some(), "the stream ended well"),
            Err(status) => break status,
        }
    };
    assert_is_full(&status);
    for _ in 0..300 {
        let request = wire::PublishBatchRequest { topic: topic.clone(), messages: batch(payload_bytes_max) };
        if let Err(status) = client.publish_batch(request).await {
            assert_is_full(&status);
            break;
        }
    }
    assert_is_full(&fill(&mut client, &topic, 10).await);
}

/// By messages so small that their records are larger than they, too.
#[tokio::test]
async fn a_burst_between_two_looks_does_not_pass_the_limit() {
    let policy = policy("2MiB");
    let fixture = policy.serve();
    let began = Instant::now();
    let mut publishers = tokio::task::JoinSet::new();
    for number in 0..4 {
        publishers.spawn(press(policy.client(&fixture, "root").await, number));
    }
    while let Some(publisher) = publishers.join_next().await {
        publisher.unwrap();
        assert!(stored(&fixture) <= 2 * KIB * KIB, "{} bytes are stored", stored(&fixture));
    }
    // Looks put right what was counted too high: in the end it is full indeed.
    let mut client = policy.client(&fixture, "root").await;
    while stored(&fixture) < 2 * KIB * KIB - 8 * KIB {
        assert!(began.elapsed() < PATIENCE, "{} bytes are stored", stored(&fixture));
        assert_is_full(&fill(&mut client, "acme.0", 4000).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_is_full(&fill(&mut client, "acme.0", 4000).await);
    assert!(stored(&fixture) <= 2 * KIB * KIB, "{} bytes are stored", stored(&fixture));
}

#[tokio::test]
async fn what_was_stored_before_the_start_counts_from_the_first_publish_on() {
    let policy = policy("256KiB");
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(data.path())).unwrap();
    for topic in ["acme.one", "acme.two"] {
        broker
            .publish(&TopicName::parse(topic).unwrap(), NewMessage::new("x".repeat(128 << 10)))
            .await
            .unwrap();
    }
    let fixture = Fixture::serve(broker, data, |options| options.access = policy.rule());
    let mut client = policy.client(&fixture, "root").await;
    assert_is_full(&publish(&mut client, "acme.one", "x".into()).await.unwrap_err());
}

#[tokio::test]
async fn a_changed_quota_is_held_against_what_is_there_already() {
    let policy = policy("10MiB");
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "root").await;
    publish(&mut client, "acme.one", "x".repeat(500_000)).await.unwrap();
    policy.write(ROOT, &rest("256KiB"));
    until("the lower quota is in force", async || {
        publish(&mut client, "acme.one", "x".into()).await.is_err_and(|status| {
            assert_is_full(&status);
            true
        })
    })
    .await;
    policy.write(ROOT, &rest("1MiB"));
    publish_once_there_is_room(&mut client, "acme.one").await;
    // A namespace that had no quota, and has much.
    publish(&mut client, "free.one", "x".repeat(100_000)).await.unwrap();
    policy.write(ROOT, &format!("{}stored_bytes_max = 1000\n", rest("1MiB")));
    fixture.running.as_ref().unwrap().reload();
    assert_is_full(&publish(&mut client, "free.one", "x".into()).await.unwrap_err());
}

#[tokio::test]
async fn memory_topics_count_as_well() {
    let policy = policy("256KiB");
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "root").await;
    let settings =
        wire::TopicSettings { durability: Some(wire::Durability::Memory.into()), ..Default::default() };
    let create = wire::CreateTopicRequest { name: "acme.memory".into(), settings: Some(settings) };
    assert!(client.create_topic(create).await.unwrap().into_inner().created);
    assert_is_full(&fill(&mut client, "acme.memory", 1).await);
    let full = stored(&fixture);
    assert!((128 * KIB..=256 * KIB).contains(&full), "{full}");
    until_looked(&fixture, &policy).await;
    assert_is_full(&fill(&mut client, "acme.disk", 1000).await);
}

#[tokio::test]
async fn dead_letters_and_what_is_due_go_where_they_go_however_full_it_is() {
    let policy = policy("256KiB");
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "root").await;
    let name = wire::SubscriptionName { topic: "acme.one".into(), subscription: "billing".into() };
    let mut later = message("acme.one", "later");
    later.delay_ms = 3000;
    assert!(client.publish(later).await.unwrap().into_inner().success);
    publish(&mut client, "acme.one", "y".repeat(100_000)).await.unwrap();
    let pull = wire::PullRequest {
        name: Some(name.clone()),
        messages_max: 1,
        wait_ms: 20_000,
        ..Default::default()
    };
    let pulled = client.pull(pull.clone()).await.unwrap().into_inner().messages.remove(0);
    fill_up(&fixture, &mut client, "acme.one").await;

    // A message that is published in one step with an ack is refused with it.
    let ack = || Some(wire::settlement::Outcome::Ack(wire::Done {}));
    let reject = || Some(wire::settlement::Outcome::Reject(wire::Reject::default()));
    let settlement = |outcome| wire::Settlement { token: pulled.token.clone(), outcome };
    let step = wire::SettleRequest {
        settlements: vec![settlement(ack())],
        messages: vec![message("acme.two", "z".repeat(100_000))],
    };
    assert_is_full(&client.settle(step).await.unwrap_err());
    let step = wire::SettleRequest { settlements: vec![settlement(reject())], messages: Vec::new() };
    let fates = client.settle(step).await.unwrap().into_inner();
    assert_eq!(fates.refused, []);
    let letters = wire::ListDeadLettersRequest { name: Some(name), ..Default::default() };
    until("the rejected message is a dead letter", async || {
        let listed = client.clone().list_dead_letters(letters.clone()).await;
        listed.is_ok_and(|listed| listed.into_inner().letters.len() == 1)
    })
    .await;
    let dead: u64 = stored(&fixture);
    assert!(dead > 256 * KIB, "{dead}: the dead letter is counted");

    // What was scheduled before is put into its topic when it is due.
    let earliest = SubscribeOptions { start: Start::Earliest, ..Default::default() };
    let mut reader = fixture.broker.subscribe(&TopicName::parse("acme.one").unwrap(), earliest).unwrap();
    let due = async { while reader.next().await.unwrap().payload() != "later" {} };
    tokio::time::timeout(PATIENCE, due).await.unwrap();
    assert_is_full(&publish(&mut client, "acme.one", "x".into()).await.unwrap_err());
}

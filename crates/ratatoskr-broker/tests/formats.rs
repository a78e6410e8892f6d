//! A data directory written by every released version opens, and holds what it held.
//!
//! ```text
//!   tests/formats/0.1.0/files.txt     a line per file: its length, its path
//!                       files/…       their content, page by page without the zeros at the end
//!                       account.txt   what a broker of that version said of it
//! ```
//!
//! `cargo xtask fixture` writes one with the version of this tree; it is never written again once the version is released.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, DeadLetterQuery, Delivery, Durability, Fate, JoinOptions, Member, NewMessage,
    Outcome, Severity, Start, SubscribeOptions, SubscriptionName, SubscriptionRef, SubscriptionSettings,
    TopicName, TopicSettings, Window, examine,
};
use ratatoskr_log::RealDisk;
use ratatoskr_sim::SimClock;

const PAGE_BYTES: usize = 4096;
const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// When it is written, and looked at: nothing expires meanwhile.
const NOW_MS: u64 = 56 * YEAR_MS;

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn billing() -> SubscriptionRef {
    SubscriptionRef { topic: topic("orders"), name: SubscriptionName::parse("billing").unwrap() }
}

fn open(folder: &Path) -> Broker {
    Broker::open_on(&BrokerConfig::new(folder), Arc::new(RealDisk), Arc::new(SimClock::at(NOW_MS))).unwrap()
}

fn settings() -> SubscriptionSettings {
    SubscriptionSettings { ordered: false, ..SubscriptionSettings::default() }
}

async fn join(broker: &Broker) -> Member {
    let window = Window { messages: 4, ..Window::default() };
    let create = Some((Start::Earliest, settings()));
    broker.join(&billing(), JoinOptions { member: "worker".to_owned(), window, create }).await.unwrap()
}

fn message(number: u64) -> NewMessage {
    NewMessage {
        key: if number.is_multiple_of(3) { String::new() } else { format!("key {}", number % 5) },
        metadata: (0..number % 3).map(|entry| (format!("name-{entry}"), format!("value {number}"))).collect(),
        dedup_id: if number.is_multiple_of(2) { format!("id {number}") } else { String::new() },
        ttl_ms: if number.is_multiple_of(7) { 1000 * YEAR_MS / 1000 } else { 0 },
        ..NewMessage::new(format!("message {number} {}", "·".repeat((number * 37 % 200) as usize)))
    }
}

/// Everything a directory can hold, part of it in segments and a checkpoint, part of it in the journal's tail.
async fn fill(folder: &Path) -> (Broker, Vec<Member>) {
    let broker = open(folder);
    let kept = TopicSettings {
        retention_age_ms: None,
        dedup_window_ms: 7 * 24 * 60 * 60 * 1000,
        ..TopicSettings::default()
    };
    for name in ["orders", "purged", "gone"] {
        broker.create_topic(&topic(name), kept.clone()).await.unwrap();
    }
    let written = TopicSettings { durability: Durability::Written, ..kept };
    broker.create_topic(&topic("written"), written).await.unwrap();
    for number in 0..40 {
        broker.publish(&topic("orders"), message(number)).await.unwrap();
        broker
            .publish(&topic(["purged", "gone", "written"][number as usize % 3]), message(number))
            .await
            .unwrap();
    }
    broker.purge_topic(&topic("purged"), Some(5)).await.unwrap();
    let mut member = join(&broker).await;
    settle(&mut member, &[Outcome::Ack, nack(0), Outcome::Ack, reject()]).await;
    broker.save_subscription(&billing(), "before").await.unwrap();
    drop(member);
    broker.shutdown().unwrap();
    drop(broker);

    let broker = open(folder);
    broker.delete_topic(&topic("gone")).await.unwrap();
    for number in 40..60 {
        broker.publish(&topic("orders"), message(number)).await.unwrap();
    }
    let later = NewMessage { delivery: Delivery::At(NOW_MS + YEAR_MS), ..message(99) };
    broker.publish(&topic("orders"), later).await.unwrap();
    let mut member = join(&broker).await;
    settle(&mut member, &[Outcome::Ack, nack(YEAR_MS / 1000), reject(), Outcome::Ack]).await;
    (broker, vec![member])
}

fn nack(delay_ms: u64) -> Outcome {
    Outcome::Nack { delay_ms: Some(delay_ms.min(43_200_000)), reason: "not now".to_owned() }
}

fn reject() -> Outcome {
    Outcome::Reject { reason: "never".to_owned() }
}

/// Settles the next deliveries, one by one.
async fn settle(member: &mut Member, outcomes: &[Outcome]) {
    let mut waiting = Vec::new();
    for outcome in outcomes {
        while waiting.is_empty() {
            let batch = tokio::time::timeout(Duration::from_secs(20), member.next_batch()).await;
            waiting = batch.unwrap().unwrap();
        }
        let delivered = waiting.remove(0);
        let fates = member.settle(vec![(delivered.token, outcome.clone())]).unwrap().await;
        assert_eq!(fates, [Fate::Settled]);
    }
}

/// What a broker says of all it holds, a line each.
async fn account(broker: &Broker) -> String {
    let mut account = String::new();
    for name in broker.list_topics() {
        let described = broker.describe_topic(&name).unwrap();
        let (first, next) = (described.first_offset, described.next_offset);
        writeln!(account, "topic {name}: {first} to {next}, {:?}", described.settings).unwrap();
        let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
        let mut subscription = broker.subscribe(&name, options).unwrap();
        for _ in first..next {
            let message =
                tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap().unwrap();
            let metadata: Vec<_> = message.metadata().collect();
            let payload = String::from_utf8(message.payload().to_vec()).unwrap();
            let (offset, time, key) = (message.offset, message.timestamp_ms, message.key());
            writeln!(account, "  {offset} {time} {key:?} {metadata:?} {payload}").unwrap();
        }
    }
    // Whoever asks for dead letters makes a subscription for it, named so.
    let subscriptions =
        broker.list_subscriptions(None).into_iter().filter(|found| found.name.as_str() != "dlq");
    for name in subscriptions {
        let described = broker.describe_subscription(&name).await.unwrap();
        let counts =
            (described.acked, described.dead, described.expired, described.passed, described.lag_messages);
        writeln!(
            account,
            "subscription {}/{}: {counts:?}, saved {:?}",
            name.topic, name.name, described.saved
        )
        .unwrap();
    }
    for letter in broker.list_dead_letters(&billing(), DeadLetterQuery::default(), 100).await.unwrap() {
        writeln!(account, "dead {} of {}: {}", letter.message.offset, letter.origin_topic, letter.reason)
            .unwrap();
    }
    let counters = broker.counters();
    writeln!(account, "scheduled {}, ids {}", counters.scheduled_messages, counters.dedup_ids).unwrap();
    account
}

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

fn files_below(folder: &Path, base: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, base, found);
        } else {
            found.push(path.strip_prefix(base).unwrap().to_owned());
        }
    }
}

/// Keeps a data directory as a fixture, while its broker is at work: as a kill would leave it.
fn keep(data: &Path, fixture: &Path) {
    let mut files = Vec::new();
    files_below(data, data, &mut files);
    files.retain(|path| !path.ends_with("lock") && !path.ends_with("journal/spare"));
    files.sort();
    let mut list = String::new();
    for path in files {
        let bytes = std::fs::read(data.join(&path)).unwrap();
        writeln!(list, "{} {}", bytes.len(), path.display()).unwrap();
        let kept = fixture.join("files").join(&path);
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::write(kept, squeezed(&bytes)).unwrap();
    }
    std::fs::write(fixture.join("files.txt"), list).unwrap();
}

/// Pages without the zeros at their ends, each behind its length (u16); nothing behind the last page that holds something.
fn squeezed(bytes: &[u8]) -> Vec<u8> {
    let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut squeezed = Vec::new();
    for page in bytes[..content].chunks(PAGE_BYTES) {
        let length = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        squeezed.extend_from_slice(&(length as u16).to_le_bytes());
        squeezed.extend_from_slice(&page[..length]);
    }
    squeezed
}

fn expanded(mut squeezed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((length, rest)) = squeezed.split_first_chunk() {
        let (page, rest) = rest.split_at(u16::from_le_bytes(*length).into());
        bytes.extend_from_slice(page);
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        if page.is_empty() {
            bytes.resize(bytes.len() + PAGE_BYTES, 0);
        }
        squeezed = rest;
    }
    bytes
}

/// Makes a data directory of a fixture.
fn restore(fixture: &Path, data: &Path) {
    for folder in ["journal", "topics"] {
        std::fs::create_dir_all(data.join(folder)).unwrap();
    }
    for line in std::fs::read_to_string(fixture.join("files.txt")).unwrap().lines() {
        let (length, path) = line.split_once(' ').unwrap();
        std::fs::create_dir_all(data.join(path).parent().unwrap()).unwrap();
        let bytes = expanded(&std::fs::read(fixture.join("files").join(path)).unwrap());
        std::fs::write(data.join(path), bytes).unwrap();
        let file = std::fs::File::options().write(true).open(data.join(path)).unwrap();
        file.set_len(length.parse().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_data_directory_of_every_released_version_opens_and_holds_what_it_held() {
    let mut versions: Vec<_> =
        std::fs::read_dir(formats()).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    assert!(!versions.is_empty());
    for fixture in versions {
        let data = tempfile::tempdir().unwrap();
        restore(&fixture, data.path());
        let expected = std::fs::read_to_string(fixture.join("account.txt")).unwrap();
        let diagnosis = examine(data.path()).unwrap();
        assert!(diagnosis.worst() <= Some(Severity::Note), "{}: {diagnosis:#?}", fixture.display());
        // From the journal's tail, and again from the checkpoint that the first start has made.
        for start in ["first", "second"] {
            let broker = open(data.path());
            let found = account(&broker).await;
            assert_eq!(found, expected, "{}, {start} start", fixture.display());
            let known = broker.publish(&topic("orders"), message(2)).await.unwrap();
            assert!(known.duplicate && known.offset == 2, "ids are known");
            let next = broker.describe_topic(&topic("orders")).unwrap().next_offset;
            assert_eq!(next, 60, "a duplicate is not stored");
            broker.shutdown().unwrap();
        }
    }
}

#[test]
fn a_data_directory_from_before_the_first_release_is_refused_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    restore(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused/format-1"), data.path());
    let before = std::fs::read(data.path().join("checkpoint")).unwrap();
    let refused = Broker::open(BrokerConfig::new(data.path())).err().unwrap().to_string();
    assert!(refused.contains("format 1") && refused.contains("empty data directory"), "{refused}");
    assert_eq!(examine(data.path()).unwrap().worst(), Some(Severity::Refusal));
    assert_eq!(std::fs::read(data.path().join("checkpoint")).unwrap(), before, "nothing was changed");
}

/// `cargo xtask fixture`.
#[tokio::test]
#[ignore = "writes the fixture of this version"]
async fn write_the_fixture_of_this_version() {
    let fixture = formats().join(env!("CARGO_PKG_VERSION"));
    assert!(!fixture.exists(), "{} is there already: a released format never changes", fixture.display());
    let data = tempfile::tempdir().unwrap();
    let (broker, members) = fill(data.path()).await;
    std::fs::create_dir_all(&fixture).unwrap();
    keep(data.path(), &fixture);
    std::fs::write(fixture.join("account.txt"), account(&broker).await).unwrap();
    drop(members);
}

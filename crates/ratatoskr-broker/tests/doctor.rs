//! The doctor finds what was done to a data directory, says what it means, is of the same opinion as a start, and changes nothing.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ratatoskr_broker::{
    Broker, BrokerConfig, Diagnosis, Finding, NewMessage, Severity, Start, SubscriptionName, SubscriptionRef,
    SubscriptionSettings, TopicName, examine_on,
};
use ratatoskr_log::{Disk, OpenMode};
use ratatoskr_sim::{SimClock, SimDisk};

const ROOT: &str = "/var/ratatoskr";
const ORDERS: &str = "topics/00000001-orders/00000000000000000000.segment";

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn open(disk: &SimDisk) -> Result<Broker, String> {
    let config = BrokerConfig::new(ROOT);
    Broker::open_on(&config, Arc::new(disk.clone()), Arc::new(SimClock::at(9_000_000)))
        .map_err(|error| error.to_string())
}

fn examine(disk: &SimDisk) -> Diagnosis {
    let before = disk.operations();
    let diagnosis = examine_on(Path::new(ROOT), &(Arc::new(disk.clone()) as Arc<dyn Disk>)).unwrap();
    assert_eq!(disk.operations(), before, "the doctor has changed something");
    diagnosis
}

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

async fn fill(broker: &Broker) {
    for name in ["orders", "bills"] {
        for number in 0..5 {
            broker.publish(&topic(name), NewMessage::new(format!("{name} {number}"))).await.unwrap();
        }
    }
    let subscription =
        SubscriptionRef { topic: topic("orders"), name: SubscriptionName::parse("billing").unwrap() };
    broker
        .create_subscription(&subscription, Start::Earliest, SubscriptionSettings::default())
        .await
        .unwrap();
}

/// A data directory after a clean stop: all in segments.
async fn stopped() -> SimDisk {
    let disk = SimDisk::new();
    let broker = open(&disk).unwrap();
    fill(&broker).await;
    broker.shutdown().unwrap();
    drop(broker);
    disk.kill()
}

/// A data directory after a kill: all in the journal.
async fn killed() -> SimDisk {
    let disk = SimDisk::new();
    let broker = open(&disk).unwrap();
    fill(&broker).await;
    let disk = disk.kill();
    drop(broker);
    disk
}

fn only(diagnosis: &Diagnosis) -> &Finding {
    let [finding] = &diagnosis.findings[..] else { panic!("one finding is wanted: {diagnosis:#?}") };
    assert!(!finding.what.is_empty() && !finding.meaning.is_empty() && !finding.advice.is_empty());
    finding
}

fn length(disk: &SimDisk, name: &str) -> u64 {
    disk.open(&path(name), OpenMode::Read).unwrap().len().unwrap()
}

fn write(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let _ = disk.remove(&path(name));
    disk.open(&path(name), OpenMode::CreateNew).unwrap().write_all_at(bytes, 0).unwrap();
}

#[tokio::test]
async fn a_sound_directory_has_no_findings() {
    let diagnosis = examine(&stopped().await);
    assert_eq!(diagnosis.worst(), None, "{diagnosis:#?}");
    assert_eq!((diagnosis.topics, diagnosis.segments, diagnosis.records), (2, 2, 10));
    let diagnosis = examine(&killed().await);
    assert_eq!(diagnosis.worst(), None, "{diagnosis:#?}");
    assert_eq!((diagnosis.topics, diagnosis.segments), (2, 0));
    assert!(diagnosis.blocks >= 10, "{diagnosis:?}");
}

#[tokio::test]
async fn a_damaged_record_is_named_with_its_place_and_its_neighbours_are_counted() {
    let disk = stopped().await;
    // Into the third record: each has 28 bytes of head, a flag, and nine of payload; 64 are the file's.
    let record = 28 + 1 + "orders 0".len() as u64;
    disk.flip_bit(&path(ORDERS), 64 + 2 * record + 30, 3).unwrap();
    let diagnosis = examine(&disk);
    let finding = only(&diagnosis);
    assert_eq!(
        (finding.severity, finding.offset, finding.position),
        (Severity::Loss, Some(2), Some(64 + 2 * record))
    );
    assert_eq!((finding.topic.as_deref(), finding.path.clone()), (Some("orders"), path(ORDERS)));
    assert_eq!(diagnosis.records, 9);
}

#[tokio::test]
async fn missing_shortened_and_foreign_segments_are_told_apart() {
    let disk = stopped().await;
    disk.delete(&path(ORDERS)).unwrap();
    let diagnosis = examine(&disk);
    assert!(only(&diagnosis).what.contains("missing"), "{diagnosis:#?}");

    let disk = stopped().await;
    disk.truncate(&path(ORDERS), 100).unwrap();
    let diagnosis = examine(&disk);
    assert!(diagnosis.findings[0].what.starts_with("100 bytes where"), "{diagnosis:#?}");
    assert_eq!(diagnosis.worst(), Some(Severity::Loss));

    let disk = stopped().await;
    let theirs = "topics/00000002-bills/00000000000000000000.segment";
    let mut bytes = vec![0; length(&disk, theirs) as usize];
    disk.open(&path(theirs), OpenMode::Read).unwrap().read_at(&mut bytes, 0).unwrap();
    write(&disk, ORDERS, &bytes);
    let diagnosis = examine(&disk);
    assert!(only(&diagnosis).what.contains("belongs to topic number 2"), "{diagnosis:#?}");
}

#[tokio::test]
async fn what_costs_nothing_is_a_note() {
    let disk = stopped().await;
    disk.flip_bit(&path(ORDERS), 20, 1).unwrap();
    let diagnosis = examine(&disk);
    assert_eq!((only(&diagnosis).severity, only(&diagnosis).position), (Severity::Note, Some(0)));

    let disk = stopped().await;
    write(&disk, "checkpoint.new", b"half");
    assert_eq!(only(&examine(&disk)).severity, Severity::Note);
    write(&disk, "notes.txt", b"mine");
    assert_eq!(examine(&disk).findings.len(), 2);

    let empty = SimDisk::new();
    empty.create_dir(Path::new(ROOT)).unwrap();
    assert_eq!(only(&examine(&empty)).severity, Severity::Note);
}

#[tokio::test]
async fn what_a_start_refuses_is_a_refusal_with_file_and_place() {
    let disk = stopped().await;
    disk.flip_bit(&path("checkpoint"), 100, 0).unwrap();
    let finding = only(&examine(&disk)).clone();
    assert_eq!(
        (finding.severity, finding.path.clone(), finding.position),
        (Severity::Refusal, path("checkpoint"), Some(64))
    );

    let disk = stopped().await;
    disk.delete(&path("checkpoint")).unwrap();
    assert!(only(&examine(&disk)).what.contains("the checkpoint is missing"));

    for name in ["journal/readme", "topics/readme"] {
        let disk = stopped().await;
        write(&disk, name, b"mine");
        let diagnosis = examine(&disk);
        assert_eq!(diagnosis.findings[0].path, path(name));
        assert_eq!(diagnosis.worst(), Some(Severity::Refusal));
        assert!(open(&disk).err().unwrap().contains(name), "the start says the same");
    }

    let disk = killed().await;
    disk.flip_bit(&path("journal/0000000000000001.journal"), 3 * 4096 + 60, 0).unwrap();
    let diagnosis = examine(&disk);
    assert_eq!((only(&diagnosis).severity, only(&diagnosis).position), (Severity::Refusal, Some(3 * 4096)));
}

#[tokio::test]
async fn lost_indexes_are_notes() {
    let disk = SimDisk::new();
    let broker = open(&disk).unwrap();
    let payload = vec![7; 4000];
    for _ in 0..40 {
        broker.publish(&topic("orders"), NewMessage::new(payload.clone())).await.unwrap();
    }
    broker.shutdown().unwrap();
    drop(broker);
    let index = "topics/00000001-orders/00000000000000000000.index";
    assert_eq!(examine(&disk.kill()).worst(), None);
    let damages: [&dyn Fn(&SimDisk); 3] = [
        &|disk| disk.delete(&path(index)).unwrap(),
        &|disk| disk.truncate(&path(index), 16 + 24).unwrap(),
        &|disk| disk.flip_bit(&path(index), 45, 0).unwrap(),
    ];
    for damage in damages {
        let disk = disk.kill();
        damage(&disk);
        let diagnosis = examine(&disk);
        let finding = only(&diagnosis);
        assert_eq!((finding.severity, &finding.path), (Severity::Note, &path(index)));
        assert!(finding.what.contains("places are missing"), "{}", finding.what);
    }
}

/// Any byte of any file: whatever a start thinks of it, the doctor thinks too.
#[tokio::test]
async fn the_doctor_and_a_start_are_of_one_opinion() {
    let (stopped, killed) = (stopped().await, killed().await);
    let journal = "journal/0000000000000001.journal";
    let mut seen = [0; 3];
    for (disk, name, step) in [(&stopped, ORDERS, 3), (&stopped, "checkpoint", 11), (&killed, journal, 191)] {
        for position in (0..length(disk, name).min(14 * 4096)).step_by(step) {
            let disk = disk.kill();
            disk.flip_bit(&path(name), position, (position % 8) as u8).unwrap();
            let diagnosis = examine(&disk);
            let opened = open(&disk);
            let refuses = diagnosis.worst() == Some(Severity::Refusal);
            assert_eq!(opened.is_err(), refuses, "{name} byte {position}: {:?} {diagnosis:#?}", opened.err());
            let Ok(broker) = opened else {
                seen[0] += 1;
                continue;
            };
            let loses = diagnosis.worst() == Some(Severity::Loss);
            let served = readable(&broker).await;
            assert_eq!(
                served < 10 && name == ORDERS,
                loses,
                "{name} byte {position}: {served} {diagnosis:#?}"
            );
            seen[if loses { 1 } else { 2 }] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 10), "of each kind there are some: {seen:?}");
}

/// How many of the ten messages can be read.
async fn readable(broker: &Broker) -> usize {
    let mut count = 0;
    for name in ["orders", "bills"] {
        let Some(described) = broker.describe_topic(&topic(name)) else { continue };
        for offset in described.first_offset..described.next_offset {
            let options = ratatoskr_broker::SubscribeOptions {
                start: Start::Offset(offset),
                ..ratatoskr_broker::SubscribeOptions::default()
            };
            let mut subscription = broker.subscribe(&topic(name), options).unwrap();
            count += usize::from(subscription.next().await.is_ok_and(|message| message.offset == offset));
        }
    }
    count
}

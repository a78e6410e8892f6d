//! The log's accounts of what is where stay right, so that nobody waits for something that never comes; and what a
//! publisher writes into a payload is never taken for the journal's own words.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use ratatoskr_log::{
    LogOptions, Opened, Pressure, Promise, RealClock, RealDisk, RecordBatch, Reserve, TopicLog, open,
};
use ratatoskr_state::{BatchBuilder, Position};

fn open_log(folder: &Path, journal_file_bytes: u64) -> Opened {
    let options = LogOptions {
        folder: folder.to_owned(),
        journal_file_bytes,
        journal_reserve_bytes: 1 << 20,
        segment_bytes: 256 << 10,
        tail_bytes_max: 512 << 10,
        memory_bytes_max: 1 << 20,
        open_files_max: ratatoskr_log::OPEN_FILES_DEFAULT,
        entropy: [1, 2],
        promise_of: |settings| match settings {
            b"memory" => Ok(Promise::Memory { bytes_max: 1 << 20 }),
            _ => Ok(Promise::Synced),
        },
    };
    open(Arc::new(RealDisk), Arc::new(RealClock), options).unwrap()
}

fn create(opened: &mut Opened, name: &str) -> Arc<TopicLog> {
    let topic = opened.log.stage_create(name, "".into(), Promise::Synced);
    opened.log.commit().unwrap();
    topic
}

fn append(opened: &mut Opened, topic: &Arc<TopicLog>, payload: &[u8]) {
    let mut batch = RecordBatch::default();
    batch.push("", &[], payload);
    opened.log.stage_append(topic, &mut batch);
    opened.log.commit().unwrap();
}

#[test]
fn a_topic_deleted_in_the_replayed_journal_leaves_no_debt() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path(), 4 << 20);
    let topic = create(&mut opened, "a");
    append(&mut opened, &topic, &vec![7; 900 << 10]);
    opened.log.stage_delete(&topic);
    opened.log.commit().unwrap();
    drop(opened);
    let opened = open_log(folder.path(), 4 << 20);
    assert_eq!((opened.log.counts().unflushed_bytes, opened.log.pressure()), (0, Pressure::None));
}

#[test]
fn a_burst_over_thousands_of_topics_is_worked_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path(), 32 << 20);
    let topics: Vec<_> =
        (0..6000).map(|n| opened.log.stage_create(&format!("t{n}"), "".into(), Promise::Synced)).collect();
    opened.log.commit().unwrap();
    for topic in &topics {
        let mut batch = RecordBatch::default();
        batch.push("", &[], &[1; 600]);
        opened.log.stage_append(topic, &mut batch);
    }
    opened.log.commit().unwrap();
    let mut rounds = 0;
    while opened.log.pressure() != Pressure::None {
        opened.log.wait_for_flusher();
        opened.flusher.run_pending().unwrap();
        rounds += 1;
        assert!(rounds < 100, "{:?}", opened.log.counts());
    }
}

#[test]
fn a_memory_topic_that_goes_takes_its_bytes_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path(), 4 << 20);
    let topic = opened.log.stage_create("m", "memory".into(), Promise::Memory { bytes_max: 1 << 20 });
    let disk = create(&mut opened, "d");
    append(&mut opened, &disk, &[1; 1000]);
    for _ in 0..10 {
        append(&mut opened, &topic, &vec![1; 50_000]);
    }
    let before = opened.log.counts();
    assert!(before.memory_topic_bytes > 500_000 && topic.extent().bytes > 500_000);
    opened.log.stage_trim(&topic, 5, Reserve::Free);
    opened.log.commit().unwrap();
    assert!(topic.extent().bytes < 260_000, "{:?}", topic.extent());
    opened.log.stage_delete(&topic);
    opened.log.commit().unwrap();
    let after = opened.log.counts();
    assert_eq!((after.memory_topic_bytes, after.unflushed_bytes), (0, before.unflushed_bytes));
}

#[test]
fn what_was_removed_before_its_flush_is_held_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path(), 4 << 20);
    let topic = create(&mut opened, "a");
    append(&mut opened, &topic, &vec![7; 100 << 10]);
    append(&mut opened, &topic, &vec![7; 50 << 10]);
    let both = topic.extent().bytes;
    opened.log.stage_trim(&topic, 1, Reserve::Free);
    opened.log.commit().unwrap();
    let one = topic.extent().bytes;
    assert!((50 << 10..both / 2).contains(&one), "{one} of {both}");
    opened.log.stage_trim(&topic, 2, Reserve::Free);
    opened.log.commit().unwrap();
    assert_eq!((topic.extent().bytes, topic.extent().segments), (0, 0));
}

#[test]
fn a_trim_ahead_of_the_flush_leaves_no_segment_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path(), 4 << 20);
    let (topic, filler) = (create(&mut opened, "a"), create(&mut opened, "filler"));
    append(&mut opened, &topic, &vec![7; 200 << 10]);
    opened.log.stage_trim(&topic, 1, Reserve::Free);
    opened.log.commit().unwrap();
    opened.flusher.run_pending().unwrap();
    for _ in 0..7 {
        append(&mut opened, &filler, &vec![1; 1 << 20]);
    }
    opened.flusher.run_pending().unwrap();
    assert!(opened.log.counts().checkpoints > 0);
    assert_eq!((topic.extent().segments, topic.extent().bytes), (0, 0));
}

#[test]
fn a_payload_full_of_forged_blocks_is_never_read_as_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path(), 4 << 20);
    let topic = create(&mut opened, "a");
    // 96 bytes of block header, 16 of entry header, 28 of record head and 1 of flags stand before the payload.
    let mut payload = vec![0_u8; 2 << 20];
    for (n, page) in (4096 - 141..payload.len() - 96).step_by(4096).enumerate() {
        let before = Position { epoch: 1, sequence: n as u64 % 40, crc: 0 };
        let mut batch = BatchBuilder::behind(32);
        let (block, _) = batch.finish(before.next(1, 0));
        block[0..4].copy_from_slice(b"RBLK");
        block[4..8].copy_from_slice(&64_u32.to_le_bytes());
        block[8..16].copy_from_slice(&(n as u64 % 40).to_le_bytes());
        block[16..24].copy_from_slice(&[0xff; 8]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..28]), &block[32..]);
        block[28..32].copy_from_slice(&crc.to_le_bytes());
        payload[page..page + 96].copy_from_slice(block);
    }
    for _ in 0..9 {
        append(&mut opened, &topic, &payload);
        opened.flusher.run_pending().unwrap();
    }
    append(&mut opened, &topic, &[1; 10]);
    drop(opened);
    let opened = open_log(folder.path(), 4 << 20);
    assert_eq!(opened.report.messages, 10);
}

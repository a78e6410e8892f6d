//! The log on the real file system: what is committed is read back, from memory, from segments, and after a
//! restart; and damage is told, not guessed around.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use ratatoskr_log::{
    LogError, LogOptions, Opened, Promise, ReadError, RealClock, RealDisk, RecordBatch, Reserve,
    SegmentCursor, Tail, TopicLog, open,
};

fn options(folder: &Path) -> LogOptions {
    LogOptions {
        folder: folder.to_owned(),
        journal_file_bytes: 4 << 20,
        journal_reserve_bytes: 1 << 20,
        segment_bytes: 256 << 10,
        tail_bytes_max: 512 << 10,
        memory_bytes_max: 1 << 20,
        open_files_max: ratatoskr_log::OPEN_FILES_DEFAULT,
        entropy: [1, 2],
        promise_of: |settings| match settings {
            b"memory" => Ok(Promise::Memory { bytes_max: 4096 }),
            b"written" => Ok(Promise::Written),
            _ => Ok(Promise::Synced),
        },
    }
}

fn open_log(folder: &Path) -> Opened {
    open(Arc::new(RealDisk), Arc::new(RealClock), options(folder)).expect("the folder is sound")
}

fn text(n: u64) -> String {
    format!("message number {n}, {}", "x".repeat((n * 37 % 900) as usize))
}

/// Appends messages `range`, a few per commit, letting the flusher work in between.
fn append(opened: &mut Opened, topic: &Arc<TopicLog>, range: std::ops::Range<u64>) {
    for n in range {
        let mut batch = RecordBatch::default();
        batch.push("", &[], text(n).as_bytes());
        assert_eq!(opened.log.stage_append(topic, &mut batch).first, n);
        if n % 3 == 0 {
            opened.log.commit().unwrap();
        }
        if n % 50 == 0 {
            opened.flusher.run_pending().unwrap();
        }
    }
    opened.log.commit().unwrap();
    opened.flusher.run_pending().unwrap();
}

/// Reads from `cursor` to the end, and says whether segments were needed.
fn read(topic: &TopicLog, mut cursor: u64) -> Result<(Vec<String>, bool), ReadError> {
    let (mut texts, mut cold, mut at) = (Vec::new(), false, SegmentCursor::default());
    loop {
        let chunks = match topic.read_tail(cursor, 10_000)? {
            Tail::End => return Ok((texts, cold)),
            Tail::Records(chunks) => chunks,
            Tail::Cold => {
                cold = true;
                topic.read_segments(cursor, &mut at, 10_000)?.into_iter().collect()
            }
        };
        for record in chunks.iter().flat_map(ratatoskr_log::RecordChunk::records) {
            assert_eq!(record.offset, cursor, "offsets are consecutive");
            texts.push(String::from_utf8(record.body.payload().to_vec()).unwrap());
            cursor += 1;
        }
    }
}

fn expected(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(text).collect()
}

fn topic(opened: &Opened, name: &str) -> Arc<TopicLog> {
    opened.topics.iter().find(|topic| topic.name == name).expect("it was created").clone()
}

fn create(opened: &mut Opened, name: &str, settings: &'static [u8]) -> Arc<TopicLog> {
    let promise = (options(Path::new("")).promise_of)(settings).unwrap();
    let topic = opened.log.stage_create(name, settings.into(), promise);
    opened.log.commit().unwrap();
    topic
}

#[test]
fn what_is_committed_is_read_back_from_memory_segments_and_after_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path());
    assert!(opened.report.fresh);
    let orders = create(&mut opened, "orders", b"");
    append(&mut opened, &orders, 0..6000);
    assert!(opened.log.counts().checkpoints > 0, "the journal was rotated");
    assert!(orders.extent().segments > 3);
    let (texts, cold) = read(&orders, 0).unwrap();
    assert!(cold, "older records are on disk only");
    assert_eq!(texts, expected(0..6000));
    assert_eq!(read(&orders, 4321).unwrap().0, expected(4321..6000));
    drop(opened); // as kill -9 would

    let mut opened = open_log(folder.path());
    assert!(!opened.report.fresh && opened.report.replayed_records > 0);
    assert_eq!(opened.report.messages, 6000);
    let orders = topic(&opened, "orders");
    assert_eq!(read(&orders, 0).unwrap().0, expected(0..6000));
    append(&mut opened, &orders, 6000..6500);
    let Opened { log, mut flusher, lock, .. } = opened;
    log.close(&mut flusher).unwrap();
    drop((flusher, lock));

    let opened = open_log(folder.path());
    assert_eq!(opened.report.replayed_records, 0, "a clean stop leaves nothing to replay");
    assert_eq!(read(&topic(&opened, "orders"), 5990).unwrap().0, expected(5990..6500));
}

#[test]
fn topics_keep_their_promises_settings_and_deletions_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path());
    let (a, b) = (create(&mut opened, "a", b""), create(&mut opened, "b", b"written"));
    let m = create(&mut opened, "m", b"memory");
    append(&mut opened, &a, 0..10);
    append(&mut opened, &b, 0..10);
    append(&mut opened, &m, 0..100);
    assert!(m.extent().first > 0, "a memory topic is bounded");
    assert!(matches!(read(&m, 0), Err(ReadError::Trimmed { .. })));
    opened.log.stage_delete(&a);
    opened.log.stage_update(&b, b"written".as_slice().into());
    opened.log.stage_trim(&b, 4, Reserve::Free);
    opened.log.commit().unwrap();
    let again = create(&mut opened, "a", b"");
    assert_ne!(again.number, a.number);
    drop(opened);

    let opened = open_log(folder.path());
    assert_eq!(opened.topics.len(), 3);
    assert_eq!(topic(&opened, "a").extent().next, 0);
    assert_eq!(read(&topic(&opened, "b"), 4).unwrap().0, expected(4..10));
    assert_eq!(read(&topic(&opened, "b"), 3), Err(ReadError::Trimmed { cursor: 3, first: 4 }));
    assert_eq!(topic(&opened, "m").extent().next, 0, "memory survives nothing");
}

#[test]
fn a_lost_short_or_wrong_index_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path());
    let orders = create(&mut opened, "orders", b"");
    append(&mut opened, &orders, 0..3000);
    let topics = folder.path().join("topics");
    let indexes: Vec<_> =
        std::fs::read_dir(std::fs::read_dir(&topics).unwrap().next().unwrap().unwrap().path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "index"))
            .collect();
    assert!(indexes.len() >= 3);
    let middle = |orders: &TopicLog| read(orders, 1000).unwrap().0;
    let sound = middle(&orders);
    std::fs::remove_file(&indexes[0]).unwrap();
    let bytes = std::fs::read(&indexes[1]).unwrap();
    std::fs::write(&indexes[1], &bytes[..bytes.len() - 7]).unwrap();
    std::fs::copy(&indexes[1], &indexes[2]).unwrap();
    assert_eq!(middle(&orders), sound);
    for start in (0..3000).step_by(111) {
        assert_eq!(read(&orders, start).unwrap().0.len() as u64, 3000 - start);
    }
    let now = ratatoskr_log::Clock::now_ms(&RealClock);
    assert_eq!(orders.offset_at_time(now + 1000).unwrap().0, 3000);
    assert_eq!(orders.offset_at_time(1).unwrap().0, 0);
}

#[test]
fn trimmed_segments_leave_the_disk_and_bytes_can_be_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path());
    let orders = create(&mut opened, "orders", b"");
    append(&mut opened, &orders, 0..3000);
    let before = orders.extent();
    let first = orders.offset_for_bytes(before.bytes / 2).unwrap();
    assert!((1200..1800).contains(&first), "half the bytes are about half the records, not {first}");
    assert_eq!(orders.offset_for_bytes(before.bytes * 2).unwrap(), 0);
    opened.log.stage_trim(&orders, first, Reserve::Free);
    opened.log.commit().unwrap();
    opened.flusher.run_pending().unwrap();
    assert!(orders.extent().segments < before.segments);
    assert_eq!(read(&orders, first).unwrap().0, expected(first..3000));
    opened.log.stage_trim(&orders, 3000, Reserve::Free);
    opened.log.commit().unwrap();
    opened.flusher.run_pending().unwrap();
    append(&mut opened, &orders, 3000..3010);
    drop(opened);
    let opened = open_log(folder.path());
    assert_eq!(opened.report.damage, Vec::<String>::new());
    assert_eq!(read(&topic(&opened, "orders"), 3000).unwrap().0, expected(3000..3010));
}

#[test]
fn a_damaged_record_is_refused_and_its_neighbours_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path());
    let orders = create(&mut opened, "orders", b"");
    append(&mut opened, &orders, 0..100);
    let Opened { log, mut flusher, lock, .. } = opened;
    log.close(&mut flusher).unwrap();
    drop((flusher, lock));
    let path = folder.path().join("topics/00000001-orders/00000000000000000000.segment");
    let sound = std::fs::read(&path).unwrap();
    let needle = text(40).into_bytes();
    let body = sound.windows(needle.len()).position(|window| window == needle).unwrap();
    for (position, what) in [(body + 3, "body"), (body - 29, "length"), (body - 20, "offset")] {
        let mut bytes = sound.clone();
        bytes[position] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let opened = open_log(folder.path());
        let orders = topic(&opened, "orders");
        let error = read(&orders, 0).unwrap_err();
        let ReadError::Damaged { offset, resume, .. } = error else { panic!("{what}: {error}") };
        assert_eq!((offset, resume), (40, 41), "{what}");
        assert_eq!(read(&orders, 41).unwrap().0, expected(41..100), "{what}");
        let Opened { log, mut flusher, .. } = opened;
        log.close(&mut flusher).unwrap();
    }
}

#[test]
fn a_second_broker_and_a_foreign_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_log(folder.path());
    let second = open(Arc::new(RealDisk), Arc::new(RealClock), options(folder.path()));
    assert!(matches!(second.err(), Some(LogError::Locked { .. })));
    drop(opened);
    std::fs::remove_file(folder.path().join("checkpoint")).unwrap();
    let without = open(Arc::new(RealDisk), Arc::new(RealClock), options(folder.path()));
    assert!(matches!(without.err(), Some(LogError::Foreign { .. })));
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("thesis.tex"), "…").unwrap();
    let error =
        open(Arc::new(RealDisk), Arc::new(RealClock), options(other.path())).err().unwrap().to_string();
    assert!(error.contains("thesis.tex") && error.contains("choose an empty folder"), "{error}");
}

#[test]
fn a_torn_tail_is_cut_and_counted_but_damage_before_it_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open_log(folder.path());
    let orders = create(&mut opened, "orders", b"");
    append(&mut opened, &orders, 0..31);
    drop(opened);
    let path = folder.path().join("journal/0000000000000001.journal");
    let sound = std::fs::read(&path).unwrap();
    let blocks: Vec<_> =
        (4096..sound.len()).step_by(4096).filter(|at| &sound[*at..at + 4] == b"RBLK").collect();
    let (last, middle) = (blocks[blocks.len() - 1], blocks[blocks.len() / 2]);

    let mut damaged = sound.clone();
    damaged[middle + 100] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = open(Arc::new(RealDisk), Arc::new(RealClock), options(folder.path())).err().unwrap();
    let LogError::Damaged { position, .. } = error else { panic!("{error}") };
    assert_eq!(position, middle as u64);

    let mut torn = sound.clone();
    torn[last + 50] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    let opened = open_log(folder.path());
    assert!(opened.report.torn_bytes > 0);
    assert_eq!(
        read(&topic(&opened, "orders"), 0).unwrap().0,
        expected(0..31)[..opened.report.messages as usize]
    );
    assert!(opened.report.messages >= 28);
}

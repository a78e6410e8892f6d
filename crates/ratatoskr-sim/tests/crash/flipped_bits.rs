//! One bit flips, in every byte of every kind of file: it is told, or it does not matter; a wrong record is never served,
//! and nothing is shorter in silence. Only the last block of a journal may pass for a torn write, which is cut and counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ratatoskr_log::{Disk, LogError, OpenMode, ReadError, RecordBatch, SegmentCursor, Tail, TopicLog};
use ratatoskr_sim::{Loss, Promises, SimClock, SimDisk};

use crate::life::{Life, file, observe, open_log, open_log_with};
use crate::script::Step;

const PAGE_BYTES: u64 = 4096;
const SEGMENT_HEADER_BYTES: u64 = 64;

/// A life that commits five small records to one topic, one block each.
pub(crate) fn small_life() -> (SimDisk, Life) {
    let disk = SimDisk::new();
    let mut life = begin(&disk);
    let append = Step::Append { name: "orders", count: 1, bytes: 20 };
    let mut steps = vec![Step::Create { name: "orders", settings: "synced" }, Step::Commit];
    (0..5).for_each(|_| steps.extend([append.clone(), Step::Commit]));
    life.play_all(&steps).unwrap();
    (disk, life)
}

fn begin(disk: &SimDisk) -> Life {
    let life = Life::begin(disk, &SimClock::at(9), Promises::default(), Loss::Power);
    life.unwrap_or_else(|(_, end)| panic!("a new disk opens: {end:?}"))
}

pub(crate) fn bytes_of(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// The disk as a later process finds it, with one bit of a file flipped: another bit in each byte.
fn flipped(disk: &SimDisk, path: &Path, position: u64) -> SimDisk {
    let disk = disk.kill();
    disk.flip_bit(path, position, (position % 8) as u8).unwrap();
    disk
}

/// The positions of a file made of 4096-byte pages that hold something, and some of those that hold nothing.
fn positions(bytes: &[u8]) -> Vec<u64> {
    let interesting =
        |at: &usize| bytes[*at] != 0 || bytes[at.saturating_sub(16)..*at].iter().any(|b| *b != 0);
    (0..bytes.len().min(40_000)).filter(|at| interesting(at) || at % 97 == 0).map(|at| at as u64).collect()
}

/// Flips bits of the journal after `end` and answers at how many places a torn write was cut.
fn torn_places(end: impl FnOnce(&mut Life)) -> Result<Vec<u64>, String> {
    let (disk, mut life) = small_life();
    end(&mut life);
    let path = file("journal/0000000000000001.journal");
    let mut torn = Vec::new();
    for position in positions(&bytes_of(&disk, &path)) {
        let disk = flipped(&disk, &path, position);
        let opened = match open_log(&disk, &SimClock::at(9)) {
            Err(LogError::Damaged { path: named, .. }) if named == path => continue,
            Err(error) => return Err(format!("byte {position}: not told as damage of the journal: {error}")),
            Ok(opened) => opened,
        };
        let found = observe(&disk, &opened.topics).map_err(|end| format!("byte {position}: {end:?}"))?;
        match life.promises.check(&found, Loss::Power) {
            Ok(()) => {}
            Err(_) if opened.report.torn_bytes > 0 => torn.push(position),
            Err(broken) => return Err(format!("byte {position}: {broken}")),
        }
    }
    Ok(torn)
}

/// Reads a topic, stepping over damage. Answers how many records were reported damaged, or what was served wrongly.
fn damaged_records(life: &Life, topic: &TopicLog) -> Result<u64, String> {
    let expected = small_texts(life)?;
    let (mut cursor, mut at, mut damaged) = (0, SegmentCursor::default(), 0);
    while cursor < topic.next() {
        match topic.read_segments(cursor, &mut at, 4096) {
            Ok(chunk) => {
                let chunk = chunk.ok_or_else(|| format!("offset {cursor} is in no segment"))?;
                for record in chunk.records() {
                    let sent = expected.get(record.offset as usize).ok_or("a record nobody sent")?;
                    if record.offset != cursor || *sent != record.body.payload() {
                        return Err(format!("offset {cursor}: a wrong record was served"));
                    }
                    cursor += 1;
                }
            }
            Err(ReadError::Damaged { offset, resume, .. }) if offset == cursor && resume > cursor => {
                damaged += resume - cursor;
                cursor = resume;
            }
            Err(error) => return Err(format!("offset {cursor}: {error}")),
        }
    }
    if cursor == expected.len() as u64 { Ok(damaged) } else { Err(format!("it ends at offset {cursor}")) }
}

/// The payloads of the small life, read before anything was damaged.
fn small_texts(life: &Life) -> Result<Vec<Vec<u8>>, String> {
    let topic = life.opened.topics.first().ok_or("the topic is there from the second life on")?;
    let records = crate::life::read(topic, 0).map_err(|error| error.to_string())?;
    Ok(records.iter().map(|record| record.body.payload().to_vec()).collect())
}

/// The segment of the small life, closed and opened again, on its disk.
pub(crate) fn small_segment() -> (SimDisk, Life, PathBuf) {
    let (disk, life) = small_life();
    life.close().unwrap_or_else(|(_, end)| panic!("{end:?}"));
    let disk = disk.kill();
    let opened = open_log(&disk, &SimClock::at(9)).unwrap();
    let state = observe(&disk, &opened.topics).unwrap();
    drop(opened);
    let disk = disk.kill();
    let mut promises = Promises::default();
    promises.settle(state);
    let life = Life::begin(&disk, &SimClock::at(9), promises, Loss::Power);
    let life = life.unwrap_or_else(|(_, end)| panic!("{end:?}"));
    (disk, life, file("topics/00000001-orders/00000000000000000000.segment"))
}

/// Flips a bit in every byte of a segment. Err says what went unnoticed.
pub(crate) fn flip_a_segment() -> Result<(), String> {
    let (disk, life, path) = small_segment();
    let bytes = bytes_of(&disk, &path);
    for position in 0..bytes.len() as u64 {
        let disk = flipped(&disk, &path, position);
        let opened = match open_log(&disk, &SimClock::at(9)) {
            Ok(opened) => opened,
            Err(LogError::Damaged { path: named, .. }) if named == path => continue,
            Err(error) => return Err(format!("byte {position}: {error}")),
        };
        let damaged = damaged_records(&life, &opened.topics[0]);
        match damaged.map_err(|what| format!("byte {position}: {what}"))? {
            // A header costs no record: each has an offset and checksums of its own. It is told nevertheless.
            0 if position < SEGMENT_HEADER_BYTES && opened.report.damage.len() == 1 => {}
            1 if position >= SEGMENT_HEADER_BYTES => {}
            other => return Err(format!("byte {position}: {other} records told as damaged instead of 1")),
        }
    }
    Ok(())
}

/// Flips bits of the journal of a log that was killed at work. Err says what went unnoticed.
pub(crate) fn flip_a_journal() -> Result<(), String> {
    let torn = torn_places(|_| {})?;
    let last_block = 7 * PAGE_BYTES..8 * PAGE_BYTES;
    match torn.iter().find(|position| !last_block.contains(position)) {
        None if torn.is_empty() => Err("the last block can only pass for torn, and did not".to_owned()),
        None => Ok(()),
        Some(position) => Err(format!("byte {position} passed for a torn write")),
    }
}

#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
mod noticed {
    use super::*;

    #[test]
    fn a_flipped_bit_costs_a_segment_one_record_and_is_told() {
        flip_a_segment().unwrap();
    }

    #[test]
    fn a_flipped_bit_in_the_journal_is_told_unless_it_may_be_a_torn_write() {
        flip_a_journal().unwrap();
    }

    #[test]
    fn a_sealed_journal_has_no_block_that_may_be_torn() {
        let torn = torn_places(|life| life.play(&Step::Seal).unwrap()).unwrap();
        assert_eq!(torn, Vec::<u64>::new());
    }

    #[test]
    fn a_flipped_bit_in_the_checkpoint_is_told() {
        let (disk, life) = small_life();
        let promises = life.close().unwrap_or_else(|(_, end)| panic!("{end:?}"));
        let path = file("checkpoint");
        for position in positions(&bytes_of(&disk, &path)) {
            let disk = flipped(&disk, &path, position);
            match open_log(&disk, &SimClock::at(9)) {
                Err(LogError::Damaged { path: named, .. }) => assert_eq!(named, path),
                Err(error) => panic!("byte {position}: {error}"),
                Ok(opened) => {
                    let found = observe(&disk, &opened.topics).unwrap();
                    promises
                        .check(&found, Loss::Power)
                        .unwrap_or_else(|broken| panic!("byte {position}: {broken}"));
                }
            }
        }
    }

    #[test]
    fn a_damaged_or_lost_index_changes_no_answer_and_is_written_anew() {
        let disk = SimDisk::new();
        let mut opened = open_log_with(&disk, &SimClock::at(9), 1 << 20).unwrap();
        let topic = opened.log.stage_create("orders", "synced".into(), ratatoskr_log::Promise::Synced);
        opened.log.commit().unwrap();
        for n in 0..30u8 {
            let mut batch = RecordBatch::default();
            batch.push("", &[], &[n; 4000]);
            opened.log.stage_append(&topic, &mut batch);
            opened.log.commit().unwrap();
        }
        opened.log.close(&mut opened.flusher).unwrap();
        let path = file("topics/00000001-orders/00000000000000000000.index");
        let length = bytes_of(&disk, &path).len() as u64;
        assert!(length > 16 + 2 * 24, "the index has {length} bytes: too few entries to mislead anyone");
        let sound = bytes_of(&disk, &path);
        for position in 0..length {
            let disk = flipped(&disk, &path, position);
            let mut opened = open_log(&disk, &SimClock::at(9)).unwrap();
            assert_every_offset_is_found(&opened.topics[0], position);
            opened.flusher.run_pending().unwrap();
            assert_eq!(bytes_of(&disk, &path), sound, "byte {position} was not put right");
            assert_every_offset_is_found(&opened.topics[0], position);
        }
        let lost: Vec<Damaging<'_>> =
            vec![&SimDisk::delete, &|disk, path| disk.truncate(path, 7), &|disk, path| {
                disk.truncate(path, 16 + 24)
            }];
        for damage in lost {
            let disk = disk.kill();
            damage(&disk, &path).unwrap();
            let mut opened = open_log(&disk, &SimClock::at(9)).unwrap();
            assert_every_offset_is_found(&opened.topics[0], 0);
            opened.flusher.run_pending().unwrap();
            assert_eq!(bytes_of(&disk, &path), sound, "it was not written anew");
        }
    }

    fn assert_every_offset_is_found(topic: &Arc<TopicLog>, position: u64) {
        for offset in (0..30).step_by(7) {
            assert!(matches!(topic.read_tail(offset, 1), Ok(Tail::Cold)));
            let chunk = topic.read_segments(offset, &mut SegmentCursor::default(), 1).unwrap().unwrap();
            let record = chunk.records().next().unwrap();
            assert_eq!((record.offset, record.body.payload()[0]), (offset, offset as u8), "byte {position}");
        }
    }

    #[test]
    fn a_segment_of_another_topic_is_refused_as_a_whole() {
        let disk = SimDisk::new();
        let mut life = begin(&disk);
        let append = |name| Step::Append { name, count: 3, bytes: 20 };
        let create = |name| Step::Create { name, settings: "synced" };
        life.play_all(&[create("orders"), create("bills"), Step::Commit]).unwrap();
        life.play_all(&[append("orders"), append("bills"), Step::Commit]).unwrap();
        life.close().unwrap_or_else(|(_, end)| panic!("{end:?}"));
        let disk = disk.kill();
        let mine = file("topics/00000001-orders/00000000000000000000.segment");
        let theirs = bytes_of(&disk, &file("topics/00000002-bills/00000000000000000000.segment"));
        disk.open(&mine, OpenMode::Write).unwrap().write_all_at(&theirs, 0).unwrap();
        let opened = open_log(&disk, &SimClock::at(9)).unwrap();
        let told = opened.report.damage.join("; ");
        assert!(told.contains("it belongs to topic number 2 from offset 0 on"), "{told}");
        let read = opened.topics[0].read_segments(0, &mut SegmentCursor::default(), 4096);
        let Err(ReadError::Damaged { offset: 0, resume: 3, path, position: 0 }) = read else {
            panic!("another topic's records were served: {read:?}");
        };
        assert_eq!(path, mine);
    }

    type Damaging<'a> = &'a dyn Fn(&SimDisk, &Path) -> std::io::Result<()>;

    #[test]
    fn a_missing_or_shortened_file_is_told() {
        let (disk, _, segment) = small_segment();
        let shorten = |disk: &SimDisk, path: &Path| disk.truncate(path, 100);
        let damages: [Damaging<'_>; 2] = [&SimDisk::delete, &shorten];
        for damage in damages {
            let disk = disk.kill();
            damage(&disk, &segment).unwrap();
            let opened = open_log(&disk, &SimClock::at(9)).unwrap();
            assert_eq!(opened.report.damage.len(), 1, "{:?}", opened.report.damage);
            assert!(opened.report.damage[0].contains(&*segment.to_string_lossy()));
        }
        let (disk, _) = small_life();
        disk.delete(&file("checkpoint")).unwrap();
        assert!(matches!(open_log(&disk.kill(), &SimClock::at(9)), Err(LogError::Foreign { .. })));
    }
}

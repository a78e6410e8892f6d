//! A journal and a segment, cut at every byte: what stands before the cut is there, nothing else is, and nothing is invented.
//!
//! The journal is cut as a power failure does it (what was not written yet is still zeros), the segment as a file is that became too short.

use ratatoskr_log::{Disk, LogError, OpenMode, ReadError, SegmentCursor, Tail};
use ratatoskr_sim::{SimClock, SimDisk};

use crate::flipped_bits::{bytes_of, small_life, small_segment};
use crate::life::{file, open_log};

const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 64;
/// The small life: a topic, and five records in a block each.
const RECORDS: u64 = 5;

/// Where the content of each page of a file ends.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let end = |(page, content): (usize, &[u8])| {
        let last = content.iter().rposition(|byte| *byte != 0)?;
        Some(page * PAGE_BYTES + last + 1)
    };
    bytes.chunks(PAGE_BYTES).enumerate().map_while(end).collect()
}

#[cfg_attr(not(feature = "broken-no-checksum"), test)]
pub(crate) fn a_journal_that_ends_anywhere_gives_back_exactly_its_whole_blocks() {
    let (disk, _life) = small_life();
    let path = file("journal/0000000000000001.journal");
    let bytes = bytes_of(&disk, &path);
    // The header, the block that begins the epoch, the one that creates the topic, and one for each record.
    let ends = ends(&bytes);
    assert_eq!(ends.len() as u64, 3 + RECORDS);
    let written = *ends.last().unwrap();
    let mut tried = 0;
    // Cuts within zeros change nothing that the one before did not.
    let differs = |cut: &usize| *cut == written || bytes[*cut] != 0;
    for cut in (PAGE_BYTES..=written).filter(differs) {
        let disk = disk.kill();
        disk.open(&path, OpenMode::Write).unwrap().write_all_at(&vec![0; written - cut], cut as u64).unwrap();
        let opened =
            open_log(&disk, &SimClock::at(9)).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let whole = ends[1..].iter().filter(|end| **end <= cut).count() as u64;
        let found = opened.topics.first().map(|topic| topic.next());
        assert_eq!(found, whole.checked_sub(2), "cut at {cut}");
        if let Some(topic) = opened.topics.first() {
            for offset in 0..topic.next() {
                assert_eq!(topic.read_at(offset).unwrap().unwrap().offset, offset, "cut at {cut}");
            }
        }
        tried += 1;
    }
    assert!(tried > 40 * RECORDS, "only {tried} cuts");
}

#[cfg(not(feature = "broken-no-checksum"))]
#[test]
fn a_journal_file_that_is_shorter_than_it_was_is_refused() {
    let (disk, _life) = small_life();
    let path = file("journal/0000000000000001.journal");
    let written = *ends(&bytes_of(&disk, &path)).last().unwrap();
    for cut in (0..written).step_by(7) {
        let disk = disk.kill();
        disk.truncate(&path, cut as u64).unwrap();
        match open_log(&disk, &SimClock::at(9)).err() {
            Some(LogError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[cfg(not(feature = "broken-no-checksum"))]
#[test]
fn a_segment_that_ends_anywhere_serves_what_is_whole_and_refuses_the_rest_by_offset() {
    let (disk, _life, path) = small_segment();
    let bytes = bytes_of(&disk, &path);
    let mut ends = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        at += u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        ends.push(at);
    }
    assert_eq!((ends.len() as u64, ends.last()), (RECORDS, Some(&bytes.len())));
    for cut in 0..bytes.len() {
        let disk = disk.kill();
        disk.truncate(&path, cut as u64).unwrap();
        let opened =
            open_log(&disk, &SimClock::at(9)).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(opened.report.damage.len(), 1, "cut at {cut}: {:?}", opened.report.damage);
        let topic = &opened.topics[0];
        assert_eq!(topic.next(), RECORDS, "cut at {cut}: offsets stay");
        let whole = ends.iter().filter(|end| **end <= cut).count();
        for offset in 0..RECORDS {
            assert!(matches!(topic.read_tail(offset, 1), Ok(Tail::Cold)));
            match topic.read_segments(offset, &mut SegmentCursor::default(), 1) {
                Ok(Some(chunk)) if offset < whole as u64 => assert_eq!(chunk.first, offset, "cut at {cut}"),
                Err(ReadError::Damaged { offset: named, .. }) if offset >= whole as u64 => {
                    assert_eq!(named, offset, "cut at {cut}");
                }
                other => panic!("cut at {cut}, offset {offset}: {other:?}"),
            }
        }
    }
}

#[cfg(not(feature = "broken-no-checksum"))]
#[test]
fn a_checkpoint_that_ends_anywhere_is_refused() {
    let disk: SimDisk = {
        let (disk, life) = small_life();
        life.close().unwrap_or_else(|(_, end)| panic!("{end:?}"));
        disk.kill()
    };
    let path = file("checkpoint");
    let length = bytes_of(&disk, &path).len();
    // Behind the last block's content come zeros to the end of its page, which nobody needs.
    let content =
        bytes_of(&disk, &path)[HEADER_BYTES..].iter().rposition(|byte| *byte != 0).unwrap() + HEADER_BYTES;
    for cut in 0..=content {
        let disk = disk.kill();
        disk.truncate(&path, cut as u64).unwrap();
        match open_log(&disk, &SimClock::at(9)).err() {
            Some(LogError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("cut at {cut} of {length}: {other:?}"),
        }
    }
}

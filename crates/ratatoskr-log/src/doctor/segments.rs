//! One topic's segments, record by record, and their indexes: what a reader would be told, told beforehand.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{Diagnosis, FROM_A_COPY, Finding, Severity, note};
use crate::checkpoint::SegmentEntry;
use crate::disk::{Disk, OpenMode};
use crate::error::ReadError;
use crate::header::FILE_HEADER_BYTES;
use crate::index::{INDEX_INTERVAL_BYTES, IndexEntry, IndexPlan, read_entries};
use crate::layout::{index_file, segment_file};
use crate::segment::{Belonging, Place, SegmentReader, belongs};
use crate::topic::TopicLog;
use ratatoskr_state::{RecordChunk, read_u32, read_u64};

/// Bytes of records looked at together.
const READ_BYTES: usize = 1 << 20;

pub(super) fn examine(disk: &Arc<dyn Disk>, topic: &Arc<TopicLog>, diagnosis: &mut Diagnosis) {
    // What the journal trims behind the checkpoint may be gone already.
    topic.take_trimmed();
    let segments = topic.segments();
    for segment in &segments {
        diagnosis.segments += 1;
        examine_segment(disk, topic, *segment, diagnosis);
    }
    let Ok(names) = disk.list(&topic.folder) else { return };
    for name in names {
        let known = |base: u64| segments.iter().any(|segment| segment.base == base);
        let base = name.strip_suffix(".segment").or(name.strip_suffix(".index"));
        match base.map(|base| base.parse::<u64>().is_ok_and(known)) {
            Some(true) => {}
            Some(false) => diagnosis.findings.push(note(
                &topic.folder.join(name),
                "no topic refers to this file".to_owned(),
                "it was trimmed away, or written by a run that died before its checkpoint",
            )),
            None => diagnosis.findings.push(Finding {
                advice: "move it away",
                ..note(
                    &topic.folder.join(name),
                    "it does not belong here".to_owned(),
                    "the broker leaves it alone",
                )
            }),
        }
    }
}

fn examine_segment(
    disk: &Arc<dyn Disk>,
    topic: &Arc<TopicLog>,
    segment: SegmentEntry,
    diagnosis: &mut Diagnosis,
) {
    let path = segment_file(&topic.folder, segment.base);
    let loss = |position: Option<u64>, offset: u64, what: String| Finding {
        severity: Severity::Loss,
        path: path.clone(),
        position,
        topic: Some(topic.name.clone()),
        offset: Some(offset),
        what,
        meaning: "reading them answers DATA_LOSS; all other records are served, with the offsets they had",
        advice: FROM_A_COPY,
    };
    let opened = disk.open(&path, OpenMode::Read).and_then(|file| Ok((file.len()?, file)));
    let (length, file) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let why =
                if error.kind() == ErrorKind::NotFound { "is missing".to_owned() } else { error.to_string() };
            let what = format!("the file {why}, and with it offsets {} to {}", segment.base, segment.next);
            return diagnosis.findings.push(loss(None, segment.base, what));
        }
    };
    match belongs(&*file, (topic.number, topic.directory), segment.base) {
        Belonging::Ours => {}
        Belonging::Foreign(what) => return diagnosis.findings.push(loss(Some(0), segment.base, what)),
        Belonging::Unknown(what) => diagnosis.findings.push(Finding {
            position: Some(0),
            topic: Some(topic.name.clone()),
            advice: "nothing is lost by it; but a disk that changes bytes will change others",
            ..note(
                &path,
                what,
                "records have offsets and checksums of their own: they are served all the same",
            )
        }),
    }
    if length < segment.bytes {
        let what = format!("{length} bytes where {} belong", segment.bytes);
        diagnosis.findings.push(loss(Some(length), segment.base, what));
    }
    let Ok(reader) = SegmentReader::open(topic, segment) else { return };
    let mut plan = IndexPlan::default();
    let (records, damaged) = walk(&reader, segment, &mut |chunk, at| plan_index(&mut plan, chunk, at));
    diagnosis.records += records;
    diagnosis.bytes += length.min(segment.bytes);
    for (offset, resume, position) in damaged {
        let what = match resume - offset {
            1 => format!("the record at offset {offset} is damaged"),
            count => format!("{count} records from offset {offset} on are damaged"),
        };
        diagnosis.findings.push(loss(Some(position), offset, what));
    }
    let index = index_file(&topic.folder, segment.base);
    diagnosis.findings.extend(examine_index(disk, (&reader, &index), plan.entries()));
}

/// Reads all there is, stepping over damage as a reader does. Answers sound records, and what is damaged: from, to, and where.
fn walk(
    reader: &SegmentReader,
    segment: SegmentEntry,
    see: &mut dyn FnMut(&RecordChunk, u64),
) -> (u64, Vec<(u64, u64, u64)>) {
    let mut place = Place { offset: segment.base, position: FILE_HEADER_BYTES as u64 };
    let (mut records, mut damaged) = (0, Vec::new());
    while place.offset < segment.next {
        let error = match reader.read(place, READ_BYTES) {
            Ok((chunk, next)) => {
                see(&chunk, place.position);
                records += u64::from(chunk.count);
                place = next;
                continue;
            }
            Err(error) => error,
        };
        let ReadError::Damaged { offset, resume, position, .. } = error else { break };
        damaged.push((offset, resume, position));
        if resume >= segment.next {
            break;
        }
        match reader.find_offset(resume) {
            Ok(found) => place = found,
            Err(_) => break,
        }
    }
    (records, damaged)
}

fn plan_index(plan: &mut IndexPlan, chunk: &RecordChunk, start: u64) {
    let mut at = 0;
    while at < chunk.bytes.len() {
        plan.note(IndexEntry {
            offset: read_u64(&chunk.bytes, at + 8),
            timestamp_ms: read_u64(&chunk.bytes, at + 16),
            position: (start + at as u64) as u32,
        });
        at += read_u32(&chunk.bytes, at) as usize;
    }
}

/// Compares an index with what the segment says. Wrong places cost a scan each time, nothing else.
fn examine_index(
    disk: &Arc<dyn Disk>,
    (reader, path): (&SegmentReader, &Path),
    expected: &[IndexEntry],
) -> Option<Finding> {
    let found = read_entries(disk, path, reader.segment.base, reader.segment.bytes);
    let wrong = found.iter().filter(|entry| !reader.stands_at(entry.place())).count();
    let is_near = |entry: &IndexEntry, expected: &&IndexEntry| {
        entry.position <= expected.position
            && u64::from(expected.position - entry.position) < INDEX_INTERVAL_BYTES
    };
    let missing = expected.iter().filter(|expected| {
        let before = found.partition_point(|entry| entry.position <= expected.position);
        !found[..before].last().is_some_and(|entry| is_near(entry, expected))
    });
    let what = match (wrong, missing.count()) {
        (0, 0) => return None,
        (0, missing) => format!("{missing} of {} places are missing", expected.len()),
        (wrong, _) => format!("{wrong} of {} places are wrong", found.len()),
    };
    let meaning =
        "looking for an offset or a time reads more of the segment than it had to; the answers are the same";
    Some(note(path, what, meaning))
}

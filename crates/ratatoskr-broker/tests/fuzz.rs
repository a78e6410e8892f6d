//! Bytes that nobody wrote are read: the files of a data directory, and filter expressions. Whatever they are, nothing panics, and nothing is
//! served that was never published.
//!
//! Inputs are made by a small mutator over kept corpora (the data directories of `tests/formats`, `tests/fuzz/filters.txt`, what failed
//! once): see [`ratatoskr_sim::fuzz`], also for how to play more of them, or one again. Coverage-guided fuzzers need an unstable compiler,
//! which this project does not ask for.
//! With `--features ratatoskr-log/broken-no-checksum` nothing is refused for its checksum, so that what lies behind it is reached.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ratatoskr_broker::{Broker, BrokerConfig, Filter, FilterFacts, NewMessage, TopicName, examine_on};
use ratatoskr_log::{Disk, OpenMode};
use ratatoskr_sim::{Shape, SimClock, SimDisk, Target, fuzz};

const ROOT: &str = "/data";
const PAGE_BYTES: usize = 4096;

/// The files of the newest kept data directory: path, content without the zeros behind it, and length.
fn directory() -> Vec<(PathBuf, Vec<u8>, u64)> {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats");
    let mut versions: Vec<_> =
        std::fs::read_dir(formats).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    let fixture = versions.pop().unwrap();
    let list = std::fs::read_to_string(fixture.join("files.txt")).unwrap();
    let file = |line: &str| {
        let (length, path) = line.split_once(' ').unwrap();
        let squeezed = std::fs::read(fixture.join("files").join(path)).unwrap();
        (Path::new(ROOT).join(path), expanded(&squeezed), length.parse().unwrap())
    };
    list.lines().map(file).collect()
}

/// See `tests/formats.rs`.
fn expanded(mut squeezed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((length, rest)) = squeezed.split_first_chunk() {
        let (page, rest) = rest.split_at(u16::from_le_bytes(*length).into());
        let end = bytes.len() + PAGE_BYTES;
        bytes.extend_from_slice(page);
        bytes.resize(end, 0);
        squeezed = rest;
    }
    bytes
}

fn put(disk: &SimDisk, path: &Path, bytes: &[u8], length: u64) {
    disk.create_dir(path.parent().unwrap()).unwrap();
    let _ = disk.remove(path);
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.set_len(length).unwrap();
}

/// The newest kept data directory on a disk.
fn kept() -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes, length) in directory() {
        put(&disk, &path, &bytes, length);
    }
    disk
}

/// A data directory whose one segment is long enough for an index with places in it.
fn with_places() -> SimDisk {
    let disk = SimDisk::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = Arc::new(SimClock::at(1_000_000));
    let broker = Broker::open_on(&BrokerConfig::new(ROOT), Arc::new(disk.clone()), clock).unwrap();
    let topic = TopicName::parse("orders").unwrap();
    for _ in 0..40 {
        runtime.block_on(broker.publish(&topic, NewMessage::new(vec![7; 4000]))).unwrap();
    }
    broker.shutdown().unwrap();
    disk.kill()
}

/// Puts inputs in the place of a file, and has the directory looked at. The journal's files keep their length.
fn read_changed(name: &'static str, disk: &SimDisk, path: &str) {
    let path = Path::new(ROOT).join(path);
    let file = disk.open(&path, OpenMode::Read).unwrap();
    let length = file.len().unwrap();
    let mut bytes = vec![0; length as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let is_journal = path.extension().is_some_and(|kind| kind == "journal");
    if is_journal {
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    }
    let target = Target {
        name,
        package: env!("CARGO_MANIFEST_DIR"),
        corpus: vec![bytes],
        shape: Shape::Bytes,
        inputs: 200,
    };
    let mut noticed = 0;
    let played = fuzz(target, |input| {
        let disk = disk.kill();
        put(&disk, &path, input, if is_journal { length } else { input.len() as u64 });
        let read = examine_on(Path::new(ROOT), &(Arc::new(disk) as Arc<dyn Disk>));
        noticed += u64::from(read.unwrap().worst().is_some());
    });
    assert!(noticed * 200 >= played, "only {noticed} of {played} changes make a difference");
}

#[test]
fn whatever_stands_in_the_journal_reading_it_ends_with_an_opinion() {
    read_changed("journal", &kept(), "journal/0000000000000002.journal");
}

#[test]
fn whatever_stands_in_the_checkpoint_reading_it_ends_with_an_opinion() {
    read_changed("checkpoint", &kept(), "checkpoint");
}

#[test]
fn whatever_stands_in_a_segment_reading_it_ends_with_an_opinion() {
    read_changed("segment", &kept(), "topics/00000001-orders/00000000000000000000.segment");
}

#[test]
fn whatever_stands_in_an_index_reading_it_ends_with_an_opinion() {
    read_changed("index", &with_places(), "topics/00000001-orders/00000000000000000000.index");
}

struct Facts;

impl FilterFacts for Facts {
    fn metadata(&self, name: &str) -> Option<&str> {
        (name == "type").then_some("order")
    }

    fn key(&self) -> &'static str {
        "customer-7"
    }

    fn topic(&self) -> &'static str {
        "shop.eu"
    }

    fn size_bytes(&self) -> u64 {
        120
    }

    fn time_ms(&self) -> u64 {
        1_767_323_045_000
    }
}

#[test]
fn whatever_a_filter_says_it_is_read_or_refused() {
    let corpus = include_str!("fuzz/filters.txt").lines().map(|line| line.as_bytes().to_vec()).collect();
    let target = Target {
        name: "filters",
        package: env!("CARGO_MANIFEST_DIR"),
        corpus,
        shape: Shape::Bytes,
        inputs: 20_000,
    };
    let (mut read, mut refused) = (0, 0);
    let played = fuzz(target, |input| match Filter::parse(&String::from_utf8_lossy(input)) {
        Ok(filter) => {
            filter.passes(&Facts);
            read += 1;
        }
        Err(_) => refused += 1,
    });
    assert!(read * 200 >= played && refused * 200 >= played, "{read} read, {refused} refused");
}

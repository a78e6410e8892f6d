//! Bytes that nobody wrote are read: the files of a data directory, and filter expressions. Whatever they are, nothing panics, and nothing is
//! served that was never published.
//!
//! Inputs are made by a small mutator over kept corpora (the data directories of `tests/formats`, `tests/fuzz/filters.txt`), the same ones each
//! time; `RATATOSKR_FUZZ_INPUTS=n` makes more of them. Coverage-guided fuzzers need an unstable compiler, which this project does not ask for.
//! With `--features ratatoskr-log/broken-no-checksum` nothing is refused for its checksum, so that what lies behind it is reached.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ratatoskr_broker::{Filter, FilterFacts, examine_on};
use ratatoskr_log::{Disk, OpenMode};
use ratatoskr_sim::{Mutator, SimDisk};

const ROOT: &str = "/data";
const PAGE_BYTES: usize = 4096;

fn inputs(default: u64) -> u64 {
    let text = std::env::var("RATATOSKR_FUZZ_INPUTS").ok();
    text.map_or(default, |text| text.parse().expect("RATATOSKR_FUZZ_INPUTS takes a number"))
}

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

#[test]
fn whatever_stands_in_a_data_directory_reading_it_ends_with_an_opinion() {
    let files = directory();
    let disk = SimDisk::new();
    for (path, bytes, length) in &files {
        put(&disk, path, bytes, *length);
    }
    let mut opinions = std::collections::BTreeMap::new();
    for (number, (path, bytes, length)) in files.iter().enumerate() {
        let corpus = [bytes.clone()];
        let mut mutator = Mutator::new(&corpus, number as u64);
        for input in 0..inputs(200) {
            let disk = disk.kill();
            let changed = mutator.next_input();
            let length = if path.extension().is_some_and(|kind| kind == "journal") {
                *length
            } else {
                changed.len() as u64
            };
            put(&disk, path, &changed, length);
            let disk: Arc<dyn Disk> = Arc::new(disk);
            let read = catch_unwind(AssertUnwindSafe(|| examine_on(Path::new(ROOT), &disk)));
            let read = read.unwrap_or_else(|_| panic!("input {input} of {} made it panic", path.display()));
            *opinions.entry(read.unwrap().worst()).or_insert(0) += 1;
        }
    }
    assert!(opinions.len() >= 3, "of every opinion there is one: {opinions:?}");
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
    let corpus: Vec<Vec<u8>> =
        include_str!("fuzz/filters.txt").lines().map(|line| line.as_bytes().to_vec()).collect();
    let (mut mutator, mut read, mut refused) = (Mutator::new(&corpus, 7), 0, 0);
    for _ in 0..inputs(20_000) {
        let input = mutator.next_input();
        let source = String::from_utf8_lossy(&input);
        let tried = catch_unwind(|| Filter::parse(&source).map(|filter| filter.passes(&Facts)));
        match tried.unwrap_or_else(|_| panic!("this filter made it panic: {source:?}")) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    let all = read + refused;
    assert!(read * 200 > all && refused * 200 > all, "{read} read, {refused} refused");
}

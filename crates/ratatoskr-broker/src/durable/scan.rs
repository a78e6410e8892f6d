//! Scans: looking through what a subscription has not settled for messages that pass, without keeping others from the disk.
//!
//! ```text
//!   scan ──▶ waits for one of SCANS_AT_ONCE slots ──▶ one step on a blocking thread: SCAN_STEP_BYTES ──▶ enough? else again
//!            └── given in turn to those who scan, however many scans each has (`scan/slots.rs`)
//! ```
//!
//! Whoever scans may find nothing in a large log, and many may scan at once. So a step is short, few steps run at a time, and
//! between two of them others read. A scan ends with its future: what runs then is the rest of one step. A page examines
//! [`SCAN_PAGE_BYTES_MAX`] at most and says where the next one goes on.

mod slots;

use crate::durable::states::SubscriptionStates;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use ratatoskr_log::{RECORD_HEADER_BYTES, ReadError, Record, RecordChunk, SegmentCursor, Tail};

use crate::core::{Core, LiveCounters};
use crate::topic::Topic;
use ratatoskr_state::limits::{LISTED_BYTES_MAX, READ_BYTES_MAX, SCAN_PAGE_BYTES_MAX, SCAN_STEP_BYTES};
pub(crate) use slots::{ScanSlots, Scanner};

/// Bytes of an answer that a message takes besides its own: id, topic, and what a dead letter repeats of its metadata.
const AROUND_BYTES: usize = 1024;
/// Unsettled ranges looked up at a time.
const RANGES_AT_ONCE: usize = 4096;

/// How much one scan brings at most. The first record comes however large it is.
#[derive(Clone, Copy)]
pub(super) struct Page {
    pub(super) records: usize,
    /// As [`shown_bytes`] counts them.
    pub(super) bytes: usize,
    /// Bytes of the log that are examined; at least one step.
    pub(super) examined: u64,
}

impl Page {
    /// So many records, in an answer that a client takes, after a bounded search.
    pub(super) fn of(records: usize) -> Page {
        Page { records, bytes: LISTED_BYTES_MAX, examined: SCAN_PAGE_BYTES_MAX }
    }

    /// The same, however long it takes.
    pub(super) fn whole(records: usize) -> Page {
        Page { examined: u64::MAX, ..Page::of(records) }
    }
}

/// What a scan found.
pub(super) struct Found {
    /// Ascending. They share no memory with the log.
    pub(super) records: Vec<Record>,
    /// Where to go on; `None` when the end was reached.
    pub(super) next: Option<u64>,
    /// Bytes of the log that were looked through.
    pub(super) examined: u64,
}

/// Why a scan could not go on.
pub(super) enum ScanError {
    /// The subscription is gone, or its topic.
    Gone,
    /// The log could not be read.
    ReadFailed(String),
}

/// What is to be looked through.
pub(super) struct Unsettled {
    pub(super) topic: Arc<Topic>,
    /// The number of the subscription that has not settled it.
    pub(super) subscription: u32,
    /// From this offset on.
    pub(super) from: u64,
    /// Who looks.
    pub(super) scanner: Scanner,
}

/// Looks through a page.
pub(super) async fn scan(
    core: &Arc<Core>,
    unsettled: Unsettled,
    page: Page,
    wanted: impl Fn(&Topic, &Record) -> bool + Send + 'static,
) -> Result<Found, ScanError> {
    let Unsettled { topic, subscription, from, scanner } = unsettled;
    let ranges = Ranges { core: core.clone(), subscription, known: VecDeque::new(), known_to: 0 };
    let segments = SegmentCursor::default();
    let (found, bytes, examined) = (Vec::new(), 0, 0);
    let mut scan = Scan { topic, ranges, page, wanted, cursor: from, segments, found, bytes, examined };
    loop {
        let step = move || {
            let stepped = scan.step();
            (scan, stepped)
        };
        let stepped = core.scans.run(&scanner, step).await;
        let (stepped_scan, stepped) = stepped.map_err(|error| ScanError::ReadFailed(error.to_string()))?;
        scan = stepped_scan;
        let next = match stepped? {
            Step::End => None,
            Step::More if scan.examined < page.examined => continue,
            Step::Full | Step::More => Some(scan.cursor),
        };
        return Ok(Found { records: scan.found, next, examined: scan.examined });
    }
}

/// What came of a step.
enum Step {
    /// There is more to look at.
    More,
    /// The page is full.
    Full,
    /// There is nothing more.
    End,
}

/// A scan between two steps.
struct Scan<Wanted> {
    topic: Arc<Topic>,
    ranges: Ranges,
    page: Page,
    wanted: Wanted,
    /// The next offset to look at.
    cursor: u64,
    segments: SegmentCursor,
    found: Vec<Record>,
    /// What is found takes so much in an answer.
    bytes: usize,
    /// Bytes of the log read so far.
    examined: u64,
}

impl<Wanted: Fn(&Topic, &Record) -> bool> Scan<Wanted> {
    fn step(&mut self) -> Result<Step, ScanError> {
        let started = self.examined;
        let mut stepped = Step::More;
        while matches!(stepped, Step::More) && self.examined - started < SCAN_STEP_BYTES {
            // What is deleted may be gone from memory and from disk alike, and nothing comes any more.
            if self.topic.log.is_deleted() {
                return Err(ScanError::Gone);
            }
            // Retention goes on meanwhile.
            self.cursor = self.ranges.next(self.cursor.max(self.topic.log.extent().first))?;
            stepped = match self.read()? {
                Some(chunks) => self.look_through(&chunks, started)?,
                None => Step::End,
            };
        }
        LiveCounters::add(&self.ranges.core.live_counters.scanned_bytes, self.examined - started);
        Ok(stepped)
    }

    fn look_through(&mut self, chunks: &[RecordChunk], started: u64) -> Result<Step, ScanError> {
        for record in chunks.iter().flat_map(RecordChunk::records) {
            // One chunk can hold far more than a step should.
            if self.examined - started >= SCAN_STEP_BYTES {
                return Ok(Step::More);
            }
            if record.offset < self.cursor {
                continue;
            }
            self.examined += (RECORD_HEADER_BYTES + record.body.bytes()) as u64;
            if self.ranges.next(record.offset)? == record.offset && (self.wanted)(&self.topic, &record) {
                let bytes = self.bytes + shown_bytes(&record);
                if bytes > self.page.bytes && !self.found.is_empty() {
                    self.cursor = record.offset;
                    return Ok(Step::Full);
                }
                self.bytes = bytes;
                self.found.push(record.detached());
            }
            self.cursor = record.offset + 1;
            if self.found.len() == self.page.records {
                return Ok(Step::Full);
            }
        }
        self.cursor = chunks.last().map_or(self.cursor, RecordChunk::end).max(self.cursor);
        Ok(Step::More)
    }

    /// What stands at the cursor, in memory or on disk; `None` past the end.
    fn read(&mut self) -> Result<Option<Vec<RecordChunk>>, ScanError> {
        let log = &self.topic.log;
        let read = match log.read_tail(self.cursor, READ_BYTES_MAX) {
            Ok(Tail::Records(chunks)) => Ok(Some(chunks)),
            Ok(Tail::End) => Ok(None),
            Ok(Tail::Cold) => log
                .read_segments(self.cursor, &mut self.segments, READ_BYTES_MAX)
                .map(|chunk| Some(chunk.into_iter().collect())),
            Err(error) => Err(error),
        };
        match read {
            // Retention took it between two looks: the next one begins after it.
            Err(ReadError::Trimmed { .. }) => Ok(Some(Vec::new())),
            read => read.map_err(|error| ScanError::ReadFailed(error.to_string())),
        }
    }
}

/// What a subscription has not settled, looked up piece by piece: there may be a million pieces.
struct Ranges {
    core: Arc<Core>,
    subscription: u32,
    /// Unsettled ranges, ascending.
    known: VecDeque<Range<u64>>,
    /// All before this is in `known`.
    known_to: u64,
}

impl Ranges {
    /// The first unsettled offset from one on. Questions ascend.
    fn next(&mut self, offset: u64) -> Result<u64, ScanError> {
        loop {
            while self.known.front().is_some_and(|range| range.end <= offset) {
                self.known.pop_front();
            }
            if let Some(range) = self.known.front() {
                return Ok(range.start.max(offset));
            }
            let states: &SubscriptionStates = &self.core.subscriptions;
            let from = offset.max(self.known_to);
            let found = states.with(self.subscription, |state| state.acks.unsettled(from, RANGES_AT_ONCE));
            self.known = found.ok_or(ScanError::Gone)?.into();
            self.known_to = self.known.back().map_or(from, |range| range.end);
        }
    }
}

/// What a record takes in an answer, names and places around it included.
fn shown_bytes(record: &Record) -> usize {
    record.body.bytes() + AROUND_BYTES
}

//! The schedule: messages that are not due yet, and which of them are next.
//!
//! ```text
//!   the schedule's log, in order of arrival:   9:30  12:00  9:05  …  (on disk, as many as there is room for)
//!                                                │            │
//!   known, in order of time:        9:05  9:30  ─┴────────────┴─ horizon ─ ─ what lies beyond is read again when its time nears
//!                                    ▲
//!                               through: of what had been seen, everything up to here has been put into its topic
//! ```
//!
//! Messages are put into their topics in order of (time, offset). So what is done is one place, [`Progress::through`], and not
//! a set: ten million waiting messages cost nothing in the journal's state. What arrives late, due before `through`, is told apart
//! by its offset and goes next: time never goes back here, whatever the clock does. Of times and offsets the nearest
//! [`SCHEDULE_KNOWN_MAX`] are in memory; when they run low, one [`Scan`] of the log finds the next ones. Invariants: whatever is due
//! at or before the horizon and neither done nor beyond what was looked at is known; so is whatever is late; `seen` never falls.
//!
//! Messages for a topic that is gone are void: a scan passes them over, so that they are neither counted nor kept. Nothing is written of
//! that; that the topic is gone is in the journal.
//!
//! Pure: who reads the log, and moves messages, is the dispatcher (`durable/dispatcher/scheduled.rs`). Why it is made this way: ADR 0009.

use ratatoskr_state::{Due, Progress};
use std::collections::{BTreeSet, BinaryHeap, HashSet};

use ratatoskr_state::limits::SCHEDULE_KNOWN_MAX;

/// What a scan finds at most; with what is left of the known ones the bound holds.
const SCANNED_MAX: usize = SCHEDULE_KNOWN_MAX / 4 * 3;
/// With fewer known ones left, and others beyond the horizon, it is time to look for them.
const KNOWN_LOW: usize = SCHEDULE_KNOWN_MAX / 4;
/// After so many done messages (or as many as wait, if more) the log is scanned for what can go.
const DONE_BETWEEN_SCANS: u64 = 100_000;
/// The oldest waiting messages a scan remembers, to carry them forward.
const CARRIED_MAX: usize = 10_000;
/// Waiting messages are carried forward when among so many messages of the log only one waits.
const SPARSE: u64 = 4;

/// Messages to be put into their topics next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// In order of time, or late ones in order of offset.
    pub(crate) dues: Vec<Due>,
    /// Every lower offset had been looked at.
    seen: u64,
    /// There are more late ones.
    is_cut: bool,
}

impl Step {
    /// How far the schedule is worked off once the first so many messages of the step, at least one, are done.
    pub(crate) fn advance(&self, progress: &mut Progress, count: usize) {
        let last = self.dues[count - 1];
        progress.done += count as u64;
        // Late ones come in order of offset, and those behind the last one are not done.
        let is_cut = last <= progress.through && (count < self.dues.len() || self.is_cut);
        let seen = if is_cut { last.offset + 1 } else { self.seen };
        assert!(
            seen >= progress.seen,
            "what is done stays done: seen falls from {} to {seen}",
            progress.seen
        );
        progress.seen = seen;
        progress.through = progress.through.max(last);
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Schedule {
    progress: Progress,
    known: BTreeSet<Due>,
    /// Beyond it there may be messages that are not known; `None`: all are known.
    horizon: Option<Due>,
    /// Every lower offset of the log has been looked at.
    fed: u64,
    is_scanning: bool,
    done_at_scan: u64,
    /// Topics with messages that may wait.
    topics: HashSet<u32>,
    /// One of them is gone: the next scan is due.
    must_scan: bool,
    /// Messages that are neither done nor waiting: their topics are gone, or they could not be read. As of the last scan.
    void: u64,
}

impl Schedule {
    /// Begins with nothing known of a log that goes on at `next`.
    pub(crate) fn new(progress: Progress, next: u64) -> Schedule {
        Schedule {
            progress,
            known: BTreeSet::new(),
            horizon: Some(Due::default()),
            fed: next,
            is_scanning: false,
            done_at_scan: progress.done,
            topics: HashSet::new(),
            must_scan: false,
            void: 0,
        }
    }

    /// The offset to look at next.
    pub(crate) fn fed(&self) -> u64 {
        self.fed
    }

    /// Messages up to an offset have been looked at, and these are among them. What was looked at before may come again.
    pub(crate) fn feed(&mut self, to: u64, dues: impl IntoIterator<Item = Due>) {
        self.fed = to;
        for due in dues {
            if !self.progress.is_done(due) && self.horizon.is_none_or(|horizon| due <= horizon) {
                self.known.insert(due);
            }
        }
        self.keep_nearest();
    }

    /// Messages for this topic may wait.
    pub(crate) fn note_topic(&mut self, topic: u32) {
        self.topics.insert(topic);
    }

    /// A topic is gone: what waits for it is void. The log goes on at `next`.
    pub(crate) fn topic_deleted(&mut self, topic: u32, next: u64) {
        // A scan that is under way may have found messages for it.
        self.must_scan |= self.topics.remove(&topic) || self.fed < next || self.is_scanning;
    }

    /// So many messages that came due were void.
    pub(crate) fn void_done(&mut self, count: u64) {
        self.void = self.void.saturating_sub(count);
    }

    /// Messages that are neither done nor waiting.
    pub(crate) fn void(&self) -> u64 {
        self.void
    }

    /// Late ones stay known however many they are: they go at once, and a step over those must know all of them.
    fn keep_nearest(&mut self) {
        while self.known.len() > SCHEDULE_KNOWN_MAX && self.known.last() > Some(&self.progress.through) {
            self.known.pop_last();
            self.horizon = self.known.last().copied();
        }
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.known.first().map(|due| due.at_ms)
    }

    /// What is to be done next, if anything is due.
    pub(crate) fn next_step(&self, now_ms: u64, count_max: usize) -> Option<Step> {
        // After a scan the log is looked at again from where the scan began: what was seen before has to be seen first.
        if self.fed < self.progress.seen {
            return None;
        }
        let mut dues: Vec<Due> = self.known.range(..=self.progress.through).copied().collect();
        let late = dues.len();
        if late == 0 {
            dues = self.known.iter().take_while(|due| due.at_ms <= now_ms).take(count_max).copied().collect();
        } else {
            dues.sort_unstable_by_key(|due| due.offset);
            dues.truncate(count_max);
        }
        let is_cut = late > dues.len();
        (!dues.is_empty()).then_some(Step { dues, seen: self.fed, is_cut })
    }

    /// The journal has it that so much is done, and these are.
    pub(crate) fn advance(&mut self, progress: Progress, done: &[Due]) {
        self.progress = progress;
        for due in done {
            self.known.remove(due);
        }
    }

    /// A look at the whole log, if it is time for one; `next` is where the log goes on.
    pub(crate) fn begin_scan(&mut self, first: u64, next: u64) -> Option<Scan> {
        let runs_low = self.horizon.is_some() && self.known.len() < KNOWN_LOW;
        // Void ones never come to be done by a step of their own, and wait for nothing.
        let waiting = next.saturating_sub(self.progress.done).saturating_sub(self.void);
        let has_shrunk = self.progress.done - self.done_at_scan >= DONE_BETWEEN_SCANS.max(waiting);
        if self.is_scanning || !(runs_low || has_shrunk || self.must_scan) {
            return None;
        }
        self.is_scanning = true;
        self.must_scan = false;
        self.done_at_scan = self.progress.done;
        // Without a horizon nothing new is to be found, only what can go.
        let after = self.horizon.unwrap_or(Due { at_ms: u64::MAX, offset: u64::MAX });
        Some(Scan {
            progress: self.progress,
            after,
            cursor: first.max(self.progress.floor),
            end: next,
            nearest: BinaryHeap::new(),
            has_more: false,
            oldest: Vec::new(),
            beyond_oldest: None,
            waiting: 0,
            topics: HashSet::new(),
        })
    }

    /// What a scan found. Answers what can go, and what should be carried forward first.
    pub(crate) fn finish_scan(&mut self, scan: Scan) -> Remains {
        self.is_scanning = false;
        self.void = scan.end.saturating_sub(scan.progress.done).saturating_sub(scan.waiting);
        self.topics.extend(&scan.topics);
        if self.horizon == Some(scan.after) {
            let furthest = scan.nearest.peek().copied();
            self.horizon = if scan.has_more { furthest } else { None };
            let known = scan.nearest.into_iter().filter(|&due| !self.progress.is_done(due));
            self.known.extend(known);
            // What came in meanwhile and lay beyond the old horizon may lie before the new one.
            self.fed = self.fed.min(scan.end);
            self.keep_nearest();
        }
        let oldest: Vec<Due> = scan.oldest.into_iter().filter(|&due| !self.progress.is_done(due)).collect();
        // The scan remembers some of the oldest only; they may all be done by now, and others wait behind them.
        let behind = scan.beyond_oldest.unwrap_or(scan.end);
        let floor = oldest.first().map_or(behind, |due| due.offset);
        let reach = |count: usize| oldest[count - 1].offset + 1 - floor;
        let carried =
            (1..=oldest.len()).rev().find(|&count| reach(count) >= SPARSE * count as u64).unwrap_or(0);
        Remains { floor, carry: oldest[..carried].to_vec() }
    }

    /// A scan failed; the next one may not.
    pub(crate) fn abandon_scan(&mut self) {
        self.is_scanning = false;
    }
}

/// What is left of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    /// Every lower offset can go.
    pub(crate) floor: u64,
    /// The oldest waiting messages, in order of offset: few among many that are done. Carried forward, they do not pin those.
    pub(crate) carry: Vec<Due>,
}

/// One look at the whole log.
#[derive(Debug)]
pub(crate) struct Scan {
    progress: Progress,
    /// What is due up to here is known.
    after: Due,
    pub(crate) cursor: u64,
    pub(crate) end: u64,
    /// The nearest ones after it, the furthest of them on top.
    nearest: BinaryHeap<Due>,
    /// There are further ones.
    has_more: bool,
    /// The first waiting ones, in order of offset.
    oldest: Vec<Due>,
    /// The first waiting offset behind those.
    beyond_oldest: Option<u64>,
    /// How many were found.
    waiting: u64,
    /// The topics they are for.
    topics: HashSet<u32>,
}

impl Scan {
    /// A message of the log for a topic that is there.
    pub(crate) fn take(&mut self, due: Due, topic: u32) {
        if due.offset >= self.end || self.progress.is_done(due) {
            return;
        }
        self.waiting += 1;
        self.topics.insert(topic);
        if self.oldest.len() < CARRIED_MAX {
            self.oldest.push(due);
        } else {
            self.beyond_oldest.get_or_insert(due.offset);
        }
        if due > self.after {
            self.nearest.push(due);
        }
        // As in `keep_nearest`, late ones stay.
        if self.nearest.len() > SCANNED_MAX && self.nearest.peek() > Some(&self.progress.through) {
            self.nearest.pop();
            self.has_more = true;
        }
    }
}

#[cfg(test)]
mod tests;

//! After a change of the filter: what was read under the earlier one is matched against the new one, a step at a time.
//!
//! ```text
//!   change ──▶ due ──▶ steps on the reading thread, between which others read ──▶ all looked at ──▶ Excluded, deliveries go on
//!               ▲                                                    │
//!               └────────── changed again meanwhile ─────────────────┘
//! ```
//!
//! Nothing is delivered meanwhile, so a review must end, whatever happens: a message that cannot be read now, or over which the matching
//! panics, is not excluded, and after [`FAILURES_MAX`] of them the rest is not looked at.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratatoskr_log::{Moment, ReadError};

use super::feeding::{filter_of, passes};
use super::{ActiveSubscription, Event, Outcome, Token};
use crate::durable::record_reader::RecordReader;
use crate::filter::Filter;
use crate::topic::Topic;

/// How long others wait for a step.
const STEP_TIME: Duration = Duration::from_millis(5);
/// Messages that may fail to be read, or matched, before the rest of a review is given up: each may take long.
const FAILURES_MAX: usize = 16;

/// Whether what was read before the filter changed is being looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reviewing {
    #[default]
    No,
    /// To begin with the active subscription's next turn.
    Due,
    /// Its next step is under way, of which there is only one at a time.
    UnderWay,
}

/// See the file's head.
pub(crate) struct Review {
    topic: Arc<Topic>,
    pub(crate) subscription: u32,
    /// Which change of the filter it is about.
    change: u64,
    filter: Option<Filter>,
    progress: Progress,
}

/// How far a review has come.
struct Progress {
    /// Ascending.
    offsets: Vec<u64>,
    /// How many of them have been looked at.
    looked_at: usize,
    /// Those of them that the filter does not want, ascending.
    excluded: Vec<u64>,
    /// How many could not be looked at.
    failures: usize,
}

impl Review {
    /// Looks at some more. May block on the disk.
    pub(crate) fn step(&mut self) {
        let (topic, filter, subscription) = (&self.topic, self.filter.as_ref(), self.subscription);
        let mut reader = RecordReader::new(&topic.log);
        let failed = self.progress.go_on(|offset| {
            let record = reader.read(offset)?;
            Ok(record.is_none_or(|record| passes(topic, &record, subscription, filter)))
        });
        for (offset, reason) in failed {
            tracing::error!(topic = %topic.name, subscription, offset, reason, "a message cannot be matched against the new filter, and is delivered");
        }
        if self.progress.failures >= FAILURES_MAX {
            tracing::error!(topic = %topic.name, subscription, "too many messages cannot be matched against the new filter: others that were read before it changed are delivered, too");
        }
    }
}

impl Progress {
    fn of(offsets: Vec<u64>) -> Progress {
        Progress { offsets, looked_at: 0, excluded: Vec::new(), failures: 0 }
    }

    /// Asks of one message after the other whether it is wanted, until the time of a step is over. Answers for which that failed, and why.
    fn go_on(&mut self, mut is_wanted: impl FnMut(u64) -> Result<bool, ReadError>) -> Vec<(u64, String)> {
        let (started, mut failed) = (Instant::now(), Vec::new());
        while let Some(&offset) = self.offsets.get(self.looked_at) {
            // Whatever comes of it.
            self.looked_at += 1;
            match catch_unwind(AssertUnwindSafe(|| is_wanted(offset))) {
                // What is gone, or damaged, is found out when it is delivered.
                Ok(Ok(true) | Err(ReadError::Trimmed { .. } | ReadError::Damaged { .. })) => {}
                Ok(Ok(false)) => self.excluded.push(offset),
                Ok(Err(error @ ReadError::Io { .. })) => failed.push((offset, error.to_string())),
                Err(_) => failed.push((offset, "matching it panicked".to_owned())),
            }
            if self.failures + failed.len() >= FAILURES_MAX {
                self.looked_at = self.offsets.len();
            } else if started.elapsed() >= STEP_TIME {
                break;
            }
        }
        self.failures += failed.len();
        failed
    }

    fn is_done(&self) -> bool {
        self.looked_at == self.offsets.len()
    }
}

impl ActiveSubscription {
    /// The filter is another one now.
    pub(super) fn filter_changed(&mut self) {
        self.filter_changes += 1;
        if self.reviewing == Reviewing::No {
            self.reviewing = Reviewing::Due;
        }
    }

    /// What was read before the filter changed, to be looked at by the reading thread.
    pub(crate) fn take_review(&mut self) -> Option<Review> {
        if self.reviewing != Reviewing::Due || self.is_broken {
            return None;
        }
        self.reviewing = Reviewing::UnderWay;
        Some(Review {
            topic: self.topic.clone(),
            subscription: self.number,
            change: self.filter_changes,
            filter: filter_of(&self.settings),
            progress: Progress::of(self.delivery.unsettled()),
        })
    }

    /// A step of a review has been made. Answers it for the next one, if there is more to look at.
    pub(crate) fn review_stepped(&mut self, review: Review, now: Moment) -> Option<Review> {
        if review.change != self.filter_changes {
            // Nobody wants to know any more: another one begins.
            self.reviewing = Reviewing::Due;
            return None;
        }
        if !review.progress.is_done() {
            return Some(review);
        }
        self.reviewing = Reviewing::No;
        let excluded = review.progress.excluded;
        let is_excluded = |offset: u64| excluded.binary_search(&offset).is_ok();
        let unseen: Vec<Token> = self
            .member_queues
            .values()
            .flat_map(|(member_queue, _)| member_queue.take_back(is_excluded))
            .collect();
        self.apply(Event::Excluded { offsets: excluded }, now);
        // What members have not looked at yet goes as well.
        for Token { offset, lease, .. } in unseen {
            self.apply(Event::Settle { offset, lease, outcome: Outcome::Release }, now);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a review of so many messages excludes, and how many failed.
    fn review(count: u64, mut is_wanted: impl FnMut(u64) -> Result<bool, ReadError>) -> (Vec<u64>, usize) {
        let mut progress = Progress::of((0..count).collect());
        let mut failed = 0;
        while !progress.is_done() {
            failed += progress.go_on(&mut is_wanted).len();
        }
        (progress.excluded, failed)
    }

    fn unreadable() -> ReadError {
        ReadError::Io { path: "segment".into(), reason: "too many open files".to_owned() }
    }

    #[test]
    fn a_review_ends_though_messages_cannot_be_read_or_matched_and_these_are_not_excluded() {
        let odd = |offset: u64| match offset {
            3 => Err(unreadable()),
            5 => panic!("a filter that panics"),
            _ => Ok(offset.is_multiple_of(2)),
        };
        assert_eq!(review(10, odd), (vec![1, 7, 9], 2));
    }

    #[test]
    fn a_review_gives_up_where_little_can_be_read() {
        let mut asked = 0;
        let excluded = review(1_000_000, |offset| {
            asked += 1;
            if offset == 0 { Ok(false) } else { Err(unreadable()) }
        });
        assert_eq!(excluded, (vec![0], FAILURES_MAX));
        assert_eq!(asked, FAILURES_MAX + 1);
    }

    #[test]
    fn a_step_of_a_review_is_over_after_its_time() {
        let mut progress = Progress::of((0..10).collect());
        progress.go_on(|_| {
            std::thread::sleep(STEP_TIME);
            Ok(false)
        });
        assert_eq!(progress.excluded, [0], "others read in between");
    }
}

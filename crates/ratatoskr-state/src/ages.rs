//! [`Ages`]: how old messages are whose timestamps do not say.
//!
//! ```text
//!   clock       right ───────┐  ahead by a year  ┌─── right again ─────────▶
//!                            └───────────────────┘
//!   timestamps  9:00  9:05    next year, 9:10      next year, 9:10 (they never go back)
//!   marks                                    [offsets 3 to 7: dated 9:12 to 9:40]
//! ```
//!
//! Timestamps of a topic never go back, so after a jump of the clock they stand still, possibly for years. What is taken in
//! meanwhile is dated by the retention clock ([`crate::BatchDate`]), and where that date is not the timestamp, a mark keeps it: a range of
//! offsets, and the dates they were taken in between. Marks err on the side of keeping: with [`MARKS_MAX`] a topic, messages may stay
//! an eighth longer than they should. A function of the journal, but for what a jump dated that was taken back: that ages from then on.

use std::collections::BTreeMap;

use crate::code::{Reader, put_number};

/// A timestamp that is not further from the date than this says it well enough.
const NEAR_MS: u64 = 1_000;
/// Marks of one topic.
const MARKS_MAX: usize = 32;

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    topics: BTreeMap<u32, Marks>,
}

/// Offsets that were taken in together, with one timestamp.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The offset of the first.
    pub first: u64,
    /// The offset after the last.
    pub end: u64,
    /// Their timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

/// What marks know of a topic's messages and a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Everything before this offset is older.
    pub old_before: u64,
    /// From this offset on some may be younger; none of those is to go for its timestamp.
    pub young_from: u64,
}

/// Of one topic, ascending.
#[derive(Clone, Debug, Default)]
struct Marks {
    marks: Vec<Mark>,
    /// How far the dates of one mark may be apart.
    span_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    first: u64,
    end: u64,
    from_ms: u64,
    to_ms: u64,
}

impl Ages {
    /// Messages were taken in on a date.
    pub fn appended(&mut self, topic: u32, run: Run, date_ms: u64) {
        if run.first < run.end && run.timestamp_ms.abs_diff(date_ms) > NEAR_MS {
            let mark = Mark { first: run.first, end: run.end, from_ms: date_ms, to_ms: date_ms };
            self.topics.entry(topic).or_default().push(mark);
        }
    }

    /// No message of a topic is younger than a date, though the newest one's timestamp says so.
    pub fn note_newest(&mut self, topic: u32, newest: Run, date_ms: u64) {
        let is_ahead = newest.timestamp_ms > date_ms.saturating_add(NEAR_MS);
        if !is_ahead || newest.end == 0 {
            return;
        }
        let known = self.topics.entry(topic).or_default();
        if known.marks.last().is_none_or(|last| last.end < newest.end) {
            known.push(Mark { first: newest.end, end: newest.end, from_ms: date_ms, to_ms: date_ms });
        }
    }

    /// What is known of a topic's messages and a date. Nothing, in a topic whose timestamps are right.
    pub fn bounds(&self, topic: u32, cutoff_ms: u64) -> Bounds {
        let marks = self.topics.get(&topic).map_or(&[][..], |known| &known.marks);
        let old = marks.iter().filter(|mark| mark.to_ms < cutoff_ms).map(|mark| mark.end).max();
        let young = marks.iter().filter(|mark| mark.to_ms >= cutoff_ms).map(|mark| mark.first).min();
        Bounds { old_before: old.unwrap_or(0), young_from: young.unwrap_or(u64::MAX) }
    }

    /// Nothing was taken in later than today.
    pub fn lower_to(&mut self, today_ms: u64) {
        for mark in self.topics.values_mut().flat_map(|known| &mut known.marks) {
            mark.from_ms = mark.from_ms.min(today_ms);
            mark.to_ms = mark.to_ms.min(today_ms);
        }
    }

    /// Messages before an offset are gone.
    pub fn forget_before(&mut self, topic: u32, first: u64) {
        let Some(known) = self.topics.get_mut(&topic) else { return };
        known.marks.retain(|mark| mark.end > first);
        if known.marks.is_empty() {
            self.topics.remove(&topic);
        }
    }

    /// A topic is gone.
    pub fn topic_deleted(&mut self, topic: u32) {
        self.topics.remove(&topic);
    }

    /// One part of a snapshot.
    pub fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), String> {
        let known = self.topics.entry(reader.number()? as u32).or_default();
        known.span_ms = reader.number()?;
        while !reader.is_at_end() {
            let mut number = || reader.number();
            let (first, end) = (number()?, number()?);
            known.marks.push(Mark { first, end, from_ms: number()?, to_ms: number()? });
        }
        Ok(())
    }

    /// All marks, a part for each topic, which begins with `head`.
    pub fn encode(&self, head: u64, push: &mut dyn FnMut(Vec<u8>)) {
        for (&topic, known) in &self.topics {
            let mut part = Vec::new();
            let numbers = [head, topic.into(), known.span_ms];
            let marks = known.marks.iter().flat_map(|mark| [mark.first, mark.end, mark.from_ms, mark.to_ms]);
            numbers.into_iter().chain(marks).for_each(|number| put_number(&mut part, number));
            push(part);
        }
    }
}

impl Marks {
    fn push(&mut self, mark: Mark) {
        self.marks.push(mark);
        self.join(self.marks.len() - 1);
        while self.marks.len() > MARKS_MAX {
            self.span_ms = (self.span_ms * 2).max(NEAR_MS);
            for at in (1..self.marks.len()).rev() {
                self.join(at);
            }
        }
    }

    /// Joins a mark with the one before, if their dates are near enough.
    fn join(&mut self, at: usize) {
        let Some(before) = at.checked_sub(1).map(|before| self.marks[before]) else { return };
        let mark = self.marks[at];
        let joined = Mark {
            first: before.first.min(mark.first),
            end: before.end.max(mark.end),
            from_ms: before.from_ms.min(mark.from_ms),
            to_ms: before.to_ms.max(mark.to_ms),
        };
        if joined.to_ms - joined.from_ms <= self.span_ms.max(NEAR_MS) {
            self.marks[at - 1] = joined;
            self.marks.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;
    const AHEAD_MS: u64 = 400 * 24 * HOUR_MS;

    /// One message a minute, with a timestamp that stands still.
    fn hours_of_messages(hours: u64) -> Ages {
        let mut ages = Ages::default();
        for minute in 0..hours * 60 {
            let run = Run { first: minute, end: minute + 1, timestamp_ms: AHEAD_MS };
            ages.appended(1, run, minute * 60_000);
        }
        ages
    }

    fn marks(ages: &Ages) -> usize {
        ages.topics.get(&1).map_or(0, |known| known.marks.len())
    }

    #[test]
    fn timestamps_that_are_right_need_no_marks() {
        let mut ages = Ages::default();
        ages.appended(1, Run { first: 0, end: 9, timestamp_ms: 5_000 }, 5_000 + NEAR_MS);
        assert_eq!(marks(&ages), 0);
        assert_eq!(ages.bounds(1, u64::MAX), Bounds { old_before: 0, young_from: u64::MAX });
    }

    #[test]
    fn what_marks_know_errs_on_keeping_and_by_an_eighth_at_most() {
        let ages = hours_of_messages(100);
        assert!(marks(&ages) <= MARKS_MAX);
        for hour in 0..100 {
            let Bounds { old_before, young_from } = ages.bounds(1, hour * HOUR_MS);
            let exact = hour * 60;
            assert!(old_before <= exact && young_from <= exact, "{old_before} {exact} {young_from}");
            let eighth = 100 * 60 / 8;
            // Of timestamps that are ahead nothing goes before the one, of those that are behind nothing from the other on.
            for kept_from in [old_before, young_from] {
                assert!(exact - kept_from <= eighth, "{} minutes too long", exact - kept_from);
            }
        }
    }

    #[test]
    fn marks_of_messages_that_are_gone_go() {
        let mut ages = hours_of_messages(100);
        ages.forget_before(1, 99 * 60);
        assert!(marks(&ages) < 3);
        ages.forget_before(1, 100 * 60);
        assert!(ages.topics.is_empty());
    }

    #[test]
    fn what_a_jump_dated_ages_from_when_it_is_taken_back() {
        let mut ages = Ages::default();
        let newest = Run { first: 6, end: 7, timestamp_ms: AHEAD_MS };
        ages.note_newest(1, newest, 10 * HOUR_MS);
        ages.note_newest(1, newest, 20 * HOUR_MS);
        assert_eq!(ages.bounds(1, 10 * HOUR_MS).old_before, 0);
        assert_eq!(ages.bounds(1, 10 * HOUR_MS + 1).old_before, 7, "the first time counts");
        ages.appended(1, Run { first: 7, end: 8, timestamp_ms: AHEAD_MS }, 2 * AHEAD_MS);
        ages.lower_to(30 * HOUR_MS);
        assert_eq!(ages.bounds(1, 30 * HOUR_MS + 1), Bounds { old_before: 8, young_from: u64::MAX });
    }

    #[test]
    fn a_snapshot_brings_back_what_is_known() {
        let ages = hours_of_messages(30);
        let mut restored = Ages::default();
        ages.encode(5, &mut |part| {
            let mut reader = Reader::new(&part);
            assert_eq!(reader.number(), Ok(5));
            restored.restore(&mut reader).unwrap();
        });
        for hour in 0..30 {
            assert_eq!(restored.bounds(1, hour * HOUR_MS), ages.bounds(1, hour * HOUR_MS));
        }
    }
}

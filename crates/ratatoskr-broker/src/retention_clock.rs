//! [`RetentionClock`]: the date by which things are forgotten for their age.
//!
//! ```text
//!   wall clock   ──────────────────┐            ┌────────────  a jump ahead …
//!                                  └ ─ ─ ─ ─ ─ ─┘
//!   date         ──────────────────────────────┬ ─ ─ ─ ─ ─┌──  … is believed once it has lasted [`DOUBT_MS`]
//!                 goes on by the steady clock  │  doubt   │
//! ```
//!
//! A wall clock that is wrong by years must neither wipe every topic at once nor keep anything for ever. So the date never goes back:
//! it follows the wall clock ahead by as much as clocks are adjusted ([`JUMP_MS`]), believes a larger jump once it has lasted, and goes
//! on with the steady clock while the wall clock is behind. What is taken in is dated by it, and ages by its passing: a message that was
//! taken in while the clock was wrong is as old as it is. The journal's blocks and each checkpoint carry the date, and the next start goes
//! on with it. Pure: time is an argument. Why: ADR 0011.

use ratatoskr_log::Moment;
use ratatoskr_state::{BatchDate, DedupDate};

/// The wall clock is believed to be right when it goes ahead, or back, by no more than this at once: clocks are adjusted.
pub(crate) const JUMP_MS: u64 = 5 * 60 * 1000;
/// So long a jump ahead has to last before anything is removed because of it: time to notice it, and to set the clock right.
pub(crate) const DOUBT_MS: u64 = 60 * 60 * 1000;

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetentionClock {
    /// The date (as a wall time) at the last look, and when (steady) that was.
    date: Moment,
    /// The wall clock is further ahead than clocks are adjusted.
    doubt: Option<Doubt>,
    /// It is known that the wall clock is behind.
    is_behind: bool,
}

/// A jump ahead that is not believed yet.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Since then (steady).
    since_ms: u64,
    /// By so much.
    ahead_ms: u64,
}

/// What a look at the retention clock showed. Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dates {
    /// What has an age has it by this date.
    pub(crate) today_ms: u64,
    /// What is taken in now is dated so: while a jump ahead is doubted, by the wall clock, which may turn out to be right.
    pub(crate) stamp_ms: u64,
    /// What is new about the wall clock; said once.
    pub(crate) news: Option<ClockNews>,
}

impl Dates {
    /// True while nobody knows whether the wall clock is right: it has jumped ahead.
    pub(crate) fn is_in_doubt(self) -> bool {
        self.stamp_ms > self.today_ms
    }

    /// How windows of ids count now.
    pub(crate) fn of_ids(self) -> DedupDate {
        let Dates { today_ms, stamp_ms, .. } = self;
        DedupDate { today_ms, stamp_ms, doubted_after_ms: today_ms }
    }

    /// As the journal's batches carry it.
    pub(crate) fn of_block(self) -> u64 {
        BatchDate { stamp_ms: self.stamp_ms, is_doubted: self.is_in_doubt() }.encode()
    }
}

/// What happened to the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockNews {
    /// It has jumped ahead by so many milliseconds; whether that is right remains to be seen.
    Ahead(u64),
    /// It has gone back by so many milliseconds.
    Back(u64),
    /// The jump ahead has lasted, or was taken back: nothing can be dated later than today any more.
    Settled,
}

impl RetentionClock {
    /// Goes on with the last date, if any.
    pub(crate) fn new(last_ms: Option<u64>, now: Moment) -> RetentionClock {
        let date = Moment { wall_ms: last_ms.unwrap_or(now.wall_ms), ..now };
        RetentionClock { date, doubt: None, is_behind: false }
    }

    pub(crate) fn look(&mut self, now: Moment) -> Dates {
        let passed_ms = now.steady_ms.saturating_sub(self.date.steady_ms);
        let expected_ms = self.date.wall_ms.saturating_add(passed_ms);
        let ahead_ms = now.wall_ms.saturating_sub(expected_ms);
        let (today_ms, news) = if ahead_ms > JUMP_MS {
            self.look_ahead((expected_ms, ahead_ms), now)
        } else {
            self.look_around(expected_ms, now)
        };
        self.date = Moment { steady_ms: now.steady_ms, wall_ms: today_ms };
        let stamp_ms = if self.doubt.is_some() { now.wall_ms } else { today_ms };
        Dates { today_ms, stamp_ms, news }
    }

    fn look_ahead(&mut self, (expected_ms, ahead_ms): (u64, u64), now: Moment) -> (u64, Option<ClockNews>) {
        self.is_behind = false;
        // Another jump while one is doubted has lasted no time yet, whichever way it goes.
        let lasting = self.doubt.filter(|doubt| doubt.ahead_ms.abs_diff(ahead_ms) <= JUMP_MS);
        match lasting {
            None => {
                self.doubt = Some(Doubt { since_ms: now.steady_ms, ahead_ms });
                (expected_ms, Some(ClockNews::Ahead(ahead_ms)))
            }
            Some(Doubt { since_ms, .. }) if now.steady_ms.saturating_sub(since_ms) >= DOUBT_MS => {
                self.doubt = None;
                (now.wall_ms, Some(ClockNews::Settled))
            }
            Some(_) => (expected_ms, None),
        }
    }

    fn look_around(&mut self, expected_ms: u64, now: Moment) -> (u64, Option<ClockNews>) {
        let behind_ms = expected_ms.saturating_sub(now.wall_ms);
        let was_behind = std::mem::replace(&mut self.is_behind, behind_ms > JUMP_MS);
        let news = if self.doubt.take().is_some() {
            Some(ClockNews::Settled)
        } else {
            (self.is_behind && !was_behind).then_some(ClockNews::Back(behind_ms))
        };
        // A little behind, it stands still until the wall clock has caught up: otherwise the two would be apart for ever.
        let today_ms = if self.is_behind { expected_ms } else { now.wall_ms.max(self.date.wall_ms) };
        (today_ms, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
    const START: Moment = Moment { steady_ms: 10, wall_ms: 40 * YEAR_MS };

    /// Time has passed, and the wall clock is ahead of what it should show.
    fn at(passed_ms: u64, ahead_ms: u64) -> Moment {
        let now = START.after(passed_ms);
        Moment { wall_ms: now.wall_ms + ahead_ms, ..now }
    }

    /// Time has passed, and the wall clock is behind.
    fn behind(passed_ms: u64, behind_ms: u64) -> Moment {
        let now = START.after(passed_ms);
        Moment { wall_ms: now.wall_ms - behind_ms, ..now }
    }

    fn dates(today: Moment, stamp: Moment, news: Option<ClockNews>) -> Dates {
        Dates { today_ms: today.wall_ms, stamp_ms: stamp.wall_ms, news }
    }

    #[test]
    fn a_jump_ahead_is_believed_only_after_it_has_lasted() {
        let mut retention_clock = RetentionClock::new(None, START);
        assert_eq!(retention_clock.look(at(1000, 0)), dates(at(1000, 0), at(1000, 0), None));
        let (right, jumped) = (at(2000, 0), at(2000, 10 * YEAR_MS));
        let ahead = Some(ClockNews::Ahead(10 * YEAR_MS));
        assert_eq!(
            retention_clock.look(jumped),
            dates(right, jumped, ahead),
            "what comes in may have the right date"
        );
        let (right, jumped) = (at(1999 + DOUBT_MS, 0), at(1999 + DOUBT_MS, 10 * YEAR_MS));
        assert_eq!(retention_clock.look(jumped), dates(right, jumped, None));
        let lasting = at(2000 + DOUBT_MS, 10 * YEAR_MS);
        assert_eq!(retention_clock.look(lasting), dates(lasting, lasting, Some(ClockNews::Settled)));
        let later = at(2000 + DOUBT_MS + 5, 10 * YEAR_MS);
        assert_eq!(retention_clock.look(later), dates(later, later, None));
    }

    #[test]
    fn a_second_jump_while_the_first_is_doubted_has_to_last_by_itself() {
        let mut retention_clock = RetentionClock::new(None, START);
        let first = at(1_000, YEAR_MS);
        retention_clock.look(first);
        let second = at(DOUBT_MS, 99 * YEAR_MS);
        let expected = START.after(DOUBT_MS);
        let told = Some(ClockNews::Ahead(99 * YEAR_MS));
        assert_eq!(retention_clock.look(second), dates(expected, second, told));
        let soon = at(DOUBT_MS + 60_000, 99 * YEAR_MS);
        assert_eq!(retention_clock.look(soon), dates(START.after(DOUBT_MS + 60_000), soon, None));
        let lasting = at(2 * DOUBT_MS, 99 * YEAR_MS);
        assert_eq!(retention_clock.look(lasting), dates(lasting, lasting, Some(ClockNews::Settled)));
    }

    #[test]
    fn a_jump_that_is_taken_back_leaves_no_trace_and_the_next_one_is_doubted_anew() {
        let mut retention_clock = RetentionClock::new(None, START);
        retention_clock.look(at(0, YEAR_MS));
        let right = at(DOUBT_MS - 1, 0);
        assert_eq!(retention_clock.look(right), dates(right, right, Some(ClockNews::Settled)));
        let (right, again) = (at(DOUBT_MS, 0), at(DOUBT_MS, YEAR_MS));
        assert_eq!(retention_clock.look(again), dates(right, again, Some(ClockNews::Ahead(YEAR_MS))));
    }

    #[test]
    fn the_date_never_goes_back_and_passes_while_the_clock_is_behind() {
        let mut retention_clock = RetentionClock::new(None, START);
        let (right, back) = (at(20, 0), behind(20, 30 * YEAR_MS));
        assert_eq!(retention_clock.look(back), dates(right, right, Some(ClockNews::Back(30 * YEAR_MS))));
        let (right, back) = (at(90, 0), behind(90, 30 * YEAR_MS));
        assert_eq!(retention_clock.look(back), dates(right, right, None), "it is said once");
        assert_eq!(
            retention_clock.look(at(100, 7)),
            dates(at(100, 7), at(100, 7), None),
            "the clock is right again"
        );
    }

    #[test]
    fn small_steps_ahead_are_believed_at_once_and_small_steps_back_are_waited_for() {
        let mut retention_clock = RetentionClock::new(None, START);
        let ahead = at(0, JUMP_MS);
        assert_eq!(retention_clock.look(ahead), dates(ahead, ahead, None));
        assert_eq!(retention_clock.look(at(JUMP_MS - 1, 0)), dates(ahead, ahead, None), "it stands still");
        let caught_up = at(JUMP_MS + 1, 0);
        assert_eq!(retention_clock.look(caught_up), dates(caught_up, caught_up, None));
    }

    #[test]
    fn a_broker_that_starts_long_after_its_last_date_doubts_the_clock_first() {
        let last = Moment { wall_ms: START.wall_ms - YEAR_MS, ..START };
        let mut retention_clock = RetentionClock::new(Some(last.wall_ms), START);
        let ahead = Some(ClockNews::Ahead(YEAR_MS));
        assert_eq!(retention_clock.look(at(7, 0)), dates(last.after(7), at(7, 0), ahead));
        let lasting = at(7 + DOUBT_MS, 0);
        assert_eq!(retention_clock.look(lasting), dates(lasting, lasting, Some(ClockNews::Settled)));
    }

    #[test]
    fn a_broker_that_starts_before_its_last_date_goes_on_from_there() {
        let last = Moment { wall_ms: START.wall_ms + YEAR_MS, ..START };
        let mut retention_clock = RetentionClock::new(Some(last.wall_ms), START);
        let back = Some(ClockNews::Back(YEAR_MS));
        assert_eq!(retention_clock.look(START.after(9)), dates(last.after(9), last.after(9), back));
    }
}

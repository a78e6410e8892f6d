//! [`Calendar`]: which date is believed when something is about to be forgotten for its age.
//!
//! ```text
//!   wall clock   ──────────────────┐            ┌────────────  a jump ahead …
//!                                  └ ─ ─ ─ ─ ─ ─┘
//!   believed     ──────────────────────────────┬ ─ ─ ─ ─ ─┌──  … is believed once it has lasted [`DOUBT_MS`]
//!                 goes on by the steady clock  │  doubt   │
//! ```
//!
//! A wall clock that is wrong by years must not wipe every topic at once: what is removed does not come back. So the believed date
//! follows the wall clock back at once (that keeps more), and goes ahead with the steady clock. If the wall clock is further
//! ahead than [`JUMP_MS`], the jump is said aloud and believed only after it has lasted. The date is part of each
//! checkpoint, and the next start goes on with it. Pure: time is an argument. Why: ADR 0011.

use ratatoskr_log::Moment;

/// The wall clock is believed to be right when it goes ahead by no more than this at once: clocks are adjusted.
pub(crate) const JUMP_MS: u64 = 5 * 60 * 1000;
/// So long a jump ahead has to last before anything is removed because of it: time to notice it, and to set the clock right.
pub(crate) const DOUBT_MS: u64 = 60 * 60 * 1000;

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calendar {
    /// The date that was believed at the last look, and when (steady) that was.
    believed: Moment,
    /// The wall clock is further ahead since then (steady).
    doubt_since_ms: Option<u64>,
}

/// What a look at the calendar showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// To be used for whatever removes something for its age, milliseconds since the Unix epoch.
    pub(crate) believed_ms: u64,
    /// So far the wall clock has just jumped ahead; said once for each jump.
    pub(crate) jumped_ms: Option<u64>,
}

impl Calendar {
    /// Begins at the date that was believed last, if any.
    pub(crate) fn new(last_ms: Option<u64>, now: Moment) -> Calendar {
        let wall_ms = last_ms.unwrap_or(now.wall_ms).min(now.wall_ms);
        Calendar { believed: Moment { wall_ms, ..now }, doubt_since_ms: None }
    }

    pub(crate) fn look(&mut self, now: Moment) -> Date {
        let passed_ms = now.steady_ms.saturating_sub(self.believed.steady_ms);
        let expected_ms = self.believed.wall_ms.saturating_add(passed_ms);
        let ahead_ms = now.wall_ms.saturating_sub(expected_ms);
        let mut jumped_ms = None;
        let believed_ms = if ahead_ms <= JUMP_MS {
            self.doubt_since_ms = None;
            now.wall_ms
        } else {
            let since_ms = self.doubt_since_ms.unwrap_or_else(|| {
                jumped_ms = Some(ahead_ms);
                now.steady_ms
            });
            let lasts = now.steady_ms.saturating_sub(since_ms) >= DOUBT_MS;
            self.doubt_since_ms = (!lasts).then_some(since_ms);
            if lasts { now.wall_ms } else { expected_ms }
        };
        self.believed = Moment { steady_ms: now.steady_ms, wall_ms: believed_ms };
        Date { believed_ms, jumped_ms }
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

    #[test]
    fn a_jump_ahead_is_believed_only_after_it_has_lasted() {
        let mut calendar = Calendar::new(None, START);
        assert_eq!(calendar.look(at(1000, 0)).believed_ms, at(1000, 0).wall_ms);
        let jumped = calendar.look(at(2000, 10 * YEAR_MS));
        assert_eq!(jumped, Date { believed_ms: at(2000, 0).wall_ms, jumped_ms: Some(10 * YEAR_MS) });
        let doubted = calendar.look(at(2000 + DOUBT_MS - 1, 10 * YEAR_MS));
        assert_eq!(doubted, Date { believed_ms: at(2000 + DOUBT_MS - 1, 0).wall_ms, jumped_ms: None });
        let lasting = at(2000 + DOUBT_MS, 10 * YEAR_MS);
        assert_eq!(calendar.look(lasting).believed_ms, lasting.wall_ms);
        let later = at(2000 + DOUBT_MS + 5, 10 * YEAR_MS);
        assert_eq!(calendar.look(later), Date { believed_ms: later.wall_ms, jumped_ms: None });
    }

    #[test]
    fn a_jump_that_is_taken_back_leaves_no_trace_and_the_next_one_is_doubted_anew() {
        let mut calendar = Calendar::new(None, START);
        calendar.look(at(0, YEAR_MS));
        assert_eq!(calendar.look(at(DOUBT_MS - 1, 0)).believed_ms, at(DOUBT_MS - 1, 0).wall_ms);
        let again = calendar.look(at(DOUBT_MS, YEAR_MS));
        assert_eq!(again, Date { believed_ms: at(DOUBT_MS, 0).wall_ms, jumped_ms: Some(YEAR_MS) });
    }

    #[test]
    fn small_steps_ahead_and_all_steps_back_are_believed_at_once() {
        let mut calendar = Calendar::new(None, START);
        assert_eq!(calendar.look(at(0, JUMP_MS)).believed_ms, at(0, JUMP_MS).wall_ms);
        let back = Moment { steady_ms: 20, wall_ms: 3 };
        assert_eq!(calendar.look(back).believed_ms, 3);
    }

    #[test]
    fn a_broker_that_starts_long_after_its_last_date_doubts_the_clock_first() {
        let last_ms = START.wall_ms - YEAR_MS;
        let mut calendar = Calendar::new(Some(last_ms), START);
        assert_eq!(calendar.look(at(7, 0)), Date { believed_ms: last_ms + 7, jumped_ms: Some(YEAR_MS) });
        assert_eq!(calendar.look(at(7 + DOUBT_MS, 0)).believed_ms, at(7 + DOUBT_MS, 0).wall_ms);
        // A date from the future, from before a clock was set right, is no reason to believe in it.
        let mut calendar = Calendar::new(Some(START.wall_ms + YEAR_MS), START);
        assert_eq!(calendar.look(START).believed_ms, START.wall_ms);
    }
}

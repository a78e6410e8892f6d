//! [`SimClock`]: time that moves when a test says so; the wall clock in either direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ratatoskr_log::Clock;

/// Clocks that stand still until they are moved. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    wall_ms: Arc<AtomicU64>,
    /// Moved by [`SimClock::advance`] alone.
    steady_ms: Arc<AtomicU64>,
}

impl SimClock {
    /// Clocks of which the wall clock shows `now_ms` milliseconds since the Unix epoch.
    pub fn at(now_ms: u64) -> SimClock {
        SimClock { wall_ms: Arc::new(AtomicU64::new(now_ms)), steady_ms: Arc::default() }
    }

    /// Lets so many milliseconds pass: both clocks go on.
    pub fn advance(&self, by_ms: u64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.steady_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// The wall clock shows another time from now on: no time has passed.
    pub fn set(&self, now_ms: u64) {
        self.wall_ms.store(now_ms, Ordering::SeqCst);
    }

    /// The wall clock jumps ahead by so many milliseconds: no time has passed.
    pub fn jump_ahead(&self, by_ms: u64) {
        self.set(self.now_ms().saturating_add(by_ms));
    }

    /// The wall clock jumps back by so many milliseconds, at most to the epoch: no time has passed.
    pub fn jump_back(&self, by_ms: u64) {
        self.set(self.now_ms().saturating_sub(by_ms));
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> u64 {
        self.steady_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_moves_both_ways_and_the_steady_one_with_passing_time_only() {
        let clock = SimClock::at(1000);
        let seen_elsewhere = clock.clone();
        clock.advance(5);
        assert_eq!((seen_elsewhere.now_ms(), seen_elsewhere.steady_ms()), (1005, 5));
        clock.jump_back(6);
        assert_eq!((seen_elsewhere.now_ms(), seen_elsewhere.steady_ms()), (999, 5));
        clock.jump_back(5000);
        assert_eq!((seen_elsewhere.now_ms(), seen_elsewhere.steady_ms()), (0, 5));
        clock.jump_ahead(7);
        assert_eq!((seen_elsewhere.now_ms(), seen_elsewhere.steady_ms()), (7, 5));
    }
}

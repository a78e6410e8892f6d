//! [`SimClock`]: time that moves when a test says so, in either direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ratatoskr_log::Clock;

/// A clock that stands still until it is moved. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    now_ms: Arc<AtomicU64>,
}

impl SimClock {
    /// A clock that shows `now_ms` milliseconds since the Unix epoch.
    pub fn at(now_ms: u64) -> SimClock {
        SimClock { now_ms: Arc::new(AtomicU64::new(now_ms)) }
    }

    /// Shows another time from now on.
    pub fn set(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Lets so many milliseconds pass.
    pub fn advance(&self, by_ms: u64) {
        self.now_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Jumps back by so many milliseconds, at most to the epoch.
    pub fn jump_back(&self, by_ms: u64) {
        self.set(self.now_ms().saturating_sub(by_ms));
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_both_ways_and_never_by_itself() {
        let clock = SimClock::at(1000);
        let seen_elsewhere = clock.clone();
        clock.advance(5);
        assert_eq!(seen_elsewhere.now_ms(), 1005);
        clock.jump_back(6);
        assert_eq!(seen_elsewhere.now_ms(), 999);
        clock.jump_back(5000);
        assert_eq!(seen_elsewhere.now_ms(), 0);
        clock.set(7);
        assert_eq!(clock.now_ms(), 7);
    }
}

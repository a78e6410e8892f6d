//! Open-loop time: when each message is due, and waiting for it to the microsecond.
//!
//! ```text
//!   due      0      1      2      3      4        a fixed distance apart, whatever the broker does
//!   sent     │      │        ╲─────╲──│           late: two at once
//!   latency  ├─▶    ├─▶    ├──────────▶           always from when it was due, not from when it was sent
//! ```
//!
//! A load generator that waits for an answer before it sends the next message asks less often just when the broker is slow,
//! and its percentiles forget the callers who would have waited (coordinated omission). Here they count.
//!
//! The runtime's own timers tick once a millisecond, too coarse for latencies below that. So a thread of its own sleeps, with the
//! kernel's best timer, and tells the runtime how many messages are due by now.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::set_current_timer_slack;
use tokio::sync::Notify;

use crate::error::{Outcome, during};

/// The kernel may wake a sleeper so much later to save power: nanoseconds, as little as there is. Its default is 50 µs.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;
/// The longest sleep, so that a thread nobody needs any more ends soon.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// When messages are due at a fixed rate, counted from the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    rate: u64,
}

impl Schedule {
    /// So many a second.
    pub(crate) fn new(rate: u64) -> Schedule {
        Schedule { rate: rate.max(1) }
    }

    /// When message `index` is due.
    pub(crate) fn due(self, index: u64) -> Duration {
        let (seconds, rest) = (index / self.rate, index % self.rate);
        Duration::new(seconds, (rest * 1_000_000_000).div_ceil(self.rate) as u32)
    }

    /// How many messages are due so long after the beginning.
    pub(crate) fn due_by(self, elapsed: Duration) -> u64 {
        (elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64 + 1
    }
}

/// Tells when messages are due.
#[derive(Debug)]
pub(crate) struct Pacer {
    clock: Arc<Clock>,
}

/// What the sleeping thread shares.
#[derive(Debug, Default)]
struct Clock {
    /// How many messages are due by now.
    due: AtomicU64,
    /// Told whenever there are more.
    more: Notify,
}

impl Pacer {
    /// Starts the clock of a load.
    pub(crate) fn start(schedule: Schedule, start: Instant, messages: u64) -> Outcome<Pacer> {
        let clock = Arc::new(Clock::default());
        let ticking = Arc::downgrade(&clock);
        let tick = move || {
            wake_in_time();
            let mut due = 0;
            while due < messages {
                let left = (start + schedule.due(due)).saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    std::thread::sleep(left.min(SLEEP_MAX));
                }
                // The load was given up.
                let Some(clock) = ticking.upgrade() else { return };
                // Woken early, by the longest sleep.
                let Some(elapsed) = Instant::now().checked_duration_since(start) else { continue };
                due = schedule.due_by(elapsed).min(messages);
                if clock.due.swap(due, Ordering::Release) < due {
                    clock.more.notify_one();
                }
            }
        };
        let builder = std::thread::Builder::new().name("pacer".to_owned());
        builder.spawn(tick).map_err(during("starting the pacer's thread"))?;
        Ok(Pacer { clock })
    }

    /// How many messages are due by now.
    pub(crate) fn due(&self) -> u64 {
        self.clock.due.load(Ordering::Acquire)
    }

    /// Returns once message `index` is due.
    pub(crate) async fn reach(&self, index: u64) {
        while self.due() <= index {
            self.clock.more.notified().await;
        }
    }
}

/// Lets this thread sleep to the microsecond. Where that cannot be had, messages are up to 50 µs late, and say so.
pub(crate) fn wake_in_time() {
    let _ = set_current_timer_slack(Some(TIMER_SLACK_NS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_the_same_distance_for_ever() {
        let schedule = Schedule::new(5000);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_micros(200));
        assert_eq!(schedule.due(5000 * 3600), Duration::from_secs(3600));
        let uneven = Schedule::new(3);
        assert_eq!(uneven.due(3), Duration::from_secs(1));
        assert_eq!(uneven.due(2), Duration::from_nanos(666_666_667));
    }

    #[test]
    fn when_a_message_is_due_it_is_counted_as_due_and_not_before() {
        for rate in [1, 3, 7, 5000, 999_999, 1_000_000] {
            let schedule = Schedule::new(rate);
            for index in (0..20_000).step_by(37) {
                let due = schedule.due(index);
                assert_eq!(schedule.due_by(due), index + 1, "{rate}/s, message {index}");
                if let Some(sooner) = due.checked_sub(Duration::from_nanos(1)) {
                    assert_eq!(schedule.due_by(sooner), index, "{rate}/s, message {index}");
                }
            }
        }
    }

    #[test]
    fn the_pacer_never_says_too_early_that_a_message_is_due() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (schedule, start) = (Schedule::new(2000), Instant::now() + Duration::from_millis(1));
            let pacer = Pacer::start(schedule, start, 50).unwrap();
            for index in 0..50 {
                pacer.reach(index).await;
                assert!(Instant::now() >= start + schedule.due(index));
            }
        });
    }
}

//! [`Backoff`]: how long to wait before the broker is tried again, and how often.

use std::time::Duration;

/// Waits that double from `initial` to `max`, each shortened by up to half at random, so that a thousand
/// clients of one broker do not come back in the same millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait. Default 50 ms.
    pub initial: Duration,
    /// The longest wait. Default 2 s.
    pub max: Duration,
    /// Failures in a row after which the last one is reported. Default 30, about a minute. 0: every failure
    /// is reported at once.
    pub attempts_max: u32,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(2), attempts_max: 30 }
    }
}

impl Backoff {
    /// No second attempt: every failure is reported at once.
    pub fn never() -> Backoff {
        Backoff { attempts_max: 0, ..Backoff::default() }
    }

    /// The wait after this many failures in a row, 1 or more; `None` once they are too many.
    pub(crate) fn wait(&self, failures: u32) -> Option<Duration> {
        if failures > self.attempts_max {
            return None;
        }
        // 2³⁰ times any useful first wait is beyond any useful longest one.
        let doubled = self.initial.saturating_mul(1 << failures.saturating_sub(1).min(30));
        Some(doubled.min(self.max).mul_f64(1.0 - fastrand::f64() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        let backoff =
            Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1), attempts_max: 40 };
        for (failures, longest_ms) in [(1, 100), (2, 200), (4, 800), (5, 1000), (40, 1000)] {
            let wait = backoff.wait(failures).unwrap();
            let longest = Duration::from_millis(longest_ms);
            assert!(wait <= longest && wait >= longest / 2, "{failures}: {wait:?}");
        }
        assert_eq!(backoff.wait(41), None);
        assert_eq!(Backoff::never().wait(1), None);
    }
}

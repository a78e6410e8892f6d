//! [`Bucket`]: so much a second.
//!
//! ```text
//!   the time at which everything let through so far is paid for
//!   |now ──── at most one second ahead ────▶| else: come back after …
//! ```
//!
//! Time is an argument, nanoseconds from any fixed point on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Lets so much through a second, with up to one second's worth at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Units a second, 1 or more.
    per_second: u64,
    /// When everything let through so far is paid for, nanoseconds.
    paid_at: AtomicU64,
}

impl Bucket {
    pub(crate) fn new(per_second: u64) -> Bucket {
        Bucket { per_second, paid_at: AtomicU64::new(0) }
    }

    pub(crate) fn per_second(&self) -> u64 {
        self.per_second
    }

    /// How long until something is let through again; zero if now.
    pub(crate) fn wait(&self, now: u64) -> Duration {
        let ahead = self.paid_at.load(Ordering::Relaxed).saturating_sub(now);
        Duration::from_nanos(ahead.saturating_sub(NANOS_PER_SECOND - 1))
    }

    /// True until everything let through is paid for.
    pub(crate) fn is_ahead(&self, now: u64) -> bool {
        self.paid_at.load(Ordering::Relaxed) > now
    }

    pub(crate) fn take(&self, units: u64, now: u64) {
        let cost = u128::from(units) * u128::from(NANOS_PER_SECOND) / u128::from(self.per_second);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let later = |paid_at: u64| Some(paid_at.max(now).saturating_add(cost));
        let _ = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

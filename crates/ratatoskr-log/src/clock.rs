//! The seam to time: everything that asks for the time asks a [`Clock`], and there are two of them (ADR 0011).
//!
//! *Wall time* is what people mean, what is written down and what is shown; it may jump in either direction. *Steady time*
//! only ever goes forward, at the pace of seconds, and means nothing outside this process: whoever waits, waits by it.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A source of time, real or simulated.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. It may jump in either direction; what must not go
    /// backwards (the timestamps within a topic) is held back by whoever writes it.
    fn now_ms(&self) -> u64;

    /// Milliseconds since some moment in this process's life. Never goes back, and never jumps.
    fn steady_ms(&self) -> u64;

    /// Both.
    fn moment(&self) -> Moment {
        Moment { steady_ms: self.steady_ms(), wall_ms: self.now_ms() }
    }
}

/// A moment, as both clocks show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since some moment in this process's life: to wait by.
    pub steady_ms: u64,
    /// Milliseconds since the Unix epoch: to write down and to show.
    pub wall_ms: u64,
}

impl Moment {
    /// So much later, if the wall clock does not jump until then.
    #[must_use]
    pub fn after(self, ms: u64) -> Moment {
        Moment { steady_ms: self.steady_ms.saturating_add(ms), wall_ms: self.wall_ms.saturating_add(ms) }
    }

    /// What the wall clock will show, seen from here, at a steady time to come.
    pub fn wall_at(self, steady_ms: u64) -> u64 {
        self.wall_ms.saturating_add(steady_ms.saturating_sub(self.steady_ms))
    }
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

/// When steady time began: the first time anybody asked for it.
static BEGINNING: OnceLock<Instant> = OnceLock::new();

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn steady_ms(&self) -> u64 {
        let since = BEGINNING.get_or_init(Instant::now).elapsed();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

//! The seam to time: everything that asks for the time asks a [`Clock`].

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time, real or simulated.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. It may jump in either direction; what must not go
    /// backwards (the timestamps within a topic) is held back by whoever writes it.
    fn now_ms(&self) -> u64;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

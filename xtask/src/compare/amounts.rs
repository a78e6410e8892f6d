//! How much of everything: the same for all peers, so that the work is the same.

use std::time::Duration;

/// The sizes of the loads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amounts {
    /// Bytes of a payload.
    pub(crate) size: usize,
    /// How long a load runs.
    pub(crate) time: Duration,
    /// Messages to consume, if the peer can be filled with so many in `fill_time`.
    pub(crate) fill: u64,
    pub(crate) fill_time: Duration,
    /// Of the load at a fixed rate.
    pub(crate) rate: u64,
    pub(crate) rate_time: Duration,
    /// Messages of a recovery, if the peer can be filled with so many in `recovery_time`.
    pub(crate) recovery: u64,
    pub(crate) recovery_time: Duration,
    /// When, under load, the kill comes.
    pub(crate) kill_after: Duration,
}

/// At most so many messages in one load, to bound disk and memory.
pub(crate) const MESSAGES_MAX: u64 = 2_000_000;
/// Messages of a batch, and messages in flight when there are batches.
pub(crate) const BATCH: u32 = 100;
pub(crate) const BATCH_IN_FLIGHT: u32 = 1600;
/// Messages in flight when a server is killed.
pub(crate) const KILL_IN_FLIGHT: u32 = 64;

impl Amounts {
    /// For figures that are quoted.
    pub(crate) fn full(seconds: f64) -> Amounts {
        Amounts {
            size: 256,
            time: Duration::from_secs_f64(seconds),
            fill: 200_000,
            fill_time: Duration::from_secs(4),
            rate: 5000,
            rate_time: Duration::from_secs_f64(2.0 * seconds),
            recovery: 1_000_000,
            recovery_time: Duration::from_secs(60),
            kill_after: Duration::from_secs(1),
        }
    }

    /// To see that everything works.
    pub(crate) fn quick() -> Amounts {
        Amounts {
            fill: 20_000,
            fill_time: Duration::from_millis(500),
            rate_time: Duration::from_secs(1),
            recovery: 100_000,
            recovery_time: Duration::from_secs(5),
            kill_after: Duration::from_millis(300),
            ..Amounts::full(0.3)
        }
    }

    /// Messages of the load at a fixed rate.
    pub(crate) fn paced(&self) -> u64 {
        (self.rate as f64 * self.rate_time.as_secs_f64()) as u64
    }
}

//! Builds that are broken on purpose, so that the checks of durable subscriptions, and of faults, can be seen to fail.
//! Nothing of it is there without the feature `broken`.

mod disk;

use std::sync::Arc;

use ratatoskr_log::Disk;

/// The disk itself, or in a build whose disk is broken, one that lies.
pub(crate) fn disk(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    let lies = [Broken::Late, Broken::Sync, Broken::Lock].into_iter().find(|lie| lie.is_on());
    lies.map_or(disk.clone(), |lie| Arc::new(disk::LyingDisk::new(disk, lie)))
}

/// How a broken build breaks its word, chosen by the environment variable `E2E_BROKEN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// `acks`: acks are confirmed and never written.
    Acks,
    /// `order`: keys are not kept in order.
    Order,
    /// `dead`: messages that no member could settle vanish.
    Dead,
    /// `late`: what is published is acknowledged before it is written.
    Late,
    /// `sync`: a sync that failed is taken for a good one.
    Sync,
    /// `lock`: a data directory in use is used.
    Lock,
    /// `duplicates`: no duplicate is found.
    Duplicates,
}

impl Broken {
    /// True in a build that is broken this way.
    pub(crate) fn is_on(self) -> bool {
        if !cfg!(feature = "broken") {
            return false;
        }
        let word = match self {
            Broken::Acks => "acks",
            Broken::Order => "order",
            Broken::Dead => "dead",
            Broken::Late => "late",
            Broken::Sync => "sync",
            Broken::Lock => "lock",
            Broken::Duplicates => "duplicates",
        };
        std::env::var("E2E_BROKEN").is_ok_and(|chosen| chosen == word)
    }
}

//! Builds that are broken on purpose, so that the checks of durable subscriptions, and of faults, can be seen to fail.
//! Nothing of it is there without the feature `broken`.

mod disk;

use std::sync::Arc;

use ratatoskr_log::Disk;
pub use ratatoskr_state::Broken;

/// The disk itself, or in a build whose disk is broken, one that lies.
pub(crate) fn disk(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    let lies = [Broken::Late, Broken::Sync, Broken::Lock].into_iter().find(|lie| lie.is_on());
    lies.map_or(disk.clone(), |lie| Arc::new(disk::LyingDisk::new(disk, lie)))
}

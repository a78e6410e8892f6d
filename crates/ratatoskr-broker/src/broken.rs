//! What the broker needs of builds that are broken on purpose, so that the checks of durable subscriptions, and of faults, can be seen to
//! fail. Nothing of it is there without the feature `broken`.

mod disk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use ratatoskr_log::{Disk, Snapshot, StateMachine};
pub use ratatoskr_state::Broken;
use ratatoskr_state::{BatchHeader, Change, Entry, State};

/// The disk itself, or in a build whose disk is broken, one that lies.
pub(crate) fn disk(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    let lies = [Broken::Late, Broken::Sync, Broken::Lock].into_iter().find(|lie| lie.is_on());
    lies.map_or(disk.clone(), |lie| Arc::new(disk::LyingDisk::new(disk, lie)))
}

/// The state itself, or in a build that forgets acks, one that does when it is rebuilt. `is_open` says that it no longer is.
pub(crate) fn state(state: &Arc<RwLock<State>>, is_open: &Arc<AtomicBool>) -> Arc<dyn StateMachine> {
    if Broken::Acks.is_on() {
        Arc::new(ForgetfulState { state: state.clone(), is_open: is_open.clone() })
    } else {
        state.clone()
    }
}

/// Takes in everything but acks as long as the journal is replayed: as if they had been confirmed and never written.
struct ForgetfulState {
    state: Arc<RwLock<State>>,
    is_open: Arc<AtomicBool>,
}

impl StateMachine for ForgetfulState {
    fn restore_topic(&self, number: u32, settings: &[u8]) -> Result<(), String> {
        self.state.restore_topic(number, settings)
    }

    fn restore(&self, part: &[u8]) -> Result<(), String> {
        StateMachine::restore(&*self.state, part)
    }

    fn apply(
        &self,
        header: &BatchHeader,
        entries: &mut dyn Iterator<Item = Entry<'_>>,
    ) -> Result<(), String> {
        if self.is_open.load(Ordering::Relaxed) {
            return StateMachine::apply(&*self.state, header, entries);
        }
        let is_ack = |entry: &Entry<'_>| {
            matches!(entry, Entry::Change { content, .. }
                if matches!(Change::decode(content), Ok(Change::Settled { .. })))
        };
        StateMachine::apply(&*self.state, header, &mut entries.filter(|entry| !is_ack(entry)))
    }

    fn begin_epoch(&self, epoch: u64) {
        StateMachine::begin_epoch(&*self.state, epoch);
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        StateMachine::snapshot(&*self.state)
    }
}

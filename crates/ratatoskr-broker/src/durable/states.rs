//! [`SubscriptionStates`]: the subscriptions of the state, for everybody who looks them up.

use ratatoskr_state::{Progress, SavedState, State, SubscriptionName, SubscriptionState};
use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

/// Subscriptions that are looked at before others get at the state.
const LOOK_STEP: usize = 256;

/// See the file's head. Nothing here changes a subscription: that is done by batches of the journal alone.
pub(crate) struct SubscriptionStates {
    state: Arc<RwLock<State>>,
    /// Numbers of those that are in the journal and that the dispatcher is not at work on yet: nobody finds them.
    opening: Mutex<HashSet<u32>>,
}

impl SubscriptionStates {
    pub(crate) fn new(state: Arc<RwLock<State>>) -> SubscriptionStates {
        SubscriptionStates { state, opening: Mutex::default() }
    }

    /// One is about to be created.
    pub(crate) fn note_opening(&self, number: u32) {
        self.opening.lock().insert(number);
    }

    /// The dispatcher is at work on it, or it was not created after all.
    pub(crate) fn open(&self, number: u32) {
        self.opening.lock().remove(&number);
    }

    /// Bytes that all saved states take.
    pub(crate) fn saved_bytes(&self) -> u64 {
        let state = self.state.read();
        state.subscriptions().from(0).flat_map(|found| found.saved.values()).map(SavedState::bytes).sum()
    }

    /// How many subscriptions there are, of one topic or in all.
    pub(crate) fn count(&self, topic: Option<u32>) -> usize {
        let state = self.state.read();
        let opening = self.opening.lock();
        let is_counted = |number: &&u32| {
            let found = state.subscriptions().get(**number);
            found.is_some_and(|found| topic.is_none_or(|topic| topic == found.topic))
        };
        state.subscriptions().count(topic) - opening.iter().filter(is_counted).count()
    }

    /// Looks into one subscription.
    pub(crate) fn with<T>(&self, number: u32, look: impl FnOnce(&SubscriptionState) -> T) -> Option<T> {
        self.state.read().subscriptions().get(number).map(|found| look(found))
    }

    /// Number, topic and name of all subscriptions.
    pub(crate) fn list(&self) -> Vec<(u32, u32, SubscriptionName)> {
        let state = self.state.read();
        let opening = self.opening.lock();
        let open = state.subscriptions().from(0).filter(|found| !opening.contains(&found.number));
        open.map(|found| (found.number, found.topic, found.name.clone())).collect()
    }

    pub(crate) fn find(&self, topic: u32, name: &SubscriptionName) -> Option<u32> {
        let number = self.state.read().subscriptions().find(topic, name)?;
        (!self.opening.lock().contains(&number)).then_some(number)
    }

    /// Whether a subscription is like this. Looked at in steps: settlements wait for one of them at most.
    pub(crate) fn any(&self, mut is_meant: impl FnMut(&SubscriptionState) -> bool) -> bool {
        let mut from = 0;
        loop {
            let state = self.state.read();
            let mut last = None;
            for found in state.subscriptions().from(from).take(LOOK_STEP) {
                if is_meant(found) {
                    return true;
                }
                last = Some(found.number);
            }
            match last {
                Some(number) => from = number + 1,
                None => return false,
            }
        }
    }

    /// How far the schedule is worked off.
    pub(crate) fn schedule(&self) -> Progress {
        self.state.read().schedule()
    }

    pub(crate) fn last_number(&self) -> u32 {
        self.state.read().subscriptions().last_number()
    }
}

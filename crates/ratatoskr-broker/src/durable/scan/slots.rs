//! [`ScanSlots`]: whose step is next, of all scans of a broker.
//!
//! ```text
//!   alice: step step step step ─┐
//!   bob:   step ────────────────┼─▶ in turn by scanner: alice, bob, alice, alice …  ──▶ SCANS_AT_ONCE slots
//! ```
//!
//! Turns go by who scans, not by scans: whoever has a thousand of them waits for their own. Invariant: a slot is free only while nobody waits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use ratatoskr_state::limits::SCANS_AT_ONCE;

/// Whose scans take turns as one's; `None`: the program's own.
pub(crate) type Scanner = Option<Arc<str>>;

/// See the file's head.
pub(crate) struct ScanSlots {
    slots: Arc<Mutex<Slots>>,
}

struct Slots {
    free: usize,
    /// Steps that wait, by whose they are; a scanner without any is not among them.
    waiting: HashMap<Scanner, VecDeque<oneshot::Sender<Slot>>>,
    /// Whose turn it is next, each once.
    round_robin: VecDeque<Scanner>,
}

/// The right to run one step; the next one has it when this is dropped.
struct Slot {
    slots: Arc<Mutex<Slots>>,
}

impl Default for ScanSlots {
    fn default() -> ScanSlots {
        let (waiting, round_robin) = (HashMap::new(), VecDeque::new());
        ScanSlots { slots: Arc::new(Mutex::new(Slots { free: SCANS_AT_ONCE, waiting, round_robin })) }
    }
}

impl ScanSlots {
    /// Runs one step on a thread that may wait for the disk, when its turn has come. A step that has begun keeps its slot to its end, also when
    /// nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        scanner: &Scanner,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let slot = self.slot(scanner).await;
        tokio::task::spawn_blocking(move || {
            let done = step();
            drop(slot);
            done
        })
        .await
    }

    async fn slot(&self, scanner: &Scanner) -> Slot {
        let turn = {
            let mut slots = self.slots.lock();
            if slots.free > 0 {
                slots.free -= 1;
                return Slot { slots: self.slots.clone() };
            }
            slots.wait(scanner)
        };
        turn.await.expect("who waits is given a slot, or gives up")
    }
}

impl Slots {
    /// Stands behind the other steps of the same scanner.
    fn wait(&mut self, scanner: &Scanner) -> oneshot::Receiver<Slot> {
        let (slot, turn) = oneshot::channel();
        let own = self.waiting.entry(scanner.clone()).or_default();
        if own.is_empty() {
            self.round_robin.push_back(scanner.clone());
        }
        own.push_back(slot);
        turn
    }

    /// The step that is next. What was given up takes no turn.
    fn next(&mut self) -> Option<oneshot::Sender<Slot>> {
        while let Some(scanner) = self.round_robin.pop_front() {
            let own = self.waiting.get_mut(&scanner).expect("who has a turn waits");
            let next = std::iter::from_fn(|| own.pop_front()).find(|slot| !slot.is_closed());
            if own.is_empty() {
                self.waiting.remove(&scanner);
            } else {
                self.round_robin.push_back(scanner);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = self.slots.clone();
        let mut guard = slots.lock();
        let mut given = Slot { slots: slots.clone() };
        while let Some(next) = guard.next() {
            match next.send(given) {
                Ok(()) => return,
                // Given up at this very moment.
                Err(back) => given = back,
            }
        }
        guard.free += 1;
        drop(guard);
        // It stands for nothing any more.
        std::mem::forget(given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_has_many_scans_waits_for_their_own_and_what_is_given_up_takes_no_turn() {
        let slots = ScanSlots::default();
        let scanner = |name: &str| Some(Arc::from(name));
        let mut out = Vec::new();
        for _ in 0..SCANS_AT_ONCE {
            out.push(slots.slot(&scanner("alice")).await);
        }
        let mut round_robin: Vec<(&str, oneshot::Receiver<Slot>)> = Vec::new();
        for name in ["alice", "alice", "alice", "bob", "alice", "bob", "carol"] {
            let turn = slots.slots.lock().wait(&scanner(name));
            round_robin.push((name, turn));
        }
        // One of them gives up.
        round_robin.remove(1);
        let mut order = Vec::new();
        while let Some(slot) = out.pop() {
            drop(slot);
            for (name, turn) in &mut round_robin {
                if let Ok(slot) = turn.try_recv() {
                    order.push(*name);
                    out.push(slot);
                }
            }
        }
        assert_eq!(order, ["alice", "bob", "carol", "alice", "bob", "alice"]);
        let slots = slots.slots.lock();
        assert_eq!((slots.free, slots.round_robin.len(), slots.waiting.len()), (SCANS_AT_ONCE, 0, 0));
    }
}

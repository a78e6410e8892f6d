//! [`Budget`]: memory that callers share, and who holds how much of it.
//!
//! ```text
//!   connections, open calls, requests that have not come wholly ──┐
//!   publishes that wait for room in the inbox ────────────────────┼──▶ their client's budget ──▶ the budget of all callers
//!   answers that wait to be read ─────────────────────────────────┘                                (a share of `memory`)
//!                                      frames that subscribers share ─────────────────────────────────────▲
//! ```
//!
//! What is held is counted as it is, also beyond the limit; what would make it more is refused as long as nothing is left
//! ([`Budget::check`]): calls, then connections, then data, so that what has been let in can go on, and small requests last, acks
//! among them. So a budget can be passed by an eighth and by what one turn of each thread takes in, and nothing waits for it.
//! Invariant: what is counted is given back by dropping [`Held`], whatever the call's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ratatoskr_broker::Broken;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    held: AtomicUsize,
    /// What whoever wants more is told.
    refusal: Exhausted,
    /// What is held here is held there as well.
    above: Option<Arc<Budget>>,
}

/// What memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A call.
    Begin,
    /// A connection: more than a call may, so that who comes then can be told why it is not served.
    Connect,
    /// Data on a call that has begun.
    GoOn,
    /// A request that is small.
    Little,
}

/// Nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exhausted {
    /// Of what all callers share.
    #[error(
        "callers hold all, or nearly all, of the {bytes_max} bytes that they share, a quarter of `memory`: try again in a moment, end calls, read \
         answers, or give the broker more memory"
    )]
    Callers {
        /// All of it.
        bytes_max: usize,
    },
    /// Of what one identity may hold, from wherever it calls.
    #[error(
        "this identity's connections hold all, or nearly all, of the {bytes_max} bytes that one may (`client_memory_max`): end calls, read answers, or \
         send less at a time, and try again in a moment"
    )]
    Identity {
        /// All of it.
        bytes_max: usize,
    },
    /// Of what callers without credentials may hold.
    #[error(
        "connections without credentials hold all, or nearly all, of the {bytes_max} bytes they may: send `authorization: Bearer TOKEN`, or try again \
         in a moment"
    )]
    Unauthenticated {
        /// All of it.
        bytes_max: usize,
    },
    /// Of what one client may hold.
    #[error(
        "the connections from this address hold all, or nearly all, of the {bytes_max} bytes that one client may (`client_memory_max`): end calls, read \
         answers, or send less at a time, and try again in a moment"
    )]
    Client {
        /// All of it.
        bytes_max: usize,
    },
}

impl Budget {
    /// What all callers share.
    pub(crate) fn of_callers(bytes_max: usize) -> Arc<Budget> {
        Budget::new(bytes_max, Exhausted::Callers { bytes_max }, None)
    }

    /// What one client may have of it.
    pub(crate) fn of_client(bytes_max: usize, callers: &Arc<Budget>) -> Arc<Budget> {
        Budget::new(bytes_max, Exhausted::Client { bytes_max }, Some(Arc::clone(callers)))
    }

    /// What one identity may have. It is not counted again among what all share: its connections' clients are.
    pub(crate) fn of_identity(bytes_max: usize) -> Arc<Budget> {
        Budget::new(bytes_max, Exhausted::Identity { bytes_max }, None)
    }

    /// What callers without credentials may have of it: all of them together, or those of one client.
    pub(crate) fn of_unauthenticated(bytes_max: usize, above: &Arc<Budget>) -> Arc<Budget> {
        Budget::new(bytes_max, Exhausted::Unauthenticated { bytes_max }, Some(Arc::clone(above)))
    }

    fn new(bytes_max: usize, refusal: Exhausted, above: Option<Arc<Budget>>) -> Arc<Budget> {
        Arc::new(Budget { bytes_max, held: AtomicUsize::new(0), refusal, above })
    }

    /// Refuses as long as nothing is left for this, here or above.
    pub(crate) fn check(&self, wish: Wish) -> Result<(), Exhausted> {
        if !self.has_room(wish) {
            return Err(self.refusal);
        }
        self.above.as_ref().map_or(Ok(()), |above| above.check(wish))
    }

    /// Whether anything is left for this here, whatever is above.
    pub(crate) fn has_room(&self, wish: Wish) -> bool {
        let bytes_max = self.bytes_max;
        let bound = match wish {
            Wish::Begin => bytes_max / 8 * 7,
            Wish::Connect => bytes_max / 16 * 15,
            Wish::GoOn => bytes_max,
            Wish::Little => bytes_max / 8 * 9,
        };
        self.held() < bound || Broken::Budget.is_on()
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that may be held.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn change(&self, before: usize, after: usize) {
        if after > before {
            self.held.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(before - after, Ordering::Relaxed);
        }
        if let Some(above) = &self.above {
            above.change(before, after);
        }
    }
}

/// Bytes that are held of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    pub(crate) fn new(budget: &Arc<Budget>, bytes: usize) -> Held {
        budget.change(0, bytes);
        Held { budget: Arc::clone(budget), bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on it is so many.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.budget.change(self.bytes, bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Bytes that are counted until the last who shares them is done.
pub(crate) fn counted(bytes: Bytes, budget: &Arc<Budget>) -> Bytes {
    struct Counted {
        bytes: Bytes,
        _held: Held,
    }
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let held = Held::new(budget, bytes.len());
    Bytes::from_owner(Counted { bytes, _held: held })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_holds_all_callers_hold() {
        let callers = Budget::of_callers(100);
        let (one, other) = (Budget::of_client(60, &callers), Budget::of_client(60, &callers));
        let mut held = Held::new(&one, 59);
        one.check(Wish::GoOn).unwrap();
        assert!(one.check(Wish::Begin).is_err(), "who is there already has the rest");
        held.set(60);
        one.check(Wish::Little).unwrap();
        assert_eq!(one.check(Wish::GoOn), Err(Exhausted::Client { bytes_max: 60 }));
        assert_eq!((one.held(), callers.held()), (60, 60));
        other.check(Wish::Begin).unwrap();
        let _more = Held::new(&other, 45);
        assert_eq!(other.check(Wish::GoOn), Err(Exhausted::Callers { bytes_max: 100 }));
        drop(held);
        assert_eq!((one.held(), callers.held()), (0, 45));
        one.check(Wish::Begin).unwrap();
    }

    #[test]
    fn shared_bytes_count_once_and_until_the_last_is_gone() {
        let callers = Budget::of_callers(100);
        let one = counted(Bytes::from_static(b"frames"), &callers);
        let other = one.slice(2..);
        drop(one);
        assert_eq!((callers.held(), &other[..]), (6, &b"ames"[..]));
        drop(other);
        assert_eq!(callers.held(), 0);
    }
}

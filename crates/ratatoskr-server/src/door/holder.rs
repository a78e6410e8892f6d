//! For whom a connection counts: its address, before and after somebody known has called on it, and the identity that called last.
//!
//! ```text
//!   entry (without credentials) ──identify──▶ known (with credentials), and an identity
//! ```
//!
//! Where nobody is asked, it counts for its address from the beginning. A connection of several identities, such as a proxy's, counts for
//! the one that called last. Calls without credentials are few on each connection; what they hold together is bounded by closing the
//! connections that hold most of it ([`super::Worker::make_room`]), so that a probe is always let in.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tonic::Status;

use crate::clients::{Seat, TooMuch, Whose};
use crate::door::Worker;
use crate::door::link::Link;
use crate::limits::UNAUTHENTICATED_CALLS_MAX;
use crate::memory::{Exhausted, Held, Wish};
use crate::status;

/// An identity a connection counts for.
pub(super) struct Identity {
    name: Arc<str>,
    seat: Seat,
    held: RefCell<Held>,
    calls: Cell<u64>,
}

impl Identity {
    /// What the connection has now.
    pub(super) fn count(&self, calls: u64, bytes: usize) {
        self.seat.count_calls(self.calls.replace(calls), calls);
        self.held.borrow_mut().set(bytes);
    }

    pub(super) fn check(&self, wish: Wish) -> Result<(), Exhausted> {
        self.seat.client.memory.check(wish)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.seat.count_calls(self.calls.get(), 0);
    }
}

/// A call without credentials, as long as it is open.
pub(super) struct Probe(Rc<Cell<usize>>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Link {
    /// A place among its client's connections, and what they may have.
    pub(super) fn seat(&self) -> &Seat {
        self.known.get().unwrap_or(&self.entry)
    }

    /// The same as of the beginning, for calls of nobody known.
    pub(super) fn entry(&self) -> &Seat {
        &self.entry
    }

    /// True as long as somebody has to be known for calls, and nobody has been.
    pub(super) fn is_unauthenticated(&self) -> bool {
        self.known.get().is_none() && matches!(self.entry.whose, Whose::Unauthenticated(_))
    }

    /// Counts one more call, or step, against what may be begun a second.
    pub(super) fn pay(&self) -> Result<(), TooMuch> {
        self.seat().pay()?;
        self.identity.borrow().as_ref().map_or(Ok(()), |identity| identity.seat.pay())
    }

    /// Lets a call of an identity in, for which the connection counts from now on.
    pub(super) fn admit_known(&self, worker: &Worker, who: &Arc<str>) -> Result<(), Status> {
        self.identify(worker, who);
        let open = self.http2().stream_count() as u64;
        if let Some(identity) = &*self.identity.borrow() {
            identity.seat.admit(open.saturating_sub(identity.calls.get())).map_err(|too_much| {
                worker.traffic.calls_beyond_limit.increment();
                status::too_much(&too_much)
            })?;
        }
        self.admit(&worker.traffic)
    }

    /// Lets a call without credentials in, if there are few on the connection.
    pub(super) fn admit_probe(&self, worker: &Worker) -> Result<(), Status> {
        if self.probes.get() >= UNAUTHENTICATED_CALLS_MAX {
            worker.traffic.calls_beyond_limit.increment();
            return Err(status::too_many_probes());
        }
        worker.make_room(self);
        self.admit(&worker.traffic)
    }

    /// Counts a call without credentials until the answer is dropped.
    pub(super) fn count_probe(&self) -> Probe {
        self.probes.set(self.probes.get() + 1);
        Probe(Rc::clone(&self.probes))
    }

    /// Closes the connection; what it held is free for others at once.
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
        // Its descriptor is there until its task has had its turn.
        self.seat().leave();
        self.held.borrow_mut().set(0);
        self.seat().count_shared(self.shared.take(), 0);
        self.wake();
    }

    fn identify(&self, worker: &Worker, who: &Arc<str>) {
        let clients = &worker.guard.clients;
        if let (None, Whose::Unauthenticated(address)) = (self.known.get(), &self.entry.whose) {
            let seat = clients.seat_after(Some(&self.entry), Whose::Address(*address));
            self.entry.count_calls(self.calls.get(), 0);
            self.entry.count_shared(self.shared.get(), 0);
            self.entry.leave();
            seat.count_calls(0, self.calls.get());
            seat.count_shared(0, self.shared.get());
            let bytes = self.held.borrow().bytes();
            self.held.replace(Held::new(&seat.client.memory, bytes));
            self.known.get_or_init(|| seat);
        }
        let mut identity = self.identity.borrow_mut();
        if identity.as_ref().is_some_and(|known| Arc::ptr_eq(&known.name, who) || known.name == *who) {
            return;
        }
        let seat = clients.seat(Whose::Identity(Arc::clone(who)));
        let held = Held::new(&seat.client.memory, self.held.borrow().bytes());
        seat.count_calls(0, self.calls.get());
        let calls = Cell::new(self.calls.get());
        *identity = Some(Identity { name: Arc::clone(who), seat, held: RefCell::new(held), calls });
    }
}

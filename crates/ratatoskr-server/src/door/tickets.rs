//! [`Tickets`]: which call waits for which submission, and how it is answered.
//!
//! ```text
//!   call ──submit, ticket──▶ broker ··commit··▶ postbox ──outcome, ticket──▶ Tickets ──▶ answer in the call's link
//! ```

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use ratatoskr_broker::{Broker, Draft, Postbox, Posted, PublishError, Published, Ticket};
use ratatoskr_http2::{ErrorCode, StreamId};
use slab::Slab;
use tokio::task::spawn_local;
use tonic::Status;

use crate::access::Permit;
use crate::door::calls::Task;
use crate::door::link::Link;
use crate::door::{Worker, publishing, stream};
use crate::memory::Wish;
use crate::traffic::Traffic;

/// A call that waits.
pub(super) struct Waiting {
    pub(super) link: Rc<Link>,
    pub(super) stream: StreamId,
    pub(super) kind: Kind,
    /// Held until it is answered.
    pub(super) _permit: Permit,
}

/// What it is.
pub(super) enum Kind {
    /// `Publish`.
    Single,
    /// `PublishBatch`, with so many messages.
    Batch(u32),
    /// One step of a `PublishStream`.
    Step {
        /// Which one of the stream.
        number: u64,
        /// As the client numbers it.
        sequence: u64,
        /// Messages it has.
        count: u32,
    },
}

/// See the file's head.
pub(super) struct Tickets {
    broker: Broker,
    postbox: Arc<Postbox>,
    waiting: RefCell<Slab<Waiting>>,
}

impl Tickets {
    pub(super) fn new(broker: Broker) -> Tickets {
        let postbox = broker.open_postbox();
        Tickets { broker, postbox, waiting: RefCell::default() }
    }

    /// Hands messages to the broker; the call is answered when they are published, or not.
    /// While the inbox has no room a task waits for it; it has to be kept with the call, so that a caller that gives up leaves nothing behind.
    /// Refused if there is no memory for waiting either.
    pub(super) fn submit(
        &self,
        draft: Draft,
        waiting: Waiting,
        traffic: &Traffic,
    ) -> Result<Option<Task>, Status> {
        let link = Rc::clone(&waiting.link);
        let ticket = self.issue(waiting);
        let Err(refused) = self.broker.submit(draft, &self.postbox, ticket) else { return Ok(None) };
        let (draft, ticket) = *refused;
        if let Err(status) = link.check_memory(Wish::GoOn, traffic) {
            drop(self.redeem(ticket));
            return Err(status);
        }
        let held = link.hold(draft.record_bytes());
        let submitting = self.broker.submit_when_room(draft, &self.postbox, ticket);
        let waiting = async move {
            submitting.await;
            drop(held);
        };
        Ok(Some(Task::new(&spawn_local(waiting))))
    }

    /// A ticket for a call that waits. The only place that makes one.
    fn issue(&self, waiting: Waiting) -> Ticket {
        Ticket::new(self.waiting.borrow_mut().insert(waiting) as u64)
    }

    /// The call that waits for a ticket. As it takes the ticket, and there is one of each, it finds the call.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is good for one answer")]
    fn redeem(&self, ticket: Ticket) -> Waiting {
        self.waiting.borrow_mut().remove(ticket.number() as usize)
    }

    /// Answers calls as their outcomes come, for ever.
    pub(super) async fn answer(worker: Rc<Worker>) {
        let mut posted = Vec::new();
        loop {
            worker.tickets.postbox.take(&mut posted).await;
            for Posted { ticket, outcome } in posted.drain(..) {
                let waiting = worker.tickets.redeem(ticket);
                let (link, stream) = (Rc::clone(&waiting.link), waiting.stream);
                let answering = AssertUnwindSafe(|| answer_one(&worker, waiting, outcome));
                // A fault in one answer is that call's; the others of this thread go on.
                if std::panic::catch_unwind(answering).is_err() {
                    tracing::error!("answering a call panicked");
                    let call = link.http2().reset(stream, ErrorCode::INTERNAL_ERROR);
                    drop(call);
                }
                link.wake();
            }
        }
    }
}

fn answer_one(worker: &Rc<Worker>, waiting: Waiting, outcome: Result<Published, PublishError>) {
    // What it was let in with is stored by now, or never will be.
    let Waiting { link, stream, kind, _permit: _ } = waiting;
    match kind {
        Kind::Single => publishing::answer_single(worker, &link, stream, outcome),
        Kind::Batch(count) => publishing::answer_batch(worker, &link, stream, count, outcome),
        Kind::Step { number, sequence, count } => {
            let done = stream::encode_outcome(&worker.broker, sequence, count, outcome);
            stream::step_is_done(worker, &link, stream, number, done);
        }
    }
}

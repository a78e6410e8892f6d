//! [`AnswerMemory`]: what calls off the hot path hold beside the bytes their connection counts: long answers, from before they are made until they are
//! sent, and requests that wait for the journal or the disk.
//!
//! ```text
//!   request ──▶ AnswerMemory ──hold, or a refusal──▶ Held ──with the answer──▶ sent
//! ```
//!
//! A call that only asks costs little, so all that one client begins may be let in, and end at once: what their answers take has to be
//! asked for by each. A request is counted by its connection until it has come wholly; then it becomes values, which are larger.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::limits::SMALL_REQUEST_BYTES;
use crate::memory::{Budget, Held, Wish};
use crate::status;
use crate::traffic::Traffic;

/// See the file's head. The door puts it into a request's extensions.
#[derive(Clone)]
pub(crate) struct AnswerMemory {
    /// What its client may hold.
    pub(crate) budget: Arc<Budget>,
    /// Counts refusals.
    pub(crate) traffic: Arc<Traffic>,
}

impl AnswerMemory {
    /// That of a request.
    pub(crate) fn of<T>(request: &Request<T>) -> AnswerMemory {
        request.extensions().get::<AnswerMemory>().cloned().expect("the door knows whose a request is")
    }

    /// Refuses an answer as long as nothing is left.
    pub(crate) fn check(&self) -> Result<(), Status> {
        self.check_for(Wish::GoOn)
    }

    fn check_for(&self, wish: Wish) -> Result<(), Status> {
        self.budget.check(wish).map_err(|exhausted| {
            self.traffic.calls_without_memory.increment();
            status::no_memory(&exhausted)
        })
    }

    /// Counts what a request holds until it is answered, unless nothing is left. Small ones, such as a consumer's acks, pass for longest.
    pub(crate) fn hold_request(&self, bytes: usize) -> Result<Held, Status> {
        self.check_for(if bytes > SMALL_REQUEST_BYTES { Wish::GoOn } else { Wish::Little })?;
        Ok(Held::new(&self.budget, bytes))
    }

    /// Counts so many bytes, unless nothing is left.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Held, Status> {
        self.check()?;
        Ok(Held::new(&self.budget, bytes))
    }
}

/// An answer, with what is held for it until it is sent.
pub(crate) fn answer<T>(message: T, held: Held) -> Response<T> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(Arc::new(held));
    response
}

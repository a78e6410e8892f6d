//! [`AnswerMemory`]: long answers off the hot path, counted from before they are made until their connection counts them.
//!
//! ```text
//!   request ──▶ AnswerMemory ──hold, or a refusal──▶ Held ──with the answer──▶ sent
//! ```
//!
//! A call that only asks costs little, so all that one client begins may be let in, and end at once: what their answers take has to be
//! asked for by each.

use std::sync::Arc;

use tonic::{Request, Response, Status};

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
        self.budget.check(Wish::GoOn).map_err(|exhausted| {
            self.traffic.calls_without_memory.increment();
            status::no_memory(&exhausted)
        })
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

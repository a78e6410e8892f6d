//! [`revocable`]: a stream that ends when whoever reads it may no more.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use tonic::Status;

use crate::access::{Action, Gate};

/// Items after which a stream that never waits looks whether it may go on.
const ITEMS_PER_LOOK: u32 = 64;

/// A boxed stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Revocable<T> {
    /// `None` once it has ended.
    answers: Option<Answers<T>>,
    revoked: BoxFuture<'static, Status>,
    /// Items since the last look; the first item waits for one.
    unseen: u32,
}

/// The same stream, ended by a status when the caller may do this to the topic no more. As it is where nobody is asked.
pub(crate) fn revocable<T: Send + 'static>(
    answers: Answers<T>,
    gate: Gate,
    action: Action,
    topic: String,
) -> Answers<T> {
    if !gate.asks() {
        return answers;
    }
    Box::pin(Revocable {
        answers: Some(answers),
        revoked: Box::pin(gate.revoked(action, topic)),
        unseen: ITEMS_PER_LOOK,
    })
}

impl<T> Stream for Revocable<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(answers) = &mut this.answers else { return Poll::Ready(None) };
        let answer = answers.as_mut().poll_next(context);
        this.unseen += 1;
        if answer.is_pending() || this.unseen >= ITEMS_PER_LOOK {
            this.unseen = 0;
            if let Poll::Ready(status) = this.revoked.as_mut().poll(context) {
                this.answers = None;
                return Poll::Ready(Some(Err(status)));
            }
        }
        if matches!(answer, Poll::Ready(None)) {
            this.answers = None;
        }
        answer
    }
}

//! A request's body on its way to a call that is served elsewhere.
//!
//! ```text
//!   connection ──push──▶ [ chunk chunk ] ──poll_frame──▶ tonic
//!        ▲                                     │
//!        └──────── bytes given back ◀──────────┘   (flow control: the peer may send as much again)
//! ```

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use ratatoskr_http2::StreamId;
use tonic::Status;

use crate::door::link::Backflow;
use crate::door::partial::Partial;
use crate::limits::CHUNK_COPIED_BYTES_MAX;
use crate::status;

/// The end that the connection fills. Dropping it before [`BodySender::end`] breaks the body.
pub(crate) struct BodySender {
    pipe: Arc<Pipe>,
    partial: Partial,
    /// How much more of it is taken; `usize::MAX`: as much as there is.
    bytes_left: usize,
    /// Messages it may have.
    messages_max: u64,
}

/// How much a body may have.
#[derive(Clone, Copy)]
pub(super) struct BodyLimits {
    /// Bytes; `usize::MAX`: any number.
    pub(super) bytes: usize,
    /// Messages.
    pub(super) messages: u64,
}

/// The end that is read.
pub(super) struct RequestBody(Arc<Pipe>);

struct Pipe {
    content: Mutex<Content>,
    stream: StreamId,
    backflow: Arc<Backflow>,
}

#[derive(Default)]
struct Content {
    chunks: VecDeque<Bytes>,
    /// Short chunks that came after them.
    tail: BytesMut,
    /// Nobody reads any more.
    is_abandoned: bool,
    /// Nothing follows; false if the body breaks off here.
    end: Option<bool>,
    reader: Option<Waker>,
}

/// A body that comes on a stream, and has at most so much.
pub(super) fn request_body(
    stream: StreamId,
    backflow: Arc<Backflow>,
    gathered: &Rc<Cell<usize>>,
    limits: BodyLimits,
) -> (BodySender, RequestBody) {
    let pipe = Arc::new(Pipe { content: Mutex::default(), stream, backflow });
    let (bytes_left, messages_max) = (limits.bytes, limits.messages);
    let sender = BodySender { pipe: pipe.clone(), partial: Partial::new(gathered), bytes_left, messages_max };
    (sender, RequestBody(pipe))
}

impl BodySender {
    /// Refused if the connection has begun too many requests, and ended too few.
    /// Answers how many bytes of a request that has not come wholly are kept.
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<usize, Status> {
        if self.bytes_left != usize::MAX {
            self.bytes_left = self.bytes_left.checked_sub(chunk.len()).ok_or_else(status::long_probe)?;
        }
        let kept = self.partial.pass(&chunk)?;
        if self.partial.begun() > self.messages_max {
            return Err(status::more_than_one());
        }
        let pipe = &self.pipe;
        self.change(|content| {
            if content.is_abandoned {
                pipe.backflow.put(pipe.stream, chunk.len());
            } else {
                content.push(chunk);
            }
        });
        Ok(kept)
    }

    pub(super) fn end(self) {
        self.change(|content| content.end = Some(true));
    }

    fn change(&self, change: impl FnOnce(&mut Content)) {
        let reader = {
            let mut content = self.pipe.content.lock();
            change(&mut content);
            content.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        self.change(|content| {
            content.end.get_or_insert(false);
        });
    }
}

impl Content {
    fn push(&mut self, chunk: Bytes) {
        if chunk.len() < CHUNK_COPIED_BYTES_MAX {
            self.tail.extend_from_slice(&chunk);
            return;
        }
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
        self.chunks.push_back(chunk);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let tail = &mut self.tail;
        self.chunks.pop_front().or_else(|| (!tail.is_empty()).then(|| std::mem::take(tail).freeze()))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut content = self.0.content.lock();
        content.is_abandoned = true;
        let unread = content.chunks.iter().map(Bytes::len).sum::<usize>() + content.tail.len();
        content.chunks.clear();
        content.tail = BytesMut::new();
        drop(content);
        if unread > 0 {
            self.0.backflow.put(self.0.stream, unread);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut body = self.0.content.lock();
        if let Some(chunk) = body.pop() {
            drop(body);
            self.0.backflow.put(self.0.stream, chunk.len());
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match body.end {
            Some(true) => Poll::Ready(None),
            Some(false) => Poll::Ready(Some(Err(Status::cancelled("the request broke off")))),
            None => {
                body.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let content = self.0.content.lock();
        content.chunks.is_empty() && content.tail.is_empty() && content.end == Some(true)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    const ANY: BodyLimits = BodyLimits { bytes: usize::MAX, messages: u64::MAX };

    fn body() -> (Arc<Backflow>, BodySender, RequestBody) {
        let backflow = Arc::<Backflow>::default();
        let (sender, body) = request_body(1, backflow.clone(), &Rc::default(), ANY);
        (backflow, sender, body)
    }

    /// The next chunk, if there is one.
    fn next(body: &mut RequestBody) -> Option<Bytes> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).now_or_never()??;
        frame.unwrap().into_data().ok()
    }

    #[test]
    fn short_chunks_that_wait_are_one_and_hold_on_to_nothing() {
        let (backflow, mut sender, mut body) = body();
        let read = Bytes::from(vec![0; 64 << 10]);
        let long = read.slice(..CHUNK_COPIED_BYTES_MAX);
        for chunk in [read.slice(..5), read.slice(5..8), long.clone(), read.slice(..1)] {
            sender.push(chunk).unwrap();
        }
        let short = next(&mut body).unwrap();
        assert!(short.len() == 8 && !read.as_ptr_range().contains(&short.as_ptr()));
        assert_eq!(next(&mut body).unwrap().as_ptr(), long.as_ptr());
        assert_eq!(next(&mut body).unwrap().len(), 1);
        assert_eq!(next(&mut body), None);
        assert_eq!(backflow.take(), [(1, 8), (1, CHUNK_COPIED_BYTES_MAX), (1, 1)]);
        assert!(!body.is_end_stream());
        sender.end();
        assert!(body.is_end_stream());
    }

    #[test]
    fn what_nobody_reads_any_more_is_given_back() {
        let (backflow, mut sender, body) = body();
        sender.push(Bytes::from_static(b"before")).unwrap();
        drop(body);
        sender.push(Bytes::from_static(b"afterwards")).unwrap();
        assert_eq!(backflow.take(), [(1, 6), (1, 10)]);
    }

    #[test]
    fn a_body_whose_sender_is_gone_has_broken_off() {
        let (_, sender, mut body) = body();
        drop(sender);
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).now_or_never();
        assert_eq!(frame.unwrap().unwrap().unwrap_err().code(), tonic::Code::Cancelled);
    }
}

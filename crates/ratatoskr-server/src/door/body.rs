//! A request's body on its way to a call that is served elsewhere.
//!
//! ```text
//!   connection ──push──▶ [ chunk chunk ] ──poll_frame──▶ tonic
//!        ▲                                     │
//!        └──────── bytes given back ◀──────────┘   (flow control: the peer may send as much again)
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use ratatoskr_http2::StreamId;
use tonic::Status;

use crate::door::link::Backflow;

/// The end that the connection fills. Dropping it before [`BodySender::end`] breaks the body.
pub(crate) struct BodySender(Arc<Pipe>);

/// The end that is read.
pub(super) struct RequestBody {
    pipe: Arc<Pipe>,
    stream: StreamId,
    backflow: Arc<Backflow>,
}

#[derive(Default)]
struct Pipe(Mutex<Content>);

#[derive(Default)]
struct Content {
    chunks: VecDeque<Bytes>,
    /// Nothing follows; false if the body breaks off here.
    end: Option<bool>,
    reader: Option<Waker>,
}

/// A body that comes on a stream.
pub(super) fn request_body(stream: StreamId, backflow: Arc<Backflow>) -> (BodySender, RequestBody) {
    let pipe = Arc::<Pipe>::default();
    (BodySender(pipe.clone()), RequestBody { pipe, stream, backflow })
}

impl BodySender {
    pub(super) fn push(&self, chunk: Bytes) {
        self.change(|content| {
            if !chunk.is_empty() {
                content.chunks.push_back(chunk);
            }
        });
    }

    pub(super) fn end(self) {
        self.change(|content| content.end = Some(true));
    }

    fn change(&self, change: impl FnOnce(&mut Content)) {
        let reader = {
            let mut content = self.0.0.lock();
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut body = self.pipe.0.lock();
        if let Some(chunk) = body.chunks.pop_front() {
            drop(body);
            self.backflow.put(self.stream, chunk.len());
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
        let content = self.pipe.0.lock();
        content.chunks.is_empty() && content.end == Some(true)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

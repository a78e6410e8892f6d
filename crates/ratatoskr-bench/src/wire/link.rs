//! [`Link`]: one connection, shared by its task and the calls on it.
//!
//! ```text
//!   call ──open, data──▶ ratatoskr-http2 ──▶ task writes all that has gathered
//!   call ◀─── wakes ──── answers ◀────────── task reads all that has come
//! ```

use std::cell::{RefCell, RefMut};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use ratatoskr_http2::hpack::Fields;
use ratatoskr_http2::{Announced, Connection, Event, Role, StreamId};
use std::collections::VecDeque;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::error::{BenchError, failed};

/// HTTP/2 windows: so large that a reader never waits for a round trip.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes one HTTP/2 frame may have: large deliveries come in few pieces.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// What came of a call.
#[derive(Default)]
pub(super) struct Answer {
    /// The head has come.
    pub(super) is_begun: bool,
    /// Data that nobody has looked at.
    pub(super) chunks: VecDeque<Bytes>,
    /// It is over: in order, or why not.
    pub(super) end: Option<Result<(), String>>,
    waiting: Option<Waker>,
}

/// See the file's head.
pub(super) struct Link {
    http2: RefCell<Connection<Answer>>,
    task: RefCell<Option<Waker>>,
    /// Why the connection is no more.
    broken: RefCell<Option<String>>,
}

impl Link {
    /// A connection on a socket; its task runs in the current `LocalSet`.
    pub(super) fn start<S: AsyncRead + AsyncWrite + Unpin + 'static>(socket: S) -> Rc<Link> {
        let announced = Announced {
            stream_window_bytes: STREAM_WINDOW_BYTES,
            connection_window_bytes: CONNECTION_WINDOW_BYTES,
            frame_bytes_max: FRAME_BYTES_MAX,
            ..Announced::default()
        };
        let link = Rc::new(Link {
            http2: RefCell::new(Connection::new(Role::Client, &announced)),
            task: RefCell::default(),
            broken: RefCell::default(),
        });
        tokio::task::spawn_local(run(link.clone(), socket));
        link
    }

    /// What can be sent with: never across an await.
    pub(super) fn http2(&self) -> RefMut<'_, Connection<Answer>> {
        self.http2.borrow_mut()
    }

    /// Lets the task write what has gathered.
    pub(super) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Looks at a call's answer each time something has come of it, until `look` has what it wants.
    pub(super) async fn watch<R>(
        &self,
        stream: StreamId,
        mut look: impl FnMut(&mut Answer) -> Option<R>,
    ) -> Result<R, BenchError> {
        poll_fn(|context| {
            let mut http2 = self.http2();
            let Some(answer) = http2.tag(stream) else { return Poll::Ready(Err(self.reason())) };
            if let Some(found) = look(answer) {
                return Poll::Ready(Ok(found));
            }
            answer.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Why nothing can be sent any more.
    pub(super) fn reason(&self) -> BenchError {
        let reason = self.broken.borrow();
        failed(format!(
            "the connection to the broker broke: {}",
            reason.as_deref().unwrap_or("the call is over")
        ))
    }

    fn take(&self, event: Event) {
        let mut http2 = self.http2();
        let (stream, end) = match event {
            Event::Headers { stream, is_end } => {
                let end = is_end.then(|| status_of(http2.fields()));
                if let Some(answer) = http2.tag(stream) {
                    answer.is_begun = true;
                }
                (stream, end)
            }
            Event::Data { stream, data, is_end } => {
                if let Some(answer) = http2.tag(stream) {
                    answer.chunks.push_back(data);
                }
                (stream, is_end.then(|| Err("the broker ended a stream without a status".to_owned())))
            }
            Event::Reset { stream, code } => {
                (stream, Some(Err(format!("the broker reset the call: {code:?}"))))
            }
            Event::GoAway { .. } => return,
        };
        let Some(answer) = http2.tag(stream) else { return };
        if end.is_some() && answer.end.is_none() {
            answer.end = end;
        }
        if let Some(waiting) = answer.waiting.take() {
            waiting.wake();
        }
    }

    /// Tells every call that waits.
    fn break_off(&self, reason: String) {
        *self.broken.borrow_mut() = Some(reason);
        let mut http2 = self.http2();
        for stream in http2.stream_ids() {
            if let Some(waiting) = http2.remove(stream).and_then(|answer| answer.waiting) {
                waiting.wake();
            }
        }
    }
}

/// The status that a call ends with.
fn status_of(fields: &Fields) -> Result<(), String> {
    let text = |wanted: &[u8]| {
        let field = fields.iter().find(|(name, _)| *name == wanted);
        field.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    match text(b"grpc-status").as_deref() {
        Some("0") => Ok(()),
        Some(code) => {
            let message = text(b"grpc-message").unwrap_or_else(|| "no reason given".to_owned());
            Err(format!("the broker refused (gRPC status {code}): {message}"))
        }
        None => Err("the broker ended a stream without a status".to_owned()),
    }
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(link: Rc<Link>, mut socket: S) {
    let mut input = BytesMut::new();
    let ended = poll_fn(|context| {
        *link.task.borrow_mut() = Some(context.waker().clone());
        turn(&link, &mut socket, &mut input, context)
    });
    let reason = ended.await.map_or_else(|error| error.to_string(), |()| "the broker closed it".to_owned());
    link.break_off(reason);
}

/// Reads what has come, and writes what has gathered; ready once the connection is over.
fn turn<S: AsyncRead + AsyncWrite + Unpin>(
    link: &Link,
    socket: &mut S,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    loop {
        input.reserve(READ_BYTES);
        match pin!(socket.read_buf(input)).poll(context) {
            Poll::Pending => break,
            Poll::Ready(read) => {
                if read? == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        loop {
            let event = link.http2().receive(input).map_err(io::Error::other)?;
            let Some(event) = event else { break };
            link.take(event);
        }
    }
    let mut socket = Pin::new(socket);
    loop {
        let mut http2 = link.http2();
        let outgoing = http2.outgoing();
        if outgoing.is_empty() {
            // TLS may hold back what a socket did not take.
            return match socket.as_mut().poll_flush(context) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            };
        }
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = outgoing.slices(&mut slices);
        match socket.as_mut().poll_write_vectored(context, &slices[..filled]) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(written) => {
                let written = written?;
                outgoing.advance(written);
            }
        }
    }
}

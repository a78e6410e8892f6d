//! One connection's task: reads, lets the calls begin, writes what has gathered.
//!
//! ```text
//!   woken ─▶ read until nothing comes (or it is others' turn) ─▶ events ─▶ calls ─▶ write until the socket is full ─▶ wait
//! ```

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use ratatoskr_http2::{ErrorCode, Event};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::door::link::Link;
use crate::door::{Worker, calls};
use crate::limits::{LINGER_BYTES_MAX, LINGER_TIMEOUT, READ_BYTES, READS_PER_TURN, SMALL_REQUEST_BYTES};
use crate::memory::Wish;

/// Slices written at a time.
const SLICES: usize = 64;
/// What a client gets that speaks HTTP/1.1.
const WRONG_PROTOCOL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    This port speaks gRPC (HTTP/2). Pages, health and metrics are on the HTTP port, by default 8080.\n";

/// Serves a connection until its end.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    mut socket: S,
) {
    let mut connection = Serving { worker, link, rest: BytesMut::new(), input: Input::Open };
    let served = poll_fn(|context| connection.poll(Pin::new(&mut socket), context)).await;
    match served {
        Ok(Leaving::AtOnce) => {}
        Ok(Leaving::InPeace) => {
            link.end_calls();
            // Who does not end within that time hears the rest, or does not.
            let _ = timeout(LINGER_TIMEOUT, linger(socket)).await;
        }
        Err(error) => tracing::debug!(%error, "a connection ended"),
    }
}

/// Waits until the peer has heard that we are done. A socket that is closed while something unread lies in it is reset, and what was said
/// last may be lost.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S) -> io::Result<()> {
    socket.shutdown().await?;
    let read = tokio::io::copy(&mut (&mut socket).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await?;
    if read == LINGER_BYTES_MAX {
        // It goes on sending. What it is told may lie behind what it has not read yet: it has the rest of the time for that.
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// What may still come.
#[derive(PartialEq, Eq)]
enum Input {
    Open,
    /// Nothing: the peer has closed its side, and so the connection.
    Closed,
    /// Nothing that we would look at.
    Refused,
}

/// How a connection ends.
enum Leaving {
    /// The peer has gone already, or does not answer.
    AtOnce,
    /// We end it, and have said so.
    InPeace,
}

struct Serving<'a> {
    worker: &'a Rc<Worker>,
    link: &'a Rc<Link>,
    /// What was read of a frame that is not complete.
    rest: BytesMut,
    input: Input,
}

impl Serving<'_> {
    fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        mut socket: Pin<&mut S>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Leaving>> {
        self.link.attend(context.waker());
        if self.link.is_cut() {
            // What it has sent since begins nothing more.
            return Poll::Ready(Ok(Leaving::AtOnce));
        }
        self.link.take_backflow();
        let is_drained = self.read(socket.as_mut(), context)?;
        self.link.unfinished.set(self.rest.len());
        self.refuse_to_gather();
        calls::tell_room(self.worker, self.link);
        let is_written = self.write(socket.as_mut(), context)?;
        self.link.count();
        if self.link.is_cut() || (is_written && self.input == Input::Closed) {
            return Poll::Ready(Ok(Leaving::AtOnce));
        }
        if is_written && (self.input == Input::Refused || self.link.http2().is_done()) {
            return Poll::Ready(Ok(Leaving::InPeace));
        }
        if !is_drained {
            // More may be there; first it is the others' turn.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// A frame, or a header block, that is long and has not come wholly is not waited for while memory is used up.
    fn refuse_to_gather(&mut self) {
        let begun = self.rest.len() + self.link.http2().begun_block();
        if begun > SMALL_REQUEST_BYTES
            && let Err(exhausted) = self.link.memory().check(Wish::GoOn)
        {
            self.input = Input::Refused;
            self.rest = BytesMut::new();
            self.link.end_calls();
            self.link.http2().go_away(ErrorCode::ENHANCE_YOUR_CALM, &exhausted.to_string());
        }
    }

    /// Reads for a while. False if more may be there at once.
    fn read<S: AsyncRead + Unpin>(
        &mut self,
        mut socket: Pin<&mut S>,
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        for _ in 0..READS_PER_TURN {
            // A peer that asks and does not listen is not heard until it has: writing wakes this task.
            if self.input != Input::Open || self.link.http2().is_stalled() {
                return Ok(true);
            }
            let mut input = std::mem::take(&mut self.rest);
            if input.is_empty() {
                input = self.worker.read_buffer.take();
            }
            input.reserve(READ_BYTES);
            match pin!(socket.read_buf(&mut input)).poll(context) {
                Poll::Pending => {
                    self.put_back(input);
                    return Ok(true);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(0)) => {
                    self.input = Input::Closed;
                    return Ok(true);
                }
                Poll::Ready(Ok(_)) => self.take_in(input),
            }
        }
        Ok(false)
    }

    fn take_in(&mut self, mut input: BytesMut) {
        loop {
            let received = self.link.http2().receive(&mut input);
            match received {
                Ok(Some(event)) => self.handle(event),
                Ok(None) => return self.put_back(input),
                Err(fault) => {
                    tracing::debug!(%fault, "a connection is closed: its client broke the protocol");
                    self.input = Input::Refused;
                    // So that nothing but the reason is left to be written.
                    self.link.end_calls();
                    let mut http2 = self.link.http2();
                    if !http2.is_greeted() && input.first().is_some_and(u8::is_ascii_uppercase) {
                        http2.answer_plainly(WRONG_PROTOCOL);
                    }
                    return;
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Headers { stream, is_end } => calls::begin(self.worker, self.link, stream, is_end),
            Event::Data { stream, data, is_end } => {
                calls::take_data(self.worker, self.link, stream, data, is_end);
            }
            Event::Reset { stream, .. } => {
                let call = self.link.http2().remove(stream);
                drop(call);
            }
            // It sends no more calls; those that are open go on.
            Event::GoAway { .. } => self.link.note_goaway(),
        }
    }

    /// Keeps what is left of a read, and gives the buffer to whoever reads next.
    fn put_back(&mut self, mut input: BytesMut) {
        if !input.is_empty() {
            self.rest = if input.len() < READ_BYTES {
                BytesMut::from(&input[..])
            } else {
                std::mem::take(&mut input)
            };
            input.clear();
        }
        self.worker.read_buffer.set(input);
    }

    /// Writes until nothing is left, or the socket takes no more. True if nothing is left.
    fn write<S: AsyncWrite + Unpin>(
        &mut self,
        mut socket: Pin<&mut S>,
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        loop {
            let mut http2 = self.link.http2();
            let was_stalled = http2.is_stalled();
            let outgoing = http2.outgoing();
            if outgoing.is_empty() {
                drop(http2);
                return match socket.as_mut().poll_flush(context) {
                    Poll::Ready(flushed) => flushed.map(|()| true),
                    Poll::Pending => Ok(false),
                };
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = outgoing.slices(&mut slices);
            let written = match socket.as_mut().poll_write_vectored(context, &slices[..filled]) {
                Poll::Ready(written) => written?,
                Poll::Pending => return Ok(false),
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            outgoing.advance(written);
            let is_stalled = http2.is_stalled();
            drop(http2);
            calls::tell_room(self.worker, self.link);
            if was_stalled && !is_stalled {
                // Reading has been skipped.
                context.waker().wake_by_ref();
            }
        }
    }
}

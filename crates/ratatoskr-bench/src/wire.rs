//! Calls on bare HTTP/2: what a gRPC client does, and nothing that costs time beside it.
//!
//! ```text
//!   Connection ──caller("Publish")──▶ Caller ──call(frame)──▶ one answer
//!                                        ├──follow(frame)──▶ Frames                 the broker streams
//!                                        └──converse(frame)──▶ Conversation         both sides stream
//! ```
//!
//! Frames go out as they were encoded and come in as bytes; whoever wants to know what they mean decodes them. A caller is cheap
//! to clone, one for each of many tasks on one connection. Nothing here reconnects: a connection that breaks ends the measurement. HTTP/2 is
//! `ratatoskr-http2`, which the broker uses too: a load generator that costs more than what it measures would measure itself. That the broker
//! understands others' clients is for its tests to say.

mod link;

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use ratatoskr_http2::{Ending, ErrorCode, StreamId};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::credentials::Credentials;
use crate::error::{BenchError, Outcome, during, failed};
use crate::frames::{Counter, PREFIX_BYTES, Splitter};
use link::{Answer, Link};

/// One TCP connection to a broker.
#[derive(Clone)]
pub(crate) struct Connection {
    link: Rc<Link>,
    peer: Rc<Peer>,
}

/// One method on one connection.
#[derive(Clone)]
pub(crate) struct Caller {
    link: Rc<Link>,
    peer: Rc<Peer>,
    path: Rc<str>,
}

/// What every call says the same.
struct Peer {
    /// Host and port.
    authority: String,
    credentials: Credentials,
}

/// A call under way. Dropped, it is cancelled.
struct Call {
    link: Rc<Link>,
    stream: StreamId,
    /// Our side has ended.
    is_sent: bool,
    /// The broker's side has ended.
    is_over: bool,
}

/// Messages the broker streams.
pub(crate) struct Frames {
    call: Call,
    splitter: Splitter,
    counter: Counter,
}

/// A stream in both directions.
pub(crate) struct Conversation {
    /// What the broker says.
    pub(crate) frames: Frames,
}

impl Connection {
    /// Connects to `host:port`. Has to be called within a `LocalSet`: the connection lives in a task of its own.
    pub(crate) async fn open(authority: &str, credentials: &Credentials) -> Outcome<Connection> {
        let unavailable = |reason: String| BenchError::Unavailable { address: authority.to_owned(), reason };
        let socket = TcpStream::connect(authority).await.map_err(|error| unavailable(error.to_string()))?;
        socket.set_nodelay(true).map_err(during("setting TCP_NODELAY"))?;
        let link = match credentials.connector() {
            None => Link::start(socket),
            Some(tls) => {
                let name = ServerName::try_from(host(authority).to_owned());
                let name = name.map_err(|error| unavailable(error.to_string()))?;
                let socket = tls.connect(name, socket).await;
                Link::start(socket.map_err(|error| unavailable(error.to_string()))?)
            }
        };
        let peer = Peer { authority: authority.to_owned(), credentials: credentials.clone() };
        Ok(Connection { link, peer: Rc::new(peer) })
    }

    /// A caller of a method of the broker's.
    pub(crate) fn caller(&self, method: &str) -> Caller {
        let path = format!("/{}/{method}", ratatoskr_proto::SERVICE_NAME);
        Caller { link: self.link.clone(), peer: self.peer.clone(), path: path.into() }
    }
}

impl Caller {
    /// Sends one frame and waits for the one answer.
    pub(crate) async fn call(&mut self, frame: Bytes) -> Outcome<Bytes> {
        let mut call = self.begin(frame)?;
        call.close();
        let link = call.link.clone();
        let (answer, end) = link
            .watch(call.stream, |answer| {
                let end = answer.end.take()?;
                Some((std::mem::take(&mut answer.chunks), end))
            })
            .await?;
        call.is_over = true;
        end.map_err(failed)?;
        let mut answer = answer.into_iter();
        let mut whole = answer.next().unwrap_or_default();
        for chunk in answer {
            whole = joined(&whole, &chunk);
        }
        if whole.len() < PREFIX_BYTES {
            return Err(failed(format!("{} answered without a message", self.path)));
        }
        Ok(whole.slice(PREFIX_BYTES..))
    }

    /// Sends one frame; the broker answers with a stream.
    pub(crate) async fn follow(&mut self, frame: Bytes) -> Outcome<Frames> {
        let mut call = self.begin(frame)?;
        call.close();
        Frames::begin(call).await
    }

    /// Opens a stream in both directions with a first frame.
    pub(crate) async fn converse(&mut self, first: Bytes) -> Outcome<Conversation> {
        Ok(Conversation { frames: Frames::begin(self.begin(first)?).await? })
    }

    fn begin(&self, frame: Bytes) -> Outcome<Call> {
        let Peer { authority, credentials } = &*self.peer;
        let mut http2 = self.link.http2();
        let opened = http2.open(Answer::default(), |fields| {
            fields.known(":method", "POST").known(":scheme", credentials.scheme()).known(":path", &self.path);
            fields.known(":authority", authority).known("te", "trailers");
            fields.known("content-type", "application/grpc");
            if let Some(authorization) = credentials.authorization() {
                fields.known("authorization", authorization);
            }
        });
        let stream = opened.map_err(during("opening a call"))?;
        http2.send_data(stream, frame);
        drop(http2);
        self.link.wake();
        Ok(Call { link: self.link.clone(), stream, is_sent: false, is_over: false })
    }
}

impl Call {
    fn close(&mut self) {
        self.is_sent = true;
        self.link.http2().end(self.stream, Ending::Data);
        self.link.wake();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut http2 = self.link.http2();
        if self.is_over && self.is_sent {
            http2.remove(self.stream);
        } else {
            http2.reset(self.stream, ErrorCode::CANCEL);
            drop(http2);
            self.link.wake();
        }
    }
}

impl Conversation {
    /// Sends one more frame. If the broker has ended the stream, the error is its reason.
    pub(crate) async fn send(&mut self, frame: Bytes) -> Outcome {
        let call = &mut self.frames.call;
        let has_ended = call.link.http2().tag(call.stream).is_none_or(|answer| answer.end.is_some());
        if has_ended {
            while self.frames.next().await?.is_some() {}
            return Err(failed("the broker ended the stream"));
        }
        call.link.http2().send_data(call.stream, frame);
        call.link.wake();
        Ok(())
    }

    /// Closes our side; the broker ends the stream when it has answered everything.
    pub(crate) fn close(&mut self) {
        self.frames.call.close();
    }
}

impl Frames {
    /// Waits for the broker's first word.
    async fn begin(call: Call) -> Outcome<Frames> {
        let begun = |answer: &mut Answer| match &answer.end {
            Some(Err(_)) => answer.end.take(),
            _ => answer.is_begun.then_some(Ok(())),
        };
        call.link.watch(call.stream, begun).await?.map_err(failed)?;
        Ok(Frames { call, splitter: Splitter::default(), counter: Counter::default() })
    }

    /// The next message; `None` once the broker has ended the stream in order.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Bytes>> {
        loop {
            if let Some(message) = self.splitter.next() {
                return Ok(Some(message));
            }
            let Some(chunk) = self.chunk().await? else { return Ok(None) };
            self.splitter.push(chunk);
        }
    }

    /// Waits for bytes, and tells how many messages ended with them. Not to be mixed with [`Frames::next`].
    pub(crate) async fn count(&mut self) -> Outcome<Option<u64>> {
        let chunk = self.chunk().await?;
        Ok(chunk.map(|chunk| self.counter.count(&chunk)))
    }

    async fn chunk(&mut self) -> Outcome<Option<Bytes>> {
        let Call { link, stream, .. } = &self.call;
        let next = |answer: &mut Answer| match answer.chunks.pop_front() {
            Some(chunk) => Some(Ok(Some(chunk))),
            None => answer.end.clone().map(|end| end.map(|()| None)),
        };
        let chunk = link.watch(*stream, next).await?;
        self.call.is_over = !matches!(chunk, Ok(Some(_)));
        let chunk = chunk.map_err(failed)?;
        let Call { link, stream, .. } = &self.call;
        if let Some(chunk) = &chunk {
            link.http2().release(*stream, chunk.len());
            link.wake();
        }
        Ok(chunk)
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn joined(first: &[u8], second: &[u8]) -> Bytes {
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    whole.extend_from_slice(first);
    whole.extend_from_slice(second);
    whole.freeze()
}

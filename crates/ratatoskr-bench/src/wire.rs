//! Calls on bare HTTP/2: what a gRPC client does, and nothing that costs time beside it.
//!
//! ```text
//!   Connection ──caller("Publish")──▶ Caller ──call(frame)──▶ one answer
//!                                        ├──follow(frame)──▶ Frames                 the broker streams
//!                                        └──converse(frame)──▶ Conversation         both sides stream
//! ```
//!
//! Frames go out as they were encoded and come in as bytes; whoever wants to know what they mean decodes them. A caller is cheap
//! to clone, one for each of many tasks on one connection. Nothing here reconnects: a connection that breaks ends the measurement.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Uri, Version, header};
use tokio::net::TcpStream;

use crate::error::{BenchError, Outcome, during, failed};
use crate::frames::{Counter, PREFIX_BYTES, Splitter};

/// HTTP/2 windows: so large that a reader never waits for a round trip.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes one HTTP/2 frame may have: large deliveries come in few pieces.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// One TCP connection to a broker.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    /// Host and port.
    authority: String,
}

/// One method on one connection.
#[derive(Clone)]
pub(crate) struct Caller {
    requests: SendRequest<Bytes>,
    /// Cloned for each call: the same headers every time.
    request: http::Request<()>,
}

/// Messages the broker streams.
pub(crate) struct Frames {
    body: RecvStream,
    splitter: Splitter,
    counter: Counter,
}

/// A stream in both directions.
pub(crate) struct Conversation {
    requests: SendStream<Bytes>,
    /// What the broker says.
    pub(crate) frames: Frames,
}

impl Connection {
    /// Connects to `host:port`. Has to be called within a `LocalSet`: the connection lives in a task of its own.
    pub(crate) async fn open(authority: &str) -> Outcome<Connection> {
        let unavailable = |reason: String| BenchError::Unavailable { address: authority.to_owned(), reason };
        let socket = TcpStream::connect(authority).await.map_err(|error| unavailable(error.to_string()))?;
        socket.set_nodelay(true).map_err(during("setting TCP_NODELAY"))?;
        let mut builder = Builder::new();
        builder.initial_window_size(STREAM_WINDOW_BYTES).max_frame_size(FRAME_BYTES_MAX).enable_push(false);
        builder.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let shaken = builder.handshake(socket).await.map_err(|error| unavailable(error.to_string()));
        let (requests, connection) = shaken?;
        // Its error reaches every call that is still waiting.
        tokio::task::spawn_local(connection);
        Ok(Connection { requests, authority: authority.to_owned() })
    }

    /// A caller of a method of the broker's.
    pub(crate) fn caller(&self, method: &str) -> Outcome<Caller> {
        let uri = format!("http://{}/{}/{method}", self.authority, ratatoskr_proto::SERVICE_NAME);
        let uri: Uri = uri.parse().map_err(during(format_args!("server address {}", self.authority)))?;
        let request = http::Request::builder().method(Method::POST).uri(uri).version(Version::HTTP_2);
        let request = request.header(header::TE, "trailers").header(header::CONTENT_TYPE, "application/grpc");
        let request = request.body(()).map_err(during("building a request"))?;
        Ok(Caller { requests: self.requests.clone(), request })
    }
}

impl Caller {
    /// Sends one frame and waits for the one answer.
    pub(crate) async fn call(&mut self, frame: Bytes) -> Outcome<Bytes> {
        let (response, mut requests) = self.begin().await?;
        requests.send_data(frame, true).map_err(broken)?;
        let mut body = self.body_of(response).await?;
        let mut answer = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(broken)?;
            // More than the window holds is never on its way, and the stream ends soon.
            let _ = body.flow_control().release_capacity(chunk.len());
            answer = if answer.is_empty() { chunk } else { joined(&answer, &chunk) };
        }
        check_status(body.trailers().await.map_err(broken)?.as_ref())?;
        if answer.len() < PREFIX_BYTES {
            return Err(failed(format!("{} answered without a message", self.request.uri().path())));
        }
        Ok(answer.slice(PREFIX_BYTES..))
    }

    /// Sends one frame; the broker answers with a stream.
    pub(crate) async fn follow(&mut self, frame: Bytes) -> Outcome<Frames> {
        let (response, mut requests) = self.begin().await?;
        requests.send_data(frame, true).map_err(broken)?;
        Ok(Frames::new(self.body_of(response).await?))
    }

    /// Opens a stream in both directions with a first frame.
    pub(crate) async fn converse(&mut self, first: Bytes) -> Outcome<Conversation> {
        let (response, mut requests) = self.begin().await?;
        requests.send_data(first, false).map_err(broken)?;
        Ok(Conversation { requests, frames: Frames::new(self.body_of(response).await?) })
    }

    async fn begin(&mut self) -> Outcome<(ResponseFuture, SendStream<Bytes>)> {
        poll_fn(|context| self.requests.poll_ready(context)).await.map_err(broken)?;
        self.requests.send_request(self.request.clone(), false).map_err(broken)
    }

    async fn body_of(&self, response: ResponseFuture) -> Outcome<RecvStream> {
        let response = response.await.map_err(broken)?;
        if !response.status().is_success() {
            return Err(failed(format!("{} answered HTTP {}", self.request.uri().path(), response.status())));
        }
        // A refusal comes without a body, its status among the headers.
        if response.headers().contains_key("grpc-status") {
            check_status(Some(response.headers()))?;
        }
        Ok(response.into_body())
    }
}

impl Conversation {
    /// Sends one more frame. If the broker has ended the stream, the error is its reason.
    pub(crate) async fn send(&mut self, frame: Bytes) -> Outcome {
        match self.requests.send_data(frame, false) {
            Ok(()) => Ok(()),
            Err(error) => self.reason(error).await,
        }
    }

    /// Closes our side; the broker ends the stream when it has answered everything.
    pub(crate) async fn close(&mut self) -> Outcome {
        match self.requests.send_data(Bytes::new(), true) {
            Ok(()) => Ok(()),
            Err(error) => self.reason(error).await,
        }
    }

    async fn reason(&mut self, error: h2::Error) -> Outcome {
        while self.frames.next().await?.is_some() {}
        Err(broken(error))
    }
}

impl Frames {
    fn new(body: RecvStream) -> Frames {
        Frames { body, splitter: Splitter::default(), counter: Counter::default() }
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
        let Some(chunk) = self.body.data().await else {
            check_status(self.body.trailers().await.map_err(broken)?.as_ref())?;
            return Ok(None);
        };
        let chunk = chunk.map_err(broken)?;
        self.body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
        Ok(Some(chunk))
    }
}

fn joined(first: &[u8], second: &[u8]) -> Bytes {
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    whole.extend_from_slice(first);
    whole.extend_from_slice(second);
    whole.freeze()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` is given")]
fn broken(error: h2::Error) -> BenchError {
    failed(format!("the connection to the broker broke: {error}"))
}

fn check_status(trailers: Option<&HeaderMap>) -> Outcome {
    let text = |name| trailers.and_then(|map| map.get(name)).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or("no reason given");
            Err(failed(format!("the broker refused (gRPC status {code}): {message}")))
        }
        None => Err(failed("the broker ended a stream without a status")),
    }
}

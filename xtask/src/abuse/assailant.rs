//! A connection that says what it likes: written by hand, read by a thread of its own, or not at all.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ratatoskr_http2::ErrorCode;
use ratatoskr_http2::raw::{self, flag, kind};
use tokio::net::TcpSocket;

use crate::failed::{Outcome, While};

/// A server that takes nothing for so long does not take what we say.
const BLOCKED: Duration = Duration::from_millis(500);

/// What a request begins with.
pub(super) const REQUEST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/ratatoskr.MessageBroker/Publish"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

/// A head for a method.
pub(super) fn head(stream: u32, method: &str) -> Vec<u8> {
    let path = format!("/ratatoskr.MessageBroker/{method}");
    let fields: Vec<_> = REQUEST
        .iter()
        .map(|&(name, value)| (name, if name == ":path" { path.as_str() } else { value }))
        .collect();
    raw::frame(kind::HEADERS, flag::END_HEADERS, stream, raw::block(&fields))
}

/// A gRPC message.
pub(super) fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// What became of something said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Taken,
    /// The server does not read.
    Blocked,
    /// The server has closed the connection.
    Closed,
}

/// What the server has said.
#[derive(Default)]
pub(super) struct Ear {
    /// Of each kind of frame.
    frames: [AtomicU64; 10],
    is_closed: AtomicBool,
    /// The reason of its GOAWAY; 0 to begin with, then the code and 1.
    farewell: AtomicU64,
}

impl Ear {
    pub(super) fn frames(&self, kind: u8) -> u64 {
        self.frames[usize::from(kind)].load(Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    pub(super) fn farewell(&self) -> Option<ErrorCode> {
        let code = self.farewell.load(Ordering::Relaxed).checked_sub(1)?;
        u32::try_from(code).ok().map(ErrorCode)
    }

    fn listen(&self, mut socket: TcpStream) -> io::Result<()> {
        let mut heard = BytesMut::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = socket.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            heard.extend_from_slice(&piece[..count]);
            while let Some(frame) = raw::take_frame(&mut heard) {
                if let Some(count) = self.frames.get(usize::from(frame.kind)) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if frame.kind == kind::GOAWAY
                    && let Some(code) = frame.payload[4..].first_chunk()
                {
                    self.farewell.store(u64::from(u32::from_be_bytes(*code)) + 1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// See the file's head.
pub(super) struct Assailant {
    socket: TcpStream,
    pub(super) ear: Arc<Ear>,
}

impl Assailant {
    /// Connects and says nothing.
    pub(super) fn mute(address: SocketAddr) -> Outcome<Assailant> {
        Assailant::on(TcpStream::connect(address).when("connecting to the broker")?)
    }

    /// Connects from 127.0.0.`last`, says hello, and hears what is answered.
    pub(super) fn connect_from(last: u8, address: SocketAddr) -> Outcome<Assailant> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
            let socket = socket.connect(address).await?.into_std()?;
            socket.set_nonblocking(false)?;
            Ok(socket)
        };
        let socket: io::Result<TcpStream> = runtime.when("a runtime to connect with")?.block_on(connecting);
        let mut assailant = Assailant::on(socket.when("connecting to the broker")?)?;
        assailant.listen()?;
        assailant.say(&raw::greeting(&[]));
        Ok(assailant)
    }

    fn on(socket: TcpStream) -> Outcome<Assailant> {
        socket.set_nodelay(true).when("setting up a socket")?;
        socket.set_write_timeout(Some(BLOCKED)).when("setting up a socket")?;
        Ok(Assailant { socket, ear: Arc::default() })
    }

    /// Connects, says hello, and never reads.
    pub(super) fn deaf(address: SocketAddr, settings: &[(u16, u32)]) -> Outcome<Assailant> {
        let mut assailant = Assailant::mute(address)?;
        assailant.say(&raw::greeting(settings));
        Ok(assailant)
    }

    /// Connects, says hello, and hears what is answered.
    pub(super) fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Outcome<Assailant> {
        let mut assailant = Assailant::mute(address)?;
        assailant.listen()?;
        assailant.say(&raw::greeting(settings));
        Ok(assailant)
    }

    /// Reads from now on.
    pub(super) fn listen(&self) -> Outcome {
        let (socket, ear) = (self.socket.try_clone().when("sharing a socket")?, Arc::clone(&self.ear));
        std::thread::spawn(move || {
            // However it ends, nothing more is heard.
            let _ = ear.listen(socket);
            ear.is_closed.store(true, Ordering::Relaxed);
        });
        Ok(())
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> Said {
        if self.ear.is_closed() {
            return Said::Closed;
        }
        match self.socket.write_all(bytes) {
            Ok(()) => Said::Taken,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Said::Blocked
            }
            Err(_) => Said::Closed,
        }
    }
}

impl Drop for Assailant {
    fn drop(&mut self) {
        // The ear has the socket as well. It fails if the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

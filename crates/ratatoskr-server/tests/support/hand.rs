//! [`Hand`]: a client by hand, frame by frame, of the kind that no library is.
#![allow(dead_code)] // each test file uses what it needs

use bytes::BytesMut;
use ratatoskr_http2::ErrorCode;
use ratatoskr_http2::hpack::{Decoder, Fields};
use ratatoskr_http2::raw::{self, Heard, flag, kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Fixture, PATIENCE};

pub(crate) const ALL: u8 = flag::END_HEADERS | flag::END_STREAM;

/// A connection that says what it likes.
pub(crate) struct Hand {
    pub(crate) socket: TcpStream,
    pub(crate) heard: BytesMut,
    pub(crate) decoder: Decoder,
}

impl Hand {
    pub(crate) async fn connect(fixture: &Fixture) -> Hand {
        Hand::connect_from(fixture, 1).await
    }

    /// From 127.0.0.`last`.
    pub(crate) async fn connect_from(fixture: &Fixture, last: u8) -> Hand {
        let address = fixture.running.as_ref().unwrap().grpc_addr();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, last], 0).into()).unwrap();
        let socket = socket.connect(address).await.unwrap();
        Hand { socket, heard: BytesMut::new(), decoder: Decoder::new(4096) }
    }

    pub(crate) async fn greeted(fixture: &Fixture, settings: &[(u16, u32)]) -> Hand {
        let mut hand = Hand::connect(fixture).await;
        hand.say(raw::greeting(settings)).await;
        hand
    }

    /// What the server no longer takes is not what the tests are about.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.socket.write_all(bytes.as_ref())).await.expect("the server reads");
    }

    /// The next frame; nothing once the server has closed.
    pub(crate) async fn frame(&mut self) -> Option<Heard> {
        loop {
            if let Some(frame) = raw::take_frame(&mut self.heard) {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.heard)).await;
            match read.expect("the server neither answers nor closes") {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => panic!("the connection was broken off: {error}"),
            }
        }
    }

    /// The same; nothing too if the connection was broken off.
    pub(crate) async fn try_frame(&mut self) -> Option<Heard> {
        loop {
            if let Some(frame) = raw::take_frame(&mut self.heard) {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.heard)).await;
            if read.expect("the server neither answers nor closes").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next header list of a stream, and whether it ends the stream.
    pub(crate) async fn headers(&mut self, stream: u32) -> (Vec<(String, String)>, bool) {
        loop {
            let frame = self.frame().await.expect("the server has closed");
            if frame.kind != kind::HEADERS {
                continue;
            }
            let mut fields = Fields::new(1 << 16);
            self.decoder.decode(&frame.payload, &mut fields).unwrap();
            if frame.stream == stream {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let fields = fields.iter().map(|(name, value)| (text(name), text(value))).collect();
                return (fields, frame.flags & flag::END_STREAM != 0);
            }
        }
    }

    /// What the server says last before it closes: code and reason.
    pub(crate) async fn farewell(&mut self) -> (ErrorCode, String) {
        let mut farewell = None;
        while let Some(frame) = self.frame().await {
            if frame.kind == kind::GOAWAY {
                let code = u32::from_be_bytes(*frame.payload[4..].first_chunk().unwrap());
                farewell = Some((ErrorCode(code), String::from_utf8_lossy(&frame.payload[8..]).into_owned()));
            }
        }
        farewell.expect("the server closed without a word")
    }
}

pub(crate) fn fields<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let head =
        [(":method", "POST"), (":scheme", "http"), (":path", method), ("content-type", "application/grpc")];
    [&head, more].concat()
}

pub(crate) fn head(stream: u32, method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/ratatoskr.MessageBroker/{method}");
    raw::frame(kind::HEADERS, flag::END_HEADERS, stream, raw::block(&fields(&path, more)))
}

pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    raw::frame(kind::DATA, flags, stream, payload)
}

pub(crate) fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

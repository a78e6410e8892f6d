//! Frames by hand, and what a connection makes of them in words.

use bytes::BytesMut;

use crate::frame::{ErrorCode, PREFACE, StreamId};
use crate::hpack::{Decoder, Fields};
use crate::raw::Heard;
use crate::{Announced, Connection, Event, Role};

pub(super) use crate::raw::flag::{ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY};
pub(super) use crate::raw::{block, frame, greeting, kind, reset, settings, take_frame, window_update};

/// A whole request without a body.
pub(super) const ALL: u8 = END_HEADERS | END_STREAM;

/// A request's head as a client has to write it.
pub(super) const REQUEST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), ("te", "trailers")];

pub(super) fn headers(stream: StreamId, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, block(fields))
}

pub(super) fn request(stream: StreamId) -> Vec<u8> {
    headers(stream, END_HEADERS, REQUEST)
}

pub(super) fn data(stream: StreamId, flags: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

/// A connection, and the ear of its peer.
pub(super) struct Talk {
    pub(super) connection: Connection<u32>,
    /// Said to it and not taken yet.
    input: BytesMut,
    /// Said by it and not read yet.
    said: BytesMut,
    decoder: Decoder,
    has_ended: bool,
}

impl Talk {
    /// Nothing has been said.
    pub(super) fn new(role: Role, announced: &Announced) -> Talk {
        Talk {
            connection: Connection::new(role, announced),
            input: BytesMut::new(),
            said: BytesMut::new(),
            decoder: Decoder::new(4096),
            has_ended: false,
        }
    }

    /// A server that has been greeted.
    pub(super) fn server() -> Talk {
        Talk::server_with(&Announced::default(), &[])
    }

    pub(super) fn server_with(announced: &Announced, of_peer: &[(u16, u32)]) -> Talk {
        let mut talk = Talk::new(Role::Server, announced);
        talk.hear([PREFACE, &settings(of_peer)].concat());
        talk
    }

    /// A client that has been greeted.
    pub(super) fn client(of_peer: &[(u16, u32)]) -> Talk {
        let mut talk = Talk::new(Role::Client, &Announced::default());
        let mut preface = BytesMut::new();
        talk.connection.write_into(&mut preface);
        assert_eq!(&preface[..PREFACE.len()], PREFACE);
        talk.hear(settings(of_peer));
        talk
    }

    /// Lets the connection take bytes in. Answers the events and then the frames that come of it.
    pub(super) fn hear(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.input.extend_from_slice(bytes.as_ref());
        let mut words = Vec::new();
        while !self.has_ended {
            match self.connection.receive(&mut self.input) {
                Ok(Some(event)) => words.push(self.event(event)),
                Ok(None) => break,
                Err(fault) => {
                    self.has_ended = true;
                    words.push(format!("fault {:?}", fault.code));
                }
            }
        }
        words.extend(self.frames());
        words.join(", ")
    }

    /// As a user of the connection that gives data back at once.
    fn event(&mut self, event: Event) -> String {
        let end = |is_end| if is_end { " end" } else { "" };
        match event {
            Event::Headers { stream, is_end } => {
                let count = self.connection.fields().len();
                let large = if self.connection.fields().is_oversized() { " oversized" } else { "" };
                format!("headers {stream} of {count}{large}{}", end(is_end))
            }
            Event::Data { stream, data, is_end } => {
                self.connection.release(stream, data.len());
                format!("data {stream} {:?}{}", String::from_utf8_lossy(&data), end(is_end))
            }
            Event::Reset { stream, code } => {
                assert!(self.connection.remove(stream).is_some());
                format!("gone {stream} {code:?}")
            }
            Event::GoAway { last, code } => format!("peer goes after {last} {code:?}"),
        }
    }

    /// What the connection has said since the last look, a frame a word.
    pub(super) fn frames(&mut self) -> Vec<String> {
        self.connection.write_into(&mut self.said);
        let mut words = Vec::new();
        while let Some(heard) = take_frame(&mut self.said) {
            words.push(self.word(&heard));
        }
        assert!(self.said.is_empty(), "half a frame was written: {:?}", self.said);
        words
    }

    fn word(&mut self, header: &Heard) -> String {
        let payload = &header.payload[..];
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let end = if header.flags & END_STREAM != 0 { " END" } else { "" };
        match header.kind {
            kind::DATA => format!("DATA {} {}{end}", header.stream, payload.len()),
            kind::HEADERS if header.flags & END_HEADERS == 0 => {
                format!("HEADERS {} {}+{end}", header.stream, payload.len())
            }
            kind::HEADERS => {
                let mut fields = Fields::new(1 << 20);
                self.decoder.decode(payload, &mut fields).unwrap();
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let fields: Vec<_> = fields.iter().map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
                format!("HEADERS {} {}{end}", header.stream, fields.join(" "))
            }
            kind::RST_STREAM => format!("RESET {} {:?}", header.stream, ErrorCode(number(0))),
            kind::SETTINGS if header.flags & ACK != 0 => "SETTINGS ACK".into(),
            kind::SETTINGS => "SETTINGS".into(),
            kind::PING if header.flags & ACK != 0 => "PING ACK".into(),
            kind::PING => "PING".into(),
            kind::GOAWAY => format!("GOAWAY after {} {:?}", number(0), ErrorCode(number(4))),
            kind::WINDOW_UPDATE => format!("WINDOW {} +{}", header.stream, number(0)),
            kind::CONTINUATION if header.flags & END_HEADERS == 0 => {
                format!("CONTINUATION {} {}+", header.stream, payload.len())
            }
            kind::CONTINUATION => format!("CONTINUATION {} {}", header.stream, payload.len()),
            other => panic!("nobody says frames of kind {other}"),
        }
    }
}

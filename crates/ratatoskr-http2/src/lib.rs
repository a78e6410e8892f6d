//! HTTP/2 as gRPC uses it: frames, header compression, streams, flow control; no I/O.
//!
//! ```text
//!   bytes read ──▶ Connection::receive ──▶ Event: headers, data, reset …        ──▶ who answers
//!                                                                                      │
//!   bytes to write ◀── Outgoing ◀── send_headers, send_data, end, reset, release ◀─────┘
//! ```
//!
//! [`Connection`] is one side of one connection as a state machine: it is given bytes and answers with events; it is told what to
//! send and makes bytes of it. Whoever has the socket reads, writes and keeps time ([`Connection::tick`]). So the same code serves a broker and
//! a load generator, and a test can feed it anything, a byte at a time.
//!
//! Invariants: nothing a peer sends makes it panic; what it keeps is bounded by its limits and by what the user
//! has not released; a fault of one stream ends that stream, a fault of the connection ends the connection, with the reason in words in
//! its GOAWAY.
//!
//! What it deliberately does not do: server push, priorities (deprecated by RFC 9113), upgrades from HTTP/1.1, `content-length`.
//!
//! ```
//! use bytes::BytesMut;
//! use ratatoskr_http2::{Announced, Connection, Ending, Event, Role};
//!
//! let mut client: Connection<()> = Connection::new(Role::Client, &Announced::default());
//! let mut server: Connection<()> = Connection::new(Role::Server, &Announced::default());
//! let call = client.open((), |fields| {
//!     fields.known(":method", "POST").known(":scheme", "http").put(":path", "/echo");
//! })?;
//! client.send_data(call, "hello".into());
//! client.end(call, Ending::Data);
//!
//! let mut wire = BytesMut::new();
//! client.write_into(&mut wire);
//! let Event::Headers { stream, .. } = server.receive(&mut wire)?.expect("a request") else { panic!() };
//! let Event::Data { data, .. } = server.receive(&mut wire)?.expect("its body") else { panic!() };
//! assert_eq!(&data[..], b"hello");
//! let Event::Data { is_end: true, .. } = server.receive(&mut wire)?.expect("its end") else { panic!() };
//! server.send_headers(stream, |fields| {
//!     fields.known(":status", "200");
//! });
//! server.end(stream, Ending::Known(&[("grpc-status", "0")]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod connection;
mod frame;
pub mod hpack;
pub mod limits;
mod outgoing;
pub mod raw;
mod stream;
mod window;

pub use connection::{Announced, Connection, Event, Fault, HeadersWriter, NotOpen, Role};
pub use frame::{ErrorCode, PREFACE, StreamId};
pub use outgoing::Outgoing;
pub use stream::Ending;

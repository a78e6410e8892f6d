//! [`Connection`]: one side of an HTTP/2 connection.
//!
//! ```text
//!   stream   idle ──headers──▶ open ──peer ends──▶ half closed ──we end──▶ gone
//!                               └──────we end──────▶ half closed ──peer ends──▶ gone        reset, either side: gone at once
//! ```
//!
//! What the peer sends is handled in [`receiving`], what we send in [`sending`]. A stream that is gone is forgotten at once; frames that
//! still come for it are answered with a reset, and counted as nuisances.

mod headers;
mod receiving;
mod sending;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::frame::{self, ErrorCode, StreamId};
use crate::hpack::{Decoder, Encoder, Fields};
use crate::limits::{HEADER_LIST_BYTES_MAX, HEADER_TABLE_BYTES};
use crate::outgoing::Outgoing;
use crate::stream::{Stream, Streams};
use crate::window::{ReceiveWindow, SendWindow};

pub use headers::HeadersWriter;
pub use settings::Announced;
use settings::PeerSettings;

/// Which side we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer opens streams.
    Server,
    /// We open streams.
    Client,
}

/// What the peer has done.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// To a server: a request. To a client: the head of a response, or its trailers. [`Connection::fields`] has the fields until
    /// the next call of [`Connection::receive`].
    Headers {
        /// The stream; to a server a new one.
        stream: StreamId,
        /// Nothing follows.
        is_end: bool,
    },
    /// Data has come. It has to be released ([`Connection::release`]) for more to come. Its trailers, if a client sends any, are an end without data.
    Data {
        /// The stream.
        stream: StreamId,
        /// Shares the memory of what was read.
        data: bytes::Bytes,
        /// Nothing follows.
        is_end: bool,
    },
    /// The stream is gone: the peer reset it, or broke its rules and was told so.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
    },
    /// The peer will begin nothing more, and has not looked at streams of ours after `last`.
    GoAway {
        /// The last stream it looked at.
        last: StreamId,
        /// Why.
        code: ErrorCode,
    },
}

/// The connection is at its end: the peer broke a rule, or asked too much. It has been told; what is outgoing should still be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code:?})")]
pub struct Fault {
    /// What the peer was told.
    pub code: ErrorCode,
    /// The rule, in words.
    pub reason: &'static str,
}

/// Why a client cannot open a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOpen {
    /// The peer allows no more at a time.
    #[error("the peer allows no more streams at a time")]
    Full,
    /// The peer goes away, or all numbers are used: a new connection is needed.
    #[error("the connection takes no new streams; open another")]
    Ending,
}

/// What has come of a header block so far.
struct Block {
    stream: StreamId,
    is_end: bool,
    bytes: BytesMut,
}

/// Who takes no new streams.
#[derive(Default)]
struct Farewell {
    is_ours: bool,
    is_peers: bool,
}

/// Signs of life.
#[derive(Default)]
struct Signs {
    /// Something has come since the last look.
    is_lively: bool,
    /// A ping of ours is not answered.
    is_ping_due: bool,
}

/// See the file's head. `T` is what the user remembers with each stream.
pub struct Connection<T> {
    role: Role,
    streams: Streams<T>,
    /// Bytes ready to be written.
    out: Outgoing,
    decoder: Decoder,
    encoder: Encoder,
    /// The last header list.
    fields: Fields,
    /// Header blocks are made here when they may need more than one frame.
    scratch: BytesMut,
    /// A header block that is not complete.
    block: Option<Block>,
    peer: PeerSettings,
    announced: Announced,
    /// How much of the client's preface has come.
    preface_seen: usize,
    /// The first frame has come, which has to be SETTINGS.
    is_introduced: bool,
    send: SendWindow,
    receive: ReceiveWindow,
    /// The highest stream the peer has opened.
    last_of_peer: StreamId,
    /// The next stream we open.
    next_of_ours: StreamId,
    /// Streams that have something to send, in turn.
    queue: VecDeque<StreamId>,
    /// Streams that have room again, whose users asked to know.
    with_room: VecDeque<StreamId>,
    /// Streams that have none because too much waits on all together.
    without_room: Vec<StreamId>,
    farewell: Farewell,
    /// Frames of no use since the last tick.
    nuisances: u32,
    signs: Signs,
    /// Bytes handed to the user and not released, all streams together.
    unreleased: usize,
    /// Bytes that have come, and that the peer may not send again yet: all streams together, given back with the connection's window.
    withheld: usize,
    /// Bytes that wait to be sent, all streams together.
    waiting: usize,
    /// Those of it that wait on streams whose data is not shared.
    waiting_own: usize,
    /// Bytes of data sent since the beginning.
    data_sent: u64,
}

impl<T> std::fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Connection");
        shown.field("role", &self.role).field("streams", &self.streams.len());
        shown.field("outgoing", &self.out.len()).finish_non_exhaustive()
    }
}

impl<T> Connection<T> {
    /// A connection on which nothing has been said. A client's preface and settings are outgoing; a server's settings are once the
    /// client's preface has come: who speaks something else gets an answer that it understands ([`Connection::answer_plainly`]).
    pub fn new(role: Role, announced: &Announced) -> Connection<T> {
        let mut out = Outgoing::default();
        if role == Role::Client {
            out.copy(frame::PREFACE);
            announced.write(role, &mut out);
        }
        Connection {
            role,
            streams: Streams::default(),
            out,
            decoder: Decoder::new(HEADER_TABLE_BYTES),
            encoder: Encoder::new(),
            fields: Fields::new(HEADER_LIST_BYTES_MAX),
            scratch: BytesMut::new(),
            block: None,
            peer: PeerSettings::default(),
            announced: announced.clone(),
            preface_seen: if role == Role::Client { frame::PREFACE.len() } else { 0 },
            is_introduced: false,
            send: SendWindow::new(frame::WINDOW_DEFAULT),
            receive: ReceiveWindow::new(announced.connection_window_bytes),
            last_of_peer: 0,
            next_of_ours: 1,
            queue: VecDeque::new(),
            with_room: VecDeque::new(),
            without_room: Vec::new(),
            farewell: Farewell::default(),
            nuisances: 0,
            signs: Signs::default(),
            unreleased: 0,
            withheld: 0,
            waiting: 0,
            waiting_own: 0,
            data_sent: 0,
        }
    }

    /// The fields of the latest [`Event::Headers`].
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// What the user remembers with a stream; nothing once it is gone.
    pub fn tag(&mut self, stream: StreamId) -> Option<&mut T> {
        self.streams.get_mut(&stream).map(|stream| &mut stream.tag)
    }

    /// Streams that are not gone.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Numbers of all streams that are not gone.
    pub fn stream_ids(&self) -> Vec<StreamId> {
        self.streams.keys().copied().collect()
    }

    /// Bytes handed out with [`Event::Data`] and not released, all streams together.
    pub fn unreleased(&self) -> usize {
        self.unreleased
    }

    /// Bytes that wait until they may be sent, all streams together; what is outgoing already does not count.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes in memory of its own: what waits on streams, or is ready to be written, and is not shared, a header block that
    /// has not come wholly, and the fields of the last one.
    pub fn buffered(&self) -> usize {
        self.waiting_own + self.out.own() + self.begun_block() + self.fields.buffered()
    }

    /// Bytes that wait, or are ready to be written, and are shared with others.
    pub fn shared(&self) -> usize {
        self.waiting - self.waiting_own + self.out.shared()
    }

    /// Bytes of a header block that has not come wholly.
    pub fn begun_block(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.bytes.len())
    }

    /// Bytes of data sent since the beginning: control frames are no progress.
    pub fn data_sent(&self) -> u64 {
        self.data_sent
    }

    /// What is sent on a stream from now on is shared with others: whoever shares it counts it.
    pub fn share(&mut self, stream: StreamId) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.is_shared = true;
        }
    }

    /// Bytes that are ready to be written. Fills up from the streams first.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        self.pump();
        &mut self.out
    }

    /// Moves all that is ready to be written into a buffer, for tests and whoever has no use for slices.
    pub fn write_into(&mut self, buffer: &mut BytesMut) {
        while !self.outgoing().is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 16];
            let filled = self.out.slices(&mut slices);
            let mut written = 0;
            for slice in &slices[..filled] {
                buffer.extend_from_slice(slice);
                written += slice.len();
            }
            self.out.advance(written);
        }
    }

    /// True once the peer has asked to go or been told to, and all streams are gone.
    pub fn is_done(&self) -> bool {
        (self.farewell.is_ours || self.farewell.is_peers) && self.streams.is_empty()
    }

    /// To be called about once a second: forgives nuisances, and gives memory back that is of no use now.
    pub fn tick(&mut self) {
        self.nuisances = 0;
        self.out.shrink();
        self.fields.shrink();
        if self.queue.len() > self.streams.len() {
            // Those that are gone leave when it is their turn, which does not come while the peer keeps the window shut.
            self.queue.retain(|stream| self.streams.contains_key(stream));
        }
        if self.streams.len() < self.streams.capacity() / 4 {
            self.streams.shrink_to_fit();
            self.queue.shrink_to_fit();
            self.with_room.shrink_to_fit();
        }
    }

    /// True if something has come since the last call.
    pub fn take_liveliness(&mut self) -> bool {
        std::mem::take(&mut self.signs.is_lively)
    }

    /// Asks the peer for a sign of life. False if it has not answered the last one.
    pub fn ping(&mut self) -> bool {
        if self.signs.is_ping_due {
            return false;
        }
        self.signs.is_ping_due = true;
        frame::ping(&mut self.out, 0, b"ratatosk");
        true
    }

    /// Takes no new streams any more, and tells the peer. A server whose client has not even said its preface says nothing.
    pub fn go_away(&mut self, code: ErrorCode, reason: &str) {
        if !self.farewell.is_ours {
            self.farewell.is_ours = true;
            if self.preface_seen == frame::PREFACE.len() {
                frame::go_away(&mut self.out, self.last_of_peer, code, reason);
            }
        }
    }

    /// True once the peer has said what HTTP/2 begins with, its settings included.
    pub fn is_greeted(&self) -> bool {
        self.is_introduced
    }

    /// Says something to a peer that does not speak HTTP/2, in place of all that was outgoing.
    pub fn answer_plainly(&mut self, bytes: &[u8]) {
        self.out = Outgoing::default();
        self.out.copy(bytes);
    }

    fn forget(&mut self, stream: StreamId) -> Option<Stream<T>> {
        let gone = self.streams.remove(&stream)?;
        self.unreleased -= gone.unreleased;
        self.waiting -= gone.waiting_bytes;
        self.waiting_own -= if gone.is_shared { 0 } else { gone.waiting_bytes };
        self.tell_all_of_room();
        if gone.unreleased > 0 {
            self.give_back();
        }
        Some(gone)
    }

    fn stream_window(&self) -> ReceiveWindow {
        ReceiveWindow::new(self.announced.stream_window_bytes)
    }
}

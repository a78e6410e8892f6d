//! What we send: heads at once, data as windows allow, streams in turn.
//!
//! ```text
//!   send_data ──▶ windows open, nothing waits? ──yes──▶ framed at once
//!                                              ──no───▶ waits in its stream ──▶ queue ──pump, a turn each──▶ framed
//! ```
//!
//! Header blocks are made at the very moment they are framed: the peer decodes them in that order.

use bytes::Bytes;

use crate::frame::{self, ErrorCode, FRAME_HEADER_BYTES, StreamId, flag, kind};
use crate::limits::{
    CONNECTION_WAITING_BYTES, CONNECTION_WAITING_BYTES_MAX, OUTGOING_BYTES_MAX, OUTGOING_BYTES_STALLED,
    STREAM_WAITING_BYTES, TURN_BYTES,
};
use crate::stream::{Ending, Head, Stream, Wish};
use crate::window::SendWindow;

use super::headers::HeadersWriter;
use super::{Connection, NotOpen};

impl<T> Connection<T> {
    /// Opens a stream, as a client: writes the head of a request.
    pub fn open(&mut self, tag: T, write: impl FnOnce(&mut HeadersWriter<'_>)) -> Result<StreamId, NotOpen> {
        if self.farewell.is_peers || self.next_of_ours > frame::WINDOW_MAX {
            return Err(NotOpen::Ending);
        }
        if self.streams.len() >= self.peer.streams_max as usize {
            return Err(NotOpen::Full);
        }
        let number = self.next_of_ours;
        self.next_of_ours += 2;
        let stream = Stream::new(tag, SendWindow::new(self.peer.stream_window_bytes), self.stream_window());
        self.streams.insert(number, stream);
        self.write_block(number, 0, write);
        Ok(number)
    }

    /// Writes the head of a response. For a stream that is gone nothing happens, as in all that follows.
    pub fn send_headers(&mut self, stream: StreamId, write: impl FnOnce(&mut HeadersWriter<'_>)) {
        if let Some(open) = self.streams.get_mut(&stream) {
            open.head = Head::Sent;
            self.write_block(stream, 0, write);
        }
    }

    /// Bytes of a header list that the peer has said it takes (RFC 9113, section 6.5.2: names, values and 32 bytes a field). What is longer
    /// is its to refuse, so whoever makes a list asks first.
    pub fn peer_header_list_bytes_max(&self) -> usize {
        self.peer.header_list_bytes_max as usize
    }

    /// True if the head of a response has been written, and nothing has ended the stream since.
    pub fn is_answered(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.head == Head::Sent)
    }

    /// Writes the head of a response that is all of it, and ends the stream: what gRPC calls trailers only.
    pub fn end_with_headers(&mut self, stream: StreamId, write: impl FnOnce(&mut HeadersWriter<'_>)) {
        if self.streams.contains_key(&stream) {
            self.write_block(stream, flag::END_STREAM, write);
            self.we_ended(stream);
        }
    }

    /// Sends data, or lets it wait until windows allow.
    pub fn send_data(&mut self, number: StreamId, data: Bytes) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        self.waiting += data.len();
        self.waiting_own += if stream.is_shared { 0 } else { data.len() };
        stream.wait(data);
        self.line_up(number);
    }

    /// As [`Connection::send_data`], for short data that is not worth sharing.
    pub fn send_copied(&mut self, number: StreamId, data: &[u8]) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let length = data.len();
        let fits =
            length <= stream.send.available().min(self.send.available()).min(self.peer.frame_bytes_max);
        if !fits || stream.has_work() || !self.queue.is_empty() || self.out.len() >= OUTGOING_BYTES_MAX {
            return self.send_data(number, Bytes::copy_from_slice(data));
        }
        stream.send.take(length);
        self.send.take(length);
        self.out.copy(&frame::header(length, kind::DATA, 0, number));
        self.out.copy(data);
        self.forgive(2);
    }

    /// Ends a stream after what waits. It is gone then, unless the peer has not ended it yet.
    pub fn end(&mut self, number: StreamId, ending: Ending) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.ending = Some(ending);
        self.turn(number);
    }

    /// Ends a stream at once, whatever waits.
    pub fn reset(&mut self, number: StreamId, code: ErrorCode) -> Option<T> {
        let stream = self.forget(number)?;
        frame::reset(&mut self.out, number, code);
        Some(stream.tag)
    }

    /// Forgets a stream that the peer has reset ([`super::Event::Reset`]), and gives back what was remembered with it. A client does
    /// so too with a stream that the server has ended: until then it counts as open.
    pub fn remove(&mut self, number: StreamId) -> Option<T> {
        self.forget(number).map(|stream| stream.tag)
    }

    /// Data of an event is done with: the peer may send more.
    pub fn release(&mut self, number: StreamId, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.unreleased -= bytes;
        self.unreleased -= bytes;
        if stream.is_receiving
            && let Some(bytes) = stream.receive.release(bytes)
        {
            frame::window_update(&mut self.out, number, bytes);
        }
        self.give_back();
    }

    /// True while a stream should be given more to send; if not, it will be named by [`Connection::next_with_room`]. True too once it is gone:
    /// whoever sends has to look.
    pub fn has_room(&mut self, number: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&number) else { return true };
        if self.waiting >= CONNECTION_WAITING_BYTES_MAX {
            if stream.wish != Wish::RoomForAll {
                stream.wish = Wish::RoomForAll;
                self.without_room.push(number);
            }
            return false;
        }
        let has_room = stream.waiting_bytes < room(self.waiting);
        stream.wish = if has_room { Wish::Nothing } else { Wish::Room };
        has_room
    }

    /// A stream that has room again.
    pub fn next_with_room(&mut self) -> Option<StreamId> {
        self.with_room.pop_front()
    }

    /// True when so much is ready to be written that nothing more should be read.
    pub fn is_stalled(&self) -> bool {
        self.out.len() >= OUTGOING_BYTES_STALLED
    }

    /// Makes waiting data ready, streams in turn, as far as windows and memory allow.
    pub(super) fn pump(&mut self) {
        // Each turn sends something, or its stream leaves the queue: this ends.
        while self.out.len() < OUTGOING_BYTES_MAX && self.send.available() > 0 {
            let Some(number) = self.queue.pop_front() else { return };
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.is_queued = false;
                self.turn(number);
                self.tell_all_of_room();
            }
        }
    }

    /// Less waits than before: names the streams that had no room because of all others.
    pub(super) fn tell_all_of_room(&mut self) {
        // A quarter below the limit, or each piece that goes out would wake all of them.
        if self.without_room.is_empty() || self.waiting > CONNECTION_WAITING_BYTES_MAX / 4 * 3 {
            return;
        }
        for number in std::mem::take(&mut self.without_room) {
            if let Some(stream) = self.streams.get_mut(&number)
                && stream.wish == Wish::RoomForAll
            {
                stream.wish = Wish::Nothing;
                self.with_room.push_back(number);
            }
        }
    }

    /// Sends at once if no other stream waits for its turn, which could go on for ever otherwise.
    fn line_up(&mut self, number: StreamId) {
        if self.queue.is_empty() {
            return self.turn(number);
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.has_work() && stream.send.available() > 0 && !stream.is_queued {
            stream.is_queued = true;
            self.queue.push_back(number);
        }
    }

    /// One stream's turn.
    fn turn(&mut self, number: StreamId) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.is_queued {
            return;
        }
        let mut left = TURN_BYTES;
        while stream.waiting_bytes > 0 && left > 0 && self.out.len() < OUTGOING_BYTES_MAX {
            let windows = stream.send.available().min(self.send.available());
            let data = stream.take(windows.min(self.peer.frame_bytes_max).min(left));
            if data.is_empty() {
                break;
            }
            stream.send.take(data.len());
            self.send.take(data.len());
            self.waiting -= data.len();
            self.waiting_own -= if stream.is_shared { 0 } else { data.len() };
            self.data_sent += data.len() as u64;
            left -= data.len();
            let is_last = stream.waiting_bytes == 0 && matches!(stream.ending, Some(Ending::Data));
            let flags = if is_last { flag::END_STREAM } else { 0 };
            self.out.copy(&frame::header(data.len(), kind::DATA, flags, number));
            self.out.put(data, stream.is_shared);
            self.nuisances = self.nuisances.saturating_sub(2);
            if is_last {
                stream.ending = None;
                return self.we_ended(number);
            }
        }
        if stream.wish == Wish::Room && stream.waiting_bytes < room(self.waiting) {
            stream.wish = Wish::Nothing;
            self.with_room.push_back(number);
        }
        if stream.waiting_bytes > 0 {
            // Without a window of its own it waits for an update; otherwise for its next turn.
            if stream.send.available() > 0 {
                stream.is_queued = true;
                self.queue.push_back(number);
            }
        } else if let Some(ending) = stream.ending.take() {
            self.write_ending(number, &ending);
            self.we_ended(number);
        }
    }

    fn write_ending(&mut self, number: StreamId, ending: &Ending) {
        match ending {
            Ending::Data => self.out.copy(&frame::header(0, kind::DATA, flag::END_STREAM, number)),
            Ending::Known(known) => self.write_block(number, flag::END_STREAM, |fields| {
                for (name, value) in *known {
                    fields.known(name, value);
                }
            }),
            Ending::Trailers(trailers) => self.write_block(number, flag::END_STREAM, |fields| {
                for (name, value) in trailers {
                    fields.encoder.put(name, value, fields.out);
                }
            }),
        }
    }

    /// A server is done with the stream, even if the client has more to say; a client waits for the answer.
    fn we_ended(&mut self, number: StreamId) {
        let Some(stream) = self.streams.get(&number) else { return };
        if self.role == super::Role::Client && stream.is_receiving {
            return;
        }
        if stream.is_receiving {
            // RFC 9113, 8.1: complete, and no need for the rest of the request.
            frame::reset(&mut self.out, number, ErrorCode::NO_ERROR);
        }
        self.forget(number);
    }

    /// Encodes a header list into a HEADERS frame, and CONTINUATIONs if it is long.
    fn write_block(&mut self, number: StreamId, flags: u8, write: impl FnOnce(&mut HeadersWriter<'_>)) {
        let block = &mut self.scratch;
        block.clear();
        self.encoder.begin(block);
        write(&mut HeadersWriter { encoder: &mut self.encoder, out: block });
        let mut rest: &[u8] = block;
        let (mut frame_kind, mut flags) = (kind::HEADERS, flags);
        loop {
            let (part, more) = rest.split_at(rest.len().min(self.peer.frame_bytes_max));
            let end = if more.is_empty() { flag::END_HEADERS } else { 0 };
            let header: [u8; FRAME_HEADER_BYTES] = frame::header(part.len(), frame_kind, flags | end, number);
            self.out.copy(&header);
            self.out.copy(part);
            if more.is_empty() {
                return;
            }
            (rest, frame_kind, flags) = (more, kind::CONTINUATION, 0);
        }
    }
}

/// How few bytes of a stream have to wait for it to have room, while so many wait on all.
fn room(waiting: usize) -> usize {
    if waiting >= CONNECTION_WAITING_BYTES { 1 } else { STREAM_WAITING_BYTES }
}

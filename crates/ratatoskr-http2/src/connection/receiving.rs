//! What the peer sends, frame by frame.

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{
    self, ErrorCode, FRAME_HEADER_BYTES, FrameHeader, PREFACE, StreamId, flag, kind, read_u32,
};
use crate::hpack::HpackError;
use crate::limits::{HEADER_BLOCK_BYTES_MAX, NUISANCES_PER_TICK_MAX};
use crate::stream::Stream;
use crate::window::SendWindow;

use super::headers::{check_head, check_trailers};
use super::{Block, Connection, Event, Fault, Role};

impl<T: Default> Connection<T> {
    /// Takes in frames up to the next event. Nothing if that needs more bytes. What is taken is gone from `input`; the rest has to be there
    /// next time, with more behind it. After a fault nothing may be received.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
        if !input.is_empty() {
            self.signs.is_lively = true;
        }
        if self.preface_seen < PREFACE.len() {
            self.take_preface(input)?;
        }
        loop {
            let Some(header) = FrameHeader::read(input) else { return Ok(None) };
            if header.length > self.announced.frame_bytes_max as usize {
                return Err(self.fault(ErrorCode::FRAME_SIZE_ERROR, "a frame is larger than SETTINGS allow"));
            }
            if input.len() < FRAME_HEADER_BYTES + header.length {
                return Ok(None);
            }
            input.advance(FRAME_HEADER_BYTES);
            let payload = input.split_to(header.length);
            if let Some(event) = self.take_frame(header, payload)? {
                return Ok(Some(event));
            }
        }
    }

    fn take_preface(&mut self, input: &mut BytesMut) -> Result<(), Fault> {
        let missing = &PREFACE[self.preface_seen..];
        let come = missing.len().min(input.len());
        let is_foreign = input[..come] != missing[..come];
        if is_foreign || come == missing.len() {
            self.announced.write(self.role, &mut self.out);
        }
        if is_foreign {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "this is no HTTP/2"));
        }
        input.advance(come);
        self.preface_seen += come;
        Ok(())
    }

    fn take_frame(&mut self, header: FrameHeader, payload: BytesMut) -> Result<Option<Event>, Fault> {
        if !self.is_introduced {
            if header.kind != kind::SETTINGS || header.has(flag::ACK) {
                return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "the first frame is not SETTINGS"));
            }
            self.is_introduced = true;
        }
        if let Some(block) = &self.block
            && (header.kind != kind::CONTINUATION || header.stream != block.stream)
        {
            return Err(
                self.fault(ErrorCode::PROTOCOL_ERROR, "a header block is interrupted by another frame")
            );
        }
        match header.kind {
            kind::DATA => self.take_data(header, payload),
            kind::HEADERS => self.take_headers(header, payload),
            kind::CONTINUATION => self.take_continuation(header, &payload),
            kind::RST_STREAM => self.take_reset(header, &payload),
            kind::WINDOW_UPDATE => self.take_window_update(header, &payload),
            kind::SETTINGS => self.take_settings(header, &payload).map(|()| None),
            kind::PING => self.take_ping(header, &payload).map(|()| None),
            kind::GOAWAY => self.take_go_away(header, &payload).map(Some),
            kind::PRIORITY => {
                self.count_nuisance(1)?;
                match (header.stream, header.length) {
                    (0, _) => Err(self.fault(ErrorCode::PROTOCOL_ERROR, "PRIORITY is for the connection")),
                    (_, 5) => Ok(None),
                    (stream, _) => self.refuse(stream, ErrorCode::FRAME_SIZE_ERROR),
                }
            }
            kind::PUSH_PROMISE => {
                Err(self.fault(ErrorCode::PROTOCOL_ERROR, "PUSH_PROMISE is not allowed here"))
            }
            _ => self.count_nuisance(1).map(|()| None),
        }
    }

    // ---- data ----

    fn take_data(&mut self, header: FrameHeader, payload: BytesMut) -> Result<Option<Event>, Fault> {
        if header.stream == 0 {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "DATA is for the connection"));
        }
        if !self.receive.take(header.length) {
            return Err(self.fault(ErrorCode::FLOW_CONTROL_ERROR, "more data than the connection's window"));
        }
        self.withheld += header.length;
        let is_end = header.has(flag::END_STREAM);
        let data = self.without_padding(header, payload)?;
        if data.is_empty() && !is_end {
            self.count_nuisance(1)?;
        }
        let Some(stream) = self.streams.get_mut(&header.stream).filter(|stream| stream.is_receiving) else {
            self.give_back();
            return self.take_stray(header.stream);
        };
        if !stream.receive.take(header.length) {
            self.give_back();
            return self.refuse(header.stream, ErrorCode::FLOW_CONTROL_ERROR);
        }
        stream.unreleased += data.len();
        self.unreleased += data.len();
        let padding = header.length - data.len();
        if padding > 0
            && let Some(bytes) = stream.receive.release(padding)
        {
            frame::window_update(&mut self.out, header.stream, bytes);
        }
        if is_end {
            stream.is_receiving = false;
        }
        self.give_back();
        Ok(Some(Event::Data { stream: header.stream, data, is_end }))
    }

    fn without_padding(&mut self, header: FrameHeader, payload: BytesMut) -> Result<Bytes, Fault> {
        let mut payload = payload.freeze();
        if header.has(flag::PADDED) {
            let padding = payload.first().copied().map(usize::from);
            match padding.and_then(|padding| payload.len().checked_sub(padding + 1)) {
                Some(length) => payload = payload.slice(1..=length),
                None => {
                    return Err(
                        self.fault(ErrorCode::PROTOCOL_ERROR, "a frame's padding is longer than the frame")
                    );
                }
            }
        }
        Ok(payload)
    }

    /// A frame for a stream that takes none: gone, or never there.
    fn take_stray(&mut self, stream: StreamId) -> Result<Option<Event>, Fault> {
        self.check_not_idle(stream)?;
        self.refuse(stream, ErrorCode::STREAM_CLOSED)
    }

    fn check_not_idle(&mut self, stream: StreamId) -> Result<(), Fault> {
        let is_of_peer = (stream % 2 == 1) == (self.role == Role::Server);
        let is_idle = if is_of_peer { stream > self.last_of_peer } else { stream >= self.next_of_ours };
        if is_idle {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "a frame is for a stream that nobody opened"));
        }
        Ok(())
    }

    // ---- headers ----

    fn take_headers(&mut self, header: FrameHeader, payload: BytesMut) -> Result<Option<Event>, Fault> {
        if header.stream == 0 {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "HEADERS is for the connection"));
        }
        let mut block = self.without_padding(header, payload)?;
        if header.has(flag::PRIORITY) {
            if block.len() < 5 {
                return Err(self.fault(ErrorCode::FRAME_SIZE_ERROR, "HEADERS is too short for its priority"));
            }
            block.advance(5);
        }
        if block.len() > HEADER_BLOCK_BYTES_MAX {
            return Err(self.fault(ErrorCode::ENHANCE_YOUR_CALM, "a header block has more than 64 KiB"));
        }
        let is_end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.take_block(header.stream, is_end, &block);
        }
        self.block = Some(Block { stream: header.stream, is_end, bytes: BytesMut::from(&block[..]) });
        Ok(None)
    }

    fn take_continuation(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Event>, Fault> {
        self.count_nuisance(1)?;
        let Some(block) = &mut self.block else {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "CONTINUATION continues nothing"));
        };
        if block.bytes.len() + payload.len() > HEADER_BLOCK_BYTES_MAX {
            return Err(self.fault(ErrorCode::ENHANCE_YOUR_CALM, "a header block has more than 64 KiB"));
        }
        block.bytes.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Some(Block { stream, is_end, bytes }) = self.block.take() else { return Ok(None) };
        self.take_block(stream, is_end, &bytes)
    }

    /// A whole header block. It has to be decoded whatever becomes of it: the next one builds on it.
    fn take_block(&mut self, number: StreamId, is_end: bool, block: &[u8]) -> Result<Option<Event>, Fault> {
        self.decode(block)?;
        if let Some(stream) = self.streams.get(&number) {
            return if stream.is_receiving {
                self.take_later_block(number, is_end)
            } else {
                self.take_stray(number)
            };
        }
        let is_new = self.role == Role::Server && number > self.last_of_peer;
        if !is_new {
            return self.take_stray(number);
        }
        if number.is_multiple_of(2) {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "a client opens a stream with an even number"));
        }
        self.last_of_peer = number;
        if self.farewell.is_ours || self.streams.len() >= self.announced.streams_max as usize {
            self.count_nuisance(1)?;
            frame::reset(&mut self.out, number, ErrorCode::REFUSED_STREAM);
            return Ok(None);
        }
        if !self.fields.is_oversized() && check_head(self.role, &self.fields).is_err() {
            self.count_nuisance(1)?;
            frame::reset(&mut self.out, number, ErrorCode::PROTOCOL_ERROR);
            return Ok(None);
        }
        let send = SendWindow::new(self.peer.stream_window_bytes);
        let mut stream = Stream::new(T::default(), send, self.stream_window());
        stream.is_receiving = !is_end;
        self.streams.insert(number, stream);
        Ok(Some(Event::Headers { stream: number, is_end }))
    }

    fn decode(&mut self, block: &[u8]) -> Result<(), Fault> {
        match self.decoder.decode(block, &mut self.fields) {
            Ok(()) => {}
            Err(HpackError::ListTooLarge) => {
                let reason = "a header list has more than 128 KiB once it is decoded";
                return Err(self.fault(ErrorCode::ENHANCE_YOUR_CALM, reason));
            }
            Err(_) => {
                return Err(self.fault(ErrorCode::COMPRESSION_ERROR, "a header block cannot be decoded"));
            }
        }
        if self.fields.is_oversized() {
            // A few bytes of a block can be many of a list.
            self.count_nuisance(self.fields.decoded_bytes().div_ceil(1024) as u32)?;
        }
        Ok(())
    }

    /// A client's trailers, or a server's response.
    fn take_later_block(&mut self, number: StreamId, is_end: bool) -> Result<Option<Event>, Fault> {
        let has_status = self.fields.iter().next().is_some_and(|(name, _)| name == b":status");
        let is_head = self.role == Role::Client && has_status;
        let checked =
            if is_head { check_head(self.role, &self.fields) } else { check_trailers(&self.fields) };
        if checked.is_err() || (!is_head && !is_end) {
            return self.refuse(number, ErrorCode::PROTOCOL_ERROR);
        }
        if is_end {
            self.peer_ended(number);
        }
        Ok(Some(match self.role {
            Role::Server => Event::Data { stream: number, data: Bytes::new(), is_end },
            Role::Client => Event::Headers { stream: number, is_end },
        }))
    }

    fn peer_ended(&mut self, number: StreamId) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.is_receiving = false;
        }
    }

    // ---- the rest ----

    fn take_reset(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Event>, Fault> {
        self.count_nuisance(1)?;
        if header.stream == 0 {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "RST_STREAM is for the connection"));
        }
        if payload.len() != 4 {
            return Err(self.fault(ErrorCode::FRAME_SIZE_ERROR, "RST_STREAM has not 4 bytes"));
        }
        self.check_not_idle(header.stream)?;
        let code = ErrorCode(read_u32(payload));
        Ok(self.streams.contains_key(&header.stream).then_some(Event::Reset { stream: header.stream, code }))
    }

    fn take_window_update(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Event>, Fault> {
        if payload.len() != 4 {
            return Err(self.fault(ErrorCode::FRAME_SIZE_ERROR, "WINDOW_UPDATE has not 4 bytes"));
        }
        let growth = i64::from(read_u32(payload) & frame::WINDOW_MAX);
        if header.stream == 0 {
            if growth == 0 || !self.send.grow(growth) {
                let code =
                    if growth == 0 { ErrorCode::PROTOCOL_ERROR } else { ErrorCode::FLOW_CONTROL_ERROR };
                return Err(self.fault(code, "the connection's window grows by nothing, or beyond 2^31 - 1"));
            }
            return self.count_nuisance(1).map(|()| None);
        }
        self.count_nuisance(1)?;
        self.check_not_idle(header.stream)?;
        // For a stream that is gone it means nothing: it was on its way.
        let Some(stream) = self.streams.get_mut(&header.stream) else { return Ok(None) };
        if growth == 0 {
            return self.refuse(header.stream, ErrorCode::PROTOCOL_ERROR);
        }
        if !stream.send.grow(growth) {
            return self.refuse(header.stream, ErrorCode::FLOW_CONTROL_ERROR);
        }
        if stream.has_work() && !stream.is_queued {
            stream.is_queued = true;
            self.queue.push_back(header.stream);
        }
        Ok(None)
    }

    fn take_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        self.count_nuisance(1)?;
        if header.stream != 0 {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "SETTINGS is for a stream"));
        }
        let is_ack = header.has(flag::ACK);
        if (is_ack && !payload.is_empty()) || !payload.len().is_multiple_of(6) {
            return Err(self.fault(ErrorCode::FRAME_SIZE_ERROR, "SETTINGS has a length it cannot have"));
        }
        if is_ack { Ok(()) } else { self.apply_settings(payload) }
    }

    fn take_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Fault> {
        self.count_nuisance(1)?;
        if header.stream != 0 {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "PING is for a stream"));
        }
        if payload.len() != 8 {
            return Err(self.fault(ErrorCode::FRAME_SIZE_ERROR, "PING has not 8 bytes"));
        }
        if header.has(flag::ACK) {
            self.signs.is_ping_due = false;
        } else {
            frame::ping(&mut self.out, flag::ACK, payload);
        }
        Ok(())
    }

    fn take_go_away(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Event, Fault> {
        if header.stream != 0 {
            return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "GOAWAY is for a stream"));
        }
        if payload.len() < 8 {
            return Err(self.fault(ErrorCode::FRAME_SIZE_ERROR, "GOAWAY has fewer than 8 bytes"));
        }
        self.count_nuisance(1)?;
        self.farewell.is_peers = true;
        let (last, code) = (read_u32(payload) & frame::WINDOW_MAX, ErrorCode(read_u32(&payload[4..])));
        Ok(Event::GoAway { last, code })
    }

    /// Ends one stream that broke a rule, and tells both sides. A nuisance as if the peer had reset it: to have it done by us is
    /// the same attack (CVE-2025-8671).
    fn refuse(&mut self, stream: StreamId, code: ErrorCode) -> Result<Option<Event>, Fault> {
        self.count_nuisance(1)?;
        frame::reset(&mut self.out, stream, code);
        Ok(self.streams.contains_key(&stream).then_some(Event::Reset { stream, code }))
    }
}

impl<T> Connection<T> {
    /// Lets the peer send on all streams together what it has sent, unless the user keeps too much.
    pub(super) fn give_back(&mut self) {
        if self.unreleased <= self.announced.unreleased_bytes_max
            && let Some(bytes) = self.receive.release(std::mem::take(&mut self.withheld))
        {
            frame::window_update(&mut self.out, 0, bytes);
        }
    }

    /// Notes frames of no use.
    pub(super) fn count_nuisance(&mut self, count: u32) -> Result<(), Fault> {
        self.nuisances = self.nuisances.saturating_add(count);
        if self.nuisances <= NUISANCES_PER_TICK_MAX {
            return Ok(());
        }
        Err(self.fault(
            ErrorCode::ENHANCE_YOUR_CALM,
            "too many frames of no use: pings, settings, resets, empty data",
        ))
    }

    /// Notes that something of use was done: whoever is sent data answers with window updates.
    pub(super) fn forgive(&mut self, count: u32) {
        self.nuisances = self.nuisances.saturating_sub(count);
    }

    /// Ends the connection. Said even if we were about to go: that was for another reason.
    pub(super) fn fault(&mut self, code: ErrorCode, reason: &'static str) -> Fault {
        self.farewell.is_ours = true;
        frame::go_away(&mut self.out, self.last_of_peer, code, reason);
        Fault { code, reason }
    }
}

//! Frames: what one looks like, and how short ones are written (RFC 9113, sections 4 and 6).
//!
//! ```text
//!   +---------------+------+-------+------------------+=========+
//!   | length (24)   | kind | flags | 0 | stream (31)  | payload |
//!   +---------------+------+-------+------------------+=========+
//! ```

use bytes::{BufMut, BytesMut};

use crate::outgoing::Outgoing;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before a frame's payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 9;
/// What a frame's payload may have unless the receiver says otherwise, and at least.
pub(crate) const FRAME_BYTES_DEFAULT: u32 = 16_384;
/// What a flow control window is before anybody says otherwise.
pub(crate) const WINDOW_DEFAULT: u32 = 65_535;
/// The largest flow control window.
pub(crate) const WINDOW_MAX: u32 = (1 << 31) - 1;

/// A stream's number: odd if the client opened it. 0 is the connection.
pub type StreamId = u32;

/// Kinds of frames (RFC 9113, section 6).
#[allow(missing_docs)] // the RFC's own names
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
#[allow(missing_docs)] // the RFC's own names
pub mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Why a stream or a connection ends (RFC 9113, section 7).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// In order.
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    /// A fault of ours.
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    /// More was sent than the window allows.
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    /// A frame for a stream that has ended.
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    /// A frame of a size it cannot have.
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    /// Not begun: the same request may be made again elsewhere.
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    /// Not wanted any more.
    pub const CANCEL: ErrorCode = ErrorCode(8);
    /// The header compression state is lost.
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    /// Too much of what is of no use.
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
}

impl std::fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            0 => "NO_ERROR",
            1 => "PROTOCOL_ERROR",
            2 => "INTERNAL_ERROR",
            3 => "FLOW_CONTROL_ERROR",
            4 => "SETTINGS_TIMEOUT",
            5 => "STREAM_CLOSED",
            6 => "FRAME_SIZE_ERROR",
            7 => "REFUSED_STREAM",
            8 => "CANCEL",
            9 => "COMPRESSION_ERROR",
            10 => "CONNECT_ERROR",
            11 => "ENHANCE_YOUR_CALM",
            12 => "INADEQUATE_SECURITY",
            13 => "HTTP_1_1_REQUIRED",
            other => return write!(f, "error {other}"),
        };
        f.write_str(name)
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHeader {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: StreamId,
}

impl FrameHeader {
    /// Reads a header if enough bytes are there.
    pub(crate) fn read(input: &[u8]) -> Option<FrameHeader> {
        let bytes = input.first_chunk::<FRAME_HEADER_BYTES>()?;
        Some(FrameHeader {
            length: usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]),
            kind: bytes[3],
            flags: bytes[4],
            stream: read_u32(&bytes[5..]) & WINDOW_MAX,
        })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The number at the beginning of bytes, which have to be four at least.
pub(crate) fn read_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(*bytes.first_chunk().expect("the caller has looked at the length"))
}

/// The nine bytes before a payload.
pub(crate) fn header(length: usize, kind: u8, flags: u8, stream: StreamId) -> [u8; FRAME_HEADER_BYTES] {
    let ([_, l0, l1, l2], [s0, s1, s2, s3]) = ((length as u32).to_be_bytes(), stream.to_be_bytes());
    [l0, l1, l2, kind, flags, s0, s1, s2, s3]
}

pub(crate) fn reset(out: &mut Outgoing, stream: StreamId, code: ErrorCode) {
    out.copy(&header(4, kind::RST_STREAM, 0, stream));
    out.copy(&code.0.to_be_bytes());
}

pub(crate) fn window_update(out: &mut Outgoing, stream: StreamId, bytes: u32) {
    out.copy(&header(4, kind::WINDOW_UPDATE, 0, stream));
    out.copy(&bytes.to_be_bytes());
}

pub(crate) fn ping(out: &mut Outgoing, flags: u8, payload: &[u8]) {
    out.copy(&header(payload.len(), kind::PING, flags, 0));
    out.copy(payload);
}

/// `reason` is for people; peers log it.
pub(crate) fn go_away(out: &mut Outgoing, last: StreamId, code: ErrorCode, reason: &str) {
    out.copy(&header(8 + reason.len(), kind::GOAWAY, 0, 0));
    out.copy(&last.to_be_bytes());
    out.copy(&code.0.to_be_bytes());
    out.copy(reason.as_bytes());
}

pub(crate) fn settings(out: &mut Outgoing, settings: &[(u16, u32)]) {
    let mut payload = BytesMut::with_capacity(settings.len() * 6);
    for &(id, value) in settings {
        payload.put_u16(id);
        payload.put_u32(value);
    }
    out.copy(&header(payload.len(), kind::SETTINGS, 0, 0));
    out.copy(&payload);
}

pub(crate) fn settings_ack(out: &mut Outgoing) {
    out.copy(&header(0, kind::SETTINGS, flag::ACK, 0));
}

//! Frames by hand, for tests and chores that break the rules on purpose. A [`crate::Connection`] has no use for it.

use bytes::BytesMut;

use crate::ErrorCode;
use crate::frame::{self, FrameHeader, PREFACE, StreamId};
use crate::hpack::Encoder;

pub use crate::frame::{flag, kind};

/// Any frame.
pub fn frame(kind: u8, flags: u8, stream: StreamId, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = frame::header(payload.len(), kind, flags, stream).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as a header block that needs no table, and so can be said again and again.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let (mut encoder, mut block) = (Encoder::new(), BytesMut::new());
    for (name, value) in fields {
        encoder.put(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block.to_vec()
}

/// `SETTINGS`, each by its number.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(kind::SETTINGS, 0, 0, payload)
}

/// `RST_STREAM`.
pub fn reset(stream: StreamId, code: ErrorCode) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, code.0.to_be_bytes())
}

/// `WINDOW_UPDATE`.
pub fn window_update(stream: StreamId, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

/// What a client says first.
pub fn greeting(of_client: &[(u16, u32)]) -> Vec<u8> {
    [PREFACE, &settings(of_client)].concat()
}

/// A frame that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: StreamId,
    /// What it says.
    pub payload: BytesMut,
}

/// Takes the first whole frame.
pub fn take_frame(bytes: &mut BytesMut) -> Option<Heard> {
    let header = FrameHeader::read(bytes)?;
    if bytes.len() < frame::FRAME_HEADER_BYTES + header.length {
        return None;
    }
    let mut frame = bytes.split_to(frame::FRAME_HEADER_BYTES + header.length);
    let payload = frame.split_off(frame::FRAME_HEADER_BYTES);
    Some(Heard { kind: header.kind, flags: header.flags, stream: header.stream, payload })
}

//! Settings: what we announce, and what the peer has (RFC 9113, section 6.5).

use crate::frame::{self, ErrorCode, FRAME_BYTES_DEFAULT, WINDOW_DEFAULT, WINDOW_MAX, read_u32};
use crate::limits::HEADER_LIST_BYTES_MAX;
use crate::outgoing::Outgoing;

use super::{Connection, Fault, Role};

mod id {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// What we tell the peer at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Streams the peer may have open at a time; of no meaning for a client.
    pub streams_max: u32,
    /// Bytes of one stream that may be on their way to the user, up to 2^31 - 1. A client may choose any; a server 65,535 and more: its
    /// clients use that many until they have heard of another number.
    pub stream_window_bytes: u32,
    /// Bytes of all streams together that may be on the wire, 65,535 to 2^31 - 1. Given back as soon as they have come …
    pub connection_window_bytes: u32,
    /// … unless the user keeps more than this of all streams together ([`Connection::unreleased`]): then once it keeps less. So at most
    /// both together are ever kept.
    pub unreleased_bytes_max: usize,
    /// Bytes of one frame, 16,384 to 2^24 - 1: a frame is taken in whole.
    pub frame_bytes_max: u32,
}

impl Default for Announced {
    fn default() -> Announced {
        Announced {
            streams_max: 1000,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 16 << 20,
            unreleased_bytes_max: 16 << 20,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
        }
    }
}

impl Announced {
    pub(super) fn write(&self, role: Role, out: &mut Outgoing) {
        let own = match role {
            Role::Server => (id::MAX_CONCURRENT_STREAMS, self.streams_max),
            Role::Client => (id::ENABLE_PUSH, 0),
        };
        let common = [
            own,
            (id::INITIAL_WINDOW_SIZE, self.stream_window_bytes),
            (id::MAX_FRAME_SIZE, self.frame_bytes_max),
            (id::MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES_MAX as u32),
        ];
        frame::settings(out, &common);
        let more = self.connection_window_bytes.saturating_sub(WINDOW_DEFAULT);
        if more > 0 {
            frame::window_update(out, 0, more);
        }
    }
}

/// What the peer has told us, or not.
#[derive(Clone, Debug)]
pub(super) struct PeerSettings {
    pub(super) stream_window_bytes: u32,
    pub(super) frame_bytes_max: usize,
    /// Streams we may have open, as a client.
    pub(super) streams_max: u32,
    /// Bytes of a header list it takes, advisory; names, values and 32 bytes a field.
    pub(super) header_list_bytes_max: u32,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            stream_window_bytes: WINDOW_DEFAULT,
            frame_bytes_max: FRAME_BYTES_DEFAULT as usize,
            streams_max: u32::MAX,
            header_list_bytes_max: u32::MAX,
        }
    }
}

impl<T> Connection<T> {
    /// Takes the peer's settings over, and says so.
    pub(super) fn apply_settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        for setting in payload.chunks_exact(6) {
            let (number, value) = (u16::from_be_bytes([setting[0], setting[1]]), read_u32(&setting[2..]));
            match number {
                id::HEADER_TABLE_SIZE => self.encoder.set_peer_table_bytes(value),
                id::ENABLE_PUSH if value > 1 => {
                    return Err(self.fault(ErrorCode::PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1"));
                }
                id::MAX_CONCURRENT_STREAMS => self.peer.streams_max = value,
                id::INITIAL_WINDOW_SIZE => self.apply_window(value)?,
                id::MAX_FRAME_SIZE => {
                    if !(FRAME_BYTES_DEFAULT..1 << 24).contains(&value) {
                        return Err(self.fault(
                            ErrorCode::PROTOCOL_ERROR,
                            "MAX_FRAME_SIZE is not between 16,384 and 16,777,215",
                        ));
                    }
                    self.peer.frame_bytes_max = value as usize;
                }
                // Heeded by whoever makes the lists.
                id::MAX_HEADER_LIST_SIZE => self.peer.header_list_bytes_max = value,
                // The rest is not for us.
                _ => {}
            }
        }
        frame::settings_ack(&mut self.out);
        Ok(())
    }

    fn apply_window(&mut self, value: u32) -> Result<(), Fault> {
        if value > WINDOW_MAX {
            return Err(self.fault(ErrorCode::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is above 2^31 - 1"));
        }
        let growth = i64::from(value) - i64::from(self.peer.stream_window_bytes);
        self.peer.stream_window_bytes = value;
        // A walk over all streams is not as cheap as other settings.
        self.count_nuisance(1 + self.streams.len() as u32 / 64)?;
        let mut is_within = true;
        for (&number, stream) in &mut self.streams {
            is_within &= stream.send.grow(growth);
            if growth > 0 && stream.has_work() && !stream.is_queued {
                stream.is_queued = true;
                self.queue.push_back(number);
            }
        }
        if is_within {
            return Ok(());
        }
        Err(self
            .fault(ErrorCode::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE makes a window larger than 2^31 - 1"))
    }
}

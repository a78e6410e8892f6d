//! Every limit of a connection, by name. What is announced to the peer is in [`crate::Announced`].

/// Bytes of one header block as it comes, all its frames together. Clients stay far below; what is larger is refused with the connection,
/// because the block has to be read to its end to keep the compression state (CVE-2024-27316 is a block without end).
pub const HEADER_BLOCK_BYTES_MAX: usize = 64 << 10;
/// Bytes of one header list, decoded, 32 more counted for each field (RFC 9113, 6.5.2). gRPC libraries use 8 KiB or 16 KiB.
pub const HEADER_LIST_BYTES_MAX: usize = 16 << 10;
/// Bytes of one header list, counted alike, above which it is not even decoded to its end and the connection is closed: a block of 64 KiB
/// can stand for a list of many megabytes. What honest clients send too much of is refused call by call.
pub const HEADER_LIST_BYTES_DECODED: usize = 128 << 10;
/// Bytes of the table that compresses headers, on either side: the protocol's default.
pub const HEADER_TABLE_BYTES: usize = 4096;
/// Frames that carry nothing of use (pings, settings, empty data, resets, priorities, what nobody knows) within one tick, and each KiB of
/// header lists that are too large. Beyond it the connection is closed with `ENHANCE_YOUR_CALM`. Many, because the deadlines of a busy
/// client run out together.
pub const NUISANCES_PER_TICK_MAX: u32 = 20_000;
/// Bytes made ready to be written at a time. More stays with the streams, where it is sent in turn.
pub const OUTGOING_BYTES_MAX: usize = 256 << 10;
/// Bytes ready to be written above which nothing more should be read from the peer: it asks and does not listen.
pub const OUTGOING_BYTES_STALLED: usize = 1 << 20;
/// Bytes of one stream that go out before the next stream's turn.
pub const TURN_BYTES: usize = 64 << 10;
/// A stream has room for more while it has fewer bytes than this that wait to be sent.
pub const STREAM_WAITING_BYTES: usize = 64 << 10;
/// Bytes that wait to be sent on all streams together above which a stream has room only while none of its own wait: a client that opens
/// many streams and reads none of them.
pub const CONNECTION_WAITING_BYTES: usize = 32 << 20;
/// Bytes that wait to be sent on all streams together with which no stream has room, until a quarter of them has gone.
pub const CONNECTION_WAITING_BYTES_MAX: usize = 64 << 20;
/// Data shorter than this is copied behind what it follows; longer data is written from where it lies.
pub const COPIED_BYTES_MAX: usize = 4096;

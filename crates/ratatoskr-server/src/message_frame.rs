//! How gRPC delimits messages on a stream: a byte that says whether it is compressed (never here), and its length.

use bytes::{BufMut, BytesMut};

/// Bytes before each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Writes a message with its prefix.
pub(crate) fn put_message(buffer: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = buffer.len();
    buffer.put_bytes(0, PREFIX_BYTES);
    write(buffer);
    let length = (buffer.len() - start - PREFIX_BYTES) as u32;
    buffer[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

//! [`Requests`]: whole gRPC messages out of a call's data, within the limit of one request.
//!
//! ```text
//!   data    [ 0 l l l l m m m | m m 0 l l ] [ l l m m m m … ]      0: not compressed, l: length, m: message
//!   next ─▶ Bytes "mmmmm" (shared where it lies in one piece), "mmmm" …
//! ```
//!
//! Nothing is reserved for what a length claims: memory grows with what has come.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use tonic::Status;

use crate::limits::{GATHERED_BYTES_PER_CONNECTION_MAX, REQUEST_BYTES_MAX};
use crate::message_frame::PREFIX_BYTES;

/// See the file's head.
#[derive(Default)]
pub(super) struct Requests {
    /// The newest data, as far as it has not been given out.
    newest: Bytes,
    /// A message, prefix and all, that began in earlier data; empty if none did.
    begun: BytesMut,
    /// Bytes that all requests of the connection keep together …
    total: Rc<Cell<usize>>,
    /// … and how many of them are these.
    counted: usize,
}

impl Requests {
    /// Requests whose bytes are counted among the others' of their connection, for as long as they are kept.
    pub(super) fn new(total: &Rc<Cell<usize>>) -> Requests {
        Requests { newest: Bytes::new(), begun: BytesMut::new(), total: Rc::clone(total), counted: 0 }
    }

    /// Takes more data.
    pub(super) fn push(&mut self, data: Bytes) {
        if self.newest.is_empty() {
            self.newest = data;
        } else {
            self.begun.extend_from_slice(&self.newest);
            self.begun.extend_from_slice(&data);
            self.newest = Bytes::new();
        }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.newest.len() + self.begun.len()
    }

    /// True if a message has begun and its end has not come.
    pub(super) fn is_cut(&self) -> bool {
        self.bytes() > 0
    }

    /// The next whole message, without its prefix.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.begun.is_empty() {
            let Some(length) = length_of(&self.newest)? else { return Ok(self.keep()) };
            if self.newest.len() < PREFIX_BYTES + length {
                return Ok(self.keep());
            }
            self.newest.advance(PREFIX_BYTES);
            return Ok(Some(self.newest.split_to(length)));
        }
        self.fill(PREFIX_BYTES);
        let Some(length) = length_of(&self.begun)? else { return Ok(None) };
        self.fill(PREFIX_BYTES + length);
        if self.begun.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let mut message = self.begun.split_to(PREFIX_BYTES + length).freeze();
        if self.begun.is_empty() {
            // What is left after a split keeps the whole buffer, uncounted, for as long as the call lasts.
            self.begun = BytesMut::new();
        }
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }

    /// Lets what has begun grow to a length, as far as there is data.
    fn fill(&mut self, length: usize) {
        let missing = length.saturating_sub(self.begun.len()).min(self.newest.len());
        self.begun.extend_from_slice(&self.newest.split_to(missing));
    }

    /// Counts what is kept now, for which the peer may send as much again. Refused if all requests of the connection keep too much.
    pub(super) fn count(&mut self) -> Result<(), Status> {
        self.set_counted(self.bytes());
        if self.total.get() <= GATHERED_BYTES_PER_CONNECTION_MAX {
            return Ok(());
        }
        Err(too_much())
    }

    /// Counts nothing: the peer may send no more in place of what is kept.
    pub(super) fn discount(&mut self) {
        self.set_counted(0);
    }

    fn set_counted(&mut self, bytes: usize) {
        self.total.set(self.total.get() + bytes - self.counted);
        self.counted = bytes;
    }

    /// Copies what is left: the buffer it was read into is used again.
    fn keep(&mut self) -> Option<Bytes> {
        self.begun.extend_from_slice(&self.newest);
        self.newest = Bytes::new();
        None
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.discount();
    }
}

/// All requests of a connection keep too much.
pub(super) fn too_much() -> Status {
    Status::resource_exhausted(format!(
        "requests of this connection that have not come wholly have more than {GATHERED_BYTES_PER_CONNECTION_MAX} bytes; \
         send fewer at a time"
    ))
}

/// The length of the message that begins here; nothing if the prefix is not whole.
fn length_of(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    if prefix[0] != 0 {
        let text =
            "a message is compressed, and the call's grpc-encoding names no compression; send it as it is";
        return Err(Status::invalid_argument(text));
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if length > REQUEST_BYTES_MAX {
        let text = format!(
            "the request has {length} bytes; at most {REQUEST_BYTES_MAX} are allowed: send less at a time"
        );
        return Err(Status::out_of_range(text));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(messages: &[&[u8]]) -> Vec<u8> {
        let mut wire = Vec::new();
        for message in messages {
            wire.push(0);
            wire.extend_from_slice(&(message.len() as u32).to_be_bytes());
            wire.extend_from_slice(message);
        }
        wire
    }

    #[test]
    fn messages_come_out_whole_wherever_data_is_cut() {
        let messages: [&[u8]; 4] = [b"one", b"", b"a longer one", b"x"];
        let wire = wire(&messages);
        for bytes in 1..=wire.len() {
            let (mut requests, mut seen) = (Requests::default(), Vec::new());
            for data in wire.chunks(bytes) {
                requests.push(Bytes::copy_from_slice(data));
                while let Some(message) = requests.next().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages, "data of {bytes}");
            assert!(!requests.is_cut());
        }
    }

    #[test]
    fn data_that_comes_before_the_last_was_looked_at_is_not_lost() {
        let wire = wire(&[b"one", b"two", b"three"]);
        let mut requests = Requests::default();
        requests.push(Bytes::copy_from_slice(&wire[..3]));
        requests.push(Bytes::copy_from_slice(&wire[3..9]));
        assert_eq!(&requests.next().unwrap().unwrap()[..], b"one");
        requests.push(Bytes::copy_from_slice(&wire[9..]));
        assert_eq!(&requests.next().unwrap().unwrap()[..], b"two");
        assert_eq!(&requests.next().unwrap().unwrap()[..], b"three");
        assert_eq!(requests.next().unwrap(), None);
    }

    #[test]
    fn all_that_is_kept_counts_and_nothing_that_is_gone() {
        let total = Rc::default();
        let (mut one, mut other) = (Requests::new(&total), Requests::new(&total));
        one.push(Bytes::from(wire(&[b"whole", b"cut"])).slice(..13));
        other.push(Bytes::from_static(&[0, 0]));
        one.count().unwrap();
        other.count().unwrap();
        assert_eq!(total.get(), 15);
        assert!(one.next().unwrap().is_some());
        one.count().unwrap();
        assert_eq!(total.get(), 5);
        other.discount();
        assert_eq!(total.get(), 3);
        total.set(GATHERED_BYTES_PER_CONNECTION_MAX + 1);
        assert_eq!(other.count().unwrap_err().code(), tonic::Code::ResourceExhausted);
        total.set(5);
        drop(other);
        drop(one);
        assert_eq!(total.get(), 0);
    }

    #[test]
    fn nothing_is_kept_of_a_large_message_that_was_taken() {
        let wire = wire(&[&vec![7; 1 << 20]]);
        let mut requests = Requests::default();
        for data in wire.chunks(16 << 10) {
            requests.push(Bytes::copy_from_slice(data));
            drop(requests.next().unwrap());
        }
        assert!(!requests.is_cut());
        assert_eq!(requests.begun.capacity(), 0);
    }

    #[test]
    fn what_is_compressed_or_too_large_is_refused_at_its_prefix() {
        let mut requests = Requests::default();
        requests.push(Bytes::from_static(&[1, 0, 0, 0, 1]));
        assert_eq!(requests.next().unwrap_err().code(), tonic::Code::InvalidArgument);
        let mut requests = Requests::default();
        requests.push(Bytes::from_static(&[0, 0xff, 0, 0, 0]));
        let refused = requests.next().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
        assert!(refused.message().contains("4278190080"), "{refused}");
    }
}

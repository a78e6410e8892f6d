//! [`Partial`]: how much of a message that has not come wholly lies with the call that reads it.
//!
//! ```text
//!   data    [ 0 l l l l m m m ] [ m m m | 0 l l ] …
//!   kept                  3         6 ─▶ 0: whole; room for 6 stays until the call ends
//! ```
//!
//! Those who serve calls off the hot path gather a message themselves, for which the peer may send as much again. Here it is only counted,
//! among all that a connection has begun and not ended.

use std::cell::Cell;
use std::rc::Rc;

use tonic::Status;

use crate::door::requests::too_much;
use crate::limits::GATHERED_BYTES_PER_CONNECTION_MAX;
use crate::message_frame::PREFIX_BYTES;

/// See the file's head.
pub(super) struct Partial {
    prefix: [u8; PREFIX_BYTES],
    /// How much of the prefix has come.
    prefix_bytes: usize,
    /// Messages that have begun.
    begun: u64,
    /// How much of the message has not.
    missing: usize,
    /// How much of it has, as long as some is missing.
    kept: usize,
    /// The largest message so far: whoever gathers them keeps room for it.
    largest: usize,
    /// What is counted of the sum.
    counted: usize,
    /// The sum over all calls of the connection.
    total: Rc<Cell<usize>>,
}

impl Partial {
    pub(super) fn new(total: &Rc<Cell<usize>>) -> Partial {
        Partial {
            prefix: [0; PREFIX_BYTES],
            prefix_bytes: 0,
            begun: 0,
            missing: 0,
            kept: 0,
            largest: 0,
            counted: 0,
            total: Rc::clone(total),
        }
    }

    /// Data goes on to the call. Refused if all calls of the connection keep too much; answers what this one keeps.
    pub(super) fn pass(&mut self, mut data: &[u8]) -> Result<usize, Status> {
        while !data.is_empty() {
            if self.missing == 0 {
                let come = data.len().min(PREFIX_BYTES - self.prefix_bytes);
                self.prefix[self.prefix_bytes..][..come].copy_from_slice(&data[..come]);
                self.prefix_bytes += come;
                data = &data[come..];
                if self.prefix_bytes == PREFIX_BYTES {
                    let [_, length @ ..] = self.prefix;
                    self.missing = u32::from_be_bytes(length) as usize;
                    self.prefix_bytes = 0;
                    self.begun += 1;
                }
                continue;
            }
            let come = data.len().min(self.missing);
            self.missing -= come;
            self.kept += come;
            self.largest = self.largest.max(self.kept);
            if self.missing == 0 {
                self.kept = 0;
            }
            data = &data[come..];
        }
        self.count(self.largest);
        if self.total.get() > GATHERED_BYTES_PER_CONNECTION_MAX { Err(too_much()) } else { Ok(self.kept) }
    }

    /// Messages that have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    fn count(&mut self, bytes: usize) {
        self.total.set(self.total.get() + bytes - self.counted);
        self.counted = bytes;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.count(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_kept_until_it_is_whole_wherever_it_is_cut() {
        let wire = b"\0\0\0\0\x05hello\0\0\0\0\0\0\0\0\0\x03abc\0\0\0\0\x09half";
        for bytes in 1..=wire.len() {
            let total = Rc::default();
            let mut partial = Partial::new(&total);
            for data in wire.chunks(bytes) {
                partial.pass(data).unwrap();
            }
            assert_eq!((partial.kept, total.get()), (4, 5), "data of {bytes}");
            drop(partial);
            assert_eq!(total.get(), 0);
        }
    }

    #[test]
    fn too_much_of_all_calls_together_is_refused() {
        let total = Rc::new(Cell::new(GATHERED_BYTES_PER_CONNECTION_MAX - 3));
        let mut partial = Partial::new(&total);
        partial.pass(b"\0\0\0\0\x09abc").unwrap();
        assert_eq!(partial.pass(b"d").unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop(partial);
        assert_eq!(total.get(), GATHERED_BYTES_PER_CONNECTION_MAX - 3);
    }
}

//! [`Outgoing`]: bytes that are ready to be written, short ones copied together, long ones where they lie.
//!
//! ```text
//!   [ 9 + head | 9 ] ─▶ (a long payload, shared) ─▶ [ 9 + trailers | 9 + head | … ]
//! ```

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::COPIED_BYTES_MAX;

/// Room that an idle connection may keep.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Goes first, in order.
    whole: VecDeque<Whole>,
    /// What was copied since; goes last.
    tail: BytesMut,
    /// Bytes of all.
    len: usize,
    /// Bytes of those that are shared with other connections.
    shared: usize,
}

#[derive(Debug)]
struct Whole {
    bytes: Bytes,
    is_shared: bool,
}

impl Outgoing {
    /// Bytes that are ready.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are ready and shared with nobody: memory of our own.
    pub fn own(&self) -> usize {
        self.len - self.shared
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rest: bytes that others share.
    pub fn shared(&self) -> usize {
        self.shared
    }

    /// Fills in what can be written in one go; how many slices were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let all = self
            .whole
            .iter()
            .map(|whole| &whole.bytes[..])
            .chain((!self.tail.is_empty()).then_some(&self.tail[..]));
        let mut filled = 0;
        for (slice, bytes) in slices.iter_mut().zip(all) {
            *slice = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// So many bytes have been written.
    pub fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while let Some(first) = self.whole.front_mut() {
            let part = first.bytes.len().min(written);
            self.shared -= if first.is_shared { part } else { 0 };
            if part < first.bytes.len() {
                return first.bytes.advance(part);
            }
            written -= part;
            self.whole.pop_front();
        }
        self.tail.advance(written);
        if self.tail.is_empty() {
            // Back to the beginning of its memory.
            self.tail.clear();
        }
    }

    /// Gives memory back that an idle connection has no use for.
    pub(crate) fn shrink(&mut self) {
        if self.len == 0 && self.tail.capacity() > KEPT_BYTES_MAX {
            self.tail = BytesMut::new();
            self.whole = VecDeque::new();
        }
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(crate) fn put(&mut self, bytes: Bytes, is_shared: bool) {
        if bytes.len() < COPIED_BYTES_MAX {
            return self.copy(&bytes);
        }
        if !self.tail.is_empty() {
            self.whole.push_back(Whole { bytes: self.tail.split().freeze(), is_shared: false });
        }
        self.len += bytes.len();
        self.shared += if is_shared { bytes.len() } else { 0 };
        self.whole.push_back(Whole { bytes, is_shared });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_bytes_are_known_however_they_are_written() {
        let long = Bytes::from(vec![1; COPIED_BYTES_MAX]);
        for step in [1, 7, COPIED_BYTES_MAX, 3 * COPIED_BYTES_MAX] {
            let mut out = Outgoing::default();
            out.copy(b"head");
            out.put(long.clone(), true);
            out.copy(b"head");
            out.put(long.clone(), false);
            out.put(Bytes::from_static(b"short"), true);
            let own = |from: usize| {
                let shared = 4..4 + COPIED_BYTES_MAX;
                (from..2 * COPIED_BYTES_MAX + 13).filter(|place| !shared.contains(place)).count()
            };
            let mut written = 0;
            while !out.is_empty() {
                assert_eq!(out.own(), own(written));
                let part = step.min(out.len());
                out.advance(part);
                written += part;
            }
            assert_eq!((out.own(), out.shared), (0, 0));
        }
    }
}

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
    whole: VecDeque<Bytes>,
    /// What was copied since; goes last.
    tail: BytesMut,
    /// Bytes of all.
    len: usize,
}

impl Outgoing {
    /// Bytes that are ready.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that were copied last: memory of our own.
    pub fn copied(&self) -> usize {
        self.tail.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills in what can be written in one go; how many slices were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let all = self
            .whole
            .iter()
            .map(|bytes| &bytes[..])
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
            if written < first.len() {
                return first.advance(written);
            }
            written -= first.len();
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

    pub(crate) fn put(&mut self, bytes: Bytes) {
        if bytes.len() < COPIED_BYTES_MAX {
            return self.copy(&bytes);
        }
        if !self.tail.is_empty() {
            self.whole.push_back(self.tail.split().freeze());
        }
        self.len += bytes.len();
        self.whole.push_back(bytes);
    }
}

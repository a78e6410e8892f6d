//! gRPC frames out of HTTP/2 chunks: whole messages, or only their number.
//!
//! ```text
//!   chunks    [ 0 l l l l m m m | m m 0 l l ] [ l l m m m m … ]      0: not compressed, l: length, m: message
//!   Splitter  ─▶ Bytes "mmmmm" (shared where it lies in one chunk), "mmmm" …
//!   Counter   ─▶ 1, then 1 …                    (looks at the five bytes before a message, skips the rest)
//! ```
//!
//! Both are pure: they are given chunks and read nothing. They do not understand what a message holds.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes before each message: whether it is compressed (never here) and its length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Gives out whole messages.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// What is left of the newest chunk.
    chunk: Bytes,
    /// A message, prefix and all, that began in an earlier chunk; empty if none did.
    begun: BytesMut,
}

impl Splitter {
    /// Takes the next chunk. Everything [`Splitter::next`] can give has to be taken first.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the chunk before has been split");
        self.chunk = chunk;
    }

    /// The next whole message without its prefix; `None` if another chunk is needed.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if self.begun.is_empty() {
            let length = length_of(&self.chunk).filter(|length| self.chunk.len() >= PREFIX_BYTES + length);
            if let Some(length) = length {
                self.chunk.advance(PREFIX_BYTES);
                return Some(self.chunk.split_to(length));
            }
        }
        self.continue_to(PREFIX_BYTES)?;
        let length = length_of(&self.begun).expect("the prefix is whole");
        self.continue_to(PREFIX_BYTES + length)?;
        let mut message = self.begun.split().freeze();
        message.advance(PREFIX_BYTES);
        Some(message)
    }

    /// Lets the begun message grow to a length; `None` if the chunk ends before.
    fn continue_to(&mut self, length: usize) -> Option<()> {
        let missing = length.saturating_sub(self.begun.len());
        let part = self.chunk.split_to(missing.min(self.chunk.len()));
        self.begun.extend_from_slice(&part);
        (self.begun.len() >= length).then_some(())
    }
}

fn length_of(frame: &[u8]) -> Option<usize> {
    let length = frame.get(1..PREFIX_BYTES)?;
    Some(u32::from_be_bytes(length.try_into().expect("these are four bytes")) as usize)
}

/// Counts messages without looking at them.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// Bytes of the current message that are still to come.
    to_skip: usize,
    /// A prefix that has begun.
    prefix: [u8; PREFIX_BYTES],
    /// How much of the prefix is there.
    prefix_bytes: usize,
}

impl Counter {
    /// How many messages end in this chunk.
    pub(crate) fn count(&mut self, mut chunk: &[u8]) -> u64 {
        let mut ended = 0;
        while !chunk.is_empty() {
            if self.prefix_bytes < PREFIX_BYTES {
                let taken = (PREFIX_BYTES - self.prefix_bytes).min(chunk.len());
                self.prefix[self.prefix_bytes..self.prefix_bytes + taken].copy_from_slice(&chunk[..taken]);
                self.prefix_bytes += taken;
                chunk = &chunk[taken..];
                if self.prefix_bytes < PREFIX_BYTES {
                    break;
                }
                self.to_skip = length_of(&self.prefix).expect("the prefix is whole");
            }
            // A message without bytes ends here at once.
            let skipped = self.to_skip.min(chunk.len());
            self.to_skip -= skipped;
            chunk = &chunk[skipped..];
            if self.to_skip == 0 {
                ended += 1;
                self.prefix_bytes = 0;
            }
        }
        ended
    }
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
    fn messages_come_out_whole_wherever_the_chunks_are_cut() {
        let messages: [&[u8]; 4] = [b"one", b"", b"a longer one", b"x"];
        let wire = wire(&messages);
        for chunk_bytes in 1..=wire.len() {
            let mut splitter = Splitter::default();
            let mut seen = Vec::new();
            for chunk in wire.chunks(chunk_bytes) {
                splitter.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = splitter.next() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages, "chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn counting_agrees_with_splitting() {
        let wire = wire(&[b"one", b"", b"a longer one", b"x", b""]);
        for chunk_bytes in 1..=wire.len() {
            let mut counter = Counter::default();
            let ended: u64 = wire.chunks(chunk_bytes).map(|chunk| counter.count(chunk)).sum();
            assert_eq!(ended, 5, "chunks of {chunk_bytes}");
        }
    }
}

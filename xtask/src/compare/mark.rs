//! What a payload begins with: who sent it, its number, and when it was due. The rest is noise nobody can compress.

use std::time::{Duration, Instant};

/// Bytes of a mark.
const MARK_BYTES: usize = 20;

/// Who, which, when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) producer: u32,
    pub(crate) number: u64,
    /// Since the beginning of the load.
    pub(crate) due: Duration,
}

impl Mark {
    pub(crate) fn write(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.producer.to_le_bytes());
        payload[4..12].copy_from_slice(&self.number.to_le_bytes());
        payload[12..MARK_BYTES].copy_from_slice(&(self.due.as_nanos() as u64).to_le_bytes());
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Mark> {
        let (producer, rest) = payload.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let due = rest.first_chunk::<8>()?;
        Some(Mark {
            producer: u32::from_le_bytes(*producer),
            number: u64::from_le_bytes(*number),
            due: Duration::from_nanos(u64::from_le_bytes(*due)),
        })
    }

    /// How long ago it was due.
    pub(crate) fn age(self, began: Instant) -> Duration {
        began.elapsed().saturating_sub(self.due)
    }
}

/// A payload of noise, to be marked.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut payload = vec![0; bytes.max(MARK_BYTES)];
    fastrand::Rng::with_seed(7).fill(&mut payload);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mut payload = noise(256);
        let mark = Mark { producer: 7, number: 1 << 40, due: Duration::from_nanos(123_456_789_012) };
        mark.write(&mut payload);
        assert_eq!(Mark::read(&payload), Some(mark));
        assert_eq!(Mark::read(&payload[..19]), None);
    }
}

//! A message that can prove what it is: who sent it, as which one, and that no byte changed.
//!
//! ```text
//! 0          4           12                    n − 4        n
//! │ sender   │ sequence  │ filler (any bytes)  │ CRC-32C    │   little endian
//! ```

use bytes::Bytes;

/// Sender, sequence and checksum.
pub(super) const PAYLOAD_BYTES_MIN: u32 = 16;

/// What a payload says about itself once its checksum has been found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which publisher sent it.
    pub(super) sender: u32,
    /// How many that publisher had sent before.
    pub(super) sequence: u64,
    /// The checksum of everything before it: tells messages apart.
    pub(super) checksum: u32,
}

/// Makes a payload of `bytes` bytes, at least [`PAYLOAD_BYTES_MIN`].
pub(super) fn payload(
    sender: u32,
    sequence: u64,
    bytes: usize,
    random: &mut fastrand::Rng,
) -> (Bytes, Stamp) {
    let mut payload = vec![0; bytes];
    let (body, tail) = payload.split_at_mut(bytes - 4);
    body[..4].copy_from_slice(&sender.to_le_bytes());
    body[4..12].copy_from_slice(&sequence.to_le_bytes());
    random.fill(&mut body[12..]);
    let checksum = crc32c::crc32c(body);
    tail.copy_from_slice(&checksum.to_le_bytes());
    (Bytes::from(payload), Stamp { sender, sequence, checksum })
}

/// Reads a payload; none if it is not what a publisher of this run sent.
pub(super) fn stamp(payload: &[u8]) -> Option<Stamp> {
    let (body, tail) = payload.split_last_chunk::<4>()?;
    let (sender, rest) = body.split_first_chunk::<4>()?;
    let (sequence, _) = rest.split_first_chunk::<8>()?;
    let checksum = u32::from_le_bytes(*tail);
    let stamp =
        Stamp { sender: u32::from_le_bytes(*sender), sequence: u64::from_le_bytes(*sequence), checksum };
    (crc32c::crc32c(body) == checksum).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_who_sent_it() {
        let (payload, sent) = payload(7, 9, 100, &mut fastrand::Rng::with_seed(1));
        assert_eq!(payload.len(), 100);
        assert_eq!(stamp(&payload), Some(sent));
    }

    #[test]
    fn one_changed_bit_is_seen() {
        let (payload, _) = payload(7, 9, PAYLOAD_BYTES_MIN as usize, &mut fastrand::Rng::with_seed(1));
        for bit in 0..payload.len() * 8 {
            let mut changed = payload.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(stamp(&changed), None);
        }
        assert_eq!(stamp(b"short"), None);
    }
}

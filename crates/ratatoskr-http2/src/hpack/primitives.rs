//! Integers and strings, the two things HPACK is made of (RFC 7541 section 5).
//!
//! ```text
//!  integer with a 5-bit prefix     10 → ppp01010     1337 → ppp11111 10011010 00001010
//!  string                          H + length (7-bit prefix), then the bytes, Huffman if H
//! ```
//!
//! Invariants: a [`Reader`] never reads past its block, and a string is at most what is left of it
//! (8/5 of that once it is Huffman-decoded). Integers are at most 32 bits. Writing never uses Huffman:
//! the few short strings we send are not worth the time.

use bytes::{BufMut, BytesMut};

use super::{HpackError, huffman};

/// The bytes that may follow a full prefix: five times seven bits hold any `u32`.
const INTEGER_BYTES_MAX: u32 = 5;
/// The bit before a string's length that says Huffman.
const HUFFMAN_FLAG: u8 = 0x80;

/// What is left of a header block.
pub(super) struct Reader<'a> {
    /// Shrinks from the front with each read.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(block: &'a [u8]) -> Reader<'a> {
        Reader { rest: block }
    }

    /// The next byte, which says what follows; none at the end of the block.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// An integer whose first byte has `prefix_bits` for it (RFC 7541 section 5.1).
    pub(super) fn integer(&mut self, prefix_bits: u8) -> Result<u32, HpackError> {
        let prefix_max = u8::MAX >> (8 - prefix_bits);
        let prefix = self.byte()? & prefix_max;
        if prefix < prefix_max { Ok(u32::from(prefix)) } else { self.long_integer(prefix) }
    }

    /// Appends a string to `text` (RFC 7541 section 5.2).
    pub(super) fn string(&mut self, text: &mut Vec<u8>) -> Result<(), HpackError> {
        let is_huffman = self.peek().is_some_and(|first| first & HUFFMAN_FLAG != 0);
        let length = self.integer(7)? as usize;
        let (string, rest) = self.rest.split_at_checked(length).ok_or(HpackError::Truncated)?;
        self.rest = rest;
        if is_huffman {
            return huffman::decode(string, text);
        }
        text.extend_from_slice(string);
        Ok(())
    }

    /// The rest of an integer whose prefix is full: seven bits a byte, the lowest first.
    fn long_integer(&mut self, prefix: u8) -> Result<u32, HpackError> {
        let mut value = u64::from(prefix);
        for place in 0..INTEGER_BYTES_MAX {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| HpackError::IntegerOverflow);
            }
        }
        Err(HpackError::IntegerOverflow)
    }

    fn byte(&mut self) -> Result<u8, HpackError> {
        let (&byte, rest) = self.rest.split_first().ok_or(HpackError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }
}

/// Writes `value` behind the bits of `pattern`, which leave `prefix_bits` of their byte for it.
pub(super) fn put_integer(pattern: u8, prefix_bits: u8, value: u32, out: &mut BytesMut) {
    let prefix_max = u8::MAX >> (8 - prefix_bits);
    let Some(mut left) = value.checked_sub(u32::from(prefix_max)) else {
        out.put_u8(pattern | value as u8);
        return;
    };
    out.put_u8(pattern | prefix_max);
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

/// Writes a string as it is, without Huffman.
pub(super) fn put_string(string: &[u8], out: &mut BytesMut) {
    let length = u32::try_from(string.len()).expect("a header string is far below 4 GiB");
    put_integer(0, 7, length, out);
    out.put_slice(string);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], prefix_bits: u8) -> Result<u32, HpackError> {
        Reader::new(bytes).integer(prefix_bits)
    }

    /// RFC 7541 appendix C.1.
    #[test]
    fn the_integers_of_the_rfc_are_read_and_written() {
        for (bytes, prefix_bits, value) in
            [(&[0x0a][..], 5, 10), (&[0x1f, 0x9a, 0x0a], 5, 1337), (&[0x2a], 8, 42)]
        {
            assert_eq!(read(bytes, prefix_bits), Ok(value));
            let mut out = BytesMut::new();
            put_integer(0, prefix_bits, value, &mut out);
            assert_eq!(&out[..], bytes);
        }
    }

    #[test]
    fn every_prefix_carries_the_borders_of_each_length() {
        for prefix_bits in 1..=8 {
            for value in [0, 1, 30, 31, 32, 126, 127, 128, 255, 256, 16_510, u32::MAX - 1, u32::MAX] {
                let mut out = BytesMut::new();
                put_integer(0, prefix_bits, value, &mut out);
                assert_eq!(read(&out, prefix_bits), Ok(value), "{value} behind {prefix_bits} bits");
            }
        }
    }

    #[test]
    fn an_integer_above_32_bits_is_refused() {
        assert_eq!(read(&[0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f], 7), Ok(u32::MAX));
        assert_eq!(read(&[0x7f, 0x81, 0xff, 0xff, 0xff, 0x0f], 7), Err(HpackError::IntegerOverflow));
        assert_eq!(read(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], 7), Err(HpackError::IntegerOverflow));
    }

    #[test]
    fn an_integer_stretched_with_zeros_is_refused() {
        let stretched = [0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(read(&stretched, 7), Err(HpackError::IntegerOverflow));
    }

    #[test]
    fn an_integer_that_ends_early_is_truncated() {
        assert_eq!(read(&[], 7), Err(HpackError::Truncated));
        assert_eq!(read(&[0x7f], 7), Err(HpackError::Truncated));
        assert_eq!(read(&[0x7f, 0x80], 7), Err(HpackError::Truncated));
    }

    #[test]
    fn a_string_longer_than_its_block_is_truncated_and_reserves_nothing() {
        let mut text = Vec::new();
        let result = Reader::new(&[0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f, b'a']).string(&mut text);
        assert_eq!((result, text.capacity()), (Err(HpackError::Truncated), 0));
    }
}

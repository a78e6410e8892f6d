//! Numbers and texts of the journal's events and of checkpoints: LEB128 variable-length integers, and texts with their length before them.

use crate::broken::Broken;

/// Appends a number, seven bits a byte, lowest first.
pub(crate) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

/// Reads what was put, in the same order.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the first byte on.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// True when everything was read.
    pub fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next number.
    pub fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for place in 0..10 {
            let (&byte, rest) = self.bytes.split_first().ok_or("a number ends too early")?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f).checked_shl(place * 7).unwrap_or(0);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number has more than ten bytes".to_owned())
    }

    /// The next bytes that were put with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.number()? as usize;
        let split = self.bytes.split_at_checked(length);
        assert!(split.is_some() || !Broken::Ends.is_on(), "this panic was asked for");
        let (text, rest) = split.ok_or("a text ends too early")?;
        self.bytes = rest;
        Ok(text)
    }

    /// The same as text.
    pub fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_comes_back_and_what_is_cut_is_an_error() {
        let mut bytes = Vec::new();
        for number in [0, 127, 128, 300, u64::MAX] {
            put_number(&mut bytes, number);
        }
        put_text(&mut bytes, "why".as_bytes());
        let mut reader = Reader::new(&bytes);
        for number in [0, 127, 128, 300, u64::MAX] {
            assert_eq!(reader.number(), Ok(number));
        }
        assert_eq!(reader.text(), Ok("why"));
        assert!(reader.is_at_end());
        let mut cut = Reader::new(&bytes[bytes.len() - 4..bytes.len() - 1]);
        assert!(cut.text().is_err());
        assert!(Reader::new(&[0x80; 11]).number().is_err());
    }
}

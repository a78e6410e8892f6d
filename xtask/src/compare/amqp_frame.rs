//! Frames of AMQP 0-9-1 (its specification, chapter 4.2).
//!
//! ```text
//!   kind (1) · channel (2) · length (4) · payload · 0xCE
//!   a method's payload: class (2) · method (2) · arguments
//! ```

use crate::failed::{Failed, Outcome};

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
const END: u8 = 0xce;
/// Kind, channel, length.
const HEAD_BYTES: usize = 7;

/// A frame that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// Length of all of it.
    pub(super) bytes: usize,
}

impl<'a> Frame<'a> {
    /// Class and method, and the arguments, if it is a method.
    pub(super) fn method(&self) -> Option<((u16, u16), &'a [u8])> {
        match self.payload {
            [c0, c1, m0, m1, arguments @ ..] if self.kind == METHOD => {
                Some(((u16::from_be_bytes([*c0, *c1]), u16::from_be_bytes([*m0, *m1])), arguments))
            }
            _ => None,
        }
    }
}

/// The first frame, if it is complete.
pub(super) fn frame(input: &[u8]) -> Outcome<Option<Frame<'_>>> {
    let [kind, _, _, l0, l1, l2, l3, rest @ ..] = input else { return Ok(None) };
    let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
    match (rest.get(..length), rest.get(length)) {
        (Some(payload), Some(&END)) => {
            Ok(Some(Frame { kind: *kind, payload, bytes: HEAD_BYTES + length + 1 }))
        }
        (Some(_), Some(_)) => Err(Failed::new("rabbitmq sent a frame without its end")),
        _ => Ok(None),
    }
}

/// Appends a frame.
pub(super) fn push_frame(kind: u8, channel: u16, payload: &[u8], output: &mut Vec<u8>) {
    output.push(kind);
    output.extend_from_slice(&channel.to_be_bytes());
    output.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    output.extend_from_slice(payload);
    output.push(END);
}

/// A method in the making.
pub(super) struct Writer {
    channel: u16,
    payload: Vec<u8>,
}

impl Writer {
    pub(super) fn method(channel: u16, (class, method): (u16, u16)) -> Writer {
        Writer { channel, payload: Vec::with_capacity(64) }.u16(class).u16(method)
    }

    pub(super) fn u8(mut self, value: u8) -> Writer {
        self.payload.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Writer {
        self.payload.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Writer {
        self.payload.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A short string: at most 255 bytes.
    pub(super) fn text(self, text: &str) -> Writer {
        let mut writer = self.u8(text.len() as u8);
        writer.payload.extend_from_slice(text.as_bytes());
        writer
    }

    pub(super) fn long(self, text: &str) -> Writer {
        let mut writer = self.u32(text.len() as u32);
        writer.payload.extend_from_slice(text.as_bytes());
        writer
    }

    /// A table of strings.
    pub(super) fn table(self, entries: &[(&str, &str)]) -> Writer {
        let bytes = entries.iter().map(|(name, value)| 1 + name.len() + 1 + 4 + value.len()).sum::<usize>();
        let writer = self.u32(bytes as u32);
        entries.iter().fold(writer, |writer, (name, value)| writer.text(name).u8(b'S').long(value))
    }

    /// Appends the frame.
    pub(super) fn finish(self, output: &mut Vec<u8>) {
        push_frame(METHOD, self.channel, &self.payload, output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_is_written_is_read_back() {
        let mut wire = Vec::new();
        Writer::method(1, (50, 10)).u16(0).text("q").u8(2).table(&[("k", "value")]).finish(&mut wire);
        let read = frame(&wire).unwrap().unwrap();
        assert_eq!((read.kind, read.bytes), (METHOD, wire.len()));
        let arguments = b"\0\0\x01q\x02\0\0\0\x0c\x01kS\0\0\0\x05value";
        assert_eq!(read.method(), Some(((50, 10), &arguments[..])));
    }

    #[test]
    fn a_frame_is_read_once_it_is_complete_and_ends_as_it_must() {
        let mut wire = Vec::new();
        push_frame(BODY, 1, b"abc", &mut wire);
        for cut in 0..wire.len() {
            assert_eq!(frame(&wire[..cut]).unwrap(), None);
        }
        *wire.last_mut().unwrap() = 0;
        assert!(frame(&wire).is_err());
    }
}

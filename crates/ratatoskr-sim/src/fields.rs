//! [`Fields`]: a protobuf message, read without its schema, changed a little, and written again.
//!
//! ```text
//!   0a 06 orders 28 e8 07 ──read──▶ 1: "orders", 5: 1000 ──change──▶ 1: "ordzers", 5: 1000
//!                                      │ mended:      0a 07 ordzers 28 e8 07
//!                                      └ not mended:  0a 06 ordzers 28 e8 07
//! ```
//!
//! What has a length may be a text, bytes or a message: the wire does not say. Whatever can be read as fields, and is no text, is taken for a
//! message. Groups, which only dead schemas have, are not read.

use fastrand::Rng;

use crate::mutator::EDGES;

/// Messages within messages that are read; what lies deeper is bytes.
const DEPTH_MAX: u32 = 16;
/// Bits of a tag that say how its value is written.
const KIND_BITS: u32 = 3;
/// Signs that mean something somewhere: in names, numbers, filters.
const SIGNS: &[u8] = b" .,_-/:*'\"()=!<>&|%";

/// Fields of one message, in the order they were written in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fields(Vec<Field>);

#[derive(Clone, Debug, PartialEq)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Varint(u64),
    /// 4 or 8 bytes.
    Fixed(Vec<u8>),
    Sized {
        content: Content,
        /// The length it had when it was read.
        length: usize,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// A text, or any bytes.
    Bytes(Vec<u8>),
    Message(Fields),
}

/// What becomes of the lengths of values that have changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lengths {
    Mended,
    AsTheyWere,
}

impl Fields {
    /// Nothing if the bytes are no fields.
    pub(crate) fn read(bytes: &[u8]) -> Option<Fields> {
        Fields::read_at_depth(bytes, 0)
    }

    fn read_at_depth(mut bytes: &[u8], depth: u32) -> Option<Fields> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = read_varint(&mut bytes)?;
            let number = tag >> KIND_BITS;
            let value = match tag & ((1 << KIND_BITS) - 1) {
                0 => Value::Varint(read_varint(&mut bytes)?),
                1 => Value::Fixed(bytes.split_off(..8)?.to_vec()),
                5 => Value::Fixed(bytes.split_off(..4)?.to_vec()),
                2 => {
                    let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                    Value::Sized { content: Content::read(bytes.split_off(..length)?, depth), length }
                }
                _ => return None,
            };
            if number == 0 {
                return None;
            }
            fields.push(Field { number, value });
        }
        Some(Fields(fields))
    }

    pub(crate) fn write(&self, lengths: Lengths) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Field { number, value } in &self.0 {
            let tag = number << KIND_BITS;
            match value {
                Value::Varint(number) => {
                    write_varint(&mut bytes, tag);
                    write_varint(&mut bytes, *number);
                }
                Value::Fixed(fixed) => {
                    write_varint(&mut bytes, tag | if fixed.len() == 8 { 1 } else { 5 });
                    bytes.extend_from_slice(fixed);
                }
                Value::Sized { content, length } => {
                    let content = match content {
                        Content::Bytes(content) => content,
                        Content::Message(fields) => &fields.write(lengths),
                    };
                    let length = if lengths == Lengths::Mended { content.len() } else { *length };
                    write_varint(&mut bytes, tag | 2);
                    write_varint(&mut bytes, length as u64);
                    bytes.extend_from_slice(content);
                }
            }
        }
        bytes
    }

    /// Changes one place: a value, or that there is this field at all. A donor is another message, whose values fit here or do not.
    pub(crate) fn change(&mut self, donor: &Fields, rng: &mut Rng) {
        let donated = donor.all();
        if self.0.is_empty() {
            self.0.extend(rng.choice(donated).cloned());
            return;
        }
        let at = rng.usize(..self.0.len());
        let field = &mut self.0[at];
        if let Value::Sized { content: Content::Message(inner), .. } = &mut field.value {
            // The message's own fields, more often than it as a whole.
            if rng.u32(..4) > 0 {
                return inner.change(donor, rng);
            }
        }
        match rng.u32(..16) {
            0 => drop(self.0.remove(at)),
            1 => {
                let twice = field.clone();
                self.0.insert(at, twice);
            }
            2 => {
                let foreign = rng.choice(donated).cloned();
                self.0.splice(at..at, foreign);
            }
            3..=6 => {
                let alike: Vec<_> =
                    donated.into_iter().filter(|other| other.value.is_like(&field.value)).collect();
                if let Some(other) = rng.choice(alike) {
                    field.value = other.value.clone();
                }
            }
            _ => field.value.change(rng),
        }
    }

    /// All fields, those of messages within too.
    fn all(&self) -> Vec<&Field> {
        let mut all = Vec::new();
        for field in &self.0 {
            all.push(field);
            if let Value::Sized { content: Content::Message(inner), .. } = &field.value {
                all.extend(inner.all());
            }
        }
        all
    }
}

impl Content {
    fn read(bytes: &[u8], depth: u32) -> Content {
        let is_text = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        let fields =
            if is_text || depth == DEPTH_MAX { None } else { Fields::read_at_depth(bytes, depth + 1) };
        fields.map_or_else(|| Content::Bytes(bytes.to_vec()), Content::Message)
    }
}

impl Value {
    /// Of the same kind: one may stand where the other does.
    fn is_like(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Sized { content, .. }, Value::Sized { content: other, .. }) => {
                std::mem::discriminant(content) == std::mem::discriminant(other)
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    fn change(&mut self, rng: &mut Rng) {
        match self {
            Value::Varint(number) => {
                *number = match rng.u32(..5) {
                    0 => number.wrapping_add(1),
                    1 => number.wrapping_sub(1),
                    2 => *number ^ (1 << rng.u32(..64)),
                    3 => EDGES[rng.usize(..EDGES.len())],
                    _ => rng.u64(..100),
                }
            }
            Value::Fixed(fixed) => {
                let at = rng.usize(..fixed.len());
                fixed[at] ^= 1 << rng.u32(..8);
            }
            Value::Sized { content: Content::Bytes(bytes), .. } => change_text(bytes, rng),
            Value::Sized { content: Content::Message(inner), .. } => inner.0.clear(),
        }
    }
}

/// Changes a text within the characters it is made of; other bytes become any bytes.
fn change_text(text: &mut Vec<u8>, rng: &mut Rng) {
    if text.is_empty() {
        text.push(rng.lowercase() as u8);
        return;
    }
    let at = rng.usize(..text.len());
    match rng.u32(..6) {
        0 | 1 => text[at] = alike(text[at], rng),
        2 => text.insert(at, alike(text[at], rng)),
        3 => drop(text.remove(at)),
        4 => text.truncate(at),
        _ => {
            let piece = text[at..].to_vec();
            text.extend(piece);
        }
    }
}

fn alike(byte: u8, rng: &mut Rng) -> u8 {
    match byte {
        b'a'..=b'z' => rng.lowercase() as u8,
        b'A'..=b'Z' => rng.uppercase() as u8,
        b'0'..=b'9' => rng.digit(10) as u8,
        b' '..=b'~' => SIGNS[rng.usize(..SIGNS.len())],
        _ => rng.u8(..),
    }
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1: "orders", 3: { 1: "a", 2: 300 }, 4: eight bytes, 5: four.
    const MESSAGE: &[u8] = b"\x0a\x06orders\x1a\x06\x0a\x01a\x10\xac\x02\x21........\x2d....";

    #[test]
    fn what_is_read_is_written_again() {
        let fields = Fields::read(MESSAGE).unwrap();
        assert_eq!(fields.all().len(), 6, "the message within is read too");
        assert_eq!(fields.write(Lengths::Mended), MESSAGE);
        assert_eq!(fields.write(Lengths::AsTheyWere), MESSAGE);
    }

    #[test]
    fn bytes_that_are_no_fields_are_not_read() {
        for bytes in [&b"\x0a\x07orders"[..], b"\x0b", b"\x08", b"\x00\x00", &[0xff; 11], b"\x09short"] {
            assert_eq!(Fields::read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn changed_fields_can_be_read_when_their_lengths_are_mended_and_often_not_otherwise() {
        let (mut rng, donor) = (Rng::with_seed(1), Fields::read(MESSAGE).unwrap());
        let mut broken = 0;
        for _ in 0..1000 {
            let mut fields = donor.clone();
            fields.change(&donor, &mut rng);
            assert!(Fields::read(&fields.write(Lengths::Mended)).is_some(), "{fields:?}");
            broken += u32::from(Fields::read(&fields.write(Lengths::AsTheyWere)).is_none());
        }
        assert!((100..900).contains(&broken), "{broken} of 1000 cannot be read");
    }
}

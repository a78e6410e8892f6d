//! What publishers send, read where it lies: no string, map or list is made of it.
//!
//! ```text
//!   [ topic | payload | key … ] ──PublishView::read──▶ &str, &[u8] …      borrowed from the request's bytes
//!   [ topic | m0 | m1 | … ] ──BatchView::read──▶ topic, number, slices    each read in turn
//! ```
//!
//! For the hot path only: what is malformed, or not understood here, is `None`, and whoever asked takes the generated types, which say
//! what is wrong. Invariant: what is read here is what the generated types would read; a test compares them on arbitrary bytes.

/// The fields of a `PublishRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishView<'a> {
    /// See the contract.
    pub topic: &'a str,
    /// See the contract.
    pub payload: &'a [u8],
    /// By name, each name once, as a map has them.
    pub metadata: Vec<(&'a str, &'a str)>,
    /// See the contract.
    pub key: &'a str,
    /// See the contract.
    pub dedup_id: &'a str,
    /// See the contract.
    pub ttl_ms: u64,
    /// See the contract.
    pub deliver_at_ms: i64,
    /// See the contract.
    pub delay_ms: u64,
    /// See the contract.
    pub expected_offset: Option<i64>,
}

/// The fields of a `PublishBatchRequest`, or of a `PublishStreamRequest`.
#[derive(Clone, Debug)]
pub struct BatchView<'a> {
    /// Of a stream's request.
    pub sequence: u64,
    /// The topic of messages that name none.
    pub topic: &'a str,
    /// How many messages there are.
    pub count: usize,
    request: &'a [u8],
    /// The field that messages are in.
    messages: u32,
}

impl<'a> PublishView<'a> {
    /// Reads a request.
    pub fn read(request: &'a [u8]) -> Option<PublishView<'a>> {
        let mut view = PublishView::default();
        let mut fields = Fields(request);
        while let Some(field) = fields.next().ok()? {
            match field {
                (1, Value::Bytes(bytes)) => view.topic = text(bytes)?,
                (2, Value::Bytes(bytes)) => view.payload = bytes,
                (METADATA, Value::Bytes(bytes)) if view.metadata.len() < METADATA_READ_MAX => {
                    view.metadata.push(entry(bytes)?);
                }
                (4, Value::Bytes(bytes)) => view.key = text(bytes)?,
                (5, Value::Bytes(bytes)) => view.dedup_id = text(bytes)?,
                (6, Value::Number(number)) => view.ttl_ms = number,
                (7, Value::Number(number)) => view.deliver_at_ms = number as i64,
                (8, Value::Number(number)) => view.delay_ms = number,
                (9, Value::Number(number)) => view.expected_offset = Some(number as i64),
                (1..=9, _) => return None,
                _ => {}
            }
        }
        if view.metadata.len() > 1 {
            // The last one of a name counts.
            view.metadata.reverse();
            view.metadata.sort_by_key(|&(name, _)| name);
            view.metadata.dedup_by_key(|&mut (name, _)| name);
        }
        Some(view)
    }
}

impl<'a> BatchView<'a> {
    /// Reads a `PublishBatchRequest`, but for its messages.
    pub fn read_batch(request: &'a [u8]) -> Option<BatchView<'a>> {
        BatchView::read(request, 0, 1, 2)
    }

    /// Reads a `PublishStreamRequest`, but for its messages.
    pub fn read_step(request: &'a [u8]) -> Option<BatchView<'a>> {
        BatchView::read(request, 1, 2, 3)
    }

    fn read(request: &'a [u8], sequence: u32, topic: u32, messages: u32) -> Option<BatchView<'a>> {
        let mut view = BatchView { sequence: 0, topic: "", count: 0, request, messages };
        let mut fields = Fields(request);
        while let Some((field, value)) = fields.next().ok()? {
            match value {
                Value::Bytes(_) if field == messages => view.count += 1,
                Value::Bytes(bytes) if field == topic => view.topic = text(bytes)?,
                Value::Number(number) if field == sequence => view.sequence = number,
                _ if field == sequence || field == topic || field == messages => return None,
                _ => {}
            }
        }
        Some(view)
    }

    /// The bytes of each message, in order.
    pub fn messages(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (mut fields, messages) = (Fields(self.request), self.messages);
        std::iter::from_fn(move || {
            loop {
                match fields.next().ok()?? {
                    (field, Value::Bytes(bytes)) if field == messages => return Some(bytes),
                    _ => {}
                }
            }
        })
    }
}

/// How many values the generated types would make of a request: known before they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueCounts {
    /// Messages.
    pub messages: usize,
    /// Metadata entries of all of them.
    pub entries: usize,
}

impl ValueCounts {
    /// Of a `PublishRequest`; `None` if it is malformed.
    pub fn of_message(request: &[u8]) -> Option<ValueCounts> {
        Some(ValueCounts { messages: 1, entries: count(request, METADATA, |_| Some(1))? })
    }

    /// Of a `PublishBatchRequest`.
    pub fn of_batch(request: &[u8]) -> Option<ValueCounts> {
        ValueCounts::of(request, 2)
    }

    /// Of a `PublishStreamRequest`.
    pub fn of_step(request: &[u8]) -> Option<ValueCounts> {
        ValueCounts::of(request, 3)
    }

    fn of(request: &[u8], messages: u32) -> Option<ValueCounts> {
        Some(ValueCounts {
            messages: count(request, messages, |_| Some(1))?,
            entries: count(request, messages, |message| count(message, METADATA, |_| Some(1)))?,
        })
    }
}

/// The field of a `PublishRequest` that metadata is in.
const METADATA: u32 = 3;
/// Entries of a message's metadata beyond which it is not read here: each would be kept.
const METADATA_READ_MAX: usize = 1024;

/// The sum of what each value of a field counts for.
fn count(request: &[u8], number: u32, each: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
    let (mut fields, mut sum) = (Fields(request), 0);
    while let Some((field, value)) = fields.next().ok()? {
        if let Value::Bytes(bytes) = value
            && field == number
        {
            sum += each(bytes)?;
        }
    }
    Some(sum)
}

/// A field's value on the wire.
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes: no field of ours.
    Fixed,
}

/// The bytes are no message.
pub(crate) struct Malformed;

/// Walks the fields of a message.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.field().map(Some).ok_or(Malformed)
    }

    #[inline]
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = u32::try_from(self.number()?).ok()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        // Field 0 does not exist.
        (key >> 3 != 0).then_some((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let (&first, rest) = self.0.split_first()?;
        if first < 0x80 {
            self.0 = rest;
            return Some(first.into());
        }
        let mut number = u64::from(first & 0x7f);
        for (place, &byte) in rest.iter().enumerate().take(9) {
            // The tenth byte has room for one bit.
            if place == 8 && byte > 1 {
                return None;
            }
            number |= u64::from(byte & 0x7f) << (7 * (place + 1));
            if byte < 0x80 {
                self.0 = &rest[place + 1..];
                return Some(number);
            }
        }
        None
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn entry(bytes: &[u8]) -> Option<(&str, &str)> {
    let mut entry = ("", "");
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next().ok()? {
        match field {
            (1, Value::Bytes(bytes)) => entry.0 = text(bytes)?,
            (2, Value::Bytes(bytes)) => entry.1 = text(bytes)?,
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests;

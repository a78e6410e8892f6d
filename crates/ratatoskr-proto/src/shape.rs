//! [`Values`]: how many values a request would become, known before any of them is made.
//!
//! ```text
//!   SettleRequest                          outer: what the request has itself, and what is in its single messages
//!   ├─ settlements ─┬─ token, outcome …    inner: what is in those of which there may be many
//!   └─ messages ────┴─ payload, metadata …
//! ```
//!
//! Which fields are messages is known from the contract: build.rs makes a table of it, so a field that is added is counted, too. Bytes are never
//! looked into, whatever they look like. No message of the contract holds its own kind, so depth is bounded.

use crate::incoming::{Fields, Value};

/// See the file's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) outer: usize,
    pub(crate) inner: usize,
}

/// A message of the contract.
struct Shape {
    name: &'static str,
    inner: &'static [Inner],
}

/// A field that is a message, other than a map's entry.
struct Inner {
    number: u32,
    /// Its place in the table.
    shape: usize,
    is_many: bool,
}

static SHAPES: &[Shape] = &include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

impl Values {
    /// Of the message of this name in the contract, as far as there are no more than `max`; `None` if the bytes are no message, or the contract has no such.
    pub(crate) fn of(message: &[u8], name: &str, max: Values) -> Option<Values> {
        let shape = SHAPES.iter().find(|shape| shape.name == name)?;
        let mut values = Values::default();
        values.add(message, shape, false, max)?;
        Some(values)
    }

    fn add(&mut self, message: &[u8], shape: &Shape, is_inner: bool, max: Values) -> Option<()> {
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next().ok()? {
            *if is_inner { &mut self.inner } else { &mut self.outer } += 1;
            if self.is_beyond(max) {
                break;
            }
            if let Value::Bytes(bytes) = value
                && let Some(inner) = shape.inner.iter().find(|inner| inner.number == number)
            {
                self.add(bytes, &SHAPES[inner.shape], is_inner || inner.is_many, max)?;
            }
        }
        Some(())
    }

    /// More than so many.
    pub(crate) fn is_beyond(self, max: Values) -> bool {
        self.outer > max.outer || self.inner > max.inner
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message as _, Name};

    use super::*;
    use crate::{
        ConsumeRequest, ConsumeSettle, Nack, PublishRequest, SettleRequest, Settlement, consume_request,
        settlement,
    };

    const MANY: Values = Values { outer: 1000, inner: 1000 };

    fn values<M: Name>(message: &M) -> Values {
        Values::of(&message.encode_to_vec(), M::NAME, MANY).unwrap()
    }

    #[test]
    fn what_is_in_a_single_message_counts_as_if_it_stood_outside() {
        let settle = ConsumeSettle { sequence: 1, acks: vec![vec![1].into(); 5], settlements: Vec::new() };
        let step = ConsumeRequest { step: Some(consume_request::Step::Settle(settle)) };
        assert_eq!(values(&step), Values { outer: 1 + 6, inner: 0 });
    }

    #[test]
    fn what_is_in_one_of_many_counts_apart_and_bytes_are_not_looked_into() {
        let nack = settlement::Outcome::Nack(Nack { delay_ms: Some(1), reason: "late".into() });
        let settlement = Settlement { token: vec![1].into(), outcome: Some(nack) };
        let looks_like_many =
            SettleRequest { settlements: vec![settlement.clone(); 50], messages: Vec::new() };
        let message = PublishRequest {
            payload: looks_like_many.encode_to_vec().into(),
            metadata: [("a".into(), "b".into()), ("c".into(), "d".into())].into(),
            ..PublishRequest::default()
        };
        let request = SettleRequest { settlements: vec![settlement; 3], messages: vec![message; 2] };
        // A settlement: token, outcome, delay, reason. A message: payload, two entries.
        assert_eq!(values(&request), Values { outer: 5, inner: 3 * 4 + 2 * 3 });
    }

    #[test]
    fn no_more_is_counted_than_has_to_be() {
        let settle = SettleRequest { settlements: vec![Settlement::default(); 3000], messages: Vec::new() };
        assert_eq!(values(&settle), Values { outer: 1001, inner: 0 });
        assert!(values(&settle).is_beyond(MANY) && !MANY.is_beyond(MANY));
    }

    #[test]
    fn what_is_no_message_has_no_values() {
        let request = SettleRequest { settlements: vec![Settlement::default()], messages: Vec::new() };
        let mut bytes = request.encode_to_vec();
        bytes.extend([0x0a, 2, 0x0a, 9]);
        assert_eq!(Values::of(&bytes, "SettleRequest", MANY), None, "a token longer than its settlement");
        assert_eq!(Values::of(&[], "Unknown", MANY), None);
    }
}

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

use std::fmt;

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

/// Settlements that one request may have, or one step of a stream, in each of its fields.
pub const SETTLEMENTS_MAX: usize = 100_000;
/// Messages that one request may have.
pub const BATCH_MESSAGES_MAX: usize = 10_000;
/// Ids by which one request may pick dead letters.
const PICKED_IDS_MAX: usize = 10_000;

/// How many entries a field may have. Of most fields there are few, and whoever serves the call says how many.
struct EntriesMax {
    message: &'static str,
    number: u32,
    field: &'static str,
    max: usize,
}

/// Fields that may have so many entries that it matters how large each becomes.
const ENTRIES_MAX: [EntriesMax; 5] = [
    EntriesMax { message: "SettleRequest", number: 1, field: "settlements", max: SETTLEMENTS_MAX },
    EntriesMax { message: "SettleRequest", number: 2, field: "messages", max: BATCH_MESSAGES_MAX },
    EntriesMax { message: "ConsumeSettle", number: 2, field: "acks", max: SETTLEMENTS_MAX },
    EntriesMax { message: "ConsumeSettle", number: 3, field: "settlements", max: SETTLEMENTS_MAX },
    EntriesMax { message: "ResolveDeadLettersRequest", number: 2, field: "ids", max: PICKED_IDS_MAX },
];

/// Why a request is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The bytes are no message of the contract.
    NoMessage,
    /// It would become too many values.
    Values { max: Values },
    /// A field has too many entries.
    Entries { field: &'static str, entries: usize, max: usize },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoMessage => f.write_str("it cannot be told what its fields are"),
            Refusal::Values { max: Values { outer, inner } } => {
                write!(f, "it has more values than the {outer}, and {inner} in those, that are allowed")
            }
            Refusal::Entries { field, entries, max } => {
                write!(f, "{field} has {entries} entries; at most {max} are allowed: send several requests")
            }
        }
    }
}

impl Values {
    /// Refuses bytes that are not the message of this name in the contract, and those that would become too much.
    pub(crate) fn check(message: &[u8], name: &str, max: Values) -> Result<Values, Refusal> {
        let shape = SHAPES.iter().find(|shape| shape.name == name).ok_or(Refusal::NoMessage)?;
        let mut values = Values::default();
        values.add(message, shape, false, max)?;
        Ok(values)
    }

    fn add(&mut self, message: &[u8], shape: &Shape, is_inner: bool, max: Values) -> Result<(), Refusal> {
        if !is_inner {
            check_entries(message, shape)?;
        }
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next().map_err(|_| Refusal::NoMessage)? {
            *if is_inner { &mut self.inner } else { &mut self.outer } += 1;
            if self.outer > max.outer || self.inner > max.inner {
                return Err(Refusal::Values { max });
            }
            if let Value::Bytes(bytes) = value
                && let Some(inner) = shape.inner.iter().find(|inner| inner.number == number)
            {
                self.add(bytes, &SHAPES[inner.shape], is_inner || inner.is_many, max)?;
            }
        }
        Ok(())
    }
}

/// Refuses a message of which a field has more entries than it may.
fn check_entries(message: &[u8], shape: &Shape) -> Result<(), Refusal> {
    for EntriesMax { number, field, max, .. } in ENTRIES_MAX.iter().filter(|of| of.message == shape.name) {
        let (mut fields, mut entries) = (Fields(message), 0);
        while let Some((found, _)) = fields.next().map_err(|_| Refusal::NoMessage)? {
            entries += usize::from(found == *number);
        }
        if entries > *max {
            return Err(Refusal::Entries { field, entries, max: *max });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::{Message as _, Name};

    use super::*;
    use crate::{
        ConsumeRequest, ConsumeSettle, Nack, PublishRequest, ResolveDeadLettersRequest, SettleRequest,
        Settlement, consume_request, settlement,
    };

    const MANY: Values = Values { outer: 1000, inner: 1000 };
    const MANY_OUTER: Values = Values { outer: 1000, inner: 0 };

    #[test]
    fn a_field_with_too_many_entries_is_named_with_their_number() {
        let enough = Values { outer: usize::MAX, inner: usize::MAX };
        let settle = |acks: usize, settlements: usize| {
            let (acks, settlements) = (vec![vec![1].into(); acks], vec![Settlement::default(); settlements]);
            let settle = ConsumeSettle { sequence: 0, acks, settlements };
            ConsumeRequest { step: Some(consume_request::Step::Settle(settle)) }
        };
        check(&settle(SETTLEMENTS_MAX, SETTLEMENTS_MAX), enough).unwrap();
        for (request, field) in
            [(settle(SETTLEMENTS_MAX + 1, 0), "acks"), (settle(0, SETTLEMENTS_MAX + 1), "settlements")]
        {
            let refused = check(&request, enough).unwrap_err();
            let says =
                format!("{field} has 100001 entries; at most 100000 are allowed: send several requests");
            assert_eq!(refused.to_string(), says);
        }
        let messages = vec![PublishRequest::default(); BATCH_MESSAGES_MAX + 1];
        let refused = check(&SettleRequest { settlements: Vec::new(), messages }, enough).unwrap_err();
        assert!(refused.to_string().starts_with("messages has 10001 entries; at most 10000"), "{refused}");
        let picked = |ids| ResolveDeadLettersRequest { ids: vec![String::new(); ids], ..Default::default() };
        check(&picked(PICKED_IDS_MAX), enough).unwrap();
        let refused = check(&picked(PICKED_IDS_MAX + 1), enough).unwrap_err();
        assert!(refused.to_string().starts_with("ids has 10001 entries; at most 10000"), "{refused}");
    }

    fn check<M: Name>(message: &M, max: Values) -> Result<Values, Refusal> {
        Values::check(&message.encode_to_vec(), M::NAME, max)
    }

    fn values<M: Name>(message: &M) -> Values {
        check(message, MANY).unwrap()
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
        assert_eq!(check(&settle, MANY), Err(Refusal::Values { max: MANY }));
        let exactly = SettleRequest { settlements: vec![Settlement::default(); 1000], messages: Vec::new() };
        assert_eq!(values(&exactly), MANY_OUTER);
    }

    #[test]
    fn what_is_no_message_has_no_values() {
        let request = SettleRequest { settlements: vec![Settlement::default()], messages: Vec::new() };
        let mut bytes = request.encode_to_vec();
        bytes.extend([0x0a, 2, 0x0a, 9]);
        let refused = Values::check(&bytes, "SettleRequest", MANY);
        assert_eq!(refused, Err(Refusal::NoMessage), "a token longer than its settlement");
        assert_eq!(Values::check(&[], "Unknown", MANY), Err(Refusal::NoMessage));
    }
}

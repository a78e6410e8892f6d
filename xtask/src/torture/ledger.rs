//! What the broker has promised under load, and whether it kept it.
//!
//! Every message has a number that is its payload's first word and its dedup id. A promise is a receipt (this number stands at this
//! offset) or the confirmed ack of a member (this offset never comes again).

use std::collections::{BTreeMap, BTreeSet};

use ratatoskr_proto as wire;

use crate::failed::{Failed, Outcome};

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Acknowledged: number and offset.
    pub(super) receipts: BTreeMap<u64, u64>,
    /// Offsets whose ack was confirmed.
    settled: BTreeSet<u64>,
    /// Offsets that came again after that.
    again: BTreeSet<u64>,
    /// Calls that failed, each tried again.
    pub(super) failures: u64,
}

impl Ledger {
    pub(super) fn confirmed(&mut self, offsets: &[u64]) {
        self.settled.extend(offsets);
    }

    pub(super) fn delivered(&mut self, offset: u64) {
        if self.settled.contains(&offset) {
            self.again.insert(offset);
        }
    }

    pub(super) fn acks(&self) -> usize {
        self.settled.len()
    }

    /// How many promises are broken, given all that is stored. An error says of the first one which.
    pub(super) fn check(&self, stored: &[wire::Message]) -> Outcome<u64> {
        let mut places: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (at, message) in stored.iter().enumerate() {
            if message.offset != at as i64 {
                return Err(Failed::new(format!("offset {} stands where {at} belongs", message.offset)));
            }
            places.entry(number(&message.payload)?).or_default().push(at as u64);
        }
        let missing = self
            .receipts
            .iter()
            .filter(|(number, offset)| places.get(number).is_none_or(|places| !places.contains(offset)));
        let twice = places.values().filter(|places| places.len() > 1);
        let broken = (missing.count() + twice.count() + self.again.len()) as u64;
        Ok(broken)
    }
}

/// The payload of a message: its number, and as many bytes more as the number says.
pub(super) fn payload(number: u64) -> Vec<u8> {
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(payload.len() + (number % 300) as usize, b'.');
    payload
}

/// The number of a message; an error if its payload is not what was sent.
pub(super) fn number(received: &[u8]) -> Outcome<u64> {
    let word = received.split(|byte| *byte == b' ').next().unwrap_or_default();
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.filter(|number| payload(*number) == received).ok_or_else(|| {
        Failed::new(format!(
            "a payload nobody sent: {:?}",
            String::from_utf8_lossy(&received[..received.len().min(40)])
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(numbers: &[u64]) -> Vec<wire::Message> {
        let message = |(offset, number): (usize, &u64)| wire::Message {
            offset: offset as i64,
            payload: payload(*number).into(),
            ..wire::Message::default()
        };
        numbers.iter().enumerate().map(message).collect()
    }

    #[test]
    fn what_is_missing_elsewhere_or_twice_is_counted() {
        let ledger = Ledger { receipts: BTreeMap::from([(7, 0), (8, 1)]), ..Ledger::default() };
        assert_eq!(
            ledger.check(&stored(&[7, 8, 9])).unwrap(),
            0,
            "9 was never acknowledged, and may be there"
        );
        assert_eq!(ledger.check(&stored(&[7])).unwrap(), 1);
        assert_eq!(ledger.check(&stored(&[8, 7])).unwrap(), 2);
        assert_eq!(ledger.check(&stored(&[7, 8, 9, 9])).unwrap(), 1);
    }

    #[test]
    fn a_message_that_comes_again_after_its_ack_was_confirmed_is_counted() {
        let mut ledger = Ledger::default();
        ledger.delivered(0);
        ledger.confirmed(&[0]);
        assert_eq!(ledger.check(&stored(&[7])).unwrap(), 0);
        ledger.delivered(0);
        assert_eq!(ledger.check(&stored(&[7])).unwrap(), 1);
    }

    #[test]
    fn a_changed_payload_is_an_error() {
        assert_eq!(number(&payload(123_456)).unwrap(), 123_456);
        let mut changed = payload(299);
        changed[100] = b'x';
        assert!(number(&changed).is_err());
        assert!(number(b"").is_err());
    }
}

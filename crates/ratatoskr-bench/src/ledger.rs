//! [`Ledger`]: what was published against what arrived.
//!
//! ```text
//!   numbers 0 … N   [ 1 1 1 0 1 … ]     a bit each: set when it arrives; set already ─▶ duplicated
//!                           └── still 0 at the end ─▶ lost
//!   per (reader, publisher)  newest number ── a lower one arrives ─▶ reordered
//! ```
//!
//! Numbers rise for each publisher, not without gaps: its messages may be spread over topics. Two publishers have no order
//! between them. A pure count: it reads no socket and knows no clock.

use std::collections::HashMap;

/// What can be wrong with what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged, and never delivered.
    pub lost: u64,
    /// Delivered more than once.
    pub duplicated: u64,
    /// Delivered after a later one of the same publisher and topic.
    pub reordered: u64,
}

impl Faults {
    /// The sum of two rounds.
    #[must_use]
    pub fn plus(self, other: Faults) -> Faults {
        Faults {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }
}

/// Whether messages have to arrive in the order they were published in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// One reader sees everything in order.
    Kept,
    /// Members share the messages; only their number counts.
    Free,
}

/// The account of one round.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// A bit per number.
    arrived: Vec<u64>,
    /// Messages that were acknowledged; their numbers are below.
    published: u64,
    /// The newest number of each (reader, publisher), while order counts.
    newest: HashMap<(u32, u32), u64>,
    order: Order,
    duplicated: u64,
    reordered: u64,
}

impl Ledger {
    /// An account of the numbers from 0 on.
    pub(crate) fn new(published: u64, order: Order) -> Ledger {
        let arrived = vec![0; (published as usize).div_ceil(64)];
        Ledger { arrived, published, newest: HashMap::new(), order, duplicated: 0, reordered: 0 }
    }

    /// A message arrived at a reader (a topic's subscriber).
    pub(crate) fn arrived(&mut self, reader: u32, publisher: u32, number: u64) {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if word >= self.arrived.len() {
            self.arrived.resize(word + 1, 0);
        }
        if self.arrived[word] & bit != 0 {
            self.duplicated += 1;
            return;
        }
        self.arrived[word] |= bit;
        if self.order == Order::Kept {
            let newest = self.newest.entry((reader, publisher)).or_insert(number);
            if number < *newest {
                self.reordered += 1;
            }
            *newest = number.max(*newest);
        }
    }

    /// What is wrong, now that nothing more will arrive.
    pub(crate) fn faults(&self) -> Faults {
        let arrived: u64 = self.arrived.iter().map(|word| u64::from(word.count_ones())).sum();
        let lost = self.published.saturating_sub(arrived);
        Faults { lost, duplicated: self.duplicated, reordered: self.reordered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(order: Order, arrivals: &[(u32, u64)]) -> Faults {
        let mut ledger = Ledger::new(4, order);
        for &(publisher, number) in arrivals {
            ledger.arrived(0, publisher, number);
        }
        ledger.faults()
    }

    #[test]
    fn everything_once_and_in_order_is_no_fault() {
        let seen = faults(Order::Kept, &[(0, 0), (1, 3), (0, 1), (0, 2)]);
        assert_eq!(seen, Faults::default());
    }

    #[test]
    fn what_never_arrives_is_lost() {
        assert_eq!(faults(Order::Kept, &[(0, 0), (0, 3)]), Faults { lost: 2, ..Faults::default() });
    }

    #[test]
    fn what_arrives_twice_is_duplicated_and_not_reordered() {
        let seen = faults(Order::Kept, &[(0, 0), (0, 1), (0, 2), (0, 3), (0, 1)]);
        assert_eq!(seen, Faults { duplicated: 1, ..Faults::default() });
    }

    #[test]
    fn what_arrives_late_is_reordered_and_not_lost() {
        let arrivals = [(0, 1), (0, 0), (0, 2), (0, 3)];
        assert_eq!(faults(Order::Kept, &arrivals), Faults { reordered: 1, ..Faults::default() });
        assert_eq!(faults(Order::Free, &arrivals), Faults::default());
    }

    #[test]
    fn readers_have_no_order_between_them() {
        let mut ledger = Ledger::new(2, Order::Kept);
        ledger.arrived(0, 0, 1);
        ledger.arrived(1, 0, 0);
        assert_eq!(ledger.faults(), Faults::default());
    }
}

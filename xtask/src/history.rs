//! The history checker: given everything that one observer saw, did the broker keep its word?
//!
//! ```text
//!   workers ──facts, in the order they were seen──▶ History ──check──▶ violations
//!                stored messages, dead letters ────────────────▲
//! ```
//!
//! One pass over the facts, one entry per message and per key: time and memory are proportional to what there is. What is sent is
//! recorded before it leaves, what is received once it is here, so "before" here means before in truth too. What it
//! concludes: see [`Violation`]. It trusts nothing the broker says about itself.

use std::collections::HashMap;
use std::fmt;

/// What the message's own words say is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It can be handled.
    Good,
    /// It is rejected at first sight.
    Poison,
    /// It is nacked until its attempts are used up.
    Failing,
}

/// Something the observer saw. Messages are named by their offset.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact {
    /// A worker got it.
    Delivered { offset: u64, key: u32 },
    /// A worker's ack is on its way.
    AckSent { offset: u64 },
    /// The broker said that it is settled.
    AckConfirmed { offset: u64 },
    /// The broker said that the ack came too late, or could not be taken.
    AckRefused { offset: u64 },
}

/// A message as the topic holds it in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) offset: u64,
    /// The publisher's number.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
}

/// A dead letter as it stands in the end.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) offset: u64,
    pub(crate) reason: String,
    pub(crate) attempts: u32,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The publisher was told that it is on disk, and the topic does not have it.
    PublishLost { id: u64 },
    /// The subscription says that it is done, and nobody ever settled it.
    NeverSettled { offset: u64 },
    /// It came again after its ack had been confirmed.
    DeliveredAfterAck { offset: u64 },
    /// It came after a later message of its key.
    OutOfOrder { key: u32, offset: u64, after: u64 },
    /// It should be among the dead letters once, and is there this often.
    NotDeadOnce { offset: u64, times: usize },
    /// It is a dead letter and should not be.
    WronglyDead { offset: u64, reason: String },
    /// It is a dead letter for another reason, or after another number of attempts, than it should be.
    WrongReason { offset: u64, reason: String, attempts: u32 },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::PublishLost { id } => {
                write!(f, "message {id} was acknowledged to its publisher and is lost")
            }
            Violation::NeverSettled { offset } => write!(f, "offset {offset} is gone and nobody settled it"),
            Violation::DeliveredAfterAck { offset } => {
                write!(f, "offset {offset} was delivered again after its ack had been confirmed")
            }
            Violation::OutOfOrder { key, offset, after } => {
                write!(f, "offset {offset} of key {key} was delivered after offset {after} of the same key")
            }
            Violation::NotDeadOnce { offset, times } => {
                write!(f, "offset {offset} should be one dead letter and is {times}")
            }
            Violation::WronglyDead { offset, reason } => {
                write!(f, "offset {offset} is a dead letter ({reason:?}) and should have been handled")
            }
            Violation::WrongReason { offset, reason, attempts } => {
                write!(f, "offset {offset} died of {reason:?} after {attempts} attempts, which is wrong")
            }
        }
    }
}

/// What was seen, in order.
#[derive(Default)]
pub(crate) struct History {
    facts: Vec<Fact>,
    /// Numbers of messages whose publication was acknowledged.
    pub(crate) published: Vec<u64>,
}

/// What is known of one message.
#[derive(Clone, Copy, Default)]
struct Known {
    deliveries: u32,
    /// Acks sent of which it is not known what became.
    acks_open: u32,
    ack_confirmed: bool,
}

/// Figures of a history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) deliveries: u64,
    pub(crate) redeliveries: u64,
    pub(crate) acks_confirmed: u64,
}

/// What the broker shows in the end.
pub(crate) struct End<'a> {
    pub(crate) stored: &'a [Stored],
    pub(crate) dead: &'a [Dead],
    /// Deliveries after which a failing message is dead.
    pub(crate) attempts_max: u32,
}

impl History {
    pub(crate) fn record(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Everything that is wrong.
    pub(crate) fn check(&self, end: &End<'_>) -> (Figures, Vec<Violation>) {
        let mut violations = Vec::new();
        let mut known: HashMap<u64, Known> = HashMap::with_capacity(end.stored.len());
        let figures = self.replay(&mut known, &mut violations);
        let mut dead: HashMap<u64, Vec<&Dead>> = HashMap::new();
        for letter in end.dead {
            dead.entry(letter.offset).or_default().push(letter);
        }
        let stored_ids: std::collections::HashSet<u64> = end.stored.iter().map(|stored| stored.id).collect();
        let lost = self.published.iter().filter(|id| !stored_ids.contains(id));
        violations.extend(lost.map(|&id| Violation::PublishLost { id }));
        for stored in end.stored {
            let letters = dead.remove(&stored.offset).unwrap_or_default();
            let known = known.get(&stored.offset).copied().unwrap_or_default();
            check_fate(stored, known, &letters, end.attempts_max, &mut violations);
        }
        let unknown = dead.into_values().flatten();
        violations.extend(
            unknown.map(|letter| Violation::WronglyDead {
                offset: letter.offset,
                reason: letter.reason.clone(),
            }),
        );
        (figures, violations)
    }

    fn replay(&self, known: &mut HashMap<u64, Known>, violations: &mut Vec<Violation>) -> Figures {
        let mut figures = Figures::default();
        let mut latest: HashMap<u32, u64> = HashMap::new();
        for fact in &self.facts {
            match *fact {
                Fact::Delivered { offset, key } => {
                    let message = known.entry(offset).or_default();
                    message.deliveries += 1;
                    figures.deliveries += 1;
                    figures.redeliveries += u64::from(message.deliveries > 1);
                    if message.ack_confirmed {
                        violations.push(Violation::DeliveredAfterAck { offset });
                    }
                    let after = latest.entry(key).or_insert(offset);
                    if *after > offset {
                        violations.push(Violation::OutOfOrder { key, offset, after: *after });
                    }
                    *after = (*after).max(offset);
                }
                Fact::AckSent { offset } => known.entry(offset).or_default().acks_open += 1,
                Fact::AckRefused { offset } => known.entry(offset).or_default().acks_open -= 1,
                Fact::AckConfirmed { offset } => {
                    figures.acks_confirmed += 1;
                    known.entry(offset).or_default().ack_confirmed = true;
                }
            }
        }
        figures
    }
}

/// How one stored message ended, against how it should have.
fn check_fate(
    stored: &Stored,
    known: Known,
    letters: &[&Dead],
    attempts_max: u32,
    violations: &mut Vec<Violation>,
) {
    let offset = stored.offset;
    let expected = match stored.kind {
        Kind::Good => {
            violations.extend(
                letters.iter().map(|letter| Violation::WronglyDead { offset, reason: letter.reason.clone() }),
            );
            // A confirmation can be lost with the broker that was killed; an ack that was never sent cannot.
            if letters.is_empty() && !known.ack_confirmed && known.acks_open == 0 {
                violations.push(Violation::NeverSettled { offset });
            }
            return;
        }
        Kind::Poison => format!("poison {}", stored.id),
        Kind::Failing => format!("failing {}", stored.id),
    };
    let [letter] = letters else {
        violations.push(Violation::NotDeadOnce { offset, times: letters.len() });
        return;
    };
    // A failing message can be in the hands of a worker that dies when its attempts are used up.
    let by_chance = ["member vanished", "lease ended"].contains(&letter.reason.as_str());
    let right = match stored.kind {
        Kind::Failing => letter.attempts == attempts_max && (letter.reason == expected || by_chance),
        _ => letter.reason == expected,
    };
    if !right {
        let (reason, attempts) = (letter.reason.clone(), letter.attempts);
        violations.push(Violation::WrongReason { offset, reason, attempts });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(offset: u64) -> Fact {
        Fact::Delivered { offset, key: 7 }
    }

    fn stored(offset: u64, kind: Kind) -> Stored {
        Stored { offset, id: offset + 100, kind }
    }

    fn violations(facts: &[Fact], all: &[Stored], dead: &[Dead]) -> Vec<Violation> {
        let published = all.iter().map(|stored| stored.id).collect();
        let history = History { facts: facts.to_vec(), published };
        history.check(&End { stored: all, dead, attempts_max: 3 }).1
    }

    const DONE: [Fact; 3] = [
        Fact::Delivered { offset: 0, key: 7 },
        Fact::AckSent { offset: 0 },
        Fact::AckConfirmed { offset: 0 },
    ];

    #[test]
    fn a_good_history_has_no_violations() {
        let all =
            [stored(0, Kind::Good), stored(1, Kind::Poison), stored(2, Kind::Failing), stored(3, Kind::Good)];
        let dead = [
            Dead { offset: 1, reason: "poison 101".to_owned(), attempts: 1 },
            Dead { offset: 2, reason: "member vanished".to_owned(), attempts: 3 },
        ];
        let mut facts = DONE.to_vec();
        facts.extend([delivered(1), delivered(2), delivered(2), delivered(3), Fact::AckSent { offset: 3 }]);
        assert_eq!(violations(&facts, &all, &dead), []);
    }

    #[test]
    fn each_broken_promise_is_seen() {
        let good = [stored(0, Kind::Good)];
        assert_eq!(violations(&[delivered(0)], &good, &[]), [Violation::NeverSettled { offset: 0 }]);
        let too_late = [delivered(0), Fact::AckSent { offset: 0 }, Fact::AckRefused { offset: 0 }];
        assert_eq!(violations(&too_late, &good, &[]), [Violation::NeverSettled { offset: 0 }]);
        let mut again = DONE.to_vec();
        again.push(delivered(0));
        assert_eq!(violations(&again, &good, &[]), [Violation::DeliveredAfterAck { offset: 0 }]);
        let two = [stored(0, Kind::Good), stored(1, Kind::Good)];
        let facts = [delivered(1), Fact::AckSent { offset: 1 }, delivered(0), Fact::AckSent { offset: 0 }];
        assert_eq!(violations(&facts, &two, &[]), [Violation::OutOfOrder { key: 7, offset: 0, after: 1 }]);
        let history = History { facts: DONE.to_vec(), published: vec![100, 999] };
        let end = End { stored: &good, dead: &[], attempts_max: 3 };
        assert_eq!(history.check(&end).1, [Violation::PublishLost { id: 999 }]);
    }

    #[test]
    fn each_wrong_death_is_seen() {
        let letter = |offset, reason: &str, attempts| Dead { offset, reason: reason.to_owned(), attempts };
        let poison = [stored(1, Kind::Poison)];
        assert_eq!(violations(&[], &poison, &[]), [Violation::NotDeadOnce { offset: 1, times: 0 }]);
        let twice = [letter(1, "poison 101", 1), letter(1, "poison 101", 1)];
        assert_eq!(violations(&[], &poison, &twice), [Violation::NotDeadOnce { offset: 1, times: 2 }]);
        let wrong = Violation::WrongReason { offset: 1, reason: "lease ended".to_owned(), attempts: 1 };
        assert_eq!(violations(&[], &poison, &[letter(1, "lease ended", 1)]), [wrong]);
        let failing = [stored(2, Kind::Failing)];
        let early = Violation::WrongReason { offset: 2, reason: "failing 102".to_owned(), attempts: 2 };
        assert_eq!(violations(&[], &failing, &[letter(2, "failing 102", 2)]), [early]);
        let wrongly = Violation::WronglyDead { offset: 0, reason: "x".to_owned() };
        assert_eq!(violations(&DONE, &[stored(0, Kind::Good)], &[letter(0, "x", 1)]), [wrongly]);
    }
}

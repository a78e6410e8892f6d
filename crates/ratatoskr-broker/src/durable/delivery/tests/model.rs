//! A random life against a model: it knows of each message whether it is in play, leased, in the hands of the journal, or gone.
//!
//! ```text
//!   steps ──▶ Run ──events──▶ Delivery ──effects──▶ Run: may that be?      after each step: is every message in one place?
//! ```
//!
//! Where a message stands that the journal refused is asked of the delivery; everything else the model knows by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use ratatoskr_log::Moment;

use super::super::super::event::{Booking, Effect, Event, Leaving, MemberId, Outcome, Window};
use super::super::Delivery;
use super::{fed, letter, settings};
use ratatoskr_state::SubscriptionSettings;

/// What the model knows of a message.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    InPlay,
    Leased { member: MemberId, lease: u64, until_ms: u64 },
    Booking,
    Gone,
}

/// One step of a random life; offsets and members are picked from what there is.
#[derive(Clone, Debug)]
enum Step {
    Join(u64, u32),
    Leave(u64, u8),
    Feed(Vec<u8>),
    Settle(usize, u8, bool),
    Journal(usize, bool),
    Widen(u64, u32),
    /// The filter is changed.
    Filter,
    /// The new one does not want every so-manieth message.
    Exclude(u64),
    /// So many more of the oldest messages are in the log no more.
    Trim(u64),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1_u64..5, 1_u32..4).prop_map(|(member, window)| Step::Join(member, window)),
        (1_u64..5, 0_u8..4).prop_map(|(member, how)| Step::Leave(member, how)),
        prop::collection::vec(0_u8..4, 1..5).prop_map(Step::Feed),
        (any::<usize>(), 0_u8..5, prop::bool::weighted(0.1))
            .prop_map(|(n, how, old)| Step::Settle(n, how, old)),
        (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(n, taken)| Step::Journal(n, taken)),
        (1_u64..700).prop_map(Step::Wait),
        (1_u64..5, 0_u32..4).prop_map(|(member, window)| Step::Widen(member, window)),
        Just(Step::Filter),
        (2_u64..5).prop_map(Step::Exclude),
        (0_u64..3).prop_map(Step::Trim),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Nothing is lost or in two places, leases are one at a time, keys keep their order, windows hold, and in the end everything is done.
    #[test]
    fn a_random_life_keeps_every_promise(steps in steps()) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
            run.conserve()?;
        }
        run.finish()?;
    }
}

struct Run {
    delivery: Delivery<()>,
    now_ms: u64,
    known: Vec<Known>,
    keys: Vec<u64>,
    /// Who joined as which of those that the steps name.
    members: BTreeMap<u64, MemberId>,
    last_member: MemberId,
    /// What each may hold, and what it may still hold because its window was larger.
    windows: BTreeMap<MemberId, (u32, usize)>,
    /// How often the filter was changed.
    filters: u32,
    first: u64,
    /// For each key the last offset that was delivered first.
    delivered: BTreeMap<u64, u64>,
    /// What the lease of a message was before it was booked.
    last_leases: BTreeMap<usize, Known>,
}

type Checked = Result<(), TestCaseError>;

impl Run {
    fn new() -> Run {
        let settings = Arc::new(SubscriptionSettings { attempts_max: 3, ..settings() });
        let (known, keys) = (Vec::new(), Vec::new());
        let (windows, delivered, last_leases) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let delivery = Delivery::new(settings, 0, 1);
        let members = BTreeMap::new();
        let (filters, first) = (0, 0);
        let (now_ms, last_member) = (1, 0);
        Run {
            delivery,
            now_ms,
            known,
            keys,
            members,
            last_member,
            windows,
            filters,
            first,
            delivered,
            last_leases,
        }
    }

    fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Join(member_queue, messages) => {
                if self.members.contains_key(&member_queue) {
                    return Ok(());
                }
                // No member is ever called like another one.
                self.last_member += 1;
                let member = self.last_member;
                self.members.insert(member_queue, member);
                self.windows.insert(member, (messages, 0));
                let window = Window { messages, ..Window::default() };
                self.apply(Event::Join { member, window })
            }
            Step::Leave(member_queue, how) => {
                let Some(member) = self.members.remove(&member_queue) else { return Ok(()) };
                self.windows.remove(&member);
                let ways = [Leaving::Closed, Leaving::Vanished, Leaving::Unharmed, Leaving::Detached];
                let leaving = ways[usize::from(how)];
                if leaving != Leaving::Detached {
                    let held =
                        |known: &&mut Known| matches!(known, Known::Leased { member: m, .. } if *m == member);
                    self.known.iter_mut().filter(held).for_each(|known| *known = Known::InPlay);
                }
                self.apply(Event::Leave { member, leaving })
            }
            Step::Feed(keys) => {
                let from = self.known.len() as u64;
                let message = |(at, key): (usize, &u8)| fed(from + at as u64, letter(u64::from(*key), 1, 0));
                let messages: Vec<_> = keys.iter().enumerate().map(message).collect();
                self.keys.extend(keys.iter().map(|key| u64::from(*key)));
                self.known.resize(self.keys.len(), Known::InPlay);
                self.apply(Event::Feed { to: self.keys.len() as u64, messages })
            }
            Step::Settle(pick, how, old) => self.settle(pick, how, old),
            Step::Journal(pick, taken) => self.journal(pick, taken),
            Step::Widen(member_queue, messages) => {
                let Some(&member) = self.members.get(&member_queue) else { return Ok(()) };
                let held = self.delivery.held_by(member);
                self.windows.insert(member, (messages, held));
                let window = Window { messages, ..Window::default() };
                self.apply(Event::Widen { member, window })
            }
            Step::Filter => {
                self.filters += 1;
                let filter = format!("size > {}", self.filters);
                let settings = SubscriptionSettings { filter, attempts_max: 3, ..settings() };
                self.apply(Event::Change(Arc::new(settings)))
            }
            Step::Exclude(every) => {
                let offsets = self.delivery.unsettled();
                self.exclude(offsets.into_iter().filter(|offset| offset.is_multiple_of(every)).collect())
            }
            Step::Trim(more) => {
                self.first = (self.first + more).min(self.known.len() as u64);
                self.apply(Event::Trimmed { first: self.first })
            }
            Step::Wait(ms) => {
                self.now_ms += ms;
                self.apply(Event::Tick)
            }
        }
    }

    fn exclude(&mut self, offsets: Vec<u64>) -> Checked {
        self.apply(Event::Excluded { offsets })
    }

    fn settle(&mut self, pick: usize, how: u8, old: bool) -> Checked {
        let is_out = |(_, known): &(usize, &Known)| matches!(known, Known::Leased { .. });
        let leases: Vec<usize> = self.known.iter().enumerate().filter(is_out).map(|(at, _)| at).collect();
        let Some(&at) = leases.get(pick % leases.len().max(1)) else { return Ok(()) };
        let Known::Leased { lease, until_ms, .. } = self.known[at] else { return Ok(()) };
        let lease = if old { lease.wrapping_sub(1) } else { lease };
        let valid = !old && until_ms > self.now_ms;
        let outcome = match how {
            0 => Outcome::Ack,
            1 => Outcome::Nack { delay_ms: None, reason: String::new() },
            2 => Outcome::Extend { lease_ms: Some(500) },
            3 => Outcome::Reject { reason: String::new() },
            _ => Outcome::Release,
        };
        if valid {
            self.last_leases.insert(at, self.known[at].clone());
            match &mut self.known[at] {
                Known::Leased { until_ms, .. } if how == 2 => *until_ms = self.now_ms + 500,
                known => *known = if how == 4 { Known::InPlay } else { Known::Booking },
            }
        }
        self.apply(Event::Settle { offset: at as u64, lease, outcome })
    }

    /// The journal answers for one message that is being booked.
    fn journal(&mut self, pick: usize, taken: bool) -> Checked {
        let booking = |(_, known): &(usize, &Known)| **known == Known::Booking;
        let all: Vec<usize> = self.known.iter().enumerate().filter(booking).map(|(at, _)| at).collect();
        let Some(&at) = all.get(pick % all.len().max(1)) else { return Ok(()) };
        let offset = at as u64;
        if !taken {
            // Where it stands then depends on its lease: the delivery is asked.
            self.known[at] = Known::InPlay;
            self.apply(Event::Refused { offset })?;
            let lease = self.delivery.lease_of(offset, self.now());
            let is_last =
                |known: &&Known| matches!(known, Known::Leased { lease: l, .. } if Some(*l) == lease);
            if let Some(known) = self.last_leases.get(&at).filter(is_last) {
                self.known[at] = known.clone();
            }
            return Ok(());
        }
        self.known[at] = Known::InPlay;
        self.apply(Event::Committed { offset })?;
        if self.delivery.place_of((offset, self.keys[at]), self.now()).is_none() {
            self.known[at] = Known::Gone;
        }
        Ok(())
    }

    /// What the wall clock shows is nothing the model goes by: it stands somewhere else each time.
    fn now(&self) -> Moment {
        Moment { steady_ms: self.now_ms, wall_ms: self.now_ms.wrapping_mul(0x9E37_79B9) % 1_000_000_007 }
    }

    fn apply(&mut self, event: Event<()>) -> Checked {
        let mut effects = Vec::new();
        let now = self.now();
        self.delivery.apply(event, now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Deliver { member, offset, lease, attempt, until_ms, .. } => {
                    let at = offset as usize;
                    let overdue =
                        matches!(self.known[at], Known::Leased { until_ms, .. } if until_ms <= self.now_ms);
                    prop_assert!(
                        self.known[at] == Known::InPlay || overdue,
                        "offset {} was {:?} when it was delivered",
                        offset,
                        self.known[at]
                    );
                    // What is shown is wall time; the model waits by the steady clock.
                    let until_ms = now.steady_ms + (until_ms - now.wall_ms);
                    self.known[at] = Known::Leased { member, lease, until_ms };
                    // More than allowed only alone, to tell whether it is the one its members die of.
                    let attempts_max = if self.delivery.held_by(member) == 1 { u32::MAX } else { 3 };
                    prop_assert!((1..=attempts_max).contains(&attempt));
                    if self.keys[at] != 0 {
                        let last = self.delivered.entry(self.keys[at]).or_default();
                        prop_assert!(offset >= *last, "a key went back from {} to {}", last, offset);
                        *last = offset;
                    }
                }
                Effect::Note { offset, booking } => {
                    let is_gone = matches!(booking, Booking::Expired | Booking::Passed);
                    self.known[offset as usize] = if is_gone { Known::Gone } else { Known::InPlay };
                }
                Effect::Journal { offset, .. } => self.known[offset as usize] = Known::Booking,
                Effect::Done | Effect::Stale => {}
            }
        }
        Ok(())
    }

    /// Every message that was fed is in exactly one place, or gone.
    fn conserve(&mut self) -> Checked {
        let census = self.delivery.census();
        let there = census.ready + census.parked + census.leased + census.waiting;
        let gone = self.known.iter().filter(|known| **known == Known::Gone).count();
        prop_assert_eq!(there + gone, self.known.len());
        for (member, (messages, left)) in &mut self.windows {
            let held = self.delivery.held_by(*member);
            prop_assert!(held <= (*messages as usize).max(*left));
            *left = held;
        }
        for key in 1..4 {
            let of_key = |at: &usize| self.keys[*at] == key;
            let out = (0..self.known.len()).filter(of_key);
            let out =
                out.filter(|at| matches!(self.known[*at], Known::Leased { .. } | Known::Booking)).count();
            prop_assert!(out <= 1, "{} messages of key {} are out", out, key);
        }
        Ok(())
    }

    /// With a willing member and a willing journal everything is done in the end.
    fn finish(&mut self) -> Checked {
        self.step(Step::Join(9, 3))?;
        self.exclude(Vec::new())?;
        for _ in 0..self.known.len() * 20 + 20 {
            while self.known.contains(&Known::Booking) {
                self.journal(0, true)?;
            }
            if self.known.iter().all(|known| *known == Known::Gone) {
                return Ok(());
            }
            self.settle(0, 0, false)?;
            self.step(Step::Wait(300))?;
        }
        prop_assert!(false, "stuck: {:?} {:?}", self.known, self.delivery.census());
        Ok(())
    }
}

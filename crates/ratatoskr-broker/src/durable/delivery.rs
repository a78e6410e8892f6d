//! The life cycle of a message in one durable subscription: `apply(event, now) → effects`, and nothing else.
//!
//! ```text
//!             read from the log
//!                    │
//!        ┌───────────┴───────────┐ an earlier one of its key is not done
//!        ▼                       ▼
//!    ┌───────┐  lane is free ┌────────┐
//!    │ ready │◀──────────────│ parked │
//!    └───────┘               └────────┘
//!     │  ▲ ▲
//!     │  │ └───────────────── its time has come ──────────────────┐
//!     │  │ release, stream closed, lease ended, member vanished   │
//!     ▼  │ (all but the first: again, or after the retry delay)   │
//!    ┌────────┐                                             ┌─────────┐
//!    │        │────────────────────────────────────────────▶│ waiting │
//!    │ leased │  ack, nack, reject  ┌─────────┐ a nack with  │         │
//!    │        │────────────────────▶│ booking │─────────────▶└─────────┘
//!    └────────┘◀────────────────────└─────────┘    delay
//!         │    the journal refused     │     ▲
//!         │                            │     │ attempts used up
//!         └────────────────────────────┼─────┘
//!                                      ▼
//!                 gone: settled, dead (moved to the dead letters), expired, passed over
//! ```
//!
//! A message is in one place at a time; [`Delivery::census`] counts them. Messages wait for the journal in *booking*: only
//! once it has them are they gone, and only then is anybody told. Deliveries go round the members that have
//! room, one message each, lowest offset first; of one key (`ordered`) only one message is in play, the others park. A *suspect*, which
//! may be what ended its members, is delivered alone (`returning.rs`). What was purged, has expired, or is excluded by a new filter is gone
//! from every place but a lease (`removing.rs`).
//! No I/O and no clock in here: time is an argument, what is to be done are effects. What is waited for (leases, delays) is
//! waited for on the steady clock; what is written down, shown or was given by a publisher is wall time (ADR 0011).

mod questions;
mod removing;
mod returning;
mod settling;

use ratatoskr_state::SubscriptionSettings;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ratatoskr_log::Moment;

use self::removing::Expiry;
use super::event::{Booking, Effect, Event, Fed, Letter, MemberId};
use super::lanes::Lanes;
use super::round_robin::RoundRobin;
use crate::broken::Broken;
use ratatoskr_state::limits::{LEASE_MS_MAX, READ_AHEAD_BYTES_MAX, READ_AHEAD_MAX};

/// However far the wall clock went back since a message was returned, it waits no longer than this: the longest delay there is.
const WAIT_MS_MAX: u64 = LEASE_MS_MAX;

/// Where a message is that is neither ready nor parked.
#[derive(Debug)]
enum Hold {
    Leased(Lease),
    /// For its retry, or to expire if that is sooner.
    Waiting {
        /// When to look at it: the earlier of the two.
        until_ms: u64,
        /// When its retry is due.
        retry_ms: u64,
    },
    /// In the hands of the journal; what it was leased as, if it was, and what is booked.
    Booking {
        lease: Option<Lease>,
        booking: Booking,
    },
    /// A dead-lettering that was refused, to be tried again.
    Unburied {
        until_ms: u64,
        booking: Booking,
    },
}

/// Steady time.
#[derive(Clone, Copy, Debug)]
struct Lease {
    /// `None`: of nobody any more.
    member: Option<MemberId>,
    number: u64,
    until_ms: u64,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Delivery<Cargo> {
    settings: Arc<SubscriptionSettings>,
    /// Everything before it has been read.
    cursor: u64,
    /// Everything before it is in the log no more.
    first: u64,
    /// Nothing in play is older, but what does not come back: so that a trim which takes nothing costs nothing.
    oldest: u64,
    /// The filter was changed, and what was read under the earlier one has not been looked at yet: nothing is delivered meanwhile.
    is_under_review: bool,
    /// With the message itself, if it is at hand.
    ready: BTreeMap<u64, (Letter, Option<Cargo>)>,
    /// Ready as well, to be delivered alone.
    suspects: BTreeMap<u64, (Letter, Option<Cargo>)>,
    /// Of both.
    ready_bytes: u64,
    held: HashMap<u64, (Hold, Letter)>,
    /// Leased or booking.
    leased: usize,
    /// When leases end, waiting ends, and dead-letterings are tried again: steady time.
    due: BTreeSet<(u64, u64)>,
    /// When messages expire that are in play.
    expiry: Expiry,
    lanes: Lanes,
    round_robin: RoundRobin,
    next_lease: u64,
    redelivered: u64,
    chance: fastrand::Rng,
    last_reason: Arc<str>,
    /// What it may hold, bytes.
    memory_max: u64,
    /// The time of the event being applied, and its effects so far.
    now: Moment,
    effects: Vec<Effect<Cargo>>,
}

impl<Cargo> Delivery<Cargo> {
    /// Starts at `cursor` with no members. Leases are numbered from `next_lease` on.
    pub(crate) fn new(settings: Arc<SubscriptionSettings>, cursor: u64, next_lease: u64) -> Delivery<Cargo> {
        Delivery {
            round_robin: RoundRobin::new(settings.member_outstanding_max),
            settings,
            cursor,
            first: 0,
            oldest: cursor,
            is_under_review: false,
            ready: BTreeMap::new(),
            suspects: BTreeMap::new(),
            ready_bytes: 0,
            held: HashMap::new(),
            leased: 0,
            due: BTreeSet::new(),
            expiry: Expiry::never(),
            lanes: Lanes::new(),
            next_lease,
            redelivered: 0,
            chance: fastrand::Rng::with_seed(cursor ^ next_lease),
            last_reason: Arc::default(),
            memory_max: u64::MAX,
            now: Moment::default(),
            effects: Vec::new(),
        }
    }

    /// The one way anything changes. What is to be done is added to `effects`.
    pub(crate) fn apply(&mut self, event: Event<Cargo>, now: Moment, effects: &mut Vec<Effect<Cargo>>) {
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        match event {
            Event::Join { member, window } => self.round_robin.join(member, window),
            Event::Widen { member, window } => self.round_robin.widen(member, window, self.next_lease),
            Event::Leave { member, leaving } => self.leave(member, leaving),
            Event::Feed { to, messages } => self.feed(to, messages),
            Event::Settle { offset, lease, outcome } => self.settle(offset, lease, outcome),
            Event::Committed { offset } => self.committed(offset),
            Event::Refused { offset } => self.refused(offset),
            Event::Lost { offset, lease } => self.lost(offset, lease),
            Event::Change(settings) => self.change(settings),
            Event::Trimmed { first } => self.trim(first),
            Event::Excluded { offsets } => self.exclude(offsets),
            Event::Tick => {}
        }
        self.pass_time();
        self.remove_expired();
        self.dispatch();
        std::mem::swap(&mut self.effects, effects);
    }

    /// True when messages should be read from [`Delivery::cursor`] on. Suspects do not count: they may wait long for an idle member, and others
    /// go on meanwhile.
    pub(crate) fn wants_feed(&self) -> bool {
        !self.settings.paused
            && !self.round_robin.is_empty()
            && self.ready.len() < READ_AHEAD_MAX
            && self.ready_bytes < READ_AHEAD_BYTES_MAX
            && !self.is_full()
    }

    /// From now on it may hold so much; what it holds already, it keeps.
    pub(crate) fn allow(&mut self, memory_max: u64) {
        self.memory_max = memory_max;
    }

    /// Gives back the room of tables that are empty.
    pub(crate) fn give_back_room(&mut self) {
        give_back(&mut self.ready, BTreeMap::is_empty);
        give_back(&mut self.suspects, BTreeMap::is_empty);
        give_back(&mut self.held, HashMap::is_empty);
        give_back(&mut self.due, BTreeSet::is_empty);
        give_back(&mut self.effects, Vec::is_empty);
        self.lanes.give_back_room();
    }

    /// Everything before it has been read.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// When [`Event::Tick`] is due, steady time.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let due_ms = self.due.first().map(|&(at_ms, _)| at_ms);
        due_ms.into_iter().chain(self.round_robin.next_due_ms()).chain(self.expiry.due_ms(self.now)).min()
    }

    pub(crate) fn next_lease(&self) -> u64 {
        self.next_lease
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }

    pub(crate) fn has_room(&self) -> bool {
        self.round_robin.has_room()
    }

    // ---- messages in ----

    fn feed(&mut self, to: u64, messages: Vec<Fed<Cargo>>) {
        assert!(to >= self.cursor, "a subscription reads forward: from {} to {to}", self.cursor);
        self.cursor = to;
        for Fed { offset, not_before_ms, mut letter, cargo } in messages {
            if offset < self.first {
                self.effects.push(Effect::Note { offset, booking: Booking::Expired });
                continue;
            }
            if !self.settings.ordered {
                letter.lane = 0;
            }
            self.expiry.note(&letter);
            if letter.lane != 0 {
                let Some(in_play) = self.lanes.enter(offset, letter) else { continue };
                letter = in_play;
            }
            let wait_ms = not_before_ms.saturating_sub(self.now.wall_ms).min(WAIT_MS_MAX);
            if wait_ms > 0 {
                self.wait(offset, letter, self.now.after(wait_ms).steady_ms);
            } else {
                self.make_ready(offset, letter, Some(cargo));
            }
        }
    }

    fn make_ready(&mut self, offset: u64, letter: Letter, cargo: Option<Cargo>) {
        self.expiry.note(&letter);
        self.ready_bytes += letter.bytes_at_hand(cargo.as_ref());
        let place = if letter.is_suspect { &mut self.suspects } else { &mut self.ready };
        place.insert(offset, (letter, cargo));
    }

    /// Lets a message wait for its retry, due at a steady time; it may expire before.
    fn wait(&mut self, offset: u64, letter: Letter, retry_ms: u64) {
        if retry_ms <= self.now.steady_ms {
            return self.make_ready(offset, letter, None);
        }
        let left_ms = letter.expires_ms.saturating_sub(self.now.wall_ms);
        let expires = (letter.expires_ms != 0).then(|| self.now.after(left_ms).steady_ms);
        let until_ms = expires.map_or(retry_ms, |expires_ms| expires_ms.min(retry_ms));
        self.due.insert((until_ms, offset));
        self.held.insert(offset, (Hold::Waiting { until_ms, retry_ms }, letter));
    }

    fn change(&mut self, settings: Arc<SubscriptionSettings>) {
        if !settings.ordered {
            for (offset, letter) in self.lanes.dissolve() {
                self.make_ready(offset, Letter { lane: 0, ..letter }, None);
            }
            // Those in play have no lane to give free any more.
            let ready = self.ready.values_mut().chain(self.suspects.values_mut());
            ready.for_each(|(letter, _)| letter.lane = 0);
            self.held.values_mut().for_each(|(_, letter)| letter.lane = 0);
        }
        if settings.filter != self.settings.filter {
            self.is_under_review = true;
            // What the earlier one excluded is for the new one to decide on.
            self.held.values_mut().for_each(|(_, letter)| letter.is_excluded = false);
        }
        self.settings = settings;
        self.round_robin.set_held_max(self.settings.member_outstanding_max);
    }

    // ---- messages out ----

    /// Leases what is ready to those that have room, one message each in turn.
    fn dispatch(&mut self) {
        if self.settings.paused || self.is_under_review {
            return;
        }
        self.dispatch_suspects();
        while self.has_leases_left() {
            let Some((&offset, (letter, _))) = self.ready.first_key_value() else { return };
            let is_expired = self.is_expired(letter);
            let member = if is_expired { None } else { self.round_robin.next(letter.bytes.into()) };
            if !is_expired && member.is_none() {
                return;
            }
            let Some((_, ready)) = self.ready.pop_first() else { return };
            self.hand_out(member, offset, ready);
        }
    }

    /// Leases suspects to members that hold nothing.
    fn dispatch_suspects(&mut self) {
        while self.has_leases_left() {
            let Some((&offset, (letter, _))) = self.suspects.first_key_value() else {
                return self.round_robin.stop_draining();
            };
            let is_expired = self.is_expired(letter);
            let member = if is_expired {
                None
            } else {
                self.round_robin.next_idle(self.now.steady_ms, self.settings.lease_ms)
            };
            if !is_expired && member.is_none() {
                return;
            }
            let Some((_, suspect)) = self.suspects.pop_first() else { return };
            self.hand_out(member, offset, suspect);
        }
    }

    fn has_leases_left(&self) -> bool {
        self.leased < self.settings.outstanding_max as usize
    }

    fn is_expired(&self, letter: &Letter) -> bool {
        letter.expires_ms != 0 && letter.expires_ms <= self.now.wall_ms
    }

    /// To a member; to nobody if it has expired.
    fn hand_out(&mut self, member: Option<MemberId>, offset: u64, (letter, cargo): (Letter, Option<Cargo>)) {
        self.ready_bytes -= letter.bytes_at_hand(cargo.as_ref());
        match member {
            Some(member) => self.lease(member, offset, letter, cargo),
            None => self.drop_message(offset, &letter, Booking::Expired),
        }
    }

    fn lease(&mut self, member: MemberId, offset: u64, mut letter: Letter, cargo: Option<Cargo>) {
        let until = self.now.after(self.settings.lease_ms);
        let (until_ms, shown_ms) = (until.steady_ms, until.wall_ms);
        let number = self.next_lease;
        self.next_lease += 1;
        letter.attempts += 1;
        self.redelivered += u64::from(letter.attempts > 1);
        letter.last_ms = self.now.wall_ms;
        if letter.first_ms == 0 {
            letter.first_ms = self.now.wall_ms;
        }
        self.round_robin.hold(member, offset, letter.bytes);
        let (attempt, bytes) = (letter.attempts, letter.bytes);
        self.due.insert((until_ms, offset));
        self.held.insert(offset, (Hold::Leased(Lease { member: Some(member), number, until_ms }), letter));
        self.leased += 1;
        let (lease, until_ms) = (number, shown_ms);
        self.effects.push(Effect::Deliver { member, offset, lease, attempt, until_ms, bytes, cargo });
    }

    // ---- time ----

    /// Ends leases, and makes ready what has waited long enough.
    fn pass_time(&mut self) {
        self.round_robin.pass_time(self.now.steady_ms);
        while let Some(&(at_ms, offset)) = self.due.first() {
            if at_ms > self.now.steady_ms {
                return;
            }
            self.due.pop_first();
            match &self.held.get(&offset).expect("what is due is held").0 {
                Hold::Leased(_) if Broken::Leases.is_on() => {}
                Hold::Leased(lease) => self.lapse(offset, *lease),
                &Hold::Waiting { retry_ms, .. } => {
                    let Some((_, letter)) = self.take_held(offset) else { continue };
                    if self.is_expired(&letter) {
                        self.drop_message(offset, &letter, Booking::Expired);
                    } else {
                        self.wait(offset, letter, retry_ms);
                    }
                }
                Hold::Unburied { booking, .. } => {
                    let booking = booking.clone();
                    self.leased += 1;
                    self.record_outcome(offset, None, booking);
                }
                Hold::Booking { .. } => unreachable!("what is booked is not due"),
            }
        }
    }

    // ---- places ----

    fn take_held(&mut self, offset: u64) -> Option<(Hold, Letter)> {
        let taken = self.held.remove(&offset)?;
        if matches!(taken.0, Hold::Leased(_) | Hold::Booking { .. }) {
            self.leased -= 1;
        }
        Some(taken)
    }

    /// The message in play of a key is done: the next one's turn.
    fn free_lane(&mut self, lane: u64) {
        if let Some((offset, letter)) = self.lanes.leave(lane) {
            self.make_ready(offset, letter, None);
        }
    }
}

/// Gives back the room of a table, if it is empty.
pub(crate) fn give_back<Table: Default>(table: &mut Table, is_empty: impl Fn(&Table) -> bool) {
    if is_empty(table) {
        *table = Table::default();
    }
}

#[cfg(test)]
mod tests;

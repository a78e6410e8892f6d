//! One durable subscription at work: its delivery, fed from the log and connected to its members.
//!
//! ```text
//!   topic's log ──records──▶ filter, time to live, address ──▶ Delivery ──deliveries──▶ member queues
//!        ▲ cold: by the reading thread                             │
//!        └─────────────────────────────────────────────────────────┴──▶ batch: what the journal is to have
//! ```
//!
//! Everything in here belongs to the dispatcher's thread. Nothing waits for the disk: what is not in memory is read by another thread
//! and comes back as a request. `generation` changes whenever the delivery starts anew, so that what belongs to an earlier one is known.
//!
//! An active subscription starts anew from its state when its subscription is moved, and when its logic has panicked. Until then nothing of it may be on
//! its way through the journal that the state does not show yet, so meanwhile it settles nothing (tokens are stale) and writes nothing.

mod feeding;
mod removed;
mod reviewing;

use ratatoskr_state::{AckState, SettlementBatch, SubscriptionRef, SubscriptionSettings, SubscriptionState};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::sync::Arc;

use ratatoskr_log::{Moment, Record, SegmentCursor};

use super::changes::note;
use super::delivery::{Delivery, give_back};
use super::event::{Booking, Effect, Event, Leaving, MemberId, Outcome, Window};
use super::in_flight::{Booked, Waiter};
use super::member::{MemberDelivery, MemberEnd, MemberQueue};
use super::token::Token;
use super::trace::{Passage, What};
use crate::filter::Filter;
use crate::topic::Topic;
use feeding::filter_of;
pub(crate) use feeding::{ColdRead, Facts, passes};
pub(crate) use reviewing::Review;
use reviewing::Reviewing;

/// See the file's head.
pub(crate) struct ActiveSubscription {
    pub(crate) number: u32,
    pub(crate) topic: Arc<Topic>,
    pub(crate) name: SubscriptionRef,
    pub(crate) settings: Arc<SubscriptionSettings>,
    /// What they will be once the changes under way are committed.
    pub(crate) intended: Arc<SubscriptionSettings>,
    pub(crate) delivery: Delivery<Record>,
    pub(crate) generation: u64,
    pub(crate) member_queues: BTreeMap<MemberId, (Arc<MemberQueue>, Window)>,
    filter: Option<Filter>,
    /// Names the broker's start in tokens.
    start: u32,
    /// What the state says of messages not read yet.
    recall: AckState,
    /// Where to go on in segments; away while a read is under way.
    segments: Option<SegmentCursor>,
    /// What the journal is to have next.
    batch: SettlementBatch,
    /// True when it should not wait.
    urgent: bool,
    /// Passed over, and not written down yet.
    unwritten: u64,
    /// Offsets whose delivery waits for the batch to be committed, and who waits with it.
    booked: Vec<(u64, Option<Waiter>)>,
    /// Messages to become dead letters.
    dead_letterings: Vec<DeadLettering>,
    /// Bookings in the hands of the journal.
    under_way: usize,
    /// Moves in the hands of the journal, each of which makes it start anew.
    moves: usize,
    /// Counts changes of the filter; an answer about an earlier one is of no use any more.
    filter_changes: u64,
    reviewing: Reviewing,
    /// Its logic has panicked: it starts anew as soon as nothing is under way.
    is_broken: bool,
    /// What happened since the dispatcher last asked.
    pub(super) passages: Vec<Passage>,
    to_wake: BTreeSet<MemberId>,
    effects: Vec<Effect<Record>>,
    /// The topic's first offset may be another than it knows.
    looks_for_removed: bool,
    /// The topic's first offset when it was looked at last.
    known_first: u64,
    /// Unsettled messages that retention has removed, since the dispatcher last asked.
    removed: u64,
    /// Passed over since it was opened, and looked at.
    looked_at: u64,
    passed: u64,
    hasher: RandomState,
    room: Room,
    /// When it last had a member, a lease or a settlement, steady time.
    pub(crate) used_ms: u64,
}

/// The room of tables that are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Something has happened, so there may be some.
    Kept,
    GivenBack,
}

/// What became of a settlement at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settling {
    Done,
    Stale,
    /// To be written with the next batch.
    Booked,
    /// To be moved to the dead letters.
    DeadLettering,
}

/// A message to become a dead letter, and who waits for it.
#[derive(Debug)]
pub(crate) struct DeadLettering {
    pub(crate) offset: u64,
    pub(crate) booking: Booking,
    pub(crate) waiter: Option<Waiter>,
}

impl ActiveSubscription {
    pub(crate) fn open(
        state: &SubscriptionState,
        topic: Arc<Topic>,
        start: u32,
        now: Moment,
    ) -> ActiveSubscription {
        let name = SubscriptionRef { topic: topic.name.clone(), name: state.name.clone() };
        let mut recall = state.acks.clone();
        let floor = recall.floor();
        recall.settled.remove_before(floor);
        ActiveSubscription {
            number: state.number,
            topic,
            name,
            settings: state.settings.clone(),
            intended: state.settings.clone(),
            delivery: Delivery::new(state.settings.clone(), floor, 1),
            generation: 0,
            member_queues: BTreeMap::new(),
            filter: filter_of(&state.settings),
            start,
            recall,
            segments: Some(SegmentCursor::default()),
            batch: SettlementBatch::default(),
            urgent: false,
            unwritten: 0,
            booked: Vec::new(),
            dead_letterings: Vec::new(),
            under_way: 0,
            moves: 0,
            filter_changes: 0,
            reviewing: Reviewing::No,
            is_broken: false,
            passages: Vec::new(),
            to_wake: BTreeSet::new(),
            effects: Vec::new(),
            // The topic may have been trimmed since the state was written, or the subscription moved to before its first offset.
            looks_for_removed: true,
            known_first: 0,
            removed: 0,
            looked_at: 0,
            passed: 0,
            hasher: RandomState::new(),
            room: Room::Kept,
            used_ms: now.steady_ms,
        }
    }

    /// Starts anew from the state; members stay, what they hold becomes stale. Answers who waited for what is lost by it.
    pub(crate) fn restart(&mut self, state: &SubscriptionState, now: Moment) -> Vec<Waiter> {
        let waiters = self.take_waiters();
        let next_lease = self.delivery.next_lease();
        let mut fresh = ActiveSubscription::open(state, self.topic.clone(), self.start, now);
        fresh.delivery = Delivery::new(state.settings.clone(), fresh.delivery.cursor(), next_lease);
        fresh.delivery.allow(self.delivery.memory_max());
        fresh.generation = self.generation + 1;
        fresh.known_first = self.known_first;
        fresh.intended = self.intended.clone();
        fresh.moves = self.moves;
        fresh.under_way = self.under_way;
        for (member_queue, window) in std::mem::take(&mut self.member_queues).into_values() {
            member_queue.clear();
            fresh.join(member_queue, window, now);
        }
        *self = fresh;
        waiters
    }

    /// Who waits for something that has not been handed to the journal.
    pub(crate) fn take_waiters(&mut self) -> Vec<Waiter> {
        let booked = self.booked.drain(..).filter_map(|(_, waiter)| waiter);
        let dead_lettered = self.dead_letterings.drain(..).filter_map(|dead_lettering| dead_lettering.waiter);
        booked.chain(dead_lettered).collect()
    }

    /// False while it is about to start anew.
    pub(crate) fn is_at_work(&self) -> bool {
        self.moves == 0 && !self.is_broken
    }

    /// A move is on its way through the journal, or (with -1) is back.
    pub(crate) fn note_move(&mut self, change: isize) {
        self.moves = self.moves.checked_add_signed(change).expect("a move that is back was on its way");
    }

    /// Its logic has panicked.
    pub(crate) fn note_panic(&mut self) {
        self.is_broken = true;
    }

    /// True when it has panicked and can start anew.
    pub(crate) fn awaits_restart(&self) -> bool {
        self.is_broken && self.under_way == 0
    }

    pub(crate) fn join(&mut self, member_queue: Arc<MemberQueue>, window: Window, now: Moment) {
        let member = member_queue.id;
        self.member_queues.insert(member, (member_queue, window));
        self.apply(Event::Join { member, window }, now);
    }

    pub(crate) fn widen(&mut self, member: MemberId, window: Window, now: Moment) {
        if let Some((_, known)) = self.member_queues.get_mut(&member) {
            *known = window;
            self.apply(Event::Widen { member, window }, now);
        }
    }

    /// A member has said something that changes nothing.
    pub(crate) fn hear(&mut self, member: MemberId, now: Moment) {
        if let Some(&(_, window)) = self.member_queues.get(&member) {
            self.apply(Event::Widen { member, window }, now);
        }
    }

    pub(crate) fn leave(&mut self, member: MemberId, leaving: Leaving, unseen: Vec<Token>, now: Moment) {
        self.used_ms = now.steady_ms;
        let Some((member_queue, _)) = self.member_queues.remove(&member) else { return };
        // No room, so that what it gives back does not come to it again.
        let window = Window { messages: 0, bytes: 0 };
        self.apply(Event::Widen { member, window }, now);
        for Token { offset, lease, .. } in unseen.into_iter().chain(member_queue.clear()) {
            self.apply(Event::Settle { offset, lease, outcome: Outcome::Release }, now);
        }
        self.apply(Event::Leave { member, leaving }, now);
    }

    /// Gives back the room of tables that are empty, if nobody is at work here: most subscriptions are idle, and an empty table keeps room for
    /// several.
    pub(crate) fn give_back_room(&mut self) {
        if std::mem::replace(&mut self.room, Room::GivenBack) == Room::GivenBack {
            return;
        }
        self.delivery.give_back_room();
        give_back(&mut self.member_queues, BTreeMap::is_empty);
        give_back(&mut self.to_wake, BTreeSet::is_empty);
        give_back(&mut self.effects, Vec::is_empty);
        give_back(&mut self.passages, Vec::is_empty);
        give_back(&mut self.booked, Vec::is_empty);
        give_back(&mut self.dead_letterings, Vec::is_empty);
    }

    pub(crate) fn change(&mut self, settings: Arc<SubscriptionSettings>, now: Moment) {
        if settings.filter != self.settings.filter {
            self.filter_changed();
        }
        self.filter = filter_of(&settings);
        self.settings = settings.clone();
        self.apply(Event::Change(settings), now);
    }

    pub(crate) fn end(&self, end: MemberEnd) {
        self.member_queues.values().for_each(|(member_queue, _)| member_queue.end(end));
    }

    /// Settles a message; who asks is told later if the answer is `Booked` or `DeadLettering`.
    pub(crate) fn settle(
        &mut self,
        token: Token,
        outcome: Outcome,
        waiter: Option<Waiter>,
        now: Moment,
    ) -> Settling {
        let (offset, lease) = (token.offset, token.lease);
        if !self.is_at_work() {
            return Settling::Stale;
        }
        self.apply_for(waiter, Event::Settle { offset, lease, outcome }, now).unwrap_or(Settling::Stale)
    }

    /// Lets something happen.
    pub(crate) fn apply(&mut self, event: Event<Record>, now: Moment) {
        self.apply_for(None, event, now);
    }

    /// Lets something happen; answers what became of a settlement.
    fn apply_for(&mut self, waiter: Option<Waiter>, event: Event<Record>, now: Moment) -> Option<Settling> {
        if self.is_broken {
            return None;
        }
        self.room = Room::Kept;
        let mut effects = std::mem::take(&mut self.effects);
        self.delivery.apply(event, now, &mut effects);
        let settling = effects.first().and_then(|effect| match effect {
            Effect::Done => Some(Settling::Done),
            Effect::Stale => Some(Settling::Stale),
            Effect::Journal { booking: Booking::DeadLettered(_), .. } => Some(Settling::DeadLettering),
            Effect::Journal { .. } => Some(Settling::Booked),
            Effect::Deliver { .. } | Effect::Note { .. } => None,
        });
        // What is asked for is the first effect; others are those of time that has passed.
        let mut waiter = waiter;
        effects.drain(..).for_each(|effect| self.carry_out(effect, waiter.take(), now));
        self.effects = effects;
        settling
    }

    fn carry_out(&mut self, effect: Effect<Record>, waiter: Option<Waiter>, now: Moment) {
        if let Effect::Journal { offset, booking } | Effect::Note { offset, booking } = &effect {
            self.remember(*offset, What::Booked(booking.remembered()), now);
        }
        match effect {
            Effect::Deliver { member, offset, lease, attempt, until_ms, bytes, cargo } => {
                let Some((member_queue, _)) = self.member_queues.get(&member) else { return };
                let token = Token { subscription: self.number, start: self.start, offset, lease };
                member_queue.push(MemberDelivery { token, attempt, until_ms, bytes, record: cargo });
                let handed = What::Handed { member: member_queue.name.clone(), attempt };
                self.remember(offset, handed, now);
                self.to_wake.insert(member);
            }
            Effect::Journal { offset, booking: booking @ Booking::DeadLettered(_) } => {
                self.dead_letterings.push(DeadLettering { offset, booking, waiter });
            }
            Effect::Journal { offset, booking } => {
                note(&mut self.batch, offset, &booking);
                self.booked.push((offset, waiter));
                self.urgent = true;
            }
            Effect::Note { offset, booking } => {
                note(&mut self.batch, offset, &booking);
                self.urgent = true;
            }
            Effect::Done | Effect::Stale => {}
        }
    }

    fn remember(&mut self, offset: u64, what: What, now: Moment) {
        let time_ms = now.wall_ms;
        self.passages.push(Passage { time_ms, subscription: self.number, offset, what });
    }

    pub(crate) fn wake(&mut self) {
        while let Some(member) = self.to_wake.pop_first() {
            if let Some((member_queue, _)) = self.member_queues.get(&member) {
                member_queue.wake();
            }
        }
    }

    /// True when there is something for the journal that should not wait.
    pub(crate) fn has_batch(&self) -> bool {
        self.urgent && self.is_at_work()
    }

    /// What the journal is to have now, and what waits for it. `flush` takes also what could wait.
    pub(crate) fn take_batch(&mut self, flush: bool) -> Option<(SettlementBatch, Vec<Booked>)> {
        let due = self.urgent || flush;
        if !due || !self.is_at_work() || self.batch.is_empty() {
            return None;
        }
        self.urgent = false;
        self.unwritten = 0;
        let (subscription, booked) = (self.number, std::mem::take(&mut self.booked));
        self.under_way += booked.len();
        let booked = booked.into_iter().map(|(offset, waiter)| Booked { subscription, offset, waiter });
        Some((std::mem::take(&mut self.batch), booked.collect()))
    }

    /// Messages to be dead-lettered now.
    pub(crate) fn take_dead_letterings(&mut self) -> Vec<DeadLettering> {
        if self.is_at_work() { std::mem::take(&mut self.dead_letterings) } else { Vec::new() }
    }

    /// Burials that cannot go on now, or are handed to the journal.
    pub(crate) fn put_off(&mut self, dead_letterings: Vec<DeadLettering>) {
        self.dead_letterings.extend(dead_letterings);
    }

    pub(crate) fn note_under_way(&mut self, bookings: usize) {
        self.under_way += bookings;
    }

    /// The journal has a booking, or could not take it.
    pub(crate) fn booking_is_back(&mut self, event: Event<Record>, now: Moment) {
        self.under_way -= 1;
        self.apply(event, now);
    }

    /// The journal could not take a batch: what nobody waits for is written with the next one.
    pub(crate) fn take_back(&mut self, refused: SettlementBatch) {
        for (offset, returned) in refused.returned {
            self.batch.returned.entry(offset).or_insert(returned);
        }
        refused.passed.iter().for_each(|range| {
            self.batch.passed.insert(range);
        });
        refused.expired.iter().for_each(|range| {
            self.batch.expired.insert(range);
        });
    }

    /// Writes down that a message is gone unsettled, for a delivery that waits to bury it.
    pub(crate) fn dead_letter_nothing(&mut self, offset: u64, waiter: Option<Waiter>) {
        note(&mut self.batch, offset, &Booking::Expired);
        self.booked.push((offset, waiter));
        self.urgent = true;
    }

    // ---- questions ----

    /// True when a filter has passed over everything it saw.
    pub(crate) fn filter_matches_nothing(&self) -> bool {
        self.filter.is_some() && self.looked_at > 0 && self.passed == self.looked_at
    }
}

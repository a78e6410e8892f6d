//! The dispatcher's way to the journal and back: settlement batches, commits in flight, and what is done once they are through.

use ratatoskr_state::{Change, SubscriptionName, SubscriptionRef};
use std::collections::HashMap;

use ratatoskr_log::Moment;

use super::Dispatcher;
use crate::command::{AppendError, Appended, Command, Records};
use crate::durable::event::Event;
use crate::durable::in_flight::{Booked, OnCommit, Waiter};
use crate::durable::member::MemberEnd;
use crate::durable::request::{Changed, CreatedBy, DoneReply, Fate, Refused, Request, SubscriptionError};
use crate::error::{PublishError, Unavailable};

/// While the journal may have little room left, a batch that takes more bytes is divided.
const PIECE_BYTES: usize = 1024;

impl Dispatcher {
    /// Gathers what active subscriptions want written: those that say it should not wait, or all.
    pub(super) fn take_batches(&mut self, flush: bool) -> (Vec<Change>, Vec<Booked>) {
        let (mut changes, mut booked) = (Vec::new(), Vec::new());
        let urgent = std::mem::take(&mut self.urgent);
        let all: Vec<u32> =
            if flush { self.active_subscriptions.keys().copied().collect() } else { Vec::new() };
        for number in urgent.into_iter().chain(all) {
            let Some(active) = self.active_subscriptions.get_mut(&number) else { continue };
            let Some((batch, waiting)) = active.take_batch(flush) else { continue };
            changes.push(Change::Settled { number, batch });
            booked.extend(waiting);
        }
        (changes, booked)
    }

    pub(super) fn send_batch(&mut self, flush: bool) {
        let (changes, booked) = self.take_batches(flush);
        if self.core.health.borrow().is_held_up() {
            // There may be room for some of it only.
            for (change, booked) in pieces(changes, booked) {
                self.send(vec![change], Vec::new(), booked, OnCommit::Nothing);
            }
        } else if !changes.is_empty() {
            self.send(changes, Vec::new(), booked, OnCommit::Nothing);
        }
    }

    /// Hands something to the sequencer, to happen wholly or not at all.
    pub(in crate::durable) fn send(
        &mut self,
        changes: Vec<Change>,
        appends: Vec<Records>,
        booked: Vec<Booked>,
        after: OnCommit,
    ) {
        let ticket = self.in_flight.issue(booked, after);
        let command = Command::Ledger { changes, appends, ticket };
        if self.core.inbox.push(command).is_err() {
            let reason = AppendError::Unavailable(self.core.closed());
            let refused = Request::Refused { ticket, refused: Refused { reason, changes: Vec::new() } };
            let _ = self.core.dispatcher.push(refused);
        }
    }

    pub(super) fn committed(&mut self, ticket: u64, appended: Vec<Appended>, now: Moment) {
        let Some((booked, after)) = self.in_flight.take(ticket) else { return };
        for Booked { subscription, offset, waiter } in booked {
            self.guarded(subscription, now, |active| {
                active.booking_is_back(Event::Committed { offset }, now);
            });
            self.in_flight.tell(waiter, Fate::Settled);
        }
        match after {
            OnCommit::Nothing => {}
            OnCommit::Create { number, topic, name, created_by, reply } => {
                self.open_active(number, &topic);
                // Its topic may have been deleted in the very same block.
                let is_there = self.active_subscriptions.contains_key(&number);
                if let Some(CreatedBy { member, note }) = created_by.filter(|_| is_there) {
                    tracing::info!(topic = %topic.name, subscription = %name, member, "a subscription was created because a member joined and there was none");
                    note();
                }
                let gone = || SubscriptionError::TopicNotFound(topic.name.clone());
                let _ = reply.send(if is_there { Ok(Changed::Made) } else { Err(gone()) });
                let name_of = SubscriptionRef { topic: topic.name.clone(), name: name.clone() };
                for other in self.creating.remove(&(topic.log.number, name)).unwrap_or_default() {
                    let exists = SubscriptionError::AlreadyExists(name_of.clone());
                    let _ = other.send(Err(if is_there { exists } else { gone() }));
                }
            }
            OnCommit::Change(number, reply) => {
                if let Some(settings) = self.core.subscriptions.with(number, |state| state.settings.clone()) {
                    self.guarded(number, now, |active| active.change(settings, now));
                }
                let _ = reply.send(Ok(Changed::Made));
            }
            OnCommit::Delete(number, reply) => {
                self.close_active(number, MemberEnd::SubscriptionDeleted);
                let _ = reply.send(Ok(Changed::Made));
            }
            OnCommit::Expire(number) => self.expired(number),
            OnCommit::Restart(number, reply) => {
                self.finish_move(number, now);
                let _ = reply.send(Ok(Changed::Made));
            }
            OnCommit::Tell(reply) => {
                let _ = reply.send(Ok(Changed::Made));
            }
            OnCommit::Dispatch { moved, void } => self.schedule_moved(&moved, void),
            OnCommit::Append { restart, reply } => {
                if let Some(number) = restart {
                    self.finish_move(number, now);
                }
                let _ = reply.send(Ok(appended));
            }
        }
    }

    pub(super) fn refused(&mut self, ticket: u64, refused: Refused, now: Moment) {
        let Some((booked, after)) = self.in_flight.take(ticket) else { return };
        let Refused { reason, mut changes } = refused;
        let unavailable = match &reason {
            AppendError::Unavailable(unavailable) => unavailable.clone(),
            AppendError::TopicGone { topic } => Unavailable::TopicDeleted { topic: topic.clone() },
            _ => {
                Unavailable::DiskFull { detail: "there is no room for the topic of dead letters".to_owned() }
            }
        };
        for Booked { subscription, offset, waiter } in booked {
            for change in &mut changes {
                change.forget_return(subscription, offset);
            }
            self.guarded(subscription, now, |active| {
                active.booking_is_back(Event::Refused { offset }, now);
            });
            self.in_flight.tell(waiter, Fate::Unavailable(unavailable.clone()));
        }
        for change in changes {
            if let Change::Settled { number, batch } = change {
                self.guarded(number, now, |active| active.take_back(batch));
            }
        }
        match after {
            // One that is not used is looked at again after its expiry.
            OnCommit::Nothing | OnCommit::Expire(_) => {}
            OnCommit::Create { topic, name, reply, .. } => {
                let error = match reason {
                    AppendError::TopicGone { topic } => SubscriptionError::TopicNotFound(topic),
                    _ if topic.log.is_deleted() => SubscriptionError::TopicNotFound(topic.name.clone()),
                    _ => unavailable.into(),
                };
                self.refuse_creation(&(topic.log.number, name), reply, &error);
            }
            OnCommit::Change(number, reply) => {
                if let Some(active) = self.active_subscriptions.get_mut(&number) {
                    active.intended = active.settings.clone();
                }
                let _ = reply.send(Err(unavailable.into()));
            }
            OnCommit::Restart(number, reply) => {
                self.note_move(number, -1);
                if let Some(active) = self.active_subscriptions.get_mut(&number) {
                    active.intended = active.settings.clone();
                }
                let _ = reply.send(Err(unavailable.into()));
            }
            OnCommit::Delete(_, reply) | OnCommit::Tell(reply) => {
                let _ = reply.send(Err(unavailable.into()));
            }
            OnCommit::Dispatch { .. } => self.schedule_refused(&unavailable, now),
            OnCommit::Append { restart, reply } => {
                if let Some(number) = restart {
                    self.note_move(number, -1);
                }
                let error = match reason {
                    AppendError::Unavailable(_) => unavailable.into(),
                    other => PublishError::from(other).into(),
                };
                let _ = reply.send(Err(error));
            }
        }
    }

    /// What a step is about has been deleted.
    pub(super) fn target_gone(&mut self, ticket: u64) {
        match self.in_flight.take(ticket) {
            Some((_, OnCommit::Create { topic, name, reply, .. })) => {
                let error = SubscriptionError::TopicNotFound(topic.name.clone());
                self.refuse_creation(&(topic.log.number, name), reply, &error);
            }
            Some((_, OnCommit::Append { restart: Some(number), .. })) => self.note_move(number, -1),
            _ => {}
        }
    }

    /// A subscription is not created: everybody who wanted it is told why.
    fn refuse_creation(
        &mut self,
        key: &(u32, SubscriptionName),
        reply: DoneReply,
        error: &SubscriptionError,
    ) {
        let others = self.creating.remove(key).unwrap_or_default();
        for reply in others.into_iter().chain([reply]) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    // ---- starting anew ----

    /// A move of a subscription is on its way through the journal, or (with -1) could not be made.
    pub(in crate::durable) fn note_move(&mut self, number: u32, change: isize) {
        if let Some(active) = self.active_subscriptions.get_mut(&number) {
            active.note_move(change);
            self.touched.insert(number);
        }
    }

    fn finish_move(&mut self, number: u32, now: Moment) {
        self.note_move(number, -1);
        self.restart(number, now);
    }

    /// Lets an active subscription start anew from its state. What it had not handed to the journal is lost with it, and those who wait are told so.
    pub(super) fn restart(&mut self, number: u32, now: Moment) {
        let Some(active) = self.active_subscriptions.get_mut(&number) else { return };
        let lost =
            self.core.subscriptions.with(number, |state| active.restart(state, now)).unwrap_or_default();
        self.touched.insert(number);
        self.tell_stale(lost);
    }

    pub(in crate::durable) fn tell_stale(&mut self, waiters: impl IntoIterator<Item = Waiter>) {
        waiters.into_iter().for_each(|waiter| self.in_flight.tell(Some(waiter), Fate::Stale));
    }
}

/// Divides settlement batches into small parts, each with what waits for it.
fn pieces(changes: Vec<Change>, booked: Vec<Booked>) -> Vec<(Change, Vec<Booked>)> {
    let mut waiting: HashMap<u32, Vec<Booked>> = HashMap::new();
    for booked in booked {
        waiting.entry(booked.subscription).or_default().push(booked);
    }
    let mut pieces = Vec::new();
    for change in changes {
        let mut own = waiting.remove(&change.number()).unwrap_or_default();
        own.sort_by_key(|booked| booked.offset);
        let mut rest = vec![(change, own)];
        while let Some((mut change, mut own)) = rest.pop() {
            if let Some(middle) = middle_of(&own)
                && change.encode().len() > PIECE_BYTES
                && let Change::Settled { number, batch } = &mut change
            {
                let behind = Change::Settled { number: *number, batch: batch.split_off(middle) };
                let from = own.partition_point(|booked| booked.offset < middle);
                rest.push((behind, own.split_off(from)));
                rest.push((change, own));
            } else {
                pieces.push((change, own));
            }
        }
    }
    pieces
}

/// An offset that divides what is in order; none if it is all of one message.
fn middle_of(booked: &[Booked]) -> Option<u64> {
    let (first, middle, last) = (booked.first()?, booked.get(booked.len() / 2)?, booked.last()?);
    let at = if middle.offset > first.offset { middle } else { last };
    (at.offset > first.offset).then_some(at.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::event::Booking;
    use ratatoskr_state::SettlementBatch;

    #[test]
    fn a_settlement_batch_is_divided_into_parts_that_say_the_same_together() {
        let (mut changes, mut booked) = (Vec::new(), Vec::new());
        for subscription in 1..4 {
            let mut batch = SettlementBatch::default();
            for offset in (0..2000).step_by(subscription as usize + 1) {
                crate::durable::changes::note(&mut batch, offset, &Booking::Settled);
                booked.push(Booked { subscription, offset, waiter: None });
            }
            changes.push(Change::Settled { number: subscription, batch });
        }
        let pieces = pieces(changes.clone(), booked);
        assert!(pieces.len() > 3);
        let mut together: Vec<Change> =
            (1..4).map(|number| Change::Settled { number, batch: SettlementBatch::default() }).collect();
        let mut waiting = 0;
        for (piece, booked) in &pieces {
            assert!(piece.encode().len() <= PIECE_BYTES);
            let Change::Settled { number, batch } = piece else { panic!("{piece:?}") };
            assert!(booked.iter().all(|booked| booked.subscription == *number));
            assert!(booked.iter().all(|booked| batch.acked.contains(booked.offset)));
            waiting += booked.len();
            let whole = together.iter_mut().find(|whole| whole.number() == *number);
            let Some(Change::Settled { batch: whole, .. }) = whole else { panic!("{number}") };
            batch.acked.iter().for_each(|range| assert!(whole.acked.insert(range) > 0));
        }
        assert_eq!(together, changes);
        assert_eq!(waiting, 1000 + 667 + 500);
    }
}

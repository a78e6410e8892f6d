//! How a lease ends: what its member says, what the journal answers, or that nobody says anything.
//!
//! ```text
//!   ack, reject, nack ──book──▶ journal ──committed──▶ gone, waiting, or ready
//!                                  └──────refused────▶ leased as before, or as if the lease had ended
//!   lease ended, member vanished ──fail──▶ ready, or booked as dead when its attempts are used up
//!   release ──▶ ready, and the attempt is not counted
//! ```
//!
//! Whoever settles under another lease than the one that runs settles nothing. Which messages go out, and to whom, is not decided here.

use std::sync::Arc;

use super::{Delivery, Hold, Lease};
use crate::durable::event::{Booking, Effect, Outcome, Spent};

/// A burial the journal refused is tried again after so long.
const BURIAL_RETRY_MS: u64 = 1000;
impl<Cargo> Delivery<Cargo> {
    pub(super) fn settle(&mut self, offset: u64, lease_number: u64, outcome: Outcome) {
        let held = self.held.get_mut(&offset);
        let Some((Hold::Leased(lease), letter)) = held.filter(|(hold, _)| {
            matches!(hold, Hold::Leased(lease) if lease.number == lease_number && lease.until_ms > self.now.steady_ms)
        }) else {
            return self.effects.push(Effect::Stale);
        };
        let (attempts, first_ms, last_ms) = (letter.attempts, letter.first_ms, letter.last_ms);
        let spent = |reason| Box::new(Spent { attempts, first_ms, last_ms, reason });
        let booking = match outcome {
            Outcome::Ack => Booking::Settled,
            Outcome::Extend { lease_ms } => {
                self.due.remove(&(lease.until_ms, offset));
                lease.until_ms = self.now.after(lease_ms.unwrap_or(self.settings.lease_ms)).steady_ms;
                self.due.insert((lease.until_ms, offset));
                return self.effects.push(Effect::Done);
            }
            Outcome::Release => {
                self.release(offset);
                return self.effects.push(Effect::Done);
            }
            Outcome::Nack { reason, .. } if self.settings.is_exhausted(attempts) => {
                Booking::Buried(spent(shared(&mut self.last_reason, &reason)))
            }
            Outcome::Reject { reason } => Booking::Buried(spent(shared(&mut self.last_reason, &reason))),
            Outcome::Nack { delay_ms, reason } => {
                let chance = self.chance.f64();
                let delay_ms = delay_ms.unwrap_or_else(|| self.settings.retry_delay_ms(attempts, chance));
                let until = self.now.after(delay_ms);
                Booking::Returned { until, spent: spent(shared(&mut self.last_reason, &reason)) }
            }
        };
        self.due.remove(&(lease.until_ms, offset));
        let lease = Some(*lease);
        self.book(offset, lease, booking);
    }

    pub(super) fn lost(&mut self, offset: u64, lease_number: u64) {
        if let Some((Hold::Leased(lease), _)) = self.held.get(&offset)
            && lease.number == lease_number
        {
            let lease = *lease;
            self.due.remove(&(lease.until_ms, offset));
            self.book(offset, Some(lease), Booking::Expired);
        }
    }

    pub(super) fn book(&mut self, offset: u64, lease: Option<Lease>, booking: Booking) {
        let (hold, _) = self.held.get_mut(&offset).expect("what is booked is held");
        *hold = Hold::Booking { lease, booking: booking.clone() };
        self.effects.push(Effect::Book { offset, booking });
    }

    pub(super) fn committed(&mut self, offset: u64) {
        let is_booking = matches!(self.held.get(&offset), Some((Hold::Booking { .. }, _)));
        if !is_booking {
            return;
        }
        let Some((Hold::Booking { lease, booking }, letter)) = self.take_held(offset) else { return };
        self.leave_member(lease, offset, letter.bytes);
        match booking {
            Booking::Returned { until, .. } if until.steady_ms > self.now.steady_ms => {
                let until_ms = until.steady_ms;
                self.due.insert((until_ms, offset));
                self.held.insert(offset, (Hold::Waiting { until_ms }, letter));
            }
            Booking::Returned { .. } => self.make_ready(offset, letter, None),
            Booking::Settled | Booking::Expired | Booking::Buried(_) => self.free_lane(letter.lane),
        }
    }

    pub(super) fn refused(&mut self, offset: u64) {
        let Some((Hold::Booking { lease, booking }, letter)) = self.held.get(&offset) else { return };
        let (lease, booking, bytes) = (*lease, booking.clone(), letter.bytes);
        let is_there = |lease: &Lease| lease.member.is_none_or(|member| self.turns.contains(member));
        let still = lease.filter(|lease| lease.until_ms > self.now.steady_ms && is_there(lease));
        match (still, booking) {
            // Its holder may try again.
            (Some(lease), _) => {
                self.due.insert((lease.until_ms, offset));
                self.set_hold(offset, Hold::Leased(lease));
            }
            (None, booking @ Booking::Buried(_)) => {
                let until_ms = self.now.after(BURIAL_RETRY_MS).steady_ms;
                self.leave_member(lease, offset, bytes);
                self.leased -= 1;
                self.due.insert((until_ms, offset));
                self.set_hold(offset, Hold::Unburied { until_ms, booking });
            }
            (None, _) => {
                let lease = lease.unwrap_or(Lease { member: None, number: 0, until_ms: self.now.steady_ms });
                self.set_hold(offset, Hold::Leased(lease));
                self.fail(offset, "lease ended");
            }
        }
    }

    /// A delivery that came to nothing: again at once, or to the dead letters.
    pub(super) fn fail(&mut self, offset: u64, reason: &str) {
        let Some((Hold::Leased(lease), letter)) = self.held.get(&offset) else { return };
        let (lease, attempts) = (*lease, letter.attempts);
        let (first_ms, last_ms, reason) =
            (letter.first_ms, letter.last_ms, shared(&mut self.last_reason, reason));
        let spent = Box::new(Spent { attempts, first_ms, last_ms, reason });
        self.due.remove(&(lease.until_ms, offset));
        if self.settings.is_exhausted(attempts) {
            return self.book(offset, Some(lease), Booking::Buried(spent));
        }
        let Some((_, letter)) = self.take_held(offset) else { return };
        self.leave_member(Some(lease), offset, letter.bytes);
        let booking = Booking::Returned { until: self.now, spent };
        self.effects.push(Effect::Note { offset, booking });
        self.make_ready(offset, letter, None);
    }

    /// Back to where it was before it was leased.
    pub(super) fn release(&mut self, offset: u64) {
        let Some((Hold::Leased(lease), _)) = self.held.get(&offset) else { return };
        let lease = *lease;
        let Some((_, mut letter)) = self.take_held(offset) else { return };
        self.due.remove(&(lease.until_ms, offset));
        self.leave_member(Some(lease), offset, letter.bytes);
        letter.attempts -= 1;
        self.make_ready(offset, letter, None);
    }

    fn set_hold(&mut self, offset: u64, hold: Hold) {
        self.held.get_mut(&offset).expect("its hold was just looked at").0 = hold;
    }

    fn leave_member(&mut self, lease: Option<Lease>, offset: u64, bytes: u32) {
        if let Some(member) = lease.and_then(|lease| lease.member) {
            self.turns.let_go(member, offset, bytes);
        }
    }
}

/// A reason, shared with the one before if it is the same: a million messages may come back for one reason.
fn shared(last: &mut Arc<str>, reason: &str) -> Arc<str> {
    if **last != *reason {
        *last = reason.into();
    }
    last.clone()
}

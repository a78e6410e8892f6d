//! How a delivery is settled: what its member says, and what the journal answers.
//!
//! ```text
//!   ack, reject, nack ──▶ journal ──committed──▶ gone, waiting, or ready
//!                                  └──────refused────▶ leased as before, or as if the lease had ended
//!   release ──▶ ready, and the attempt is not counted
//! ```
//!
//! Whoever settles under another lease than the one that runs settles nothing. What is in the log no more can be acked, and does not come
//! back. Leases that end without a settlement: `returning.rs`.

use ratatoskr_state::remembered;
use std::sync::Arc;

use super::{Delivery, Hold, Lease};
use crate::durable::event::{Booking, Effect, Letter, MemberId, Outcome, Spent};

/// A dead-lettering the journal refused is tried again after so long.
const BURIAL_RETRY_MS: u64 = 1000;
impl<Cargo> Delivery<Cargo> {
    pub(super) fn settle(&mut self, offset: u64, lease_number: u64, outcome: Outcome) {
        let held = self.held.get_mut(&offset);
        let Some((Hold::Leased(lease), letter)) = held.filter(|(hold, _)| {
            matches!(hold, Hold::Leased(lease) if lease.number == lease_number && lease.until_ms > self.now.steady_ms)
        }) else {
            self.round_robin.note_late(lease_number, self.next_lease);
            return self.effects.push(Effect::Stale);
        };
        let (is_gone, is_excluded) = (offset < self.first, letter.is_excluded);
        let (attempts, first_ms, last_ms) = (letter.attempts, letter.first_ms, letter.last_ms);
        let spent = |reason| Box::new(Spent { attempts, first_ms, last_ms, reason });
        let booking = match outcome {
            Outcome::Ack => Booking::Settled,
            Outcome::Extend { lease_ms } => {
                self.due.remove(&(lease.until_ms, offset));
                lease.until_ms = self.now.after(lease_ms.unwrap_or(self.settings.lease_ms)).steady_ms;
                self.due.insert((lease.until_ms, offset));
                let member = lease.member;
                self.note_life(member);
                return self.effects.push(Effect::Done);
            }
            Outcome::Release => {
                let member = lease.member;
                self.note_life(member);
                // First what was asked for.
                self.effects.push(Effect::Done);
                return self.release(offset);
            }
            Outcome::Nack { .. } | Outcome::Reject { .. } if is_gone => Booking::Expired,
            Outcome::Nack { .. } if is_excluded => Booking::Passed,
            Outcome::Nack { reason, .. } if self.settings.is_exhausted(attempts) => {
                Booking::DeadLettered(spent(shared(&mut self.last_reason, &reason)))
            }
            Outcome::Reject { reason } => {
                Booking::DeadLettered(spent(shared(&mut self.last_reason, &reason)))
            }
            Outcome::Nack { delay_ms, reason } => {
                let chance = self.chance.f64();
                let delay_ms = delay_ms.unwrap_or_else(|| self.settings.retry_delay_ms(attempts, chance));
                let until = self.now.after(delay_ms);
                let reason = shared(&mut self.last_reason, remembered(&reason));
                Booking::Returned { until, spent: spent(reason) }
            }
        };
        self.due.remove(&(lease.until_ms, offset));
        let lease = *lease;
        if let Some(member) = lease.member {
            self.round_robin.note_settled(member, lease.number, self.next_lease);
        }
        self.record_outcome(offset, Some(lease), booking);
    }

    pub(super) fn lost(&mut self, offset: u64, lease_number: u64) {
        if let Some((Hold::Leased(lease), _)) = self.held.get(&offset)
            && lease.number == lease_number
        {
            let lease = *lease;
            self.due.remove(&(lease.until_ms, offset));
            self.record_outcome(offset, Some(lease), Booking::Expired);
        }
    }

    pub(super) fn record_outcome(&mut self, offset: u64, lease: Option<Lease>, booking: Booking) {
        let (hold, _) = self.held.get_mut(&offset).expect("what is booked is held");
        *hold = Hold::Booking { lease, booking: booking.clone() };
        self.effects.push(Effect::Journal { offset, booking });
    }

    pub(super) fn committed(&mut self, offset: u64) {
        let is_booking = matches!(self.held.get(&offset), Some((Hold::Booking { .. }, _)));
        if !is_booking {
            return;
        }
        let Some((Hold::Booking { lease, booking }, letter)) = self.take_held(offset) else { return };
        self.leave_member(lease, offset, letter.bytes);
        match booking {
            Booking::Returned { until, .. } => {
                if let Some(gone) = self.gone_as(offset, &letter) {
                    return self.drop_message(offset, &letter, gone);
                }
                // Somebody has looked at it and lived to tell.
                let letter = Letter { returns: 0, suspicions: 0, is_suspect: false, ..letter };
                self.wait(offset, letter, until.steady_ms);
            }
            Booking::Settled | Booking::Expired | Booking::Passed | Booking::DeadLettered(_) => {
                self.free_lane(letter.lane);
            }
        }
    }

    pub(super) fn refused(&mut self, offset: u64) {
        let Some((Hold::Booking { lease, booking }, letter)) = self.held.get(&offset) else { return };
        let (lease, booking, bytes) = (*lease, booking.clone(), letter.bytes);
        let is_there = |lease: &Lease| lease.member.is_none_or(|member| self.round_robin.contains(member));
        let still = lease.filter(|lease| lease.until_ms > self.now.steady_ms && is_there(lease));
        match (still, booking) {
            // Its holder may try again.
            (Some(lease), _) => {
                self.due.insert((lease.until_ms, offset));
                self.set_hold(offset, Hold::Leased(lease));
            }
            (None, booking @ Booking::DeadLettered(_)) => {
                let until_ms = self.now.after(BURIAL_RETRY_MS).steady_ms;
                self.leave_member(lease, offset, bytes);
                self.leased -= 1;
                self.due.insert((until_ms, offset));
                self.set_hold(offset, Hold::Unburied { until_ms, booking });
            }
            (None, booking) => {
                let lease = lease.unwrap_or(Lease { member: None, number: 0, until_ms: self.now.steady_ms });
                self.set_hold(offset, Hold::Leased(lease));
                if matches!(booking, Booking::Returned { .. }) {
                    return self.fail(offset, "lease ended", 0);
                }
                // Its member was done with it in time: that this could not be written down is no fault of the message's.
                self.release(offset);
            }
        }
    }

    fn note_life(&mut self, member: Option<MemberId>) {
        if let Some(member) = member {
            self.round_robin.note_life(member, self.next_lease);
        }
    }

    fn set_hold(&mut self, offset: u64, hold: Hold) {
        self.held.get_mut(&offset).expect("its hold was just looked at").0 = hold;
    }

    pub(super) fn leave_member(&mut self, lease: Option<Lease>, offset: u64, bytes: u32) {
        if let Some(member) = lease.and_then(|lease| lease.member) {
            self.round_robin.let_go(member, offset, bytes);
        }
    }
}

/// A reason, shared with the one before if it is the same: a million messages may come back for one reason.
pub(super) fn shared(last: &mut Arc<str>, reason: &str) -> Arc<str> {
    if **last != *reason {
        *last = reason.into();
    }
    last.clone()
}

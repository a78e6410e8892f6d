//! How a delivery ends that nobody settles, and what that costs the message.
//!
//! ```text
//!   broker ends the stream ──▶ ready, as if it had never been delivered
//!   stream closed ───────────▶ ready; from the second time on a suspect, after the retry delay
//!   member vanished ─┬ with it alone ────▶ counts as an attempt; a suspect, after the retry delay
//!                    └ with others, too ─▶ counts for none of them; suspects, after the retry delay
//!   lease ended ─────┬ of it alone ──────▶ counts as an attempt; ready
//!                    └ among others ─────▶ the same, but no dead letter comes of it: with its attempts used up it is a suspect;
//!                                          where a pull left it, it is a suspect before its last attempt, and dies of that
//! ```
//!
//! What is counted decides what becomes a dead letter, and nobody looked at most of what a member holds when it dies. So where one of
//! several messages may be the cause, none dies: they become *suspects*, each of which is delivered alone. Whichever then ends its member, or
//! lets its lease end, is known to do so; the deaths it was suspected of before count as well. A stream that is closed says nothing about its
//! messages; but a worker that dies by an exception looks just like it, so after [`FREE_RETURNS_MAX`] returns without a settlement each
//! further one is an attempt. A nack clears a message: somebody looked at it and lived.
//!
//! None of this is journaled but the attempts that count: after a restart of the broker a suspect is a message like any other.

use super::{Delivery, Lease, settling};
use crate::durable::delivery::Hold;
use crate::durable::event::{Booking, Effect, Leaving, Letter, MemberId, Spent};

/// How often a message may come back without a settlement before that counts as an attempt.
const FREE_RETURNS_MAX: u16 = 10;

impl<Cargo> Delivery<Cargo> {
    /// A member goes. What is being booked goes on without it.
    pub(super) fn leave(&mut self, member: MemberId, leaving: Leaving) {
        if leaving == Leaving::Detached {
            return self.round_robin.detach(member);
        }
        let mut leased: Vec<u64> = self.round_robin.leave(member).into_iter().collect();
        leased.retain(|offset| matches!(self.held.get(offset), Some((Hold::Leased(_), _))));
        let is_alone = leased.len() == 1;
        // The same for all, so that they keep their order.
        let chance = self.chance.f64();
        for offset in leased {
            match leaving {
                Leaving::Vanished if is_alone => {
                    self.set_suspect(offset);
                    let delay_ms = self.retry_delay_ms(offset, chance);
                    self.fail(offset, "member vanished", delay_ms);
                }
                Leaving::Vanished => self.come_back_suspected(offset, chance),
                Leaving::Closed => self.come_back(offset, chance),
                Leaving::Unharmed | Leaving::Detached => self.release(offset),
            }
        }
    }

    /// A lease has ended.
    pub(super) fn lapse(&mut self, offset: u64, lease: Lease) {
        let trial_ms = self.now.after(self.settings.lease_ms).steady_ms;
        let is_telling = lease
            .member
            .is_none_or(|member| self.round_robin.note_lapsed(member, (offset, lease.number), trial_ms));
        // A pull asked for as many as it got. It never has a message more often than it should, and the last time alone.
        let is_pulled = lease.member.is_some_and(|member| self.round_robin.has_left(member));
        // No delay: a lease is a wait already.
        if is_telling || is_pulled && self.is_exhausted(offset, 0) {
            return self.fail(offset, "lease ended", 0);
        }
        if self.is_exhausted(offset, u32::from(is_pulled)) {
            self.set_suspect(offset);
        }
        self.come_back_counted(offset, "lease ended", 0);
    }

    /// A delivery that came to nothing, and counts: again after a delay, or to the dead letters.
    pub(super) fn fail(&mut self, offset: u64, reason: &str, delay_ms: u64) {
        let Some((Hold::Leased(lease), letter)) = self.held.get_mut(&offset) else { return };
        let lease = *lease;
        letter.attempts += u32::from(std::mem::take(&mut letter.suspicions));
        let is_gone =
            self.held.get(&offset).is_some_and(|(_, letter)| self.gone_as(offset, letter).is_some());
        if is_gone || !self.is_exhausted(offset, 0) {
            return self.come_back_counted(offset, reason, delay_ms);
        }
        self.due.remove(&(lease.until_ms, offset));
        let spent = Box::new(self.spent(offset, reason));
        self.record_outcome(offset, Some(lease), Booking::DeadLettered(spent));
    }

    /// Back to where it was before it was leased.
    pub(super) fn release(&mut self, offset: u64) {
        self.come_back_uncounted(offset, 0);
    }

    /// A delivery that came to nothing, and counts: again after a delay.
    fn come_back_counted(&mut self, offset: u64, reason: &str, delay_ms: u64) {
        let spent = Box::new(self.spent(offset, reason));
        let Some(letter) = self.end_lease(offset) else { return };
        let until = self.now.after(delay_ms);
        self.effects.push(Effect::Note { offset, booking: Booking::Returned { until, spent } });
        self.wait(offset, letter, until.steady_ms);
    }

    /// Its stream was closed. Not counted unless that goes on and on.
    fn come_back(&mut self, offset: u64, chance: f64) {
        let Some((_, letter)) = self.held.get_mut(&offset) else { return };
        letter.returns = letter.returns.saturating_add(1);
        let returns = letter.returns;
        letter.is_suspect |= returns > 1;
        let delay_ms = if returns > 1 { self.retry_delay_ms(offset, chance) } else { 0 };
        if returns > FREE_RETURNS_MAX {
            let reason = format!("its stream was closed {returns} times without a settlement");
            return self.fail(offset, &reason, delay_ms);
        }
        self.come_back_uncounted(offset, delay_ms);
    }

    /// Its member vanished, and may have done so because of it, or of another that it held.
    fn come_back_suspected(&mut self, offset: u64, chance: f64) {
        let Some((_, letter)) = self.held.get_mut(&offset) else { return };
        letter.suspicions = letter.suspicions.saturating_add(1);
        letter.is_suspect = true;
        let delay_ms = self.retry_delay_ms(offset, chance);
        self.come_back_uncounted(offset, delay_ms);
    }

    fn come_back_uncounted(&mut self, offset: u64, delay_ms: u64) {
        let Some(mut letter) = self.end_lease(offset) else { return };
        letter.attempts -= 1;
        self.wait(offset, letter, self.now.after(delay_ms).steady_ms);
    }

    /// Takes a message from its member; `None` if it is in the log no more, or not wanted any more, and so gone.
    fn end_lease(&mut self, offset: u64) -> Option<Letter> {
        let Some((Hold::Leased(lease), _)) = self.held.get(&offset) else { return None };
        let lease = *lease;
        let (_, letter) = self.take_held(offset)?;
        self.due.remove(&(lease.until_ms, offset));
        self.leave_member(Some(lease), offset, letter.bytes);
        if let Some(booking) = self.gone_as(offset, &letter) {
            self.drop_message(offset, &letter, booking);
            return None;
        }
        Some(letter)
    }

    fn set_suspect(&mut self, offset: u64) {
        if let Some((_, letter)) = self.held.get_mut(&offset) {
            letter.is_suspect = true;
        }
    }

    /// Whether its attempts are used up, so many more taken for used.
    fn is_exhausted(&self, offset: u64, more: u32) -> bool {
        let attempts = self.held.get(&offset).map_or(0, |(_, letter)| letter.attempts);
        self.settings.is_exhausted(attempts.saturating_add(more))
    }

    /// What a message has used up.
    fn spent(&mut self, offset: u64, reason: &str) -> Spent {
        let (_, letter) = &self.held[&offset];
        let (attempts, first_ms, last_ms) = (letter.attempts, letter.first_ms, letter.last_ms);
        Spent { attempts, first_ms, last_ms, reason: settling::shared(&mut self.last_reason, reason) }
    }

    /// The delay before the next delivery, as the retry schedule has it.
    fn retry_delay_ms(&self, offset: u64, chance: f64) -> u64 {
        let attempts = self.held.get(&offset).map_or(1, |(_, letter)| letter.attempts);
        self.settings.retry_delay_ms(attempts, chance)
    }
}

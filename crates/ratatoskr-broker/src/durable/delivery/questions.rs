//! What is asked about a delivery: where messages are, and what they wait for. Nothing here changes anything.

use ratatoskr_log::Moment;

use super::{Delivery, Hold};
use crate::durable::event::{Census, MemberId};
use ratatoskr_state::limits::{UNSETTLED_MAX, UNSETTLED_MESSAGE_BYTES};

impl<Cargo> Delivery<Cargo> {
    /// What is read and not settled, bytes.
    pub(crate) fn memory(&self) -> u64 {
        let messages = self.ready.len() + self.suspects.len() + self.held.len() + self.lanes.parked();
        messages as u64 * UNSETTLED_MESSAGE_BYTES + self.ready_bytes
    }

    /// How much it may hold, bytes.
    pub(crate) fn memory_max(&self) -> u64 {
        self.memory_max
    }

    /// True when it may hold no more.
    pub(crate) fn is_full(&self) -> bool {
        let unsettled = self.held.len() + self.suspects.len() + self.lanes.parked();
        unsettled >= UNSETTLED_MAX || self.memory() >= self.memory_max
    }

    /// The lease a message is out on.
    pub(crate) fn lease_of(&self, offset: u64, now: Moment) -> Option<u64> {
        match self.held.get(&offset)?.0 {
            Hold::Leased(lease) if lease.until_ms > now.steady_ms => Some(lease.number),
            _ => None,
        }
    }

    /// Where a message of a lane is, in words, and until when, wall time; `None` when it is not in play.
    pub(crate) fn place_of(
        &self,
        (offset, lane): (u64, u64),
        now: Moment,
    ) -> Option<(&'static str, u64, u32)> {
        if let Some((letter, _)) = self.ready.get(&offset).or_else(|| self.suspects.get(&offset)) {
            return Some(("ready for the next member with room", 0, letter.attempts));
        }
        if let Some((hold, letter)) = self.held.get(&offset) {
            return Some(match hold {
                Hold::Leased(lease) => ("leased to a member", now.wall_at(lease.until_ms), letter.attempts),
                Hold::Waiting { retry_ms, .. } => {
                    ("waits for its retry", now.wall_at(*retry_ms), letter.attempts)
                }
                Hold::Booking { .. } => ("is being settled", 0, letter.attempts),
                Hold::Unburied { until_ms, .. } => {
                    ("is to become a dead letter, which failed", now.wall_at(*until_ms), letter.attempts)
                }
            });
        }
        let parked = self.lanes.find(lane, offset)?;
        Some(("parked behind an earlier message of its key", 0, parked.attempts))
    }

    /// The next retry there will be, steady time, and a message that holds back others of its key.
    pub(crate) fn obstacles(&self) -> (Option<u64>, Option<u64>) {
        let retry_of = |offset: &u64| match self.held.get(offset) {
            Some((Hold::Waiting { retry_ms, .. }, _)) => Some(*retry_ms),
            _ => None,
        };
        let retry = self.due.iter().find_map(|(_, offset)| retry_of(offset));
        let in_play = self.held.iter().find(|(_, (_, letter))| self.lanes.is_waited_for(letter.lane));
        (retry, in_play.map(|(&offset, _)| offset))
    }

    /// True while nothing is delivered because the filter was changed.
    pub(crate) fn is_under_review(&self) -> bool {
        self.is_under_review
    }

    /// How many messages a member holds.
    pub(crate) fn held_by(&self, member: MemberId) -> usize {
        self.round_robin.held_by(member)
    }

    /// True when a member let leases end and has not been heard from since: it gets nothing.
    pub(crate) fn is_stalled(&self, member: MemberId) -> bool {
        self.round_robin.is_stalled(member)
    }

    /// Messages to be delivered alone, of those that are ready.
    pub(crate) fn suspects(&self) -> usize {
        self.suspects.len()
    }

    pub(crate) fn census(&self) -> Census {
        Census {
            ready: self.ready.len() + self.suspects.len(),
            parked: self.lanes.parked(),
            parked_keys: self.lanes.waited_for(),
            leased: self.leased,
            waiting: self.held.len() - self.leased,
        }
    }
}

//! What is gone: purged, expired, or excluded by a new filter.
//!
//! One rule: what is in the log no more, has outlived its time to live, or is not wanted by the filter is gone from every place (ready,
//! waiting for a retry, parked behind its key), at once (what has expired within a second), and holds up nothing behind it. Only a lease goes on: its member may still settle the
//! message, but it does not come back.

use std::collections::BTreeSet;

use ratatoskr_log::Moment;

use super::{Delivery, Hold};
use crate::durable::event::{Booking, Effect, Letter};

/// Between two looks for expired messages, milliseconds: each goes through all that is in play.
const LOOK_MS: u64 = 1000;

/// When to look for expired messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    /// Nothing expires before, by the wall clock; `u64::MAX` if nothing does.
    next_ms: u64,
    /// Not before, steady time.
    look_ms: u64,
}

impl Expiry {
    pub(super) fn never() -> Expiry {
        Expiry { next_ms: u64::MAX, look_ms: 0 }
    }

    /// A message is in play from now on.
    pub(super) fn note(&mut self, letter: &Letter) {
        if letter.expires_ms != 0 {
            self.next_ms = self.next_ms.min(letter.expires_ms);
        }
    }

    /// When to look, steady time.
    pub(super) fn due_ms(&self, now: Moment) -> Option<u64> {
        let left_ms = self.next_ms.saturating_sub(now.wall_ms);
        (self.next_ms != u64::MAX).then(|| now.after(left_ms).steady_ms.max(self.look_ms))
    }
}

impl<Cargo> Delivery<Cargo> {
    /// Everything before an offset is in the log no more.
    pub(super) fn trim(&mut self, first: u64) {
        self.first = self.first.max(first);
        if self.first <= self.oldest {
            return;
        }
        self.remove(|offset, _| offset < first, &Booking::Expired);
        let in_play = self.ready.keys().next().into_iter().chain(self.suspects.keys().next()).copied();
        // What is leased and older does not come back.
        let held = self.held.keys().copied().filter(|offset| *offset >= first);
        let oldest = in_play.chain(held).chain(self.lanes.parked_offsets()).min();
        self.oldest = oldest.unwrap_or(self.cursor).min(self.cursor);
    }

    /// These are not wanted any more; the rest may be delivered again. Of those that are leased is noted that they do not come back.
    pub(super) fn exclude(&mut self, offsets: Vec<u64>) {
        self.is_under_review = false;
        let offsets: BTreeSet<u64> = offsets.into_iter().collect();
        for (offset, (hold, letter)) in &mut self.held {
            letter.is_excluded = !matches!(hold, Hold::Waiting { .. }) && offsets.contains(offset);
        }
        if !offsets.is_empty() {
            self.remove(|offset, _| offsets.contains(&offset), &Booking::Passed);
        }
    }

    /// What has outlived its time to live is gone, whether or not its turn would come.
    pub(super) fn remove_expired(&mut self) {
        let Moment { steady_ms, wall_ms } = self.now;
        if self.expiry.due_ms(self.now).is_none_or(|due_ms| due_ms > steady_ms) {
            return;
        }
        self.remove(|_, letter| letter.expires_ms != 0 && letter.expires_ms <= wall_ms, &Booking::Expired);
        // What is leased may come back.
        let held = self.held.values().map(|(_, letter)| letter);
        let ready = self.ready.values().chain(self.suspects.values()).map(|(letter, _)| letter);
        self.expiry = Expiry { next_ms: u64::MAX, look_ms: steady_ms + LOOK_MS };
        for letter in held.chain(ready).chain(self.lanes.parked_letters()) {
            if letter.expires_ms > wall_ms {
                self.expiry.note(letter);
            }
        }
    }

    /// Everything that has been read and is not settled, in order.
    pub(crate) fn unsettled(&self) -> Vec<u64> {
        let in_play = self.ready.keys().chain(self.suspects.keys()).chain(self.held.keys()).copied();
        let mut offsets: Vec<u64> = in_play.chain(self.lanes.parked_offsets()).collect();
        offsets.sort_unstable();
        offsets
    }

    /// Why a message that is leased, or in the hands of the journal, does not come back from there; `None` if it does.
    pub(super) fn gone_as(&self, offset: u64, letter: &Letter) -> Option<Booking> {
        if offset < self.first {
            return Some(Booking::Expired);
        }
        letter.is_excluded.then_some(Booking::Passed)
    }

    /// A message that is in no place any more is gone.
    pub(super) fn drop_message(&mut self, offset: u64, letter: &Letter, booking: Booking) {
        self.effects.push(Effect::Note { offset, booking });
        self.free_lane(letter.lane);
    }

    fn remove(&mut self, is_to_go: impl Fn(u64, &Letter) -> bool, booking: &Booking) {
        // Those that are parked first, so that none of them comes to the front of its key.
        for offset in self.lanes.remove_parked(&is_to_go) {
            self.effects.push(Effect::Note { offset, booking: booking.clone() });
        }
        let mut gone: Vec<(u64, Letter)> = Vec::new();
        for place in [&mut self.ready, &mut self.suspects] {
            let goes = |(offset, (letter, _)): (&u64, &(Letter, Option<Cargo>))| {
                is_to_go(*offset, letter).then_some(*offset)
            };
            let offsets: Vec<u64> = place.iter().filter_map(goes).collect();
            for offset in offsets {
                let Some((letter, cargo)) = place.remove(&offset) else { continue };
                self.ready_bytes -= letter.bytes_at_hand(cargo.as_ref());
                gone.push((offset, letter));
            }
        }
        let waits = |(offset, (hold, letter)): (&u64, &(Hold, Letter))| match hold {
            Hold::Waiting { until_ms, .. } if is_to_go(*offset, letter) => Some((*until_ms, *offset)),
            _ => None,
        };
        let waiting: Vec<(u64, u64)> = self.held.iter().filter_map(waits).collect();
        for (until_ms, offset) in waiting {
            self.due.remove(&(until_ms, offset));
            gone.extend(self.take_held(offset).map(|(_, letter)| (offset, letter)));
        }
        gone.sort_unstable_by_key(|(offset, _)| *offset);
        for (offset, letter) in gone {
            self.drop_message(offset, &letter, booking.clone());
        }
    }
}

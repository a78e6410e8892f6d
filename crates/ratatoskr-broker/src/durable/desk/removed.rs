//! Messages that were removed from the topic before the subscription had settled them.
//!
//! ```text
//!   first offset of the topic ─┐        purged before ─┐
//!   ─── settled ───┬── unsettled ── passed over ───────┴── expired ──┬─▶ what is still there
//!                  cursor or oldest                                  first
//! ```
//!
//! They are counted when they are removed, not when somebody would have read them, and written down as any other fate, so that a subscription
//! nobody works through shows what it has lost. What an operator purged was passed over; what retention took has expired. The filter is not
//! considered: what is gone cannot be looked at. A message that is leased is not among them: whoever has it may still settle it.

use ratatoskr_log::Moment;

use super::Desk;
use crate::durable::event::Event;

impl Desk {
    /// The topic may begin later than before, or later than the book says: to be looked at in this desk's next turn.
    pub(crate) fn must_look_for_removed(&mut self) {
        self.looks_for_removed = true;
    }

    /// Looks whether messages are gone, if it must. Answers how many retention has removed, unsettled, since this was asked last.
    pub(crate) fn take_removed(&mut self, now: Moment) -> u64 {
        if std::mem::take(&mut self.looks_for_removed) {
            self.messages_removed(now);
        }
        std::mem::take(&mut self.removed)
    }

    /// Everything before the topic's first offset is gone.
    pub(crate) fn messages_removed(&mut self, now: Moment) {
        if self.is_broken {
            return;
        }
        let first = self.topic.log.extent().first;
        // What goes by this alone.
        let before = std::mem::take(&mut self.round.expired);
        self.apply(Event::Trimmed { first }, now);
        let cursor = self.delivery.cursor();
        if first > cursor {
            for unread in self.recall.gaps(cursor, first) {
                self.round.expired.insert(unread);
            }
            self.recall.returned = self.recall.returned.split_off(&first);
            self.read_to(first, Vec::new(), now);
        }
        let gone = std::mem::replace(&mut self.round.expired, before);
        self.urgent |= !gone.is_empty();
        let purged_before = self.topic.purged_before().min(first);
        for range in gone.iter() {
            let purged = range.start..range.end.min(purged_before);
            let expired = range.start.max(purged_before)..range.end;
            if !purged.is_empty() {
                self.round.passed.insert(purged);
            }
            if !expired.is_empty() {
                // Beyond the first offset it was a message's own time to live.
                self.removed += expired.end.min(first).saturating_sub(expired.start);
                self.round.expired.insert(expired);
            }
        }
    }
}

//! Messages that were removed from the topic before the subscription had settled them.
//!
//! ```text
//!                                  purged before ─┐
//!   ─── settled ───┬── unsettled: expired, ─────────┴── and removed by retention ──┬─▶ what is still there
//!                  cursor or oldest                                                first
//! ```
//!
//! They are counted when they are removed, not when somebody would have read them, and written down as any other fate, so that a subscription
//! nobody works through shows what it has lost. All of it has expired; what retention took and nobody asked for is said aloud as well. The
//! filter is not considered: what is gone cannot be looked at. A subscription that is moved back to where messages are gone already has not lost
//! them again: those are passed over. A message that a member has been given is not among them: it may still be settled.

use ratatoskr_log::Moment;

use super::ActiveSubscription;
use crate::durable::event::Event;
use crate::durable::token::Token;

impl ActiveSubscription {
    /// The topic may begin later than before, or later than the state says: to be looked at in this active subscription's next turn.
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
        if first <= self.known_first && self.delivery.cursor() >= first {
            return;
        }
        let counted = std::mem::replace(&mut self.known_first, first);
        // What goes by this alone.
        let before = std::mem::take(&mut self.batch.expired);
        self.apply(Event::Trimmed { first }, now);
        // Nor are those there that members have not looked at yet.
        let unseen: Vec<Token> = self
            .member_queues
            .values()
            .flat_map(|(member_queue, _)| member_queue.take_back(|offset| offset < first))
            .collect();
        for Token { offset, lease, .. } in unseen {
            self.apply(Event::Lost { offset, lease }, now);
        }
        let cursor = self.delivery.cursor();
        if first > cursor {
            for unread in self.recall.gaps(cursor, first) {
                self.batch.expired.insert(unread);
            }
            self.recall.returned = self.recall.returned.split_off(&first);
            self.read_to(first, Vec::new(), now);
        }
        let mut gone = std::mem::replace(&mut self.batch.expired, before);
        self.urgent |= !gone.is_empty();
        let purged_before = self.topic.purged_before().min(first);
        let lost = gone.split_off(counted);
        // Only a subscription that was moved back has these open: they were gone before, and counted then if they were lost.
        for range in gone.iter() {
            self.batch.passed.insert(range);
        }
        for range in lost.iter() {
            // Beyond the first offset it was a message's own time to live.
            self.removed += range.end.min(first).saturating_sub(range.start.max(purged_before));
            self.batch.expired.insert(range);
        }
    }
}

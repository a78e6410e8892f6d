//! Steps of durable subscriptions: what is written about them, and appended with it, in one block.
//!
//! ```text
//!   courier ──step──▶ appends staged, events staged ──block──▶ books follow ──▶ courier: committed
//!                              └── an owner fails: all of it taken back ──────▶ courier: refused
//! ```

use tokio::sync::oneshot;

use super::{Append, Sequencer};
use crate::answer::Answer;
use crate::broken::Broken;
use crate::command::{AppendError, Appended, Records};
use crate::core::Core;
use crate::durable::{Happening, Request};
use crate::error::Unavailable;

/// A step of durable subscriptions on its way into the journal.
pub(super) struct Step {
    happenings: Vec<Happening>,
    /// Where the appends of the step went; known before the step is.
    appended: Vec<oneshot::Receiver<Result<Appended, AppendError>>>,
    ticket: u64,
}

impl Step {
    /// The block is durable: the books follow, then the courier is told.
    pub(super) fn succeed(self, core: &Core) {
        for happening in &self.happenings {
            core.books.apply(happening).expect("what was made here can be applied");
        }
        let appended =
            self.appended.into_iter().filter_map(|mut appended| appended.try_recv().ok()?.ok()).collect();
        let _ = core.courier.push(Request::Committed { ticket: self.ticket, appended });
    }

    pub(super) fn fail(self, core: &Core, reason: &AppendError) {
        let _ = core.courier.push(Request::Refused { ticket: self.ticket, reason: reason.clone() });
    }
}

impl Sequencer {
    /// Stages what is to be written about durable subscriptions, and what is to be appended with it, in one block.
    pub(super) fn stage_step(&mut self, happenings: Vec<Happening>, appends: Vec<Records>, ticket: u64) {
        let mut step = Step { happenings, appended: Vec::new(), ticket };
        if let Err(reason) = self.stage_appends_of(&mut step, appends) {
            return step.fail(&self.core, &reason);
        }
        for happening in &step.happenings {
            let topic = match happening {
                Happening::Created(created) => created.topic,
                _ => 0,
            };
            // A subscription of a topic that is gone could not be replayed.
            if topic != 0 && !self.is_alive(topic) {
                return step.fail(&self.core, &AppendError::Unavailable(Unavailable::ShuttingDown));
            }
            if Broken::Acks.is_on() && matches!(happening, Happening::Settled { .. }) {
                continue;
            }
            self.log.stage_event(topic, &happening.encode());
        }
        self.steps.push(step);
    }

    fn stage_appends_of(&mut self, step: &mut Step, appends: Vec<Records>) -> Result<(), AppendError> {
        if appends.is_empty() {
            return Ok(());
        }
        // Nothing else is staged then: if an owner fails, everything staged is this step's and can be taken back.
        self.commit();
        if let Some(reason) = self.wait_for_room() {
            return Err(AppendError::Unavailable(reason));
        }
        for records in appends {
            let (reply, mut appended) = oneshot::channel();
            self.append(Append { records, bytes: 0, reply });
            if let Ok(Err(reason)) = appended.try_recv() {
                self.take_back_appends();
                return Err(reason);
            }
            step.appended.push(appended);
        }
        Ok(())
    }

    fn is_alive(&self, topic: u32) -> bool {
        let is_known = self.core.topics.read().values().any(|known| known.log.number == topic);
        is_known && !self.deleting.contains(&topic)
    }

    /// Takes back all records that are staged; topics that are being created stay.
    fn take_back_appends(&mut self) {
        let topics: Vec<_> = self.waiting.iter().map(|waiting| waiting.topic.clone()).collect();
        for topic in topics {
            self.log.unstage(&topic.log);
        }
        self.core.dedup.take_back();
        self.waiting.retain(|waiting| !matches!(waiting.answer, Answer::Append { .. }));
    }
}

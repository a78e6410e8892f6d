//! Steps of durable subscriptions: what is written about them, and appended with it, in one block.
//!
//! ```text
//!   dispatcher ──step──▶ appends looked at ──▶ events and appends staged ──block──▶ applied ──▶ dispatcher: committed
//!                            └── refused ──▶ dispatcher: refused           └── an owner panics: the block is given up
//! ```
//!
//! Many steps share a block. All that can be refused is found out before anything is staged; a panic of an owner amid a step is the one
//! thing that cannot, and then everybody in the block is told to try again. What the step is about may be gone by then: that is said by a
//! word of its own.
//!
//! What is final only here is checked here: that dead letters which are to be resolved still are open, and their subscription still
//! there.

use ratatoskr_state::Change;
use tokio::sync::oneshot;

use super::{Prepared, Sequencer};
use crate::command::{AppendError, AppendReply, Appended, Records, Reply};
use crate::core::Core;
use crate::durable::{NotResolved, Refused, Request, Resolving, reserve_of};
use crate::error::Unavailable;

/// A step of durable subscriptions on its way into the journal.
pub(super) struct Step {
    changes: Vec<Change>,
    /// Where the appends of the step went; known before the step is.
    appended: Vec<oneshot::Receiver<Result<Appended, AppendError>>>,
    /// The topics appended to.
    topics: Vec<u32>,
    ticket: u64,
    /// How many dead letters it resolves, and who wants to know.
    resolved: Option<(u64, Reply<Result<u64, NotResolved>>)>,
}

impl Step {
    fn new(ticket: u64, changes: Vec<Change>) -> Step {
        Step { changes, appended: Vec::new(), topics: Vec::new(), ticket, resolved: None }
    }

    /// Appends are answered: the dispatcher is told.
    pub(super) fn succeed(self, core: &Core) {
        let appended =
            self.appended.into_iter().filter_map(|mut appended| appended.try_recv().ok()?.ok()).collect();
        let _ = core.dispatcher.push(Request::Committed { ticket: self.ticket, appended });
        if let Some((count, reply)) = self.resolved {
            let _ = reply.send(Ok(count));
        }
    }

    pub(super) fn appends_to(&self, topic: u32) -> bool {
        self.topics.contains(&topic)
    }

    /// What it is about has been deleted.
    fn withdraw(self, core: &Core) {
        let _ = core.dispatcher.push(Request::TargetGone { ticket: self.ticket });
    }

    pub(super) fn fail(self, core: &Core, reason: AppendError) {
        for change in &self.changes {
            if let Change::Created(created) = change {
                core.subscriptions.open(created.number);
            }
        }
        let refused = Refused { reason: reason.clone(), changes: self.changes };
        let _ = core.dispatcher.push(Request::Refused { ticket: self.ticket, refused });
        if let Some((_, reply)) = self.resolved {
            let _ = reply.send(Err(NotResolved::Refused(reason)));
        }
    }
}

impl Sequencer {
    /// Stages what is to be written about durable subscriptions, and what is to be appended with it, in one block.
    pub(super) fn stage_step(&mut self, changes: Vec<Change>, appends: Vec<Records>, ticket: u64) {
        self.stage(Step::new(ticket, changes), appends);
    }

    /// Stages what is still to be done about dead letters.
    pub(super) fn stage_resolving(&mut self, mut resolving: Resolving, ticket: u64) {
        // What is staged may settle the same letters, or delete a subscription: the states have to know it.
        self.commit();
        match resolving.keep_open(&self.core.subscriptions) {
            Ok((change, count)) => {
                let resolved = Some((count, resolving.reply));
                if count == 0 {
                    return Step { resolved, ..Step::new(ticket, Vec::new()) }.succeed(&self.core);
                }
                let step = Step { resolved, ..Step::new(ticket, vec![change]) };
                self.stage(step, resolving.redrive.into_iter().collect());
            }
            Err(gone) => {
                Step::new(ticket, Vec::new()).withdraw(&self.core);
                let _ = resolving.reply.send(Err(gone));
            }
        }
    }

    fn stage(&mut self, mut step: Step, appends: Vec<Records>) {
        for change in &step.changes {
            // A subscription of a topic that is gone could not be replayed.
            if let Change::Created(created) = change
                && !self.is_alive(created.topic)
            {
                return step.withdraw(&self.core);
            }
        }
        let ready = match self.prepare_all(appends) {
            Ok(ready) => ready,
            Err(reason) => return step.fail(&self.core, reason),
        };
        // From here on nothing can be refused: whatever fails takes the whole block with it.
        let reserve = reserve_of(&step.changes);
        for change in &step.changes {
            let topic = if let Change::Created(created) = change { created.topic } else { 0 };
            if let Change::Created(created) = change {
                self.core.subscriptions.note_opening(created.number);
            }
            self.log.stage_change(topic, &change.encode(), reserve);
        }
        let mut topics_failed = Vec::new();
        for prepared in ready {
            let (reply, appended) = oneshot::channel();
            step.appended.push(appended);
            step.topics.push(prepared.topic.log.number);
            if let Err(topic) = self.place(prepared, AppendReply::Caller(reply)) {
                topics_failed.push(topic);
            }
        }
        self.steps.push(step);
        if let Some(topic) = topics_failed.pop() {
            self.abandon_block(&Unavailable::TopicRestarting { topic });
        }
    }

    fn prepare_all(&mut self, appends: Vec<Records>) -> Result<Vec<Prepared>, AppendError> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        // Nothing may follow a topic's deletion in its block: the journal could not be read again.
        if !self.deleting.is_empty() {
            self.commit();
        }
        if let Some(reason) = self.wait_for_room() {
            return Err(AppendError::Unavailable(reason));
        }
        appends.into_iter().map(|records| self.prepare(records)).collect()
    }

    fn is_alive(&self, topic: u32) -> bool {
        self.core.topic_numbered(topic).is_some() && !self.deleting.contains(&topic)
    }
}

//! What the dispatcher waits for: steps on their way through the journal, and the members to be told their fates.
//!
//! ```text
//!   settle call ──▶ answer: a fate each, open until all are known
//!                      ▲ waiter (answer, index) goes along with the booking: active subscription ▸ ticket ▸ journal ▸ told
//! ```
//!
//! Invariant: whoever holds a waiter tells it, once; an active subscription that starts anew tells those of whatever it loses.

use ratatoskr_state::{Due, SubscriptionName};
use std::collections::HashMap;
use std::sync::Arc;

use super::request::{CreatedBy, DoneReply, Fate, SettleError, SettleReply};
use crate::command::{Appended, Reply};
use crate::topic::Topic;

/// Who waits to be told what became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    answer: u64,
    /// Which of its fates.
    index: u32,
}

/// A message whose delivery waits for a ticket.
#[derive(Debug)]
pub(super) struct Booked {
    pub(super) subscription: u32,
    pub(super) offset: u64,
    pub(super) waiter: Option<Waiter>,
}

/// What is to be done once a step is through.
pub(super) enum OnCommit {
    Nothing,
    Create {
        number: u32,
        topic: Arc<Topic>,
        name: SubscriptionName,
        created_by: Option<CreatedBy>,
        reply: DoneReply,
    },
    Change(u32, DoneReply),
    Delete(u32, DoneReply),
    /// Nobody used the subscription for as long as its expiry says: it is deleted.
    Expire(u32),
    /// The subscription stands elsewhere now.
    Restart(u32, DoneReply),
    Tell(DoneReply),
    /// Messages of the schedule were moved, or carried forward.
    Dispatch {
        moved: Vec<Due>,
        /// Of these, how many were for a topic that is gone.
        void: u64,
    },
    Append {
        restart: Option<u32>,
        reply: Reply<Result<Vec<Appended>, SettleError>>,
    },
}

/// See the file's head.
#[derive(Default)]
pub(super) struct InFlight {
    under_way: HashMap<u64, (Vec<Booked>, OnCommit)>,
    last_ticket: u64,
    answers: HashMap<u64, Answer>,
    last_answer: u64,
}

struct Answer {
    reply: SettleReply,
    fates: Vec<Option<Fate>>,
    /// Fates that are not known yet.
    open: usize,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// True while a step of the schedule is on its way.
    pub(super) fn is_dispatching(&self) -> bool {
        self.under_way.values().any(|(_, after)| matches!(after, OnCommit::Dispatch { .. }))
    }

    pub(super) fn issue(&mut self, booked: Vec<Booked>, after: OnCommit) -> u64 {
        self.last_ticket += 1;
        self.under_way.insert(self.last_ticket, (booked, after));
        self.last_ticket
    }

    pub(super) fn take(&mut self, ticket: u64) -> Option<(Vec<Booked>, OnCommit)> {
        self.under_way.remove(&ticket)
    }

    /// Answers a call once each of its settlements has a fate; these are its waiters.
    pub(super) fn ask(&mut self, reply: SettleReply, count: usize) -> impl Iterator<Item = Waiter> + use<> {
        self.last_answer += 1;
        let answer = self.last_answer;
        if count == 0 {
            let _ = reply.send(Vec::new());
        } else {
            self.answers.insert(answer, Answer { reply, fates: vec![None; count], open: count });
        }
        (0..count as u32).map(move |index| Waiter { answer, index })
    }

    /// A fate is known. One that was told before stays as it was.
    pub(super) fn tell(&mut self, waiter: Option<Waiter>, fate: Fate) {
        let Some(Waiter { answer: number, index }) = waiter else { return };
        let Some(answer) = self.answers.get_mut(&number) else { return };
        let told = &mut answer.fates[index as usize];
        if told.is_some() {
            return;
        }
        *told = Some(fate);
        answer.open -= 1;
        if answer.open == 0
            && let Some(answer) = self.answers.remove(&number)
        {
            let _ = answer.reply.send(answer.fates.into_iter().flatten().collect());
        }
    }
}

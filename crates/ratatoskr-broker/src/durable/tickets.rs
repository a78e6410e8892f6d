//! What the courier waits for: steps on their way through the journal, and the members to be told their fates.

use std::collections::HashMap;
use std::sync::Arc;

use super::request::{DoneReply, Fate, SettleError, SettleReply};
use super::settings::SubscriptionName;
use crate::command::{Appended, Reply};
use crate::error::Unavailable;
use crate::schedule::Due;
use crate::topic::Topic;

/// A message whose delivery waits for a ticket.
pub(super) struct Booked {
    pub(super) subscription: u32,
    /// The delivery's generation when it was booked.
    pub(super) generation: u64,
    pub(super) offset: u64,
}

/// What is to be done once a step is through.
pub(super) enum After {
    Nothing,
    Create {
        number: u32,
        topic: Arc<Topic>,
        name: SubscriptionName,
        reply: DoneReply,
    },
    Change(u32, DoneReply),
    Delete(u32, DoneReply),
    /// The subscription stands elsewhere now.
    Restart(u32, DoneReply),
    Tell(u32, DoneReply),
    /// Messages of the schedule were moved, or carried forward.
    Dispatch {
        moved: Vec<Due>,
    },
    Append {
        restart: Option<u32>,
        reply: Reply<Result<Vec<Appended>, SettleError>>,
    },
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Tickets {
    under_way: HashMap<u64, (Vec<Booked>, After)>,
    last_ticket: u64,
    answers: HashMap<u64, Answer>,
    last_answer: u64,
    /// Which answer, and which fate in it, waits for a message of a subscription.
    waiting: HashMap<(u32, u64), (u64, u32)>,
}

struct Answer {
    reply: SettleReply,
    fates: Vec<Fate>,
    /// Fates that are not known yet.
    open: usize,
}

impl Tickets {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn issue(&mut self, booked: Vec<Booked>, after: After) -> u64 {
        self.last_ticket += 1;
        self.under_way.insert(self.last_ticket, (booked, after));
        self.last_ticket
    }

    pub(super) fn take(&mut self, ticket: u64) -> Option<(Vec<Booked>, After)> {
        self.under_way.remove(&ticket)
    }

    /// Answers once the fates of these (subscription, offset, index) are known; at once if there are none.
    pub(super) fn answer_later(&mut self, reply: SettleReply, fates: Vec<Fate>, waiting: &[(u32, u64, u32)]) {
        if waiting.is_empty() {
            let _ = reply.send(fates);
            return;
        }
        self.last_answer += 1;
        for &(subscription, offset, index) in waiting {
            self.waiting.insert((subscription, offset), (self.last_answer, index));
        }
        self.answers.insert(self.last_answer, Answer { reply, fates, open: waiting.len() });
    }

    /// A fate is known: settled, or why not.
    pub(super) fn tell(&mut self, subscription: u32, offset: u64, refusal: Option<&Unavailable>) {
        let Some((number, index)) = self.waiting.remove(&(subscription, offset)) else { return };
        let Some(answer) = self.answers.get_mut(&number) else { return };
        if let Some(reason) = refusal {
            answer.fates[index as usize] = Fate::Unavailable(reason.clone());
        }
        answer.open -= 1;
        if answer.open == 0
            && let Some(answer) = self.answers.remove(&number)
        {
            let _ = answer.reply.send(answer.fates);
        }
    }
}

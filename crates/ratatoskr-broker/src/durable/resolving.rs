//! What is done about dead letters: redriven, dropped, or counted, a step at a time.
//!
//! ```text
//!   letters that were read ──step──▶ dispatcher ──▶ sequencer: who of us is still there? which letters are still open?
//!                                                   └── one block: settled in the dead letters' topic, appended to their own
//! ```
//!
//! Reading comes long before writing. Meanwhile the subscription may be deleted, and made anew under another number; another
//! call may resolve the same letters, or a client tries again what it does not know to have happened. So only what the sequencer
//! finds still to be done is done, and counted.

use crate::durable::states::SubscriptionStates;
use ratatoskr_state::{Change, SettlementBatch, SubscriptionRef, SubscriptionState};
use std::time::{Duration, Instant};

use ratatoskr_log::{Record, RecordBatch, RecordFacts};
use tokio::sync::oneshot;

use super::dead_lettering::DEAD_PREFIX;
use super::dispatcher::Dispatcher;
use super::in_flight::OnCommit;
use super::letters::{Caretaker, DeadLetterQuery};
use super::request::{Request, SettleError, SubscriptionError};
use super::scan::Page;
use crate::broker::Broker;
use crate::command::{AppendError, Command, Records, Reply, Target};
use crate::message::Terms;
use ratatoskr_state::limits::SCAN_PAGE_BYTES_MAX;

/// Dead letters resolved in one step: few enough that a step neither fills memory nor keeps others waiting for the disk.
pub(super) const AT_ONCE: Page = Page { records: 500, bytes: 1 << 20, examined: SCAN_PAGE_BYTES_MAX };

/// What to do about dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Send them to their subscription again, with attempts starting anew.
    Redrive,
    /// Drop them for good.
    Drop,
    /// Nothing: count them.
    Count,
}

/// A step on its way to the sequencer.
pub(crate) struct Resolving {
    /// Whose letters they are.
    subscription: u32,
    /// The subscription that looks after them, and settles them.
    dlq: u32,
    /// Their offsets there, ascending.
    letters: Vec<u64>,
    /// What is to be appended in the same step: one record for each letter, or nothing at all.
    pub(crate) redrive: Option<Records>,
    pub(crate) reply: Reply<Result<u64, NotResolved>>,
}

/// Why a step was refused.
#[derive(Clone, Debug)]
pub(crate) enum NotResolved {
    /// The subscription of this number is gone.
    Gone(u32),
    Refused(AppendError),
}

impl Resolving {
    /// Leaves out what has been resolved before; answers what is to be written, and of how many letters. On the
    /// sequencer's thread, when nothing can come before this step any more.
    pub(crate) fn keep_open(&mut self, states: &SubscriptionStates) -> Result<(Change, u64), NotResolved> {
        if states.with(self.subscription, |_| ()).is_none() {
            return Err(NotResolved::Gone(self.subscription));
        }
        let is_done = |state: &SubscriptionState, offset| {
            offset < state.acks.origin || state.acks.settled.contains(offset)
        };
        let done = states.with(self.dlq, |state| -> Vec<bool> {
            self.letters.iter().map(|&offset| is_done(state, offset)).collect()
        });
        let done = done.ok_or(NotResolved::Gone(self.dlq))?;
        let (mut open, mut left_out) = (Vec::with_capacity(self.letters.len()), Vec::new());
        for (index, is_done) in done.into_iter().enumerate() {
            if is_done {
                left_out.push(index as u32);
            } else {
                open.push(self.letters[index]);
            }
        }
        if let Some(records) = &mut self.redrive {
            records.batch.remove(&left_out);
        }
        let count = open.len() as u64;
        let batch = SettlementBatch { acked: open.into_iter().collect(), ..SettlementBatch::default() };
        Ok((Change::Settled { number: self.dlq, batch }, count))
    }
}

impl Dispatcher {
    /// Sends a step on its way. The sequencer answers it; what the `dlq` subscription hands out starts anew when it is through.
    pub(super) fn resolve(&mut self, resolving: Resolving) {
        let (reply, _) = oneshot::channel();
        let dlq = resolving.dlq;
        self.note_move(dlq, 1);
        let ticket = self.in_flight.issue(Vec::new(), OnCommit::Append { restart: Some(dlq), reply });
        if self.core.inbox.push(Command::Resolve { resolving, ticket }).is_err() {
            // The reply went with the step: that says it.
            self.in_flight.take(ticket);
            self.note_move(dlq, -1);
        }
    }
}

impl Broker {
    /// Redrives, drops or counts dead letters, at most `rate_max` a second if given. Answers how many; what happened
    /// before an error stays so. Letters that are resolved by somebody else at the same time are not counted here.
    pub async fn resolve_dead_letters(
        &self,
        name: &SubscriptionRef,
        query: DeadLetterQuery,
        resolution: Resolution,
        rate_max: Option<u32>,
    ) -> Result<u64, SettleError> {
        let Some(place) = self.dlq(name).await? else { return Ok(0) };
        // Those that die meanwhile are not meant.
        let end = place.topic.log.next();
        let (mut query, mut count, started) = (query, 0, Instant::now());
        let at_once = rate_max.map_or(AT_ONCE.records, |rate| (rate as usize).clamp(1, AT_ONCE.records));
        let page = Page { records: at_once, ..AT_ONCE };
        loop {
            let found = self.unresolved(&place, &query, page).await?;
            let mut records = found.records;
            records.retain(|record| record.offset < end);
            count += match resolution {
                _ if records.is_empty() => 0,
                Resolution::Count => records.len() as u64,
                Resolution::Redrive => {
                    self.resolve(&place, &records, Some(redriven(&place, &records))).await?
                }
                Resolution::Drop => self.resolve(&place, &records, None).await?,
            };
            if let Some(rate) = rate_max.filter(|_| resolution != Resolution::Count) {
                let due = Duration::from_secs_f64(count as f64 / f64::from(rate.max(1)));
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
            match found.next {
                Some(next) if next < end => query.from_offset = next,
                _ => return Ok(count),
            }
        }
    }

    async fn resolve(
        &self,
        place: &Caretaker,
        records: &[Record],
        redrive: Option<Records>,
    ) -> Result<u64, SettleError> {
        let core = self.core();
        let (reply, answer) = oneshot::channel();
        let resolving = Resolving {
            subscription: place.owner_number,
            dlq: place.number,
            letters: records.iter().map(|record| record.offset).collect(),
            redrive,
            reply,
        };
        core.dispatcher.push(Request::Resolve(resolving)).map_err(|_| core.closed())?;
        answer.await.map_err(|_| core.closed())?.map_err(|refusal| match refusal {
            NotResolved::Gone(number) if number == place.owner_number => {
                SubscriptionError::NotFound(place.owner.clone()).into()
            }
            NotResolved::Gone(_) => SubscriptionError::NotFound(place.name.clone()).into(),
            NotResolved::Refused(AppendError::Unavailable(reason)) => reason.into(),
            NotResolved::Refused(reason) => SettleError::Publish(reason.into()),
        })
    }
}

/// The letters as they were before they died, addressed to their subscription.
fn redriven(place: &Caretaker, records: &[Record]) -> Records {
    let mut batch = RecordBatch::default();
    let facts = RecordFacts { addressed_to: place.owner_number, ..RecordFacts::default() };
    for record in records {
        let own = record.body.metadata().filter(|(name, _)| !name.starts_with(DEAD_PREFIX));
        let metadata: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        batch.push_with(&facts, record.body.key(), &metadata, &record.body.payload());
    }
    Records { target: Target::Topic(place.origin.clone()), batch, terms: Terms::default() }
}

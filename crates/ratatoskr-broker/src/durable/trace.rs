//! The life of one message: what the log knows, what the state knows, and what the dispatcher remembers.

use crate::durable::states::SubscriptionStates;
use ratatoskr_state::{Due, SubscriptionName, TopicName};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use ratatoskr_log::{Moment, Record};
use tokio::sync::oneshot;

use super::active::ActiveSubscription;
use super::event::Booking;
use super::request::Request;
use crate::broker::Broker;
use crate::error::Unavailable;
use crate::id::MessageId;
use crate::message::SCHEDULED_ID;
use ratatoskr_state::limits::TRACED_STEPS_MAX;

/// Passages that are remembered, of all messages together.
const PASSAGES_MAX: usize = 100_000;
/// Chains they stand in: three of them in each, 256 KiB.
const CHAINS: usize = 32_768;

/// A message's life as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its topic.
    pub topic: TopicName,
    /// Its place there.
    pub offset: u64,
    /// What happened, oldest first, and where it stands with each durable subscription.
    pub steps: Vec<TraceStep>,
}

/// One step of a message's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// When, milliseconds since the Unix epoch; 0 for how it stands now.
    pub time_ms: u64,
    /// Which subscription it concerns.
    pub subscription: Option<SubscriptionName>,
    /// What happened, a sentence.
    pub what: String,
}

/// Something that happened to a message.
pub(super) struct Passage {
    pub(super) time_ms: u64,
    pub(super) subscription: u32,
    pub(super) offset: u64,
    pub(super) what: What,
}

/// The message whose life is asked for.
pub(crate) struct Traced {
    /// Its topic's number.
    pub(crate) topic: u32,
    pub(crate) offset: u64,
    /// Empty if it has none, or cannot be read.
    pub(crate) key: String,
}

pub(super) enum What {
    Handed { member: Arc<str>, attempt: u32 },
    Booked(Booking),
}

/// The newest passages.
///
/// ```text
///   newest:    [ · 7 · · 9 · ]            by a hash of topic and offset: the number of the newest passage there
///   passages:  3  4  5  6  7  8  9        each knows the one before it of the same hash: 7 ▸ 3, 9 ▸ 6 ▸ 4
/// ```
///
/// So whoever asks for one message walks past few others, however many are remembered, and remembering takes no allocation.
#[derive(Default)]
pub(super) struct Memory {
    /// With the numbers of those before them, from 1 on; 0 for none.
    passages: VecDeque<(Passage, u64)>,
    /// How many were forgotten: numbers up to this one are not there any more.
    forgotten: u64,
    /// [`CHAINS`] of them, once there is anything to remember.
    newest: Vec<u64>,
    hasher: RandomState,
}

impl Memory {
    /// Remembers what happened to messages of a topic.
    pub(super) fn take_in(&mut self, topic: u32, passages: &mut Vec<Passage>) {
        if self.newest.is_empty() && !passages.is_empty() {
            self.newest = vec![0; CHAINS];
        }
        for passage in passages.drain(..) {
            if self.passages.len() == PASSAGES_MAX {
                self.passages.pop_front();
                self.forgotten += 1;
            }
            let number = self.forgotten + self.passages.len() as u64 + 1;
            let chain = self.chain_of(topic, passage.offset);
            let before = std::mem::replace(&mut self.newest[chain], number);
            self.passages.push_back((passage, before));
        }
    }

    /// What happened to a message, oldest first, and of much the newest; by chance also to one of another topic at the same offset.
    pub(super) fn of(&self, traced: &Traced) -> Vec<&Passage> {
        let mut number = self.newest.get(self.chain_of(traced.topic, traced.offset)).copied().unwrap_or(0);
        let mut found = Vec::new();
        while number > self.forgotten && found.len() < TRACED_STEPS_MAX {
            let (passage, before) = &self.passages[(number - self.forgotten - 1) as usize];
            found.extend((passage.offset == traced.offset).then_some(passage));
            number = *before;
        }
        found.reverse();
        found
    }

    fn chain_of(&self, topic: u32, offset: u64) -> usize {
        self.hasher.hash_one((topic, offset)) as usize % CHAINS
    }
}

impl Passage {
    pub(super) fn step(&self, active: &ActiveSubscription) -> TraceStep {
        let subscription = Some(active.name.name.clone());
        TraceStep { time_ms: self.time_ms, subscription, what: sentence(&self.what) }
    }
}

fn sentence(what: &What) -> String {
    match what {
        What::Handed { member, attempt } => format!("handed to member {member:?}, attempt {attempt}"),
        What::Booked(Booking::Settled) => "acked".to_owned(),
        What::Booked(Booking::Expired) => "expired".to_owned(),
        What::Booked(Booking::Passed) => {
            "passed over: the filter was changed and does not want it".to_owned()
        }
        What::Booked(Booking::Returned { until, spent }) => format!(
            "came back after attempt {}: {:?}; to be delivered again at {} ms",
            spent.attempts, spent.reason, until.wall_ms
        ),
        What::Booked(Booking::DeadLettered(spent)) => {
            format!("became a dead letter after attempt {}: {:?}", spent.attempts, spent.reason)
        }
    }
}

/// Where a message stands with a subscription now.
pub(super) fn standing(
    active: &ActiveSubscription,
    states: &SubscriptionStates,
    traced: &Traced,
    now: Moment,
) -> TraceStep {
    TraceStep {
        time_ms: 0,
        subscription: Some(active.name.name.clone()),
        what: place(active, states, traced, now),
    }
}

fn place(active: &ActiveSubscription, states: &SubscriptionStates, traced: &Traced, now: Moment) -> String {
    let (offset, lane) = (traced.offset, active.lane_of(&traced.key));
    if let Some((place, until_ms, attempts)) = active.delivery.place_of((offset, lane), now) {
        let until = if until_ms == 0 { String::new() } else { format!(", until {until_ms} ms") };
        return format!("now {place}{until}; delivered {attempts} times");
    }
    let (before, settled) = states
        .with(active.number, |state| (offset < state.acks.origin, state.acks.settled.contains(offset)))
        .unwrap_or((false, false));
    let standing = if before {
        "lies before the place the subscription began at"
    } else if settled {
        "is done with"
    } else {
        "has not been read for delivery yet"
    };
    format!("now {standing}")
}

impl Broker {
    /// The life of a message as far as it is known; `None` when no topic can have it.
    pub async fn trace_message(&self, id: MessageId) -> Result<Option<Trace>, Unavailable> {
        let core = self.core();
        let (number, offset) = id.place(core.id_mask);
        let Some(topic) = core.topic_numbered(number).filter(|topic| offset < topic.log.next()) else {
            return Ok(None);
        };
        let (log, receipt) = (topic.clone(), topic.settings().durability);
        let read = tokio::task::spawn_blocking(move || log.log.read_at(offset)).await;
        let mut traced = Traced { topic: number, offset, key: String::new() };
        let unknown = |what| TraceStep { time_ms: 0, subscription: None, what };
        let published = match read {
            Ok(Ok(Some(record)))
                if MessageId::new(core.id_mask, number, offset, record.timestamp_ms) != id =>
            {
                return Ok(None);
            }
            Ok(Ok(Some(record))) if topic.name.is_schedule() => return Ok(self.trace_scheduled(&record)),
            Ok(Ok(Some(record))) => {
                record.body.key().clone_into(&mut traced.key);
                let what =
                    format!("published to {} at offset {offset}, receipt {}", topic.name, receipt.as_str());
                TraceStep { time_ms: record.timestamp_ms, subscription: None, what }
            }
            Ok(Err(error)) => unknown(error.to_string()),
            _ => unknown("cannot be read now".to_owned()),
        };
        let name = topic.name.clone();
        let (reply, answer) = oneshot::channel();
        core.dispatcher.push(Request::Trace { traced, reply }).map_err(|_| core.closed())?;
        let mut steps = vec![published];
        steps.extend(answer.await.map_err(|_| core.closed())?);
        Ok(Some(Trace { topic: name, offset, steps }))
    }

    /// The life of a message that was published for later; its further life is that of the message it became.
    fn trace_scheduled(&self, record: &Record) -> Option<Trace> {
        let facts = record.body.facts();
        let due = Due { at_ms: facts.deliver_at_ms, offset: record.offset };
        let topic = self.core().topic_numbered(facts.addressed_to)?.name.clone();
        let step = |time_ms, what| TraceStep { time_ms, subscription: None, what };
        let standing = if self.core().subscriptions.schedule().is_done(due) {
            format!("has been put into {topic}, with this id as metadata {SCHEDULED_ID}")
        } else {
            format!("now waits for {} ms", due.at_ms)
        };
        let what = format!("published for {topic}, to be put there at {} ms", due.at_ms);
        let steps = vec![step(record.timestamp_ms, what), step(0, standing)];
        Some(Trace { topic, offset: record.offset, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(subscription: u32, offset: u64, time_ms: u64) -> Passage {
        Passage { time_ms, subscription, offset, what: What::Booked(Booking::Settled) }
    }

    fn times(memory: &Memory, offset: u64) -> Vec<u64> {
        let traced = Traced { topic: 7, offset, key: String::new() };
        memory.of(&traced).iter().map(|passage| passage.time_ms).collect()
    }

    #[test]
    fn what_happened_to_a_message_is_found_among_all_others_until_it_is_forgotten() {
        let mut memory = Memory::default();
        assert!(times(&memory, 5).is_empty());
        let all = (0..PASSAGES_MAX as u64 + 10).map(|time| passage(1, time % 50_000, time));
        memory.take_in(7, &mut all.collect());
        assert_eq!(times(&memory, 5), [50_005, 100_005], "the oldest ten are forgotten");
        assert_eq!(times(&memory, 9), [50_009, 100_009]);
        assert_eq!(times(&memory, 10), [10, 50_010]);
        assert!(times(&memory, 50_000).is_empty());
        memory.take_in(7, &mut (0..PASSAGES_MAX as u64).map(|time| passage(1, 60_000, time)).collect());
        assert!(times(&memory, 10).is_empty());
        let newest: Vec<u64> = (PASSAGES_MAX as u64 - 1000..PASSAGES_MAX as u64).collect();
        assert_eq!(times(&memory, 60_000), newest, "of much the newest is told");
    }

    #[test]
    fn few_others_are_passed_on_the_way_to_a_message() {
        let mut memory = Memory::default();
        memory.take_in(7, &mut (0..PASSAGES_MAX as u64).map(|offset| passage(1, offset, offset)).collect());
        let mut lengths = vec![0; CHAINS];
        for (passage, _) in &memory.passages {
            lengths[memory.chain_of(7, passage.offset)] += 1;
        }
        assert!(lengths.into_iter().max() < Some(50));
    }
}

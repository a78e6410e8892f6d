//! The life of one message: what the log knows, what the books know, and what the courier remembers.

use std::collections::VecDeque;
use std::sync::Arc;

use ratatoskr_log::{Moment, Record};
use tokio::sync::oneshot;

use super::book::Books;
use super::desk::Desk;
use super::event::Booking;
use super::request::Request;
use super::settings::SubscriptionName;
use crate::broker::Broker;
use crate::error::Unavailable;
use crate::id::MessageId;
use crate::message::SCHEDULED_ID;
use crate::name::TopicName;
use crate::schedule::Due;

/// Passages that are remembered, of all messages together.
const PASSAGES_MAX: usize = 100_000;

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

pub(super) enum What {
    Handed { member: Arc<str>, attempt: u32 },
    Booked(Booking),
}

/// The newest passages.
#[derive(Default)]
pub(super) struct Memory {
    passages: VecDeque<Passage>,
}

impl Memory {
    pub(super) fn take_in(&mut self, passages: &mut Vec<Passage>) {
        self.passages.extend(passages.drain(..));
        let excess = self.passages.len().saturating_sub(PASSAGES_MAX);
        self.passages.drain(..excess);
    }

    /// What is known of a message with one subscription.
    pub(super) fn steps(&self, desk: &Desk, books: &Books, (offset, now): (u64, Moment)) -> Vec<TraceStep> {
        let subscription = Some(desk.name.name.clone());
        let is_meant = |passage: &&Passage| passage.subscription == desk.number && passage.offset == offset;
        let step = |passage: &Passage| TraceStep {
            time_ms: passage.time_ms,
            subscription: subscription.clone(),
            what: sentence(&passage.what),
        };
        let mut steps: Vec<_> = self.passages.iter().filter(is_meant).map(step).collect();
        steps.push(TraceStep {
            time_ms: 0,
            subscription: subscription.clone(),
            what: standing(desk, books, offset, now),
        });
        steps
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
        What::Booked(Booking::Buried(spent)) => {
            format!("became a dead letter after attempt {}: {:?}", spent.attempts, spent.reason)
        }
    }
}

/// Where a message stands with a subscription now.
fn standing(desk: &Desk, books: &Books, offset: u64, now: Moment) -> String {
    if let Some((place, until_ms, attempts)) = desk.delivery.place_of(offset, now) {
        let until = if until_ms == 0 { String::new() } else { format!(", until {until_ms} ms") };
        return format!("now {place}{until}; delivered {attempts} times");
    }
    let (before, settled) = books
        .with(desk.number, |book| (offset < book.standing.origin, book.standing.settled.contains(offset)))
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
        let topic = core.topics.read().values().find(|topic| topic.log.number == number).cloned();
        let Some(topic) = topic.filter(|topic| offset < topic.log.next()) else { return Ok(None) };
        let (log, receipt) = (topic.clone(), topic.settings().durability);
        let read = tokio::task::spawn_blocking(move || log.log.read_at(offset)).await;
        let unknown = |what| TraceStep { time_ms: 0, subscription: None, what };
        let published = match read {
            Ok(Ok(Some(record)))
                if MessageId::new(core.id_mask, number, offset, record.timestamp_ms) != id =>
            {
                return Ok(None);
            }
            Ok(Ok(Some(record))) if topic.name.is_schedule() => return Ok(self.trace_scheduled(&record)),
            Ok(Ok(Some(record))) => TraceStep {
                time_ms: record.timestamp_ms,
                subscription: None,
                what: format!("published to {} at offset {offset}, receipt {}", topic.name, receipt.as_str()),
            },
            Ok(Err(error)) => unknown(error.to_string()),
            _ => unknown("cannot be read now".to_owned()),
        };
        let name = topic.name.clone();
        let (reply, answer) = oneshot::channel();
        core.courier.push(Request::Trace { topic: number, offset, reply }).map_err(|_| core.closed())?;
        let mut steps = vec![published];
        steps.extend(answer.await.map_err(|_| core.closed())?);
        Ok(Some(Trace { topic: name, offset, steps }))
    }
    /// The life of a message that was published for later; its further life is that of the message it became.
    fn trace_scheduled(&self, record: &Record) -> Option<Trace> {
        let facts = record.body.facts();
        let due = Due { at_ms: facts.deliver_at_ms, offset: record.offset };
        let topics = self.core().topics.read();
        let topic = topics.values().find(|topic| topic.log.number == facts.addressed_to)?.name.clone();
        let step = |time_ms, what| TraceStep { time_ms, subscription: None, what };
        let standing = if self.core().books.schedule().is_done(due) {
            format!("has been put into {topic}, with this id as metadata {SCHEDULED_ID}")
        } else {
            format!("now waits for {} ms", due.at_ms)
        };
        let what = format!("published for {topic}, to be put there at {} ms", due.at_ms);
        let steps = vec![step(record.timestamp_ms, what), step(0, standing)];
        Some(Trace { topic, offset: record.offset, steps })
    }
}

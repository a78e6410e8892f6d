//! Dead letters: how a message that no member could settle is set aside.
//!
//! ```text
//!   orders, offset 41 ──one block──▶ orders.billing.dlq: the message, with what happened to it as metadata
//!                          └───────▶ state of billing: 41 is dead
//! ```

use ratatoskr_state::{Change, SettlementBatch, TopicName, TopicSettings, dead_letter_topic};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ratatoskr_log::{Moment, ReadError, Record, RecordBatch, RecordFacts};

use super::active::{ActiveSubscription, DeadLettering};
use super::changes::note;
use super::dispatcher::Dispatcher;
use super::event::{Booking, Event, Spent};
use super::in_flight::{Booked, OnCommit};
use super::record_reader::RecordReader;
use super::request::{Fate, Request};
use super::settings::dead_letters;
use crate::broken::Broken;
use crate::command::{Records, Target};
use crate::core::Core;
use crate::error::Unavailable;
use crate::id::MessageId;
use crate::message::Terms;

/// Why it is dead: the reason of the last nack or reject, `lease ended`, or `member vanished`.
pub const DEAD_REASON: &str = "ratatoskr-dead-reason";
/// How often it was delivered.
pub const DEAD_ATTEMPTS: &str = "ratatoskr-dead-attempts";
/// When it was first delivered, milliseconds since the Unix epoch.
pub const DEAD_FIRST_MS: &str = "ratatoskr-dead-first-ms";
/// When it was last delivered, milliseconds since the Unix epoch.
pub const DEAD_LAST_MS: &str = "ratatoskr-dead-last-ms";
/// The topic it came from.
pub const DEAD_TOPIC: &str = "ratatoskr-dead-topic";
/// Its offset there.
pub const DEAD_OFFSET: &str = "ratatoskr-dead-offset";
/// Its id there.
pub const DEAD_ID: &str = "ratatoskr-dead-id";
/// The subscription that could not settle it.
pub const DEAD_SUBSCRIPTION: &str = "ratatoskr-dead-subscription";
/// Dead letters go in steps of about so many bytes.
const BURIED_BYTES: usize = 1 << 20;
/// Metadata of dead letters begin with this.
pub(crate) const DEAD_PREFIX: &str = "ratatoskr-dead-";

impl Dispatcher {
    /// Moves messages of a subscription to its dead letters; those that are not in memory are read first.
    pub(super) fn dead_letter(&mut self, number: u32, dead_letterings: Vec<DeadLettering>) {
        let Some(active) = self.active_subscriptions.get(&number).filter(|_| !dead_letterings.is_empty())
        else {
            return;
        };
        let (mut found, mut to_read) = (Vec::new(), Vec::new());
        for dead_lettering in dead_letterings {
            match active.topic.log.read_from_memory(dead_lettering.offset) {
                Some(record) => found.push((dead_lettering, record)),
                None => to_read.push(dead_lettering),
            }
        }
        if !to_read.is_empty() {
            self.read_records(number, to_read);
        }
        self.dead_letter_all(number, found);
    }

    fn read_records(&self, subscription: u32, mut dead_letterings: Vec<DeadLettering>) {
        let active = &self.active_subscriptions[&subscription];
        let (core, topic, generation) = (self.core.clone(), active.topic.clone(), active.generation);
        self.read(Box::new(move || {
            dead_letterings.sort_unstable_by_key(|dead_lettering| dead_lettering.offset);
            let mut reader = RecordReader::new(&topic.log);
            let records_read = dead_letterings.into_iter().map(|dead_lettering| {
                // Whatever becomes of it, whoever waits is answered.
                let read = catch_unwind(AssertUnwindSafe(|| reader.read(dead_lettering.offset)));
                let read = read.unwrap_or_else(|_| {
                    let path = topic.name.as_str().into();
                    Err(ReadError::Io { path, reason: "the reading thread failed".to_owned() })
                });
                (dead_lettering, read)
            });
            let records_read = records_read.collect();
            let _ = core.dispatcher.push(Request::DeadLettersRead { subscription, generation, records_read });
        }));
    }

    /// Messages to be dead-lettered have been read, or are in the log no more, or cannot be read now.
    pub(super) fn records_read(
        &mut self,
        number: u32,
        generation: u64,
        records_read: Vec<(DeadLettering, Result<Option<Record>, ReadError>)>,
        now: Moment,
    ) {
        let is_known =
            self.active_subscriptions.get(&number).is_some_and(|active| active.generation == generation);
        let (mut found, mut put_off) = (Vec::new(), Vec::new());
        for (dead_lettering, read) in records_read {
            let (offset, waiter) = (dead_lettering.offset, dead_lettering.waiter);
            match read {
                _ if !is_known => self.tell_stale(waiter),
                _ if !self.active_subscriptions[&number].is_at_work() => put_off.push(dead_lettering),
                Ok(Some(record)) => found.push((dead_lettering, record)),
                Err(error @ ReadError::Io { .. }) => {
                    tracing::error!(offset, %error, "a message to become a dead letter cannot be read now");
                    self.guarded(number, now, |active| active.apply(Event::Refused { offset }, now));
                    let reason = Unavailable::ReadFailed { reason: error.to_string() };
                    self.in_flight.tell(waiter, Fate::Unavailable(reason));
                }
                Ok(None) | Err(_) => {
                    tracing::error!(offset, "a message that no member could settle is in the log no more");
                    self.guarded(number, now, |active| active.dead_letter_nothing(offset, waiter));
                }
            }
        }
        if let Some(active) = self.active_subscriptions.get_mut(&number) {
            active.put_off(put_off);
        }
        self.dead_letter_all(number, found);
    }

    /// Hands dead-letterings to the journal, in steps that are not too large.
    fn dead_letter_all(&mut self, number: u32, found: Vec<(DeadLettering, Record)>) {
        let mut found = found.into_iter().peekable();
        while found.peek().is_some() {
            let Some(active) = self.active_subscriptions.get_mut(&number) else { return };
            let (mut batch, mut settled, mut booked) =
                (RecordBatch::default(), SettlementBatch::default(), Vec::new());
            while let Some((DeadLettering { offset, booking, waiter }, record)) =
                found.next_if(|_| batch.len() < BURIED_BYTES)
            {
                let (metadata, facts) =
                    (metadata(&self.core, active, &booking, &record), facts(active, &record));
                batch.push_with(&facts, record.body.key(), &metadata, &record.body.payload());
                note(&mut settled, offset, &booking);
                booked.push(Booked { subscription: number, offset, waiter });
            }
            active.note_under_way(booked.len());
            let topic = dead_letters(&active.settings, &active.name)
                .expect("settings were checked when they were set");
            let target = place_for(active, topic);
            let letters = Records { target, batch, terms: Terms::default() };
            let appends = if Broken::Dead.is_on() { Vec::new() } else { vec![letters] };
            self.send(vec![Change::Settled { number, batch: settled }], appends, booked, OnCommit::Nothing);
        }
    }
}

/// The topic of dead letters, whatever becomes of it until they are appended. One that is made for them loses nothing by age, and is marked
/// as this subscription's if it has the name that nobody chose; one in memory takes only what was promised no more.
fn place_for(active: &ActiveSubscription, name: TopicName) -> Target {
    let is_default =
        *name.as_str() == *dead_letter_topic(active.name.topic.as_str(), active.name.name.as_str());
    let dead_letters_of = is_default.then(|| active.name.to_string());
    let settings = TopicSettings { retention_age_ms: None, dead_letters_of, ..TopicSettings::default() };
    if active.topic.log.is_in_memory() {
        Target::Name(name, settings)
    } else {
        Target::Lasting(name, settings)
    }
}

/// A message that is set aside says so in a way that no publisher can. What returns to its own topic stays what it was.
fn facts(active: &ActiveSubscription, record: &Record) -> RecordFacts<'static> {
    let is_dead_letter = !returns(active) || record.body.facts().is_dead_letter;
    RecordFacts { is_dead_letter, ..RecordFacts::default() }
}

/// Whether the subscription looks after dead letters, and leaves them in their topic.
fn returns(active: &ActiveSubscription) -> bool {
    dead_letters(&active.settings, &active.name).is_ok_and(|dead| dead == active.topic.name)
}

/// The message's own metadata, and what happened to it.
fn metadata(
    core: &Core,
    active: &ActiveSubscription,
    booking: &Booking,
    record: &Record,
) -> Vec<(String, String)> {
    let Booking::DeadLettered(spent) = booking else {
        unreachable!("only dead-letterings are handed over here")
    };
    let Spent { attempts, first_ms, last_ms, reason } = &**spent;
    if returns(active) {
        // It is a dead letter already and stays one: whose, and since when, holds. Only the reason is new.
        let facts = record.body.metadata().filter(|(name, _)| *name != DEAD_REASON);
        let reason = std::iter::once((DEAD_REASON, &**reason));
        return facts.chain(reason).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }
    let id = MessageId::new(core.id_mask, active.topic.log.number, record.offset, record.timestamp_ms);
    let own = record.body.metadata().filter(|(name, _)| !name.starts_with(DEAD_PREFIX));
    let mut metadata: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let facts = [
        (DEAD_REASON, reason.to_string()),
        (DEAD_ATTEMPTS, attempts.to_string()),
        (DEAD_FIRST_MS, first_ms.to_string()),
        (DEAD_LAST_MS, last_ms.to_string()),
        (DEAD_TOPIC, active.topic.name.to_string()),
        (DEAD_OFFSET, record.offset.to_string()),
        (DEAD_ID, id.to_string()),
        (DEAD_SUBSCRIPTION, active.name.name.to_string()),
    ];
    metadata.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    metadata
}

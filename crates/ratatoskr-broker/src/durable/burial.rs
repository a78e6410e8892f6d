//! Dead letters: how a message that no member could settle is set aside.
//!
//! ```text
//!   orders, offset 41 ──one block──▶ orders.billing.dlq: the message, with what happened to it as metadata
//!                          └───────▶ book of billing: 41 is dead
//! ```

use ratatoskr_log::{Record, RecordBatch};

use super::courier::Courier;
use super::desk::Desk;
use super::event::Booking;
use super::happening::{Happening, Round};
use super::request::Request;
use super::tickets::{After, Booked};
use crate::broken::Broken;
use crate::command::{Command, Records, Target};
use crate::core::Core;
use crate::id::MessageId;
use crate::message::Terms;
use crate::name::TopicName;
use crate::settings::TopicSettings;

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
/// Metadata of dead letters begin with this.
pub(crate) const DEAD_PREFIX: &str = "ratatoskr-dead-";

impl Courier {
    /// Moves messages of a subscription to its dead letters; those that are not in memory are read first.
    pub(super) fn bury(&mut self, number: u32, burials: Vec<(u64, Booking)>) {
        let mut found = Vec::new();
        for (offset, booking) in burials {
            let Some(desk) = self.desks.get(&number) else { return };
            match desk.topic.log.read_from_memory(offset) {
                Some(record) => found.push((booking, record)),
                None => self.exhume(number, offset, booking),
            }
        }
        self.bury_all(number, found);
    }

    fn exhume(&self, subscription: u32, offset: u64, booking: Booking) {
        let desk = &self.desks[&subscription];
        let (core, topic, generation) = (self.core.clone(), desk.topic.clone(), desk.generation);
        self.read(Box::new(move || {
            let record = topic.log.read_at(offset).unwrap_or_else(|error| {
                tracing::error!(topic = %topic.name, offset, %error, "a message that no member could settle cannot be read");
                None
            });
            let request = Request::Exhumed { subscription, generation, offset, booking, record };
            let _ = core.courier.push(request);
        }));
    }

    /// A message to be buried has been read, or is in the log no more.
    pub(super) fn exhumed(
        &mut self,
        number: u32,
        generation: u64,
        offset: u64,
        found: (Booking, Option<Record>),
    ) {
        let Some(desk) = self.desks.get_mut(&number).filter(|desk| desk.generation == generation) else {
            return;
        };
        match found {
            (booking, Some(record)) => self.bury_all(number, vec![(booking, record)]),
            (_, None) => desk.bury_nothing(offset),
        }
    }

    fn bury_all(&mut self, number: u32, found: Vec<(Booking, Record)>) {
        if found.is_empty() {
            return;
        }
        let desk = &self.desks[&number];
        let mut batch = RecordBatch::default();
        let mut round = Round::default();
        let mut booked = Vec::with_capacity(found.len());
        for (booking, record) in found {
            let metadata = metadata(&self.core, desk, &booking, &record);
            batch.push(record.body.key(), &metadata, &record.body.payload());
            round.note(record.offset, &booking);
            let (subscription, generation) = (number, desk.generation);
            booked.push(Booked { subscription, generation, offset: record.offset });
        }
        let topic = desk.settings.dead_letters(&desk.name).expect("settings were checked when they were set");
        let target = place_for(&self.core, topic);
        let appends = if Broken::Dead.is_on() {
            Vec::new()
        } else {
            vec![Records { target, batch, terms: Terms::default() }]
        };
        self.send(vec![Happening::Settled { number, round }], appends, booked, After::Nothing);
    }
}

/// The topic of dead letters, on its way if it does not exist: nothing goes from it by age.
fn place_for(core: &Core, name: TopicName) -> Target {
    if let Some(topic) = core.topic(&name) {
        return Target::Topic(topic);
    }
    let settings = TopicSettings { retention_age_ms: None, ..TopicSettings::default() };
    let (reply, _) = tokio::sync::oneshot::channel();
    // Whether it came about is seen when the letters are appended.
    let _ = core.inbox.push(Command::Create { name: name.clone(), settings, reply });
    Target::Name(name)
}

/// The message's own metadata, and what happened to it.
fn metadata(core: &Core, desk: &Desk, booking: &Booking, record: &Record) -> Vec<(String, String)> {
    let Booking::Buried { attempts, first_ms, last_ms, reason } = booking else {
        unreachable!("only burials are buried")
    };
    let id = MessageId::new(core.id_mask, desk.topic.log.number, record.offset, record.timestamp_ms);
    let own = record.body.metadata().filter(|(name, _)| !name.starts_with(DEAD_PREFIX));
    let mut metadata: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let facts = [
        (DEAD_REASON, reason.to_string()),
        (DEAD_ATTEMPTS, attempts.to_string()),
        (DEAD_FIRST_MS, first_ms.to_string()),
        (DEAD_LAST_MS, last_ms.to_string()),
        (DEAD_TOPIC, desk.topic.name.to_string()),
        (DEAD_OFFSET, record.offset.to_string()),
        (DEAD_ID, id.to_string()),
        (DEAD_SUBSCRIPTION, desk.name.name.to_string()),
    ];
    metadata.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    metadata
}

//! [`State`]: what all batches of the journal lead to, and the one function that takes a batch in.
//!
//! ```text
//!   leader:    batch ─▶ journal ─▶ State::apply ─▶ files and tails follow; whoever waits is answered
//!   recovery:  checkpoint ─▶ State::restore; journal ─▶ State::apply ─▶ files and tails follow
//!   follower:  another machine's batches ─▶ State::apply ─▶ files and tails follow
//! ```
//!
//! Invariants: only [`State::apply`], and the restoring of a snapshot before it, change a state; the same batches lead to the same state,
//! byte for byte in a snapshot. There is no clock here: time is what batches say. Deliberately not here: the messages themselves, whatever
//! a start begins anew with (leases, members, counters), and the messages of topics of durability `memory`, which no batch has.

use crate::ages::{Ages, Run};
use crate::batch::BatchHeader;
use crate::batch_date::BatchDate;
use crate::change::Change;
use crate::code::{Reader, put_number};
use crate::dedup::{DedupDate, DedupEntry, DedupId, First};
use crate::dedup_ids::{DedupIds, DedupSnapshot};
use crate::entry::Entry;
use crate::record::{Records, first_offset};
use crate::schedule::Progress;
use crate::subscriptions::{Subscriptions, SubscriptionsSnapshot};
use crate::topics::Topics;

/// The kinds of a snapshot's parts; those of subscriptions are 0 and 1.
const DEDUP: u64 = 2;
const SCHEDULE: u64 = 3;
const DATE: u64 = 4;
const AGES: u64 = 5;
const TOPIC: u64 = 6;

/// Ids whose window is over are looked for once in so long, by the date.
const FORGET_MS: u64 = 1000;

/// See the file's head.
#[derive(Debug, Default)]
pub struct State {
    topics: Topics,
    subscriptions: Subscriptions,
    dedup: DedupIds,
    ages: Ages,
    schedule: Progress,
    date: Date,
    /// The epoch that has begun.
    epoch: u64,
}

/// The date, as batches have told it so far. Milliseconds since the Unix epoch, 0 while none has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "each says its unit")]
struct Date {
    /// The latest that was not doubted.
    today_ms: u64,
    /// The latest that records were stamped with, unless that turned out to be wrong.
    stamp_ms: u64,
    /// The earliest stamp of the doubt there is; 0 while there is none.
    doubted_from_ms: u64,
}

impl Date {
    /// How windows of ids count now. While the clock is doubted the date goes on by what passes from stamp to stamp.
    fn of_ids(self) -> DedupDate {
        let passed_ms =
            if self.doubted_from_ms == 0 { 0 } else { self.stamp_ms.saturating_sub(self.doubted_from_ms) };
        DedupDate {
            today_ms: self.today_ms + passed_ms,
            stamp_ms: self.stamp_ms,
            doubted_after_ms: self.today_ms,
        }
    }
}

impl State {
    /// The topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The subscriptions.
    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// The ids by which duplicates are found.
    pub fn dedup(&self) -> &DedupIds {
        &self.dedup
    }

    /// How old messages are whose timestamps do not say.
    pub fn ages(&self) -> &Ages {
        &self.ages
    }

    /// How far the schedule is worked off.
    pub fn schedule(&self) -> Progress {
        self.schedule
    }

    /// The latest date that was not doubted, milliseconds since the Unix epoch; `None` while no batch had one.
    pub fn today_ms(&self) -> Option<u64> {
        Some(self.date.today_ms).filter(|&today_ms| today_ms > 0)
    }

    /// Takes a batch in. An error says what makes no sense: the journal is damaged, or was written by a newer version.
    pub fn apply<'a>(
        &mut self,
        header: &BatchHeader,
        entries: impl Iterator<Item = Entry<'a>>,
    ) -> Result<(), String> {
        self.begin_epoch(header.epoch);
        let stamp_ms = self.take_date(header.date);
        for entry in entries {
            self.take_entry(&entry, stamp_ms)?;
        }
        Ok(())
    }

    /// A new leader goes on from here: topics kept in memory, and what subscriptions have settled of them, begin anew. The first batch of an
    /// epoch does this; a leader that has no room to write one calls it, and the first batch it can write changes nothing more.
    pub fn begin_epoch(&mut self, epoch: u64) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        for (number, _) in self.topics.all().filter(|(_, topic)| topic.is_in_memory()) {
            // Ids that are known of it here are those of messages for later, which are not in memory.
            self.subscriptions.restart_topic(number);
        }
    }

    /// Answers the date that the batch's records get.
    fn take_date(&mut self, date: u64) -> u64 {
        let Some(BatchDate { stamp_ms, is_doubted }) = BatchDate::decode(date) else {
            return self.date.stamp_ms;
        };
        let before = self.date;
        if is_doubted {
            self.date.stamp_ms = before.stamp_ms.max(stamp_ms);
            self.date.doubted_from_ms =
                if before.doubted_from_ms == 0 { stamp_ms } else { before.doubted_from_ms.min(stamp_ms) };
        } else {
            if stamp_ms < before.stamp_ms {
                // What was stamped in doubt was stamped too late: nothing was taken in later than today.
                self.lower_to(stamp_ms);
            }
            self.date = Date { today_ms: before.today_ms.max(stamp_ms), stamp_ms, doubted_from_ms: 0 };
        }
        if self.date.stamp_ms / FORGET_MS != before.stamp_ms / FORGET_MS {
            let (topics, date) = (&self.topics, self.date.of_ids());
            self.dedup
                .forget(date, |topic| topics.get(topic).map_or(0, |topic| topic.settings.dedup_window_ms));
        }
        stamp_ms
    }

    fn lower_to(&mut self, today_ms: u64) {
        self.dedup.lower_to(today_ms);
        self.ages.lower_to(today_ms);
        for (number, topic) in self.topics.all() {
            let newest = Run { first: topic.first, end: topic.next, timestamp_ms: topic.last_timestamp_ms };
            self.ages.note_newest(number, newest, today_ms);
        }
    }

    fn take_entry(&mut self, entry: &Entry<'_>, stamp_ms: u64) -> Result<(), String> {
        match *entry {
            Entry::Append { topic, count, has_dedup_ids, newest_ms, records } => {
                if has_dedup_ids {
                    self.learn_ids(topic, records, stamp_ms);
                }
                let Some(first) = first_offset(records) else { return Ok(()) };
                let run = Run { first, end: first + u64::from(count), timestamp_ms: newest_ms };
                self.topics.append(topic, (run.first, run.end), newest_ms)?;
                self.ages.appended(topic, run, stamp_ms);
                Ok(())
            }
            Entry::Create { topic, settings, .. } => self.topics.create(topic, settings),
            Entry::Update { topic, settings } => self.topics.update(topic, settings),
            Entry::Delete { topic } => {
                self.subscriptions.topic_deleted(topic);
                self.dedup.topic_deleted(topic);
                self.ages.topic_deleted(topic);
                self.topics.delete(topic)
            }
            Entry::Trim { topic, first } => {
                let first = self.topics.trim(topic, first)?;
                self.ages.forget_before(topic, first);
                Ok(())
            }
            Entry::Change { content, .. } => match Change::decode(content)? {
                Change::Dispatched(progress) => {
                    self.schedule = progress;
                    Ok(())
                }
                change => self.subscriptions.apply(&change),
            },
            Entry::Genesis(_) => Ok(()),
        }
    }

    fn learn_ids(&mut self, log: u32, records: &[u8], stamp_ms: u64) {
        for record in Records::new(records) {
            let Some((id, topic)) = record.dedup_id() else { continue };
            // A record of the schedule says by its address which topic it is for.
            let topic = topic.unwrap_or(log);
            if self.topics.get(topic).is_none_or(|topic| topic.settings.dedup_window_ms == 0) {
                continue;
            }
            let first = First { log, offset: record.offset, timestamp_ms: record.timestamp_ms };
            self.dedup.learn(topic, DedupEntry { id: DedupId::of(id), first, date_ms: stamp_ms });
        }
    }
}

// ---- as parts of a checkpoint ----

impl State {
    /// Takes in a topic that a checkpoint has. Its place follows as a part.
    pub fn restore_topic(&mut self, number: u32, settings: &[u8]) -> Result<(), String> {
        self.topics.create(number, settings)
    }

    /// Takes in one part of a snapshot, in the order they were given; topics come first.
    pub fn restore(&mut self, part: &[u8]) -> Result<(), String> {
        let mut reader = Reader::new(part);
        match reader.number()? {
            DEDUP => self.dedup.restore(&mut reader),
            SCHEDULE => {
                self.schedule = Progress::take_from(&mut reader)?;
                Ok(())
            }
            DATE => {
                let mut number = || reader.number();
                self.date = Date { today_ms: number()?, stamp_ms: number()?, doubted_from_ms: number()? };
                self.epoch = reader.number()?;
                Ok(())
            }
            AGES => self.ages.restore(&mut reader),
            TOPIC => self.topics.restore(&mut reader),
            kind => {
                if self.subscriptions.restore(kind, &mut reader)? {
                    return Ok(());
                }
                Err(format!("state of kind {kind} was written by a newer version"))
            }
        }
    }

    /// The state of now, to be encoded by another thread. Takes little time: nothing that is large is copied.
    pub fn snapshot(&self) -> StateSnapshot {
        StateSnapshot {
            topics: self.topics.clone(),
            subscriptions: self.subscriptions.snapshot(),
            dedup: self.dedup.snapshot(),
            ages: self.ages.clone(),
            schedule: self.schedule,
            date: self.date,
            epoch: self.epoch,
        }
    }
}

/// A state at one moment; it shares its memory with what has not changed since.
pub struct StateSnapshot {
    topics: Topics,
    subscriptions: SubscriptionsSnapshot,
    dedup: DedupSnapshot,
    ages: Ages,
    schedule: Progress,
    date: Date,
    epoch: u64,
}

impl StateSnapshot {
    /// Puts it into parts of any size. The same state has the same parts.
    pub fn encode(&self, push: &mut dyn FnMut(Vec<u8>)) {
        self.topics.encode(TOPIC, push);
        self.subscriptions.encode(push);
        if self.schedule != Progress::default() {
            let mut schedule = vec![SCHEDULE as u8];
            self.schedule.put_into(&mut schedule);
            push(schedule);
        }
        self.dedup.encode(DEDUP, push);
        self.ages.encode(AGES, push);
        let mut date = vec![DATE as u8];
        let Date { today_ms, stamp_ms, doubted_from_ms } = self.date;
        for number in [today_ms, stamp_ms, doubted_from_ms, self.epoch] {
            put_number(&mut date, number);
        }
        push(date);
    }
}

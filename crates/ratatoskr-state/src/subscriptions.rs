//! [`SubscriptionState`]: what of a subscription must survive, and the journal's changes to it.
//!
//! ```text
//!   journal:   created │ settled: acked 0..40, returned 41 │ settled: acked 42..90, dead 41 │ …
//!   state:     origin 0, settled {0..90}, returned {}, counts
//! ```
//!
//! A function of the journal. The bytes are described in `docs/log-format.md`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::change::{
    Change, Created, SettlementBatch, from_json, json, put_ranges, put_returned, take_ranges, take_returned,
};
use crate::code::{Reader, put_number, put_text};
use crate::ranges::Ranges;
use crate::subscription_settings::{SubscriptionName, SubscriptionSettings};

/// An unsettled message that has used up attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// How many.
    pub attempts: u32,
    /// Not to be delivered before, wall time: a restart knows no other.
    pub until_ms: u64,
    /// When it was delivered first, milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// When it was delivered last, milliseconds since the Unix epoch.
    pub last_ms: u64,
    /// Why it came back the last time.
    pub reason: Arc<str>,
}

/// Where a subscription stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckState {
    /// Everything before it is none of the subscription's business.
    pub origin: u64,
    /// Offsets that are done with, however that came, from the origin on.
    pub settled: Ranges,
    /// Messages that are not settled and have used up attempts, by offset.
    pub returned: BTreeMap<u64, Returned>,
}

/// An ack state that was saved, as a checkpoint has it: a range takes two to four bytes instead of forty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    origin: u64,
    encoded: Arc<[u8]>,
}

impl SavedState {
    /// Saves a state.
    pub fn of(acks: &AckState) -> SavedState {
        let mut encoded = Vec::new();
        put_acks(&mut encoded, acks);
        SavedState { origin: acks.origin, encoded: encoded.into() }
    }

    fn acks(&self) -> Result<AckState, String> {
        take_acks(&mut Reader::new(&self.encoded), self.origin)
    }

    /// What it takes in memory, its name and place included.
    pub fn bytes(&self) -> u64 {
        SAVED_STATE_BYTES + self.encoded.len() as u64
    }
}

/// What a saved state takes besides its ranges: its name of at most 255 bytes, and its place in the table.
const SAVED_STATE_BYTES: u64 = 384;

/// How many messages went which way, since the subscription was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged.
    pub acked: u64,
    /// Left out.
    pub passed: u64,
    /// Gone before they were delivered.
    pub expired: u64,
    /// Dead-lettered.
    pub dead: u64,
}

/// See the file's head.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionState {
    /// Unique for ever within the journal.
    pub number: u32,
    /// Its topic's number.
    pub topic: u32,
    /// Unique on its topic.
    pub name: SubscriptionName,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// What can be set.
    pub settings: Arc<SubscriptionSettings>,
    /// Which messages are done with.
    pub acks: AckState,
    /// How many went which way.
    pub counts: Counts,
    /// Saved states by their names.
    pub saved: BTreeMap<String, SavedState>,
}

impl AckState {
    /// The oldest offset that is not done with.
    pub fn floor(&self) -> u64 {
        self.settled.end_of(self.origin).unwrap_or(self.origin)
    }

    /// Offsets between two that are not settled, as ranges.
    pub fn gaps(&self, from: u64, to: u64) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (Vec::new(), from);
        for range in self.settled.iter().filter(|range| range.end > from) {
            if range.start >= to {
                break;
            }
            if range.start > at {
                gaps.push(at..range.start);
            }
            at = at.max(range.end);
        }
        if at < to {
            gaps.push(at..to);
        }
        gaps
    }

    /// Unsettled ranges from an offset on, the first `count` of them. The last one there is has no end.
    pub fn unsettled(&self, from: u64, count: usize) -> Vec<Range<u64>> {
        self.settled.gaps(from.max(self.origin), count)
    }

    /// The oldest `count` unsettled offsets before `next`, as ranges.
    fn oldest_unsettled(&self, next: u64, mut count: u64) -> Vec<Range<u64>> {
        let mut oldest = Vec::new();
        for gap in self.gaps(self.floor(), next) {
            let end = gap.end.min(gap.start.saturating_add(count));
            count -= end - gap.start;
            if gap.start < end {
                oldest.push(gap.start..end);
            }
        }
        oldest
    }

    /// Takes in what is done with; answers how many were not before.
    fn settle(&mut self, ranges: &Ranges) -> u64 {
        let mut new = 0;
        for Range { start, end } in ranges.iter() {
            let start = start.max(self.origin);
            if start < end {
                new += self.settled.insert(start..end);
            }
            while let Some((&offset, _)) = self.returned.range(start.min(end)..end).next() {
                self.returned.remove(&offset);
            }
        }
        new
    }
}

impl SubscriptionState {
    fn apply(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::Created(_) | Change::Dispatched(_) | Change::Deleted { .. } => {
                unreachable!("these change more than one subscription")
            }
            Change::Changed { settings, .. } => self.settings = settings.clone(),
            Change::Settled { batch, .. } => self.settle(batch),
            Change::Moved { origin, .. } => {
                self.acks = AckState { origin: *origin, ..AckState::default() };
            }
            Change::Skipped { count, next, .. } => {
                let mut passed = Ranges::default();
                for range in self.acks.oldest_unsettled(*next, *count) {
                    passed.insert(range);
                }
                self.settle(&SettlementBatch { passed, ..SettlementBatch::default() });
            }
            Change::Restored { saved, .. } => {
                if let Some(saved) = self.saved.get(saved) {
                    self.acks = saved.acks()?;
                }
            }
            Change::Saved { saved, .. } => {
                self.saved.insert(saved.clone(), SavedState::of(&self.acks));
            }
            Change::Forgotten { saved, .. } => {
                self.saved.remove(saved);
            }
        }
        Ok(())
    }

    fn settle(&mut self, batch: &SettlementBatch) {
        // What is done with stays so, whatever is said of it later.
        for (&offset, returned) in &batch.returned {
            if offset >= self.acks.origin && !self.acks.settled.contains(offset) {
                self.acks.returned.insert(offset, returned.clone());
            }
        }
        self.counts.acked += self.acks.settle(&batch.acked);
        self.counts.passed += self.acks.settle(&batch.passed);
        self.counts.expired += self.acks.settle(&batch.expired);
        self.counts.dead += self.acks.settle(&batch.dead);
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let created = Created {
            number: self.number,
            topic: self.topic,
            name: self.name.as_str().to_owned(),
            created_ms: self.created_ms,
            settings: SubscriptionSettings::clone(&self.settings),
            origin: self.acks.origin,
        };
        put_number(&mut bytes, SUBSCRIPTION);
        put_text(&mut bytes, &json(&created));
        let Counts { acked, passed, expired, dead } = self.counts;
        for count in [acked, passed, expired, dead] {
            put_number(&mut bytes, count);
        }
        put_acks(&mut bytes, &self.acks);
        for (name, saved) in &self.saved {
            put_text(&mut bytes, name.as_bytes());
            put_number(&mut bytes, saved.origin);
            bytes.extend_from_slice(&saved.encoded);
        }
        bytes
    }

    fn decode(reader: &mut Reader<'_>) -> Result<SubscriptionState, String> {
        let created: Created = from_json(reader.bytes()?)?;
        let mut state = SubscriptionState::new(created)?;
        let mut count = || reader.number();
        state.counts = Counts { acked: count()?, passed: count()?, expired: count()?, dead: count()? };
        state.acks = take_acks(reader, state.acks.origin)?;
        while !reader.is_at_end() {
            let name = reader.text()?.to_owned();
            let origin = reader.number()?;
            state.saved.insert(name, SavedState::of(&take_acks(reader, origin)?));
        }
        Ok(state)
    }

    fn new(created: Created) -> Result<SubscriptionState, String> {
        Ok(SubscriptionState {
            number: created.number,
            topic: created.topic,
            name: SubscriptionName::parse(&created.name).map_err(|error| error.to_string())?,
            created_ms: created.created_ms,
            settings: Arc::new(created.settings),
            acks: AckState { origin: created.origin, ..AckState::default() },
            counts: Counts::default(),
            saved: BTreeMap::new(),
        })
    }
}

/// All subscriptions, by number.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// Shared with the checkpoint being written: one that changes meanwhile is copied.
    all: BTreeMap<u32, Arc<SubscriptionState>>,
    /// Their numbers by topic and name: every call names its subscription.
    numbers: BTreeMap<(u32, SubscriptionName), u32>,
    /// The highest number ever used.
    last_number: u32,
    /// Those of the subscription that was added last: many have the same.
    last_settings: Arc<SubscriptionSettings>,
}

impl Subscriptions {
    /// The subscription with a number.
    pub fn get(&self, number: u32) -> Option<&Arc<SubscriptionState>> {
        self.all.get(&number)
    }

    /// All from a number on, by number.
    pub fn from(&self, number: u32) -> impl Iterator<Item = &Arc<SubscriptionState>> {
        self.all.range(number..).map(|(_, subscription)| subscription)
    }

    /// The number of the subscription of a topic with a name.
    pub fn find(&self, topic: u32, name: &SubscriptionName) -> Option<u32> {
        self.numbers.get(&(topic, name.clone())).copied()
    }

    /// How many there are, of one topic or in all.
    pub fn count(&self, topic: Option<u32>) -> usize {
        match topic {
            None => self.all.len(),
            Some(topic) => self.numbers_of(topic).count(),
        }
    }

    /// The numbers of a topic's subscriptions.
    fn numbers_of(&self, topic: u32) -> impl Iterator<Item = u32> {
        let names = self.numbers.range((topic, SubscriptionName::first())..);
        names.take_while(move |((of, _), _)| *of == topic).map(|(_, number)| *number)
    }

    /// The highest number ever given.
    pub fn last_number(&self) -> u32 {
        self.last_number
    }

    /// Takes in what was said of a subscription. What concerns one that is gone is passed over.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::Dispatched(_) => return Ok(()),
            Change::Created(created) => {
                self.last_number = self.last_number.max(created.number);
                self.add(SubscriptionState::new(created.clone())?);
                return Ok(());
            }
            Change::Deleted { number } => {
                self.remove(*number);
                return Ok(());
            }
            _ => {}
        }
        match self.all.get_mut(&change.number()) {
            Some(subscription) => Arc::make_mut(subscription).apply(change),
            None => Ok(()),
        }
    }

    fn add(&mut self, mut subscription: SubscriptionState) {
        if subscription.settings == self.last_settings {
            subscription.settings = self.last_settings.clone();
        } else {
            self.last_settings = subscription.settings.clone();
        }
        self.numbers.insert((subscription.topic, subscription.name.clone()), subscription.number);
        self.all.insert(subscription.number, Arc::new(subscription));
    }

    fn remove(&mut self, number: u32) {
        if let Some(subscription) = self.all.remove(&number) {
            self.numbers.remove(&(subscription.topic, subscription.name.clone()));
        }
    }

    pub(crate) fn topic_deleted(&mut self, topic: u32) {
        for number in self.numbers_of(topic).collect::<Vec<_>>() {
            self.remove(number);
        }
    }

    /// A topic that is kept in memory begins anew: so do its subscriptions.
    pub(crate) fn restart_topic(&mut self, topic: u32) {
        for number in self.numbers_of(topic).collect::<Vec<_>>() {
            let Some(subscription) = self.all.get_mut(&number) else { continue };
            let subscription = Arc::make_mut(subscription);
            subscription.acks = AckState::default();
            subscription.saved.clear();
        }
    }
}

// ---- as parts of a checkpoint ----

/// The kinds of parts that are written here.
const NUMBERS: u64 = 0;
const SUBSCRIPTION: u64 = 1;

impl Subscriptions {
    /// Takes in one part of a snapshot; false when it is none of these.
    pub(crate) fn restore(&mut self, kind: u64, reader: &mut Reader<'_>) -> Result<bool, String> {
        match kind {
            NUMBERS => self.last_number = reader.number()? as u32,
            SUBSCRIPTION => {
                let subscription = SubscriptionState::decode(reader)?;
                self.add(subscription);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// All of them, to be written by another thread.
    pub(crate) fn snapshot(&self) -> SubscriptionsSnapshot {
        SubscriptionsSnapshot { last_number: self.last_number, all: self.all.values().cloned().collect() }
    }
}

/// All subscriptions as they were at one moment; it shares its memory with those that have not changed since.
pub(crate) struct SubscriptionsSnapshot {
    last_number: u32,
    all: Vec<Arc<SubscriptionState>>,
}

impl SubscriptionsSnapshot {
    pub(crate) fn encode(&self, push: &mut dyn FnMut(Vec<u8>)) {
        let mut numbers = vec![NUMBERS as u8];
        put_number(&mut numbers, self.last_number.into());
        push(numbers);
        for subscription in &self.all {
            push(subscription.encode());
        }
    }
}

fn put_acks(bytes: &mut Vec<u8>, acks: &AckState) {
    put_ranges(bytes, &acks.settled);
    put_returned(bytes, &acks.returned);
}

fn take_acks(reader: &mut Reader<'_>, origin: u64) -> Result<AckState, String> {
    Ok(AckState { origin, settled: take_ranges(reader)?, returned: take_returned(reader)? })
}

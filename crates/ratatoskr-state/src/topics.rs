//! [`Topics`]: which topics there are, and where each begins and ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::code::{Reader, put_number};
use crate::topic_settings::{Durability, TopicSettings};

/// A topic, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// What can be set.
    pub settings: TopicSettings,
    /// The first offset that stays. 0 in a topic of durability `memory`, as are the following.
    pub first: u64,
    /// The offset the next message gets.
    pub next: u64,
    /// The newest timestamp that a message got, milliseconds since the Unix epoch.
    pub last_timestamp_ms: u64,
}

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Shared with the checkpoint being written: one that changes meanwhile is copied.
    all: BTreeMap<u32, Arc<TopicState>>,
}

impl Topics {
    /// The topic with a number.
    pub fn get(&self, number: u32) -> Option<&TopicState> {
        self.all.get(&number).map(|topic| &**topic)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &TopicState)> {
        self.all.iter().map(|(number, topic)| (*number, &**topic))
    }

    pub(crate) fn create(&mut self, number: u32, settings: &[u8]) -> Result<(), String> {
        let settings = decode(number, settings)?;
        let topic = TopicState { settings, first: 0, next: 0, last_timestamp_ms: 0 };
        self.all.insert(number, Arc::new(topic));
        Ok(())
    }

    pub(crate) fn update(&mut self, number: u32, settings: &[u8]) -> Result<(), String> {
        self.existing(number)?.settings = decode(number, settings)?;
        Ok(())
    }

    pub(crate) fn delete(&mut self, number: u32) -> Result<(), String> {
        self.existing(number)?;
        self.all.remove(&number);
        Ok(())
    }

    /// Answers the first offset that stays.
    pub(crate) fn trim(&mut self, number: u32, first: u64) -> Result<u64, String> {
        let topic = self.existing(number)?;
        topic.first = first.clamp(topic.first, topic.next.max(topic.first));
        Ok(topic.first)
    }

    /// Takes in records: the offset of the first, the offset after the last, the newest timestamp.
    pub(crate) fn append(
        &mut self,
        number: u32,
        (first, end): (u64, u64),
        last_ms: u64,
    ) -> Result<(), String> {
        let topic = self.existing(number)?;
        if first != topic.next {
            return Err(format!("topic number {number} goes on at offset {first} instead of {}", topic.next));
        }
        topic.next = end;
        topic.last_timestamp_ms = topic.last_timestamp_ms.max(last_ms);
        Ok(())
    }

    fn existing(&mut self, number: u32) -> Result<&mut TopicState, String> {
        let topic = self.all.get_mut(&number).map(Arc::make_mut);
        topic.ok_or_else(|| format!("topic number {number} does not exist"))
    }

    /// One topic of a snapshot; its settings came before.
    pub(crate) fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), String> {
        let number = reader.number()? as u32;
        let (first, next, last_timestamp_ms) = (reader.number()?, reader.number()?, reader.number()?);
        let topic = self.existing(number)?;
        (topic.first, topic.next, topic.last_timestamp_ms) = (first, next, last_timestamp_ms);
        Ok(())
    }

    /// Where each topic stands, a part for each, which begins with `head`.
    pub(crate) fn encode(&self, head: u64, push: &mut dyn FnMut(Vec<u8>)) {
        for (number, topic) in self.all() {
            let mut part = Vec::new();
            for value in [head, number.into(), topic.first, topic.next, topic.last_timestamp_ms] {
                put_number(&mut part, value);
            }
            push(part);
        }
    }
}

impl TopicState {
    /// True when no batch has its messages.
    pub fn is_in_memory(&self) -> bool {
        self.settings.durability == Durability::Memory
    }
}

fn decode(number: u32, settings: &[u8]) -> Result<TopicSettings, String> {
    TopicSettings::decode(settings)
        .map_err(|error| format!("the settings of topic number {number} cannot be read: {error}"))
}

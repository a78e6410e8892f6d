//! What has to hold for records to be appended: their topic takes them, they are no duplicates, and get the offsets they are expected
//! to have.
//!
//! Decided here, on the sequencer's thread, because only here is it known what comes before. Duplicates are taken out first: a
//! publisher that tries a conditional append again is told where its first try went.

use ratatoskr_state::{DedupEntry, First};
use std::sync::Arc;

use ratatoskr_log::{Placed, RecordBatch};

use super::{Prepared, Sequencer};
use crate::answer::Answer;
use crate::broken::Broken;
use crate::command::{AppendError, Records, Target};
use crate::dedup::{Duplicate, TooManyIds};
use crate::error::Unavailable;
use crate::message::Terms;
use crate::owner::Owner;
use crate::topic::Topic;

impl Sequencer {
    /// Looks at everything that an append can be refused for.
    pub(super) fn prepare(&mut self, records: Records) -> Result<Prepared, AppendError> {
        let Records { target, mut batch, terms } = records;
        // What is scheduled for a topic that is gone could never be delivered.
        if let Some(gone) = terms.ids_of.as_ref().filter(|topic| self.is_gone(topic)) {
            return Err(AppendError::TopicGone { topic: gone.name.clone() });
        }
        let topic = self.resolve(target)?;
        if self.owners.get_mut(&topic.log.number).is_some_and(Owner::is_down) {
            let topic = topic.name.clone();
            return Err(AppendError::Unavailable(Unavailable::TopicRestarting { topic }));
        }
        let duplicates = self.meet_terms(&topic, &mut batch, &terms)?;
        Ok(Prepared { topic, batch, terms, duplicates })
    }

    /// The topic an append goes to, created if need be.
    fn resolve(&mut self, target: Target) -> Result<Arc<Topic>, AppendError> {
        let must_last = matches!(target, Target::Lasting(..));
        let (name, settings) = match target {
            Target::Living(topic) if self.is_gone(&topic) => {
                return Err(AppendError::TopicGone { topic: topic.name.clone() });
            }
            Target::Living(topic) => return Ok(topic),
            Target::Topic(topic) if !topic.log.is_deleted() => return Ok(topic),
            Target::Topic(topic) => (topic.name.clone(), self.core.topic_defaults.clone()),
            Target::Name(name, settings) | Target::Lasting(name, settings) => (name, settings),
        };
        if let Some(topic) = self.core.topic(&name).or_else(|| self.creating.get(&name).cloned()) {
            if must_last && topic.log.is_in_memory() {
                tracing::error!(topic = %name, "dead letters wait: their topic keeps messages in memory only");
                return Err(AppendError::Unavailable(Unavailable::DeadLettersInMemory { topic: name }));
            }
            return Ok(topic);
        }
        if self.is_crowded() {
            return Err(AppendError::TooManyTopics { topics_max: self.core.shares.topics });
        }
        let topic = self.stage_create(&name, settings);
        self.wait_for(topic.clone(), Answer::Create(None));
        Ok(topic)
    }

    fn is_gone(&self, topic: &Topic) -> bool {
        topic.log.is_deleted() || self.deleting.contains(&topic.log.number)
    }

    /// Takes the duplicates out of a batch, and checks what is expected of the rest. Answers the duplicates.
    fn meet_terms(
        &self,
        topic: &Topic,
        batch: &mut RecordBatch,
        terms: &Terms,
    ) -> Result<Vec<Duplicate>, AppendError> {
        let mut duplicates = Vec::new();
        let ids_of = terms.ids_of.as_deref().unwrap_or(topic);
        let window_ms = ids_of.settings().dedup_window_ms;
        if !terms.ids.is_empty() && window_ms > 0 && !Broken::Duplicates.is_on() {
            let window = (self.dates.of_ids(), window_ms);
            let found = self.core.dedup.find(ids_of.log.number, &terms.ids, window);
            duplicates = found.map_err(|TooManyIds(ids_max)| AppendError::TooManyDedupIds { ids_max })?;
        }
        let next = topic.log.staged_next();
        for &(index, expected) in &terms.expected {
            let Err(before) = place_among(&duplicates, index) else { continue };
            if expected != next + u64::from(index) - before as u64 {
                return Err(AppendError::OtherOffset { expected, next_offset: next });
            }
        }
        batch.remove(&duplicates.iter().map(|&(index, _)| index).collect::<Vec<_>>());
        Ok(duplicates)
    }

    /// Notes the ids of what was placed; answers where the first ones of the duplicates are.
    pub(super) fn note_ids(
        &self,
        topic: &Topic,
        placed: Placed,
        (terms, duplicates): (&Terms, &[Duplicate]),
    ) -> Vec<(u32, First)> {
        let ids_of = terms.ids_of.as_deref().unwrap_or(topic);
        if terms.ids.is_empty() || ids_of.settings().dedup_window_ms == 0 {
            return Vec::new();
        }
        let (scope, log) = (ids_of.log.number, topic.log.number);
        let mut firsts = Vec::with_capacity(duplicates.len());
        for &(index, id) in &terms.ids {
            match place_among(duplicates, index) {
                Ok(at) => {
                    let earlier =
                        || self.core.dedup.staged(scope, id).expect("it comes earlier in this batch");
                    firsts.push((index, duplicates[at].1.unwrap_or_else(earlier)));
                }
                Err(before) => {
                    let offset = placed.first + u64::from(index) - before as u64;
                    let first = First { log, offset, timestamp_ms: placed.timestamp_ms };
                    let date_ms = self.dates.stamp_ms;
                    let entry = DedupEntry { id, first, date_ms };
                    self.core.dedup.stage(scope, entry, topic.log.is_in_memory());
                }
            }
        }
        firsts
    }
}

fn place_among(duplicates: &[Duplicate], index: u32) -> Result<usize, usize> {
    duplicates.binary_search_by_key(&index, |&(index, _)| index)
}

//! What has to hold for records to be appended: they are no duplicates, and get the offsets they are expected to have.
//!
//! Decided here, on the sequencer's thread, because only here is it known what comes before. Duplicates are taken out first: a
//! publisher that tries a conditional append again is told where its first try went.

use ratatoskr_log::{Placed, RecordBatch};

use super::Sequencer;
use crate::command::AppendError;
use crate::dedup::{First, TooManyIds};
use crate::message::Terms;
use crate::topic::Topic;

impl Sequencer {
    /// Takes the duplicates out of a batch, and checks what is expected of the rest. Answers the duplicates' indices.
    pub(super) fn meet_terms(
        &self,
        topic: &Topic,
        batch: &mut RecordBatch,
        terms: &Terms,
    ) -> Result<Vec<u32>, AppendError> {
        let mut duplicates = Vec::new();
        let ids_of = terms.ids_of.as_deref().unwrap_or(topic);
        let window_ms = ids_of.settings().dedup_window_ms;
        if !terms.ids.is_empty() && window_ms > 0 {
            let cutoff_ms = self.core.now_ms().saturating_sub(window_ms);
            let found = self.core.dedup.find(ids_of.log.number, &terms.ids, cutoff_ms);
            duplicates = found.map_err(|TooManyIds| AppendError::TooManyDedupIds)?;
        }
        let next = topic.log.staged_next();
        for &(index, expected) in &terms.expected {
            let Err(before) = duplicates.binary_search(&index) else { continue };
            if expected != next + u64::from(index) - before as u64 {
                return Err(AppendError::OtherOffset { expected, next_offset: next });
            }
        }
        batch.remove(&duplicates);
        Ok(duplicates)
    }

    /// Notes the ids of what was placed; answers where the first ones of the duplicates are.
    pub(super) fn note_ids(
        &self,
        topic: &Topic,
        placed: Placed,
        (terms, duplicates): (&Terms, &[u32]),
    ) -> Vec<(u32, First)> {
        let ids_of = terms.ids_of.as_deref().unwrap_or(topic);
        if terms.ids.is_empty() || ids_of.settings().dedup_window_ms == 0 {
            return Vec::new();
        }
        let (scope, log) = (ids_of.log.number, topic.log.number);
        let mut firsts = Vec::with_capacity(duplicates.len());
        for &(index, id) in &terms.ids {
            match duplicates.binary_search(&index) {
                Ok(_) => {
                    let first = self.core.dedup.first(scope, id).expect("a duplicate has a first one");
                    firsts.push((index, first));
                }
                Err(before) => {
                    let offset = placed.first + u64::from(index) - before as u64;
                    let first = First { log, offset, timestamp_ms: placed.timestamp_ms };
                    self.core.dedup.stage(scope, id, first);
                }
            }
        }
        firsts
    }
}

//! Retention: which topics hold more, or older, than they shall.
//!
//! Decided here, done by the sequencer: a trim is a record in the journal like everything else, and files go
//! only once it is durable. By count and age it is exact; by bytes it errs on keeping, by at most 32 KiB of
//! index and the newest records that are in memory only. While the journal cannot go on in another file, a trim waits until it frees
//! a segment: each takes from what the journal keeps for settlements. All trims of a sweep are written together.

use ratatoskr_state::Run;
use std::sync::Arc;

use ratatoskr_log::ReadError;

use crate::command::Command;
use crate::core::Core;
use crate::topic::Topic;

/// Looks at every topic and asks for the trims that are due.
pub(crate) fn sweep(core: &Core) {
    let dates = core.dates();
    let topics: Vec<_> = core.topics.read().values().cloned().collect();
    let mut trims = Vec::new();
    core.dedup.forget(dates.of_ids(), |number| {
        core.topic_numbered(number).map_or(0, |topic| topic.settings().dedup_window_ms)
    });
    for topic in topics {
        note_age(core, &topic);
        match first_to_keep(core, &topic, dates.today_ms) {
            Ok(Some(first)) if may_trim(core, &topic, first) => trims.push((topic, first)),
            Ok(_) => {}
            Err(error) => tracing::warn!(topic = %topic.name, %error, "retention could not look at a topic"),
        }
    }
    if !trims.is_empty() {
        // A closed inbox means the broker stops; the next start sweeps again.
        let _ = core.inbox.push(Command::Trim { trims });
    }
}

/// False while a trim would only take from what the journal keeps for the time of a full disk.
pub(crate) fn may_trim(core: &Core, topic: &Topic, first: u64) -> bool {
    !core.health.borrow().is_held_up() || topic.log.frees_a_segment(first)
}

/// The first offset that stays, if something is to go.
fn first_to_keep(core: &Core, topic: &Arc<Topic>, today_ms: u64) -> Result<Option<u64>, ReadError> {
    let settings = topic.settings();
    let extent = topic.log.extent();
    let mut first = extent.first;
    if let Some(messages) = settings.retention_messages {
        first = first.max(extent.next.saturating_sub(messages));
    }
    // A memory topic keeps its bound by itself, with each record it takes.
    let on_disk = settings.retention_bytes.filter(|_| !topic.log.is_in_memory());
    if let Some(bytes) = on_disk.filter(|bytes| extent.bytes > *bytes) {
        first = first.max(topic.log.offset_for_bytes(bytes)?);
    }
    if let Some(age_ms) = settings.retention_age_ms {
        let cutoff_ms = today_ms.saturating_sub(age_ms);
        let bounds = if topic.log.is_in_memory() {
            core.memory_ages.lock().bounds(topic.log.number, cutoff_ms)
        } else {
            core.state.read().ages().bounds(topic.log.number, cutoff_ms)
        };
        let mut young = extent.first;
        if !topic.log.is_younger_than(cutoff_ms) {
            let its_time_ms;
            (young, its_time_ms) = topic.log.offset_at_time(cutoff_ms)?;
            topic.log.note_younger_than(young, its_time_ms);
        }
        first = first.max(young.max(bounds.old_before).min(bounds.young_from));
    }
    Ok((first > extent.first).then_some(first))
}

/// Marks of ages go with the messages; timestamps that turn out to be wrong get one. In the state, batches see to that.
fn note_age(core: &Core, topic: &Topic) {
    if !topic.log.is_in_memory() {
        return;
    }
    let extent = topic.log.extent();
    let newest = Run { first: extent.first, end: extent.next, timestamp_ms: topic.log.last_timestamp_ms() };
    // Looked at last, so that nothing of this was taken in later: a sweep may take seconds.
    let dates = core.dates();
    let mut ages = core.memory_ages.lock();
    ages.forget_before(topic.log.number, extent.first);
    if !dates.is_in_doubt() && extent.first < extent.next {
        ages.note_newest(topic.log.number, newest, dates.today_ms);
    }
}

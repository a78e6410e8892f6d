//! The files of topics against what checkpoint and journal say of them: what is missing is told, what nothing refers to is removed.
//!
//! Both come after the whole journal was replayed: a later trim or deletion may be why a file is not there, or not needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::{Disk, OpenMode};
use crate::error::LogError;
use crate::flusher::remove_folder;
use crate::layout::{segment_file, topic_number};
use crate::segment::{Belonging, belongs};
use crate::shared::Shared;
use crate::topic::TopicLog;

/// What is wrong with segments, as far as it can be told without reading them.
pub(super) fn check_segments(disk: &Arc<dyn Disk>, topics: &BTreeMap<u32, Arc<TopicLog>>) -> Vec<String> {
    let mut damage = Vec::new();
    for topic in topics.values() {
        topic.take_trimmed();
        for segment in topic.segments() {
            let path = segment_file(&topic.folder, segment.base);
            let file = disk.open(&path, OpenMode::Read).and_then(|file| Ok((file.len()?, file)));
            match file.map(|(length, file)| (length, belongs(&*file, (topic.number, topic.directory), segment.base))) {
                Ok((length, Belonging::Ours)) if length >= segment.bytes => {}
                Ok((length, Belonging::Unknown(what))) if length >= segment.bytes => damage.push(format!(
                    "{}: {what}; its records have checksums of their own and are served as far as those match",
                    path.display(),
                )),
                Ok((_, Belonging::Foreign(what))) => damage.push(format!(
                    "{}: {what}; topic {} has lost offsets {} to {}",
                    path.display(),
                    topic.name,
                    segment.base,
                    segment.next,
                )),
                Ok((length, _)) => damage.push(format!(
                    "{}: {length} bytes where {} belong; topic {} has lost records from offset {} on",
                    path.display(),
                    segment.bytes,
                    topic.name,
                    segment.base,
                )),
                Err(error) => damage.push(format!(
                    "{}: {error}; topic {} has lost offsets {} to {}",
                    path.display(),
                    topic.name,
                    segment.base,
                    segment.next,
                )),
            }
        }
    }
    damage
}

/// Removes folders of topics that do not exist, and segments that topics do not have.
pub(super) fn remove_unknown(shared: &Shared) -> Result<(), LogError> {
    let topics = shared.topics.read();
    let folder = shared.layout.topics();
    let names = shared.disk.list(&folder).map_err(|error| LogError::refused("list", &folder, error))?;
    for name in names {
        let Some(number) = topic_number(&name) else {
            let hint = "the topics folder holds only topics; move it away".to_owned();
            return Err(LogError::Foreign { path: folder.join(name), hint });
        };
        match topics.get(&number) {
            Some(topic) => remove_unlisted(shared, topic)?,
            None => remove_folder(shared, &folder.join(name))?,
        }
    }
    Ok(())
}

/// Removes segments that the topic does not list: trimmed ones, or leftovers of a flush that was done again.
fn remove_unlisted(shared: &Shared, topic: &TopicLog) -> Result<(), LogError> {
    let listed = topic.segments();
    let failed = |error| LogError::refused("remove", &topic.folder, error);
    for name in shared.disk.list(&topic.folder).map_err(failed)? {
        let base = name.split_once('.').and_then(|(base, _)| base.parse::<u64>().ok());
        if base.is_some_and(|base| listed.iter().all(|segment| segment.base != base)) {
            shared.disk.remove(&topic.folder.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

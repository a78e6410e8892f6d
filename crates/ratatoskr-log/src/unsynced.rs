//! [`UnsyncedSegments`]: what the next checkpoint has to sync: segments, each with the handle it was first written through, and folders.
//!
//! ```text
//!   opened ── written ── closed by its writer ── the kernel writes back, and fails ── synced
//!     └──────────── the handle kept here was open all the while: its sync reports it ──┘
//! ```
//!
//! The kernel reports a failed write-back once to every handle that was open when it happened. A handle opened later may hear nothing
//! of it, and its sync would succeed over bytes that never reached the disk (fsync(2), "Errors"). So the *first* handle a segment
//! was written through is kept until it has synced the segment, whatever its writer does meanwhile.
//! Invariant: a segment that is not listed here is durable up to where its topic counts on it. Bounded: with more than
//! `files_max` of them one is synced before the next is noted, which costs a sync and no descriptor.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::flush::Flushed;
use crate::layout::{Layout, segment_file};
use crate::topic::TopicLog;

/// See the file's head.
pub(crate) struct UnsyncedSegments {
    /// By topic number and base.
    files: BTreeMap<(u32, u64), Unsynced>,
    /// File handles kept at most.
    files_max: usize,
    /// Topics whose folders have new names, by number.
    folders: BTreeMap<u32, Arc<TopicLog>>,
}

/// A segment somebody has written to.
struct Unsynced {
    /// The first handle it was written through since its last sync.
    file: Arc<dyn DiskFile>,
    topic: Arc<TopicLog>,
}

impl UnsyncedSegments {
    pub(crate) fn new(files_max: usize) -> UnsyncedSegments {
        UnsyncedSegments { files: BTreeMap::new(), files_max, folders: BTreeMap::new() }
    }

    /// Notes what a flush has written. An error means that a segment could not be synced to bound the handles.
    pub(crate) fn note(&mut self, topic: &Arc<TopicLog>, flushed: &Flushed) -> Result<(), LogError> {
        if flushed.has_new_names {
            self.folders.insert(topic.number, topic.clone());
        }
        flushed.segments.iter().try_for_each(|(base, file)| self.note_segment(topic, *base, file))
    }

    fn note_segment(
        &mut self,
        topic: &Arc<TopicLog>,
        base: u64,
        file: &Arc<dyn DiskFile>,
    ) -> Result<(), LogError> {
        let key = (topic.number, base);
        if self.files.contains_key(&key) {
            return Ok(());
        }
        // Noted first: whatever happens to another one, this one has been written to.
        self.files.insert(key, Unsynced { file: file.clone(), topic: topic.clone() });
        while self.files.len() > self.files_max.max(1) {
            let other = self.files.keys().find(|other| **other != key).copied();
            self.sync(other.expect("there are at least two"))?;
        }
        Ok(())
    }

    /// Syncs all segments, and lets go of their handles.
    pub(crate) fn sync_segments(&mut self) -> Result<(), LogError> {
        while let Some((&key, _)) = self.files.first_key_value() {
            self.sync(key)?;
        }
        Ok(())
    }

    /// Syncs all segments, and makes new names durable.
    pub(crate) fn sync_all(&mut self, disk: &dyn Disk, layout: &Layout) -> Result<(), LogError> {
        self.sync_segments()?;
        if self.folders.is_empty() {
            return Ok(());
        }
        // Names that may not be durable must not be counted on: like a failed sync of content, a failed one here is the end. Folders
        // that cannot be opened for now stay listed, all of them, and are synced again.
        for topic in self.folders.values() {
            match disk.sync_dir(&topic.folder) {
                // Deleted since.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.map_err(|error| LogError::sync(&topic.folder, error))?,
            }
        }
        let topics = layout.topics();
        disk.sync_dir(&topics).map_err(|error| LogError::sync(&topics, error))?;
        self.folders.clear();
        Ok(())
    }

    /// A failed sync is never repeated: the segment stays listed, and the log fails for good.
    fn sync(&mut self, key: (u32, u64)) -> Result<(), LogError> {
        let Unsynced { file, topic } = &self.files[&key];
        let path = segment_file(&topic.folder, key.1);
        let synced = if cfg!(feature = "broken-late-handle") {
            // Asks a handle that was not open while the segment was written. The crash tests must notice.
            let late = topic.disk.open(&path, OpenMode::Write);
            late.map_or(Ok(()), |late| late.sync_data())
        } else {
            file.sync_data()
        };
        synced.map_err(|source| LogError::Io { action: "sync", path, source })?;
        self.files.remove(&key);
        Ok(())
    }

    /// The segment is removed: nothing counts on it any more.
    pub(crate) fn forget(&mut self, topic: u32, base: u64) {
        self.files.remove(&(topic, base));
    }

    /// The topic is removed with all its segments, and their space is given back to the disk.
    pub(crate) fn forget_topic(&mut self, topic: u32) {
        self.files.retain(|&(number, _), _| number != topic);
    }
}

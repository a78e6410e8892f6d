//! The flusher: everything that is done behind the journal, on a thread of its own.
//!
//! ```text
//!   journal writer ──Flush, Checkpoint, Trim, Remove, Spare──▶ flusher ──▶ segments, checkpoint, old files
//! ```
//!
//! Nothing it does is waited for by a publisher, unless memory or the journal run out. A full disk, or a file that cannot be opened, makes it
//! put the task back and try again later; a failed write or sync ends all acknowledging
//! (the journal writer sees it before its next write).

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ratatoskr_state::Entry;

use crate::checkpoint::{CheckpointEntry, CheckpointWriter, ExtentEntry, SegmentEntry};
use crate::disk::OpenMode;
use crate::error::LogError;
use crate::flush::{Flush, Flushed, SegmentWriter};
use crate::layout::{index_file, segment_file};
use crate::segment::SegmentReader;
use crate::shared::{Boundary, BoundaryTopic, Obstacle, Shared, Task};
use crate::spares::FillMode;
use crate::topic::{Promise, TopicLog};
use crate::unsynced::UnsyncedSegments;

/// Topics whose newest segment stays open between flushes; two file handles each.
const OPEN_WRITERS_MAX: usize = 128;
/// Of the file handles a log may hold, the part that one open segment has: its own, its index's, and as much again for others.
const FILES_PER_WRITER: usize = 6;

/// Trimmed segments that are removed and cut together, each with a file handle meanwhile.
const CUT_TOGETHER: usize = 16;

/// The background half of a log. Owned by one thread, or driven by hand in a simulation.
pub struct Flusher {
    shared: Arc<Shared>,
    /// What the next checkpoint has to sync.
    unsynced: UnsyncedSegments,
    /// Numbers of topics with an open segment, the one opened first at the front.
    opened: VecDeque<u32>,
    /// Their open segments, by number.
    writers: HashMap<u32, SegmentWriter>,
    gathered: Vec<u8>,
}

impl Flusher {
    /// `unsynced` is what a replay has written to.
    pub(crate) fn new(shared: Arc<Shared>, unsynced: UnsyncedSegments) -> Flusher {
        Flusher { shared, unsynced, opened: VecDeque::new(), writers: HashMap::new(), gathered: Vec::new() }
    }

    /// Waits for work, at most so long. False once the log is closed.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.shared.wait_for_work(timeout)
    }

    /// Does what is in the queue. What passes, such as a full disk, leaves tasks for the next call and is no error here.
    pub fn run_pending(&mut self) -> Result<(), LogError> {
        let mut obstacle = None;
        for _ in 0..self.shared.queued_tasks() {
            let Some(task) = self.shared.take_task() else { break };
            match self.run(&task) {
                Ok(()) => {}
                Err(error) if error.is_passing() => {
                    self.put_back(task);
                    if let LogError::NoDescriptors { .. } = error {
                        self.close_idle_files()?;
                    }
                    obstacle = Some(Obstacle { is_full: error.is_full(), reason: error.to_string() });
                }
                Err(error) => {
                    self.shared.fail(error.to_string());
                    return Err(error);
                }
            }
            self.shared.note_progress();
        }
        // Last: the tasks may have opened some again.
        if self.shared.wants_descriptors.swap(false, Ordering::Relaxed) {
            self.close_idle_files()?;
        }
        self.shared.note_obstacle(obstacle);
        Ok(())
    }

    /// Closes what is open only to save opening it again. What was written through it is synced first.
    fn close_idle_files(&mut self) -> Result<(), LogError> {
        self.writers.clear();
        self.opened.clear();
        self.unsynced.sync_segments().inspect_err(|error| self.shared.fail(error.to_string()))
    }

    /// Keeps a task for the next time, unless the same flush has been asked for again meanwhile.
    fn put_back(&self, task: Task) {
        match &task {
            Task::Flush(topic) if topic.flush_queued.swap(true, Ordering::Relaxed) => {}
            _ => self.shared.put_back(task),
        }
    }

    fn run(&mut self, task: &Task) -> Result<(), LogError> {
        match task {
            Task::Flush(topic) => {
                topic.flush_queued.store(false, Ordering::Relaxed);
                self.flush(topic, u64::MAX)?;
            }
            Task::Checkpoint(boundary) => self.checkpoint(boundary)?,
            Task::MendIndexes(topic) => self.mend_indexes(topic),
            // What cannot be removed now, the next start removes.
            Task::Trim(topic) => warn_only(self.remove_trimmed(topic)),
            Task::Remove(topic) => match self.remove_topic(topic) {
                Err(error @ LogError::NoDescriptors { .. }) => return Err(error),
                other => warn_only(other),
            },
            // No room for a spare now: a rotation will try again and say so to the publishers.
            Task::Spare => match self.shared.spares.prepare(FillMode::Ahead) {
                Err(error) if error.is_passing() => {}
                other => other?,
            },
        }
        Ok(())
    }

    fn flush(&mut self, topic: &Arc<TopicLog>, end: u64) -> Result<(), LogError> {
        if topic.is_deleted() || topic.is_in_memory() || topic.unflushed_bytes() == 0 {
            return Ok(());
        }
        // What a trim was ahead of needs no room any more, and may leave some.
        warn_only(self.remove_trimmed(topic));
        let skipped = topic.skip_trimmed(end);
        if skipped > 0 {
            self.close_writer(topic.number);
            self.shared.remove_unflushed(skipped);
        }
        let flush = Flush { topic, directory: self.shared.directory, end, gathered: &mut self.gathered };
        let mut flushed = Flushed::default();
        let result = self.writers.entry(topic.number).or_default().flush(flush, &mut flushed);
        self.gathered.clear();
        if result.is_err() {
            self.close_writer(topic.number);
        }
        self.shared.remove_unflushed(flushed.bytes);
        self.unsynced.note(topic, &flushed)?;
        if result.is_ok() && flushed.bytes > 0 {
            self.keep_open(topic.number);
            // A trim may have been ahead of the flush.
            warn_only(self.remove_trimmed(topic));
        }
        result
    }

    /// An index is a hint: whatever is wrong with it, nothing depends on it.
    fn mend_indexes(&mut self, topic: &Arc<TopicLog>) {
        // Nobody else may be writing to the newest one.
        self.close_writer(topic.number);
        for segment in topic.segments() {
            // What cannot be read is told elsewhere.
            let Ok(reader) = SegmentReader::open(topic, segment) else { continue };
            let path = index_file(&topic.folder, segment.base);
            match reader.mend_index() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(path = %path.display(), "an index was lost or damaged and is written anew");
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "an index cannot be written"),
            }
        }
    }

    /// Bounds the number of open files: the topics that were opened first are closed.
    fn keep_open(&mut self, number: u32) {
        if !self.opened.contains(&number) {
            self.opened.push_back(number);
        }
        if self.opened.len() > OPEN_WRITERS_MAX.min(self.shared.options.open_files_max / FILES_PER_WRITER)
            && let Some(oldest) = self.opened.pop_front()
        {
            self.writers.remove(&oldest);
        }
    }

    fn close_writer(&mut self, number: u32) {
        self.writers.remove(&number);
        self.opened.retain(|open| *open != number);
    }

    /// See "Checkpoint" in `docs/log-format.md` for the crash at each step.
    pub(crate) fn checkpoint(&mut self, boundary: &Boundary) -> Result<(), LogError> {
        let start = boundary.header.journal_start;
        for BoundaryTopic { topic, next, .. } in &boundary.topics {
            self.flush(topic, *next)?;
        }
        self.unsynced.sync_all(&*self.shared.disk, &self.shared.layout)?;
        if let Err(error) = self.write_checkpoint(boundary) {
            if error.is_full() {
                // Half a checkpoint only takes room; if it cannot be removed, the next one does it.
                let _ = self.shared.disk.remove(&self.shared.layout.checkpoint_new());
            }
            return Err(error);
        }
        self.shared.journal_start.store(start, Ordering::Release);
        self.shared.checkpoint_queued.store(false, Ordering::Release);
        self.shared.checkpoints.fetch_add(1, Ordering::Relaxed);
        // The checkpoint is durable: whatever is wrong here, nothing depends on it.
        warn_only(self.retire_before(start));
        Ok(())
    }

    /// Journal files that no checkpoint needs become spares, or go.
    pub(crate) fn retire_before(&self, start: u64) -> Result<(), LogError> {
        for number in crate::journal::list_files(&self.shared.disk, &self.shared.layout)? {
            if number < start {
                self.shared.spares.retire(number)?;
            }
        }
        Ok(())
    }

    fn write_checkpoint(&self, boundary: &Boundary) -> Result<(), LogError> {
        let shared = &self.shared;
        let mut writer =
            CheckpointWriter::create(&shared.disk, &shared.layout, shared.directory, boundary.header)?;
        for BoundaryTopic { topic, settings, next } in &boundary.topics {
            let number = topic.number;
            writer.push(&CheckpointEntry::Journal(Entry::Create {
                topic: number,
                created_ms: topic.created_ms,
                name: &topic.name,
                settings,
            }))?;
            let (segments, extent) = (topic.segments(), topic.extent());
            // What a topic deleted since then held is not needed: its deletion is in the journal.
            let kept = if topic.is_deleted() { &[][..] } else { &segments[..] };
            for segment in kept {
                writer.push(&CheckpointEntry::Segment { topic: number, segment: *segment })?;
            }
            let first = match (topic.promise, topic.is_deleted()) {
                (Promise::Memory { .. }, _) => 0,
                (_, true) => extent.next,
                // A later trim may reach past what is flushed; it and its records are in the journal.
                (_, false) => extent.first.min(topic.flushed_end()),
            };
            debug_assert!(kept.last().is_some_and(|last| last.next >= *next) || first >= *next || first == 0);
            let last_timestamp_ms = topic.last_timestamp_ms();
            let extent = ExtentEntry { first, last_timestamp_ms };
            writer.push(&CheckpointEntry::Extent { topic: number, extent })?;
        }
        let mut written = Ok(());
        boundary.state.encode(&mut |content| {
            if written.is_ok() {
                written = writer.push(&CheckpointEntry::State(&content));
            }
        });
        written?;
        writer.finish()
    }

    fn remove_trimmed(&mut self, topic: &Arc<TopicLog>) -> Result<(), LogError> {
        let trimmed = topic.take_trimmed();
        if trimmed.is_empty() {
            return Ok(());
        }
        self.close_writer(topic.number);
        for some in trimmed.chunks(CUT_TOGETHER) {
            self.remove_segments(topic, some)?;
        }
        Ok(())
    }

    /// A reader that stands still may have a segment open, and would keep its room: it is cut, but only once its name is gone for good.
    /// A name that came back after a power cut would lead to a cut file, which the replay, on its way to the trim, goes on in.
    fn remove_segments(&mut self, topic: &TopicLog, segments: &[SegmentEntry]) -> Result<(), LogError> {
        let mut files = Vec::with_capacity(segments.len());
        for segment in segments {
            let path = segment_file(&topic.folder, segment.base);
            self.unsynced.forget(topic.number, segment.base);
            files.extend(self.shared.disk.open(&path, OpenMode::Write));
            self.remove_file(&path)?;
            self.remove_file(&index_file(&topic.folder, segment.base))?;
        }
        let failed = |error| LogError::io("cut segments of", &topic.folder, error);
        self.shared.disk.sync_dir(&topic.folder).map_err(failed)?;
        files.iter().try_for_each(|file| file.set_len(0)).map_err(failed)?;
        self.claim_room()
    }

    /// While the journal lacks room, what was freed is its own first: publishing waits for that, and nothing waits for segments.
    fn claim_room(&self) -> Result<(), LogError> {
        match self.shared.spares.is_wanted().then(|| self.shared.spares.prepare(FillMode::Now)) {
            Some(Err(error)) if !error.is_passing() => Err(error),
            _ => Ok(()),
        }
    }

    fn remove_topic(&mut self, topic: &Arc<TopicLog>) -> Result<(), LogError> {
        self.close_writer(topic.number);
        self.unsynced.forget_topic(topic.number);
        self.shared.remove_unflushed(topic.forget());
        remove_folder(&self.shared, &topic.folder)?;
        self.claim_room()
    }

    fn remove_file(&self, path: &std::path::Path) -> Result<(), LogError> {
        match self.shared.disk.remove(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(LogError::refused("remove", path, error))
            }
            _ => Ok(()),
        }
    }
}

/// For what the next start makes good.
fn warn_only(result: Result<(), LogError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a file that is not needed could not be removed");
    }
}

/// Removes a topic's folder with everything in it. It may be gone already.
pub(crate) fn remove_folder(shared: &Shared, folder: &std::path::Path) -> Result<(), LogError> {
    let failed = |error| LogError::refused("remove", folder, error);
    let names = match shared.disk.list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    for name in names {
        shared.disk.remove(&folder.join(name)).map_err(failed)?;
    }
    shared.disk.remove_dir(folder).map_err(failed)
}

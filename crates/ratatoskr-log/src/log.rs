//! The log as its owner sees it: stage what shall happen, commit it, and it has happened.
//!
//! ```text
//!   stage_append(A) stage_append(B) stage_append(A) …     nothing promised yet, nobody sees it
//!        └───────────────┴───────┬───────┘
//!                             write()        one block for all; `written` promises are visible
//!                             sync()         one fdatasync for all; everything else is visible
//! ```
//!
//! A [`Log`] has one owner, the journal writer: one thread, no locks to wait for but a topic's own.
//! Its other half, the [`Flusher`], works behind it. Invariants: a block holds all that was staged or nothing; nothing is
//! visible before its promise holds; after a failed write or sync every call answers [`LogError::Poisoned`].
//! Deliberately not here: names, settings, limits, who waits for what. That is the broker's.

mod pressure;
mod room;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ratatoskr_state::{BatchBuilder, Entry, Position, RecordBatch, RecordChunk};

pub use self::pressure::Pressure;
use self::room::Shortage;
use crate::error::LogError;
use crate::flusher::Flusher;
use crate::journal::{Journal, Reserve};
use crate::options::LogCounts;
use crate::shared::{Shared, Task};
use crate::topic::{Promise, TopicLog, TopicStart};

/// A topic with so many unflushed bytes is handed to the flusher.
const FLUSH_BYTES: usize = 256 << 10;
/// When memory is full, the topics of so many of the oldest chunks are handed over at once.
const FLUSH_AHEAD: usize = 1024;

/// The date of a block that says nothing of it.
const NO_DATE: u64 = 0;

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Offset of the first record.
    pub first: u64,
    /// The timestamp all records of the batch got.
    pub timestamp_ms: u64,
}

/// The writing half of a log.
pub struct Log {
    shared: Arc<Shared>,
    journal: Journal,
    block: BatchBuilder,
    /// Topics with staged records, in the order they came.
    touched: Vec<Arc<TopicLog>>,
    /// Chunks that are in `block`.
    in_block: Vec<(Arc<TopicLog>, RecordChunk)>,
    /// Changes that are in `block`.
    changes: Vec<Change>,
    /// How far the least of them may go into the journal's reserve.
    reserve: Reserve,
    /// True when one of them is a deletion.
    deletes_staged: bool,
    staged_bytes: usize,
    next_topic: u32,
    /// Chunks in memory, oldest first, over all topics.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    counts: LogCounts,
    /// See [`Log::set_date`].
    date: u64,
    /// Set while the next journal file is needed and cannot be had.
    shortage: Option<Shortage>,
    spare_asked_for: u64,
}

enum Change {
    Create(Arc<TopicLog>),
    Update(Arc<TopicLog>, Bytes),
    Delete(Arc<TopicLog>),
    Trim(Arc<TopicLog>, u64),
    /// Of the state alone.
    State,
}

struct Recent {
    /// By number: a deleted topic is not kept for its place in this queue.
    topic: u32,
    end: u64,
    cost: usize,
}

impl Log {
    pub(crate) fn new(shared: Arc<Shared>, journal: Journal, next_topic: u32) -> Log {
        Log {
            shared,
            journal,
            block: crate::block::batch_builder(),
            touched: Vec::new(),
            in_block: Vec::new(),
            changes: Vec::new(),
            reserve: Reserve::Free,
            deletes_staged: false,
            staged_bytes: 0,
            next_topic,
            recent: VecDeque::new(),
            recent_bytes: 0,
            counts: LogCounts::default(),
            date: NO_DATE,
            shortage: None,
            spare_asked_for: 0,
        }
    }

    /// Takes over what a start left in memory, for want of room in segments: it is flushed, and let go of, like anything newer.
    pub(crate) fn adopt_tails(&mut self, topics: &[Arc<TopicLog>]) {
        for topic in topics.iter().filter(|topic| !topic.is_in_memory() && topic.tail_bytes() > 0) {
            let (topic_number, cost) = (topic.number, topic.tail_bytes());
            self.recent_bytes += cost;
            self.recent.push_back(Recent { topic: topic_number, end: topic.next(), cost });
            if topic.unflushed_bytes() > 0 {
                self.queue_flush(topic);
            }
        }
    }

    /// Begins this start's epoch: writes and syncs an empty block that says so, behind the genesis entry if it is the first of all. Answers
    /// a number that no other start had: the epoch, or random bits from 2³¹ on, of which 31 reach a token, where a full disk leaves no
    /// room for one page: the epoch then begins with the next block. Starts must not use up what is kept for settlements and deletions.
    pub(crate) fn begin_epoch(&mut self) -> Result<u64, LogError> {
        let mut batch = crate::block::batch_builder();
        if self.journal.last() == Position::default() {
            batch.push(&Entry::Genesis(self.shared.genesis));
        }
        let has_room = self.journal.has_room(batch.len(), Reserve::Change);
        match has_room.then(|| self.journal.write(&mut batch, NO_DATE)) {
            Some(Ok(())) => self.journal.sync()?,
            Some(Err(error)) if !error.is_full() => return Err(error),
            _ => {
                self.shared.machine.begin_epoch(self.journal.epoch());
                return Ok(1 << 31 | self.shared.options.entropy[1] & 0x7fff_ffff);
            }
        }
        self.apply_empty();
        Ok(self.journal.epoch())
    }

    /// Random bits of this data directory, drawn once.
    pub fn id_mask(&self) -> u128 {
        self.shared.genesis.id_mask
    }

    /// Sets what the batches written from now on say of the date: see [`ratatoskr_state::BatchDate`]. Until it is set they say nothing.
    pub fn set_date(&mut self, date: u64) {
        self.date = date;
    }

    /// Counts and sizes of this moment.
    pub fn counts(&self) -> LogCounts {
        let files = self.journal.number() + 1 - self.shared.journal_start.load(Ordering::Acquire);
        LogCounts {
            checkpoints: self.shared.checkpoints.load(Ordering::Relaxed),
            tail_bytes: self.recent_bytes as u64 + self.counts.memory_topic_bytes,
            unflushed_bytes: self.shared.unflushed_bytes.load(Ordering::Relaxed) as u64,
            journal_bytes: files * self.shared.options.journal_file_bytes,
            ..self.counts
        }
    }

    /// Bytes staged and not yet written.
    pub fn staged_bytes(&self) -> usize {
        self.staged_bytes + self.block.len()
    }

    /// Stages a new topic. It exists once this is committed.
    pub fn stage_create(&mut self, name: &str, settings: Bytes, promise: Promise) -> Arc<TopicLog> {
        let number = self.next_topic;
        self.next_topic = number.checked_add(1).expect("four thousand million topics were never created");
        let created_ms = self.shared.clock.now_ms();
        self.block.push(&Entry::Create { topic: number, created_ms, name, settings: &settings });
        let topic = Arc::new(TopicLog::new(
            self.shared.disk.clone(),
            TopicStart {
                number,
                name: name.to_owned(),
                created_ms,
                settings,
                promise,
                folder: self.shared.layout.topic(number, name),
                directory: self.shared.directory,
                segment_bytes: self.shared.options.segment_bytes,
            },
        ));
        self.note_change(Change::Create(topic.clone()), Reserve::Keep);
        topic
    }

    /// Stages other settings for a topic.
    pub fn stage_update(&mut self, topic: &Arc<TopicLog>, settings: Bytes) {
        self.assert_not_deleted(topic);
        self.block.push(&Entry::Update { topic: topic.number, settings: &settings });
        self.note_change(Change::Update(topic.clone(), settings), Reserve::Change);
    }

    /// Stages a topic's deletion, after whatever was staged for it before.
    pub fn stage_delete(&mut self, topic: &Arc<TopicLog>) {
        self.assert_not_deleted(topic);
        self.move_into_block(topic);
        self.block.push(&Entry::Delete { topic: topic.number });
        self.note_change(Change::Delete(topic.clone()), Reserve::Free);
        self.deletes_staged = true;
    }

    /// Stages the removal of everything before an offset; `reserve` says how far it may go while the disk is full.
    pub fn stage_trim(&mut self, topic: &Arc<TopicLog>, first: u64, reserve: Reserve) {
        self.assert_not_deleted(topic);
        self.move_into_block(topic);
        self.block.push(&Entry::Trim { topic: topic.number, first });
        self.note_change(Change::Trim(topic.clone(), first), reserve);
    }

    /// Stages a change of state about a topic or (0) none; `reserve` says how far it may go while the disk is full.
    pub fn stage_change(&mut self, topic: u32, content: &[u8], reserve: Reserve) {
        self.block.push(&Entry::Change { topic, content });
        self.note_change(Change::State, reserve);
    }

    fn note_change(&mut self, change: Change, reserve: Reserve) {
        self.reserve = if self.changes.is_empty() { reserve } else { self.reserve.min(reserve) };
        self.changes.push(change);
    }

    /// An entry for a topic behind its deletion could not be replayed.
    fn assert_not_deleted(&self, topic: &TopicLog) {
        let deletes =
            |change: &Change| matches!(change, Change::Delete(deleted) if deleted.number == topic.number);
        let staged = self.deletes_staged && self.changes.iter().any(deletes);
        assert!(!staged && !topic.is_deleted(), "topic number {} is being deleted", topic.number);
    }

    /// Stages records. They have their offsets, but nobody sees them yet.
    pub fn stage_append(&mut self, topic: &Arc<TopicLog>, batch: &mut RecordBatch) -> Placed {
        self.staged_bytes += batch.len();
        let was_empty = topic.staged.lock().count == 0;
        let (first, timestamp_ms) = topic.stage(batch, self.shared.clock.now_ms());
        if was_empty {
            self.touched.push(topic.clone());
        }
        Placed { first, timestamp_ms }
    }

    /// Takes back what was staged for a topic and is not in a block: for when its owner failed half-way.
    pub fn unstage(&mut self, topic: &Arc<TopicLog>) {
        self.touched.retain(|touched| touched.number != topic.number);
        topic.unstage();
    }

    /// Writes all that was staged as one block; makes visible what is promised to be written.
    /// What it leaves for [`Log::sync`] must be synced before the next write.
    /// Any error takes everything back: nothing was promised, and offsets are given out again.
    pub fn write(&mut self) -> Result<(), LogError> {
        let result = self.write_block();
        if result.is_err() {
            self.take_back();
            return result;
        }
        let in_block = std::mem::take(&mut self.in_block);
        for (topic, chunk) in in_block {
            match topic.promise {
                Promise::Synced => self.in_block.push((topic, chunk)),
                Promise::Written | Promise::Memory { .. } => self.publish(&topic, chunk),
            }
        }
        if !self.needs_sync() {
            self.apply_batch();
        }
        self.evict();
        Ok(())
    }

    /// True when something written is promised to be synced.
    pub fn needs_sync(&self) -> bool {
        !self.in_block.is_empty() || !self.changes.is_empty()
    }

    /// Makes everything written durable, and the rest of it visible.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if cfg!(feature = "broken-no-sync") {
            // Acknowledges without syncing. The crash tests must notice.
        } else if let Err(error) = self.journal.sync() {
            self.take_back();
            return Err(error);
        }
        self.counts.syncs += 1;
        for (topic, chunk) in std::mem::take(&mut self.in_block) {
            self.publish(&topic, chunk);
        }
        self.deletes_staged = false;
        for change in std::mem::take(&mut self.changes) {
            self.follow(change);
        }
        self.apply_batch();
        self.evict();
        Ok(())
    }

    /// [`Log::write`], and [`Log::sync`] if anything asks for it.
    pub fn commit(&mut self) -> Result<(), LogError> {
        self.write()?;
        if self.needs_sync() { self.sync() } else { Ok(()) }
    }

    /// Writes an empty batch that tells the date. It need not be synced: what follows from it is found out again.
    pub fn tell_date(&mut self) -> Result<(), LogError> {
        let mut batch = crate::block::batch_builder();
        if self.date != NO_DATE && self.journal.has_room(batch.len(), Reserve::Keep) {
            self.journal.write(&mut batch, self.date)?;
            self.apply_empty();
        }
        Ok(())
    }

    /// Called when there is nothing to do: syncs, and marks in the journal that everything was synced (ADR 0006).
    pub fn seal(&mut self) -> Result<(), LogError> {
        if self.journal.seal(self.date)? {
            self.apply_empty();
        }
        Ok(())
    }

    /// Ends the log: syncs, and leaves a checkpoint so that the next start has nothing to replay. On a full disk there is none.
    pub fn close(mut self, flusher: &mut Flusher) -> Result<(), LogError> {
        self.commit()?;
        self.tell_date()?;
        self.journal.sync()?;
        flusher.run_pending()?;
        let header = self.checkpoint_header(self.journal.number() + 1);
        match flusher.checkpoint(&self.shared.boundary(header)) {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "no last checkpoint was made; all that was acknowledged is in the journal, which the next start reads");
                Ok(())
            }
            other => other,
        }
    }

    /// Tells the flusher's [`Flusher::wait`] that the log is closing.
    pub fn stop_flusher(&self) {
        self.shared.close();
    }

    fn write_block(&mut self) -> Result<(), LogError> {
        if let Some(reason) = self.shared.failure() {
            return Err(self.journal.poisoned(&LogError::Poisoned { reason }));
        }
        for topic in std::mem::take(&mut self.touched) {
            self.put_into_block(&topic);
        }
        self.journal.check()?;
        self.staged_bytes = 0;
        if !self.block.has_entries() {
            return Ok(());
        }
        self.make_room()?;
        let block_bytes = self.block.len() as u64;
        self.journal.write(&mut self.block, self.date)?;
        self.counts.blocks += 1;
        self.counts.block_bytes += block_bytes;
        Ok(())
    }

    fn move_into_block(&mut self, topic: &Arc<TopicLog>) {
        if let Some(at) = self.touched.iter().position(|touched| touched.number == topic.number) {
            self.touched.swap_remove(at);
            self.put_into_block(topic);
        }
    }

    fn put_into_block(&mut self, topic: &Arc<TopicLog>) {
        let Some(chunk) = topic.take_staged() else { return };
        if !topic.is_in_memory() {
            self.block.push(&Entry::Append {
                topic: topic.number,
                count: chunk.count,
                has_dedup_ids: chunk.has_dedup_ids,
                newest_ms: chunk.last_timestamp_ms,
                records: &chunk.bytes,
            });
        }
        self.in_block.push((topic.clone(), chunk));
    }

    /// Forgets everything staged; offsets are given out again. What was promised is untouched.
    pub fn take_back(&mut self) {
        for topic in self.touched.drain(..).chain(self.in_block.drain(..).map(|(topic, _)| topic)) {
            topic.unstage();
        }
        self.changes.clear();
        self.deletes_staged = false;
        self.block.clear();
        self.staged_bytes = 0;
    }

    fn publish(&mut self, topic: &Arc<TopicLog>, chunk: RecordChunk) {
        let (end, bytes) = (chunk.end(), chunk.bytes.len());
        let published = topic.publish(chunk);
        if topic.is_in_memory() {
            self.counts.memory_topic_bytes += published.cost as u64;
            self.counts.memory_topic_bytes -= published.dropped as u64;
            let excess = self.counts.memory_topic_bytes.saturating_sub(self.shared.options.memory_bytes_max);
            self.counts.memory_topic_bytes -= topic.drop_excess(excess) as u64;
            return;
        }
        self.shared.add_unflushed(bytes);
        self.recent_bytes += published.cost;
        self.recent.push_back(Recent { topic: topic.number, end, cost: published.cost });
        if published.unflushed_bytes >= FLUSH_BYTES {
            self.queue_flush(topic);
        }
    }

    fn queue_flush(&self, topic: &Arc<TopicLog>) {
        if !topic.flush_queued.swap(true, Ordering::Relaxed) {
            self.shared.enqueue(Task::Flush(topic.clone()));
        }
    }

    /// Drops the oldest records from memory while there are too many, as far as they are in segments; has those
    /// flushed that come next.
    fn evict(&mut self) {
        let topics = self.shared.topics.read();
        while self.recent_bytes > self.shared.options.tail_bytes_max {
            let Some(oldest) = self.recent.front() else { return };
            if let Some(topic) = topics.get(&oldest.topic) {
                if !topic.is_flushed(oldest.end) {
                    let next = self.recent.iter().take(FLUSH_AHEAD);
                    next.filter_map(|recent| topics.get(&recent.topic))
                        .for_each(|topic| self.queue_flush(topic));
                    return;
                }
                topic.evict(oldest.end);
            }
            self.recent_bytes -= oldest.cost;
            self.recent.pop_front();
        }
    }

    /// What was written and, where that was asked for, synced, is taken into the state.
    fn apply_batch(&mut self) {
        if self.block.has_entries() {
            let header = self.journal.last_header();
            let mut entries = self.block.entries().map(|entry| entry.expect("it was just written"));
            let applied = self.shared.machine.apply(&header, &mut entries);
            applied.expect("what was staged here can be applied");
        }
        self.block.clear();
    }

    /// The same for a batch without entries.
    fn apply_empty(&self) {
        let applied = self.shared.machine.apply(&self.journal.last_header(), &mut std::iter::empty());
        applied.expect("an empty batch can be applied");
    }

    fn follow(&mut self, change: Change) {
        match change {
            Change::Create(topic) => {
                self.shared.topics.write().insert(topic.number, topic);
            }
            Change::Update(topic, settings) => topic.set_settings(settings),
            Change::Delete(topic) => {
                topic.mark_deleted();
                self.shared.topics.write().remove(&topic.number);
                if topic.is_in_memory() {
                    self.counts.memory_topic_bytes -= topic.drop_all() as u64;
                }
                self.shared.enqueue(Task::Remove(topic));
            }
            Change::State => {}
            Change::Trim(topic, first) => {
                self.counts.memory_topic_bytes -= topic.trim(first) as u64;
                self.shared.enqueue(Task::Trim(topic));
            }
        }
    }
}

//! What the journal writer and the flusher share: the topics, the work list, and the accounts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

use ratatoskr_state::Genesis;

use crate::checkpoint::CheckpointHeader;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::layout::Layout;
use crate::machine::{Snapshot, StateMachine};
use crate::options::LogOptions;
use crate::spares::Spares;
use crate::topic::TopicLog;

/// Shared between [`crate::Log`] and [`crate::Flusher`].
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) layout: Layout,
    pub(crate) options: LogOptions,
    pub(crate) machine: Arc<dyn StateMachine>,
    pub(crate) directory: u64,
    pub(crate) genesis: Genesis,
    pub(crate) spares: Arc<Spares>,
    /// Topics by number: those that exist.
    pub(crate) topics: RwLock<BTreeMap<u32, Arc<TopicLog>>>,
    /// Bytes of journaled topics that are in no segment yet.
    pub(crate) unflushed_bytes: AtomicUsize,
    /// The first journal file the newest checkpoint needs.
    pub(crate) journal_start: AtomicU64,
    /// Why segments cannot be written now. Set by the flusher.
    obstacle: Mutex<Option<Obstacle>>,
    /// Set by the journal writer when it lacks a descriptor: the flusher closes what it can.
    pub(crate) wants_descriptors: AtomicBool,
    /// True while a checkpoint is queued or being made.
    pub(crate) checkpoint_queued: AtomicBool,
    pub(crate) checkpoints: AtomicU64,
    tasks: Mutex<Tasks>,
    /// Wakes the flusher.
    work: Condvar,
    /// Wakes a journal writer that waits for the flusher.
    progress: Condvar,
}

#[derive(Default)]
struct Tasks {
    queue: VecDeque<Task>,
    /// Why the flusher gave up; the journal writer poisons itself.
    failure: Option<String>,
    closed: bool,
}

/// What keeps the flusher from its work until it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// The disk is full.
    pub(crate) is_full: bool,
    /// What happened, and what to do.
    pub(crate) reason: String,
}

/// Work for the flusher, done in order.
pub(crate) enum Task {
    /// Write a topic's tail into segments.
    Flush(Arc<TopicLog>),
    /// Make a checkpoint at a boundary.
    Checkpoint(Boundary),
    /// Write the indexes of a topic anew that were lost or damaged. Once after each start.
    MendIndexes(Arc<TopicLog>),
    /// Remove segments below a topic's first offset.
    Trim(Arc<TopicLog>),
    /// Remove a deleted topic's folder.
    Remove(Arc<TopicLog>),
    /// Have a spare journal file ready.
    Spare,
}

/// The state at the start of a journal file.
pub(crate) struct Boundary {
    pub(crate) header: CheckpointHeader,
    pub(crate) topics: Vec<BoundaryTopic>,
    /// The machine's state.
    pub(crate) state: Box<dyn Snapshot>,
}

pub(crate) struct BoundaryTopic {
    pub(crate) topic: Arc<TopicLog>,
    pub(crate) settings: bytes::Bytes,
    /// Everything before this offset must be in segments.
    pub(crate) next: u64,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: LogOptions,
        machine: Arc<dyn StateMachine>,
        identity: (u64, Genesis),
    ) -> Shared {
        let layout = Layout::new(options.folder.clone());
        let spares = Arc::new(Spares::new(disk.clone(), layout.clone(), options.journal_file_bytes));
        Shared {
            disk,
            clock,
            layout,
            options,
            machine,
            directory: identity.0,
            genesis: identity.1,
            spares,
            topics: RwLock::new(BTreeMap::new()),
            unflushed_bytes: AtomicUsize::new(0),
            journal_start: AtomicU64::new(1),
            obstacle: Mutex::new(None),
            wants_descriptors: AtomicBool::new(false),
            checkpoint_queued: AtomicBool::new(false),
            checkpoints: AtomicU64::new(0),
            tasks: Mutex::new(Tasks::default()),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    pub(crate) fn enqueue(&self, task: Task) {
        self.tasks.lock().queue.push_back(task);
        self.work.notify_one();
    }

    /// Puts back a task that could not be done now, behind those that may make it possible.
    pub(crate) fn put_back(&self, task: Task) {
        self.tasks.lock().queue.push_back(task);
    }

    pub(crate) fn take_task(&self) -> Option<Task> {
        self.tasks.lock().queue.pop_front()
    }

    pub(crate) fn queued_tasks(&self) -> usize {
        self.tasks.lock().queue.len()
    }

    /// Waits until there is work, the log closes, or the time is up. False once it is closed.
    pub(crate) fn wait_for_work(&self, timeout: Duration) -> bool {
        let mut tasks = self.tasks.lock();
        // Tasks that were put back are no reason to try again at once.
        let idle = tasks.queue.is_empty() || self.obstacle.lock().is_some();
        if idle && !tasks.closed {
            self.work.wait_for(&mut tasks, timeout);
        }
        !tasks.closed
    }

    /// Waits until the flusher has made some progress, or a little while.
    pub(crate) fn wait_for_progress(&self) {
        let mut tasks = self.tasks.lock();
        self.progress.wait_for(&mut tasks, Duration::from_millis(20));
    }

    pub(crate) fn note_progress(&self) {
        self.progress.notify_all();
    }

    /// Notes what keeps the flusher from its work now, if anything.
    pub(crate) fn note_obstacle(&self, obstacle: Option<Obstacle>) {
        let mut now = self.obstacle.lock();
        let is_news = obstacle.is_some() && now.is_none();
        *now = obstacle;
        if let Some(Obstacle { reason, .. }) = now.as_ref().filter(|_| is_news) {
            tracing::warn!(%reason, "segments cannot be written now; this is tried again");
        }
    }

    /// What keeps the flusher from its work now.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle.lock().clone()
    }

    pub(crate) fn close(&self) {
        self.tasks.lock().closed = true;
        self.work.notify_all();
    }

    pub(crate) fn fail(&self, reason: String) {
        self.tasks.lock().failure.get_or_insert(reason);
        self.note_progress();
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.tasks.lock().failure.clone()
    }

    /// The state as it is now, for a checkpoint whose journal starts at `header.journal_start`. On the journal writer's thread only:
    /// nothing else may be committed meanwhile.
    pub(crate) fn boundary(&self, header: CheckpointHeader) -> Boundary {
        let topics = self.topics.read();
        let topics = topics
            .values()
            .map(|topic| BoundaryTopic {
                topic: topic.clone(),
                settings: topic.settings(),
                next: topic.next(),
            })
            .collect();
        Boundary { header, topics, state: self.machine.snapshot() }
    }

    /// Moves the account of unflushed bytes up.
    pub(crate) fn add_unflushed(&self, bytes: usize) {
        self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Moves the account of unflushed bytes down.
    pub(crate) fn remove_unflushed(&self, bytes: usize) {
        let less = |now: usize| Some(now.saturating_sub(bytes));
        let _ = self.unflushed_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

//! Opening a data directory: newest checkpoint, then the journal's tail, then a new checkpoint.
//!
//! ```text
//!   lock ─▶ checkpoint ─▶ journal from the boundary on ─▶ check segments ─▶ flush, new checkpoint ─▶ new journal file
//!             │                │
//!             └──── both are entries, applied by the same function
//! ```
//!
//! Until the new checkpoint is durable nothing that the old one needs is touched, so a crash at any
//! step leads back to where it started. What cannot be right is an error that names file and position; nothing is
//! guessed, shortened or renumbered. The argument step by step: `docs/log-format.md`.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ratatoskr_state::{Entry, Genesis, RecordChunk};

use crate::block::Block;
use crate::checkpoint::{self, CheckpointEntry, CheckpointHead, CheckpointHeader, CheckpointWriter};
use crate::clock::Clock;
use crate::disk::{Disk, DiskLock, OpenMode};
use crate::error::LogError;
use crate::flush::{Flush, Flushed, SegmentWriter};
use crate::flusher::Flusher;
use crate::journal::{Journal, JournalStart};
use crate::layout::Layout;
use crate::log::Log;
use crate::machine::{NoState, StateMachine};
use crate::options::LogOptions;
use crate::replay::{Refused, Replayed};
use crate::shared::{Shared, Task};
use crate::spares::FillMode;
use crate::topic::{TopicLog, TopicStart};
use crate::unsynced::UnsyncedSegments;

/// Replayed records are moved into segments when so many bytes of them are in memory.
const REPLAYED_BYTES_MAX: usize = 1 << 20;
/// Of the file handles a log may hold, a third are of segments that wait to be synced. With more of those, some are synced early.
const FILES_PER_UNSYNCED_SEGMENT: usize = 3;

/// An open log.
pub struct Opened {
    /// Its writing half.
    pub log: Log,
    /// Its background half.
    pub flusher: Flusher,
    /// The topics there are, by number.
    pub topics: Vec<Arc<TopicLog>>,
    /// What was found.
    pub report: RecoveryReport,
    /// Names this start, and no other start of this data directory: the epoch it began, or random bits from 2³¹ on if the disk was too full
    /// to begin one.
    pub start: u64,
    /// Keeps other brokers out; hold it as long as the log is used.
    pub lock: Box<dyn DiskLock>,
}

/// What opening a data directory found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// True when there was nothing: a new data directory.
    pub fresh: bool,
    /// Topics.
    pub topics: usize,
    /// Messages that can be read.
    pub messages: u64,
    /// Records replayed from the journal.
    pub replayed_records: u64,
    /// Bytes of journal read.
    pub journal_bytes: u64,
    /// Bytes of a torn, never acknowledged write that were cut.
    pub torn_bytes: u64,
    /// Segments that are missing, too short or not the topic's own, whose records answer data loss; and headers that are damaged.
    pub damage: Vec<String>,
    /// Why no checkpoint was made and the journal goes on in its last file: the disk is full.
    pub full: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Opens a data directory that carries topics only, or makes a new one.
pub fn open(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, options: LogOptions) -> Result<Opened, LogError> {
    open_with(disk, clock, options, Arc::new(NoState))
}

/// Opens a data directory, or makes a new one, and brings its state up to date.
pub fn open_with(
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: LogOptions,
    machine: Arc<dyn StateMachine>,
) -> Result<Opened, LogError> {
    let started = Instant::now();
    let layout = Layout::new(options.folder.clone());
    let lock = take_lock(&disk, &layout)?;
    if !exists(&disk, &layout.checkpoint())? {
        make_new(&disk, &layout, &options)?;
    }
    let mut replay = Replay::new(disk.clone(), layout.clone(), options.clone(), machine.clone());
    let read = checkpoint::read(&disk, &layout.checkpoint(), &mut |directory, entry| {
        replay.restore(directory, &entry)
    })?;
    let Some(CheckpointHead { directory, header }) = read else {
        let hint = "the checkpoint vanished while it was opened".to_owned();
        return Err(LogError::Foreign { path: layout.checkpoint(), hint });
    };
    // The run before may have died between renaming the checkpoint and syncing the folder.
    disk.sync_dir(&layout.root).map_err(|error| LogError::sync(&layout.root, error))?;
    replay.next_topic = header.next_topic;
    let start = JournalStart {
        directory,
        number: header.journal_start,
        last: header.position,
        file_bytes: options.journal_file_bytes,
        reserve_bytes: options.journal_reserve_bytes,
    };
    replay.begin_journal(directory);
    let replayed = crate::replay::replay(&disk, &layout, start, &mut |block| replay.apply_block(block))?;
    let mut report = replay.report(&replayed);
    let (topics, next_topic, unsynced) = (replay.topics, replay.next_topic, replay.unsynced);
    report.damage = files::check_segments(&disk, &topics);

    let shared = Arc::new(Shared::new(disk, clock, options, machine, (directory, header.genesis)));
    let unflushed = topics.values().map(|topic| topic.unflushed_bytes()).sum();
    shared.unflushed_bytes.store(unflushed, Ordering::Relaxed);
    *shared.topics.write() = topics;
    let mut flusher = Flusher::new(shared.clone(), unsynced);
    let header = CheckpointHeader {
        position: replayed.last,
        journal_start: replayed.last_file + 1,
        next_topic,
        genesis: header.genesis,
    };
    shared.spares.adopt()?;
    // Of no use to the checkpoint in force: their room is what a start on a full disk lives on.
    flusher.retire_before(start.number)?;
    let nothing_new = report.fresh && replayed.blocks == 0;
    report.full = match settle(&shared, &mut flusher, header, nothing_new) {
        Err(error) if error.is_full() => Some(error.to_string()),
        other => other.map(|()| None)?,
    };
    let is_resumed = report.full.is_some() && replayed.last_file >= start.number;
    let journal_start = if report.full.is_some() { start.number } else { header.journal_start };
    shared.journal_start.store(journal_start, Ordering::Release);
    let begin = JournalStart { number: header.journal_start, last: header.position, ..start };
    let journal = if is_resumed {
        let begin =
            JournalStart { number: replayed.last_file, file_bytes: replayed.last_file_bytes, ..begin };
        Journal::resume(shared.disk.clone(), layout, shared.spares.clone(), (begin, replayed.end))?
    } else {
        Journal::start(shared.disk.clone(), layout, shared.spares.clone(), begin)?
    };
    let topics = ready_topics(&shared);
    report.took = started.elapsed();
    let mut log = Log::new(shared, journal, next_topic);
    let start = log.begin_epoch()?;
    log.adopt_tails(&topics);
    if is_resumed {
        log.note_full();
    }
    Ok(Opened { log, flusher, topics, report, start, lock })
}

/// The topics, ready for appends, their indexes about to be looked at.
fn ready_topics(shared: &Shared) -> Vec<Arc<TopicLog>> {
    let topics: Vec<_> = shared.topics.read().values().cloned().collect();
    for topic in &topics {
        topic.unstage();
        if topic.extent().segments > 0 {
            shared.enqueue(Task::MendIndexes(topic.clone()));
        }
    }
    topics
}

fn take_lock(disk: &Arc<dyn Disk>, layout: &Layout) -> Result<Box<dyn DiskLock>, LogError> {
    let root = &layout.root;
    disk.create_dir(root).map_err(|error| LogError::refused("create", root, error))?;
    let path = layout.lock();
    disk.lock(&path).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => LogError::Locked { path },
        _ => LogError::refused("lock", &path, error),
    })
}

fn exists(disk: &Arc<dyn Disk>, path: &std::path::Path) -> Result<bool, LogError> {
    match disk.open(path, OpenMode::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LogError::refused("open", path, error)),
    }
}

/// Makes folders and a first checkpoint in a folder that holds nothing else.
fn make_new(disk: &Arc<dyn Disk>, layout: &Layout, options: &LogOptions) -> Result<(), LogError> {
    let root = &layout.root;
    let listed = |folder: &std::path::Path| match disk.list(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| LogError::refused("list", folder, error)),
    };
    let ours = |name: &String| matches!(name.as_str(), "lock" | "checkpoint.new" | "journal" | "topics");
    if let Some(foreign) = listed(root)?.iter().find(|name| !ours(name)) {
        let hint =
            "there is no checkpoint here, so this is no data directory; choose an empty folder".to_owned();
        return Err(LogError::Foreign { path: root.join(foreign), hint });
    }
    for folder in [layout.journal(), layout.topics()] {
        if let Some(left) = listed(&folder)?.iter().find(|name| !name.starts_with("spare")) {
            let hint = "the checkpoint that belongs to it is missing; restore the data directory from a copy";
            return Err(LogError::Foreign { path: folder.join(left), hint: hint.to_owned() });
        }
        disk.create_dir(&folder).map_err(|error| LogError::refused("create", &folder, error))?;
    }
    disk.sync_dir(root).map_err(|error| LogError::sync(root, error))?;
    sync_ancestors(disk, root)?;
    let [directory, seed] = options.entropy;
    let id_mask = fastrand::Rng::with_seed(seed).u128(..);
    // Not from the seed of the mask, which clients can see.
    let token_key = fastrand::Rng::with_seed(directory).u128(..);
    let genesis = Genesis { id_mask, token_key };
    let header = CheckpointHeader { journal_start: 1, next_topic: 1, genesis, ..CheckpointHeader::default() };
    CheckpointWriter::create(disk, layout, directory, header)?.finish()
}

/// Makes the data directory's own name durable, and those of the folders that were created on the way to it. It ends at
/// a folder that cannot be read or synced: that one was there before.
fn sync_ancestors(disk: &Arc<dyn Disk>, root: &Path) -> Result<(), LogError> {
    for ancestor in root.ancestors().skip(1) {
        let folder = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match disk.sync_dir(folder) {
            Err(error) if was_there_before(error.kind()) => return Ok(()),
            other => other.map_err(|error| LogError::sync(folder, error))?,
        }
    }
    Ok(())
}

fn was_there_before(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(kind, PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported)
}

/// The state while it is being rebuilt.
pub(crate) struct Replay {
    disk: Arc<dyn Disk>,
    layout: Layout,
    options: LogOptions,
    topics: BTreeMap<u32, Arc<TopicLog>>,
    next_topic: u32,
    directory: u64,
    replayed_records: u64,
    /// Topics with records replayed and not yet moved into segments, and the bytes of them.
    unflushed: BTreeSet<u32>,
    unflushed_bytes: usize,
    /// True once the disk was found full, or nothing is to be written at all.
    has_no_room: bool,
    /// What was moved into segments; the checkpoint at the end has to sync it.
    unsynced: UnsyncedSegments,
    gathered: Vec<u8>,
    machine: Arc<dyn StateMachine>,
}

impl Replay {
    fn new(
        disk: Arc<dyn Disk>,
        layout: Layout,
        options: LogOptions,
        machine: Arc<dyn StateMachine>,
    ) -> Replay {
        let unsynced = UnsyncedSegments::new(options.open_files_max / FILES_PER_UNSYNCED_SEGMENT);
        Replay {
            disk,
            layout,
            options,
            topics: BTreeMap::new(),
            next_topic: 1,
            directory: 0,
            replayed_records: 0,
            unflushed: BTreeSet::new(),
            unflushed_bytes: 0,
            has_no_room: false,
            unsynced,
            gathered: Vec::new(),
            machine,
        }
    }

    /// One that writes nothing: what it replays stays in memory.
    pub(crate) fn for_reading(
        disk: Arc<dyn Disk>,
        layout: Layout,
        options: LogOptions,
        machine: Arc<dyn StateMachine>,
    ) -> Replay {
        Replay { has_no_room: true, ..Replay::new(disk, layout, options, machine) }
    }

    /// Takes in an entry of the checkpoint.
    pub(crate) fn restore(&mut self, directory: u64, entry: &CheckpointEntry<'_>) -> Result<(), String> {
        self.directory = directory;
        match *entry {
            CheckpointEntry::Journal(Entry::Create { topic, created_ms, name, settings }) => {
                self.machine.restore_topic(topic, settings)?;
                self.create(topic, created_ms, name, settings)
            }
            CheckpointEntry::Extent { topic, extent } => {
                self.topic(topic)?.restore_extent(extent);
                Ok(())
            }
            CheckpointEntry::Segment { topic, segment } => {
                self.topic(topic)?.restore_segment(segment);
                Ok(())
            }
            CheckpointEntry::State(content) => self.machine.restore(content),
            CheckpointEntry::Header(_) | CheckpointEntry::End | CheckpointEntry::Journal(_) => {
                Err("a journal's entry stands in the checkpoint".to_owned())
            }
        }
    }

    /// The checkpoint is read; what follows is the journal.
    pub(crate) fn begin_journal(&mut self, directory: u64) {
        self.directory = directory;
    }

    /// The topics as they stand now.
    pub(crate) fn topics(&self) -> Vec<Arc<TopicLog>> {
        self.topics.values().cloned().collect()
    }

    pub(crate) fn apply_block(&mut self, block: &Block<'_>) -> Result<(), Refused> {
        let mut entries = Vec::with_capacity(block.batch.count.min(1024) as usize);
        for entry in block.batch.entries() {
            entries.push(entry.map_err(|error| {
                format!("the entry {} bytes into the batch was written by a newer version", error.position)
            })?);
        }
        // First the records are looked at, byte by byte: what takes them in believes them.
        for entry in &entries {
            self.follow(entry)?;
        }
        self.machine.apply(&block.batch.header, &mut entries.into_iter())?;
        let bytes_max = self.options.tail_bytes_max.min(REPLAYED_BYTES_MAX);
        if self.unflushed_bytes > bytes_max && !self.has_no_room { Ok(self.flush()?) } else { Ok(()) }
    }

    /// Moves what was replayed into segments, so that memory does not grow with the journal.
    fn flush(&mut self) -> Result<(), LogError> {
        for number in std::mem::take(&mut self.unflushed) {
            // Deleted since.
            let Some(topic) = self.topics.get(&number) else { continue };
            let mut flushed = Flushed::default();
            let gathered = &mut self.gathered;
            let flush = Flush { topic, directory: self.directory, end: u64::MAX, gathered };
            let result = SegmentWriter::default().flush(flush, &mut flushed);
            self.gathered.clear();
            topic.evict(u64::MAX);
            self.unsynced.note(topic, &flushed)?;
            match result {
                // What comes later in the journal may make room: until then it stays in memory.
                Err(error) if error.is_full() => self.has_no_room = true,
                other => other?,
            }
        }
        self.unflushed_bytes = 0;
        Ok(())
    }

    /// Lets topics and segments follow a change of state.
    fn follow(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        match *entry {
            Entry::Create { topic, created_ms, name, settings } => {
                self.create(topic, created_ms, name, settings)?;
            }
            Entry::Append { topic, records, .. } => self.append(entry, topic, records)?,
            Entry::Update { topic, settings } => {
                self.topic(topic)?.set_settings(Bytes::copy_from_slice(settings));
            }
            Entry::Delete { topic } => {
                self.topic(topic)?;
                self.topics.remove(&topic);
            }
            Entry::Trim { topic, first } => {
                self.topic(topic)?.trim(first);
            }
            // The checkpoint of a new data directory has the genesis, too.
            Entry::Change { .. } | Entry::Genesis(_) => {}
        }
        Ok(())
    }

    fn create(&mut self, number: u32, created_ms: u64, name: &str, settings: &[u8]) -> Result<(), String> {
        let promise = (self.options.promise_of)(settings)
            .map_err(|what| format!("the settings of topic {name} cannot be read: {what}"))?;
        let start = TopicStart {
            number,
            name: name.to_owned(),
            created_ms,
            settings: Bytes::copy_from_slice(settings),
            promise,
            folder: self.layout.topic(number, name),
            directory: self.directory,
            segment_bytes: self.options.segment_bytes,
        };
        self.topics.insert(number, Arc::new(TopicLog::new(self.disk.clone(), start)));
        self.next_topic = self.next_topic.max(number + 1);
        Ok(())
    }

    /// Appends records that no segment has yet.
    fn append(&mut self, entry: &Entry<'_>, topic: u32, records: &[u8]) -> Result<(), String> {
        let chunk = RecordChunk::check(Bytes::copy_from_slice(records))?;
        check_summary(entry, &chunk)?;
        let topic = self.topic(topic)?;
        if chunk.end() <= topic.next() {
            return Ok(());
        }
        if chunk.first != topic.next() {
            let next = topic.next();
            return Err(format!("topic {} goes on at offset {} instead of {next}", topic.name, chunk.first));
        }
        self.replayed_records += u64::from(chunk.count);
        self.unflushed_bytes += chunk.bytes.len();
        self.unflushed.insert(topic.number);
        topic.publish(chunk);
        Ok(())
    }

    fn topic(&self, number: u32) -> Result<Arc<TopicLog>, String> {
        self.topics.get(&number).cloned().ok_or_else(|| format!("topic number {number} does not exist"))
    }

    fn report(&self, replayed: &Replayed) -> RecoveryReport {
        let held = |topic: &Arc<TopicLog>| {
            let extent = topic.extent();
            extent.next - extent.first
        };
        RecoveryReport {
            fresh: self.next_topic == 1 && replayed.last_file == 0,
            topics: self.topics.len(),
            messages: self.topics.values().map(held).sum(),
            replayed_records: self.replayed_records,
            journal_bytes: replayed.bytes,
            torn_bytes: replayed.torn_bytes,
            ..RecoveryReport::default()
        }
    }
}

/// Whoever takes an append in believes what its entry says of the records.
fn check_summary(entry: &Entry<'_>, chunk: &RecordChunk) -> Result<(), String> {
    let &Entry::Append { count, has_dedup_ids, newest_ms, .. } = entry else { return Ok(()) };
    if count != chunk.count || newest_ms != chunk.last_timestamp_ms || chunk.has_dedup_ids && !has_dedup_ids {
        return Err(format!(
            "the append at offset {} says other things of its records than they do",
            chunk.first
        ));
    }
    Ok(())
}

/// Removes what nothing refers to, moves what was replayed into segments, and makes a checkpoint. [`LogError::Full`] leaves the
/// checkpoint and the journal that were there in force.
fn settle(
    shared: &Arc<Shared>,
    flusher: &mut Flusher,
    header: CheckpointHeader,
    nothing_new: bool,
) -> Result<(), LogError> {
    // First what the replayed journal has made superfluous: it may be what fills the disk.
    files::remove_unknown(shared)?;
    if !nothing_new {
        // Once there is a checkpoint, there must be a journal file to go on in: the last one will be, or another is there.
        let last = shared.layout.journal_file(header.journal_start - 1);
        if !shared.spares.has_full_length(&last) {
            shared.spares.prepare(FillMode::Now)?;
        }
        flusher.checkpoint(&shared.boundary(header))?;
    }
    for topic in shared.topics.read().values().filter(|topic| !topic.is_in_memory()) {
        topic.evict(u64::MAX);
    }
    Ok(())
}

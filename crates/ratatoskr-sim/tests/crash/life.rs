//! One life of a process: it opens the log, is judged on what it finds, plays steps, and ends.
//!
//! ```text
//!   Life::begin ── open ── read everything ── Promises::check ── settle
//!        │
//!      play(step)…        every block is announced to the promises before it is written, and
//!        │                promised when the log says so
//!      power cut · process death · Life::close
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ratatoskr_log::{
    LogError, LogOptions, Opened, Promise, ReadError, Record, RecordBatch, RecordChunk, Reserve,
    SegmentCursor, Tail, TopicLog, open,
};
use ratatoskr_sim::{Broken, Event, Loss, Promises, SimClock, SimDisk, State, TopicState};

use crate::script::Step;

/// Where the log lives on the simulated disk.
pub(crate) const FOLDER: &str = "/var/ratatoskr";
/// The least a journal file can have: the reserve of 1 MiB, a header, and nine pages for blocks.
pub(crate) const JOURNAL_FILE_BYTES: u64 = (1 << 20) + 10 * 4096;

/// Why a life ended before its steps did.
#[derive(Debug)]
pub(crate) enum End {
    /// The power was cut.
    Power,
    /// The log broke a promise, or failed where nothing was wrong with the disk.
    Broken(Broken),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> End {
        End::Broken(broken)
    }
}

/// A running log and what it has promised.
pub(crate) struct Life {
    disk: SimDisk,
    clock: SimClock,
    pub(crate) opened: Opened,
    pub(crate) promises: Promises,
    /// Topics by name, those staged included.
    topics: BTreeMap<&'static str, Arc<TopicLog>>,
    /// The same, as of the last commit.
    committed: BTreeMap<&'static str, Arc<TopicLog>>,
    staged: Vec<Event>,
    /// Makes every payload unlike all others.
    serial: u64,
    /// True once the disk had bounds: a refusal for want of room is right, and for a while after.
    pub(crate) was_tight: bool,
    /// True once a commit has failed: what is tried later never reaches the disk.
    has_failed: bool,
}

pub(crate) fn promise_of(settings: &[u8]) -> Promise {
    if settings.starts_with(b"written") { Promise::Written } else { Promise::Synced }
}

/// Opens the log, always with the same random identity.
pub(crate) fn open_log(disk: &SimDisk, clock: &SimClock) -> Result<Opened, LogError> {
    open_log_with(disk, clock, 8 << 10)
}

/// The same with another size of segments.
pub(crate) fn open_log_with(
    disk: &SimDisk,
    clock: &SimClock,
    segment_bytes: u64,
) -> Result<Opened, LogError> {
    fastrand::seed(1);
    let options = LogOptions {
        folder: FOLDER.into(),
        journal_file_bytes: JOURNAL_FILE_BYTES,
        journal_reserve_bytes: 1 << 20,
        segment_bytes,
        tail_bytes_max: 8 << 10,
        memory_bytes_max: 1 << 20,
        open_files_max: ratatoskr_log::OPEN_FILES_DEFAULT,
        entropy: [1, 2],
        promise_of: |settings| Ok(promise_of(settings)),
    };
    open(Arc::new(disk.clone()), Arc::new(clock.clone()), options)
}

impl Life {
    /// A topic there is.
    pub(crate) fn topic(&self, name: &str) -> Arc<TopicLog> {
        self.topics[name].clone()
    }

    /// Opens the log and judges what it finds. The promises come back when the power goes meanwhile.
    pub(crate) fn begin(
        disk: &SimDisk,
        clock: &SimClock,
        mut promises: Promises,
        loss: Loss,
    ) -> Result<Life, (Promises, End)> {
        let found =
            open_log(disk, clock).map_err(|error| failed(disk, "opening", &error)).and_then(|opened| {
                if let Some(damage) = opened.report.damage.first() {
                    return Err(Broken::because(damage).into());
                }
                let state = observe(disk, &opened.topics)?;
                promises.check(&state, loss)?;
                Ok((opened, state))
            });
        let (opened, state) = match found {
            Ok(found) => found,
            Err(end) => return Err((promises, end)),
        };
        promises.settle(state);
        let topics: BTreeMap<_, _> =
            opened.topics.iter().map(|topic| (name_of(topic), topic.clone())).collect();
        Ok(Life {
            disk: disk.clone(),
            clock: clock.clone(),
            opened,
            promises,
            committed: topics.clone(),
            topics,
            staged: Vec::new(),
            serial: disk.operations() << 32,
            was_tight: false,
            has_failed: false,
        })
    }

    /// Plays steps until one fails.
    pub(crate) fn play_all(&mut self, steps: &[Step]) -> Result<(), End> {
        steps.iter().try_for_each(|step| self.play(step))
    }

    /// Plays one step. Steps for a topic that is not there do nothing.
    pub(crate) fn play(&mut self, step: &Step) -> Result<(), End> {
        match *step {
            Step::Create { name, settings } => self.create(name, settings),
            Step::Append { name, count, bytes } => self.append(name, count, bytes),
            Step::Update { name, settings } => self.update(name, settings),
            Step::Trim { name, keep } => self.trim(name, keep),
            Step::Delete { name } => self.delete(name),
            Step::Commit => return self.commit_or_be_refused(),
            Step::Seal => {
                return self.opened.log.seal().map_err(|error| failed(&self.disk, "sealing", &error));
            }
            Step::Flusher => {
                let done = self.opened.flusher.run_pending();
                return done.map_err(|error| failed(&self.disk, "flushing", &error));
            }
            Step::ClockTo(now_ms) => self.clock.set(now_ms),
            Step::Room(bytes) => {
                self.was_tight |= bytes.is_some();
                self.disk.set_capacity(bytes.map(|bytes| self.disk.used_bytes() + bytes));
            }
            Step::Look => return self.look(),
        }
        Ok(())
    }

    fn create(&mut self, name: &'static str, settings: &'static str) {
        if self.topics.contains_key(name) {
            return;
        }
        let promise = promise_of(settings.as_bytes());
        let topic = self.opened.log.stage_create(name, settings.into(), promise);
        let (name_text, settings) = (name.to_owned(), settings.to_owned());
        self.staged.push(Event::Create { topic: topic.number, name: name_text, settings, promise });
        self.topics.insert(name, topic);
    }

    fn append(&mut self, name: &str, count: u64, bytes: usize) {
        let Some(topic) = self.topics.get(name) else { return };
        let mut batch = RecordBatch::default();
        let mut payloads = Vec::new();
        for _ in 0..count {
            self.serial += 1;
            let (key, metadata, payload) = content(name, self.serial, bytes);
            batch.push(&key, &metadata, &payload);
            payloads.push(image(
                &key,
                metadata.iter().map(|(name, value)| (&name[..], &value[..])),
                &payload,
            ));
        }
        let placed = self.opened.log.stage_append(topic, &mut batch);
        self.staged.push(Event::Append { topic: topic.number, first: placed.first, payloads });
    }

    /// Other settings, of the same promise.
    fn update(&mut self, name: &str, settings: &'static str) {
        let Some(topic) = self.topics.get(name) else { return };
        if promise_of(&topic.settings()) == promise_of(settings.as_bytes()) {
            self.opened.log.stage_update(topic, settings.into());
            self.staged.push(Event::Update { topic: topic.number, settings: settings.to_owned() });
        }
    }

    /// Trims what was committed down to `keep` records.
    fn trim(&mut self, name: &str, keep: u64) {
        let Some(topic) = self.topics.get(name) else { return };
        let first = topic.next().saturating_sub(keep);
        self.opened.log.stage_trim(topic, first, Reserve::Free);
        self.staged.push(Event::Trim { topic: topic.number, first });
    }

    fn delete(&mut self, name: &str) {
        let Some(topic) = self.topics.remove(name) else { return };
        self.opened.log.stage_delete(&topic);
        self.staged.push(Event::Delete { topic: topic.number });
    }

    /// What the broker's journal writer does: write, and sync when something asks for it.
    pub(crate) fn commit(&mut self) -> Result<(), LogError> {
        let block = std::mem::take(&mut self.staged);
        if !block.is_empty() {
            self.promises.attempt(block.clone());
        }
        if let Err(error) = self.opened.log.write() {
            self.topics = self.committed.clone();
            if (error.is_passing() || self.has_failed) && !block.is_empty() {
                self.promises.take_back();
            }
            self.has_failed |= !error.is_passing();
            return Err(error);
        }
        self.promises.written();
        self.committed = self.topics.clone();
        if self.opened.log.needs_sync() {
            let synced = self.opened.log.sync();
            self.has_failed |= synced.is_err();
            synced?;
            self.promises.synced();
        }
        Ok(())
    }

    fn commit_or_be_refused(&mut self) -> Result<(), End> {
        match self.commit() {
            Err(error) if error.is_passing() && self.was_tight => Ok(()),
            other => other.map_err(|error| failed(&self.disk, "committing", &error)),
        }
    }

    /// Compares what readers see with what is promised.
    pub(crate) fn look(&self) -> Result<(), End> {
        let topics: Vec<_> = self.committed.values().cloned().collect();
        self.promises.check_live(&observe(&self.disk, &topics)?)?;
        Ok(())
    }

    /// Ends the life in order: afterwards everything is durable, whatever it promised.
    pub(crate) fn close(mut self) -> Result<Promises, (Promises, End)> {
        if let Err(error) = self.commit() {
            return Err((self.promises, failed(&self.disk, "committing", &error)));
        }
        match self.opened.log.close(&mut self.opened.flusher) {
            Ok(()) => {
                self.promises.synced();
                Ok(self.promises)
            }
            Err(error) => Err((self.promises, failed(&self.disk, "closing", &error))),
        }
    }
}

/// Without power every call fails, and that is nobody's fault.
fn failed(disk: &SimDisk, action: &str, error: &dyn std::error::Error) -> End {
    if disk.is_off() { End::Power } else { Broken::because(format!("{action} failed: {error}")).into() }
}

/// Reads everything there is.
pub(crate) fn observe(disk: &SimDisk, topics: &[Arc<TopicLog>]) -> Result<State, End> {
    let mut state = State::default();
    for topic in topics.iter().filter(|topic| !topic.is_deleted()) {
        let first = topic.extent().first;
        let records = read(topic, first).map_err(|error| failed(disk, "reading", &error))?;
        if let Some(place) = records.windows(2).position(|pair| pair[0].timestamp_ms > pair[1].timestamp_ms) {
            let what = format!("{}: time runs backwards after offset {}", topic.name, first + place as u64);
            return Err(Broken::because(what).into());
        }
        let payloads = records
            .iter()
            .map(|record| image(record.body.key(), record.body.metadata(), &record.body.payload()))
            .collect();
        let settings = String::from_utf8(topic.settings().to_vec()).expect("settings are texts here");
        let promise = promise_of(settings.as_bytes());
        state.topics.insert(
            topic.number,
            TopicState { name: topic.name.clone(), settings, promise, first, payloads },
        );
    }
    Ok(state)
}

/// Reads records from `cursor` to the end, from memory or segments.
pub(crate) fn read(topic: &TopicLog, mut cursor: u64) -> Result<Vec<Record>, ReadError> {
    let (mut records, mut at) = (Vec::new(), SegmentCursor::default());
    loop {
        let chunks = match topic.read_tail(cursor, 4096)? {
            Tail::End => return Ok(records),
            Tail::Records(chunks) => chunks,
            Tail::Cold => topic.read_segments(cursor, &mut at, 4096)?.into_iter().collect(),
        };
        for record in chunks.iter().flat_map(RecordChunk::records) {
            assert_eq!(record.offset, cursor, "{}: offsets are consecutive", topic.name);
            records.push(record);
            cursor += 1;
        }
    }
}

type Content = (String, Vec<(String, String)>, Vec<u8>);

/// A message's key, metadata and payload; every fifth has a key, every seventh metadata.
fn content(name: &str, serial: u64, bytes: usize) -> Content {
    let key = if serial.is_multiple_of(5) { format!("key-{serial}") } else { String::new() };
    let metadata =
        if serial.is_multiple_of(7) { vec![("serial".into(), serial.to_string())] } else { Vec::new() };
    let mut payload = format!("{name} {serial} ").repeat(bytes / 8 + 1).into_bytes();
    payload.truncate(bytes);
    (key, metadata, payload)
}

/// Everything a message says, as one text of bytes.
fn image<'a>(key: &str, metadata: impl Iterator<Item = (&'a str, &'a str)>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    for (name, value) in metadata {
        bytes.extend_from_slice(format!("|{name}={value}").as_bytes());
    }
    bytes.push(b'|');
    bytes.extend_from_slice(payload);
    bytes
}

/// The static name a topic of the script has.
fn name_of(topic: &TopicLog) -> &'static str {
    crate::script::NAMES.into_iter().find(|name| *name == topic.name).expect("scripts use these names only")
}

/// A file of the log on the simulated disk.
pub(crate) fn file(name: &str) -> std::path::PathBuf {
    Path::new(FOLDER).join(name)
}

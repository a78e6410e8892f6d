//! The dispatcher and the schedule: messages are put into their topics when they are due.
//!
//! ```text
//!   schedule's log ──times──▶ Schedule ──due──▶ fetch (reader thread) ──▶ one step: appended to their topics,
//!         ▲                                                              and the schedule's progress, in one block
//!         └──────────── carried forward, or postponed ◀──────────────────┘
//! ```
//!
//! One step at a time, so that progress is always the journal's. A step that is refused is tried again from what is due then; messages
//! of a topic that is restarting are postponed, so that the others do not wait for it. Messages of a topic that was deleted go with it:
//! a scan of the log finds what can go.

use ratatoskr_state::{Change, Due, Progress, TopicName};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ratatoskr_log::{
    Moment, ReadError, Record, RecordBatch, RecordChunk, RecordFacts, SegmentCursor, Tail, TopicLog,
};

use super::Dispatcher;
use crate::command::{Command, Records, Target};
use crate::durable::in_flight::OnCommit;
use crate::durable::record_reader::{RecordReader, next_chunk};
use crate::durable::request::{Purpose, Request, ScheduleRead};
use crate::error::Unavailable;
use crate::id::{IdMask, MessageId};
use crate::message::{SCHEDULED_ID, Terms};
use crate::retention;
use crate::schedule::{Scan, Schedule};
use crate::topic::Topic;
use ratatoskr_state::limits::READ_BYTES_MAX;

/// Messages moved in one step.
const MOVED_AT_ONCE: usize = 1_000;
/// Bytes of records moved in one step; one message always is.
const MOVED_BYTES: usize = 4 << 20;
/// Messages read before it is looked at how large they are.
const FETCHED_TOGETHER: usize = 16;
/// Chunks of the log looked at before other work has its turn.
const CHUNKS_IN_A_ROW: usize = 16;
/// Bytes a scan reads before other reads have their turn.
const SCAN_SLICE_BYTES: usize = 4 << 20;
/// How long a refused step waits, and how long a message is postponed.
const RETRY_MS: u64 = 1_000;
const POSTPONED_MS: u64 = 5_000;

/// What the dispatcher knows of the schedule.
pub(super) struct Scheduling {
    topic: Arc<Topic>,
    schedule: Schedule,
    /// Where to go on in segments; away while a read is under way.
    segments: Option<SegmentCursor>,
    /// Messages are being fetched, or a step is on its way through the journal.
    is_moving: bool,
    /// There may be more to look at.
    has_more: bool,
    /// No step before, steady time.
    retry_ms: u64,
    /// Nothing is read before, steady time: it failed just now.
    read_retry_ms: u64,
    /// To be carried forward.
    carry: Vec<Due>,
    /// Topics whose messages have to wait.
    postponed: HashSet<TopicName>,
}

impl Scheduling {
    fn new(topic: Arc<Topic>, progress: Progress) -> Scheduling {
        Scheduling {
            schedule: Schedule::new(progress, topic.log.next()),
            topic,
            segments: Some(SegmentCursor::default()),
            is_moving: false,
            has_more: true,
            retry_ms: 0,
            read_retry_ms: 0,
            carry: Vec::new(),
            postponed: HashSet::new(),
        }
    }

    /// How long until it wants its turn though nothing happens to it. What is due is due by the wall clock.
    pub(super) fn patience_ms(&self, now: Moment) -> Option<u64> {
        if self.has_more && self.segments.is_some() {
            return Some(self.read_retry_ms.saturating_sub(now.steady_ms));
        }
        let due_ms = self.schedule.next_due_ms().filter(|_| !self.is_moving)?;
        Some(due_ms.saturating_sub(now.wall_ms).max(self.retry_ms.saturating_sub(now.steady_ms)))
    }

    /// Looks at what is new in the log; answers what another thread has to read.
    fn feed(&mut self, now: Moment) -> Option<SegmentCursor> {
        if now.steady_ms < self.read_retry_ms {
            return None;
        }
        for _ in 0..CHUNKS_IN_A_ROW {
            let cursor = self.schedule.fed();
            self.segments.as_ref()?;
            match self.topic.log.read_tail(cursor, READ_BYTES_MAX) {
                Ok(Tail::Records(chunks)) => chunks.iter().for_each(|chunk| self.take_in(chunk)),
                Ok(Tail::End) => {
                    self.has_more = false;
                    return None;
                }
                Ok(Tail::Cold) => return self.segments.take(),
                Err(error) => {
                    self.pass(&error, now);
                    return None;
                }
            }
        }
        None
    }

    fn take_in(&mut self, chunk: &RecordChunk) {
        let cursor = self.schedule.fed();
        let new: Vec<Record> = chunk.records().skip_while(|record| record.offset < cursor).collect();
        for record in &new {
            self.schedule.note_topic(record.body.facts().addressed_to);
        }
        self.schedule.feed(chunk.end().max(cursor), new.iter().map(due_of));
    }

    fn pass(&mut self, error: &ReadError, now: Moment) {
        match resume_after(error) {
            Some(resume) => self.schedule.feed(resume.max(self.schedule.fed()), []),
            None => self.read_fails(error, now),
        }
    }

    fn read_fails(&mut self, error: &ReadError, now: Moment) {
        tracing::error!(%error, "the schedule cannot be read; tried again in a second");
        self.read_retry_ms = now.after(RETRY_MS).steady_ms;
        self.has_more = true;
    }
}

impl Scheduling {
    /// What of a step was not moved goes into the next one; what is due is known anyway.
    fn put_off(&mut self, purpose: Purpose, moved: usize) {
        if let Purpose::Carry(mut dues) = purpose {
            let mut rest = dues.split_off(moved);
            rest.append(&mut self.carry);
            self.carry = rest;
        }
    }
}

impl Dispatcher {
    pub(super) fn open_schedule(&mut self) {
        if let Some(topic) = self.core.topic(&TopicName::schedule()) {
            self.scheduling = Some(Scheduling::new(topic, self.core.subscriptions.schedule()));
        }
    }

    /// A topic has grown; perhaps the schedule's log.
    pub(super) fn schedule_grew(&mut self, topic: u32) {
        if self.scheduling.is_none() {
            self.open_schedule();
        }
        if let Some(scheduling) = self.scheduling.as_mut().filter(|known| known.topic.log.number == topic) {
            scheduling.topic.growth_is_seen();
            scheduling.has_more = true;
        }
    }

    /// A topic is gone, and what was scheduled for it.
    pub(super) fn schedule_topic_deleted(&mut self, topic: u32) {
        if let Some(scheduling) = &mut self.scheduling {
            scheduling.schedule.topic_deleted(topic, scheduling.topic.log.next());
        }
    }

    /// Looks at what is new, and sends on its way what is due. A panic in it reaches nobody else: the schedule starts anew from
    /// the journal's progress.
    pub(super) fn schedule_turn(&mut self, now: Moment) {
        if self.scheduling.is_none() || self.stopping_since.is_some() {
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| self.try_schedule_turn(now))).is_ok() {
            return;
        }
        tracing::error!("the schedule failed and starts anew from the journal's state");
        if let Some(failed) = self.scheduling.take() {
            let fresh = Scheduling::new(failed.topic, self.core.subscriptions.schedule());
            self.scheduling = Some(Scheduling {
                is_moving: failed.is_moving,
                retry_ms: now.after(RETRY_MS).steady_ms,
                ..fresh
            });
        }
    }

    fn try_schedule_turn(&mut self, now: Moment) {
        let Some(scheduling) = &mut self.scheduling else { return };
        let cold = scheduling.feed(now);
        let log = &scheduling.topic.log;
        let may_scan = now.steady_ms >= scheduling.read_retry_ms;
        let scan = may_scan.then(|| scheduling.schedule.begin_scan(log.extent().first, log.next())).flatten();
        let topic = scheduling.topic.clone();
        let mut wanted = None;
        if !scheduling.is_moving && now.steady_ms >= scheduling.retry_ms {
            if let Some(step) = scheduling.schedule.next_step(now.wall_ms, MOVED_AT_ONCE) {
                wanted = Some((step.dues.clone(), Purpose::Dispatch(step)));
            } else if !scheduling.carry.is_empty() {
                let rest = scheduling.carry.split_off(scheduling.carry.len().min(MOVED_AT_ONCE));
                let carried = std::mem::replace(&mut scheduling.carry, rest);
                wanted = Some((carried.clone(), Purpose::Carry(carried)));
            }
            scheduling.is_moving = wanted.is_some();
        }
        if let Some(mut segments) = cold {
            let (cursor, topic) = (scheduling.schedule.fed(), topic.clone());
            self.read_schedule(move || {
                let read = topic.log.read_segments(cursor, &mut segments, READ_BYTES_MAX);
                ScheduleRead::Next((read, segments))
            });
        }
        if let Some(scan) = scan {
            self.scan_schedule(topic.clone(), scan, SegmentCursor::default());
        }
        if let Some((dues, purpose)) = wanted {
            self.read_schedule(move || ScheduleRead::Fetched(purpose, fetch(&topic.log, &dues)));
        }
    }

    fn scan_schedule(&self, topic: Arc<Topic>, mut scan: Scan, mut segments: SegmentCursor) {
        let core = self.core.clone();
        self.read_schedule(move || {
            // Those that the scanned messages were for were there when the scan began.
            let there: HashSet<u32> = core.topics.read().values().map(|topic| topic.log.number).collect();
            let scanned = scan_slice(&topic.log, (&mut scan, &there), &mut segments).map(|()| scan);
            ScheduleRead::Scanned(scanned, segments)
        });
    }

    fn read_schedule(&self, read: impl FnOnce() -> ScheduleRead + Send + 'static) {
        let core = self.core.clone();
        self.read(Box::new(move || {
            let _ = core.dispatcher.push(Request::Schedule(read()));
        }));
    }

    /// The reading thread is back.
    pub(super) fn schedule_read(&mut self, read: ScheduleRead, now: Moment) {
        let Some(scheduling) = &mut self.scheduling else { return };
        match read {
            ScheduleRead::Next((read, segments)) => {
                scheduling.segments = Some(segments);
                match read {
                    Ok(Some(chunk)) => scheduling.take_in(&chunk),
                    Ok(None) => {}
                    Err(error) => scheduling.pass(&error, now),
                }
            }
            ScheduleRead::Scanned(Ok(scan), segments) if scan.cursor < scan.end => {
                let topic = scheduling.topic.clone();
                self.scan_schedule(topic, scan, segments);
            }
            ScheduleRead::Scanned(Ok(scan), _) => {
                let remains = scheduling.schedule.finish_scan(scan);
                self.core.live_counters.scheduled_void.store(scheduling.schedule.void(), Ordering::Relaxed);
                scheduling.has_more = true;
                scheduling.carry = remains.carry;
                let (topic, floor) = (scheduling.topic.clone(), remains.floor);
                self.trim_schedule(topic, floor);
            }
            ScheduleRead::Scanned(Err(error), _) => {
                scheduling.read_fails(&error, now);
                scheduling.schedule.abandon_scan();
            }
            ScheduleRead::Fetched(purpose, Ok(fetched)) => self.move_fetched(purpose, fetched, now),
            ScheduleRead::Fetched(purpose, Err(error)) => {
                tracing::error!(%error, "messages that are due cannot be read; tried again in a second");
                scheduling.put_off(purpose, 0);
                scheduling.is_moving = false;
                scheduling.retry_ms = now.after(RETRY_MS).steady_ms;
            }
        }
    }

    fn trim_schedule(&self, topic: Arc<Topic>, floor: u64) {
        if floor > topic.log.extent().first && retention::may_trim(&self.core, &topic, floor) {
            let _ = self.core.inbox.push(Command::Trim { trims: vec![(topic, floor)] });
        }
    }

    // ---- moving ----

    fn move_fetched(&mut self, purpose: Purpose, fetched: Vec<(Due, Option<Record>)>, now: Moment) {
        let Some(scheduling) = &mut self.scheduling else { return };
        let mut progress = self.core.subscriptions.schedule();
        let mut moving = Moving { mask: self.core.id_mask, ..Moving::default() };
        let (mut moved, mut void) = (Vec::with_capacity(fetched.len()), 0);
        let topics = topics_of(&self.core.topics.read(), &fetched);
        // Later than anything that was moved: what is put off must not be late at once.
        let postponed_ms = now.wall_ms.max(progress.through.at_ms) + POSTPONED_MS;
        for (due, record) in fetched {
            moved.push(due);
            let record = record.filter(|_| !progress.is_done(due));
            let found =
                record.and_then(|record| Some((topics.get(&record.body.facts().addressed_to)?, record)));
            let Some((topic, record)) = found else {
                void += u64::from(matches!(purpose, Purpose::Dispatch(_)));
                continue;
            };
            let has_to_wait = scheduling.postponed.contains(&topic.name);
            match &purpose {
                Purpose::Carry(_) => moving.put_back(&scheduling.topic, &record, due.at_ms),
                Purpose::Dispatch(_) if has_to_wait => {
                    moving.put_back(&scheduling.topic, &record, postponed_ms);
                }
                Purpose::Dispatch(_) => moving.put_into(topic, &scheduling.topic, &record),
            }
        }
        match &purpose {
            Purpose::Dispatch(step) => step.advance(&mut progress, moved.len()),
            Purpose::Carry(_) => {
                progress.done += moved.iter().filter(|&&due| !progress.is_done(due)).count() as u64;
                let floor = moved.last().map_or(0, |due| due.offset + 1);
                progress.floor = progress.floor.max(floor);
            }
        }
        scheduling.put_off(purpose, moved.len());
        let appends = moving.appends(&scheduling.topic);
        self.send(
            vec![Change::Dispatched(progress)],
            appends,
            Vec::new(),
            OnCommit::Dispatch { moved, void },
        );
    }

    /// A step is through.
    pub(super) fn schedule_moved(&mut self, moved: &[Due], void: u64) {
        let Some(scheduling) = &mut self.scheduling else { return };
        let progress = self.core.subscriptions.schedule();
        scheduling.schedule.advance(progress, moved);
        scheduling.schedule.void_done(void);
        self.core.live_counters.scheduled_void.store(scheduling.schedule.void(), Ordering::Relaxed);
        scheduling.is_moving = false;
        scheduling.postponed.clear();
        // Carried forward, messages pin nothing any more; what else can go, the next scan finds.
        let (topic, floor) = (scheduling.topic.clone(), progress.floor);
        self.trim_schedule(topic, floor);
    }

    /// A request about the schedule failed half-way: if it was to move something, that has not happened.
    pub(super) fn schedule_failed(&mut self) {
        let is_under_way = self.in_flight.is_dispatching();
        if let Some(scheduling) = &mut self.scheduling {
            scheduling.is_moving = is_under_way;
        }
    }

    pub(super) fn schedule_refused(&mut self, reason: &Unavailable, now: Moment) {
        let Some(scheduling) = &mut self.scheduling else { return };
        scheduling.is_moving = false;
        scheduling.carry.clear();
        if let Unavailable::TopicRestarting { topic } | Unavailable::TopicDeleted { topic } = reason {
            scheduling.postponed.insert(topic.clone());
        } else {
            scheduling.retry_ms = now.after(RETRY_MS).steady_ms;
        }
    }
}

/// A step in the making.
#[derive(Default)]
struct Moving {
    mask: IdMask,
    /// By topic.
    batches: Vec<(Arc<Topic>, RecordBatch)>,
    at: HashMap<u32, usize>,
    /// Back into the schedule.
    back: RecordBatch,
}

impl Moving {
    fn put_into(&mut self, topic: &Arc<Topic>, schedule: &Topic, record: &Record) {
        let id = self.id_of(schedule, record);
        let at = *self.at.entry(topic.log.number).or_insert_with(|| {
            self.batches.push((topic.clone(), RecordBatch::default()));
            self.batches.len() - 1
        });
        let facts = RecordFacts { expires_ms: record.body.facts().expires_ms, ..RecordFacts::default() };
        push(&mut self.batches[at].1, &facts, (record, id));
    }

    fn put_back(&mut self, schedule: &Topic, record: &Record, at_ms: u64) {
        let facts = RecordFacts { dedup_id: "", deliver_at_ms: at_ms, ..record.body.facts() };
        let id = self.id_of(schedule, record);
        push(&mut self.back, &facts, (record, id));
    }

    fn id_of(&self, schedule: &Topic, record: &Record) -> MessageId {
        MessageId::new(self.mask, schedule.log.number, record.offset, record.timestamp_ms)
    }

    fn appends(self, schedule: &Arc<Topic>) -> Vec<Records> {
        let whole =
            |(topic, batch)| Records { target: Target::Living(topic), batch, terms: Terms::default() };
        let back = (!self.back.is_empty()).then(|| (schedule.clone(), self.back));
        self.batches.into_iter().chain(back).map(whole).collect()
    }
}

/// Adds a record with the id its publisher was told.
fn push(batch: &mut RecordBatch, facts: &RecordFacts<'_>, (record, id): (&Record, MessageId)) {
    let own = record.body.metadata().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut metadata: Vec<_> = own.collect();
    if !metadata.iter().any(|(name, _)| name == SCHEDULED_ID) {
        metadata.push((SCHEDULED_ID.to_owned(), id.to_string()));
    }
    batch.push_with(facts, record.body.key(), &metadata, &record.body.payload());
}

/// The topics that messages are for, as far as they still exist.
fn topics_of(
    topics: &HashMap<TopicName, Arc<Topic>>,
    fetched: &[(Due, Option<Record>)],
) -> HashMap<u32, Arc<Topic>> {
    let records = fetched.iter().filter_map(|(_, record)| record.as_ref());
    let wanted: HashSet<u32> = records.map(|record| record.body.facts().addressed_to).collect();
    let found = topics.values().filter(|topic| wanted.contains(&topic.log.number));
    found.map(|topic| (topic.log.number, topic.clone())).collect()
}

fn due_of(record: &Record) -> Due {
    Due { at_ms: record.body.facts().deliver_at_ms, offset: record.offset }
}

/// Where reading can go on after an error; `None`: only later.
fn resume_after(error: &ReadError) -> Option<u64> {
    match error {
        ReadError::Trimmed { first, .. } => Some(*first),
        ReadError::Damaged { offset, resume, path, position } => {
            tracing::error!(offset, resume, path = %path.display(), position, "damaged messages of the schedule are lost");
            Some(*resume)
        }
        ReadError::Io { .. } => None,
    }
}

fn scan_slice(
    log: &TopicLog,
    (scan, there): (&mut Scan, &HashSet<u32>),
    segments: &mut SegmentCursor,
) -> Result<(), ReadError> {
    let mut bytes = 0;
    while scan.cursor < scan.end && bytes < SCAN_SLICE_BYTES {
        match next_chunk(log, scan.cursor, segments) {
            Ok(Some(chunk)) => {
                for record in chunk.records() {
                    let topic = record.body.facts().addressed_to;
                    if there.contains(&topic) {
                        scan.take(due_of(&record), topic);
                    }
                }
                scan.cursor = chunk.end();
                bytes += chunk.bytes.len();
            }
            Ok(None) => scan.cursor = scan.end,
            Err(error) => scan.cursor = resume_after(&error).ok_or(error)?.max(scan.cursor + 1),
        }
    }
    Ok(())
}

/// Reads messages in the order asked for, as many as one step may hold. Few at a time are read in order of offset, so that neighbours are
/// read together and no more than these is read for nothing.
fn fetch(log: &TopicLog, dues: &[Due]) -> Result<Vec<(Due, Option<Record>)>, ReadError> {
    let (mut record_reader, mut fetched, mut bytes) = (RecordReader::new(log), Vec::new(), 0);
    for dues in dues.chunks(FETCHED_TOGETHER) {
        let mut places: Vec<usize> = (0..dues.len()).collect();
        places.sort_unstable_by_key(|&place| dues[place].offset);
        let mut records: Vec<(Due, Option<Record>)> = dues.iter().map(|&due| (due, None)).collect();
        for place in places {
            records[place].1 = match record_reader.read(dues[place].offset) {
                Err(error) if resume_after(&error).is_some() => None,
                read => read?,
            };
        }
        bytes +=
            records.iter().filter_map(|(_, record)| record.as_ref()).map(|r| r.body.bytes()).sum::<usize>();
        fetched.append(&mut records);
        if bytes > MOVED_BYTES {
            break;
        }
    }
    Ok(fetched)
}

//! The sequencer: one thread that turns what many ask for into one order, one write, one sync.
//!
//! ```text
//!   inbox ──take all──▶ changes ──stage──▶ commit ──▶ answers
//!                       appends ──stage──▶ write ──▶ answers of `written`, `memory`
//!                                            └─sync─▶ answers of `fsync`, subscribers woken
//! ```
//!
//! While one sync runs the next commands gather in the inbox, so a thousand callers share what one waits for.
//! Changes (create, delete, purge …) are staged before appends. On a full disk, which refuses appends, those that make room are
//! committed apart. Invariants: an answer is sent only after its commit; a failed commit
//! answers everybody and leaves nothing behind; a panic in one topic's owner fails that topic alone.
//! Why one thread and not a task per topic: ADR 0002.

mod shortage;
mod steps;
mod terms;

use ratatoskr_state::{Durability, TopicName, TopicSettings};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratatoskr_log::{Log, LogError, Promise, RecordBatch, Reserve};

use crate::answer::{Answer, Waiting};
use crate::broken::Broken;
use crate::command::{AppendError, AppendReply, Appended, Command, Records, Reply, SettingsChange};
use crate::core::{Core, LiveCounters, PanicGuard};
use crate::dedup::Duplicate;
use crate::error::{CreateTopicError, DeleteTopicError, PurgeTopicError, Unavailable, UpdateTopicError};
use crate::message::Terms;
use crate::owner::Owner;
use crate::retention_clock::Dates;
use crate::topic::Topic;
use steps::Step;

/// Appends are committed when so much is staged, though more may wait.
const BLOCK_BYTES: usize = 1 << 20;
/// After so long without work the journal is sealed.
const IDLE: Duration = Duration::from_millis(100);
/// How long to sleep once it is.
const SLEEP: Duration = Duration::from_secs(3600);

/// See the file's head.
pub(crate) struct Sequencer {
    core: Arc<Core>,
    log: Log,
    /// Owners by topic number.
    owners: HashMap<u32, Owner>,
    /// Topics staged in the block being made.
    creating: HashMap<TopicName, Arc<Topic>>,
    /// Numbers of topics whose deletion is staged in it: nothing may follow for them.
    deleting: HashSet<u32>,
    /// Who waits for the block being made.
    waiting: Vec<Waiting>,
    /// Steps of durable subscriptions that wait for it.
    steps: Vec<Step>,
    /// Of this turn.
    dates: Dates,
}

impl Sequencer {
    pub(crate) fn new(core: Arc<Core>, log: Log) -> Sequencer {
        let topics = core.topics.read();
        let owners = topics.values().map(|topic| (topic.log.number, Owner::new(topic.clone()))).collect();
        drop(topics);
        let dates = core.dates();
        Sequencer {
            core,
            log,
            owners,
            creating: HashMap::new(),
            deleting: HashSet::new(),
            waiting: Vec::new(),
            steps: Vec::new(),
            dates,
        }
    }

    /// Works until the inbox is closed and empty; gives the log back.
    pub(crate) fn run(mut self) -> Log {
        let _panic_guard = PanicGuard::new(self.core.clone(), "sequencer");
        let (mut commands, mut appends) = (Vec::new(), Vec::new());
        let mut patience = IDLE;
        while self.core.inbox.take(&mut commands, patience).is_ok() {
            if commands.is_empty() {
                if let Err(error) = self.log.seal() {
                    self.note_failure(&error);
                }
                patience = SLEEP;
                continue;
            }
            patience = IDLE;
            self.look_at_dates();
            let mut staged = Reserve::Keep;
            for command in commands.drain(..) {
                match command {
                    Command::Append { records, bytes, reply } => {
                        appends.push(Append { records, bytes, reply });
                    }
                    change => {
                        if self.is_held_up() {
                            staged = self.make_way_for(&change, staged);
                        }
                        self.change(change);
                    }
                }
                if self.log.staged_bytes() >= BLOCK_BYTES {
                    self.commit();
                }
            }
            // What goes on while appends are held up goes apart from appends; nothing may follow a topic's deletion in its block.
            if !self.deleting.is_empty() || self.is_held_up() {
                self.commit();
            }
            self.append_all(&mut appends);
            self.commit();
            self.core.postboxes.ring();
            *self.core.log_counts.lock() = self.log.counts();
        }
        self.log
    }

    fn look_at_dates(&mut self) {
        self.dates = self.core.dates();
        self.log.set_date(self.dates.of_block());
    }

    // ---- changes ----

    fn change(&mut self, command: Command) {
        match command {
            Command::Create { name, settings, reply } => self.create(&name, settings, reply),
            Command::Update { name, change, reply } => self.update(&name, change, reply),
            Command::Delete { name, reply } => self.delete(name, reply),
            Command::Purge { name, before, reply } => self.purge(name, before, reply),
            Command::Trim { trims } => {
                for (topic, first) in trims {
                    if !topic.log.is_deleted() && !self.deleting.contains(&topic.log.number) {
                        self.log.stage_trim(&topic.log, first, Reserve::Change);
                        self.wait_for(topic, Answer::Trim);
                    }
                }
            }
            Command::Crash { name } => {
                if let Some(topic) = self.core.topic(&name) {
                    let owner = self.owners.entry(topic.log.number).or_insert_with(|| Owner::new(topic));
                    owner.crash_next();
                }
            }
            Command::Ledger { changes, appends, ticket } => self.stage_step(changes, appends, ticket),
            Command::Resolve { resolving, ticket } => self.stage_resolving(resolving, ticket),
            Command::Check => self.check(),
            Command::TellDate => self.tell_date(),
            Command::Append { .. } => unreachable!("appends are sorted out before"),
        }
    }

    /// A topic that exists and is not on its way out.
    fn living(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.core.topic(name).filter(|topic| !self.deleting.contains(&topic.log.number))
    }

    fn create(
        &mut self,
        name: &TopicName,
        settings: TopicSettings,
        reply: Reply<Result<Arc<Topic>, CreateTopicError>>,
    ) {
        if let Some(topic) = self.creating.get(name).cloned() {
            return self.wait_for(topic, Answer::Exists(reply));
        }
        if self.core.topic(name).is_some() {
            let _ = reply.send(Err(CreateTopicError::AlreadyExists { name: name.clone() }));
        } else if self.is_crowded() {
            let _ = reply.send(Err(CreateTopicError::TooManyTopics { topics_max: self.core.shares.topics }));
        } else {
            let topic = self.stage_create(name, settings);
            self.wait_for(topic, Answer::Create(Some(reply)));
        }
    }

    fn is_crowded(&self) -> bool {
        self.core.topics.read().len() + self.creating.len() >= self.core.shares.topics
    }

    fn stage_create(&mut self, name: &TopicName, settings: TopicSettings) -> Arc<Topic> {
        let log = self.log.stage_create(name.as_str(), settings.encode().into(), promise(&settings));
        let topic = Arc::new(Topic::new(name.clone(), log, settings));
        self.creating.insert(name.clone(), topic.clone());
        topic
    }

    fn update(
        &mut self,
        name: &TopicName,
        change: SettingsChange,
        reply: Reply<Result<Arc<Topic>, UpdateTopicError>>,
    ) {
        let Some(topic) = self.living(name) else {
            let _ = reply.send(Err(UpdateTopicError::NotFound { name: name.clone() }));
            return;
        };
        // Two changes of one topic in one block: the second has to see what the first one made.
        let earlier = |waiting: &Waiting| {
            matches!(waiting.answer, Answer::Update(..)) && waiting.topic.log.number == topic.log.number
        };
        if self.waiting.iter().any(earlier) {
            self.commit();
        }
        let settings = topic.settings();
        match change(&settings).validate_update(&settings) {
            Ok(settings) => {
                self.log.stage_update(&topic.log, settings.encode().into());
                self.wait_for(topic, Answer::Update(settings, reply));
            }
            Err(error) => {
                let _ = reply.send(Err(error.into()));
            }
        }
    }

    fn delete(&mut self, name: TopicName, reply: Reply<Result<(), DeleteTopicError>>) {
        let Some(topic) = self.living(&name) else {
            let _ = reply.send(Err(DeleteTopicError::NotFound { name }));
            return;
        };
        self.log.stage_delete(&topic.log);
        self.deleting.insert(topic.log.number);
        self.wait_for(topic, Answer::Delete(reply));
    }

    fn purge(&mut self, name: TopicName, before: Option<u64>, reply: Reply<Result<u64, PurgeTopicError>>) {
        let Some(topic) = self.living(&name) else {
            let _ = reply.send(Err(PurgeTopicError::NotFound { name }));
            return;
        };
        let extent = topic.log.extent();
        let first = before.unwrap_or(extent.next);
        if first > extent.next {
            let _ = reply.send(Err(PurgeTopicError::PastEnd { before: first, next_offset: extent.next }));
        } else if first <= extent.first {
            let _ = reply.send(Ok(0));
        } else {
            topic.note_purge(first);
            self.log.stage_trim(&topic.log, first, Reserve::Free);
            self.wait_for(topic, Answer::Purge(first - extent.first, reply));
        }
    }

    fn tell_date(&mut self) {
        self.commit();
        self.core.settle_dates(self.dates);
        if let Err(error) = self.log.tell_date() {
            self.note_failure(&error);
        }
    }

    fn wait_for(&mut self, topic: Arc<Topic>, answer: Answer) {
        self.waiting.push(Waiting { topic, answer });
    }

    // ---- appends ----

    fn append_all(&mut self, appends: &mut Vec<Append>) {
        if appends.is_empty() {
            return;
        }
        let refusal = self.wait_for_room();
        // That may have taken long, and what is appended is dated by when it is.
        self.look_at_dates();
        for append in appends.drain(..) {
            self.core.inbox.give_back(append.bytes);
            if let Some(reason) = refusal.as_ref().filter(|_| append.records.target.needs_disk()) {
                let count = append.records.batch.count();
                self.refuse(count, append.reply, AppendError::Unavailable(reason.clone()));
                continue;
            }
            self.append(append);
            if self.log.staged_bytes() >= BLOCK_BYTES || Broken::Alone.is_on() {
                self.commit();
            }
        }
    }

    fn append(&mut self, append: Append) {
        let Append { records, reply, .. } = append;
        let count = records.batch.count();
        match self.prepare(records) {
            Err(error) => self.refuse(count, reply, error),
            Ok(prepared) => {
                let number = prepared.topic.log.number;
                if let Err(topic) = self.place(prepared, reply) {
                    // A step that appends to it as well cannot happen without that, and a duplicate has no first one any more.
                    let refers = |waiting: &Waiting| {
                        matches!(&waiting.answer, Answer::Append { appended, .. }
                            if appended.topic != number && appended.duplicates.iter().any(|(_, first)| first.log == number))
                    };
                    if self.steps.iter().any(|step| step.appends_to(number))
                        || self.waiting.iter().any(refers)
                    {
                        return self.abandon_block(&Unavailable::TopicRestarting { topic });
                    }
                    self.core.dedup.take_back_of(number);
                    self.fail_appends_of(number);
                }
            }
        }
    }

    /// Stages an append. `Err` names the topic whose owner has failed: nothing staged for it remains.
    fn place(&mut self, prepared: Prepared, reply: AppendReply) -> Result<(), TopicName> {
        let Prepared { topic, mut batch, terms, duplicates } = prepared;
        let (count, bytes, number) = (batch.count(), batch.len() as u64, topic.log.number);
        let owner = self.owners.entry(number).or_insert_with(|| Owner::new(topic.clone()));
        let Ok(placed) = owner.append(&mut self.log, &mut batch) else {
            LiveCounters::add(&self.core.live_counters.topic_restarts, 1);
            let topic = topic.name.clone();
            let reason = AppendError::Unavailable(Unavailable::TopicRestarting { topic: topic.clone() });
            self.refuse(count, reply, reason);
            return Err(topic);
        };
        let duplicates = self.note_ids(&topic, placed, (&terms, &duplicates));
        let (durability, date_ms) = (topic.settings().durability, self.dates.stamp_ms);
        let appended = Appended { topic: number, placed, durability, duplicates };
        self.wait_for(topic, Answer::Append { count, bytes, date_ms, appended, reply });
        Ok(())
    }

    fn refuse(&self, count: u32, reply: AppendReply, error: AppendError) {
        LiveCounters::add(&self.core.live_counters.publish_refused, count.into());
        reply.send(Err(error));
    }

    /// Those who staged into a topic whose owner then failed learn that nothing of it remains.
    fn fail_appends_of(&mut self, number: u32) {
        let waiting = std::mem::take(&mut self.waiting);
        for entry in waiting {
            let lost = entry.topic.log.number == number && matches!(entry.answer, Answer::Append { .. });
            if lost {
                let topic = entry.topic.name.clone();
                entry.fail(&self.core, &Unavailable::TopicRestarting { topic });
            } else {
                self.waiting.push(entry);
            }
        }
    }

    // ---- commit ----

    /// Writes and syncs what is staged, and answers those who wait for it.
    fn commit(&mut self) {
        if self.waiting.is_empty() && self.steps.is_empty() {
            return;
        }
        if let Err(error) = self.log.write() {
            return self.fail_waiting(&error);
        }
        if self.log.needs_sync() {
            self.answer(Waiting::is_ready_once_written);
            self.core.postboxes.ring();
            let started = Instant::now();
            let synced = self.log.sync();
            let micros = started.elapsed().as_micros() as u64;
            LiveCounters::add(&self.core.live_counters.sync_micros_total, micros);
            if let Err(error) = synced {
                return self.fail_waiting(&error);
            }
        }
        // The log has taken the batch into the state: those who wait are answered.
        self.core.dedup.commit();
        self.answer(|_, _| true);
        for step in std::mem::take(&mut self.steps) {
            step.succeed(&self.core);
        }
        self.creating.clear();
        self.deleting.clear();
        self.core.postboxes.ring();
        if self.is_held_up() {
            self.check();
        }
    }

    /// Answers those who are ready, in order; the others go on waiting.
    fn answer(&mut self, is_ready: impl Fn(&Waiting, &HashMap<TopicName, Arc<Topic>>) -> bool) {
        let waiting = std::mem::take(&mut self.waiting);
        for entry in waiting {
            if !is_ready(&entry, &self.creating) {
                self.waiting.push(entry);
                continue;
            }
            if let Answer::Delete(_) = entry.answer {
                self.owners.remove(&entry.topic.log.number);
            }
            entry.succeed(&self.core);
        }
    }

    fn fail_waiting(&mut self, error: &LogError) {
        let reason = self.note_failure(error);
        self.fail_all(&reason);
    }

    /// Gives up the block being made; nothing of it remains.
    fn abandon_block(&mut self, reason: &Unavailable) {
        self.log.take_back();
        self.fail_all(reason);
    }

    fn fail_all(&mut self, reason: &Unavailable) {
        self.core.dedup.take_back();
        for topic in self.creating.drain().map(|(_, topic)| topic) {
            self.owners.remove(&topic.log.number);
        }
        self.deleting.clear();
        for entry in std::mem::take(&mut self.waiting) {
            entry.fail(&self.core, reason);
        }
        for step in std::mem::take(&mut self.steps) {
            step.fail(&self.core, AppendError::Unavailable(reason.clone()));
        }
    }
}

/// An append that can be refused no more.
struct Prepared {
    topic: Arc<Topic>,
    batch: RecordBatch,
    terms: Terms,
    /// The records that were taken out.
    duplicates: Vec<Duplicate>,
}

struct Append {
    records: Records,
    bytes: usize,
    reply: AppendReply,
}

/// What the log promises for settings.
pub(crate) fn promise(settings: &TopicSettings) -> Promise {
    match settings.durability {
        Durability::Fsync => Promise::Synced,
        Durability::Written => Promise::Written,
        Durability::Memory => Promise::Memory {
            bytes_max: settings
                .retention_bytes
                .unwrap_or(ratatoskr_state::limits::MEMORY_TOPIC_BYTES_DEFAULT),
        },
    }
}

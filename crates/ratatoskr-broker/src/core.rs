//! What all parts of a broker share: the topics by name, the inbox, health, and counts.

use ratatoskr_state::{Ages, SubscriptionRef, TopicName, TopicSettings};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use ratatoskr_log::{Clock, LogCounts, Moment};
use tokio::sync::{broadcast, watch};

use crate::broken::Broken;
use crate::command::Command;
use crate::dedup::Dedup;
use crate::durable::{Request, ScanSlots, SubscriptionStates};
use crate::error::Unavailable;
use crate::id::IdMask;
use crate::inbox::Inbox;
use crate::memory::Shares;
use crate::postbox::Postboxes;
use crate::retention_clock::{ClockNews, DOUBT_MS, Dates, RetentionClock};
use crate::topic::Topic;
use ratatoskr_state::State;

/// Whether the broker can do its work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It can.
    #[default]
    Serving,
    /// Reading goes on; publishing waits for room on the disk, and goes on by itself.
    DiskFull {
        /// What to do.
        free_hint: String,
    },
    /// Reading goes on; publishing waits until the log can open its files, and goes on by itself.
    Blocked {
        /// What the operating system refuses, and what to do.
        reason: String,
    },
    /// Nothing is acknowledged any more; the process must be restarted.
    Failed {
        /// What failed.
        reason: String,
    },
}

impl Health {
    /// True while publishing waits for something that passes.
    pub fn is_held_up(&self) -> bool {
        matches!(self, Health::DiskFull { .. } | Health::Blocked { .. })
    }
}

/// Figures since the broker was opened (counts) and of this moment (sizes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages published and acknowledged.
    pub published_messages: u64,
    /// Bytes of them, as records.
    pub published_bytes: u64,
    /// Messages refused because the broker could not take them.
    pub publish_refused: u64,
    /// Messages handed to subscribers.
    pub delivered_messages: u64,
    /// Bytes of them, payloads only.
    pub delivered_bytes: u64,
    /// Messages that retention removed before a durable subscription had settled them, once per subscription.
    pub retention_unsettled_messages: u64,
    /// Group commits of the journal.
    pub commits: u64,
    /// Bytes of them.
    pub committed_bytes: u64,
    /// Syncs of the journal.
    pub syncs: u64,
    /// Time spent in them, microseconds.
    pub sync_micros_total: u64,
    /// Topics there are.
    pub topics: u64,
    /// Messages that are not due yet.
    pub scheduled_messages: u64,
    /// Ids remembered to find duplicates.
    pub dedup_ids: u64,
    /// Open subscriptions.
    pub subscriptions: u64,
    /// Bytes of recent records in memory.
    pub tail_bytes: u64,
    /// Bytes of records in no segment yet.
    pub unflushed_bytes: u64,
    /// Bytes of journal a restart would read.
    pub journal_bytes: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Microseconds that publishers waited while checkpoints were begun.
    pub checkpoint_pause_micros: u64,
    /// Times a topic's owner failed and was started again.
    pub topic_restarts: u64,
    /// Bytes of a torn write that were cut when the broker was opened.
    pub torn_bytes_cut: u64,
    /// Bytes that wait for the journal.
    pub inbox_bytes: u64,
    /// Bytes of logs that peeks and listings of dead letters looked through.
    pub scanned_bytes: u64,
}

/// Counts that several threads add to.
#[derive(Default)]
pub(crate) struct LiveCounters {
    pub(crate) published_messages: AtomicU64,
    pub(crate) published_bytes: AtomicU64,
    pub(crate) publish_refused: AtomicU64,
    pub(crate) delivered_messages: AtomicU64,
    pub(crate) delivered_bytes: AtomicU64,
    pub(crate) retention_unsettled_messages: AtomicU64,
    /// Messages of the schedule that are neither done nor waiting; their topics are gone.
    pub(crate) scheduled_void: AtomicU64,
    pub(crate) sync_micros_total: AtomicU64,
    pub(crate) topic_restarts: AtomicU64,
    pub(crate) subscriptions: AtomicU64,
    pub(crate) scanned_bytes: AtomicU64,
}

impl LiveCounters {
    pub(crate) fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }
}

/// See the file's head.
pub(crate) struct Core {
    pub(crate) topics: RwLock<HashMap<TopicName, Arc<Topic>>>,
    /// Their names in order, for lists and for counting those of a namespace; the schedule is not among them.
    pub(crate) topic_names: RwLock<BTreeSet<TopicName>>,
    /// Counts how often a topic was made or deleted.
    pub(crate) topics_version: AtomicU64,
    /// The same ones by their numbers, which ids and tokens lead to.
    pub(crate) topics_by_number: RwLock<HashMap<u32, Arc<Topic>>>,
    pub(crate) inbox: Inbox<Command>,
    /// Where threads find what became of their submissions.
    pub(crate) postboxes: Postboxes,
    /// The way to the dispatcher.
    pub(crate) dispatcher: Inbox<Request>,
    /// The number of the schedule's log; 0 while there is none.
    pub(crate) schedule_number: AtomicU32,
    /// What the journal leads to. Changed by the log alone, with each batch.
    pub(crate) state: Arc<RwLock<State>>,
    /// The subscriptions in it.
    pub(crate) subscriptions: Arc<SubscriptionStates>,
    /// Tells whoever watches of subscriptions that nobody used any more.
    pub(crate) expired_subscriptions: broadcast::Sender<SubscriptionRef>,
    /// Held by whoever has a state saved.
    pub(crate) saving: tokio::sync::Mutex<()>,
    /// Who may look through logs now.
    pub(crate) scans: ScanSlots,
    /// Which ids publishers gave lately.
    pub(crate) dedup: Dedup,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) live_counters: LiveCounters,
    /// The log's own counts, as of the last commit.
    pub(crate) log_counts: Mutex<LogCounts>,
    /// Set when the broker stops; subscribers look at it when woken.
    pub(crate) stopping: AtomicBool,
    pub(crate) id_mask: IdMask,
    pub(crate) clock: Arc<dyn Clock>,
    /// How old messages of topics kept in memory are whose timestamps do not say; the others are in the state.
    pub(crate) memory_ages: Mutex<Ages>,
    /// The date by which things go for their age.
    pub(crate) retention_clock: Mutex<RetentionClock>,
    pub(crate) topic_defaults: TopicSettings,
    /// How memory is shared out.
    pub(crate) shares: Shares,
    pub(crate) torn_bytes_cut: u64,
}

impl Core {
    /// There is a new topic, or one was there at the start.
    pub(crate) fn add_topic(&self, topic: Arc<Topic>) {
        if topic.name.is_schedule() {
            self.schedule_number.store(topic.log.number, Ordering::Relaxed);
        } else {
            self.topic_names.write().insert(topic.name.clone());
        }
        self.topics_by_number.write().insert(topic.log.number, topic.clone());
        self.topics.write().insert(topic.name.clone(), topic);
        self.topics_version.fetch_add(1, Ordering::Release);
    }

    /// A topic has been deleted.
    pub(crate) fn remove_topic(&self, topic: &Topic) {
        self.topic_names.write().remove(&topic.name);
        self.topics.write().remove(&topic.name);
        self.topics_version.fetch_add(1, Ordering::Release);
        self.topics_by_number.write().remove(&topic.log.number);
    }

    /// The topic with a number; numbers are never given twice.
    pub(crate) fn topic_numbered(&self, number: u32) -> Option<Arc<Topic>> {
        self.topics_by_number.read().get(&number).cloned()
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Both clocks: to wait by the one, and to write down the other.
    pub(crate) fn moment(&self) -> Moment {
        self.clock.moment()
    }

    /// The dates to be used where something goes for its age: a jump of the clock neither wipes anything at once nor keeps it for ever.
    pub(crate) fn dates(&self) -> Dates {
        let now = self.clock.moment();
        if Broken::Clock.is_on() {
            return Dates { today_ms: now.wall_ms, stamp_ms: now.wall_ms, news: None };
        }
        let dates = self.retention_clock.lock().look(now);
        if let Some(news) = dates.news {
            self.tell_of_clock(news);
        }
        dates
    }

    fn tell_of_clock(&self, news: ClockNews) {
        match news {
            ClockNews::Ahead(ms) => tracing::warn!(
                ahead_s = ms / 1000,
                doubted_for_s = DOUBT_MS / 1000,
                "the clock is ahead of the newest time known; nothing is removed for its age until this has lasted"
            ),
            ClockNews::Back(ms) => tracing::warn!(
                behind_s = ms / 1000,
                "the clock has gone back; timestamps of a topic stand still until it has caught up, and ages are counted on"
            ),
            ClockNews::Settled => {
                tracing::info!("the clock is believed again");
                // A batch tells it to everybody who applies it. A closed inbox means the broker stops; the next start tells the date.
                let _ = self.inbox.push(Command::TellDate);
            }
        }
    }

    /// Nothing of a topic kept in memory can have been taken in later than today, unless a jump ahead is doubted. For the others the state
    /// goes by the dates of batches.
    pub(crate) fn settle_dates(&self, dates: Dates) {
        if !dates.is_in_doubt() {
            self.dedup.lower_to(dates.today_ms);
            self.memory_ages.lock().lower_to(dates.today_ms);
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// What to answer when the inbox takes nothing, or an answer never comes: why that is.
    pub(crate) fn closed(&self) -> Unavailable {
        match &*self.health.borrow() {
            Health::Failed { reason } => Unavailable::Poisoned { reason: reason.clone() },
            _ if self.is_stopping() => Unavailable::ShuttingDown,
            _ => Unavailable::RequestFailed,
        }
    }

    /// Sets the health, which never recovers from a failure; true when it changed.
    pub(crate) fn set_health(&self, health: Health) -> bool {
        self.health.send_if_modified(|now| {
            let changed = *now != health && !matches!(now, Health::Failed { .. });
            if changed {
                *now = health;
            }
            changed
        })
    }

    pub(crate) fn counters(&self) -> Counters {
        let log = *self.log_counts.lock();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (topics, schedule) = {
            let topics = self.topics.read();
            (topics.len(), topics.get(&TopicName::schedule()).map(|schedule| schedule.log.next()))
        };
        Counters {
            published_messages: count(&self.live_counters.published_messages),
            published_bytes: count(&self.live_counters.published_bytes),
            publish_refused: count(&self.live_counters.publish_refused),
            delivered_messages: count(&self.live_counters.delivered_messages),
            delivered_bytes: count(&self.live_counters.delivered_bytes),
            retention_unsettled_messages: count(&self.live_counters.retention_unsettled_messages),
            commits: log.blocks,
            committed_bytes: log.block_bytes,
            syncs: log.syncs,
            sync_micros_total: count(&self.live_counters.sync_micros_total),
            topics: (topics - usize::from(schedule.is_some())) as u64,
            scheduled_messages: schedule.map_or(0, |next| {
                let over = self.subscriptions.schedule().done + count(&self.live_counters.scheduled_void);
                next.saturating_sub(over)
            }),
            dedup_ids: self.dedup.count() as u64,
            subscriptions: count(&self.live_counters.subscriptions),
            tail_bytes: log.tail_bytes,
            unflushed_bytes: log.unflushed_bytes,
            journal_bytes: log.journal_bytes,
            checkpoints: log.checkpoints,
            checkpoint_pause_micros: log.checkpoint_pause_micros,
            topic_restarts: count(&self.live_counters.topic_restarts),
            torn_bytes_cut: self.torn_bytes_cut,
            inbox_bytes: self.inbox.bytes(),
            scanned_bytes: count(&self.live_counters.scanned_bytes),
        }
    }
}

/// Held by a thread that others wait for: should it end by a fault of ours, outside of any topic's owner, then nobody
/// waits for ever.
pub(crate) struct PanicGuard {
    core: Arc<Core>,
    thread: &'static str,
}

impl PanicGuard {
    pub(crate) fn new(core: Arc<Core>, thread: &'static str) -> PanicGuard {
        PanicGuard { core, thread }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason =
                format!("the {} failed; restart the broker: what was acknowledged is on disk", self.thread);
            self.core.set_health(Health::Failed { reason });
            self.core.inbox.abandon();
            self.core.dispatcher.abandon();
        }
    }
}

//! [`Broker`]: the whole broker, in process.
//!
//! ```text
//!   publish ──check, encode──▶ inbox ──▶ sequencer ──▶ journal      (one thread)
//!   subscribe ──cursor──▶ topic's log ◀── tail ──┘ │
//!                                                   └▶ flusher: segments, checkpoints, retention   (one thread)
//! ```
//!
//! Checking and encoding happen where the caller runs, so that the one sequencer only places and writes. The
//! gRPC server is a thin layer on exactly this interface.

mod config;

use ratatoskr_state::{TopicName, TopicSettings};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use ratatoskr_log::{
    Clock, Disk, DiskLock, DiskSpace, Flusher, Log, Opened, RealClock, RealDisk, RecoveryReport, TopicLog,
};
use tokio::sync::{broadcast, oneshot, watch};

use crate::broken::Broken;
use crate::command::Command;
use crate::core::{Core, Counters, Health, LiveCounters, PanicGuard};
use crate::dedup::Dedup;
use crate::durable::{Dispatcher, Request, ScanSlots, Scanner, SubscriptionStates};
use crate::error::{
    CreateTopicError, DeleteTopicError, OpenError, PurgeTopicError, ShutdownError, SubscribeError,
    Unavailable, UpdateTopicError,
};
use crate::fullness::Fullness;
use crate::id::IdMask;
use crate::inbox::Inbox;
use crate::memory::Shares;
use crate::postbox::Postboxes;
use crate::retention_clock::RetentionClock;
use crate::sequencer::Sequencer;
use crate::subscription::{SubscribeOptions, Subscription};
use crate::topic::{Topic, TopicDescription, TopicStats};
use ratatoskr_state::State;
use ratatoskr_state::limits::EXPIRED_UNSEEN_MAX;

pub use config::BrokerConfig;
pub(crate) use config::log_options;

/// How often retention looks at the topics, and a full disk is looked at again.
const SWEEP: Duration = Duration::from_secs(1);
/// Longer than two looks are apart unless the process stood still; for [`Broken::Stall`].
const STALL: Duration = Duration::from_millis(1_300);

/// A running broker; cheap to clone. When the last clone goes it stops as [`Broker::shutdown`] does.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("ratatoskr-broker-doc-{}", std::process::id()));
/// use ratatoskr_broker::{Broker, BrokerConfig, NewMessage, Start, SubscribeOptions, TopicName};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let broker = Broker::open(BrokerConfig::new(&folder))?;
/// let orders = TopicName::parse("orders")?;
/// let receipt = broker.publish(&orders, NewMessage::new("one coffee")).await?;
/// assert_eq!(receipt.offset, 0); // and it is on disk
///
/// let from_start = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
/// let mut subscription = broker.subscribe(&orders, from_start)?;
/// let message = subscription.next().await?;
/// assert_eq!(message.payload(), "one coffee");
/// assert_eq!(message.id, receipt.id);
/// # drop(subscription); broker.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
    scanner: Scanner,
}

struct Inner {
    core: Arc<Core>,
    recovery: RecoveryReport,
    /// Taken by whoever stops the broker.
    running: Mutex<Option<Running>>,
}

struct Running {
    dispatcher: JoinHandle<()>,
    sequencer: JoinHandle<Log>,
    flusher: JoinHandle<Flusher>,
    flusher_stop: Arc<AtomicBool>,
    /// Given up last, when nothing is written any more.
    _lock: Box<dyn DiskLock>,
}

impl Broker {
    /// Opens a data directory, recovers what is there, and starts. Blocks meanwhile.
    #[expect(clippy::needless_pass_by_value, reason = "the caller is done with its configuration")]
    pub fn open(config: BrokerConfig) -> Result<Broker, OpenError> {
        Broker::open_on(&config, Arc::new(RealDisk), Arc::new(RealClock))
    }

    /// [`Broker::open`] on another disk or clock, such as simulated ones.
    pub fn open_on(
        config: &BrokerConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Broker, OpenError> {
        config.validate()?;
        let topic_defaults = config.topic_defaults.clone().validate()?;
        let shares = Shares::of(config.memory);
        let state: Arc<RwLock<State>> = Arc::default();
        let is_open = Arc::new(AtomicBool::new(false));
        let mut opened = ratatoskr_log::open_with(
            crate::broken::disk(disk),
            clock.clone(),
            log_options(config),
            crate::broken::state(&state, &is_open),
        )?;
        is_open.store(true, Ordering::Relaxed);
        for damage in &opened.report.damage {
            tracing::error!(%damage, "a segment is damaged");
        }
        let retention_clock = RetentionClock::new(state.read().today_ms(), clock.moment());
        let core = Arc::new(Core {
            topics: RwLock::default(),
            topic_names: RwLock::default(),
            topics_version: AtomicU64::new(0),
            topics_by_number: RwLock::default(),
            inbox: Inbox::new(shares.inbox),
            postboxes: Postboxes::default(),
            dispatcher: Inbox::new(shares.inbox),
            schedule_number: AtomicU32::new(0),
            subscriptions: Arc::new(SubscriptionStates::new(state.clone())),
            expired_subscriptions: broadcast::Sender::new(EXPIRED_UNSEEN_MAX),
            dedup: Dedup::new(state.clone(), shares.dedup_ids),
            state,
            health: watch::Sender::new(Health::Serving),
            live_counters: LiveCounters::default(),
            saving: tokio::sync::Mutex::default(),
            scans: ScanSlots::default(),
            log_counts: Mutex::new(opened.log.counts()),
            stopping: AtomicBool::new(false),
            id_mask: IdMask::new(opened.log.id_mask()),
            memory_ages: Mutex::default(),
            retention_clock: Mutex::new(retention_clock),
            clock,
            topic_defaults,
            shares,
            torn_bytes_cut: opened.report.torn_bytes,
        });
        add_topics(&core, opened.topics.drain(..), &config.data_dir)?;
        if let Some(reason) = &opened.report.full {
            tracing::warn!(%reason, "the disk is full: the journal goes on in its last file; reads, acks, purges and deletions are served");
            core.set_health(Health::DiskFull { free_hint: reason.clone() });
            let _ = core.inbox.push(Command::Check);
        }
        opened.log.set_date(core.dates().of_block());
        opened.log.tell_date()?;
        let recovery = opened.report.clone();
        let running = start(&core, opened, config.data_dir.clone());
        let inner = Inner { core, recovery, running: Mutex::new(Some(running)) };
        Ok(Broker { inner: Arc::new(inner), scanner: None })
    }

    /// What opening found and did.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// Creates a topic. Returns once it is on disk.
    pub async fn create_topic(
        &self,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<TopicDescription, CreateTopicError> {
        let settings = settings.validate()?;
        let name = name.clone();
        let created = self.ask(|reply| Command::Create { name, settings, reply }).await??;
        Ok(created.describe())
    }

    /// Changes a topic's settings; its durability cannot change. Returns once the change is on disk.
    pub async fn update_topic(
        &self,
        name: &TopicName,
        settings: TopicSettings,
    ) -> Result<TopicDescription, UpdateTopicError> {
        self.change_topic(name, |_| settings).await
    }

    /// Changes a topic's settings, given what they are at that moment: changes of several callers do not undo each other.
    pub async fn change_topic(
        &self,
        name: &TopicName,
        change: impl FnOnce(&TopicSettings) -> TopicSettings + Send + 'static,
    ) -> Result<TopicDescription, UpdateTopicError> {
        let (name, change) = (name.clone(), Box::new(change));
        let updated = self.ask(|reply| Command::Update { name, change, reply }).await??;
        Ok(updated.describe())
    }

    /// Deletes a topic with all its messages and ends its subscriptions. Returns once this is on disk.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), DeleteTopicError> {
        let name = name.clone();
        self.ask(|reply| Command::Delete { name, reply }).await?
    }

    /// Removes a topic's messages before an offset, or all there are. Returns how many, once this is on disk.
    pub async fn purge_topic(&self, name: &TopicName, before: Option<u64>) -> Result<u64, PurgeTopicError> {
        let name = name.clone();
        self.ask(|reply| Command::Purge { name, before, reply }).await?
    }

    /// The names of all topics, sorted.
    pub fn list_topics(&self) -> Vec<TopicName> {
        self.inner.core.topic_names.read().iter().cloned().collect()
    }

    /// How many topics there are whose names begin with `prefix`, less those that `is_counted` leaves out. Takes as long as there are such topics.
    pub fn count_topics(&self, prefix: &str, is_counted: impl Fn(&TopicName) -> bool) -> usize {
        let names = self.inner.core.topic_names.read();
        let range = names.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        range.take_while(|name| name.as_str().starts_with(prefix)).filter(|name| is_counted(name)).count()
    }

    /// A number that changes whenever a topic is made or deleted.
    pub fn topics_version(&self) -> u64 {
        self.inner.core.topics_version.load(Ordering::Acquire)
    }

    /// True when there is such a topic.
    pub fn topic_exists(&self, name: &TopicName) -> bool {
        self.inner.core.topics.read().contains_key(name)
    }

    /// A topic's settings and extent; `None` when there is no such topic.
    pub fn describe_topic(&self, name: &TopicName) -> Option<TopicDescription> {
        self.inner.core.topic(name).map(|topic| topic.describe())
    }

    /// A topic's figures; `None` when there is no such topic.
    pub fn stats(&self, name: &TopicName) -> Option<TopicStats> {
        self.inner.core.topic(name).map(|topic| topic.stats())
    }

    /// Adds up the bytes that topics hold, by the group each is in, of so many groups. Takes as long as there are topics.
    pub fn topic_bytes(&self, groups: usize, group_of: impl Fn(&TopicName) -> Option<usize>) -> Vec<u64> {
        let topics: Vec<_> = self.inner.core.topics.read().values().cloned().collect();
        let mut bytes = vec![0; groups];
        for topic in topics {
            if let Some(group) = group_of(&topic.name).filter(|_| !topic.name.is_schedule()) {
                bytes[group] += topic.log.extent().bytes;
            }
        }
        bytes
    }

    /// The same broker, for one of those who use it. What looks through logs (peeks, lists of dead letters, subscribers with a filter that find
    /// nothing) takes turns by who asked for it, however much of that each has; by itself a broker takes all of it for one's.
    #[must_use]
    pub fn scanning_as(&self, who: impl Into<Arc<str>>) -> Broker {
        Broker { inner: self.inner.clone(), scanner: Some(who.into()) }
    }

    pub(crate) fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    /// Follows a topic. Reading from disk needs a tokio runtime around the subscription.
    pub fn subscribe(
        &self,
        topic: &TopicName,
        options: SubscribeOptions,
    ) -> Result<Subscription, SubscribeError> {
        let core = &self.inner.core;
        let Some(found) = core.topic(topic) else {
            return Err(SubscribeError::NotFound { name: topic.clone() });
        };
        if core.is_stopping() {
            return Err(core.closed().into());
        }
        let subscription = Subscription::open(core.clone(), found, options)?;
        Ok(subscription.scanned_by(self.scanner.clone()))
    }

    /// Ends a subscription by its reference; false when there is none.
    pub fn unsubscribe(&self, topic: &TopicName, reference: &str) -> bool {
        self.inner.core.topic(topic).is_some_and(|topic| topic.end_subscriber(reference))
    }

    /// Lets a subscription have so many messages more; false when there is none.
    pub fn add_credit(&self, topic: &TopicName, reference: &str, messages: u64) -> bool {
        self.inner.core.topic(topic).is_some_and(|topic| topic.add_credit(reference, messages))
    }

    /// Figures of the whole broker.
    pub fn counters(&self) -> Counters {
        self.inner.core.counters()
    }

    /// Whether the broker can do its work.
    pub fn health(&self) -> Health {
        self.inner.core.health.borrow().clone()
    }

    /// Follows the broker's health.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.inner.core.health.subscribe()
    }

    /// Stops: ends subscriptions, commits what was handed in, leaves a checkpoint so that the next start has
    /// nothing to replay. Blocks meanwhile. A second call does nothing.
    pub fn shutdown(&self) -> Result<(), ShutdownError> {
        self.inner.stop()
    }

    /// Makes the next append to a topic fail half-way inside the topic's owner. For tests of isolation.
    #[doc(hidden)]
    pub fn crash_topic(&self, name: &TopicName) {
        let _ = self.inner.core.inbox.push(Command::Crash { name: name.clone() });
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.core.now_ms()
    }

    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Unavailable> {
        let core = &self.inner.core;
        let (reply, answer) = oneshot::channel();
        core.inbox.push(command(reply)).map_err(|_| core.closed())?;
        answer.await.map_err(|_| core.closed())
    }
}

impl Inner {
    fn stop(&self) -> Result<(), ShutdownError> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        self.core.stopping.store(true, Ordering::Release);
        self.core.topics.read().values().for_each(|topic| topic.changed.notify_waiters());
        // The dispatcher waits for what it has under way, so it goes first.
        let _ = self.core.dispatcher.push(Request::Stop);
        let dispatcher = running.dispatcher.join();
        self.core.inbox.close();
        let log = running.sequencer.join();
        running.flusher_stop.store(true, Ordering::Release);
        let failed = |thread| ShutdownError::ThreadFailed { thread };
        let mut log = match log {
            Err(_) if Broken::Thread.is_on() => return Ok(()),
            log => log.map_err(|_| failed("sequencer"))?,
        };
        log.stop_flusher();
        let mut flusher = running.flusher.join().map_err(|_| failed("flusher"))?;
        dispatcher.map_err(|_| failed("dispatcher"))?;
        if matches!(&*self.core.health.borrow(), Health::Failed { .. }) || Broken::Drain.is_on() {
            return Ok(());
        }
        log.set_date(self.core.dates().of_block());
        Ok(log.close(&mut flusher)?)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the broker did not stop cleanly; the next start replays the journal");
        }
    }
}

/// Takes in the topics that recovery has found.
fn add_topics(
    core: &Core,
    logs: impl Iterator<Item = Arc<TopicLog>>,
    data_dir: &Path,
) -> Result<(), OpenError> {
    for log in logs {
        let invalid = |_| OpenError::Name { path: data_dir.to_owned(), name: log.name.clone() };
        let name = TopicName::parse_stored(&log.name).map_err(invalid)?;
        let settings = TopicSettings::decode(&log.settings()).expect("recovery has read these settings");
        core.add_topic(Arc::new(Topic::new(name, log, settings)));
    }
    Ok(())
}

fn start(core: &Arc<Core>, opened: Opened, data_dir: PathBuf) -> Running {
    let Opened { log, mut flusher, start, lock, .. } = opened;
    let dispatcher = Dispatcher::new(core.clone(), start);
    let sequencer = Sequencer::new(core.clone(), log);
    let sequencer = spawn("sequencer", move || sequencer.run());
    let dispatcher = spawn("dispatcher", move || dispatcher.run());
    let flusher_stop = Arc::new(AtomicBool::new(false));
    let (stop, core) = (flusher_stop.clone(), core.clone());
    let mut swept_ms = core.clock.steady_ms();
    let mut fullness = Fullness::default();
    let flusher = spawn("flusher", move || {
        let _panic_guard = PanicGuard::new(core.clone(), "flusher");
        while !stop.load(Ordering::Acquire) {
            flusher.wait(SWEEP);
            if let Err(error) = flusher.run_pending() {
                tracing::error!(%error, "segments cannot be written");
                let _ = core.inbox.push(Command::Check);
                break;
            }
            let now_ms = core.clock.steady_ms();
            assert!(
                !Broken::Stall.is_on() || now_ms < swept_ms + STALL.as_millis() as u64,
                "this fault was asked for"
            );
            if now_ms.saturating_sub(swept_ms) >= SWEEP.as_millis() as u64 {
                swept_ms = now_ms;
                crate::retention::sweep(&core);
                // A simulated disk has no such folder.
                if let Some(percent) = DiskSpace::of(&data_dir).ok().and_then(|space| fullness.look(space)) {
                    tracing::warn!(
                        percent,
                        path = %data_dir.display(),
                        "the file system fills up; once it is full, publishing waits: free space, purge or delete topics, or shorten retention"
                    );
                }
                if core.health.borrow().is_held_up() {
                    let _ = core.inbox.push(Command::Check);
                }
            }
        }
        flusher
    });
    Running { dispatcher, sequencer, flusher, flusher_stop, _lock: lock }
}

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).expect("the system can start three threads")
}

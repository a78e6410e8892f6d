//! The dispatcher: one thread that owns every durable subscription at work.
//!
//! ```text
//!   members, broker ──requests──▶ dispatcher ──changes (one ticket)──▶ sequencer ──▶ journal
//!          ▲                        │ ▲                                │
//!          └── deliveries, fates ──────┘ └───── committed, refused ──────┘
//! ```
//!
//! Requests are worked off as they came; then each subscription touched has its turn (time passes, messages are fed), and what
//! all of them want written goes to the sequencer as one command under one ticket. Fates are told when the ticket comes
//! back. A panic in one subscription's logic reaches no other: its active subscription starts anew from its state. See ADR 0007.

mod journal;
mod requests;
mod scheduled;

use ratatoskr_state::{Change, SubscriptionName, SubscriptionRef, SubscriptionState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ratatoskr_log::Moment;
use uuid::Uuid;

use super::active::{ActiveSubscription, ColdRead, Review};
use super::event::{Event, MemberId};
use super::in_flight::{InFlight, OnCommit};
use super::member::MemberEnd;
use super::request::{DoneReply, Request};
use super::trace::Memory;
use crate::core::{Core, LiveCounters, PanicGuard};
use crate::topic::Topic;
use ratatoskr_state::limits::{READ_BYTES_MAX, UNSETTLED_BYTES_MIN};
use scheduled::Scheduling;

/// How often subscriptions that nobody touches are looked at.
const SWEEP_MS: u64 = 1000;
/// How long subscriptions have their turns before requests are looked at again.
const TURNS_AT_ONCE: Duration = Duration::from_millis(2);
/// How long stopping waits for the journal.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Work for the thread that may wait for the disk.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// See the file's head.
pub(crate) struct Dispatcher {
    pub(super) core: Arc<Core>,
    /// Names this start of the broker in tokens.
    start: u32,
    pub(super) active_subscriptions: HashMap<u32, Box<ActiveSubscription>>,
    /// The same ones by topic: the topic's number, the subscription's.
    by_topic: BTreeSet<(u32, u32)>,
    /// Members by what ends them: their subscriptions, and what they are called there.
    references: HashMap<Uuid, (u32, MemberId)>,
    /// Subscriptions to have their turn.
    touched: BTreeSet<u32>,
    /// Whose turn it was last: the next one's is behind it.
    last_turn: u32,
    /// Subscriptions that have something for the journal.
    urgent: BTreeSet<u32>,
    /// When subscriptions are to have their turn though nothing happens to them, steady time.
    due: BTreeSet<(u64, u32)>,
    due_at: HashMap<u32, u64>,
    pub(super) in_flight: InFlight,
    last_number: u32,
    memory: Memory,
    /// Once there is one.
    scheduling: Option<Scheduling>,
    /// Being created: topic number and name, and who else wanted to create it meanwhile.
    creating: BTreeMap<(u32, SubscriptionName), Vec<DoneReply>>,
    reader: mpsc::Sender<Job>,
    /// Bytes by which each subscription may grow until the next sweep.
    growth_max: u64,
    /// Steady time.
    swept_ms: u64,
    stopping_since: Option<Instant>,
}

impl Dispatcher {
    pub(crate) fn new(core: Arc<Core>, start: u64) -> Dispatcher {
        let (reader, jobs) = mpsc::channel::<Job>();
        // A read that panics must not take the thread along, for the reads of all others come here, too.
        let run = move || {
            for job in jobs {
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("reading for a subscription failed");
                }
            }
        };
        std::thread::Builder::new()
            .name("dispatch-reader".to_owned())
            .spawn(run)
            .expect("the system can start a thread");
        let last_number = core.subscriptions.last_number();
        Dispatcher {
            swept_ms: core.moment().steady_ms,
            growth_max: core.shares.unsettled,
            core,
            start: start as u32,
            active_subscriptions: HashMap::new(),
            by_topic: BTreeSet::new(),
            references: HashMap::new(),
            touched: BTreeSet::new(),
            last_turn: 0,
            urgent: BTreeSet::new(),
            due: BTreeSet::new(),
            due_at: HashMap::new(),
            in_flight: InFlight::default(),
            last_number,
            memory: Memory::default(),
            scheduling: None,
            creating: BTreeMap::new(),
            reader,
            stopping_since: None,
        }
    }

    /// Works until told to stop, and until the journal has answered.
    pub(crate) fn run(mut self) {
        let _panic_guard = PanicGuard::new(self.core.clone(), "dispatcher");
        let topics: HashMap<u32, Arc<Topic>> =
            self.core.topics.read().values().map(|topic| (topic.log.number, topic.clone())).collect();
        for (number, topic, _) in self.core.subscriptions.list() {
            if let Some(topic) = topics.get(&topic) {
                self.open_active(number, topic);
            }
        }
        self.open_schedule();
        let mut requests = Vec::new();
        while self.core.dispatcher.take(&mut requests, self.patience()).is_ok() {
            let now = self.core.moment();
            for request in requests.drain(..) {
                // What is not an active subscription's own logic is not expected to panic; should it, only this request is lost.
                if catch_unwind(AssertUnwindSafe(|| self.handle(request, now))).is_err() {
                    tracing::error!("a request about subscriptions failed");
                    self.schedule_failed();
                }
            }
            self.sweep(now);
            self.take_turns(now);
            self.schedule_turn(now);
            self.send_batch(false);
            if self
                .stopping_since
                .is_some_and(|since| self.in_flight.is_empty() || since.elapsed() > STOP_PATIENCE)
            {
                break;
            }
        }
        self.core.dispatcher.abandon();
    }

    fn patience(&self) -> Duration {
        if !self.touched.is_empty() {
            return Duration::ZERO;
        }
        let now = self.core.moment();
        let active_subscriptions_ms = self.due.first().map(|&(at_ms, _)| at_ms.saturating_sub(now.steady_ms));
        let scheduling = self.scheduling.as_ref().filter(|_| self.stopping_since.is_none());
        let schedule_ms = scheduling.and_then(|scheduling| scheduling.patience_ms(now));
        // No longer than a sweep: a jump of the wall clock wakes nobody.
        Duration::from_millis(active_subscriptions_ms.into_iter().chain(schedule_ms).fold(SWEEP_MS, u64::min))
    }

    fn open_active(&mut self, number: u32, topic: &Arc<Topic>) {
        let (start, now) = (self.start, self.core.moment());
        let open =
            |state: &SubscriptionState| Box::new(ActiveSubscription::open(state, topic.clone(), start, now));
        let active = self.core.subscriptions.with(number, open);
        if let Some(mut active) = active {
            // Half of what is left: others may be opened before the next sweep.
            self.growth_max /= 2;
            active.delivery.allow(self.growth_max.max(UNSETTLED_BYTES_MIN));
            topic.note_durable(1);
            // Whoever was told before looks no more.
            topic.growth_is_seen();
            self.by_topic.insert((topic.log.number, number));
            self.active_subscriptions.insert(number, active);
            self.touched.insert(number);
            self.core.subscriptions.open(number);
        }
    }

    fn close_active(&mut self, number: u32, end: MemberEnd) {
        if let Some(mut active) = self.active_subscriptions.remove(&number) {
            active.topic.note_durable(-1);
            self.by_topic.remove(&(active.topic.log.number, number));
            for (member_queue, _) in active.member_queues.values() {
                self.references.remove(&member_queue.reference);
            }
            active.end(end);
            self.tell_stale(active.take_waiters());
        }
        if let Some(at_ms) = self.due_at.remove(&number) {
            self.due.remove(&(at_ms, number));
        }
    }

    /// Numbers of the subscriptions of a topic, ascending.
    fn numbers_of(&self, topic: u32) -> impl Iterator<Item = u32> {
        self.by_topic.range((topic, 0)..=(topic, u32::MAX)).map(|&(_, number)| number)
    }

    /// Subscriptions of a topic at work.
    fn active_subscriptions_of(&self, topic: u32) -> impl Iterator<Item = &ActiveSubscription> {
        self.numbers_of(topic)
            .filter_map(|number| self.active_subscriptions.get(&number))
            .map(|active| &**active)
    }

    /// Lets an active subscription do something, and have its turn then. Behind a wall: if it panics, it starts anew from its state.
    pub(super) fn guarded<T>(
        &mut self,
        number: u32,
        now: Moment,
        act: impl FnOnce(&mut ActiveSubscription) -> T,
    ) -> Option<T> {
        self.touched.insert(number);
        self.catching_panics(number, now, act)
    }

    fn catching_panics<T>(
        &mut self,
        number: u32,
        now: Moment,
        act: impl FnOnce(&mut ActiveSubscription) -> T,
    ) -> Option<T> {
        let active = self.active_subscriptions.get_mut(&number)?;
        let done = catch_unwind(AssertUnwindSafe(|| act(active)));
        if done.is_err() {
            LiveCounters::add(&self.core.live_counters.topic_restarts, 1);
            tracing::error!(subscription = %active.name, "a subscription failed and starts anew from the journal's state");
            self.break_active(number, now);
            return None;
        }
        if active.awaits_restart() {
            self.restart(number, now);
        } else if active.has_batch() {
            self.urgent.insert(number);
        }
        done.ok()
    }

    /// Has an active subscription start anew as soon as the journal has, or has refused, what it was given.
    fn break_active(&mut self, number: u32, now: Moment) {
        let Some(active) = self.active_subscriptions.get_mut(&number) else { return };
        active.note_panic();
        if active.awaits_restart() {
            self.restart(number, now);
        }
    }

    // ---- turns ----

    /// Looks after what nobody asks for: subscriptions that nobody uses, and settlements that could wait.
    fn sweep(&mut self, now: Moment) {
        if now.steady_ms.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now.steady_ms;
        self.share_memory();
        let mut unused = Vec::new();
        for active in self.active_subscriptions.values_mut() {
            if active.topic.log.is_in_memory() {
                // It removes the oldest messages by itself, with each one it takes.
                active.must_look_for_removed();
                self.touched.insert(active.number);
            }
            if active.member_queues.is_empty() {
                active.give_back_room();
            }
            if !active.member_queues.is_empty() {
                active.used_ms = now.steady_ms;
                self.touched.insert(active.number);
            } else if active.delivery.census().leased > 0 {
                // Somebody works on what a member fetched before it left.
                active.used_ms = now.steady_ms;
            } else if active
                .settings
                .expiry_ms
                .is_some_and(|expiry| active.used_ms.saturating_add(expiry) < now.steady_ms)
            {
                // Not asked for again while this is on its way.
                active.used_ms = now.steady_ms;
                unused.push(active.number);
            }
        }
        for number in unused {
            let deleted = vec![Change::Deleted { number }];
            self.send(deleted, Vec::new(), Vec::new(), OnCommit::Expire(number));
        }
        self.send_batch(true);
    }

    /// A subscription that nobody used is gone: said in the log, and to whoever watches.
    fn expired(&mut self, number: u32) {
        let Some(active) = self.active_subscriptions.get(&number) else { return };
        let (name, expiry_ms) = (active.name.clone(), active.settings.expiry_ms);
        tracing::info!(topic = %name.topic, subscription = %name.name, expiry_ms, "a subscription was deleted: nobody used it for as long as its expiry says");
        self.close_active(number, MemberEnd::SubscriptionDeleted);
        // An error means that nobody watches.
        let _ = self.core.expired_subscriptions.send(name);
    }

    /// Gives each subscription that is worked through an equal part of what is left; it keeps what it has.
    fn share_memory(&mut self) {
        let held: u64 = self.active_subscriptions.values().map(|active| active.delivery.memory()).sum();
        let at_work =
            self.active_subscriptions.values().filter(|active| !active.member_queues.is_empty()).count()
                as u64;
        self.growth_max = self.core.shares.unsettled.saturating_sub(held) / at_work.max(1);
        for active in self.active_subscriptions.values_mut() {
            let memory_max = active.delivery.memory() + self.growth_max;
            active.delivery.allow(memory_max.max(UNSETTLED_BYTES_MIN));
        }
    }

    fn take_turns(&mut self, now: Moment) {
        while let Some(&(at_ms, number)) = self.due.first() {
            if at_ms > now.steady_ms {
                break;
            }
            self.due.pop_first();
            self.due_at.remove(&number);
            self.touched.insert(number);
        }
        let started = Instant::now();
        let mut waiting = std::mem::take(&mut self.touched);
        // SettlementBatch robin, and not too long at a time: requests wait, acks among them.
        let behind = waiting.split_off(&(self.last_turn.saturating_add(1)));
        let mut round_robin = behind.into_iter().chain(waiting);
        for number in round_robin.by_ref() {
            self.last_turn = number;
            self.take_turn(number, now);
            if started.elapsed() > TURNS_AT_ONCE {
                break;
            }
        }
        self.touched.extend(round_robin);
    }

    fn take_turn(&mut self, number: u32, now: Moment) {
        let turn = self.catching_panics(number, now, |active| {
            active.apply(Event::Tick, now);
            let removed = active.take_removed(now);
            let (cold, more) = active.feed(now);
            active.wake();
            (cold, more, active.take_dead_letterings(), (active.take_review(), removed))
        });
        let Some((cold, more, dead_letterings, (review, removed))) = turn else { return };
        self.note_removed(number, removed);
        if let Some(read) = cold {
            self.read_cold(number, read);
        }
        if let Some(review) = review {
            self.review(review);
        }
        if let Some(active) = self.active_subscriptions.get_mut(&number) {
            self.memory.take_in(active.topic.log.number, &mut active.passages);
        }
        self.dead_letter(number, dead_letterings);
        if more {
            self.touched.insert(number);
        }
        let due_ms = self.active_subscriptions.get(&number).and_then(|active| active.delivery.next_due_ms());
        self.schedule(number, due_ms);
    }

    /// Says that retention was faster than a subscription: nobody else would.
    fn note_removed(&self, number: u32, messages: u64) {
        let Some(active) = self.active_subscriptions.get(&number).filter(|_| messages > 0) else { return };
        let SubscriptionRef { topic, name } = &active.name;
        tracing::warn!(%topic, subscription = %name, messages, "retention removed messages before the subscription had settled them");
        LiveCounters::add(&self.core.live_counters.retention_unsettled_messages, messages);
    }

    fn schedule(&mut self, number: u32, due_ms: Option<u64>) {
        if let Some(at_ms) = self.due_at.remove(&number) {
            self.due.remove(&(at_ms, number));
        }
        if let Some(at_ms) = due_ms {
            self.due_at.insert(number, at_ms);
            self.due.insert((at_ms, number));
        }
    }

    fn read_cold(&self, subscription: u32, read: ColdRead) {
        let (core, generation) = (self.core.clone(), self.active_subscriptions[&subscription].generation);
        self.read(Box::new(move || {
            let ColdRead { topic, cursor, mut segments } = read;
            let result = topic.log.read_segments(cursor, &mut segments, READ_BYTES_MAX);
            let _ =
                core.dispatcher.push(Request::Read { subscription, generation, read: (result, segments) });
        }));
    }

    /// Some of what was read under an earlier filter is matched against the new one.
    fn review(&self, mut review: Review) {
        let (core, generation) =
            (self.core.clone(), self.active_subscriptions[&review.subscription].generation);
        self.read(Box::new(move || {
            review.step();
            let _ = core.dispatcher.push(Request::Reviewed { generation, review });
        }));
    }

    pub(super) fn read(&self, job: Job) {
        // The thread lives as long as the dispatcher.
        let _ = self.reader.send(job);
    }
}

//! The power is cut while durable subscriptions, dead letters, atomic steps, dedup ids and scheduled messages are at work.
//!
//! ```text
//!   life: publish · consume · ack, nack, reject · settle and publish · schedule ── power cut at a random operation of the disk
//!     └── crash(seed) ── next life ── … ── last life: everything is worked off, and judged
//! ```
//!
//! What was confirmed must hold, what was not may have happened, but wholly or not at all. The broker's threads make the order of things
//! vary; what is judged does not depend on it. A failing seed is printed; `RATATOSKR_SIM_SEED=n` plays it again.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use ratatoskr_broker::{
    Broker, BrokerConfig, DEAD_OFFSET, Delivered, Delivery, Fate, JoinOptions, Member, Message, NewMessage,
    Outcome, Start, SubscribeOptions, SubscriptionName, SubscriptionRef, SubscriptionSettings, TopicName,
    TopicSettings, Window,
};
use ratatoskr_sim::{SimClock, SimDisk, Survival};

/// Seeds played unless `RATATOSKR_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 40;
/// Lives a seed has before the last one.
const LIVES: usize = 3;
/// Steps of one life, if the power lasts.
const STEPS: usize = 60;
/// Operations of the disk before the power goes, at most. Filling the first journal file takes 640.
const OPERATIONS: u64 = 1_500;
/// Scheduled messages are due within this time, milliseconds.
const DELAY_MS: u64 = 10_000;
/// Seeds played beside each other: a story waits most of its time.
const PLAYERS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn subscription() -> SubscriptionRef {
    SubscriptionRef { topic: topic("in"), name: SubscriptionName::parse("work").unwrap() }
}

fn settings() -> SubscriptionSettings {
    SubscriptionSettings { retry_delay_ms: 1, attempts_max: 4, ..SubscriptionSettings::default() }
}

/// What was asked for, and what was confirmed.
#[derive(Default)]
struct Promises {
    serial: u64,
    /// Payloads published to `in`, by dedup id, and the offset if it was confirmed.
    published: BTreeMap<String, Option<u64>>,
    /// Payloads scheduled for `later`, and whether that was confirmed.
    scheduled: BTreeMap<String, bool>,
    /// Offsets of `in` whose ack was confirmed.
    acked: BTreeSet<u64>,
    /// Offsets of `in` whose rejection was confirmed.
    rejected: BTreeSet<u64>,
    /// Offsets of `in` that a step was to ack while publishing to `out`, and whether it was confirmed.
    stepped: BTreeMap<u64, bool>,
}

struct Story {
    seed: u64,
    rng: Rng,
    disk: SimDisk,
    clock: SimClock,
    promises: Promises,
}

impl Story {
    fn open(&self) -> Option<Broker> {
        let config = BrokerConfig::new("/var/ratatoskr");
        match Broker::open_on(&config, Arc::new(self.disk.clone()), Arc::new(self.clock.clone())) {
            Ok(broker) => Some(broker),
            Err(error) => {
                assert!(self.disk.is_off(), "seed {}: the broker cannot be opened: {error}", self.seed);
                None
            }
        }
    }

    async fn live(&mut self) {
        self.disk.cut_power_after(self.disk.operations() + self.rng.u64(..OPERATIONS));
        let Some(broker) = self.open() else { return };
        let _ = broker.create_subscription(&subscription(), Start::Earliest, settings()).await;
        let mut member = join(&broker).await;
        for _ in 0..STEPS {
            if self.disk.is_off() {
                break;
            }
            match self.rng.u32(..10) {
                0..3 => self.publish(&broker).await,
                3 => self.schedule(&broker).await,
                4 => {
                    self.clock.advance(self.rng.u64(..2_000));
                    // Whoever sleeps looks at the clock now.
                    let _ = broker.describe_subscription(&subscription()).await;
                }
                _ => {
                    if member.is_none() {
                        let _ =
                            broker.create_subscription(&subscription(), Start::Earliest, settings()).await;
                        member = join(&broker).await;
                    }
                    if let Some(member) = &mut member {
                        self.consume(&broker, member).await;
                    }
                }
            }
        }
    }

    async fn publish(&mut self, broker: &Broker) {
        let count = self.rng.usize(1..5);
        let mut batch = Vec::new();
        for _ in 0..count {
            self.promises.serial += 1;
            let id = format!("message {}", self.promises.serial);
            batch.push(NewMessage { dedup_id: id.clone(), ..NewMessage::new(id.clone()) });
            self.promises.published.insert(id, None);
        }
        let ids: Vec<String> = batch.iter().map(|message| message.dedup_id.clone()).collect();
        if let Ok(receipts) = broker.publish_batch(&topic("in"), batch).await {
            for (id, receipt) in ids.into_iter().zip(receipts) {
                assert!(!receipt.duplicate, "seed {}: {id} was never published before", self.seed);
                self.promises.published.insert(id, Some(receipt.offset));
            }
        }
    }

    async fn schedule(&mut self, broker: &Broker) {
        self.promises.serial += 1;
        let id = format!("scheduled {}", self.promises.serial);
        let delivery = Delivery::After(self.rng.u64(1..DELAY_MS));
        let message = NewMessage { delivery, ..NewMessage::new(id.clone()) };
        let confirmed = broker.publish(&topic("later"), message).await.is_ok();
        self.promises.scheduled.insert(id, confirmed);
    }

    async fn consume(&mut self, broker: &Broker, member: &mut Member) {
        let next = tokio::time::timeout(Duration::from_millis(20), member.next_batch()).await;
        let Ok(Ok(batch)) = next else { return };
        for delivered in batch {
            self.judge(&delivered);
            let offset = delivered.message.offset;
            let outcome = match self.rng.u32(..10) {
                0..5 => Outcome::Ack,
                5 => Outcome::Nack { delay_ms: Some(0), reason: "again".to_owned() },
                6 => Outcome::Reject { reason: "never".to_owned() },
                7 => Outcome::Release,
                _ => {
                    self.promises.stepped.insert(offset, false);
                    let output = vec![(topic("out"), NewMessage::new(offset.to_string()))];
                    let stepped = broker.settle_and_publish(vec![delivered.token], output).await.is_ok();
                    self.promises.stepped.insert(offset, stepped);
                    continue;
                }
            };
            let fates = broker.settle(vec![(delivered.token, outcome.clone())]).unwrap().await;
            match outcome {
                Outcome::Ack if fates == [Fate::Settled] => self.promises.acked.insert(offset),
                Outcome::Reject { .. } if fates == [Fate::Settled] => self.promises.rejected.insert(offset),
                _ => false,
            };
        }
    }

    /// Nothing that is confirmed to be done with comes again.
    fn judge(&self, delivered: &Delivered) {
        let (seed, offset) = (self.seed, delivered.message.offset);
        let promises = &self.promises;
        assert!(!promises.acked.contains(&offset), "seed {seed}: {offset} was acked and comes again");
        assert!(!promises.rejected.contains(&offset), "seed {seed}: {offset} was rejected and comes again");
        assert_ne!(
            promises.stepped.get(&offset),
            Some(&true),
            "seed {seed}: {offset} was settled in a step and comes again"
        );
    }

    /// The process ends, with the power or alone.
    fn end(&mut self) {
        let survival = match self.rng.u32(..6) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Seeded(self.rng.u64(..)),
        };
        self.disk = self.disk.crash(survival);
    }

    /// Works everything off, and looks whether all of it is there.
    async fn last_life(&mut self) {
        let seed = self.seed;
        let broker = self.open().expect("the power lasts");
        for (id, confirmed) in self.promises.published.clone() {
            let message = NewMessage { dedup_id: id.clone(), ..NewMessage::new(id.clone()) };
            let receipt = broker.publish(&topic("in"), message).await.unwrap();
            if let Some(offset) = confirmed {
                assert!(receipt.duplicate, "seed {seed}: {id} was confirmed, and is forgotten");
                assert_eq!(receipt.offset, offset, "seed {seed}: {id} stands elsewhere");
            }
        }
        self.clock.advance(DELAY_MS);
        let _ = broker.create_topic(&topic("in"), TopicSettings::default()).await;
        let _ = broker.create_subscription(&subscription(), Start::Earliest, settings()).await;
        let mut member = join(&broker).await.expect("the subscription is there");
        let mut delivered_last = BTreeSet::new();
        loop {
            let standing = broker.describe_subscription(&subscription()).await.unwrap();
            if standing.lag_messages == 0 {
                break;
            }
            let batch = tokio::time::timeout(PATIENCE, member.next_batch()).await;
            for delivered in batch.unwrap_or_else(|_| panic!("seed {seed}: stuck: {standing:?}")).unwrap() {
                self.judge(&delivered);
                delivered_last.insert(delivered.message.offset);
                let fates = broker.settle(vec![(delivered.token, Outcome::Ack)]).unwrap().await;
                assert_eq!(fates, [Fate::Settled]);
            }
        }
        self.judge_topics(&broker, &delivered_last).await;
        broker.shutdown().unwrap();
    }

    async fn judge_topics(&self, broker: &Broker, seen_last: &BTreeSet<u64>) {
        let seed = self.seed;
        let inputs = read(broker, "in").await;
        let texts: BTreeSet<String> = inputs.iter().map(text).collect();
        assert_eq!(texts.len(), inputs.len(), "seed {seed}: a message is there twice");
        assert!(texts.iter().eq(self.promises.published.keys()), "seed {seed}: not what was published");

        // Of a step, all or nothing.
        let outputs: Vec<u64> =
            read(broker, "out").await.iter().map(|message| text(message).parse().unwrap()).collect();
        let distinct: BTreeSet<u64> = outputs.iter().copied().collect();
        assert_eq!(distinct.len(), outputs.len(), "seed {seed}: a step happened twice");
        for (offset, confirmed) in &self.promises.stepped {
            assert!(!confirmed || distinct.contains(offset), "seed {seed}: the step for {offset} is gone");
        }
        assert!(distinct.is_disjoint(seen_last), "seed {seed}: a step published and did not ack");

        // A dead letter for each that is dead, and for no other.
        let letters = read(broker, "in.work.dlq").await;
        let origin = |message: &Message| {
            let fact =
                message.metadata().find(|(name, _)| *name == DEAD_OFFSET).map(|(_, value)| value.to_owned());
            fact.unwrap().parse::<u64>().unwrap()
        };
        let dead: BTreeSet<u64> = letters.iter().map(origin).collect();
        let standing = broker.describe_subscription(&subscription()).await.unwrap();
        assert_eq!(
            (dead.len(), letters.len()),
            (standing.dead as usize, standing.dead as usize),
            "seed {seed}"
        );
        assert!(self.promises.rejected.is_subset(&dead), "seed {seed}: a dead letter is missing");
        assert!(dead.is_disjoint(seen_last), "seed {seed}: dead and delivered");
        let settled = standing.acked + standing.dead + standing.passed + standing.expired;
        assert_eq!(settled, inputs.len() as u64, "seed {seed}: {standing:?}");

        // What was scheduled is there once.
        if !self.promises.scheduled.is_empty() {
            let _ = broker.create_topic(&topic("later"), TopicSettings::default()).await;
            let started = std::time::Instant::now();
            while broker.counters().scheduled_messages > 0 {
                assert!(started.elapsed() < PATIENCE, "seed {seed}: the schedule is stuck");
                let _ = broker.describe_subscription(&subscription()).await;
            }
        }
        let came = read(broker, "later").await;
        let texts: BTreeSet<String> = came.iter().map(text).collect();
        assert_eq!(texts.len(), came.len(), "seed {seed}: a scheduled message came twice");
        for (id, confirmed) in &self.promises.scheduled {
            assert!(!confirmed || texts.contains(id), "seed {seed}: {id} never came");
        }
    }
}

async fn join(broker: &Broker) -> Option<Member> {
    let window = Window { messages: 10, ..Window::default() };
    broker.join(&subscription(), JoinOptions { member: "worker".to_owned(), window, create: None }).await.ok()
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload().to_vec()).unwrap()
}

/// All messages of a topic, none if there is no such topic.
async fn read(broker: &Broker, name: &str) -> Vec<Message> {
    let Some(stats) = broker.stats(&topic(name)) else { return Vec::new() };
    let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut subscription = broker.subscribe(&topic(name), options).unwrap();
    let mut messages = Vec::new();
    while messages.len() < stats.message_count as usize {
        messages.push(tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap());
    }
    messages
}

#[cfg(not(feature = "broken"))]
fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it takes a number")))
}

#[cfg(not(feature = "broken"))]
#[test]
fn what_was_confirmed_survives_power_cuts_wholly() {
    let seeds = match number_from("RATATOSKR_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("RATATOSKR_SIM_SEEDS").unwrap_or(SEEDS).min(10_000),
    };
    let alone = seeds.end - seeds.start == 1;
    let done = play(seeds);
    println!("published, scheduled, acked, rejected, in steps: {done:?}");
    assert!(alone || done.iter().all(|&count| count > 0), "these lives do too little: {done:?}");
}

#[cfg(feature = "broken")]
#[test]
fn a_broken_build_is_noticed() {
    assert!(std::env::var("E2E_BROKEN").is_ok(), "E2E_BROKEN says how the build is broken: acks or dead");
    assert!(std::panic::catch_unwind(|| play(0..SEEDS)).is_err(), "nothing was noticed in {SEEDS} seeds");
}

/// Plays seeds, several beside each other; answers how much they published, scheduled, acked, rejected, and settled in steps.
fn play(seeds: std::ops::Range<u64>) -> [usize; 5] {
    let next = AtomicU64::new(seeds.start);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end);
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS).map(|_| scope.spawn(|| play_some(take))).collect();
        let mut done = [0; 5];
        for player in players {
            let counts = player.join().unwrap_or_else(|panic| resume_unwind(panic));
            done.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        done
    })
}

fn play_some(take: impl Fn() -> Option<u64>) -> [usize; 5] {
    let mut done = [0; 5];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    while let Some(seed) = take() {
        let (disk, clock) = (SimDisk::new(), SimClock::at(1_000_000));
        let mut story = Story { seed, rng: Rng::with_seed(seed), disk, clock, promises: Promises::default() };
        runtime.block_on(async {
            for _ in 0..LIVES {
                story.live().await;
                story.end();
            }
            story.last_life().await;
        });
        let Promises { published, scheduled, acked, rejected, stepped, .. } = story.promises;
        let counts = [published.len(), scheduled.len(), acked.len(), rejected.len(), stepped.len()];
        done.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    done
}

//! The state that a leader keeps, the one that a start comes to, and the one that a copy of the journal comes to on another machine are the same,
//! byte for byte.
//!
//! ```text
//!   seed ─▶ random changes ─▶ log ──▶ live state ───────────────────┐
//!                              └▶ disk ─▶ checkpoint and tail read ──┼─▶ snapshots: equal
//!                                  └───▶ every batch since genesis ──┘
//! ```
//!
//! `ONE_STATE_SEED=7` replays one seed; `ONE_STATE_SEEDS=1000` says how many are tried.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::RwLock;
use ratatoskr_log::{
    Disk, LogOptions, Opened, Promise, RecordBatch, RecordFacts, Reserve, TopicLog, examine, open_with,
    read_batches,
};
use ratatoskr_sim::{SimClock, SimDisk};
use ratatoskr_state::{
    BatchDate, Change, Created, Due, Durability, Position, Progress, Ranges, Returned, SettlementBatch,
    State, SubscriptionSettings, TopicSettings,
};

const FOLDER: &str = "/data";
const SEEDS: u64 = 1_000;
const STEPS: usize = 60;
const START_MS: u64 = 1_700_000_000_000;

fn options() -> LogOptions {
    LogOptions {
        folder: FOLDER.into(),
        journal_file_bytes: 1 << 20,
        journal_reserve_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        tail_bytes_max: 64 << 10,
        memory_bytes_max: 64 << 10,
        open_files_max: ratatoskr_log::OPEN_FILES_DEFAULT,
        entropy: [1, 2],
        promise_of: |settings| {
            let settings = TopicSettings::decode(settings).map_err(|error| error.to_string())?;
            Ok(match settings.durability {
                Durability::Fsync => Promise::Synced,
                Durability::Written => Promise::Written,
                Durability::Memory => Promise::Memory { bytes_max: 1 << 20 },
            })
        },
    }
}

fn parts(state: &State) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    state.snapshot().encode(&mut |part| parts.push(part));
    parts
}

/// A copy on another machine: it has the batches, and nothing else.
#[derive(Default)]
struct Follower {
    state: State,
    position: Position,
    batches: u64,
}

impl Follower {
    /// Takes in what the journal has beyond what it knows.
    fn follow(&mut self, disk: &SimDisk) {
        let disk: Arc<dyn Disk> = Arc::new(disk.kill());
        read_batches(&disk, Path::new(FOLDER), &mut |batch| {
            if batch.header.sequence <= self.position.sequence {
                return Ok(());
            }
            assert!(batch.header.follows(self.position), "{:?} after {:?}", batch.header, self.position);
            self.position = batch.position();
            self.batches += 1;
            let entries: Vec<_> = batch.entries().map(Result::unwrap).collect();
            self.state.apply(&batch.header, entries.into_iter())
        })
        .unwrap();
    }
}

struct Leader {
    rng: Rng,
    disk: SimDisk,
    clock: SimClock,
    state: Arc<RwLock<State>>,
    opened: Option<Opened>,
    topics: Vec<Arc<TopicLog>>,
    follower: Follower,
    /// Milliseconds since the Unix epoch, as the leader believes.
    today_ms: u64,
    subscriptions: u32,
    names: u32,
}

impl Leader {
    fn new(seed: u64) -> Leader {
        fastrand::seed(seed);
        let mut leader = Leader {
            rng: Rng::with_seed(seed),
            disk: SimDisk::new(),
            clock: SimClock::at(START_MS),
            state: Arc::default(),
            opened: None,
            topics: Vec::new(),
            follower: Follower::default(),
            today_ms: START_MS,
            subscriptions: 0,
            names: 0,
        };
        leader.open();
        leader
    }

    fn open(&mut self) {
        self.state = Arc::default();
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let opened = open_with(disk, Arc::new(self.clock.clone()), options(), self.state.clone()).unwrap();
        self.topics.clone_from(&opened.topics);
        self.opened = Some(opened);
        self.compare("after a start");
    }

    fn compare(&mut self, when: &str) {
        self.follower.follow(&self.disk);
        let live = parts(&self.state.read());
        assert_eq!(live, parts(&self.follower.state), "live and followed differ {when}");
        let (disk, found): (Arc<dyn Disk>, Arc<RwLock<State>>) = (Arc::new(self.disk.kill()), Arc::default());
        let diagnosis = examine(&disk, options(), found.clone()).unwrap();
        assert!(diagnosis.worst() <= Some(ratatoskr_log::Severity::Note), "{diagnosis:#?}");
        assert_eq!(live, parts(&found.read()), "live and recovered differ {when}");
    }

    fn step(&mut self) {
        match self.rng.u32(..24) {
            0..2 => self.create(),
            2..9 => self.append(),
            9 => self.update(),
            10 => self.trim(),
            11 if self.rng.u32(..4) == 0 => self.delete(),
            11..17 => self.change(),
            17..20 => self.tell_time(),
            20 => self.flush(),
            21 => self.opened.as_mut().unwrap().log.seal().unwrap(),
            22 => self.compare("amid the work"),
            _ if self.rng.u32(..4) == 0 => self.restart(),
            _ => self.opened.as_mut().unwrap().log.tell_date().unwrap(),
        }
        if self.rng.u32(..8) == 0 {
            let log = &mut self.opened.as_mut().unwrap().log;
            log.take_back();
        }
        self.commit();
    }

    fn commit(&mut self) {
        self.opened.as_mut().unwrap().log.commit().unwrap();
        self.topics.retain(|topic| !topic.is_deleted());
    }

    fn settings(&mut self, durability: Durability) -> TopicSettings {
        let dedup_window_ms = [0, 2_000, 120_000][self.rng.usize(..3)];
        TopicSettings { durability, dedup_window_ms, ..TopicSettings::default() }
    }

    fn create(&mut self) {
        let durability = [Durability::Fsync, Durability::Fsync, Durability::Written, Durability::Memory];
        let durability = durability[self.rng.usize(..4)];
        let settings = self.settings(durability);
        let promise = (options().promise_of)(&settings.encode()).unwrap();
        self.names += 1;
        let log = &mut self.opened.as_mut().unwrap().log;
        let topic = log.stage_create(&format!("topic-{}", self.names), settings.encode().into(), promise);
        log.commit().unwrap();
        self.topics.push(topic);
    }

    fn topic(&mut self) -> Option<Arc<TopicLog>> {
        self.rng.choice(&self.topics).cloned()
    }

    fn append(&mut self) {
        let (Some(topic), Some(target)) = (self.topic(), self.topic()) else { return };
        let mut batch = RecordBatch::default();
        for _ in 0..self.rng.u32(1..5) {
            let id = self.rng.u32(..40).to_string();
            let has_id = self.rng.bool();
            let is_for_later = self.rng.u32(..4) == 0;
            let attributes = RecordFacts {
                dedup_id: if has_id { &id } else { "" },
                deliver_at_ms: if is_for_later { self.today_ms + 5_000 } else { 0 },
                addressed_to: if is_for_later { target.number } else { 0 },
                ..RecordFacts::default()
            };
            let bytes = if self.rng.u32(..20) == 0 { 60 << 10 } else { self.rng.usize(..200) };
            batch.push_with(&attributes, "key", &[("name", "value")], &vec![7; bytes]);
        }
        self.opened.as_mut().unwrap().log.stage_append(&topic, &mut batch);
    }

    fn update(&mut self) {
        let Some(topic) = self.topic() else { return };
        let settings = self.settings(TopicSettings::decode(&topic.settings()).unwrap().durability);
        self.opened.as_mut().unwrap().log.stage_update(&topic, settings.encode().into());
    }

    fn trim(&mut self) {
        let Some(topic) = self.topic() else { return };
        let first = self.rng.u64(..=topic.next() + 2);
        self.opened.as_mut().unwrap().log.stage_trim(&topic, first, Reserve::Free);
    }

    fn delete(&mut self) {
        let Some(topic) = self.topic() else { return };
        self.opened.as_mut().unwrap().log.stage_delete(&topic);
    }

    fn ranges(&mut self) -> Ranges {
        (0..self.rng.u32(..6)).map(|_| self.rng.u64(..60)).collect()
    }

    fn change(&mut self) {
        let Some(topic) = self.topic() else { return };
        let number = self.rng.u32(1..=self.subscriptions.max(1));
        let saved = self.rng.choice(["one", "two"]).unwrap().to_owned();
        let change = match self.rng.u32(..12) {
            0..3 => {
                self.subscriptions += 1;
                let settings = SubscriptionSettings { attempts_max: 5, ..SubscriptionSettings::default() };
                Change::Created(Created {
                    number: self.subscriptions,
                    topic: topic.number,
                    name: format!("subscription-{}", self.subscriptions),
                    created_ms: self.today_ms,
                    settings,
                    origin: self.rng.u64(..5),
                })
            }
            3..7 => {
                let [acked, passed, expired, dead] = [(); 4].map(|()| self.ranges());
                let returned = Returned {
                    attempts: self.rng.u32(..5),
                    until_ms: self.today_ms,
                    first_ms: START_MS,
                    last_ms: self.today_ms,
                    reason: "not now".into(),
                };
                let returned = [(self.rng.u64(..60), returned)].into();
                Change::Settled { number, batch: SettlementBatch { acked, passed, expired, dead, returned } }
            }
            7 => Change::Moved { number, origin: self.rng.u64(..60) },
            8 => Change::Skipped { number, count: self.rng.u64(..9), next: self.rng.u64(..60) },
            9 => Change::Saved { number, saved },
            10 => match self.rng.u32(..4) {
                0 => Change::Forgotten { number, saved },
                1 => Change::Deleted { number },
                _ => Change::Restored { number, saved },
            },
            _ => Change::Dispatched(Progress {
                through: Due { at_ms: self.today_ms, offset: self.rng.u64(..9) },
                seen: self.rng.u64(..60),
                floor: self.rng.u64(..60),
                done: self.rng.u64(..60),
            }),
        };
        self.opened.as_mut().unwrap().log.stage_change(topic.number, &change.encode(), Reserve::Keep);
    }

    /// Time passes, and sometimes the clock is wrong: ahead, and doubted, or right again.
    fn tell_time(&mut self) {
        let passed_ms = self.rng.u64(..3_000);
        self.clock.advance(passed_ms);
        self.today_ms += passed_ms;
        let is_doubted = self.rng.u32(..4) == 0;
        let stamp_ms = if is_doubted { self.today_ms + 400_000_000 } else { self.today_ms };
        if is_doubted {
            self.clock.set(stamp_ms);
        } else {
            self.clock.set(self.today_ms);
        }
        let log = &mut self.opened.as_mut().unwrap().log;
        log.set_date(BatchDate { stamp_ms, is_doubted }.encode());
    }

    /// The flusher may make a checkpoint and let journal files go: the follower has read them by then.
    fn flush(&mut self) {
        self.follower.follow(&self.disk);
        self.opened.as_mut().unwrap().flusher.run_pending().unwrap();
    }

    /// Stops, cleanly or not, and starts again.
    fn restart(&mut self) {
        self.commit();
        self.compare("before a restart");
        let Opened { mut log, mut flusher, lock, .. } = self.opened.take().unwrap();
        if self.rng.bool() {
            // A stop lets the journal go, so it may write nothing that the follower has not read.
            log.set_date(0);
            log.close(&mut flusher).unwrap();
        }
        drop((flusher, lock));
        self.disk = self.disk.kill();
        self.open();
    }
}

fn play(seed: u64) -> u64 {
    let mut leader = Leader::new(seed);
    for _ in 0..STEPS {
        leader.step();
    }
    leader.compare("at the end");
    leader.follower.batches
}

#[test]
fn a_leader_a_start_and_a_follower_come_to_the_same_state() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("ONE_STATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ONE_STATE_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let mut batches = 0;
    for seed in seeds {
        let played = std::panic::catch_unwind(|| play(seed));
        batches += played.unwrap_or_else(|_| panic!("seed {seed} fails: ONE_STATE_SEED={seed} replays it"));
    }
    assert!(batches > 20 * count, "only {batches} batches");
    println!("{count} seeds, {batches} batches");
}

//! The judge: what was promised, and whether what is found after a crash may be.
//!
//! ```text
//!   kept ──block──▶ ──block──▶ ──block──▶ ──block──▶ ──block──▶   everything that was tried, in order
//!                        ▲                     ▲          ▲
//!                     synced               written      tried
//!    after a power cut:  └──────── found must be one of these ────┘
//!    after process death:                      └── or these ──────┘
//! ```
//!
//! A log is a history of blocks, each of which happened wholly or not at all. So what is found must be exactly the state
//! after some block that is not older than the last promise and not newer than the last attempt. One exception:
//! records of topics that promise only `written` may reach the disk through a segment before their block does, so
//! such a topic may be ahead of the others, up to the last attempt.
//! This file knows nothing of disks or bytes of the log; it is told what was tried, what was acknowledged and what is found.

use std::collections::BTreeMap;
use std::fmt;

use ratatoskr_log::Promise;

/// What kind of accident lies between the promises and what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// The process died; the operating system lived on.
    Process,
    /// The power was cut.
    Power,
}

/// One thing a block says.
#[derive(Clone, Debug)]
pub enum Event {
    /// A topic comes into being, under a number no other ever has.
    Create {
        /// Its number.
        topic: u32,
        /// Its name.
        name: String,
        /// Its settings.
        settings: String,
        /// When its records are acknowledged.
        promise: Promise,
    },
    /// A topic gets other settings.
    Update {
        /// The topic's number.
        topic: u32,
        /// The new settings.
        settings: String,
    },
    /// Records with consecutive offsets.
    Append {
        /// The topic's number.
        topic: u32,
        /// The offset the log gave to the first one.
        first: u64,
        /// Their payloads.
        payloads: Vec<Vec<u8>>,
    },
    /// Everything before an offset goes.
    Trim {
        /// The topic's number.
        topic: u32,
        /// The first offset that stays.
        first: u64,
    },
    /// A topic goes.
    Delete {
        /// Its number.
        topic: u32,
    },
}

/// All topics at one moment, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The topics.
    pub topics: BTreeMap<u32, TopicState>,
}

/// One topic at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub name: String,
    /// Its settings.
    pub settings: String,
    /// When its records are acknowledged.
    pub promise: Promise,
    /// The first offset that can be read.
    pub first: u64,
    /// Payloads from `first` on, without gaps.
    pub payloads: Vec<Vec<u8>>,
}

/// What was tried and what was promised so far.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// The state before the first block: it was promised to survive anything.
    kept: State,
    /// What was tried since, in order.
    blocks: Vec<Vec<Event>>,
    /// Blocks promised to survive the death of the process.
    written: usize,
    /// Blocks promised to survive a power cut.
    synced: usize,
}

/// What is found breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong with it, against each state it might have been.
    pub differences: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a promise is broken: {}", self.differences.join("; or: "))
    }
}

impl std::error::Error for Broken {}

impl Broken {
    /// A promise that is broken in one way whatever the state was.
    pub fn because(what: impl Into<String>) -> Broken {
        Broken { differences: vec![what.into()] }
    }
}

impl Promises {
    /// A block is about to be written: from now on it may be found.
    pub fn attempt(&mut self, block: Vec<Event>) {
        self.blocks.push(block);
    }

    /// The last attempt was refused: nothing of it may ever be found.
    pub fn take_back(&mut self) {
        self.blocks.pop();
        assert!(self.blocks.len() >= self.written, "a promised block cannot be taken back");
    }

    /// Every attempt so far was acknowledged as written.
    pub fn written(&mut self) {
        self.written = self.blocks.len();
    }

    /// Every attempt so far was acknowledged as durable.
    pub fn synced(&mut self) {
        self.written = self.blocks.len();
        self.synced = self.blocks.len();
    }

    /// Says whether what is found after an accident may be.
    pub fn check(&self, found: &State, loss: Loss) -> Result<(), Broken> {
        let promised = if loss == Loss::Power { self.synced } else { self.written };
        let newest = self.after(self.blocks.len());
        let mut state = self.after(promised);
        let mut differences = Vec::new();
        for tried in promised..=self.blocks.len() {
            match difference(found, &state, &newest) {
                None => return Ok(()),
                Some(what) => differences.push(format!("after block {tried}: {what}")),
            }
            if let Some(block) = self.blocks.get(tried) {
                state.apply(block);
            }
        }
        differences.dedup();
        Err(Broken { differences })
    }

    /// Says whether what a running log shows is what it has promised: not less, and nothing too early.
    pub fn check_live(&self, shown: &State) -> Result<(), Broken> {
        let (synced, written) = (self.after(self.synced), self.after(self.written));
        let mut expected = synced;
        for (number, topic) in &mut expected.topics {
            let ahead = written.topics.get(number).filter(|_| topic.promise == Promise::Written);
            if let Some(ahead) = ahead {
                topic.payloads = ahead.payloads_from(topic.first);
            }
        }
        difference(shown, &expected, &expected).map_or(Ok(()), |what| Err(Broken::because(what)))
    }

    /// What was found is the truth from now on, and durable: a later crash must not take it back.
    pub fn settle(&mut self, found: State) {
        *self = Promises { kept: found, ..Promises::default() };
    }

    fn after(&self, blocks: usize) -> State {
        let mut state = self.kept.clone();
        self.blocks[..blocks].iter().for_each(|block| state.apply(block));
        state
    }
}

impl State {
    fn apply(&mut self, block: &[Event]) {
        for event in block {
            match event {
                Event::Create { topic, name, settings, promise } => {
                    let (name, settings) = (name.clone(), settings.clone());
                    let state =
                        TopicState { name, settings, promise: *promise, first: 0, payloads: Vec::new() };
                    self.topics.insert(*topic, state);
                }
                Event::Update { topic, settings } => {
                    let state = self.topics.get_mut(topic).expect("settings are of topics that exist");
                    state.settings.clone_from(settings);
                }
                Event::Append { topic, first, payloads } => {
                    let state = self.topics.get_mut(topic).expect("records go to topics that exist");
                    assert_eq!(
                        *first,
                        state.next(),
                        "topic {topic}: the log gave out an offset twice or skipped one"
                    );
                    state.payloads.extend_from_slice(payloads);
                }
                Event::Trim { topic, first } => {
                    let state = self.topics.get_mut(topic).expect("topics that exist are trimmed");
                    state.payloads = state.payloads_from(*first);
                    state.first = state.first.max(*first);
                }
                Event::Delete { topic } => {
                    self.topics.remove(topic);
                }
            }
        }
    }
}

impl TopicState {
    /// The offset after the last record.
    pub fn next(&self) -> u64 {
        self.first + self.payloads.len() as u64
    }

    fn payloads_from(&self, first: u64) -> Vec<Vec<u8>> {
        let skipped = first.saturating_sub(self.first).min(self.payloads.len() as u64);
        self.payloads[skipped as usize..].to_vec()
    }
}

/// Why `found` is not `expected`, where topics that promise `written` may be ahead, up to `newest`.
fn difference(found: &State, expected: &State, newest: &State) -> Option<String> {
    for (number, topic) in &expected.topics {
        let Some(there) = found.topics.get(number) else {
            return Some(format!("topic {number} ({}) is not there", topic.name));
        };
        let ahead = newest.topics.get(number).filter(|_| topic.promise == Promise::Written);
        let longest = ahead.map_or_else(
            || topic.clone(),
            |ahead| TopicState {
                payloads: topic.payloads.iter().chain(&ahead.payloads_from(topic.next())).cloned().collect(),
                ..topic.clone()
            },
        );
        if let Some(what) = topic_difference(there, topic, &longest) {
            return Some(format!("topic {number} ({}): {what}", topic.name));
        }
    }
    let extra = found.topics.iter().find(|(number, _)| !expected.topics.contains_key(number));
    extra.map(|(number, topic)| format!("topic {number} ({}) should not be there", topic.name))
}

fn topic_difference(found: &TopicState, shortest: &TopicState, longest: &TopicState) -> Option<String> {
    if (&found.name, &found.settings) != (&shortest.name, &shortest.settings) {
        return Some(format!("it is called {} and has settings {:?}", found.name, found.settings));
    }
    if found.first != shortest.first {
        return Some(format!("it starts at offset {} instead of {}", found.first, shortest.first));
    }
    if found.next() < shortest.next() {
        return Some(format!("it ends at offset {} instead of {}", found.next(), shortest.next()));
    }
    if found.next() > longest.next() {
        return Some(format!("it ends at offset {}, past {}", found.next(), longest.next()));
    }
    let wrong = found.payloads.iter().zip(&longest.payloads).position(|(found, sent)| found != sent)?;
    Some(format!("the record at offset {} is not what was sent there", found.first + wrong as u64))
}

#[cfg(test)]
mod tests;

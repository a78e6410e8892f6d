//! The peers: which program, how it is set, and what its ack means. One table.
//!
//! ```text
//!   Peer { key, title, promise, ack, program, tongue, works }     one row of every table of results
//! ```
//!
//! Equal stands beside equal: a peer's *promise* is what has happened to a message when its publisher is told so, with the words of
//! our own durability. What each setting is, and why it counts as that promise, says `ack`.

use super::jetstream::Batches;
use super::works::Work;

/// What has happened to a message when its publisher is told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Promise {
    /// On disk: survives a loss of power.
    Fsync,
    /// With the operating system: survives the death of the process.
    Written,
    /// In the process, or nowhere.
    Memory,
}

impl Promise {
    pub(crate) const ALL: [Promise; 3] = [Promise::Fsync, Promise::Written, Promise::Memory];

    /// The word, as our topics have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Promise::Fsync => "fsync",
            Promise::Written => "written",
            Promise::Memory => "memory",
        }
    }

    /// As a heading.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Promise::Fsync => "fsync: on disk before the ack",
            Promise::Written => "written: with the operating system, on disk later",
            Promise::Memory => "memory: in the process only",
        }
    }
}

/// A program to compare with; one may run in several modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    Ratatoskr,
    Nats,
    Redis,
    RabbitMq,
    Mosquitto,
}

/// What is spoken with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tongue {
    /// gRPC, through `ratatoskr bench`.
    Ours,
    JetStream(Batches),
    NatsCore,
    Redis,
    Mqtt,
    AmqpQuorum,
    AmqpClassic,
}

/// A program in one mode.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What `--only` takes, in part or whole.
    pub(crate) key: &'static str,
    /// As it stands in tables.
    pub(crate) title: &'static str,
    pub(crate) promise: Promise,
    /// What an ack means, in words.
    pub(crate) ack: &'static str,
    pub(crate) program: Program,
    pub(crate) tongue: Tongue,
    /// Words of its settings that make the mode.
    pub(crate) setting: &'static str,
    /// What it can be asked to do.
    pub(crate) works: &'static [Work],
}

const ALL_WORKS: &[Work] = &Work::ALL;
/// Neither 500 replicated logs nor a second start of the same program would say anything.
const QUORUM_WORKS: &[Work] = &[
    Work::Start,
    Work::Publish(1),
    Work::Publish(64),
    Work::Publish(1000),
    Work::Batches,
    Work::Consume,
    Work::Latency,
    Work::Kill,
    Work::Power,
];
const FAN_WORKS: &[Work] = &[Work::FanOut(1), Work::FanOut(50), Work::FanOut(500), Work::Latency];
/// What a second durability of the same running program adds.
const MODE_WORKS: &[Work] = &[
    Work::Publish(1),
    Work::Publish(64),
    Work::Publish(1000),
    Work::Batches,
    Work::FanOut(1),
    Work::FanOut(50),
    Work::FanOut(500),
    Work::Consume,
    Work::Latency,
    Work::Kill,
    Work::Power,
];

/// The queues of RabbitMQ 3 sync before they confirm, many messages at a time; those of 4 no longer do.
const CLASSIC_3_ACK: &str = "durable queue, persistent messages, confirmed after a sync of all that waited (RabbitMQ 3; from 4 on after the write only)";

/// Everybody, in the order of the tables.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        key: "ratatoskr-fsync",
        title: "Ratatoskr (default)",
        promise: Promise::Fsync,
        ack: "in the journal, synced; one sync answers all that waited",
        program: Program::Ratatoskr,
        tongue: Tongue::Ours,
        setting: "fsync",
        works: ALL_WORKS,
    },
    Peer {
        key: "nats-sync",
        title: "NATS JetStream, sync always",
        promise: Promise::Fsync,
        ack: "written and synced, message by message (`sync_interval: always`)",
        program: Program::Nats,
        tongue: Tongue::JetStream(Batches::Atomic),
        setting: "always",
        works: MODE_WORKS,
    },
    Peer {
        key: "redis-always",
        title: "Redis Streams, fsync always",
        promise: Promise::Fsync,
        ack: "in the append-only file, synced once for each turn of the event loop (`appendfsync always`)",
        program: Program::Redis,
        tongue: Tongue::Redis,
        setting: "always",
        works: MODE_WORKS,
    },
    Peer {
        key: "rabbitmq-quorum",
        title: "RabbitMQ quorum queue",
        promise: Promise::Fsync,
        ack: "in the Raft log of a cluster of one, synced; confirms",
        program: Program::RabbitMq,
        tongue: Tongue::AmqpQuorum,
        setting: "quorum",
        works: QUORUM_WORKS,
    },
    Peer {
        key: "ratatoskr-written",
        title: "Ratatoskr, durability written",
        promise: Promise::Written,
        ack: "written to the journal, synced with the next one that asks, or by the system",
        program: Program::Ratatoskr,
        tongue: Tongue::Ours,
        setting: "written",
        works: MODE_WORKS,
    },
    Peer {
        key: "nats-default",
        title: "NATS JetStream (default)",
        promise: Promise::Written,
        ack: "with the operating system; synced within 2 minutes",
        program: Program::Nats,
        tongue: Tongue::JetStream(Batches::Pipelined),
        setting: "2m",
        works: ALL_WORKS,
    },
    Peer {
        key: "redis-everysec",
        title: "Redis Streams, everysec",
        promise: Promise::Written,
        ack: "with the operating system, nearly always; synced each second (`appendfsync everysec`)",
        program: Program::Redis,
        tongue: Tongue::Redis,
        setting: "everysec",
        works: ALL_WORKS,
    },
    Peer {
        key: "rabbitmq-classic",
        title: "RabbitMQ classic queue",
        promise: Promise::Written,
        ack: "durable queue, persistent messages, confirms: in batches, mostly after the write; not synced each time",
        program: Program::RabbitMq,
        tongue: Tongue::AmqpClassic,
        setting: "classic",
        works: ALL_WORKS,
    },
    Peer {
        key: "ratatoskr-memory",
        title: "Ratatoskr, durability memory",
        promise: Promise::Memory,
        ack: "in the memory of the process",
        program: Program::Ratatoskr,
        tongue: Tongue::Ours,
        setting: "memory",
        works: MODE_WORKS,
    },
    Peer {
        key: "mosquitto",
        title: "Mosquitto, QoS 1",
        promise: Promise::Memory,
        ack: "in the memory of the process; saved when it stops, and every 30 minutes",
        program: Program::Mosquitto,
        tongue: Tongue::Mqtt,
        setting: "qos1",
        works: ALL_WORKS,
    },
    Peer {
        key: "nats-core",
        title: "NATS core",
        promise: Promise::Memory,
        ack: "none: delivered to who listens now, kept for nobody; a PONG says that the server has read it",
        program: Program::Nats,
        tongue: Tongue::NatsCore,
        setting: "core",
        works: FAN_WORKS,
    },
];

impl Peer {
    /// What the installed version promises, and what its ack means.
    pub(crate) fn promise_of(&self, version: &str) -> (Promise, &'static str) {
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if self.tongue == Tongue::AmqpClassic && major.is_some_and(|major| major < 4) {
            return (Promise::Fsync, CLASSIC_3_ACK);
        }
        (self.promise, self.ack)
    }

    /// Whether a word of `--only` means this peer. We are always in.
    pub(crate) fn is_meant(&self, only: &[String]) -> bool {
        only.is_empty() || only.iter().any(|word| self.key.starts_with(word.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_has_our_own_mode_first() {
        for promise in Promise::ALL {
            let first = PEERS.iter().find(|peer| peer.promise == promise).unwrap();
            assert_eq!((first.program, first.setting), (Program::Ratatoskr, promise.word()));
        }
    }

    #[test]
    fn a_classic_queue_promises_less_since_version_4() {
        let classic = PEERS.iter().find(|peer| peer.key == "rabbitmq-classic").unwrap();
        let promise = |version| classic.promise_of(version).0;
        assert_eq!((promise("3.10.8"), promise("4.0.5")), (Promise::Fsync, Promise::Written));
        assert_eq!(promise("unknown"), Promise::Written);
    }

    #[test]
    fn a_word_of_only_means_all_whose_key_begins_with_it() {
        let meant = |word: &str| PEERS.iter().filter(|peer| peer.is_meant(&[word.to_owned()])).count();
        assert_eq!((meant("nats"), meant("redis-always"), meant("x")), (3, 1, 0));
        assert!(PEERS.iter().all(|peer| peer.is_meant(&[])));
    }
}

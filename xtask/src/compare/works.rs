//! What is measured: one line for each table of the results.

use clap::ValueEnum;

/// One piece of work, the same for every peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Work {
    /// From the start of the process to its first answer, and its memory then.
    Start,
    /// Publish with so many messages unacknowledged.
    Publish(u32),
    /// Publish a hundred messages at a time.
    Batches,
    /// One publisher, so many subscribers.
    FanOut(u32),
    /// Consume with acks.
    Consume,
    /// From when a message was due to its delivery, at a fixed rate.
    Latency,
    /// `kill -9` under load.
    Kill,
    /// A million messages, `kill -9`, and the time until they are served again.
    Recovery,
    /// A loss of power under load.
    Power,
}

/// What `--work` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkWord {
    Start,
    Publish,
    Batches,
    Fanout,
    Consume,
    Latency,
    Kill,
    Recovery,
    Power,
}

impl Work {
    /// All, in the order in which they run and are shown.
    pub(crate) const ALL: [Work; 13] = [
        Work::Start,
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
        Work::Recovery,
        Work::Power,
    ];

    /// The word that chooses it.
    pub(crate) fn word(self) -> WorkWord {
        match self {
            Work::Start => WorkWord::Start,
            Work::Publish(_) => WorkWord::Publish,
            Work::Batches => WorkWord::Batches,
            Work::FanOut(_) => WorkWord::Fanout,
            Work::Consume => WorkWord::Consume,
            Work::Latency => WorkWord::Latency,
            Work::Kill => WorkWord::Kill,
            Work::Recovery => WorkWord::Recovery,
            Work::Power => WorkWord::Power,
        }
    }

    /// In files and JSON.
    pub(crate) fn key(self) -> String {
        match self {
            Work::Start => "start".to_owned(),
            Work::Publish(in_flight) => format!("publish-{in_flight}"),
            Work::Batches => "batches".to_owned(),
            Work::FanOut(subscribers) => format!("fanout-{subscribers}"),
            Work::Consume => "consume".to_owned(),
            Work::Latency => "latency".to_owned(),
            Work::Kill => "kill".to_owned(),
            Work::Recovery => "recovery".to_owned(),
            Work::Power => "power".to_owned(),
        }
    }

    /// As a heading.
    pub(crate) fn title(self) -> String {
        match self {
            Work::Start => "Start and idle memory".to_owned(),
            Work::Publish(in_flight) => format!("Publish, {in_flight} in flight"),
            Work::Batches => "Publish in batches of 100".to_owned(),
            Work::FanOut(subscribers) => format!("Fan-out to {subscribers}"),
            Work::Consume => "Consume with acks".to_owned(),
            Work::Latency => "End-to-end latency at 5,000 messages a second".to_owned(),
            Work::Kill => "Acknowledged messages lost after kill -9 under load".to_owned(),
            Work::Recovery => "Start with a million messages after kill -9".to_owned(),
            Work::Power => "Acknowledged messages lost after a loss of power under load".to_owned(),
        }
    }

    /// Whether it needs a server of its own, which it kills, and runs once instead of every round.
    pub(crate) fn is_crash(self) -> bool {
        matches!(self, Work::Kill | Work::Recovery | Work::Power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ() {
        let keys: std::collections::BTreeSet<_> = Work::ALL.iter().map(|work| work.key()).collect();
        assert_eq!(keys.len(), Work::ALL.len());
    }
}

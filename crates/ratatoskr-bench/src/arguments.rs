//! The arguments of `bench`: which workload, how much of it, and how it is reported.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ratatoskr_proto::Durability;

use crate::stamp::STAMP_BYTES;
use crate::workloads;

/// Arguments of `ratatoskr bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// What to measure.
    #[command(subcommand)]
    pub workload: Workload,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Workload {
    /// Publish as fast as it goes: one by one, in batches, or over publish streams
    Pub(workloads::publish::PublishArguments),
    /// Fill a topic, then read it back with one subscriber
    Sub(workloads::subscribe::SubscribeArguments),
    /// One publisher, many subscribers of one topic
    Fanout(workloads::fanout::FanoutArguments),
    /// Publish at a fixed rate, and see when one subscriber has each message
    E2e(workloads::end_to_end::EndToEndArguments),
    /// Work off a topic through a durable subscription, acks confirmed
    Consume(workloads::consume::ConsumeArguments),
    /// Nack with a delay, and let leases end: when does the message really return?
    Redelivery(workloads::redelivery::RedeliveryArguments),
    /// What unsettled messages cost: memory, and the start after kill -9
    Unsettled(workloads::unsettled::UnsettledArguments),
    /// Publish one by one at a fixed rate, latency from when each message was due
    Latency(workloads::latency::LatencyArguments),
    /// The same load spread over few and very many topics
    Topics(workloads::topics::TopicsArguments),
    /// What topics, connections and subscribers cost that do nothing
    Idle(workloads::idle::IdleArguments),
    /// Publish, kill -9, and the time until the broker serves again
    Recovery(workloads::recovery::RecoveryArguments),
    /// A promised load with its limits; fails if one is missed
    Profile(workloads::profile::ProfileArguments),
    /// What the disk and the loopback give without a broker
    Floor(workloads::bare::FloorArguments),
}

/// What every workload takes.
#[derive(Clone, Debug, Args)]
pub struct RunFlags {
    /// What an ack stands for in the topics of this run
    #[arg(long, value_enum, default_value = "fsync")]
    pub durability: DurabilityWord,
    /// Do it so often; with more than one, the round in the middle is shown as well
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Where a broker of our own keeps its data: a folder in this one; not given: the working directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The process of the broker at --server, if it runs on this machine, to see what it uses
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Count lost, duplicated and reordered messages; any of them fails the run
    #[arg(long)]
    pub verify: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Show no progress bar
    #[arg(long)]
    pub no_progress: bool,
}

/// How messages are made and sent.
#[derive(Clone, Debug, Args)]
pub struct LoadFlags {
    /// Bytes of a payload, at least 24: each begins with who sent it, and when
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = payload_size)]
    pub size: usize,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Requests on their way at a time, all connections together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Topics to spread the messages over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub topics: u32,
}

/// A load at a fixed rate.
#[derive(Clone, Debug, Args)]
pub struct PacedFlags {
    /// Messages a second
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Bytes of a payload, at least 24: each begins with who sent it, and when
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = payload_size)]
    pub size: usize,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Topics to spread the messages over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub topics: u32,
}

impl PacedFlags {
    /// Messages of the whole load.
    pub(crate) fn messages(&self) -> u64 {
        self.rate * self.seconds
    }

    /// As they stand in the headline.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("rate", format!("{}/s", self.rate)),
            ("seconds", self.seconds.to_string()),
            ("size", self.size.to_string()),
            ("clients", self.clients.to_string()),
            ("topics", self.topics.to_string()),
        ]
    }
}

/// What an ack stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DurabilityWord {
    /// On disk
    Fsync,
    /// With the operating system
    Written,
    /// In the broker's memory
    Memory,
}

impl DurabilityWord {
    /// As the wire takes it.
    pub(crate) fn wire(self) -> Durability {
        match self {
            DurabilityWord::Fsync => Durability::Fsync,
            DurabilityWord::Written => Durability::Written,
            DurabilityWord::Memory => Durability::Memory,
        }
    }

    /// The word people give.
    pub(crate) fn word(self) -> &'static str {
        match self {
            DurabilityWord::Fsync => "fsync",
            DurabilityWord::Written => "written",
            DurabilityWord::Memory => "memory",
        }
    }
}

/// Reads the size of a payload.
pub(crate) fn payload_size(text: &str) -> Result<usize, String> {
    const LARGEST: usize = 1 << 20;
    let size: usize = text.parse().map_err(|_| "expected a number of bytes".to_owned())?;
    if (STAMP_BYTES..=LARGEST).contains(&size) {
        Ok(size)
    } else {
        Err(format!("allowed are {STAMP_BYTES} to {LARGEST}"))
    }
}

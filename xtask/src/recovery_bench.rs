//! A million messages of 1 KiB, a `kill -9`, and what the restart costs.
//!
//! ```text
//! start (idle figures) ─ publish ─ kill -9 ─ restart (recovery) ─ settle ─ idle figures ─ stop
//! ```
//!
//! Each figure stands beside the bound the project promises; one missed bound fails the chore.
//! Payloads are random bytes, so that nothing below us can compress them.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{DescribeTopicRequest, PublishBatchRequest, PublishBatchResponse, PublishRequest};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::broker_process::{BrokerProcess, BrokerSetup};
use crate::failed::{Failed, Outcome, While};
use crate::workshop::{Profile, Workshop};

const TOPIC: &str = "recovery";
/// Messages of one request.
const BATCH_MESSAGES: u64 = 500;
/// Requests on their way at a time.
const IN_FLIGHT: usize = 4;
/// How long the broker may write behind, after a start, before its idle figures are read.
const SETTLE: Duration = Duration::from_secs(5);

/// The bounds promised, for a million messages of 1 KiB.
const RECOVERY_SECONDS_MAX: f64 = 5.0;
const OVERHEAD_PERCENT_MAX: f64 = 20.0;
const IDLE_RSS_MIB_MAX: f64 = 15.0;
const IDLE_CPU_PERCENT_MAX: f64 = 1.0;

/// How much, and which build.
#[derive(clap::Args)]
pub(crate) struct RecoveryBenchOptions {
    /// Messages to publish
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Bytes of each payload
    #[arg(long, default_value_t = 1024)]
    payload_bytes: usize,
    /// Seconds over which idle use is measured
    #[arg(long, default_value_t = 20)]
    idle_seconds: u64,
    /// The build of the broker
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
}

/// A figure and the most it may be.
struct Figure {
    name: &'static str,
    value: f64,
    value_max: f64,
    unit: &'static str,
}

/// Memory and processor of a broker nobody talks to.
struct Idle {
    rss_mib: f64,
    cpu_percent: f64,
}

/// Runs the measurement and prints a table.
pub(crate) fn run(workshop: &Workshop, options: &RecoveryBenchOptions) -> Outcome {
    let program = workshop.broker_program(options.profile)?;
    let folder = tempfile::tempdir_in(&workshop.target).when("creating a folder for the broker")?;
    let setup = BrokerSetup::new(program, folder.path())?;
    let idle = Duration::from_secs(options.idle_seconds);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().when("starting a runtime")?;

    let broker = setup.start()?;
    let fresh = measure_idle(&broker, idle)?;
    let publish_took = runtime.block_on(publish(&setup.uri(), options))?;
    let after_publish = disk_bytes(&setup.data_dir())?;
    broker.kill_nine()?;

    let broker = setup.start()?;
    let recovery = broker.start_took;
    let held = runtime.block_on(next_offset(&setup.uri()))?;
    if held != options.messages {
        return Err(Failed::new(format!(
            "{} messages were acknowledged, {held} are there after the kill",
            options.messages
        )));
    }
    std::thread::sleep(SETTLE);
    let settled = disk_bytes(&setup.data_dir())?;
    let loaded = measure_idle(&broker, idle)?;
    broker.stop()?;

    let rate = options.messages as f64 / publish_took.as_secs_f64();
    println!("published {} messages of {} bytes: {rate:.0}/s", options.messages, options.payload_bytes);
    let payload = options.messages * options.payload_bytes as u64;
    report(&[
        Figure::new("start after kill -9", recovery.as_secs_f64(), RECOVERY_SECONDS_MAX, "s"),
        Figure::new(
            "disk over payload, at the kill",
            overhead(after_publish, payload),
            OVERHEAD_PERCENT_MAX,
            "%",
        ),
        Figure::new("disk over payload, settled", overhead(settled, payload), OVERHEAD_PERCENT_MAX, "%"),
        Figure::new("idle memory, empty", fresh.rss_mib, IDLE_RSS_MIB_MAX, "MiB"),
        Figure::new("idle processor, empty", fresh.cpu_percent, IDLE_CPU_PERCENT_MAX, "%"),
        Figure::new("idle memory, with the messages", loaded.rss_mib, IDLE_RSS_MIB_MAX, "MiB"),
        Figure::new("idle processor, with the messages", loaded.cpu_percent, IDLE_CPU_PERCENT_MAX, "%"),
    ])
}

impl Figure {
    fn new(name: &'static str, value: f64, value_max: f64, unit: &'static str) -> Figure {
        Figure { name, value, value_max, unit }
    }
}

async fn publish(uri: &str, options: &RecoveryBenchOptions) -> Outcome<Duration> {
    let client =
        MessageBrokerClient::connect(uri.to_owned()).await.when(format_args!("connecting to {uri}"))?;
    let mut random = fastrand::Rng::with_seed(1);
    let started = Instant::now();
    let mut in_flight: VecDeque<JoinHandle<Outcome>> = VecDeque::new();
    let mut sent = 0;
    while sent < options.messages {
        let count = BATCH_MESSAGES.min(options.messages - sent);
        let messages = (0..count).map(|_| message(&mut random, options.payload_bytes)).collect();
        in_flight.push_back(tokio::spawn(send(client.clone(), messages)));
        sent += count;
        if in_flight.len() == IN_FLIGHT {
            join(in_flight.pop_front()).await?;
        }
    }
    while !in_flight.is_empty() {
        join(in_flight.pop_front()).await?;
    }
    Ok(started.elapsed())
}

fn message(random: &mut fastrand::Rng, payload_bytes: usize) -> PublishRequest {
    let mut payload = vec![0; payload_bytes];
    random.fill(&mut payload);
    PublishRequest { topic: String::new(), payload: Bytes::from(payload), ..PublishRequest::default() }
}

async fn send(mut client: MessageBrokerClient<Channel>, messages: Vec<PublishRequest>) -> Outcome {
    let request = PublishBatchRequest { topic: TOPIC.into(), messages };
    let PublishBatchResponse { error_count, results, .. } = client.publish_batch(request).await?.into_inner();
    match results.iter().find(|result| !result.success) {
        Some(refused) => {
            Err(Failed::new(format!("{error_count} messages were refused, the first with {}", refused.error)))
        }
        None => Ok(()),
    }
}

async fn join(task: Option<JoinHandle<Outcome>>) -> Outcome {
    match task {
        Some(task) => task.await.when("publishing")?,
        None => Ok(()),
    }
}

async fn next_offset(uri: &str) -> Outcome<u64> {
    let mut client =
        MessageBrokerClient::connect(uri.to_owned()).await.when(format_args!("connecting to {uri}"))?;
    let response = client.describe_topic(DescribeTopicRequest { name: TOPIC.into() }).await?.into_inner();
    let topic = response.topic.ok_or_else(|| Failed::new("DescribeTopic answered without a topic"))?;
    u64::try_from(topic.next_offset).when("reading the next offset")
}

fn measure_idle(broker: &BrokerProcess, over: Duration) -> Outcome<Idle> {
    let (before, started) = (broker.usage()?, Instant::now());
    std::thread::sleep(over);
    let after = broker.usage()?;
    let rss_mib = after.rss_bytes as f64 / f64::from(1 << 20);
    Ok(Idle { rss_mib, cpu_percent: after.cpu_percent_since(&before, started.elapsed()) })
}

/// What the files of a folder take on disk, as `du` counts it.
fn disk_bytes(folder: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).when(format_args!("listing {}", folder.display()))? {
        let entry = entry.when(format_args!("listing {}", folder.display()))?;
        // A file may go between the listing and the look: the broker retires files as it works.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

fn overhead(disk: u64, payload: u64) -> f64 {
    (disk as f64 / payload as f64 - 1.0) * 100.0
}

fn report(figures: &[Figure]) -> Outcome {
    let mut missed = Vec::new();
    for figure in figures {
        let Figure { name, value, value_max, unit } = figure;
        let met = value <= value_max;
        println!(
            "{name:<34} {value:>8.2} {unit:<3} (at most {value_max} {unit}) {}",
            if met { "ok" } else { "MISSED" }
        );
        if !met {
            missed.push(*name);
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(Failed::new(format!("missed: {}", missed.join(", ")))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_is_what_the_disk_holds_beyond_the_payload() {
        assert!((overhead(120, 100) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn one_missed_bound_fails() {
        let figure = |value| Figure { name: "x", value, value_max: 5.0, unit: "s" };
        assert!(report(&[figure(5.0)]).is_ok());
        assert_eq!(report(&[figure(1.0), figure(5.1)]).unwrap_err().to_string(), "missed: x");
    }

    #[test]
    fn folders_are_counted_with_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("topic")).unwrap();
        std::fs::write(folder.path().join("topic/segment"), vec![1; 10_000]).unwrap();
        assert!(disk_bytes(folder.path()).unwrap() >= 10_000);
    }
}

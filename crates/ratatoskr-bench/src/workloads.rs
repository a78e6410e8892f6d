//! The workloads, one file each, and what they have in common.

pub(crate) mod bare;
pub(crate) mod consume;
pub(crate) mod end_to_end;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod profile;
pub(crate) mod publish;
pub(crate) mod recovery;
pub(crate) mod redelivery;
pub(crate) mod subscribe;
pub(crate) mod topics;
pub(crate) mod unsettled;

use std::cell::Cell;
use std::rc::Rc;

use ratatoskr_proto::SubscriptionSettings;

use crate::arguments::LoadFlags;
use crate::bench::Bench;
use crate::error::{BenchError, Outcome, failed};
use crate::ledger::{Ledger, Order};
use crate::publisher::{self, Load, Mode};
use crate::reader::{self, From};
use crate::wire::Connection;

/// A workload: its name, what it was asked for, and one round of it.
pub(crate) trait Measure {
    /// The sub-command.
    const NAME: &'static str;

    /// Effective parameters of its own.
    fn parameters(&self) -> Vec<(&'static str, String)>;

    /// Refuses what cannot be measured on this broker, before anything is.
    fn check(&self, _bench: &Bench) -> Outcome {
        Ok(())
    }

    /// Measures once, and adds rows and figures to the report. Topics it makes go afterwards.
    async fn round(&self, bench: &mut Bench) -> Outcome;
}

/// Messages of one request, and requests on their way, when a topic is only filled.
const FILL_BATCH: u64 = 1000;
const FILL_IN_FLIGHT: u32 = 4;

/// Puts messages into topics, as fast as it goes; not measured.
pub(crate) async fn fill(bench: &Bench, topics: &[String], messages: u64, size: usize) -> Outcome {
    let progress = bench.progress("filling", messages);
    let connections = bench.connect(2).await?;
    let load = Load {
        topics: topics.to_vec(),
        messages,
        size,
        // A request has at most 16 MiB.
        mode: Mode::Batch(FILL_BATCH.min((8 << 20) / (size as u64 + 64)).max(1)),
        in_flight: FILL_IN_FLIGHT,
    };
    publisher::publish(&connections, load, bench.stamper(), progress.done.clone()).await?;
    Ok(())
}

/// The parameters of [`LoadFlags`].
pub(crate) fn load_parameters(load: &LoadFlags) -> Vec<(&'static str, String)> {
    vec![
        ("size", load.size.to_string()),
        ("clients", load.clients.to_string()),
        ("in flight", load.in_flight.to_string()),
        ("topics", load.topics.to_string()),
    ]
}

/// Reads topics back from their beginning, and counts what is wrong.
pub(crate) async fn verify_topics(bench: &mut Bench, topics: &[String], messages: u64) -> Outcome {
    let connection = one(bench.connect(1).await?)?;
    let mut ledger = Ledger::new(messages, Order::Kept);
    let stamper = bench.stamper();
    for (reader, topic) in topics.iter().enumerate() {
        let held = bench.held(topic).await?;
        let mut frames = reader::follow(&connection, topic, From::Earliest).await?;
        let done = Rc::new(Cell::new(0));
        let reading = reader::read(&mut frames, held, &done, |message| {
            if let Some((stamp, _)) = stamper.read(&message.payload) {
                ledger.arrived(reader as u32, stamp.publisher, stamp.number);
            }
        });
        reader::while_it_moves(&done, reading).await?;
    }
    bench.count_faults(&ledger);
    Ok(())
}

/// Settings under which nothing holds a subscription back but its members' windows.
pub(crate) fn open_settings(lease_ms: i64) -> SubscriptionSettings {
    SubscriptionSettings {
        lease_ms: Some(lease_ms),
        attempts_max: Some(0),
        retry_jitter: Some(0.0),
        member_outstanding_max: Some(100_000),
        outstanding_max: Some(1_000_000),
        ..SubscriptionSettings::default()
    }
}

/// The only connection of a list.
pub(crate) fn one(connections: Vec<Connection>) -> Outcome<Connection> {
    connections.into_iter().next().ok_or_else(|| failed("there is no connection"))
}

/// An error for arguments that do not go together.
pub(crate) fn usage(message: impl Into<String>) -> BenchError {
    BenchError::Usage(message.into())
}

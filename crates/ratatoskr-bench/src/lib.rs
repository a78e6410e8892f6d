//! Workloads that measure a Ratatoskr broker: `ratatoskr bench`.
//!
//! ```text
//!   arguments ─▶ Bench: a broker of our own, or --server ─▶ workload ─▶ Report ─▶ table or JSON
//!                                                            │    ▲
//!       publisher · paced · streamed · reader · member ◀─────┘    └── latencies, ledger, usage, floor
//!                                   └── wire: bare HTTP/2
//! ```
//!
//! Everything runs on one thread: on a small machine the load generator takes its processor time from the broker, so it is
//! built to need little, and tells how much it used. Messages are stamped (`stamp.rs`), so that what arrives can be held against
//! what was sent (`ledger.rs`).
//!
//! It knows the wire alone: no broker crate, and no client crate either, whose cost would be part of every figure.

mod arguments;
mod bench;
mod broker;
mod credentials;
mod error;
mod floor;
mod frames;
mod latency;
mod ledger;
mod member;
mod pace;
mod paced;
mod progress;
mod publisher;
mod reader;
mod report;
mod stamp;
mod streamed;
mod usage;
mod views;
mod wire;
mod workloads;

pub use arguments::{BenchArguments, DurabilityWord, LoadFlags, PacedFlags, RunFlags, Workload};
pub use bench::Target;
pub use credentials::Credentials;
pub use error::BenchError;
pub use floor::Floor;
pub use latency::Percentiles;
pub use ledger::Faults;
pub use report::{Figure, Report, Row};

use crate::bench::Bench;
use crate::error::{Outcome, during, failed};
use crate::workloads::Measure;

impl Workload {
    /// What every workload takes.
    pub fn flags(&self) -> &RunFlags {
        match self {
            Workload::Pub(arguments) => &arguments.run,
            Workload::Sub(arguments) => &arguments.run,
            Workload::Fanout(arguments) => &arguments.run,
            Workload::E2e(arguments) => &arguments.run,
            Workload::Consume(arguments) => &arguments.run,
            Workload::Redelivery(arguments) => &arguments.run,
            Workload::Unsettled(arguments) => &arguments.run,
            Workload::Latency(arguments) => &arguments.run,
            Workload::Topics(arguments) => &arguments.run,
            Workload::Idle(arguments) => &arguments.run,
            Workload::Recovery(arguments) => &arguments.run,
            Workload::Profile(arguments) => &arguments.run,
            Workload::Floor(arguments) => &arguments.run,
        }
    }
}

/// Measures. `target` is the broker to measure; without one, this very program is started as a broker. `announce` is given the
/// line of effective parameters before anything is measured.
pub fn run(
    workload: &Workload,
    target: Option<Target>,
    announce: impl FnOnce(&str),
) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(during("starting the event loop"))?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        tokio::select! {
            outcome = dispatch(workload, target, announce) => outcome,
            // A broker of our own goes with what is dropped here.
            _ = tokio::signal::ctrl_c() => Err(failed("interrupted")),
        }
    })
}

async fn dispatch(
    workload: &Workload,
    target: Option<Target>,
    announce: impl FnOnce(&str),
) -> Outcome<Report> {
    let bench = match workload {
        // The machine alone: no broker is asked, none is started.
        Workload::Floor(arguments) => return workloads::bare::run(arguments, announce),
        other => Bench::open(other.flags().clone(), target).await?,
    };
    match workload {
        Workload::Pub(arguments) => measure(arguments, bench, announce).await,
        Workload::Sub(arguments) => measure(arguments, bench, announce).await,
        Workload::Fanout(arguments) => measure(arguments, bench, announce).await,
        Workload::E2e(arguments) => measure(arguments, bench, announce).await,
        Workload::Consume(arguments) => measure(arguments, bench, announce).await,
        Workload::Redelivery(arguments) => measure(arguments, bench, announce).await,
        Workload::Unsettled(arguments) => measure(arguments, bench, announce).await,
        Workload::Latency(arguments) => measure(arguments, bench, announce).await,
        Workload::Topics(arguments) => measure(arguments, bench, announce).await,
        Workload::Idle(arguments) => measure(arguments, bench, announce).await,
        Workload::Recovery(arguments) => measure(arguments, bench, announce).await,
        Workload::Profile(arguments) => measure(arguments, bench, announce).await,
        Workload::Floor(_) => unreachable!("it has returned above"),
    }
}

async fn measure<W: Measure>(workload: &W, mut bench: Bench, announce: impl FnOnce(&str)) -> Outcome<Report> {
    workload.check(&bench)?;
    bench.report.workload = W::NAME;
    bench.report.parameters.extend(workload.parameters());
    announce(&bench.report.headline());
    bench.report.floor = Some(Floor::measure(bench.folder(), floor::SAMPLES)?);
    for _ in 0..bench.flags.rounds {
        workload.round(&mut bench).await?;
        bench.end_round().await?;
    }
    bench.judge_faults();
    Ok(bench.report)
}

//! Minutes of real load on one broker: nothing lost, nothing twice, nothing out of order, memory flat.
//!
//! ```text
//! 50 publishers ─▶ topic "soak" ─▶ 500 subscribers, each checks every message     ┐
//! 20 publishers ─▶ 1,000 other topics ─▶ 100 subscribers, counts checked at the end├─▶ one broker, watched by /proc
//!                                                                                  ┘
//! ```
//!
//! The load runs in this one process on one thread; what it remembers grows by four bytes per
//! message, not per delivery. Invariants checked: see [`ledger`] (content, order, gaps) and
//! [`watch`] (memory).

mod ledger;
mod load;
mod message;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker_process::BrokerSetup;
use crate::failed::{Failed, Outcome, While};
use crate::workshop::{Profile, Workshop};

use ledger::Ledger;
use load::Load;
use watch::Watch;

/// How long subscribers may take to receive the last messages once publishing has stopped.
const DRAIN_SECONDS_MAX: u64 = 60;

/// How much load, and for how long.
#[derive(clap::Args, Clone)]
pub(crate) struct SoakOptions {
    /// Minutes of load
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Publishers on the main topic
    #[arg(long, default_value_t = 50)]
    publishers: u32,
    /// Subscribers of the main topic
    #[arg(long, default_value_t = 500)]
    subscribers: u32,
    /// Messages a second on the main topic, all publishers together
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Other topics in use
    #[arg(long, default_value_t = 1000)]
    other_topics: u32,
    /// Messages a second over the other topics together
    #[arg(long, default_value_t = 500.0)]
    other_rate: f64,
    /// Bytes of each payload
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(i64::from(message::PAYLOAD_BYTES_MIN)..=1 << 20))]
    payload_bytes: u32,
    /// Connections the clients share
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Mebibytes of memory the broker may use: little, so that its share for recent messages is full early in the run
    #[arg(long, default_value_t = 256)]
    memory_mebibytes: u32,
    /// Mebibytes the broker's memory may grow after its first third of the run
    #[arg(long, default_value_t = 8.0)]
    growth_mebibytes: f64,
    /// The build of the broker
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
}

impl SoakOptions {
    /// A run short and light enough for every test run, with the quickly built broker.
    pub(crate) fn short() -> SoakOptions {
        SoakOptions {
            minutes: 20.0 / 60.0,
            publishers: 10,
            subscribers: 50,
            rate: 100.0,
            other_topics: 100,
            other_rate: 100.0,
            payload_bytes: 256,
            connections: 10,
            memory_mebibytes: 256,
            // Buffers and pools still fill in a run this short; the long run has the strict bound.
            growth_mebibytes: 24.0,
            profile: Profile::Dev,
        }
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.minutes.max(0.0) * 60.0)
    }
}

/// Runs the load and prints what it did to the broker.
pub(crate) fn run(workshop: &Workshop, options: &SoakOptions) -> Outcome {
    let program = workshop.broker_program(options.profile)?;
    let folder = tempfile::tempdir_in(&workshop.target).when("creating a folder for the broker")?;
    let mut setup = BrokerSetup::new(program, folder.path())?;
    setup.arguments = vec!["--memory".into(), format!("{}MiB", options.memory_mebibytes)];
    let broker = setup.start()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().when("starting a runtime")?;
    let ledger = Arc::new(Ledger::new(options.subscribers, options.other_topics));
    let mut watch = Watch::new(Arc::clone(&ledger), &broker);

    runtime.block_on(async {
        let load = Load::start(&setup.uri(), options, &ledger).await?;
        println!(
            "{} publishers and {} subscribers on one topic, {} other topics, {:.1} minutes",
            options.publishers, options.subscribers, options.other_topics, options.minutes
        );
        let end = Instant::now() + options.duration();
        while Instant::now() < end {
            tokio::time::sleep(options.duration().div_f64(60.0).max(Duration::from_secs(1))).await;
            watch.sample()?;
            ledger.check()?;
        }
        ledger.stop_publishing();
        drain(&ledger).await?;
        load.check_other_topics(&ledger).await
    })?;
    runtime.shutdown_background();
    let verdict = watch.verdict(options.growth_mebibytes);
    broker.stop()?;
    println!("{}", ledger.summary());
    verdict
}

/// Waits until every subscriber has every acknowledged message.
async fn drain(ledger: &Ledger) -> Outcome {
    let started = Instant::now();
    while !ledger.is_drained() {
        ledger.check()?;
        if started.elapsed() > Duration::from_secs(DRAIN_SECONDS_MAX) {
            return Err(Failed::new(format!(
                "{DRAIN_SECONDS_MAX} s after the last publish: {}",
                ledger.who_lags()
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("drained {} ms after the last publish", started.elapsed().as_millis());
    Ok(())
}

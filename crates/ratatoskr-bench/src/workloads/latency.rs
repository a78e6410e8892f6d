//! `bench latency`: publish at a fixed rate, whatever the broker does.
//!
//! Latency counts from when a message was due: a stall of the broker is seen by every message that was due meanwhile. What the
//! load generator itself was late is a figure of its own; where it is not small against the latency, the machine was too busy to measure.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Measure, verify_topics};
use crate::arguments::{PacedFlags, RunFlags};
use crate::bench::{Bench, Done};
use crate::error::Outcome;
use crate::paced::{self, Paced, PacedLoad};
use crate::report::Figure;

/// From the beginning of a paced load to its first message.
pub(crate) const LEAD: Duration = Duration::from_millis(20);

/// Arguments of `bench latency`.
#[derive(Clone, Debug, Args)]
pub struct LatencyArguments {
    #[command(flatten)]
    pub(crate) load: PacedFlags,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

impl Measure for LatencyArguments {
    const NAME: &'static str = "latency";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        self.load.parameters()
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let load = &self.load;
        let topics = bench.topics(load.topics).await?;
        let connections = bench.connect(load.clients).await?;
        let progress = bench.progress("publishing", load.messages());
        let meter = bench.meter()?;
        let paced = PacedLoad {
            topics: topics.clone(),
            messages: load.messages(),
            size: load.size,
            rate: load.rate,
            start: Instant::now() + LEAD,
        };
        let found = paced::publish(&connections, paced, bench.stamper(), progress.done.clone()).await?;
        let name = format!("{}/s, due to acknowledged", load.rate);
        let latency = Some(&found.acknowledged);
        meter.finish(bench, Done { name, messages: load.messages(), size: load.size, latency })?;
        drop(progress);
        bench.report.figures.extend(paced_figures(&found));
        if bench.flags.verify {
            verify_topics(bench, &topics, load.messages()).await?;
        }
        Ok(())
    }
}

/// How well the load generator kept to its schedule.
pub(crate) fn paced_figures(found: &Paced) -> Vec<Figure> {
    let mut figures = Figure::percentiles("sent late by", found.late.percentiles());
    figures.push(Figure::new("on their way at a time, at most", f64::from(found.in_flight_peak), "requests"));
    figures
}

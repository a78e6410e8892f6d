//! `bench topics`: the same load over few and very many topics.
//!
//! One row for each number of topics. A broker in which a topic costs a sync, a task or a file of its own gets slower down the table.

use clap::Args;

use super::{Measure, verify_topics};
use crate::arguments::RunFlags;
use crate::bench::{Bench, Done};
use crate::error::Outcome;
use crate::publisher::{self, Load, Mode};

/// Arguments of `bench topics`.
#[derive(Clone, Debug, Args)]
pub struct TopicsArguments {
    /// Numbers of topics, one load each
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub counts: Vec<u32>,
    /// Messages of each load
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub msgs: u64,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Calls on their way at a time, all connections together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

impl Measure for TopicsArguments {
    const NAME: &'static str = "topics";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let counts: Vec<String> = self.counts.iter().map(u32::to_string).collect();
        vec![
            ("topics", counts.join(" ")),
            ("messages", self.msgs.to_string()),
            ("size", self.size.to_string()),
            ("clients", self.clients.to_string()),
            ("in flight", self.in_flight.to_string()),
        ]
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let connections = bench.connect(self.clients).await?;
        for &count in &self.counts {
            let topics = bench.topics(count).await?;
            let load = Load {
                topics: topics.clone(),
                messages: self.msgs,
                size: self.size,
                mode: Mode::Unary,
                in_flight: self.in_flight,
            };
            let progress = bench.progress("publishing", self.msgs);
            let meter = bench.meter()?;
            let latencies =
                publisher::publish(&connections, load, bench.stamper(), progress.done.clone()).await?;
            let name = if count == 1 { "1 topic".to_owned() } else { format!("{count} topics") };
            meter.finish(
                bench,
                Done { name, messages: self.msgs, size: self.size, latency: Some(&latencies) },
            )?;
            drop(progress);
            if bench.flags.verify {
                verify_topics(bench, &topics, self.msgs).await?;
            }
        }
        Ok(())
    }
}

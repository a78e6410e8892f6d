//! `bench recovery`: publish, kill the broker without warning, and see how long the next start takes until it serves.
//!
//! Everything was acknowledged before the kill, so everything has to be there afterwards: a message less fails the run, whatever `--verify`
//! says. A topic kept in memory has nothing to recover and is refused.

use clap::Args;

use super::{Measure, fill, usage, verify_topics};
use crate::arguments::{DurabilityWord, RunFlags};
use crate::bench::{Bench, Done};
use crate::error::Outcome;
use crate::report::Figure;

/// Arguments of `bench recovery`.
#[derive(Clone, Debug, Args)]
pub struct RecoveryArguments {
    /// Messages to publish
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub msgs: u64,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    /// Topics to spread the messages over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub topics: u32,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

impl Measure for RecoveryArguments {
    const NAME: &'static str = "recovery";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("messages", self.msgs.to_string()),
            ("size", self.size.to_string()),
            ("topics", self.topics.to_string()),
        ]
    }

    fn check(&self, bench: &Bench) -> Outcome {
        if self.run.durability == DurabilityWord::Memory {
            return Err(usage(
                "messages of durability memory do not survive a kill; there is nothing to recover",
            ));
        }
        bench.require_own()
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let topics = bench.topics(self.topics).await?;
        let meter = bench.meter()?;
        fill(bench, &topics, self.msgs, self.size).await?;
        meter.finish(
            bench,
            Done { name: "publish".to_owned(), messages: self.msgs, size: self.size, latency: None },
        )?;
        let took = bench.kill_and_restart()?;
        let memory = bench.usage_known()?.rss_bytes;
        let mut held = 0;
        for topic in &topics {
            held += bench.held(topic).await?;
        }
        bench.report.figures.extend([
            Figure::new("start after kill -9", took.as_secs_f64() * 1e6, "µs"),
            Figure::mib("memory after the start", memory),
            Figure::new("messages there after the start", held as f64, "messages"),
        ]);
        if held < self.msgs {
            let lost = self.msgs - held;
            bench
                .report
                .missed
                .push(format!("{lost} of {} acknowledged messages are gone after kill -9", self.msgs));
        }
        if bench.flags.verify {
            verify_topics(bench, &topics, self.msgs).await?;
        }
        Ok(())
    }
}

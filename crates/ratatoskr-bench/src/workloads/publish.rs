//! `bench pub`: publish as fast as it goes.
//!
//! A closed loop: so many requests are on their way, each new one waits for an answer. Its latency is that of a caller under this load;
//! for latency at a rate that somebody else decides, there is `bench latency`.

use clap::{Args, ValueEnum};

use super::{Measure, load_parameters, verify_topics};
use crate::arguments::{LoadFlags, RunFlags};
use crate::bench::{Bench, Done};
use crate::error::Outcome;
use crate::publisher::{self, Load, Mode};

/// Arguments of `bench pub`.
#[derive(Clone, Debug, Args)]
pub struct PublishArguments {
    /// Messages to publish
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub msgs: u64,
    /// One call a message, batches, or streams with many requests on their way
    #[arg(long, value_enum, default_value = "unary")]
    pub mode: PublishMode,
    /// Messages of one request; for batch and stream
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub batch: u64,
    #[command(flatten)]
    pub(crate) load: LoadFlags,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// How messages are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublishMode {
    /// `Publish`: one message, one call, one receipt
    Unary,
    /// `PublishBatch`: many messages a call
    Batch,
    /// `PublishStream`: many requests on their way on one stream
    Stream,
}

impl PublishArguments {
    fn mode(&self) -> Mode {
        match self.mode {
            PublishMode::Unary => Mode::Unary,
            PublishMode::Batch => Mode::Batch(self.batch),
            PublishMode::Stream => Mode::Stream(self.batch),
        }
    }

    fn mode_in_words(&self) -> String {
        match self.mode() {
            Mode::Unary => "unary".to_owned(),
            Mode::Batch(batch) => format!("batch of {batch}"),
            Mode::Stream(batch) => format!("stream of {batch}"),
        }
    }
}

impl Measure for PublishArguments {
    const NAME: &'static str = "pub";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![("mode", self.mode_in_words()), ("messages", self.msgs.to_string())];
        parameters.extend(load_parameters(&self.load));
        parameters
    }

    fn check(&self, _bench: &Bench) -> Outcome {
        let request_bytes = self.batch * (self.load.size as u64 + 32);
        if self.mode != PublishMode::Unary && request_bytes > 16 << 20 {
            let message = format!(
                "a request would have {request_bytes} bytes, at most 16 MiB are allowed; lower --batch"
            );
            return Err(super::usage(message));
        }
        Ok(())
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let topics = bench.topics(self.load.topics).await?;
        let connections = bench.connect(self.load.clients).await?;
        let load = Load {
            topics: topics.clone(),
            messages: self.msgs,
            size: self.load.size,
            mode: self.mode(),
            in_flight: self.load.in_flight,
        };
        let progress = bench.progress("publishing", self.msgs);
        let meter = bench.meter()?;
        let latencies =
            publisher::publish(&connections, load, bench.stamper(), progress.done.clone()).await?;
        let done = Done {
            name: self.mode_in_words(),
            messages: self.msgs,
            size: self.load.size,
            latency: Some(&latencies),
        };
        meter.finish(bench, done)?;
        drop(progress);
        if bench.flags.verify {
            verify_topics(bench, &topics, self.msgs).await?;
        }
        Ok(())
    }
}

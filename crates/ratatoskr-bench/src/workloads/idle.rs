//! `bench idle`: what topics, connections and subscribers cost that do nothing.
//!
//! ```text
//!   nothing ─▶ processor for a while ─▶ + topics ─▶ + connections ─▶ + subscribers ─▶ processor for a while
//!                        memory is read between the steps; the difference is divided by what came
//! ```

use std::time::{Duration, Instant};

use clap::Args;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::Measure;
use crate::arguments::RunFlags;
use crate::bench::Bench;
use crate::error::Outcome;
use crate::reader::{self, From};
use crate::report::Figure;

/// How long the broker may write behind before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// Subscribers that are opened at a time.
const OPENING: usize = 64;

/// Arguments of `bench idle`.
#[derive(Clone, Debug, Args)]
pub struct IdleArguments {
    /// Topics to create
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub topics: u32,
    /// Connections to open
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Subscribers to open, over those connections, all on one topic
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub subscribers: u32,
    /// For how long the idle broker's processor time is read
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

impl Measure for IdleArguments {
    const NAME: &'static str = "idle";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("topics", self.topics.to_string()),
            ("clients", self.clients.to_string()),
            ("subscribers", self.subscribers.to_string()),
            ("seconds", self.seconds.to_string()),
        ]
    }

    fn check(&self, bench: &Bench) -> Outcome {
        bench.usage_known().map(drop)
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let mut figures = vec![Figure::mib("memory, nothing there", memory(bench).await?)];
        figures.push(self.processor(bench, "processor, nothing there").await?);

        let before = memory(bench).await?;
        let topics = bench.topics(self.topics).await?;
        let with_topics = memory(bench).await?;
        figures.push(per("memory of a topic", with_topics, before, self.topics));

        let connections = bench.connect(self.clients).await?;
        let with_connections = memory(bench).await?;
        figures.push(per("memory of a connection", with_connections, with_topics, self.clients));

        let opening = (0..self.subscribers as usize)
            .map(|index| reader::follow(&connections[index % connections.len()], &topics[0], From::Latest));
        // Held open until the end.
        let followers: Vec<_> = stream::iter(opening).buffer_unordered(OPENING).try_collect().await?;
        let with_subscribers = memory(bench).await?;
        figures.push(per("memory of a subscriber", with_subscribers, with_connections, self.subscribers));
        figures.push(Figure::mib("memory, all of it there", with_subscribers));
        figures.push(self.processor(bench, "processor, all of it there").await?);
        drop(followers);
        bench.report.figures.extend(figures);
        Ok(())
    }
}

impl IdleArguments {
    async fn processor(&self, bench: &Bench, name: &str) -> Outcome<Figure> {
        let (before, started) = (bench.usage_known()?, Instant::now());
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let used = bench.usage_known()?.cpu.saturating_sub(before.cpu);
        Ok(Figure::new(name, used.as_secs_f64() * 100.0 / started.elapsed().as_secs_f64(), "% of a core"))
    }
}

async fn memory(bench: &Bench) -> Outcome<u64> {
    tokio::time::sleep(SETTLE).await;
    Ok(bench.usage_known()?.rss_bytes)
}

fn per(name: &str, with: u64, without: u64, count: u32) -> Figure {
    Figure::new(name, with.saturating_sub(without) as f64 / 1024.0 / f64::from(count), "KiB")
}

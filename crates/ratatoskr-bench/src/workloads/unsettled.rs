//! `bench unsettled`: what very many unsettled messages cost.
//!
//! ```text
//!   never looked at    subscribe ─▶ publish N ─▶ memory ─▶ kill -9 ─▶ start: time, memory
//!   delivered, nacked  … and deliver all N, nack each for hours ─▶ memory ─▶ kill -9 ─▶ start: time, memory
//! ```
//!
//! In the first case a subscription is a place in a log, and should cost nothing; in the second the broker has to remember each
//! message. The start between them gives the second case fresh memory to begin with.

use std::time::Duration;

use clap::Args;
use ratatoskr_proto::SubscriptionName;

use super::{Measure, fill, one, open_settings};
use crate::arguments::RunFlags;
use crate::bench::Bench;
use crate::error::{Outcome, failed};
use crate::member::{Member, Told};
use crate::report::Figure;

/// Longer than any run.
const LEASE_MS: i64 = 600_000;
/// So long nacked messages stay away: the most the broker allows.
const DELAY: Duration = Duration::from_secs(12 * 60 * 60);
/// Messages the member may hold.
const WINDOW: u32 = 10_000;
/// When nothing has come for so long, nothing more will.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the broker may write behind before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Arguments of `bench unsettled`.
#[derive(Clone, Debug, Args)]
pub struct UnsettledArguments {
    /// Messages left unsettled
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub msgs: u64,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

impl Measure for UnsettledArguments {
    const NAME: &'static str = "unsettled";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("messages", self.msgs.to_string()), ("size", self.size.to_string())]
    }

    fn check(&self, bench: &Bench) -> Outcome {
        bench.require_own()
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let topic = bench.topic().await?;
        let name = bench.subscription(&topic, open_settings(LEASE_MS)).await?;
        let before = bench.usage_known()?.rss_bytes;
        bench.report.figures.push(Figure::mib("memory before", before));
        fill(bench, &[topic], self.msgs, self.size).await?;
        observe(bench, "never looked at").await?;
        nack_all(bench, &name, self.msgs).await?;
        observe(bench, "delivered and nacked").await
    }
}

/// Memory, a kill, and what the next start takes.
async fn observe(bench: &mut Bench, case: &str) -> Outcome {
    tokio::time::sleep(SETTLE).await;
    let loaded = bench.usage_known()?.rss_bytes;
    let took = bench.kill_and_restart()?;
    tokio::time::sleep(SETTLE).await;
    let restarted = bench.usage_known()?.rss_bytes;
    bench.report.figures.extend([
        Figure::mib(format!("{case}: memory"), loaded),
        Figure::new(format!("{case}: start after kill -9"), took.as_secs_f64() * 1e6, "µs"),
        Figure::mib(format!("{case}: memory after the start"), restarted),
    ]);
    Ok(())
}

/// Has every message delivered once and sends it away for hours.
async fn nack_all(bench: &Bench, name: &SubscriptionName, messages: u64) -> Outcome {
    let connection = one(bench.connect(1).await?)?;
    let mut member = Member::join(&connection, name, WINDOW).await?;
    let progress = bench.progress("nacking", messages);
    while progress.done.get() < messages {
        let told = tokio::time::timeout(PATIENCE, member.next()).await;
        let done = progress.done.get();
        let told =
            told.map_err(|_| failed(format!("{done} of {messages} messages were nacked, then none came")))??;
        match told {
            Told::Deliveries(messages) => {
                member.nack(messages.into_iter().map(|message| message.token), DELAY).await?;
            }
            Told::Settled { messages, .. } => progress.done.set(done + messages),
        }
    }
    Ok(())
}

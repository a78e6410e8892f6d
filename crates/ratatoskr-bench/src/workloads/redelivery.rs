//! `bench redelivery`: when does a message that failed really return?
//!
//! ```text
//!   nack            delivered ─nack, delay─▶ asked for ──lateness──▶ delivered again ─ack─▶
//!   lease time-out  delivered, no word ────▶ lease end ──lateness──▶ delivered again ─ack─▶
//! ```
//!
//! Lateness counts from the moment the broker could not be sooner: when the nack was sent plus the delay, when the message was
//! delivered plus the lease. So the way of the nack to the broker, and of the message back, is part of it. A message that returns earlier
//! than it should is counted, and fails the run. Jitter is off.

use std::time::{Duration, Instant};

use clap::Args;
use ratatoskr_proto::SubscriptionName;

use super::{Measure, fill, one, open_settings};
use crate::arguments::RunFlags;
use crate::bench::{Bench, Done};
use crate::error::{Outcome, failed};
use crate::latency::Latencies;
use crate::member::{Member, Told};
use crate::report::Figure;

/// Longer than any run.
const LONG_LEASE_MS: i64 = 600_000;
/// Times on the wire and in timers are whole milliseconds: so much earlier is no broken promise.
const ROUNDING: Duration = Duration::from_millis(1);
/// How long after the delay the last message may come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `bench redelivery`.
#[derive(Clone, Debug, Args)]
pub struct RedeliveryArguments {
    /// Messages, for nacks and for lease time-outs each
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub msgs: u64,
    /// Delay asked for, and lease, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub delay_ms: u64,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// How messages are made to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    /// By a nack with a delay.
    Nacked,
    /// By silence until the lease ends.
    Silent,
}

impl Measure for RedeliveryArguments {
    const NAME: &'static str = "redelivery";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("messages", self.msgs.to_string()),
            ("delay and lease", format!("{} ms", self.delay_ms)),
            ("size", self.size.to_string()),
        ]
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        for (failing, lease_ms, name) in [
            (Failing::Nacked, LONG_LEASE_MS, "nack, lateness"),
            (Failing::Silent, self.delay_ms as i64, "lease time-out, lateness"),
        ] {
            let topic = bench.topic().await?;
            let subscription = bench.subscription(&topic, open_settings(lease_ms)).await?;
            fill(bench, &[topic], self.msgs, self.size).await?;
            let meter = bench.meter()?;
            let seen = self.provoke(bench, &subscription, failing).await?;
            let done = Done {
                name: name.to_owned(),
                messages: self.msgs,
                size: self.size,
                latency: Some(&seen.lateness),
            };
            meter.finish(bench, done)?;
            bench.report.figures.push(Figure::new(
                format!("{name}: too early"),
                seen.early as f64,
                "messages",
            ));
            if seen.early > 0 {
                bench
                    .report
                    .missed
                    .push(format!("{} messages returned before their time ({name})", seen.early));
            }
        }
        Ok(())
    }
}

/// What came back, and when.
struct Seen {
    lateness: Latencies,
    early: u64,
}

impl RedeliveryArguments {
    async fn provoke(&self, bench: &Bench, name: &SubscriptionName, failing: Failing) -> Outcome<Seen> {
        let connection = one(bench.connect(1).await?)?;
        let mut member = Member::join(&connection, name, self.msgs as u32).await?;
        let delay = Duration::from_millis(self.delay_ms);
        let stamper = bench.stamper();
        // By number: from when on the message may return.
        let mut expected: Vec<Option<Instant>> = vec![None; self.msgs as usize];
        let mut seen = Seen { lateness: Latencies::new(), early: 0 };
        let mut returned = 0;
        while returned < self.msgs || member.steps_open() > 0 {
            let told = tokio::time::timeout(delay + PATIENCE, member.next()).await;
            let told =
                told.map_err(|_| failed(format!("{} messages never returned", self.msgs - returned)))??;
            let Told::Deliveries(messages) = told else { continue };
            let now = Instant::now();
            let (mut first, mut again) = (Vec::new(), Vec::new());
            for message in messages {
                let stamp = stamper.read(&message.payload);
                let (stamp, _) = stamp.ok_or_else(|| failed("a message of another run came"))?;
                let expected = &mut expected[stamp.number as usize];
                if let Some(due) = *expected {
                    seen.lateness.record(now.saturating_duration_since(due));
                    seen.early += u64::from(now + ROUNDING < due);
                    returned += 1;
                    again.push(message.token);
                } else {
                    *expected = Some(now + delay);
                    first.push(message.token);
                }
            }
            if failing == Failing::Nacked && !first.is_empty() {
                member.nack(first, delay).await?;
            }
            if !again.is_empty() {
                member.ack(again).await?;
            }
        }
        Ok(seen)
    }
}

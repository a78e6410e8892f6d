//! `bench profile`: a promised load, held against its promise.
//!
//! ```text
//!   profile         rate       latency (P99, due to delivered)   memory
//!   chat             1,000/s     5 ms                             100 MB     topics with a subscriber each
//!   iot              5,000/s    10 ms                             200 MB     very many topics, each with a subscriber
//!   microservices   10,000/s    50 ms                             500 MB     a durable subscription, every ack confirmed
//!   streaming       25,000/s   100 ms                           1,000 MB     one publish stream, one subscriber
//! ```
//!
//! A promise is kept when the rate was held (within one percent), the latency stayed below its limit and the broker's memory never
//! went above its own.

use std::rc::Rc;
use std::time::Instant;

use clap::{Args, ValueEnum};

use super::consume::{Findings, join, work};
use super::end_to_end::PacedMode;
use super::latency::{LEAD, paced_figures};
use super::{Measure, end_to_end, open_settings};
use crate::arguments::{PacedFlags, RunFlags};
use crate::bench::{Bench, Done};
use crate::error::Outcome;
use crate::latency::Latencies;
use crate::paced::{self, PacedLoad};
use crate::report::Figure;

/// Connections of publishers.
const CLIENTS: u32 = 8;
/// Members of the durable subscription, and what each may hold.
const MEMBERS: u32 = 4;
const WINDOW: u32 = 1000;
/// Longer than any run.
const LEASE_MS: i64 = 600_000;
/// A rate is held when it is missed by no more than this share.
const RATE_SLACK: f64 = 0.01;

/// Arguments of `bench profile`.
#[derive(Clone, Debug, Args)]
pub struct ProfileArguments {
    /// Which load
    #[arg(value_enum)]
    pub profile: ProfileName,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub seconds: u64,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// The promised loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileName {
    /// 1,000 messages a second, 5 ms, 100 MB
    Chat,
    /// 5,000 messages a second, 10 ms, 200 MB
    Iot,
    /// 10,000 messages a second, 50 ms, 500 MB
    Microservices,
    /// 25,000 messages a second, 100 ms, 1 GB
    Streaming,
}

/// What a profile promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Promise {
    word: &'static str,
    rate: u64,
    latency_ms_max: u64,
    memory_mb_max: u64,
    topics: u32,
}

impl ProfileName {
    fn promise(self) -> Promise {
        let promise = |word, rate, latency_ms_max, memory_mb_max, topics| Promise {
            word,
            rate,
            latency_ms_max,
            memory_mb_max,
            topics,
        };
        match self {
            ProfileName::Chat => promise("chat", 1000, 5, 100, 20),
            ProfileName::Iot => promise("iot", 5000, 10, 200, 1000),
            ProfileName::Microservices => promise("microservices", 10_000, 50, 500, 1),
            ProfileName::Streaming => promise("streaming", 25_000, 100, 1000, 1),
        }
    }
}

impl Measure for ProfileArguments {
    const NAME: &'static str = "profile";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let promise = self.profile.promise();
        vec![
            ("profile", promise.word.to_owned()),
            ("rate", format!("{}/s", promise.rate)),
            ("latency", format!("at most {} ms", promise.latency_ms_max)),
            ("memory", format!("at most {} MB", promise.memory_mb_max)),
            ("topics", promise.topics.to_string()),
            ("seconds", self.seconds.to_string()),
            ("size", self.size.to_string()),
        ]
    }

    fn check(&self, bench: &Bench) -> Outcome {
        bench.usage_known().map(drop)
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let promise = self.profile.promise();
        let load = PacedFlags {
            rate: promise.rate,
            seconds: self.seconds,
            size: self.size,
            clients: CLIENTS,
            topics: promise.topics,
        };
        let delivered = match self.profile {
            ProfileName::Chat | ProfileName::Iot => end_to_end::drive(bench, &load, PacedMode::Unary).await?,
            ProfileName::Microservices => share_work(bench, &load).await?,
            ProfileName::Streaming => end_to_end::drive(bench, &load, PacedMode::Stream).await?,
        };
        let rate = bench.report.rows.last().map_or(0.0, crate::report::Row::rate);
        let peak = bench.usage_known()?.rss_bytes_peak;
        let p99_us = delivered.percentiles().map_or(f64::INFINITY, |seen| seen.p99_us);
        bench.report.figures.push(Figure::mib("memory, at most", peak));
        bench.report.missed.extend(promise.missed(rate, p99_us / 1e3, peak as f64 / 1e6));
        Ok(())
    }
}

impl Promise {
    /// What of it was not kept, a sentence each.
    fn missed(&self, rate: f64, latency_ms: f64, memory_mb: f64) -> Vec<String> {
        let mut missed = Vec::new();
        if rate < self.rate as f64 * (1.0 - RATE_SLACK) {
            missed.push(format!("{} messages a second were promised, {rate:.0} were delivered", self.rate));
        }
        if latency_ms > self.latency_ms_max as f64 {
            missed.push(format!(
                "a P99 of at most {} ms was promised, it was {latency_ms:.1} ms",
                self.latency_ms_max
            ));
        }
        if memory_mb > self.memory_mb_max as f64 {
            missed.push(format!(
                "at most {} MB of memory were promised, it took {memory_mb:.0} MB",
                self.memory_mb_max
            ));
        }
        missed
    }
}

/// Publishers and the members of one durable subscription, at the same time.
async fn share_work(bench: &mut Bench, load: &PacedFlags) -> Outcome<Latencies> {
    let topic = bench.topic().await?;
    let name = bench.subscription(&topic, open_settings(LEASE_MS)).await?;
    let progress = bench.progress("sharing work", load.messages());
    let findings = Findings::new(bench, load.messages(), progress.done.clone());
    let members = join(bench, &name, MEMBERS, WINDOW).await?;
    let connections = bench.connect(load.clients).await?;
    let meter = bench.meter()?;
    let paced = PacedLoad {
        topics: vec![topic],
        messages: load.messages(),
        size: load.size,
        rate: load.rate,
        start: Instant::now() + LEAD,
    };
    let published = paced::publish(&connections, paced, bench.stamper(), Rc::default());
    let (found, ()) = tokio::try_join!(published, work(members, &findings))?;
    let delivered = findings.delivered();
    let name = format!("{}/s, due to delivered", load.rate);
    meter.finish(
        bench,
        Done { name, messages: load.messages(), size: load.size, latency: Some(&delivered) },
    )?;
    bench.report.figures.extend(paced_figures(&found));
    findings.account(bench);
    Ok(delivered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_up_to_its_limits() {
        let promise = ProfileName::Chat.promise();
        assert_eq!(promise.missed(995.0, 5.0, 100.0), Vec::<String>::new());
    }

    #[test]
    fn each_limit_is_a_promise_of_its_own() {
        let missed = ProfileName::Chat.promise().missed(900.0, 5.1, 101.0);
        assert_eq!(missed.len(), 3);
        assert_eq!(missed[1], "a P99 of at most 5 ms was promised, it was 5.1 ms");
        // A latency nobody saw is no latency within the limit.
        assert_eq!(ProfileName::Iot.promise().missed(5000.0, f64::INFINITY, 1.0).len(), 1);
    }
}

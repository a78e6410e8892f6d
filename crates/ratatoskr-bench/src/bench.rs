//! [`Bench`]: one run. The broker it drives, the topics it made there, and what it has found so far.
//!
//! ```text
//!   --server given ─▶ that broker, its process seen through --server-pid or not at all
//!   else           ─▶ a broker of our own (broker.rs), started here, gone at the end
//!                        └─ topics(n), subscription(…) ─▶ load ─▶ meter ─▶ rows of the report
//! ```
//!
//! Topics of a run have its number in their name, and go after each round: a broker that others use as well is left as it was.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{
    CreateSubscriptionRequest, CreateTopicRequest, DeleteTopicRequest, DescribeBrokerRequest,
    DescribeTopicRequest, SubscriptionName, SubscriptionSettings, TopicSettings,
};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::arguments::{DurabilityWord, RunFlags};
use crate::broker::OwnBroker;
use crate::credentials::Credentials;
use crate::error::{BenchError, Outcome, during, failed};
use crate::latency::Latencies;
use crate::ledger::{Faults, Ledger};
use crate::progress::{Bar, Progress};
use crate::report::{Report, Row};
use crate::stamp::Stamp;
use crate::usage::Usage;
use crate::wire::Connection;

/// Topics that are created or deleted at a time.
const ADMIN_IN_FLIGHT: usize = 64;
/// What topics of durability memory may keep together: below what a broker has for all of them, above the 16 MiB of a topic
/// that says nothing.
const MEMORY_BYTES: i64 = 192 << 20;

/// Calls that are not measured.
type Admin = MessageBrokerClient<InterceptedService<Channel, Credentials>>;

/// A broker that somebody else has started.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host and port.
    pub server: String,
    /// How to reach it, and what to show it.
    pub credentials: Credentials,
}

/// One run.
pub(crate) struct Bench {
    /// Host and port of the broker.
    authority: String,
    credentials: Credentials,
    own: Option<OwnBroker>,
    /// For everything that is not measured.
    admin: Admin,
    pub(crate) flags: RunFlags,
    /// Tells this run's messages and topics from others'.
    run: u32,
    /// What times in stamps are counted from.
    began: Instant,
    /// Topics of this round.
    topics: Vec<String>,
    /// How many topics the run has made: each has a new name.
    topics_made: u64,
    /// What has been found so far.
    pub(crate) report: Report,
}

impl Bench {
    /// Reaches the broker, or starts one.
    pub(crate) async fn open(flags: RunFlags, target: Option<Target>) -> Outcome<Bench> {
        let (own, authority, credentials) = if let Some(Target { server, credentials }) = target {
            (None, authority_of(&server)?, credentials)
        } else {
            let own = OwnBroker::start(&data_parent(&flags)?)?;
            let authority = own.authority().to_owned();
            (Some(own), authority, Credentials::default())
        };
        let mut bench = Bench {
            admin: admin(&authority, &credentials)?,
            authority,
            credentials,
            own,
            flags,
            run: fastrand::u32(..),
            began: Instant::now(),
            topics: Vec::new(),
            topics_made: 0,
            report: Report::default(),
        };
        let version = bench.version().await?;
        let server = if bench.own.is_some() { "own broker".to_owned() } else { bench.authority.clone() };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        bench.report.parameters = vec![
            ("server", format!("{server} {version}")),
            ("durability", bench.flags.durability.word().to_owned()),
            ("cores", cores.to_string()),
            ("rounds", bench.flags.rounds.to_string()),
        ];
        if bench.folder().is_some_and(is_in_memory) {
            bench.report.parameters.push(("data", "in memory (tmpfs), not on a disk".to_owned()));
        }
        Ok(bench)
    }

    async fn version(&mut self) -> Outcome<String> {
        let described = self.admin.describe_broker(DescribeBrokerRequest {}).await;
        let described = described.map_err(|status| match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => BenchError::from(status),
            _ => BenchError::Unavailable {
                address: self.authority.clone(),
                reason: status.message().to_owned(),
            },
        })?;
        Ok(described.into_inner().version)
    }

    /// The folder of the broker, if it is our own.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.own.as_ref().map(OwnBroker::folder)
    }

    /// Whether a bar is wanted.
    pub(crate) fn progress(&self, what: &'static str, total: u64) -> Progress {
        let bar = if self.flags.no_progress || self.flags.json { Bar::Hidden } else { Bar::Shown };
        Progress::start(bar, what, total)
    }

    /// New connections.
    pub(crate) async fn connect(&self, count: u32) -> Outcome<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count as usize);
        for _ in 0..count {
            connections.push(Connection::open(&self.authority, &self.credentials).await?);
        }
        Ok(connections)
    }

    /// New topics with the run's durability.
    pub(crate) async fn topics(&mut self, count: u32) -> Outcome<Vec<String>> {
        let names: Vec<String> = (0..u64::from(count))
            .map(|index| format!("bench-{:08x}-{}", self.run, self.topics_made + index))
            .collect();
        self.topics_made += u64::from(count);
        let is_memory = self.flags.durability == DurabilityWord::Memory;
        let settings = TopicSettings {
            durability: Some(self.flags.durability.wire().into()),
            retention_bytes: is_memory.then_some(MEMORY_BYTES / i64::from(count)),
            ..TopicSettings::default()
        };
        let creating = names.iter().map(|name| {
            let mut admin = self.admin.clone();
            let request = CreateTopicRequest { name: name.clone(), settings: Some(settings) };
            async move {
                let answer = admin.create_topic(request).await?.into_inner();
                if answer.created {
                    Ok(())
                } else {
                    Err(failed(format!("topic {}: {}", answer.topic, answer.error)))
                }
            }
        });
        stream::iter(creating).buffer_unordered(ADMIN_IN_FLIGHT).try_collect::<Vec<()>>().await?;
        self.topics.extend_from_slice(&names);
        Ok(names)
    }

    /// One new topic.
    pub(crate) async fn topic(&mut self) -> Outcome<String> {
        Ok(self.topics(1).await?.remove(0))
    }

    /// A new durable subscription, from the earliest message on.
    pub(crate) async fn subscription(
        &mut self,
        topic: &str,
        settings: SubscriptionSettings,
    ) -> Outcome<SubscriptionName> {
        let name = SubscriptionName { topic: topic.to_owned(), subscription: "bench".to_owned() };
        let request =
            CreateSubscriptionRequest { name: Some(name.clone()), start: None, settings: Some(settings) };
        self.admin.create_subscription(request).await?;
        Ok(name)
    }

    /// How many messages a topic holds.
    pub(crate) async fn held(&mut self, topic: &str) -> Outcome<u64> {
        let described = self.admin.describe_topic(DescribeTopicRequest { name: topic.to_owned() }).await?;
        let described =
            described.into_inner().topic.ok_or_else(|| failed("DescribeTopic answered nothing"))?;
        Ok(described.message_count.unsigned_abs())
    }

    /// Deletes the topics of this round.
    pub(crate) async fn end_round(&mut self) -> Outcome {
        let deleting = std::mem::take(&mut self.topics).into_iter().map(|name| {
            let mut admin = self.admin.clone();
            async move { admin.delete_topic(DeleteTopicRequest { name }).await.map(drop) }
        });
        stream::iter(deleting).buffer_unordered(ADMIN_IN_FLIGHT).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// Refuses what needs a broker that may be killed.
    pub(crate) fn require_own(&self) -> Outcome {
        if self.own.is_some() {
            return Ok(());
        }
        Err(BenchError::Usage(format!(
            "this kills its broker, and the one at {} is not its own; leave --server and RATATOSKR_SERVER out",
            self.authority
        )))
    }

    /// `kill -9`, and how long the next start takes until it serves.
    pub(crate) fn kill_and_restart(&mut self) -> Outcome<Duration> {
        let Some(own) = &mut self.own else { return Err(failed("the broker is not ours to kill")) };
        own.kill_nine()?;
        let took = own.start_again()?;
        own.authority().clone_into(&mut self.authority);
        self.admin = admin(&self.authority, &self.credentials)?;
        Ok(took)
    }

    /// What the broker uses now; `None` if its process is not known.
    pub(crate) fn usage(&self) -> Outcome<Option<Usage>> {
        let pid = self.own.as_ref().map(OwnBroker::pid).or(self.flags.server_pid);
        pid.map(Usage::read).transpose()
    }

    /// The same for figures that are nothing without it.
    pub(crate) fn usage_known(&self) -> Outcome<Usage> {
        let unknown = || {
            BenchError::Usage("this measures the broker's process: with --server, give --server-pid".into())
        };
        self.usage()?.ok_or_else(unknown)
    }

    /// Makes and reads this run's stamps.
    pub(crate) fn stamper(&self) -> Stamper {
        Stamper { run: self.run, began: self.began }
    }

    /// Begins to measure.
    pub(crate) fn meter(&self) -> Outcome<Meter> {
        Ok(Meter { server: self.usage()?, own: Usage::own()?, started: Instant::now() })
    }

    /// Adds what a ledger found wrong to the report.
    pub(crate) fn count_faults(&mut self, ledger: &Ledger) {
        let sum = self.report.faults.unwrap_or_default().plus(ledger.faults());
        self.report.faults = Some(sum);
    }

    /// Reports messages that never came. With `--verify` the ledger says so already.
    pub(crate) fn check_arrived(&mut self, arrived: u64, expected: u64) {
        if arrived < expected && !self.flags.verify {
            self.report
                .missed
                .push(format!("{arrived} of {expected} messages arrived, then nothing moved any more"));
        }
    }

    /// Turns faults into missed promises: once, at the end.
    pub(crate) fn judge_faults(&mut self) {
        let Some(Faults { lost, duplicated, reordered }) = self.report.faults else { return };
        for (count, what) in [(lost, "lost"), (duplicated, "duplicated"), (reordered, "reordered")] {
            if count > 0 {
                self.report.missed.push(format!("{count} messages were {what}"));
            }
        }
    }
}

/// Stamps of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamper {
    run: u32,
    began: Instant,
}

impl Stamper {
    /// The stamp of a message that is due at a time.
    pub(crate) fn stamp(self, publisher: u32, number: u64, due: Instant) -> Stamp {
        let at_ns = due.saturating_duration_since(self.began).as_nanos() as u64;
        Stamp { run: self.run, publisher, number, at_ns }
    }

    /// The stamp of a payload of this run, and when it was due.
    pub(crate) fn read(self, payload: &[u8]) -> Option<(Stamp, Instant)> {
        let stamp = Stamp::read(payload).filter(|stamp| stamp.run == self.run)?;
        Some((stamp, self.began + Duration::from_nanos(stamp.at_ns)))
    }
}

/// A measurement that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    started: Instant,
    server: Option<Usage>,
    own: Usage,
}

/// What a load did.
pub(crate) struct Done<'a> {
    /// Which load.
    pub(crate) name: String,
    /// Messages that count.
    pub(crate) messages: u64,
    /// Bytes of a payload.
    pub(crate) size: usize,
    /// What is shown as latency.
    pub(crate) latency: Option<&'a Latencies>,
}

impl Meter {
    /// Ends the measurement with a row of the report.
    pub(crate) fn finish(self, bench: &mut Bench, done: Done<'_>) -> Outcome {
        let seconds = self.started.elapsed().as_secs_f64();
        let (server, own) = (bench.usage()?, Usage::own()?);
        let server_cpu = server.zip(self.server).map(|(now, before)| now.cpu.saturating_sub(before.cpu));
        bench.report.rows.push(Row {
            name: done.name,
            messages: done.messages,
            seconds,
            payload_bytes: done.messages * done.size as u64,
            latency: done.latency.and_then(Latencies::percentiles),
            server_cpu_seconds: server_cpu.map(|cpu| cpu.as_secs_f64()),
            server_rss_bytes: server.map(|usage| usage.rss_bytes),
            bench_cpu_seconds: own.cpu.saturating_sub(self.own.cpu).as_secs_f64(),
        });
        Ok(())
    }
}

/// Where the folder of a broker of our own goes.
fn data_parent(flags: &RunFlags) -> Outcome<PathBuf> {
    let parent = match &flags.data_dir {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(during(format_args!("creating {}", folder.display())))?;
            folder.clone()
        }
        None => std::env::current_dir().map_err(during("finding the working directory"))?,
    };
    parent.canonicalize().map_err(during(format_args!("finding {}", parent.display())))
}

/// A sync there costs nothing, and says nothing about a disk.
fn is_in_memory(folder: &Path) -> bool {
    // `TMPFS_MAGIC` of linux/magic.h.
    const TMPFS: i64 = 0x0102_1994;
    rustix::fs::statfs(folder).is_ok_and(|file_system| file_system.f_type == TMPFS)
}

fn admin(authority: &str, credentials: &Credentials) -> Outcome<Admin> {
    let wrong =
        |error: tonic::transport::Error| BenchError::Usage(format!("server address {authority:?}: {error}"));
    let endpoint = Endpoint::from_shared(format!("{}://{authority}", credentials.scheme())).map_err(wrong)?;
    let endpoint = match credentials.tonic() {
        Some(tls) => endpoint.tls_config(tls).map_err(wrong)?,
        None => endpoint,
    };
    let channel = endpoint.tcp_nodelay(true).connect_lazy();
    Ok(MessageBrokerClient::with_interceptor(channel, credentials.clone()))
}

/// `host:port` of an address as people write it.
fn authority_of(server: &str) -> Outcome<String> {
    const PORT_DEFAULT: u16 = 50051;
    let rest = server.strip_prefix("http://").or_else(|| server.strip_prefix("https://")).unwrap_or(server);
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#')) {
        let message = format!(
            "server address {server:?} is no host and port; expected HOST:PORT, such as localhost:50051"
        );
        return Err(BenchError::Usage(message));
    }
    let after_host = rest.rfind(']').map_or(0, |bracket| bracket + 1);
    let has_port = rest[after_host..].contains(':');
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:{PORT_DEFAULT}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, authority) in [
            ("localhost:50051", "localhost:50051"),
            ("http://10.0.0.5:9/", "10.0.0.5:9"),
            ("broker", "broker:50051"),
            ("https://broker/", "broker:50051"),
            ("[::1]", "[::1]:50051"),
        ] {
            assert_eq!(authority_of(text).unwrap(), authority);
        }
        assert!(authority_of("ftp://x").is_err() && authority_of("").is_err());
    }

    #[test]
    fn stamps_of_other_runs_are_not_read() {
        let began = Instant::now();
        let (ours, other) = (Stamper { run: 1, began }, Stamper { run: 2, began });
        let due = began + Duration::from_micros(5);
        let mut arena = crate::stamp::Arena::new();
        let template = crate::stamp::Template::new(crate::stamp::Request::Single, 1, 24);
        let frame = template.stamped(&mut arena, "", ours.stamp(3, 4, due));
        let payload = &frame[frame.len() - 24..];
        let (stamp, read) = ours.read(payload).unwrap();
        assert_eq!((stamp.publisher, stamp.number, read), (3, 4, due));
        assert!(other.read(payload).is_none());
    }
}

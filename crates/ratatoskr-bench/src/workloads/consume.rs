//! `bench consume`: work off a topic through a durable subscription.
//!
//! ```text
//!   without --rate   fill the topic ─▶ members join ─▶ … ─▶ every message acked, and every ack confirmed
//!   with --rate      members wait ─▶ publish at the rate ─▶ the same, and from due to delivered
//! ```
//!
//! A member acks each delivery in one step as it comes. An ack counts when its fate is there: the broker has it as safe as its topic's
//! durability says. Verification knows no order: members share the messages.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use clap::Args;
use futures_util::future::try_join_all;
use ratatoskr_proto::SubscriptionName;

use super::latency::{LEAD, paced_figures};
use super::{Measure, fill, open_settings, usage};
use crate::arguments::RunFlags;
use crate::bench::{Bench, Done, Stamper};
use crate::error::{Outcome, failed};
use crate::latency::Latencies;
use crate::ledger::{Ledger, Order};
use crate::member::{Member, Told};
use crate::paced::{self, PacedLoad};
use crate::reader::while_it_moves;
use crate::report::Figure;

/// Longer than any run: no lease ends while it is measured.
const LEASE_MS: i64 = 600_000;

/// Arguments of `bench consume`.
#[derive(Clone, Debug, Args)]
pub struct ConsumeArguments {
    /// Messages to consume
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub msgs: u64,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    /// Members of the subscription, each with a connection
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub members: u32,
    /// Messages a member may hold unsettled
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub window: u32,
    /// Publish at this rate while members consume, instead of before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: Option<u64>,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// What the members of one subscription find together.
pub(crate) struct Findings {
    stamper: Stamper,
    messages: u64,
    /// Acks that are confirmed; a progress bar may look at it.
    confirmed: Rc<Cell<u64>>,
    /// From an ack to its fate.
    acked: RefCell<Latencies>,
    /// From when a message was due to its delivery.
    delivered: RefCell<Latencies>,
    /// `None` if nobody wants to know.
    ledger: RefCell<Option<Ledger>>,
    /// Told when everything is confirmed.
    finished: tokio::sync::Notify,
}

impl Findings {
    /// Nothing found yet.
    pub(crate) fn new(bench: &Bench, messages: u64, confirmed: Rc<Cell<u64>>) -> Rc<Findings> {
        Rc::new(Findings {
            stamper: bench.stamper(),
            messages,
            confirmed,
            acked: RefCell::new(Latencies::new()),
            delivered: RefCell::new(Latencies::new()),
            ledger: RefCell::new(bench.flags.verify.then(|| Ledger::new(messages, Order::Free))),
            finished: tokio::sync::Notify::new(),
        })
    }

    /// From when a message was due to its delivery.
    pub(crate) fn delivered(&self) -> Latencies {
        self.delivered.borrow().clone()
    }

    /// Adds what arrived wrong to the report, if anybody wants to know.
    pub(crate) fn account(&self, bench: &mut Bench) {
        if let Some(ledger) = self.ledger.borrow().as_ref() {
            bench.count_faults(ledger);
        }
    }

    fn is_finished(&self) -> bool {
        self.confirmed.get() >= self.messages
    }
}

/// Joins as many members as asked, each on a connection of its own.
pub(crate) async fn join(
    bench: &Bench,
    name: &SubscriptionName,
    members: u32,
    window: u32,
) -> Outcome<Vec<Member>> {
    let connections = bench.connect(members).await?;
    try_join_all(connections.iter().map(|connection| Member::join(connection, name, window))).await
}

/// Lets members work until everything is confirmed.
pub(crate) async fn work(members: Vec<Member>, findings: &Rc<Findings>) -> Outcome {
    let working = try_join_all(members.into_iter().map(|member| work_one(member, findings.clone())));
    match while_it_moves(&findings.confirmed, working).await? {
        Some(_) => Ok(()),
        None if findings.ledger.borrow().is_some() => Ok(()),
        None => {
            let (confirmed, messages) = (findings.confirmed.get(), findings.messages);
            Err(failed(format!(
                "{confirmed} of {messages} messages were confirmed, then nothing moved any more"
            )))
        }
    }
}

async fn work_one(mut member: Member, findings: Rc<Findings>) -> Outcome {
    while !findings.is_finished() {
        let told = tokio::select! {
            biased;
            told = member.next() => told?,
            () = findings.finished.notified() => {
                // The next one waits as well.
                findings.finished.notify_one();
                return Ok(());
            }
        };
        match told {
            Told::Deliveries(messages) => {
                for message in &messages {
                    let Some((stamp, due)) = findings.stamper.read(&message.payload) else { continue };
                    findings.delivered.borrow_mut().record(due.elapsed());
                    if let Some(ledger) = findings.ledger.borrow_mut().as_mut() {
                        ledger.arrived(0, stamp.publisher, stamp.number);
                    }
                }
                member.ack(messages.into_iter().map(|message| message.token)).await?;
            }
            Told::Settled { messages, took } => {
                findings.acked.borrow_mut().record_many(took, messages);
                findings.confirmed.set(findings.confirmed.get() + messages);
            }
        }
    }
    findings.finished.notify_one();
    Ok(())
}

impl Measure for ConsumeArguments {
    const NAME: &'static str = "consume";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let rate = self.rate.map_or_else(|| "filled before".to_owned(), |rate| format!("{rate}/s"));
        vec![
            ("messages", self.msgs.to_string()),
            ("size", self.size.to_string()),
            ("members", self.members.to_string()),
            ("window", self.window.to_string()),
            ("publishing", rate),
        ]
    }

    fn check(&self, _bench: &Bench) -> Outcome {
        let held = u64::from(self.members) * u64::from(self.window);
        if held > 1_000_000 {
            return Err(usage(format!(
                "{} members with a window of {} would hold {held} messages, at most 1000000 are allowed; lower one of them",
                self.members, self.window
            )));
        }
        Ok(())
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let topic = bench.topic().await?;
        let name = bench.subscription(&topic, open_settings(LEASE_MS)).await?;
        match self.rate {
            None => self.work_off(bench, &name).await,
            Some(rate) => self.keep_up(bench, &name, rate).await,
        }
    }
}

impl ConsumeArguments {
    /// Everything is there already.
    async fn work_off(&self, bench: &mut Bench, name: &SubscriptionName) -> Outcome {
        fill(bench, std::slice::from_ref(&name.topic), self.msgs, self.size).await?;
        let progress = bench.progress("consuming", self.msgs);
        let findings = Findings::new(bench, self.msgs, progress.done.clone());
        let meter = bench.meter()?;
        let members = join(bench, name, self.members, self.window).await?;
        work(members, &findings).await?;
        self.conclude(bench, meter, &findings)
    }

    /// Publishing and consuming at the same time.
    async fn keep_up(&self, bench: &mut Bench, name: &SubscriptionName, rate: u64) -> Outcome {
        let progress = bench.progress("consuming", self.msgs);
        let findings = Findings::new(bench, self.msgs, progress.done.clone());
        let members = join(bench, name, self.members, self.window).await?;
        let connections = bench.connect(2).await?;
        let meter = bench.meter()?;
        let load = PacedLoad {
            topics: vec![name.topic.clone()],
            messages: self.msgs,
            size: self.size,
            rate,
            start: Instant::now() + LEAD,
        };
        let published = paced::publish(&connections, load, bench.stamper(), Rc::default());
        let (found, ()) = tokio::try_join!(published, work(members, &findings))?;
        self.conclude(bench, meter, &findings)?;
        let delivered = findings.delivered().percentiles();
        bench.report.figures.extend(Figure::percentiles("from due to delivered", delivered));
        bench.report.figures.extend(paced_figures(&found));
        Ok(())
    }

    fn conclude(&self, bench: &mut Bench, meter: crate::bench::Meter, findings: &Findings) -> Outcome {
        let acked = findings.acked.borrow();
        let name = "ack to fate".to_owned();
        meter.finish(
            bench,
            Done { name, messages: findings.confirmed.get(), size: self.size, latency: Some(&acked) },
        )?;
        findings.account(bench);
        Ok(())
    }
}

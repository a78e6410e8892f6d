//! `bench fanout`: one publisher, many subscribers of one topic.
//!
//! ```text
//!   publish stream ─▶ topic ─┬─▶ subscriber 0        deliveries = messages × subscribers
//!                            ├─▶ subscriber 1        the load ends when every subscriber has everything
//!                            └─▶ …                   subscribers share the connections
//! ```
//!
//! A row counts deliveries. Frames are counted undecoded unless `--decode` or `--verify` asks for more. The publisher waits for nobody
//! but the broker: a subscriber that falls behind reads from further back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use clap::Args;
use futures_util::future::try_join_all;

use super::Measure;
use super::subscribe::look;
use crate::arguments::RunFlags;
use crate::bench::{Bench, Done};
use crate::error::{Outcome, failed};
use crate::ledger::{Ledger, Order};
use crate::publisher::{self, Load, Mode};
use crate::reader::{self, From, Look, while_it_moves};
use crate::report::Figure;
use crate::wire::Frames;

/// Arguments of `bench fanout`.
#[derive(Clone, Debug, Args)]
pub struct FanoutArguments {
    /// Messages to publish
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub msgs: u64,
    /// Subscribers of the topic
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub subscribers: u32,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    /// Connections the subscribers share
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Messages the publisher sends in one request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub batch: u64,
    /// Requests the publisher has on their way
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub in_flight: u32,
    /// Decode every message; without, frames are counted
    #[arg(long)]
    pub decode: bool,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

impl FanoutArguments {
    fn look(&self) -> Look {
        look(self.decode || self.run.verify)
    }

    fn deliveries(&self) -> u64 {
        self.msgs * u64::from(self.subscribers)
    }
}

impl Measure for FanoutArguments {
    const NAME: &'static str = "fanout";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("messages", self.msgs.to_string()),
            ("subscribers", self.subscribers.to_string()),
            ("size", self.size.to_string()),
            ("clients", self.clients.to_string()),
            ("batch", self.batch.to_string()),
            ("in flight", self.in_flight.to_string()),
            ("frames", if self.look() == Look::Decode { "decoded" } else { "counted" }.to_owned()),
        ]
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let topic = bench.topic().await?;
        let connections = bench.connect(self.clients).await?;
        let publishing = bench.connect(1).await?;
        let without = bench.usage()?;
        let followers = (0..self.subscribers as usize)
            .map(|index| reader::follow(&connections[index % connections.len()], &topic, From::Latest));
        let followers: Vec<Frames> = try_join_all(followers).await?;
        if let Some((with, without)) = bench.usage()?.zip(without) {
            let grown = with.rss_bytes.saturating_sub(without.rss_bytes);
            bench
                .report
                .figures
                .push(Figure::mib("memory of the subscribers, before anything is sent", grown));
        }
        let progress = bench.progress("delivering", self.deliveries());
        let ledgers = Rc::new(RefCell::new(Vec::new()));
        let meter = bench.meter()?;
        let readers = followers.into_iter().map(|frames| {
            tokio::task::spawn_local(self.clone().read(
                bench.stamper(),
                frames,
                (progress.done.clone(), ledgers.clone()),
            ))
        });
        let readers = try_join_all(readers);
        let load = Load {
            topics: vec![topic],
            messages: self.msgs,
            size: self.size,
            mode: Mode::Stream(self.batch),
            in_flight: self.in_flight,
        };
        let latencies = publisher::publish(&publishing, load, bench.stamper(), Rc::default());
        let everything = async {
            let (latencies, readers) = tokio::join!(latencies, readers);
            for reader in readers.map_err(|_| failed("a reader panicked"))? {
                reader?;
            }
            latencies
        };
        let latencies = while_it_moves(&progress.done, everything).await?;
        let name = "deliveries; latency of publishing".to_owned();
        let messages = progress.done.get();
        meter.finish(bench, Done { name, messages, size: self.size, latency: latencies.as_ref() })?;
        bench.check_arrived(messages, self.deliveries());
        if bench.flags.verify {
            let missing = u64::from(self.subscribers) - ledgers.borrow().len() as u64;
            for ledger in ledgers.borrow().iter() {
                bench.count_faults(ledger);
            }
            if missing > 0 {
                bench.report.missed.push(format!("{missing} subscribers did not get everything"));
            }
        }
        Ok(())
    }
}

type Shared = (Rc<Cell<u64>>, Rc<RefCell<Vec<Ledger>>>);

impl FanoutArguments {
    /// One subscriber, until it has everything.
    async fn read(self, stamper: crate::bench::Stamper, mut frames: Frames, shared: Shared) -> Outcome {
        let (done, ledgers) = shared;
        if self.look() == Look::Count {
            return reader::count(&mut frames, self.msgs, &done).await;
        }
        let mut ledger = Ledger::new(self.msgs, Order::Kept);
        reader::read(&mut frames, self.msgs, &done, |message| {
            if let Some((stamp, _)) = stamper.read(&message.payload) {
                ledger.arrived(0, stamp.publisher, stamp.number);
            }
        })
        .await?;
        ledgers.borrow_mut().push(ledger);
        Ok(())
    }
}

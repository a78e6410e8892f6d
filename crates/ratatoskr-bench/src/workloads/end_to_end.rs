//! `bench e2e`: publish at a fixed rate, and see when a subscriber has each message.
//!
//! Two latencies, both from when a message was due: until its publisher had the acknowledgement, and until the subscriber had the
//! message. There is one subscriber for each topic.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use futures_util::future::try_join_all;

use super::latency::{LEAD, paced_figures};
use super::{Measure, usage};
use crate::arguments::{PacedFlags, RunFlags};
use crate::bench::{Bench, Done, Stamper};
use crate::error::{Outcome, failed};
use crate::latency::Latencies;
use crate::ledger::{Ledger, Order};
use crate::paced::{self, PacedLoad};
use crate::reader::{self, From, while_it_moves};
use crate::streamed;
use crate::wire::Frames;

/// Arguments of `bench e2e`.
#[derive(Clone, Debug, Args)]
pub struct EndToEndArguments {
    /// One call a message, or one stream on which what is due goes out together
    #[arg(long, value_enum, default_value = "unary")]
    pub mode: PacedMode,
    #[command(flatten)]
    pub(crate) load: PacedFlags,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

/// How messages are published at a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PacedMode {
    /// `Publish`: one message, one call
    Unary,
    /// `PublishStream`: what is due goes out together
    Stream,
}

/// What subscribers found together.
struct Arrivals {
    stamper: Stamper,
    delivered: RefCell<Latencies>,
    ledger: RefCell<Ledger>,
    done: Rc<Cell<u64>>,
}

impl Measure for EndToEndArguments {
    const NAME: &'static str = "e2e";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mode = if self.mode == PacedMode::Unary { "unary" } else { "stream" };
        let mut parameters = vec![("mode", mode.to_owned())];
        parameters.extend(self.load.parameters());
        parameters
    }

    fn check(&self, _bench: &Bench) -> Outcome {
        if self.mode == PacedMode::Stream && self.load.topics > 1 {
            return Err(usage(
                "a stream sends what is due to one topic; leave --topics or --mode stream out",
            ));
        }
        Ok(())
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        drive(bench, &self.load, self.mode).await?;
        Ok(())
    }
}

/// Publishes at a rate into topics with a subscriber each; adds rows and figures to the report. The answer is how long each message
/// took from when it was due to its delivery.
pub(crate) async fn drive(bench: &mut Bench, load: &PacedFlags, mode: PacedMode) -> Outcome<Latencies> {
    let topics = bench.topics(load.topics).await?;
    let connections = bench.connect(load.clients).await?;
    let following = bench.connect(load.clients.min(load.topics)).await?;
    let followers = topics
        .iter()
        .enumerate()
        .map(|(index, topic)| reader::follow(&following[index % following.len()], topic, From::Latest));
    let followers: Vec<Frames> = try_join_all(followers).await?;
    let progress = bench.progress("end to end", load.messages());
    let arrivals = Rc::new(Arrivals {
        stamper: bench.stamper(),
        delivered: RefCell::new(Latencies::new()),
        ledger: RefCell::new(Ledger::new(load.messages(), Order::Kept)),
        done: progress.done.clone(),
    });
    let meter = bench.meter()?;
    let readers = followers.into_iter().enumerate().map(|(reader, frames)| {
        // Messages go to the topics in turn.
        let share = (load.messages() + topics.len() as u64 - 1 - reader as u64) / topics.len() as u64;
        tokio::task::spawn_local(arrive(arrivals.clone(), reader as u32, frames, share))
    });
    let readers = try_join_all(readers);
    let paced = PacedLoad {
        topics: topics.clone(),
        messages: load.messages(),
        size: load.size,
        rate: load.rate,
        start: Instant::now() + LEAD,
    };
    let publishing = async {
        match mode {
            PacedMode::Unary => paced::publish(&connections, paced, bench.stamper(), Rc::default()).await,
            PacedMode::Stream => {
                streamed::publish(&connections[0], paced, bench.stamper(), Rc::default()).await
            }
        }
    };
    let paced = {
        let everything = async {
            let reading = async {
                for reader in readers.await.map_err(|_| failed("a reader panicked"))? {
                    reader?;
                }
                Ok(())
            };
            let reading = while_it_moves(&arrivals.done, reading);
            let (paced, reading) = tokio::join!(publishing, reading);
            reading?;
            paced
        };
        everything.await?
    };
    let delivered = arrivals.delivered.borrow().clone();
    let messages = arrivals.done.get();
    let row = |name: &str, latency| Done {
        name: format!("{}/s, due to {name}", load.rate),
        messages,
        size: load.size,
        latency,
    };
    meter.finish(bench, row("delivered", Some(&delivered)))?;
    meter.finish(bench, row("acknowledged", Some(&paced.acknowledged)))?;
    bench.report.figures.extend(paced_figures(&paced));
    bench.check_arrived(messages, load.messages());
    if bench.flags.verify {
        bench.count_faults(&arrivals.ledger.borrow());
    }
    Ok(delivered)
}

/// One subscriber, until it has its share.
async fn arrive(arrivals: Rc<Arrivals>, reader: u32, mut frames: Frames, share: u64) -> Outcome {
    reader::read(&mut frames, share, &arrivals.done, |message| {
        let Some((stamp, due)) = arrivals.stamper.read(&message.payload) else { return };
        arrivals.delivered.borrow_mut().record(due.elapsed());
        arrivals.ledger.borrow_mut().arrived(reader, stamp.publisher, stamp.number);
    })
    .await
}

//! `bench sub`: fill a topic, then read it back with one subscriber.
//!
//! Frames are counted undecoded unless `--decode` or `--verify` asks for more: the load generator shares the machine, and decoding
//! costs it more than sending costs the broker.

use clap::Args;

use super::{Measure, fill, one};
use crate::arguments::RunFlags;
use crate::bench::{Bench, Done};
use crate::error::Outcome;
use crate::ledger::{Ledger, Order};
use crate::reader::{self, From, Look, while_it_moves};

/// Arguments of `bench sub`.
#[derive(Clone, Debug, Args)]
pub struct SubscribeArguments {
    /// Messages to read
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub msgs: u64,
    /// Bytes of a payload, at least 24
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = crate::arguments::payload_size)]
    pub size: usize,
    /// Decode every message; without, frames are counted
    #[arg(long)]
    pub decode: bool,
    #[command(flatten)]
    pub(crate) run: RunFlags,
}

impl Measure for SubscribeArguments {
    const NAME: &'static str = "sub";

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let look = look(self.decode || self.run.verify);
        vec![
            ("messages", self.msgs.to_string()),
            ("size", self.size.to_string()),
            ("frames", if look == Look::Decode { "decoded" } else { "counted" }.to_owned()),
        ]
    }

    async fn round(&self, bench: &mut Bench) -> Outcome {
        let topic = bench.topic().await?;
        fill(bench, std::slice::from_ref(&topic), self.msgs, self.size).await?;
        let connection = one(bench.connect(1).await?)?;
        let progress = bench.progress("reading", self.msgs);
        let (done, stamper) = (progress.done.clone(), bench.stamper());
        let mut ledger = bench.flags.verify.then(|| Ledger::new(self.msgs, Order::Kept));
        let meter = bench.meter()?;
        let mut frames = reader::follow(&connection, &topic, From::Earliest).await?;
        let reading = async {
            match look(self.decode || self.run.verify) {
                Look::Count => reader::count(&mut frames, self.msgs, &done).await,
                Look::Decode => {
                    reader::read(&mut frames, self.msgs, &done, |message| {
                        if let (Some(ledger), Some((stamp, _))) =
                            (ledger.as_mut(), stamper.read(&message.payload))
                        {
                            ledger.arrived(0, stamp.publisher, stamp.number);
                        }
                    })
                    .await
                }
            }
        };
        while_it_moves(&done, reading).await?;
        meter.finish(
            bench,
            Done { name: "read".to_owned(), messages: done.get(), size: self.size, latency: None },
        )?;
        bench.check_arrived(done.get(), self.msgs);
        if let Some(ledger) = &ledger {
            bench.count_faults(ledger);
        }
        Ok(())
    }
}

/// What is done with frames.
pub(super) fn look(decode: bool) -> Look {
    if decode { Look::Decode } else { Look::Count }
}

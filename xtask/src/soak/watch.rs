//! The broker's memory and processor over the run, and whether memory stayed flat.
//!
//! The first third of the run is warm-up: caches, pools and read buffers fill. From then on the
//! median of the run's last tenth must not lie above the median of its fourth tenth by more than the bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use crate::broker_process::BrokerProcess;
use crate::failed::{Failed, Outcome};
use crate::process_usage::ProcessUsage;

/// Looks at the broker from time to time.
pub(super) struct Watch<'broker> {
    ledger: Arc<Ledger>,
    broker: &'broker BrokerProcess,
    started: Instant,
    /// The last look, for rates.
    last: Option<Look>,
    /// Memory at each look, in bytes.
    memory: Vec<u64>,
}

/// One look.
struct Look {
    at: Duration,
    usage: ProcessUsage,
    acknowledged: u64,
    delivered: u64,
}

impl<'broker> Watch<'broker> {
    pub(super) fn new(ledger: Arc<Ledger>, broker: &'broker BrokerProcess) -> Watch<'broker> {
        Watch { ledger, broker, started: Instant::now(), last: None, memory: Vec::new() }
    }

    /// Looks once and prints a line.
    pub(super) fn sample(&mut self) -> Outcome {
        let look = Look {
            at: self.started.elapsed(),
            usage: self.broker.usage()?,
            acknowledged: self.ledger.acknowledged(),
            delivered: self.ledger.delivered(),
        };
        match &self.last {
            None => println!("seconds  memory MiB  processor %  published/s  delivered/s  furthest behind"),
            Some(last) => {
                let elapsed = look.at.saturating_sub(last.at);
                println!(
                    "{:>7.0} {:>11.1} {:>12.1} {:>12.0} {:>12.0} {:>16}",
                    look.at.as_secs_f64(),
                    mebibytes(look.usage.rss_bytes),
                    look.usage.cpu_percent_since(&last.usage, elapsed),
                    (look.acknowledged - last.acknowledged) as f64 / elapsed.as_secs_f64(),
                    (look.delivered - last.delivered) as f64 / elapsed.as_secs_f64(),
                    look.acknowledged.saturating_sub(self.ledger.slowest()),
                );
            }
        }
        self.memory.push(look.usage.rss_bytes);
        self.last = Some(look);
        Ok(())
    }

    /// Whether memory stayed flat.
    pub(super) fn verdict(&self, growth_mebibytes_max: f64) -> Outcome {
        let (early, late) = early_and_late(&self.memory)
            .ok_or_else(|| Failed::new("the run was too short to judge memory"))?;
        let growth = mebibytes(late) - mebibytes(early);
        println!(
            "memory: {:.1} MiB after the warm-up, {:.1} MiB at the end",
            mebibytes(early),
            mebibytes(late)
        );
        if growth <= growth_mebibytes_max {
            return Ok(());
        }
        Err(Failed::new(format!(
            "the broker's memory grew by {growth:.1} MiB; {growth_mebibytes_max} MiB are allowed"
        )))
    }
}

/// Medians of the fourth and of the last tenth.
fn early_and_late(memory: &[u64]) -> Option<(u64, u64)> {
    let tenth = memory.len().div_ceil(10);
    let early = memory.get(memory.len() * 3 / 10..)?.get(..tenth)?;
    let late = memory.get(memory.len().checked_sub(tenth)?..)?;
    Some((median(early)?, median(late)?))
}

fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_judged_after_the_warm_up() {
        let memory: Vec<u64> = (0..30).map(|index| if index < 9 { index } else { 100 + index }).collect();
        assert_eq!(early_and_late(&memory), Some((110, 128)));
    }

    #[test]
    fn no_looks_are_no_verdict() {
        assert_eq!(early_and_late(&[]), None);
        assert_eq!(early_and_late(&[5]), Some((5, 5)));
    }
}

//! The order of things: rounds, in each of them everybody in turn, and the crashes once at the end.
//!
//! ```text
//!   round 1   A: start, publish, …, end   B: the same   C   the machine itself
//!   round 2   B   C   A …                 another one begins, so that nobody always follows the same neighbour
//!   once      kill -9, recovery, power
//! ```
//!
//! One server runs at a time, with a folder of its own that goes with it. A work that fails is a note in the table; the rest goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::amounts::{Amounts, BATCH};
use super::crash;
use super::floor;
use super::peers::{Peer, Program, Promise};
use super::programs::Found;
use super::results::{Kind, Results, Row};
use super::sample::Sample;
use super::server::{Server, Setup};
use super::works::Work;
use super::{ours, power, theirs};
use crate::failed::{Failed, Outcome, While};

/// How long a server is left alone before its idle memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// Of a failure, as it stands below a table.
const NOTE_CHARS_MAX: usize = 200;
/// No single work takes longer than this, whatever the peer does.
const WORK_MAX: Duration = Duration::from_secs(150);

/// A peer that takes part.
pub(crate) struct Contender {
    pub(crate) peer: &'static Peer,
    pub(crate) program: Found,
    /// Its row in the results.
    pub(crate) row: usize,
}

/// The whole plan.
pub(crate) struct Plan<'a> {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) works: Vec<Work>,
    pub(crate) rounds: u32,
    pub(crate) amounts: Amounts,
    /// Where the folders of servers go.
    pub(crate) parent: &'a Path,
}

impl Plan<'_> {
    /// Does everything.
    pub(crate) async fn run(&self, results: &mut Results) -> Outcome {
        let began = Instant::now();
        for round in 0..self.rounds {
            self.floor(results)?;
            let count = self.contenders.len().max(1);
            for turn in 0..count {
                let Some(contender) = self.contenders.get((turn + round as usize) % count) else { break };
                eprint!(
                    "[{:>4.0} s] round {} of {}: {}",
                    began.elapsed().as_secs_f64(),
                    round + 1,
                    self.rounds,
                    contender.peer.title
                );
                self.visit(contender, results).await;
                eprintln!();
            }
        }
        for work in self.works.iter().copied().filter(|work| work.is_crash()) {
            for contender in self.contenders.iter().filter(|contender| contender.peer.works.contains(&work)) {
                eprintln!(
                    "[{:>4.0} s] {}: {}",
                    began.elapsed().as_secs_f64(),
                    work.key(),
                    contender.peer.title
                );
                let sample = bounded(self.crash(contender, work)).await;
                results.add(contender.row, work, told(sample));
            }
        }
        Ok(())
    }

    /// One peer's turn in a round.
    async fn visit(&self, contender: &Contender, results: &mut Results) {
        let works = self.works.iter().copied();
        let works: Vec<Work> =
            works.filter(|work| !work.is_crash() && contender.peer.works.contains(work)).collect();
        if works.is_empty() {
            return;
        }
        let (_folder, setup, server) = match self.open(contender).await {
            Ok(opened) => opened,
            Err(failed) => {
                eprint!(" – {failed}");
                for work in works {
                    results.add(contender.row, work, told(Err(Failed::new(failed.to_string()))));
                }
                return;
            }
        };
        for work in works {
            eprint!(" {}", work.key());
            let sample = bounded(self.work(&setup, &server, work)).await;
            if let Err(failed) = &sample {
                eprint!(" ({failed})");
            }
            results.add(contender.row, work, told(sample));
        }
    }

    async fn open(&self, contender: &Contender) -> Outcome<(TempDir, Setup, Server)> {
        let folder = tempfile::Builder::new().prefix("server-").tempdir_in(self.parent);
        let folder = folder.when("creating a server's folder")?;
        let setup = Setup::new(contender.peer, contender.program.clone(), folder.path())?;
        let server = setup.start().await?;
        Ok((folder, setup, server))
    }

    async fn work(&self, setup: &Setup, server: &Server, work: Work) -> Outcome<Sample> {
        match (work, setup.peer.program) {
            (Work::Start, _) => {
                tokio::time::sleep(SETTLE).await;
                Sample::of_start(server)
            }
            (_, Program::Ratatoskr) => ours::measure(setup, server, work, &self.amounts),
            _ => theirs::measure(setup, server, work, &self.amounts).await,
        }
    }

    async fn crash(&self, contender: &Contender, work: Work) -> Outcome<Sample> {
        let folder = tempfile::Builder::new().prefix("server-").tempdir_in(self.parent);
        let folder = folder.when("creating a server's folder")?;
        if work == Work::Power {
            return power::cut(contender.peer, contender.program.clone(), folder.path(), &self.amounts).await;
        }
        let setup = Setup::new(contender.peer, contender.program.clone(), folder.path())?;
        match work {
            Work::Kill => crash::kill(&setup, &self.amounts).await,
            Work::Recovery => crash::recovery(&setup, &self.amounts).await,
            _ => Err(Failed::new("this is no crash")),
        }
    }

    /// The machine itself, at what it can do without a broker.
    fn floor(&self, results: &mut Results) -> Outcome {
        let (size, time) = (self.amounts.size, self.amounts.time);
        for promise in Promise::ALL {
            let key = Row::of_floor(promise).key;
            let Some(row) = results.rows.iter().position(|row| row.kind == Kind::Floor && row.key == key)
            else {
                continue;
            };
            for work in self.works.iter().copied() {
                let sample = match work {
                    Work::Publish(in_flight) => {
                        floor::publish(self.parent, promise, in_flight, (size, time))?
                    }
                    Work::Batches => floor::publish(self.parent, promise, BATCH, (size, time))?,
                    Work::FanOut(1) if promise == Promise::Memory => floor::stream(size, time)?,
                    _ => continue,
                };
                results.add(row, work, sample);
            }
        }
        Ok(())
    }
}

/// A work that hangs is ended.
async fn bounded(work: impl Future<Output = Outcome<Sample>>) -> Outcome<Sample> {
    let late = |_| Err(Failed::new(format!("not done after {} s", WORK_MAX.as_secs())));
    tokio::time::timeout(WORK_MAX, work).await.unwrap_or_else(late)
}

fn told(sample: Outcome<Sample>) -> Sample {
    sample.unwrap_or_else(|failed| {
        // A server's last words may be a page; what matters stands at the beginning.
        let words: String = failed.to_string().chars().take(NOTE_CHARS_MAX).collect();
        Sample::missing(format!("not measured: {words}"))
    })
}

//! What a load cost: processor time of the server and of the load generator, over the same seconds.

use std::time::{Duration, Instant};

use super::sample::Measure;
use super::server::Server;
use crate::failed::Outcome;
use crate::process_usage::ProcessUsage;

/// A measurement that has begun.
pub(crate) struct Meter {
    started: Instant,
    server: ProcessUsage,
    own: ProcessUsage,
}

impl Meter {
    pub(crate) fn start(server: &Server) -> Outcome<Meter> {
        let (server, own) = (server.usage()?, ProcessUsage::read(std::process::id())?);
        Ok(Meter { started: Instant::now(), server, own })
    }

    /// Ends it: so many messages, in so much time (the load's own, up to its last answer).
    pub(crate) fn finish(
        self,
        server: &Server,
        messages: u64,
        took: Duration,
    ) -> Outcome<Vec<(Measure, f64)>> {
        let (server, own) = (server.usage()?, ProcessUsage::read(std::process::id())?);
        let seconds = took.as_secs_f64();
        let cpu = server.cpu.saturating_sub(self.server.cpu).as_secs_f64();
        Ok(vec![
            (Measure::Rate, messages as f64 / seconds),
            (Measure::CpuUs, cpu * 1e6 / messages as f64),
            (Measure::LoadPercent, own.cpu_percent_since(&self.own, self.started.elapsed())),
        ])
    }
}

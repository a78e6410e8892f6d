//! The loads, put to somebody else's server.

use std::time::Duration;

use super::amounts::{Amounts, BATCH, BATCH_IN_FLIGHT, MESSAGES_MAX};
use super::consume::{MEMBERS, Patience, consume};
use super::fanout::fan_out;
use super::latency::{Pace, paced};
use super::meter::Meter;
use super::publish::{CONNECTIONS, PublishLoad, fill};
use super::sample::{Measure, Sample};
use super::server::{Server, Setup};
use super::tongue::Shape;
use super::works::Work;
use crate::failed::{Failed, Outcome};

/// A rate that is this much below what was asked for was not held.
const HELD_SHARE: f64 = 0.97;
/// After so long without a settled message the rest counts as not settled.
const PATIENCE: Patience = Patience { first: Duration::from_secs(10), next: Duration::from_secs(5) };

/// Does one piece of work on a topic of its own.
pub(crate) async fn measure(
    setup: &Setup,
    server: &Server,
    work: Work,
    amounts: &Amounts,
) -> Outcome<Sample> {
    let (tongue, at) = (setup.peer.tongue, setup.address);
    let topic = format!("t{:08x}", fastrand::u32(..));
    let shape = if matches!(work, Work::FanOut(_)) { Shape::Fan } else { Shape::Kept };
    tongue.create(at, &topic, shape).await?;
    let run = Run { setup, server, topic: &topic, amounts };
    let sample = match work {
        Work::Publish(in_flight) => run.publish(in_flight, 1).await,
        Work::Batches => run.publish(BATCH_IN_FLIGHT, BATCH).await,
        Work::FanOut(subscribers) => run.fan_out(subscribers).await,
        Work::Consume => run.consume().await,
        Work::Latency => run.latency().await,
        Work::Start | Work::Kill | Work::Recovery | Work::Power => {
            Err(Failed::new("this is no load on a running server"))
        }
    };
    if shape == Shape::Kept {
        // What is left takes memory and disk from the next work; a fan is left: some of its queues end by themselves, and the server soon.
        tongue.delete(at, &topic).await?;
    }
    sample
}

struct Run<'a> {
    setup: &'a Setup,
    server: &'a Server,
    topic: &'a str,
    amounts: &'a Amounts,
}

impl Run<'_> {
    fn load(&self, in_flight: u32, batch: u32) -> PublishLoad {
        let Amounts { size, time, .. } = *self.amounts;
        PublishLoad { in_flight, batch, size, time, messages_max: MESSAGES_MAX }
    }

    async fn publish(&self, in_flight: u32, batch: u32) -> Outcome<Sample> {
        let load = self.load(in_flight, batch);
        let producers = load.producers(self.setup.peer.tongue, self.setup.address, self.topic).await?;
        let meter = Meter::start(self.server)?;
        let published = load.run(producers).await?;
        if let Some(broken) = published.broken {
            return Err(broken);
        }
        let mut values = meter.finish(self.server, published.messages, published.took)?;
        values.extend(published.latencies.measures());
        Ok(Sample::of(values))
    }

    async fn fan_out(&self, subscribers: u32) -> Outcome<Sample> {
        let (tongue, at) = (self.setup.peer.tongue, self.setup.address);
        let consumers = tongue.fan(at, self.topic, subscribers, CONNECTIONS).await?;
        let producer = tongue.producer(at, self.topic, 0).await?;
        let meter = Meter::start(self.server)?;
        let Amounts { size, time, .. } = *self.amounts;
        let done = fan_out(producer, consumers, subscribers, size, time).await?;
        let missing = done.expected - done.deliveries;
        let note = (missing > 0).then(|| format!("{missing} of {} deliveries never came", done.expected));
        Ok(Sample::of(meter.finish(self.server, done.deliveries, done.took)?).noted(note))
    }

    async fn consume(&self) -> Outcome<Sample> {
        let (tongue, at) = (self.setup.peer.tongue, self.setup.address);
        let load = PublishLoad {
            time: self.amounts.fill_time,
            messages_max: self.amounts.fill,
            ..self.load(BATCH_IN_FLIGHT, BATCH)
        };
        let filled = fill(tongue, at, self.topic, load).await?;
        let members = tongue.members(at, self.topic, MEMBERS).await?;
        let meter = Meter::start(self.server)?;
        let (settled, took) = consume(members, filled.messages, PATIENCE, |_| ()).await?;
        let missing = filled.messages - settled.min(filled.messages);
        let note = (missing > 0).then(|| format!("{missing} of {} were never settled", filled.messages));
        Ok(Sample::of(meter.finish(self.server, settled, took)?).noted(note))
    }

    async fn latency(&self) -> Outcome<Sample> {
        let (tongue, at) = (self.setup.peer.tongue, self.setup.address);
        let follower = tongue.follower(at, self.topic).await?;
        let producers = self.load(64, 1).producers(tongue, at, self.topic).await?;
        let Amounts { rate, size, .. } = *self.amounts;
        let messages = self.amounts.paced();
        let meter = Meter::start(self.server)?;
        let done = paced(producers, follower, Pace { rate, messages, size }).await?;
        let mut values = meter.finish(self.server, done.delivered, done.took)?;
        values.extend(done.latencies.measures());
        Ok(Sample::of(values).noted(held(done.delivered, done.took, rate)))
    }
}

/// What a reader has to know if a rate was not held.
pub(crate) fn held(delivered: u64, took: Duration, rate: u64) -> Option<String> {
    let reached = delivered as f64 / took.as_secs_f64();
    let is_held = reached >= rate as f64 * HELD_SHARE;
    (!is_held).then(|| "the rate was not held: latencies grow with the length of the load".to_owned())
}

impl Sample {
    /// What a started server says about itself.
    pub(crate) fn of_start(server: &Server) -> Outcome<Sample> {
        let rss = server.usage()?.rss_bytes as f64 / f64::from(1 << 20);
        let start = server.start_took().as_secs_f64() * 1e3;
        Ok(Sample::of([(Measure::StartMs, start), (Measure::RssMib, rss)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_held_within_three_percent() {
        assert_eq!(held(4_900, Duration::from_secs(1), 5_000), None);
        assert!(held(1_600, Duration::from_secs(1), 5_000).is_some());
    }
}

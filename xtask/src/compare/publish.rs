//! Publishing as fast as a number of unacknowledged messages allows: a closed loop on each connection.
//!
//! ```text
//!   connection 0   piece piece piece ─▶ … acks ─▶ piece …      its share of the messages in flight
//!   connection 1   …                                           what fits into the window goes out in one write
//! ```
//!
//! A load ends when its time is over and the last ack is there; rates count from the first request to that.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::line::Producer;
use super::mark::{Mark, noise};
use super::peers::Tongue;
use super::sample::Latencies;
use crate::failed::{Failed, Outcome, While};

/// Connections of a load, as many as `ratatoskr bench` opens; fewer if fewer messages are in flight.
pub(crate) const CONNECTIONS: u32 = 8;
/// After this time without its last acks a load is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishLoad {
    /// Messages unacknowledged at a time, over all connections.
    pub(crate) in_flight: u32,
    /// Messages of one piece.
    pub(crate) batch: u32,
    /// Bytes of a payload.
    pub(crate) size: usize,
    /// How long.
    pub(crate) time: Duration,
    /// At most so many messages.
    pub(crate) messages_max: u64,
}

/// What became of it.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) messages: u64,
    /// From the first request to the last ack.
    pub(crate) took: Duration,
    /// From sending to the ack.
    pub(crate) latencies: Latencies,
    /// Messages acknowledged of each producer: its first ones.
    pub(crate) acked: Vec<u64>,
    /// Why a connection ended before its time.
    pub(crate) broken: Option<Failed>,
}

impl PublishLoad {
    fn connections(&self) -> u32 {
        CONNECTIONS.min((self.in_flight / self.batch).max(1))
    }

    /// Opens the connections.
    pub(crate) async fn producers(
        &self,
        tongue: Tongue,
        at: SocketAddr,
        topic: &str,
    ) -> Outcome<Vec<Producer>> {
        let mut producers = Vec::new();
        for number in 0..self.connections() {
            producers.push(tongue.producer(at, topic, number).await?);
        }
        Ok(producers)
    }

    /// Publishes over these connections.
    pub(crate) async fn run(self, producers: Vec<Producer>) -> Outcome<Published> {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, producer) in producers.into_iter().enumerate() {
            tasks.spawn_local(self.run_one(producer, number as u32, started));
        }
        let mut published = Published { acked: vec![0; tasks.len()], ..Published::default() };
        while let Some(share) = tasks.join_next().await {
            let share = share.when("publishing")?;
            published.messages += share.acked;
            published.acked[share.number as usize] = share.acked;
            published.took = published.took.max(share.ended.saturating_duration_since(started));
            published.latencies.append(share.latencies);
            published.broken = published.broken.or(share.broken);
        }
        Ok(published)
    }

    async fn run_one(self, producer: Producer, number: u32, started: Instant) -> Share {
        let latencies = Latencies::default();
        let mut share = Share { number, acked: 0, ended: started, latencies, broken: None };
        let time_max = self.time + PATIENCE;
        share.broken = match tokio::time::timeout(time_max, self.work(producer, &mut share)).await {
            Ok(outcome) => outcome.err(),
            Err(_) => Some(Failed::new(format!("acks are missing {} s after the load", PATIENCE.as_secs()))),
        };
        share
    }

    async fn work(self, mut producer: Producer, share: &mut Share) -> Outcome {
        let (started, batch) = (share.ended, u64::from(self.batch));
        let window = u64::from(self.in_flight / self.connections()).max(batch);
        let quota = self.messages_max / u64::from(self.connections());
        let (mut sent, mut waiting) = (0, VecDeque::new());
        let mut payloads = vec![noise(self.size); self.batch as usize];
        loop {
            let now = Instant::now();
            let open = now.duration_since(started) < self.time;
            while open && sent + batch <= quota && sent - share.acked + batch <= window {
                for payload in &mut payloads {
                    Mark { producer: share.number, number: sent, due: now.duration_since(started) }
                        .write(payload);
                    sent += 1;
                }
                push(&mut producer, &payloads);
                waiting.push_back((now, batch));
            }
            if sent == share.acked {
                return Ok(());
            }
            producer.line.flush().await?;
            producer.line.receive().await?;
            let mut messages = producer.read_acks()?;
            share.acked += messages;
            share.ended = Instant::now();
            while messages > 0 {
                let Some((at, left)) = waiting.front_mut() else { break };
                let taken = messages.min(*left);
                (messages, *left) = (messages - taken, *left - taken);
                share.latencies.record(share.ended.duration_since(*at));
                if *left == 0 {
                    waiting.pop_front();
                }
            }
        }
    }
}

fn push(producer: &mut Producer, payloads: &[Vec<u8>]) {
    let output = &mut producer.line.output;
    match payloads {
        [payload] => producer.speech.publish(payload, output),
        many => {
            let payloads: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
            producer.speech.publish_batch(&payloads, output);
        }
    }
}

/// One connection's part.
struct Share {
    number: u32,
    acked: u64,
    /// When the last ack came; before the first one, when the load began.
    ended: Instant,
    latencies: Latencies,
    broken: Option<Failed>,
}

/// Publishes at most so many messages, or for so long, to have something to consume.
pub(crate) async fn fill(
    tongue: Tongue,
    at: SocketAddr,
    topic: &str,
    load: PublishLoad,
) -> Outcome<Rc<Published>> {
    let producers = load.producers(tongue, at, topic).await?;
    let mut published = load.run(producers).await?;
    match published.broken.take() {
        Some(broken) => Err(broken),
        None => Ok(Rc::new(published)),
    }
}

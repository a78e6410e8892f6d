//! One publisher, many subscribers: the load ends when everybody has everything.
//!
//! ```text
//!   producer ─▶ topic ─┬─▶ consumer (its share of the subscribers)      deliveries = messages × subscribers
//!      ▲               └─▶ consumer                                     the producer is at most AHEAD messages in front of the slowest
//!      └────── waits ◀──────┘                                           half: a peer without that bound cuts slow subscribers off
//! ```

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::line::{Consumer, Producer};
use super::mark::noise;
use crate::failed::{Failed, Outcome, While};

/// Messages of one piece, and unacknowledged ones at a time, as in `ratatoskr bench fanout`.
const BATCH: u64 = 100;
const IN_FLIGHT: u64 = 1600;
/// How far, on average over subscribers, publishing may be in front of delivery.
const AHEAD: u64 = 4000;
/// After so long without a delivery what is missing counts as lost.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// What a fan-out came to.
pub(crate) struct FannedOut {
    pub(crate) deliveries: u64,
    /// Deliveries that should have been.
    pub(crate) expected: u64,
    pub(crate) took: Duration,
}

struct Fan {
    subscribers: u64,
    size: usize,
    time: Duration,
    started: Instant,
    published: Cell<u64>,
    delivered: Cell<u64>,
    /// Whether the producer has ended.
    over: Cell<bool>,
    moved: Notify,
    /// Told like `moved`: one waits to go on, the other for the end.
    gate: Notify,
}

/// Publishes for so long, to so many subscribers on these consumers.
pub(crate) async fn fan_out(
    producer: Producer,
    consumers: Vec<Consumer>,
    subscribers: u32,
    size: usize,
    time: Duration,
) -> Outcome<FannedOut> {
    let fan = Rc::new(Fan {
        subscribers: u64::from(subscribers),
        size,
        time,
        started: Instant::now(),
        published: Cell::new(0),
        delivered: Cell::new(0),
        over: Cell::new(false),
        moved: Notify::new(),
        gate: Notify::new(),
    });
    let mut tasks = JoinSet::new();
    for consumer in consumers {
        tasks.spawn_local(follow(consumer, fan.clone()));
    }
    tasks.spawn_local(publish(producer, fan.clone()));
    let mut took = Duration::ZERO;
    while !fan.over.get() || fan.delivered.get() < fan.published.get() * fan.subscribers {
        tokio::select! {
            () = fan.moved.notified() => took = fan.started.elapsed(),
            Some(ended) = tasks.join_next() => ended.when("fanning out")??,
            () = tokio::time::sleep(QUIET_MAX) => break,
        }
    }
    let expected = fan.published.get() * fan.subscribers;
    Ok(FannedOut { deliveries: fan.delivered.get(), expected, took })
}

async fn follow(mut consumer: Consumer, fan: Rc<Fan>) -> Outcome {
    loop {
        consumer.line.flush().await?;
        consumer.line.receive().await?;
        let messages = consumer.read(&mut |_| ())?;
        fan.delivered.set(fan.delivered.get() + messages);
        fan.moved.notify_one();
        fan.gate.notify_one();
    }
}

async fn publish(mut producer: Producer, fan: Rc<Fan>) -> Outcome {
    let payload = noise(fan.size);
    let piece: Vec<&[u8]> = vec![&payload; BATCH as usize];
    let mut confirmed = 0;
    loop {
        let published = fan.published.get();
        let open = fan.started.elapsed() < fan.time;
        if open && published - confirmed + BATCH <= IN_FLIGHT {
            if published > fan.delivered.get() / fan.subscribers + AHEAD {
                fan.gate.notified().await;
                continue;
            }
            producer.speech.publish_batch(&piece, &mut producer.line.output);
            fan.published.set(published + BATCH);
            producer.line.flush().await?;
        } else if published > confirmed {
            producer.line.receive().await?;
            confirmed += producer.read_acks()?;
        } else {
            fan.over.set(true);
            fan.moved.notify_one();
            return Ok(());
        }
        if confirmed > fan.published.get() {
            return Err(Failed::new("the peer confirmed more than was published"));
        }
    }
}

//! Latency at a rate that the peer does not choose: from when a message was *due* to its delivery.
//!
//! ```text
//!   clock (a thread) ─▶ message i is due ─▶ producer i mod 8 ─▶ peer ─▶ follower: now − due
//! ```
//!
//! A sender that waits for answers would ask less often just when the peer is slow, and forget those who would have waited. Here
//! they count; `ratatoskr bench e2e` does the same for us.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::line::{Consumer, Producer};
use super::mark::{Mark, noise};
use super::sample::Latencies;
use crate::failed::{Outcome, While};

/// How long after the last message was due deliveries are waited for.
const GRACE: Duration = Duration::from_secs(3);

/// A load at a fixed rate.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Messages a second.
    pub(crate) rate: u64,
    /// How many.
    pub(crate) messages: u64,
    /// Bytes of a payload.
    pub(crate) size: usize,
}

/// What came of it.
pub(crate) struct Paced {
    pub(crate) delivered: u64,
    /// From the first due time to the last delivery.
    pub(crate) took: Duration,
    pub(crate) latencies: Latencies,
}

/// Which messages are due by now, and who waits for them: one place for each producer.
struct Clock {
    due: AtomicU64,
    more: Vec<Notify>,
}

/// Publishes at the rate and waits for the deliveries.
pub(crate) async fn paced(producers: Vec<Producer>, follower: Consumer, pace: Pace) -> Outcome<Paced> {
    let clock =
        Arc::new(Clock { due: AtomicU64::new(0), more: producers.iter().map(|_| Notify::new()).collect() });
    let started = Instant::now();
    tick(clock.clone(), pace, started)?;
    let found =
        Rc::new(RefCell::new(Paced { delivered: 0, took: Duration::ZERO, latencies: Latencies::default() }));
    let mut tasks = JoinSet::new();
    for (number, producer) in producers.into_iter().enumerate() {
        tasks.spawn_local(send(producer, number as u64, clock.clone(), pace));
    }
    tasks.spawn_local(receive(follower, found.clone(), pace.messages, started));
    let end = tokio::time::sleep(Duration::from_secs_f64(pace.messages as f64 / pace.rate as f64) + GRACE);
    tokio::pin!(end);
    while found.borrow().delivered < pace.messages {
        tokio::select! {
            Some(ended) = tasks.join_next() => ended.when("sending at a rate")??,
            () = &mut end => break,
        }
    }
    drop(tasks);
    Ok(found.replace(Paced { delivered: 0, took: Duration::ZERO, latencies: Latencies::default() }))
}

/// Tells what is due, with the kernel's best timer: the runtime's own ticks once a millisecond.
fn tick(clock: Arc<Clock>, pace: Pace, started: Instant) -> Outcome {
    let run = move || {
        // Without it messages are up to 50 µs late, and say so.
        let _ = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
        let mut due = 0;
        while due < pace.messages {
            let at = started + due_at(due, pace.rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            let elapsed = started.elapsed().as_nanos();
            let now =
                ((elapsed * u128::from(pace.rate) / 1_000_000_000) as u64 + 1).clamp(due + 1, pace.messages);
            clock.due.store(now, Ordering::Release);
            for number in due..now.min(due + clock.more.len() as u64) {
                clock.more[(number % clock.more.len() as u64) as usize].notify_one();
            }
            due = now;
        }
    };
    std::thread::Builder::new().name("clock".to_owned()).spawn(run).when("starting a clock")?;
    Ok(())
}

fn due_at(number: u64, rate: u64) -> Duration {
    Duration::from_nanos(number * 1_000_000_000 / rate)
}

async fn send(mut producer: Producer, number: u64, clock: Arc<Clock>, pace: Pace) -> Outcome {
    let step = clock.more.len() as u64;
    let (mut next, mut unconfirmed, mut payload) = (number, 0, noise(pace.size));
    while next < pace.messages || unconfirmed > 0 {
        while next < clock.due.load(Ordering::Acquire) && next < pace.messages {
            Mark { producer: number as u32, number: next, due: due_at(next, pace.rate) }.write(&mut payload);
            producer.speech.publish(&payload, &mut producer.line.output);
            (next, unconfirmed) = (next + step, unconfirmed + 1);
        }
        producer.line.flush().await?;
        tokio::select! {
            () = clock.more[number as usize].notified(), if next < pace.messages => {}
            received = producer.line.receive() => {
                received?;
                unconfirmed -= producer.read_acks()?.min(unconfirmed);
            }
        }
    }
    Ok(())
}

async fn receive(
    mut follower: Consumer,
    found: Rc<RefCell<Paced>>,
    wanted: u64,
    started: Instant,
) -> Outcome {
    let mut delivered = 0;
    while delivered < wanted {
        follower.line.flush().await?;
        follower.line.receive().await?;
        let mut found = found.borrow_mut();
        delivered += follower.read(&mut |payload| {
            if let Some(mark) = Mark::read(payload) {
                found.latencies.record(mark.age(started));
            }
        })?;
        (found.delivered, found.took) = (delivered, started.elapsed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_do_not_drift() {
        assert_eq!(due_at(5_000 * 60, 5_000), Duration::from_secs(60));
        assert_eq!(due_at(1, 5_000), Duration::from_micros(200));
    }
}

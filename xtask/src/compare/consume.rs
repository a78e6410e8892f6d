//! Consuming with acks: members share what lies in a topic, until the last ack counts.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::line::Consumer;
use super::mark::Mark;
use crate::failed::{Failed, Outcome, While};

/// Members of the subscription, as `ratatoskr bench consume` has them.
pub(crate) const MEMBERS: u32 = 4;

/// What members share.
struct Shared<S> {
    /// Messages whose ack counts.
    settled: Cell<u64>,
    wanted: u64,
    /// Told whenever something has come.
    moved: Notify,
    seen: S,
}

/// How long nothing may come before it counts as over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Before the first message: a server that has just started may have to find its own.
    pub(crate) first: Duration,
    /// After that.
    pub(crate) next: Duration,
}

/// Lets members work until so many messages are settled, or nothing more comes: the answer is how many, and when the last one was.
pub(crate) async fn consume<S: Fn(Option<Mark>) + 'static>(
    members: Vec<Consumer>,
    wanted: u64,
    patience: Patience,
    seen: S,
) -> Outcome<(u64, Duration)> {
    let started = Instant::now();
    let shared = Rc::new(Shared { settled: Cell::new(0), wanted, moved: Notify::new(), seen });
    let mut tasks = JoinSet::new();
    for member in members {
        tasks.spawn_local(work(member, shared.clone()));
    }
    let mut took = Duration::ZERO;
    while shared.settled.get() < wanted {
        tokio::select! {
            () = shared.moved.notified() => took = started.elapsed(),
            // A member only ends when it fails.
            Some(ended) = tasks.join_next() => return Err(ended.when("consuming")?),
            () = tokio::time::sleep(if took.is_zero() { patience.first } else { patience.next }) => break,
        }
    }
    Ok((shared.settled.get(), took))
}

async fn work<S: Fn(Option<Mark>)>(mut member: Consumer, shared: Rc<Shared<S>>) -> Failed {
    let mut turn = async || -> Outcome {
        member.line.flush().await?;
        member.line.receive().await?;
        let mut delivered = 0;
        let messages = member.read(&mut |payload| {
            delivered += 1;
            (shared.seen)(Mark::read(payload));
        })?;
        shared.settled.set(shared.settled.get() + messages);
        if shared.settled.get() >= shared.wanted {
            // Acks that the peer does not confirm count once they are written.
            member.line.flush().await?;
        }
        // An answer that nothing is there moves nothing.
        if messages + delivered > 0 {
            shared.moved.notify_one();
        }
        Ok(())
    };
    loop {
        if let Err(failed) = turn().await {
            return failed;
        }
    }
}

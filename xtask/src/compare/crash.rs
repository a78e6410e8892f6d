//! What a `kill -9` costs: acknowledged messages under load, and the start with a million of them.
//!
//! ```text
//!   kill      publish, 64 in flight ─▶ kill -9 in the middle ─▶ start ─▶ read everything: which acknowledged message is missing?
//!   recovery  a million messages ─▶ kill -9 ─▶ start ─▶ until the server answers, and has counted them
//! ```
//!
//! Messages are told apart by their mark, not only counted: one that was never acknowledged does not make up for one that was.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::amounts::{Amounts, BATCH, BATCH_IN_FLIGHT, KILL_IN_FLIGHT};
use super::consume::{MEMBERS, Patience, consume};
use super::line::Consumer;
use super::mark::Mark;
use super::ours_crash;
use super::peers::{Program, Tongue};
use super::publish::{PublishLoad, fill};
use super::sample::{Measure, Sample};
use super::server::{Server, Setup};
use super::tongue::Shape;
use crate::failed::{Failed, Outcome, While};

pub(crate) const TOPIC: &str = "crash";
/// After so long without another message what is missing counts as lost.
const PATIENCE: Patience = Patience { first: Duration::from_secs(12), next: Duration::from_secs(3) };
/// How old a topic is when the load begins.
const TOPIC_AGE: Duration = Duration::from_secs(2);
/// How long joining may take, and how often it is tried again.
const JOIN_MAX: Duration = Duration::from_secs(6);
const JOIN_TRIES_MAX: u32 = 5;
/// How long a started server may take to count its messages.
const COUNT_MAX: Duration = Duration::from_secs(60);

/// What was acknowledged, by producer: its first so many messages.
pub(crate) type Acked = Vec<u64>;

/// Kills a server under load and counts what is missing.
pub(crate) async fn kill(setup: &Setup, amounts: &Amounts) -> Outcome<Sample> {
    let server = setup.start().await?;
    prepare(setup).await?;
    let acked = publish_until(setup, amounts, async {
        tokio::time::sleep(amounts.kill_after).await;
        server.kill_nine()
    })
    .await?;
    let server = setup.start().await?;
    let sample = missing(setup, &acked).await?;
    let mut values = sample.values;
    values.insert(Measure::StartMs, server.start_took().as_secs_f64() * 1e3);
    Ok(Sample { values, note: sample.note })
}

/// Makes the topic, and lets it become as old as topics are: RabbitMQ 3 cannot use a quorum queue again that was killed in its first
/// second, and that is not the question here.
pub(crate) async fn prepare(setup: &Setup) -> Outcome {
    match setup.peer.tongue {
        Tongue::Ours => ours_crash::create(setup).await?,
        tongue => tongue.create(setup.address, TOPIC, Shape::Kept).await?,
    }
    tokio::time::sleep(TOPIC_AGE).await;
    Ok(())
}

/// Publishes, 64 in flight, while `end` makes an end of the server.
pub(crate) async fn publish_until(
    setup: &Setup,
    amounts: &Amounts,
    end: impl Future<Output = Outcome>,
) -> Outcome<Acked> {
    // Longer than it takes to the end.
    let time = 3 * amounts.kill_after + Duration::from_secs(5);
    if setup.peer.tongue == Tongue::Ours {
        let publishing = ours_crash::publish(setup, amounts.size, time);
        let (acked, ended) = tokio::join!(publishing, end);
        ended?;
        return acked;
    }
    let load = PublishLoad {
        in_flight: KILL_IN_FLIGHT,
        batch: 1,
        size: amounts.size,
        time,
        messages_max: super::amounts::MESSAGES_MAX,
    };
    let producers = load.producers(setup.peer.tongue, setup.address, TOPIC).await?;
    let (published, ended) = tokio::join!(load.run(producers), end);
    ended?;
    Ok(published?.acked)
}

/// Reads everything there is and counts what was acknowledged and is not there.
pub(crate) async fn missing(setup: &Setup, acked: &Acked) -> Outcome<Sample> {
    let total: u64 = acked.iter().sum();
    let found = Rc::new(RefCell::new(Found::new(acked)));
    // What could not be read is not known to be lost.
    read(setup, found.clone()).await.when(format_args!("reading back {total} acknowledged messages"))?;
    let lost = total - found.borrow().count;
    Ok(Sample::of([(Measure::Acked, total as f64), (Measure::Lost, lost as f64)]))
}

async fn read(setup: &Setup, found: Rc<RefCell<Found>>) -> Outcome {
    if setup.peer.tongue == Tongue::Ours {
        return ours_crash::read(setup, PATIENCE.next, |mark| found.borrow_mut().see(mark)).await;
    }
    let members = members(setup).await?;
    // More than there can be: reading ends when nothing comes any more.
    consume(members, u64::MAX, PATIENCE, move |mark| found.borrow_mut().see(mark)).await.map(drop)
}

/// Joins as soon as the started server lets anybody: a quorum queue that has no leader yet never answers who asked too early.
async fn members(setup: &Setup) -> Outcome<Vec<Consumer>> {
    let mut tries = 0;
    loop {
        let joining = setup.peer.tongue.members(setup.address, TOPIC, MEMBERS);
        match tokio::time::timeout(JOIN_MAX, joining).await {
            Ok(joined) => return joined,
            Err(_) if tries < JOIN_TRIES_MAX => tries += 1,
            Err(_) => return Err(Failed::new("nobody can join, again and again")),
        }
    }
}

/// Which acknowledged messages have been found.
pub(crate) struct Found {
    seen: Vec<Vec<bool>>,
    pub(crate) count: u64,
}

impl Found {
    pub(crate) fn new(acked: &Acked) -> Found {
        Found { seen: acked.iter().map(|count| vec![false; *count as usize]).collect(), count: 0 }
    }

    pub(crate) fn see(&mut self, mark: Option<Mark>) {
        let Some(mark) = mark else { return };
        let Some(seen) = self.seen.get_mut(mark.producer as usize) else { return };
        let Some(seen) = seen.get_mut(mark.number as usize) else { return };
        self.count += u64::from(!*seen);
        *seen = true;
    }
}

/// Fills a server, kills it, and times its return.
pub(crate) async fn recovery(setup: &Setup, amounts: &Amounts) -> Outcome<Sample> {
    if setup.peer.program == Program::Ratatoskr {
        return super::ours::recovery(&setup.program.path, &setup.folder, amounts);
    }
    let (tongue, at) = (setup.peer.tongue, setup.address);
    let server = setup.start().await?;
    tongue.create(at, TOPIC, Shape::Kept).await?;
    let load = PublishLoad {
        in_flight: BATCH_IN_FLIGHT,
        batch: BATCH,
        size: amounts.size,
        time: amounts.recovery_time,
        messages_max: amounts.recovery,
    };
    let acked = fill(tongue, at, TOPIC, load).await?.messages;
    server.kill_nine()?;
    let started = Instant::now();
    let server = setup.start().await?;
    let there = counted(setup, &server, acked).await?;
    let took = started.elapsed();
    let rss = server.usage()?.rss_bytes as f64 / f64::from(1 << 20);
    let note = (acked < amounts.recovery).then(|| format!("only {acked} messages fitted into the time"));
    Ok(Sample::of([
        (Measure::StartMs, took.as_secs_f64() * 1e3),
        (Measure::RssMib, rss),
        (Measure::Acked, acked as f64),
        (Measure::Lost, acked.saturating_sub(there) as f64),
    ])
    .noted(note))
}

/// Waits until a started server counts what was acknowledged, or as many as it ever will.
async fn counted(setup: &Setup, server: &Server, acked: u64) -> Outcome<u64> {
    let (began, mut there, mut since) = (Instant::now(), 0, Instant::now());
    loop {
        // While it recovers a queue may not be known yet.
        let count = setup.peer.tongue.count(setup.address, TOPIC).await;
        let count = count.map_or(0, |count| count.unwrap_or(acked));
        if count != there {
            (there, since) = (count, Instant::now());
        }
        if there >= acked || since.elapsed() > PATIENCE.first {
            return Ok(there);
        }
        if began.elapsed() > COUNT_MAX {
            return Err(Failed::new("the server does not come to an end with counting its messages"));
        }
        server.usage().when("looking whether the server still runs")?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_acknowledged_messages_count_and_each_once() {
        let mut found = Found::new(&vec![2, 0]);
        let mark = |producer, number| Some(Mark { producer, number, due: Duration::ZERO });
        for seen in [mark(0, 0), mark(0, 0), mark(0, 5), mark(1, 0), mark(9, 0), None] {
            found.see(seen);
        }
        assert_eq!(found.count, 1);
    }
}

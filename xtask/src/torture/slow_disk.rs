//! A disk that is slow, and one that hangs.

use std::time::{Duration, Instant};

use ratatoskr_proto as wire;
use tokio::task::JoinSet;

use super::arena::{Arena, converse, in_ms, stop, until};
use super::load::{Load, TOPIC, batch_of, connect, create_topic, read_all};
use super::strace::{self, Strace};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome};

/// What the broker may take of memory while its disk hangs, beyond what it had: its inbox (32 MiB), what 64 callers
/// have on the way to it, and what the allocator makes of that.
const MEMORY_MAX: u64 = 256 << 20;
/// What a caller waits for an answer while the disk hangs: short, so that what is left behind by those who gave up would be much.
const DEADLINE: Duration = Duration::from_millis(250);
/// So long after it an answer is late.
const LATE: Duration = Duration::from_secs(3);
const CALLERS: u64 = 64;

pub(super) const SLOW: Fault = Fault {
    name: "slow-disk",
    what: "every `fdatasync` takes 200 ms longer (strace)",
    promise: "slower, and nothing else: one sync still answers everybody who waits",
    run: |arena| match strace::missing() {
        Some(reason) => Ok(Tried::not_here(reason)),
        None => converse(slow(arena)),
    },
};

pub(super) const HANGING: Fault = Fault {
    name: "hanging-disk",
    what: "`fdatasync` does not return while 64 publish 512 KiB messages (strace)",
    promise: "callers are told by their deadline, memory stays bounded, reading goes on; afterwards all is well",
    run: |arena| match strace::missing() {
        Some(reason) => Ok(Tried::not_here(reason)),
        None => converse(hanging(arena)),
    },
};

async fn slow(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let setup = &ground.setup;
    let broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let load = Load::start(setup.uri(), 8, 4, arena.seed).await?;
    load.progress(50).await?;
    let strace = Strace::inject(broker.pid(), "delay_enter=200000")?;
    let (before, started) = (load.ledger().receipts.len(), Instant::now());
    tokio::time::sleep(Duration::from_secs(arena.times(3, 30))).await;
    let acknowledged = load.ledger().receipts.len() - before;
    let took = started.elapsed();
    drop(strace);
    let recovered = load.progress(50).await?;
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    // 8 publishers with 10 messages each share a sync: without that, it would be one batch for each.
    let batches_alone = took.as_millis() / 200 * 10;
    if (acknowledged as u128) < batches_alone * 2 {
        return Err(Failed::new(format!(
            "only {acknowledged} acks in {:.1} s: syncs are not shared",
            took.as_secs_f64()
        )));
    }
    let tried = format!("{:.0} s, {acknowledged} messages acknowledged meanwhile", took.as_secs_f64());
    Ok(Tried { how_often: tried, lost, recovered: in_ms(&mut [recovered]), ..Tried::default() })
}

async fn hanging(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let setup = &ground.setup;
    let broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    connect(&setup.uri()).await?.publish_batch(batch_of(0..10)).await?;
    let before = broker.usage()?.rss_bytes;
    let strace = Strace::inject(broker.pid(), "delay_enter=60000000")?;
    let end = Instant::now() + Duration::from_secs(arena.times(3, 20));
    let mut callers = JoinSet::new();
    (0..CALLERS).for_each(|_| drop(callers.spawn(call_until(setup.uri(), end))));
    let mut highest = 0;
    while Instant::now() < end {
        highest = highest.max(broker.usage()?.rss_bytes);
        if read_all(&setup.uri(), TOPIC).await?.len() < 10 {
            return Err(Failed::new("what is there cannot be read while the disk hangs"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut late = 0;
    while let Some(told) = callers.join_next().await {
        late += told.map_err(|error| Failed::new(error.to_string()))??;
    }
    drop(strace);
    let mut client = connect(&setup.uri()).await?;
    let recovered =
        until("publishing goes on", async || Ok(client.publish_batch(batch_of(10..11)).await.is_ok()))
            .await?;
    let stored = read_all(&setup.uri(), TOPIC).await?;
    let lost = (0..11)
        .filter(|number| !stored.iter().any(|message| message.payload == super::ledger::payload(*number)))
        .count();
    stop(broker).await?;
    let grown = highest.saturating_sub(before);
    if grown > MEMORY_MAX {
        return Err(Failed::new(format!("memory grew by {} MiB while the disk hung", grown >> 20)));
    }
    if late == 0 {
        return Err(Failed::new("the disk did not hang: nobody's deadline was reached"));
    }
    let tried = format!("{late} deadlines; memory grew by {} MiB", grown >> 20);
    Ok(Tried { how_often: tried, lost: lost as u64, recovered: in_ms(&mut [recovered]), ..Tried::default() })
}

/// Publishes with a deadline, again and again; answers how often the deadline was reached. An ack is not to be had.
async fn call_until(uri: String, end: Instant) -> Outcome<u64> {
    let (mut client, mut late) = (connect(&uri).await?, 0);
    while Instant::now() < end {
        let mut request = tonic::Request::new(wire::PublishRequest {
            topic: "hanging".to_owned(),
            payload: vec![b'h'; 512 << 10].into(),
            ..wire::PublishRequest::default()
        });
        request.set_timeout(DEADLINE);
        let answer = tokio::time::timeout(DEADLINE + LATE, client.publish(request)).await;
        match answer {
            Err(_) => return Err(Failed::new("a caller was not answered by its deadline")),
            Ok(Ok(response)) if response.get_ref().success => {
                // The sync that was under way when the disk began to hang may have been a good one.
            }
            Ok(_) => late += 1,
        }
    }
    Ok(late)
}

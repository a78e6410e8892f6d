//! Reconnect storms: everybody comes back at once, again and again.

use std::time::{Duration, Instant};

use ratatoskr_proto as wire;
use tokio::task::JoinSet;

use super::arena::{Arena, converse, in_ms, stop, within};
use super::load::{Load, TOPIC, connect, create_topic, read_all};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome};

/// What the broker keeps of the newest messages anyway.
const TAIL_BYTES: u64 = 32 << 20;
/// So long after the last one went nobody is counted any more.
const GONE_MAX: Duration = Duration::from_secs(10);

pub(super) const FAULT: Fault = Fault {
    name: "storm",
    what: "everybody connects and subscribes at once, and goes, again and again",
    promise: "all of them are served; who publishes goes on; nothing of them is left behind",
    run: |arena| converse(run(arena)),
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let setup = &ground.setup;
    let (broker, waves, clients) = (setup.start()?, arena.times(5, 50), arena.times(200, 1_000));
    create_topic(&setup.uri()).await?;
    let load = Load::start(setup.uri(), 4, 2, arena.seed).await?;
    load.progress(10).await?;
    let (mut served, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..waves {
        let (mut wave, started) = (JoinSet::new(), Instant::now());
        (0..clients).for_each(|_| drop(wave.spawn(come_and_go(setup.uri()))));
        while let Some(came) = wave.join_next().await {
            came.map_err(|error| Failed::new(error.to_string()))??;
        }
        served.push(started.elapsed());
        memory.push(broker.usage()?.rss_bytes);
        load.progress(10).await?;
    }
    let stats = || async {
        let request = wire::GetStatsRequest { topic: TOPIC.to_owned() };
        Ok::<_, Failed>(connect(&setup.uri()).await?.get_stats(request).await?.into_inner().subscriber_count)
    };
    within(GONE_MAX, "those who went are gone", async || Ok(stats().await? <= 2)).await?;
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    let (early, late) = memory.split_at(memory.len() / 2);
    let highest = |waves: &[u64]| waves.iter().copied().max().unwrap_or(0);
    // Later waves cost what the earlier ones did, but for the newest messages, of which there are more by then.
    if highest(late) > highest(early) + highest(early) / 2 + TAIL_BYTES {
        let [early, late] = [early, late].map(|waves| highest(waves) >> 20);
        return Err(Failed::new(format!("memory grew from {early} to {late} MiB")));
    }
    let peak = highest(&memory) >> 20;
    let tried = format!(
        "{waves} waves of {clients}, at most {peak} MiB; {} messages acknowledged meanwhile",
        ledger.receipts.len()
    );
    Ok(Tried {
        how_often: tried,
        lost,
        recovered: format!("all served within {}", in_ms(&mut served)),
        ..Tried::default()
    })
}

/// One client's visit: a connection of its own, a subscription, a message, and away without a word.
async fn come_and_go(uri: String) -> Outcome {
    let mut client = connect(&uri).await?;
    let start = wire::StartPosition { position: Some(wire::start_position::Position::Earliest(true)) };
    let topic = TOPIC.to_owned();
    let request = wire::SubscribeRequest { topic, start: Some(start), ..wire::SubscribeRequest::default() };
    let mut stream = client.subscribe(request).await?.into_inner();
    let first = tokio::time::timeout(super::arena::PATIENCE, stream.message()).await;
    let first = first.map_err(|_| Failed::new("a client of a storm was not served"))??;
    first.ok_or_else(|| Failed::new("a stream ended"))?;
    Ok(())
}

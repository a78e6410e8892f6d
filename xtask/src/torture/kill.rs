//! `kill -9` at random moments, under load.

use std::time::Duration;

use super::arena::{Arena, blocking, converse, in_ms, stop};
use super::load::{Load, TOPIC, create_topic, read_all};
use super::{Fault, Tried};
use crate::failed::Outcome;

pub(super) const FAULT: Fault = Fault {
    name: "kill",
    what: "`kill -9` at random moments while 8 publish and 4 consume",
    promise: "what was acknowledged is there, once, in its place; an ack that was confirmed holds",
    run: |arena| converse(run(arena)),
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let (setup, _folder) = (std::sync::Arc::new(ground.setup), ground.folder);
    let (mut chance, kills) = (arena.chance(), arena.times(8, 200));
    let mut broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let load = Load::start(setup.uri(), 8, 4, arena.seed).await?;
    let mut starts = Vec::new();
    for _ in 0..kills {
        // Something happens between two kills, and then a moment that nobody has chosen.
        load.progress(50).await?;
        tokio::time::sleep(Duration::from_micros(chance.u64(..200_000))).await;
        broker.kill_nine()?;
        let again = setup.clone();
        broker = blocking(move || again.start()).await?;
        starts.push(broker.start_took);
    }
    load.progress(50).await?;
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    let (published, acks) = (ledger.receipts.len(), ledger.acks());
    let tried = format!("{kills} kills; {published} messages acknowledged, {acks} acks confirmed");
    Ok(Tried { how_often: tried, lost, recovered: in_ms(&mut starts), ..Tried::default() })
}

//! SIGSTOP and SIGCONT: the whole process stands still for a while.

use std::time::Duration;

use super::arena::{Arena, converse, in_ms, stop, until};
use super::load::{Load, TOPIC, create_topic, read_all};
use super::{Fault, Tried};
use crate::failed::Outcome;

pub(super) const FAULT: Fault = Fault {
    name: "stalled",
    what: "SIGSTOP for up to 2 s, then SIGCONT, while 8 publish and 4 consume",
    promise: "it goes on where it stood; nothing is lost, nothing comes twice",
    run: |arena| converse(run(arena)),
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let setup = &ground.setup;
    let (mut chance, times) = (arena.chance(), arena.times(3, 30));
    let broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let load = Load::start(setup.uri(), 8, 4, arena.seed).await?;
    let mut recovered = Vec::new();
    for _ in 0..times {
        load.progress(50).await?;
        broker.signal("STOP")?;
        tokio::time::sleep(Duration::from_millis(chance.u64(100..2_000))).await;
        broker.signal("CONT")?;
        let before = load.ledger().receipts.len();
        let goes_on = until("it goes on", async || {
            // An error once it has ended.
            broker.usage()?;
            Ok(load.ledger().receipts.len() > before)
        });
        recovered.push(goes_on.await?);
    }
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    let tried = format!("{times} times; {} messages acknowledged", ledger.receipts.len());
    Ok(Tried { how_often: tried, lost, recovered: in_ms(&mut recovered), ..Tried::default() })
}

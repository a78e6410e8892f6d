//! SIGTERM under load: the broker drains.

use std::time::{Duration, Instant};

use super::arena::{Arena, blocking, converse, in_ms, stop};
use super::load::{Load, TOPIC, create_topic, read_all};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome};

/// The drain may take ten seconds for calls, and a little for the checkpoint.
const DRAIN_MAX: Duration = Duration::from_secs(15);

pub(super) const FAULT: Fault = Fault {
    name: "terminate",
    what: "SIGTERM while 8 publish and 4 consume",
    promise: "it drains and ends with 0 within 15 s; nothing to replay afterwards; nothing is lost, nothing comes twice",
    run: |arena| converse(run(arena)),
};

/// What the banner says of a start that had something to do.
fn is_replay(line: &str) -> bool {
    line.contains("recovery ") && !line.contains("none needed") && !line.contains("a new data folder")
}

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let (setup, _folder) = (std::sync::Arc::new(ground.setup), ground.folder);
    let times = arena.times(3, 30);
    let mut broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let load = Load::start(setup.uri(), 8, 4, arena.seed).await?;
    let mut drains = Vec::new();
    for _ in 0..times {
        load.progress(50).await?;
        let asked = Instant::now();
        // Fails unless it ends with 0.
        stop(broker).await?;
        drains.push(asked.elapsed());
        if asked.elapsed() > DRAIN_MAX {
            return Err(Failed::new(format!("it took {:.1} s to stop", asked.elapsed().as_secs_f64())));
        }
        let again = setup.clone();
        broker = blocking(move || again.start()).await?;
    }
    load.progress(50).await?;
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    let log = std::fs::read_to_string(setup.folder.join("broker.log")).unwrap_or_default();
    let replays = log.lines().filter(|line| is_replay(line)).count();
    if replays > 0 {
        return Err(Failed::new(format!(
            "after a clean stop there was something to recover, {replays} times"
        )));
    }
    let published = ledger.receipts.len();
    let tried = format!("{times} times; {published} messages acknowledged");
    Ok(Tried {
        how_often: tried,
        lost,
        recovered: format!("stopped within {}", in_ms(&mut drains)),
        ..Tried::default()
    })
}

//! `fdatasync` fails with EIO: nothing is acknowledged from then on, and the broker ends.

use super::arena::{Arena, converse, in_ms, stop, until};
use super::load::{TOPIC, batch_of, connect, create_topic, read_all};
use super::strace::{self, Strace};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome};

/// Publishes tried after the failure.
const TRIES: u64 = 5;

pub(super) const FAULT: Fault = Fault {
    name: "disk-error",
    what: "`fdatasync` answers EIO (strace)",
    promise: "no ack after it, the process ends by itself; what was acknowledged before is there after a restart",
    run: |arena| match strace::missing() {
        Some(reason) => Ok(Tried::not_here(reason)),
        None => converse(run(arena)),
    },
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let (times, mut lost, mut starts) = (arena.times(2, 20), 0, Vec::new());
    for _ in 0..times {
        let ground = arena.ground()?;
        let setup = &ground.setup;
        let broker = setup.start()?;
        create_topic(&setup.uri()).await?;
        let mut client = connect(&setup.uri()).await?;
        client.publish_batch(batch_of(0..10)).await?;
        let strace = Strace::inject(broker.pid(), "error=EIO")?;
        for number in 0..TRIES {
            if let Ok(response) = client.publish_batch(batch_of(10 + number..11 + number)).await {
                lost += response.into_inner().success_count as u64;
            }
        }
        if lost > 0 {
            return Ok(Tried {
                how_often: "an ack after a failed sync".to_owned(),
                lost,
                ..Tried::default()
            });
        }
        let status = until("the broker has ended", async || Ok(broker.ended()?.is_some())).await;
        status?;
        drop(strace);
        if broker.ended()?.is_some_and(|status| status.success()) {
            return Err(Failed::new("it ended with 0, as if nothing had happened"));
        }
        drop(broker);
        let broker = setup.start()?;
        starts.push(broker.start_took);
        let stored = read_all(&setup.uri(), TOPIC).await?;
        let is_there =
            |number: u64| stored.iter().any(|message| message.payload == super::ledger::payload(number));
        lost += (0..10).filter(|number| !is_there(*number)).count() as u64;
        stop(broker).await?;
    }
    let tried = format!("{times} failed syncs, {} publishes after them, no ack", times * TRIES);
    Ok(Tried { how_often: tried, lost, recovered: in_ms(&mut starts), ..Tried::default() })
}

//! Connections are reset at random bytes of publishing.

use std::sync::atomic::Ordering;

use super::arena::{Arena, converse, stop, until};
use super::load::{Load, TOPIC, create_topic, read_all};
use super::proxy::Proxy;
use super::{Fault, Tried};
use crate::failed::Outcome;

/// About ten batches.
const BYTES_MAX: u64 = 30_000;

pub(super) const FAULT: Fault = Fault {
    name: "reset",
    what: "connections are reset at random bytes while 8 publish, who try again with the same ids",
    promise: "what is tried again is stored once",
    run: |arena| converse(run(arena)),
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let setup = &ground.setup;
    let (broker, resets) = (setup.start()?, arena.times(300, 5_000));
    create_topic(&setup.uri()).await?;
    let proxy = Proxy::start(setup.grpc, BYTES_MAX, arena.seed).await?;
    // The subscription is made directly: that is not what is tried here.
    let load =
        Load::start_through(setup.uri(), format!("http://{}", proxy.address), (8, 0), arena.seed).await?;
    let enough = || proxy.resets.load(Ordering::Relaxed) >= resets;
    while !enough() {
        let before = proxy.resets.load(Ordering::Relaxed);
        until("connections are reset", async || {
            Ok(enough() || proxy.resets.load(Ordering::Relaxed) > before + 50)
        })
        .await?;
    }
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    let (published, failures) = (ledger.receipts.len(), ledger.failures);
    let resets = proxy.resets.load(Ordering::Relaxed);
    let tried = format!("{resets} resets, {failures} batches sent again; {published} messages acknowledged");
    Ok(Tried { how_often: tried, lost, recovered: "–".to_owned(), ..Tried::default() })
}

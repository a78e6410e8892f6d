//! A second broker on a data directory that is in use.

use super::arena::{Arena, converse, stop};
use super::load::{Load, TOPIC, create_topic, read_all};
use super::{Fault, Tried};
use crate::broker_process::BrokerSetup;
use crate::failed::{Failed, Outcome};

pub(super) const FAULT: Fault = Fault {
    name: "second-broker",
    what: "a second broker is started on the data directory of one at work",
    promise: "the second one refuses, and says why; the first does not notice",
    run: |arena| converse(run(arena)),
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let ground = arena.ground()?;
    let setup = &ground.setup;
    let broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let load = Load::start(setup.uri(), 4, 2, arena.seed).await?;
    let times = arena.times(3, 20);
    for _ in 0..times {
        load.progress(20).await?;
        let other = BrokerSetup::new(arena.program.clone(), ground.folder.path())?;
        let environment = setup.environment.clone();
        let refused = match (BrokerSetup { environment, ..other }).start() {
            Ok(_) => return Err(Failed::new("a second broker serves the same data directory")),
            Err(refused) => refused.to_string(),
        };
        if !refused.contains("is locked by another running broker") {
            return Err(Failed::new(format!("it does not say why it refuses: {refused}")));
        }
    }
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    let tried = format!("{times} starts refused; {} messages acknowledged meanwhile", ledger.receipts.len());
    Ok(Tried { how_often: tried, lost, recovered: "–".to_owned(), ..Tried::default() })
}

//! Subscribers that do not read what they are sent.

use std::time::{Duration, Instant};

use ratatoskr_proto as wire;

use super::arena::{Arena, converse, stop};
use super::load::{Load, TOPIC, connect, create_topic, read_all};
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome};

/// What each slow reader may cost the broker: its windows in the kernel and in HTTP/2 do not count.
const MEMORY_EACH_MAX: u64 = 512 << 10;

pub(super) const FAULT: Fault = Fault {
    name: "slow-reader",
    what: "subscribers that never read, on a topic that gets 100 MB and more",
    promise: "they cost at most 512 KiB each, however far behind they are; who publishes and who reads does not notice",
    run: |arena| converse(run(arena)),
};

async fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let mut ground = arena.ground()?;
    // The newest messages in memory have a thirty-second of it, and what is there before fills that.
    ground.setup.arguments.extend(["--memory".to_owned(), "1GiB".to_owned()]);
    let setup = &ground.setup;
    let broker = setup.start()?;
    create_topic(&setup.uri()).await?;
    let (readers, bytes) = (arena.times(100, 500), arena.times(100 << 20, 1 << 30));
    let load = Load::start(setup.uri(), 2, 1, arena.seed).await?;
    fill(&setup.uri(), 32 << 20).await?;
    let before = broker.usage()?.rss_bytes;
    let mut held = Vec::new();
    for _ in 0..readers {
        let mut client = connect_for_good(&setup.uri()).await?;
        let start = wire::StartPosition { position: Some(wire::start_position::Position::Earliest(true)) };
        let topic = "stream".to_owned();
        let request =
            wire::SubscribeRequest { topic, start: Some(start), ..wire::SubscribeRequest::default() };
        let mut stream = client.subscribe(request).await?.into_inner();
        // The first message shows that it is served; then it reads no more.
        stream.message().await?.ok_or_else(|| Failed::new("the stream ended"))?;
        held.push((client, stream));
    }
    let started = Instant::now();
    fill(&setup.uri(), bytes).await?;
    let rate = bytes as f64 / started.elapsed().as_secs_f64() / 1e6;
    load.progress(100).await?;
    let grown = broker.usage()?.rss_bytes.saturating_sub(before);
    drop(held);
    let ledger = load.finish().await?;
    let lost = ledger.check(&read_all(&setup.uri(), TOPIC).await?)?;
    stop(broker).await?;
    if grown > readers * MEMORY_EACH_MAX {
        return Err(Failed::new(format!("{readers} slow readers cost {} MiB", grown >> 20)));
    }
    let tried = format!(
        "{readers} readers, {} MB behind; {} KiB each; published at {rate:.0} MB/s meanwhile",
        bytes / 1_000_000,
        grown / readers / 1024
    );
    Ok(Tried { how_often: tried, lost, recovered: "–".to_owned(), ..Tried::default() })
}

async fn connect_for_good(
    uri: &str,
) -> Outcome<wire::message_broker_client::MessageBrokerClient<tonic::transport::Channel>> {
    let endpoint = tonic::transport::Endpoint::from_shared(uri.to_owned());
    let endpoint =
        endpoint.map_err(|error| Failed::new(error.to_string()))?.connect_timeout(Duration::from_secs(5));
    let channel = endpoint.connect().await.map_err(|error| Failed::new(error.to_string()))?;
    Ok(wire::message_broker_client::MessageBrokerClient::new(channel))
}

async fn fill(uri: &str, bytes: u64) -> Outcome {
    let mut client = connect(uri).await?;
    let message =
        wire::PublishRequest { payload: vec![b's'; 16 << 10].into(), ..wire::PublishRequest::default() };
    for _ in 0..bytes / (1 << 20) {
        let messages = vec![message.clone(); 64];
        let request = wire::PublishBatchRequest { topic: "stream".to_owned(), messages };
        let response = client.publish_batch(request).await?.into_inner();
        if response.error_count > 0 {
            return Err(Failed::new(format!("publishing failed: {}", response.results[0].error)));
        }
    }
    Ok(())
}

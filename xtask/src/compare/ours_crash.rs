//! Publishing to our own broker until it is killed, and reading back what is there: `ratatoskr bench` kills nobody under load.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::start_position::Position;
use ratatoskr_proto::{
    CreateTopicRequest, Durability, PublishRequest, StartPosition, SubscribeRequest, TopicSettings,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::amounts::KILL_IN_FLIGHT;
use super::crash::{Acked, TOPIC};
use super::mark::{Mark, noise};
use super::server::Setup;
use crate::failed::{Failed, Outcome, While};

type Client = MessageBrokerClient<Channel>;

/// Makes the topic.
pub(crate) async fn create(setup: &Setup) -> Outcome {
    let durability = match setup.peer.setting {
        "fsync" => Durability::Fsync,
        "written" => Durability::Written,
        _ => Durability::Memory,
    };
    let settings = TopicSettings { durability: Some(durability.into()), ..TopicSettings::default() };
    let request = CreateTopicRequest { name: TOPIC.into(), settings: Some(settings) };
    connect(setup).await?.create_topic(request).await?;
    Ok(())
}

/// Publishes, each message a call of its own, until the broker is gone or the time is over.
pub(crate) async fn publish(setup: &Setup, size: usize, time: Duration) -> Outcome<Acked> {
    let client = connect(setup).await?;
    let mut tasks = JoinSet::new();
    for producer in 0..KILL_IN_FLIGHT {
        tasks.spawn_local(publish_one(client.clone(), producer, size, time));
    }
    let mut acked = vec![0; KILL_IN_FLIGHT as usize];
    while let Some(done) = tasks.join_next().await {
        let (producer, count) = done.when("publishing")?;
        acked[producer as usize] = count;
    }
    Ok(acked)
}

async fn publish_one(mut client: Client, producer: u32, size: usize, time: Duration) -> (u32, u64) {
    let (started, mut payload, mut acked) = (Instant::now(), noise(size), 0);
    while started.elapsed() < time {
        Mark { producer, number: acked, due: Duration::ZERO }.write(&mut payload);
        let request = PublishRequest {
            topic: TOPIC.into(),
            payload: Bytes::copy_from_slice(&payload),
            ..PublishRequest::default()
        };
        match client.publish(request).await {
            Ok(answer) if answer.get_ref().success => acked += 1,
            // The broker is gone: what it did not acknowledge it does not owe.
            _ => break,
        }
    }
    (producer, acked)
}

/// Reads the topic from its beginning until nothing comes for so long.
pub(crate) async fn read(setup: &Setup, quiet_max: Duration, mut seen: impl FnMut(Option<Mark>)) -> Outcome {
    let start = StartPosition { position: Some(Position::Earliest(true)) };
    let request = SubscribeRequest { topic: TOPIC.into(), start: Some(start), ..SubscribeRequest::default() };
    let mut messages = connect(setup).await?.subscribe(request).await?.into_inner();
    while let Ok(message) = tokio::time::timeout(quiet_max, messages.message()).await {
        let message = message?.ok_or_else(|| Failed::new("the subscription ended"))?;
        seen(Mark::read(&message.payload));
    }
    Ok(())
}

async fn connect(setup: &Setup) -> Outcome<Client> {
    let uri = format!("http://{}", setup.address);
    Client::connect(uri.clone()).await.when(format_args!("connecting to {uri}"))
}

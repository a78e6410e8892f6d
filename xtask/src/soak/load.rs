//! The clients of a soak run: publishers at a steady rate, subscribers that check what they get.
//!
//! Each is one small task. A task that meets anything unexpected reports it to the ledger and
//! ends; it never tries again, because a retry could hide a loss.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::start_position::Position;
use ratatoskr_proto::{
    CreateTopicRequest, Durability, GetStatsRequest, Message, PublishRequest, PublishResponse, StartPosition,
    SubscribeRequest,
};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::SoakOptions;
use super::ledger::Ledger;
use super::message::{payload, stamp};
use crate::failed::{Failed, Outcome, While};

const TOPIC: &str = "soak";
/// Publishers that go round the other topics.
const OTHER_PUBLISHERS: u32 = 20;
/// Every so many-th other topic has a subscriber.
const OTHER_SUBSCRIBED_EVERY: usize = 10;

type Client = MessageBrokerClient<Channel>;

/// The running load, as far as it is needed again at the end.
pub(super) struct Load {
    client: Client,
    other_topics: u32,
    /// The publishers that go round the other topics.
    rounds: Vec<JoinHandle<()>>,
}

/// What a publisher works with.
struct Sender {
    client: Client,
    /// Its number, from 0; stands in its payloads.
    number: u32,
    /// How many there are of its kind.
    of: u32,
    /// Time between two of its messages.
    every: Duration,
    /// Bytes of each payload.
    bytes: usize,
}

impl Load {
    /// Connects, creates the topics, lets every subscriber in, and only then starts to publish.
    pub(super) async fn start(uri: &str, options: &SoakOptions, ledger: &Arc<Ledger>) -> Outcome<Load> {
        let mut clients = Vec::new();
        for _ in 0..options.connections {
            let endpoint = Endpoint::from_shared(uri.to_owned()).when("reading the broker's address")?;
            let channel = endpoint.connect().await.when(format_args!("connecting to {uri}"))?;
            clients.push(MessageBrokerClient::new(channel));
        }
        let client = |index: u32| clients[index as usize % clients.len()].clone();
        create_topic(&mut client(0), TOPIC).await?;
        for topic in 0..options.other_topics {
            create_topic(&mut client(topic), &other_topic(topic)).await?;
        }
        for subscriber in 0..options.subscribers {
            let stream = subscribe(&mut client(subscriber), TOPIC).await?;
            let publishers = options.publishers as usize;
            spawn(ledger, |ledger| follow(stream, subscriber, publishers, ledger));
        }
        for topic in (0..options.other_topics).step_by(OTHER_SUBSCRIBED_EVERY) {
            let stream = subscribe(&mut client(topic), &other_topic(topic)).await?;
            spawn(ledger, |ledger| follow_other(stream, ledger));
        }
        let bytes = options.payload_bytes as usize;
        let sender =
            |number, of, rate| Sender { client: client(number), number, of, every: pause(of, rate), bytes };
        for number in 0..options.publishers {
            let sender = sender(number, options.publishers, options.rate);
            spawn(ledger, |ledger| publish(sender, ledger));
        }
        let rounds = (0..OTHER_PUBLISHERS.min(options.other_topics)).map(|number| {
            let (sender, topics) =
                (sender(number, OTHER_PUBLISHERS, options.other_rate), options.other_topics);
            spawn(ledger, move |ledger| publish_round(sender, topics, ledger))
        });
        let rounds = rounds.collect();
        Ok(Load { client: client(0), other_topics: options.other_topics, rounds })
    }

    /// Asks the broker what each other topic holds, and compares it with what was acknowledged.
    pub(super) async fn check_other_topics(mut self, ledger: &Ledger) -> Outcome {
        // One that is on its last message is held by its topic before it is known to be acknowledged.
        for round in self.rounds {
            round.await.when("waiting for the publishers of the other topics")?;
        }
        ledger.check()?;
        for topic in 0..self.other_topics {
            let request = GetStatsRequest { topic: other_topic(topic) };
            let held = self.client.get_stats(request).await?.into_inner().message_count;
            let acknowledged = ledger.acknowledged_other(topic);
            if u64::try_from(held) != Ok(acknowledged) {
                let name = other_topic(topic);
                return Err(Failed::new(format!(
                    "{name} holds {held} messages, {acknowledged} were acknowledged"
                )));
            }
        }
        Ok(())
    }
}

fn other_topic(number: u32) -> String {
    format!("other-{number:04}")
}

/// Time between two messages of one of `publishers` that together send `rate` a second.
fn pause(publishers: u32, rate: f64) -> Duration {
    Duration::from_secs_f64(f64::from(publishers) / rate.max(0.001))
}

/// Runs a task that reports its failure to the ledger.
fn spawn<F>(ledger: &Arc<Ledger>, task: impl FnOnce(Arc<Ledger>) -> F) -> JoinHandle<()>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let (task, ledger) = (task(Arc::clone(ledger)), Arc::clone(ledger));
    tokio::spawn(async move {
        if let Err(failed) = task.await {
            ledger.report(&failed);
        }
    })
}

async fn create_topic(client: &mut Client, name: &str) -> Outcome {
    let response =
        client.create_topic(CreateTopicRequest { name: name.into(), settings: None }).await?.into_inner();
    if response.created {
        Ok(())
    } else {
        Err(Failed::new(format!("topic {name} was not created: {}", response.error)))
    }
}

async fn subscribe(client: &mut Client, topic: &str) -> Outcome<Streaming<Message>> {
    let start = Some(StartPosition { position: Some(Position::Earliest(true)) });
    let request = SubscribeRequest { topic: topic.into(), start, ..SubscribeRequest::default() };
    Ok(client.subscribe(request).await?.into_inner())
}

/// A subscriber of the main topic: checks offset, content, and each publisher's order.
async fn follow(
    mut stream: Streaming<Message>,
    subscriber: u32,
    publishers: usize,
    ledger: Arc<Ledger>,
) -> Outcome {
    let mut next_offset = 0;
    let mut next_sequence = vec![0; publishers];
    while let Some(message) = next(&mut stream, &ledger).await? {
        let offset = check_next(&message, &mut next_offset)?;
        let stamp = stamp(&message.payload).ok_or_else(|| {
            Failed::new(format!("subscriber {subscriber} got damaged content at offset {offset}"))
        })?;
        let expected = next_sequence.get_mut(stamp.sender as usize).ok_or_else(|| {
            Failed::new(format!("offset {offset} names publisher {}, which does not exist", stamp.sender))
        })?;
        if stamp.sequence != *expected {
            return Err(Failed::new(format!(
                "subscriber {subscriber} got message {} of publisher {} at offset {offset}, not message {expected}",
                stamp.sequence, stamp.sender
            )));
        }
        *expected += 1;
        ledger.deliver(subscriber, offset, stamp)?;
    }
    Ok(())
}

/// A subscriber of another topic: checks offset and content.
async fn follow_other(mut stream: Streaming<Message>, ledger: Arc<Ledger>) -> Outcome {
    let mut next_offset = 0;
    while let Some(message) = next(&mut stream, &ledger).await? {
        let offset = check_next(&message, &mut next_offset)?;
        if stamp(&message.payload).is_none() {
            return Err(Failed::new(format!("{} has damaged content at offset {offset}", message.topic)));
        }
        ledger.deliver_other();
    }
    Ok(())
}

/// The next message; none once the run is over. A stream that ends while it runs is a failure.
async fn next(stream: &mut Streaming<Message>, ledger: &Ledger) -> Outcome<Option<Message>> {
    match stream.message().await {
        Ok(Some(message)) => Ok(Some(message)),
        _ if ledger.is_stopped() && ledger.is_drained() => Ok(None),
        Ok(None) => Err(Failed::new("the broker ended a subscription")),
        Err(status) => Err(status.into()),
    }
}

fn check_next(message: &Message, next_offset: &mut u64) -> Outcome<u64> {
    let expected = *next_offset;
    if u64::try_from(message.offset) != Ok(expected) {
        return Err(Failed::new(format!(
            "{} delivered offset {}, not {expected}",
            message.topic, message.offset
        )));
    }
    *next_offset += 1;
    Ok(expected)
}

/// A publisher of the main topic.
async fn publish(mut sender: Sender, ledger: Arc<Ledger>) -> Outcome {
    let mut random = fastrand::Rng::with_seed(u64::from(sender.number));
    let mut ticks = steady(&sender);
    let mut sequence = 0;
    while !ledger.is_stopped() {
        ticks.tick().await;
        let (payload, stamp) = payload(sender.number, sequence, sender.bytes, &mut random);
        let sent = Instant::now();
        let request = PublishRequest { topic: TOPIC.into(), payload, ..PublishRequest::default() };
        let receipt = accepted(sender.client.publish(request).await?.into_inner())?;
        ledger.acknowledge(receipt.offset as u64, stamp, sent.elapsed())?;
        sequence += 1;
    }
    Ok(())
}

/// A publisher that goes round its share of the other topics.
async fn publish_round(mut sender: Sender, topics: u32, ledger: Arc<Ledger>) -> Outcome {
    let mut random = fastrand::Rng::with_seed(u64::from(sender.number) << 32);
    let mut ticks = steady(&sender);
    let mut round = (sender.number..topics).step_by(OTHER_PUBLISHERS as usize).cycle().zip(0..);
    while !ledger.is_stopped() {
        ticks.tick().await;
        let (topic, sequence) = round.next().expect("a publisher is started only if a topic is left for it");
        let (payload, _) = payload(sender.number, sequence, sender.bytes, &mut random);
        let request = PublishRequest { topic: other_topic(topic), payload, ..PublishRequest::default() };
        accepted(sender.client.publish(request).await?.into_inner())?;
        ledger.acknowledge_other(topic);
    }
    Ok(())
}

/// Ticks that never come in bursts: publishers take turns, and one that was held up goes on at its rate.
fn steady(sender: &Sender) -> tokio::time::Interval {
    let turn = sender.every.mul_f64(f64::from(sender.number) / f64::from(sender.of));
    let mut ticks = interval_at(tokio::time::Instant::now() + turn, sender.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn accepted(response: PublishResponse) -> Outcome<PublishResponse> {
    if !response.success {
        return Err(Failed::new(format!("a publish was refused: {}", response.error)));
    }
    if response.receipt() != Durability::Fsync {
        return Err(Failed::new(format!(
            "a receipt says {:?}, not fsync, which is the default",
            response.receipt()
        )));
    }
    Ok(response)
}

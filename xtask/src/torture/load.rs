//! Load under which faults happen: publishers that try again until they are told, and members that ack what they are given.
//!
//! ```text
//!   publishers ──batches, dedup ids──▶ broker ◀──Consume── members       both write into one Ledger
//!        └── failed? the same batch again, on another connection
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use super::arena::PATIENCE;
use super::ledger::{Ledger, payload};
use crate::failed::{Failed, Outcome, While};

pub(super) const TOPIC: &str = "torture";
const SUBSCRIPTION: &str = "members";
/// Messages in one batch, at most.
const BATCH_MAX: u64 = 20;
/// A publisher waits between two batches, at most so long.
const PAUSE_MICROS_MAX: u64 = 10_000;
/// Who fails tries again after this time.
const AGAIN: Duration = Duration::from_millis(10);
/// How often a member looks whether the run is over.
const LOOK: Duration = Duration::from_millis(50);
/// A call that takes longer is given up, and made again.
const CALL_MAX: Duration = Duration::from_secs(20);

/// What all tasks of a load share.
struct Shared {
    uri: String,
    ledger: Mutex<Ledger>,
    is_over: AtomicBool,
    last_number: AtomicU64,
}

/// See the file's head.
pub(super) struct Load {
    shared: Arc<Shared>,
    publishers: Vec<JoinHandle<Outcome>>,
    members: Vec<JoinHandle<Outcome>>,
}

/// A connection to a broker, given up after a while.
pub(super) async fn connect(uri: &str) -> Outcome<MessageBrokerClient<Channel>> {
    let endpoint = tonic::transport::Endpoint::from_shared(uri.to_owned()).when("reading an address")?;
    let endpoint = endpoint.connect_timeout(Duration::from_secs(5)).timeout(CALL_MAX);
    let channel = endpoint.connect().await.when(format_args!("connecting to {uri}"))?;
    Ok(MessageBrokerClient::new(channel).max_decoding_message_size(64 << 20))
}

/// The topic of all loads, with a window of duplicates that no run outlasts.
pub(super) async fn create_topic(uri: &str) -> Outcome {
    let settings = wire::TopicSettings { dedup_window_ms: Some(3_600_000), ..wire::TopicSettings::default() };
    let request = wire::CreateTopicRequest { name: TOPIC.to_owned(), settings: Some(settings) };
    connect(uri).await?.create_topic(request).await?;
    Ok(())
}

pub(super) fn batch_of(numbers: impl Iterator<Item = u64>) -> wire::PublishBatchRequest {
    let message = |number: u64| wire::PublishRequest {
        payload: payload(number).into(),
        dedup_id: number.to_string(),
        key: (number % 50).to_string(),
        ..wire::PublishRequest::default()
    };
    wire::PublishBatchRequest { topic: TOPIC.to_owned(), messages: numbers.map(message).collect() }
}

impl Load {
    /// Begins. The topic has to exist.
    pub(super) async fn start(uri: String, publishers: u64, members: u64, seed: u64) -> Outcome<Load> {
        Load::start_through(uri.clone(), uri, (publishers, members), seed).await
    }

    /// Begins, through something that stands between the load and the broker.
    pub(super) async fn start_through(
        broker: String,
        uri: String,
        (publishers, members): (u64, u64),
        seed: u64,
    ) -> Outcome<Load> {
        let name = Some(name());
        let settings =
            wire::SubscriptionSettings { lease_ms: Some(5_000), ..wire::SubscriptionSettings::default() };
        let request = wire::CreateSubscriptionRequest { name, start: None, settings: Some(settings) };
        connect(&broker).await?.create_subscription(request).await?;
        let (ledger, is_over, last_number) = (Mutex::default(), AtomicBool::new(false), AtomicU64::new(0));
        let shared = Arc::new(Shared { uri, ledger, is_over, last_number });
        let publish = |n| tokio::spawn(publish(shared.clone(), seed + n));
        let consume = |n| tokio::spawn(consume(shared.clone(), n));
        let (publishers, members) =
            ((0..publishers).map(publish).collect(), (0..members).map(consume).collect());
        Ok(Load { shared, publishers, members })
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().expect("no task panics with it")
    }

    /// Waits until so many more messages are acknowledged and, where there are members, acks confirmed.
    pub(super) async fn progress(&self, more: usize) -> Outcome<Duration> {
        let count = |ledger: &Ledger| (ledger.receipts.len(), ledger.acks());
        let (published, acked) = count(&self.ledger());
        let members = self.members.len();
        super::arena::until("the load goes on", async || {
            let now = count(&self.ledger());
            Ok(now.0 >= published + more && (members == 0 || now.1 >= acked + more))
        })
        .await
    }

    /// Ends, once every publisher has its last receipt; answers what was promised.
    pub(super) async fn finish(self) -> Outcome<Ledger> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for task in self.publishers.into_iter().chain(self.members) {
            let ended = tokio::time::timeout(PATIENCE, task).await;
            ended.when("waiting for the load to end")?.when("a task of the load")??;
        }
        let shared = Arc::into_inner(self.shared).ok_or_else(|| Failed::new("a task of the load goes on"))?;
        Ok(shared.ledger.into_inner().expect("no task panics with it"))
    }
}

fn name() -> wire::SubscriptionName {
    wire::SubscriptionName { topic: TOPIC.to_owned(), subscription: SUBSCRIPTION.to_owned() }
}

async fn publish(shared: Arc<Shared>, seed: u64) -> Outcome {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut connection = None;
    while !shared.is_over.load(Ordering::Relaxed) {
        // Pauses, so that there are moments at which the newest ack has been told and nothing else is under way: what a broker
        // would lose that tells too early is lost then.
        tokio::time::sleep(Duration::from_micros(chance.u64(..PAUSE_MICROS_MAX))).await;
        let count = chance.u64(1..=BATCH_MAX);
        let first = shared.last_number.fetch_add(count, Ordering::Relaxed);
        // Until it is told: what was begun is finished, whatever happens meanwhile.
        loop {
            if try_publish(&shared, &mut connection, first..first + count).await.is_ok() {
                break;
            }
            connection = None;
            shared.ledger.lock().expect("no task panics with it").failures += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

async fn try_publish(
    shared: &Shared,
    connection: &mut Option<MessageBrokerClient<Channel>>,
    numbers: std::ops::Range<u64>,
) -> Outcome {
    if connection.is_none() {
        *connection = Some(connect(&shared.uri).await?);
    }
    let client = connection.as_mut().expect("connected just now");
    let response = client.publish_batch(batch_of(numbers.clone())).await?.into_inner();
    if response.error_count > 0 || response.results.len() as u64 != numbers.end - numbers.start {
        return Err(Failed::new("not all of a batch was taken"));
    }
    let mut ledger = shared.ledger.lock().expect("no task panics with it");
    ledger.receipts.extend(numbers.zip(response.results.iter().map(|result| result.offset as u64)));
    Ok(())
}

async fn consume(shared: Arc<Shared>, number: u64) -> Outcome {
    while !shared.is_over.load(Ordering::Relaxed) {
        // Whatever breaks a stream, another one follows.
        if live(&shared, number).await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

async fn live(shared: &Shared, number: u64) -> Outcome {
    let (steps, requests) = mpsc::unbounded_channel();
    let send = |step| {
        // A closed channel means that the stream broke, which is noticed where it is read.
        let _ = steps.send(wire::ConsumeRequest { step: Some(step) });
    };
    let window = Some(wire::Window { messages: 100, bytes: 0 });
    let member = format!("member {number}");
    let hello = wire::ConsumeOpen { name: Some(name()), member, window, ..wire::ConsumeOpen::default() };
    send(Ask::Open(hello));
    // Without the time limit of calls: this one lasts.
    let channel = tonic::transport::Endpoint::from_shared(shared.uri.clone()).when("reading an address")?;
    let channel = channel.connect().await.when("connecting")?;
    let mut client = MessageBrokerClient::new(channel).max_decoding_message_size(64 << 20);
    let mut responses = client.consume(UnboundedReceiverStream::new(requests)).await?.into_inner();
    let (mut sequence, mut open) = (0, HashMap::<u64, Vec<u64>>::new());
    while !shared.is_over.load(Ordering::Relaxed) {
        let Ok(response) = tokio::time::timeout(LOOK, responses.message()).await else { continue };
        let response = response?.ok_or_else(|| Failed::new("the stream ended"))?;
        let mut ledger = shared.ledger.lock().expect("no task panics with it");
        match response.step {
            Some(Tell::Deliveries(deliveries)) => {
                let offsets: Vec<u64> =
                    deliveries.messages.iter().map(|message| message.offset as u64).collect();
                for offset in &offsets {
                    ledger.delivered(*offset);
                }
                sequence += 1;
                open.insert(sequence, offsets);
                let acks = deliveries.messages.iter().map(|message| message.token.clone()).collect();
                send(Ask::Settle(wire::ConsumeSettle { sequence, acks, settlements: Vec::new() }));
            }
            Some(Tell::Fates(fates)) if fates.refused.is_empty() => {
                ledger.confirmed(&open.remove(&fates.sequence).unwrap_or_default());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Everything a topic holds, from its first message on.
pub(super) async fn read_all(uri: &str, topic: &str) -> Outcome<Vec<wire::Message>> {
    let mut client = connect(uri).await?;
    let stats = client.get_stats(wire::GetStatsRequest { topic: topic.to_owned() }).await?.into_inner();
    let mut messages = Vec::with_capacity(stats.message_count as usize);
    if stats.message_count == 0 {
        return Ok(messages);
    }
    let start = wire::StartPosition { position: Some(wire::start_position::Position::Earliest(true)) };
    let topic = topic.to_owned();
    let request = wire::SubscribeRequest { topic, start: Some(start), ..wire::SubscribeRequest::default() };
    let mut stream = client.subscribe(request).await?.into_inner();
    while (messages.len() as i64) < stats.message_count {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let next = next.when(format_args!("reading after {} messages", messages.len()))??;
        messages.push(next.ok_or_else(|| Failed::new("the topic ended too early"))?);
    }
    Ok(messages)
}

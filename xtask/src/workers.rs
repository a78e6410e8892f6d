//! Workers on one durable subscription, killed and stalled at random, under a broker that is killed as well.
//!
//! ```text
//!   publisher ──▶ broker ◀──Consume── 20 workers     facts ──▶ History ──▶ violations
//!                   ▲ kill -9, ten times
//! ```
//!
//! Workers ack what they can, reject what is poison, nack what fails; now and then one nacks what it could handle, holds a message
//! beyond its lease, or vanishes with all it holds. In the end everything is settled and the history checker has no complaint.

mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ratatoskr_proto as wire;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use tonic::transport::Channel;

use crate::broker_process::BrokerSetup;
use crate::failed::{Failed, Outcome, While};
use crate::history::{Dead, End, History, Kind, Stored};
use crate::workshop::{Profile, Workshop};

pub(crate) const TOPIC: &str = "work";
pub(crate) const SUBSCRIPTION: &str = "workers";
const KEYS: u64 = 1000;
const BATCH_MESSAGES: u64 = 500;
/// Good messages fail by chance far less often than this; failing ones die of it.
const ATTEMPTS_MAX: u32 = 30;
/// Short, so that what is held too long returns within the run.
pub(crate) const LEASE: Duration = Duration::from_millis(300);
/// Then it is said what is stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// How much, how rough, and which build.
#[derive(clap::Args)]
pub(crate) struct WorkersOptions {
    /// Messages to publish and work through
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Workers that share them
    #[arg(long, default_value_t = 20)]
    workers: u32,
    /// How often the broker is killed
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// Seed of everything that happens by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The build of the broker
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// Break the broker on purpose; the checker has to notice
    #[arg(long, value_enum)]
    broken: Option<Broken>,
}

/// How a broker breaks its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Broken {
    /// Acks are confirmed and never written
    Acks,
    /// Keys are not kept in order
    Order,
    /// Messages that nobody could settle vanish
    Dead,
}

/// A run that is short enough for every change.
pub(crate) fn short(broken: Option<Broken>) -> WorkersOptions {
    WorkersOptions { messages: 5000, workers: 6, kills: 2, seed: 1, profile: Profile::Dev, broken }
}

impl Broken {
    pub(crate) const ALL: [Broken; 3] = [Broken::Acks, Broken::Order, Broken::Dead];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Broken::Acks => "acks",
            Broken::Order => "order",
            Broken::Dead => "dead",
        }
    }
}

/// What all tasks of a run share.
pub(crate) struct Run {
    pub(crate) uri: String,
    pub(crate) history: std::sync::Mutex<History>,
    pub(crate) done: AtomicBool,
    pub(crate) acked: AtomicU64,
    pub(crate) vanished: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) stale: AtomicU64,
}

/// Works everything off and prints a report; a violation fails the chore.
pub(crate) fn run(workshop: &Workshop, options: &WorkersOptions) -> Outcome {
    let program = match options.broken {
        None => workshop.broker_program(options.profile)?,
        Some(_) => workshop.broken_program()?,
    };
    let folder = tempfile::tempdir_in(&workshop.target).when("creating a folder for the broker")?;
    let mut setup = BrokerSetup::new(program, folder.path())?;
    setup.environment.extend(options.broken.map(|broken| ("E2E_BROKEN", broken.word().to_owned())));
    let setup = Arc::new(setup);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().when("starting a runtime")?;
    let outcome = runtime.block_on(work(&setup, options));
    match (options.broken, outcome) {
        (None, outcome) => outcome,
        (Some(broken), Ok(())) => {
            Err(Failed::new(format!("a broker with broken {} was not noticed", broken.word())))
        }
        (Some(broken), Err(complaint)) => {
            println!("noticed, as it should be, that {} is broken: {complaint}", broken.word());
            Ok(())
        }
    }
}

async fn work(setup: &Arc<BrokerSetup>, options: &WorkersOptions) -> Outcome {
    let mut broker = setup.start()?;
    let run = Arc::new(Run {
        uri: setup.uri(),
        history: std::sync::Mutex::new(History::default()),
        done: AtomicBool::new(false),
        acked: AtomicU64::new(0),
        vanished: AtomicU64::new(0),
        stalled: AtomicU64::new(0),
        stale: AtomicU64::new(0),
    });
    create(&run.uri).await?;
    let started = Instant::now();
    let publishing = tokio::spawn(publish(run.clone(), options.messages));
    let workers: Vec<_> = (0..options.workers)
        .map(|number| tokio::spawn(worker::work(run.clone(), number, options.seed + u64::from(number))))
        .collect();
    for kill in 1..=options.kills {
        // Spread evenly over the work, whatever its pace.
        let at = options.messages * kill / (options.kills + 1);
        while run.acked.load(Ordering::Relaxed) < at {
            patient(started, &run).await?;
        }
        broker.kill_nine()?;
        let again = setup.clone();
        let starting = tokio::task::spawn_blocking(move || again.start());
        broker = starting.await.when("starting the broker again")??;
    }
    while !publishing.is_finished() {
        patient(started, &run).await?;
    }
    publishing.await.when("publishing")??;
    while !is_idle(&run.uri).await? {
        patient(started, &run).await?;
    }
    run.done.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.when("a worker")??;
    }
    let took = started.elapsed();
    let outcome = judge(&run, options, took).await;
    broker.stop()?;
    outcome
}

/// A little while; an error that says what is stuck once patience is over.
async fn patient(started: Instant, run: &Run) -> Outcome {
    tokio::time::sleep(Duration::from_millis(20)).await;
    if started.elapsed() < PATIENCE {
        return Ok(());
    }
    let described = describe(&run.uri).await?;
    let (acked, why) = (run.acked.load(Ordering::Relaxed), described.why);
    Err(Failed::new(format!(
        "after {} s {acked} acks were confirmed and {} messages are left: {why}",
        PATIENCE.as_secs(),
        described.lag_messages
    )))
}

pub(crate) async fn connect(uri: &str) -> Outcome<MessageBrokerClient<Channel>> {
    MessageBrokerClient::connect(uri.to_owned()).await.when(format_args!("connecting to {uri}"))
}

pub(crate) fn name() -> wire::SubscriptionName {
    wire::SubscriptionName { topic: TOPIC.to_owned(), subscription: SUBSCRIPTION.to_owned() }
}

async fn create(uri: &str) -> Outcome {
    let mut client = connect(uri).await?;
    client.create_topic(wire::CreateTopicRequest { name: TOPIC.to_owned(), settings: None }).await?;
    let settings = wire::SubscriptionSettings {
        lease_ms: Some(LEASE.as_millis() as i64),
        attempts_max: Some(ATTEMPTS_MAX),
        retry_delay_ms: Some(20),
        retry_delay_max_ms: Some(200),
        ..wire::SubscriptionSettings::default()
    };
    let request =
        wire::CreateSubscriptionRequest { name: Some(name()), start: None, settings: Some(settings) };
    client.create_subscription(request).await?;
    Ok(())
}

/// Publishes everything, and again what was not acknowledged: the topic may hold a message twice, but never miss one.
async fn publish(run: Arc<Run>, messages: u64) -> Outcome {
    let mut client = None;
    let mut sent = 0;
    while sent < messages {
        let ids: Vec<u64> = (sent..messages.min(sent + BATCH_MESSAGES)).collect();
        let message = |id: &u64| wire::PublishRequest {
            payload: format!("{id} {}", word(*id)).into(),
            key: (id % KEYS).to_string(),
            ..wire::PublishRequest::default()
        };
        let batch = wire::PublishBatchRequest {
            topic: TOPIC.to_owned(),
            messages: ids.iter().map(message).collect(),
        };
        let connected = match client.take() {
            Some(connected) => Ok(connected),
            None => connect(&run.uri).await,
        };
        if let Ok(mut connected) = connected
            && let Ok(response) = connected.publish_batch(batch).await
            && response.get_ref().error_count == 0
        {
            client = Some(connected);
            sent += ids.len() as u64;
            run.history.lock().expect("no task panics with it").published.extend(ids);
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn word(id: u64) -> &'static str {
    match id % 1000 {
        500 => "poison",
        900 => "failing",
        _ => "good",
    }
}

/// A message's number and kind, from its payload.
pub(crate) fn read(payload: &[u8]) -> Outcome<(u64, Kind)> {
    let text = std::str::from_utf8(payload).when("reading a payload")?;
    let (id, word) =
        text.split_once(' ').ok_or_else(|| Failed::new(format!("payload {text:?} is not ours")))?;
    let kind = match word {
        "good" => Kind::Good,
        "poison" => Kind::Poison,
        _ => Kind::Failing,
    };
    Ok((id.parse().when("reading a message's number")?, kind))
}

async fn describe(uri: &str) -> Outcome<wire::SubscriptionDescription> {
    let request = wire::DescribeSubscriptionRequest { name: Some(name()) };
    let response = connect(uri).await?.describe_subscription(request).await?;
    response.into_inner().subscription.ok_or_else(|| Failed::new("a description without a subscription"))
}

async fn is_idle(uri: &str) -> Outcome<bool> {
    let described = describe(uri).await?;
    Ok(described.lag_messages == 0 && described.leased == 0 && described.waiting == 0)
}

/// Reads a whole topic.
async fn read_all(uri: &str, topic: &str) -> Outcome<Vec<wire::Message>> {
    let mut client = connect(uri).await?;
    let stats = client.get_stats(wire::GetStatsRequest { topic: topic.to_owned() }).await?.into_inner();
    let start = wire::StartPosition { position: Some(wire::start_position::Position::Earliest(true)) };
    let request = wire::SubscribeRequest {
        topic: topic.to_owned(),
        start: Some(start),
        ..wire::SubscribeRequest::default()
    };
    let mut messages = Vec::with_capacity(stats.message_count as usize);
    if stats.message_count == 0 {
        return Ok(messages);
    }
    let mut stream = client.subscribe(request).await?.into_inner();
    while (messages.len() as i64) < stats.message_count {
        let message = stream.message().await?.ok_or_else(|| Failed::new("the topic ended too early"))?;
        messages.push(message);
    }
    Ok(messages)
}

async fn judge(run: &Run, options: &WorkersOptions, took: Duration) -> Outcome {
    let mut stored = Vec::new();
    for message in read_all(&run.uri, TOPIC).await? {
        let (id, kind) = read(&message.payload)?;
        stored.push(Stored { offset: message.offset as u64, id, kind });
    }
    let mut dead = Vec::new();
    for message in read_all(&run.uri, &format!("{TOPIC}.{SUBSCRIPTION}.dlq")).await? {
        let fact = |name: &str| message.metadata.get(name).cloned().unwrap_or_default();
        dead.push(Dead {
            offset: fact("ratatoskr-dead-offset").parse().when("reading a dead letter's offset")?,
            reason: fact("ratatoskr-dead-reason"),
            attempts: fact("ratatoskr-dead-attempts").parse().when("reading a dead letter's attempts")?,
        });
    }
    let end = End { stored: &stored, dead: &dead, attempts_max: ATTEMPTS_MAX };
    let (figures, violations) = run.history.lock().expect("no task panics with it").check(&end);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let rows = [
        ("messages published", options.messages),
        ("messages stored", stored.len() as u64),
        ("deliveries", figures.deliveries),
        ("of them again", figures.redeliveries),
        ("acks confirmed", figures.acks_confirmed),
        ("settlements too late (stale)", count(&run.stale)),
        ("dead letters", dead.len() as u64),
        ("workers vanished", count(&run.vanished)),
        ("messages held beyond their lease", count(&run.stalled)),
        ("broker killed", options.kills),
        ("violations", violations.len() as u64),
    ];
    for (what, value) in rows {
        println!("{what:<34} {value:>9}");
    }
    println!("{:<34} {:>9.1} s", "took", took.as_secs_f64());
    for violation in violations.iter().take(20) {
        println!("  {violation}");
    }
    match violations.first() {
        None => Ok(()),
        Some(first) => {
            Err(Failed::new(format!("{} promises were broken, the first: {first}", violations.len())))
        }
    }
}

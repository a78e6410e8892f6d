//! How long publishers wait while a checkpoint begins, with much to write: `cargo bench -p ratatoskr-broker --bench checkpoint`.
//!
//! ```text
//!   two million dedup ids, ten thousand subscriptions ──▶ publish until twenty checkpoints were made ──▶ the pause of each
//! ```
//!
//! Without `--bench`, as `cargo test --all-targets` runs it, it does the same with little.

use std::error::Error;
use std::time::{Duration, Instant};

use ratatoskr_broker::{
    Broker, BrokerConfig, NewMessage, Start, SubscriptionName, SubscriptionRef, SubscriptionSettings,
    TopicName, TopicSettings,
};

/// Ids published in one batch.
const BATCH_IDS: u64 = 1_000;
/// Batches under way at a time.
const BATCHES: usize = 16;
/// Large enough to fill journal files soon.
const FILLER_BYTES: usize = 1 << 20;
const WINDOW_MS: u64 = 24 * 60 * 60 * 1000;

struct Size {
    ids: u64,
    subscriptions: u64,
    checkpoints: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let size = if std::env::args().any(|argument| argument == "--bench") {
        Size { ids: 2_000_000, subscriptions: 10_000, checkpoints: 20 }
    } else {
        Size { ids: 10_000, subscriptions: 10, checkpoints: 2 }
    };
    let folder = tempfile::tempdir()?;
    let broker = Broker::open(BrokerConfig::new(folder.path()))?;
    let orders = TopicName::parse("orders")?;
    let settings = TopicSettings { dedup_window_ms: WINDOW_MS, ..TopicSettings::default() };
    broker.create_topic(&orders, settings).await?;
    let started = Instant::now();
    create_subscriptions(&broker, &orders, size.subscriptions).await?;
    publish_ids(&broker, &orders, size.ids).await?;
    println!("{} ids, {} subscriptions: {:.1?}", size.ids, size.subscriptions, started.elapsed());
    let mut pauses = Vec::with_capacity(size.checkpoints);
    for _ in 0..size.checkpoints {
        pauses.push(next_pause(&broker, &orders).await?);
    }
    pauses.sort_unstable();
    let median = pauses[pauses.len() / 2];
    println!(
        "pause of {} checkpoints: median {median:.1?}, worst {:.1?}",
        pauses.len(),
        pauses[pauses.len() - 1]
    );
    broker.shutdown()?;
    Ok(())
}

async fn create_subscriptions(broker: &Broker, topic: &TopicName, count: u64) -> Result<(), Box<dyn Error>> {
    for number in 0..count {
        let name = SubscriptionName::parse(&format!("subscription-{number}"))?;
        let name = SubscriptionRef { topic: topic.clone(), name };
        broker.create_subscription(&name, Start::Latest, SubscriptionSettings::default()).await?;
    }
    Ok(())
}

async fn publish_ids(broker: &Broker, topic: &TopicName, count: u64) -> Result<(), Box<dyn Error>> {
    let mut under_way = tokio::task::JoinSet::new();
    for batch in 0..count / BATCH_IDS {
        let (broker, topic) = (broker.clone(), topic.clone());
        let id = move |number| format!("id {}", batch * BATCH_IDS + number);
        let messages =
            (0..BATCH_IDS).map(|number| NewMessage { dedup_id: id(number), ..NewMessage::new("x") });
        let messages: Vec<NewMessage> = messages.collect();
        under_way.spawn(async move { broker.publish_batch(&topic, messages).await.map(|_| ()) });
        if under_way.len() == BATCHES
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}

/// Publishes until one more checkpoint was made, and answers how long its beginning took.
async fn next_pause(broker: &Broker, topic: &TopicName) -> Result<Duration, Box<dyn Error>> {
    let before = broker.counters();
    loop {
        broker.publish(topic, NewMessage::new(vec![7; FILLER_BYTES])).await?;
        let now = broker.counters();
        if now.checkpoints > before.checkpoints {
            return Ok(Duration::from_micros(now.checkpoint_pause_micros - before.checkpoint_pause_micros));
        }
    }
}

//! How fast the broker is without a network: many callers, each waits for its receipt before it publishes again.
//!
//! ```text
//! cargo run --release -p ratatoskr-broker --example many_callers -- written 1000 2000000
//!                                                                   durability, callers, messages
//! ```

use std::error::Error;
use std::time::Instant;

use ratatoskr_broker::{Broker, BrokerConfig, Durability, NewMessage, TopicName, TopicSettings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |otherwise: &str| arguments.next().unwrap_or_else(|| otherwise.to_owned());
    let durability = match next("written").as_str() {
        "fsync" => Durability::Fsync,
        "written" => Durability::Written,
        "memory" => Durability::Memory,
        other => return Err(format!("durability is {other}; it is fsync, written or memory").into()),
    };
    let (callers, messages): (u64, u64) = (next("1000").parse()?, next("2000000").parse()?);
    let folder = tempfile::tempdir_in(".")?;
    let broker = Broker::open(BrokerConfig::new(folder.path()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let topic = TopicName::parse("orders")?;
        let settings = TopicSettings { durability, ..TopicSettings::default() };
        broker.create_topic(&topic, settings).await?;
        let started = Instant::now();
        let mut calling = Vec::new();
        for _ in 0..callers {
            let (broker, topic) = (broker.clone(), topic.clone());
            calling.push(tokio::spawn(async move {
                for _ in 0..messages / callers {
                    broker.publish(&topic, NewMessage::new(vec![7; 200])).await?;
                }
                Ok::<(), ratatoskr_broker::PublishError>(())
            }));
        }
        for caller in calling {
            caller.await??;
        }
        let seconds = started.elapsed().as_secs_f64();
        let count = messages / callers * callers;
        println!(
            "{count} messages of 200 bytes, {callers} callers, {durability:?}: {:.0} messages/s",
            count as f64 / seconds
        );
        Ok::<(), Box<dyn Error>>(())
    })?;
    broker.shutdown()?;
    Ok(())
}

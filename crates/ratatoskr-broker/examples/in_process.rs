//! A whole program around a broker in process: one task publishes orders, another works on them.
//!
//! Run it with `cargo run -p ratatoskr-broker --example in_process`.

use ratatoskr_broker::{Broker, BrokerConfig, NewMessage, Start, SubscribeOptions, TopicName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("ratatoskr-example-{}", std::process::id()));
    let broker = Broker::open(BrokerConfig::new(&folder))?;
    let orders = TopicName::parse("orders")?;

    let publisher = tokio::spawn({
        let (broker, orders) = (broker.clone(), orders.clone());
        async move {
            for number in 1..=5 {
                let message = NewMessage {
                    payload: format!("order {number}").into(),
                    key: format!("customer {}", number % 2),
                    metadata: vec![("priority".into(), if number == 3 { "high" } else { "normal" }.into())],
                    ..NewMessage::default()
                };
                let receipt = broker.publish(&orders, message).await?;
                println!("published {} at offset {}: on disk", receipt.id, receipt.offset);
            }
            Ok::<_, ratatoskr_broker::PublishError>(())
        }
    });
    publisher.await??;

    let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut subscription = broker.subscribe(&orders, options)?;
    for _ in 1..=5 {
        let message = subscription.next().await?;
        println!("{}: {} for {}", message.offset, String::from_utf8_lossy(&message.payload()), message.key());
    }
    drop(subscription);

    broker.shutdown()?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

//! `ratatoskr stats`: figures of the broker, or of one topic.

use clap::Args;
use ratatoskr_client::{Client, SubscriptionDescription};
use serde_json::{Value, json};

use super::subscription::describe_all;
use super::topic::{figures, on_topic};
use crate::exit::Outcome;
use crate::output::{Field, FormatFlag, grouped, print_fields};
use crate::topic_flags::durability_word;

#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    /// The topic; none for the broker as a whole
    topic: Option<String>,
    #[command(flatten)]
    format: FormatFlag,
}

pub(crate) async fn run(client: Client, arguments: StatsArguments) -> Outcome {
    let format = arguments.format.format();
    if let Some(topic) = &arguments.topic {
        let description = on_topic(&client, topic, client.describe_topic(topic).await).await?;
        let subscriptions = describe_all(&client, client.list_subscriptions(Some(topic)).await?).await?;
        let mut fields = figures(&description);
        fields.push(durable(&subscriptions));
        print_fields(format, &fields)?;
        return Ok(());
    }
    let broker = client.describe_broker().await?;
    let default_durability = durability_word(broker.default_durability());
    let uptime = std::time::Duration::from_millis(broker.uptime_ms.unsigned_abs());
    let fields = [
        Field::new("version", broker.version),
        Field::new("health", broker.health),
        Field::new("uptime_ms", broker.uptime_ms).in_words(format!("{:#}", indicatif::HumanDuration(uptime))),
        Field::new("topics", broker.topics),
        Field::new("subscriptions", broker.subscriptions),
        Field::new("published_messages", broker.published_messages),
        Field::new("delivered_messages", broker.delivered_messages),
        Field::new("data_directory", broker.data_directory),
        Field::new("default_durability", default_durability),
    ];
    print_fields(format, &fields)?;
    Ok(())
}

/// The durable subscriptions of a topic and how far each lags.
fn durable(subscriptions: &[SubscriptionDescription]) -> Field {
    let name = |of: &SubscriptionDescription| of.name.clone().unwrap_or_default().subscription;
    let object = |of: &SubscriptionDescription| json!({"name": name(of), "lag": of.lag_messages});
    let words = |of: &SubscriptionDescription| {
        format!("{} (lag {})", name(of), grouped(of.lag_messages.unsigned_abs()))
    };
    let words: Vec<_> = subscriptions.iter().map(words).collect();
    let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    Field::new("durable_subscriptions", subscriptions.iter().map(object).collect::<Value>()).in_words(words)
}

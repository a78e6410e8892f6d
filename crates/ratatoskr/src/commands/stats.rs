//! `ratatoskr stats`: figures of the broker, or of one topic.

use clap::Args;
use ratatoskr_client::Client;

use super::topic::figures;
use crate::exit::Outcome;
use crate::output::{Field, FormatFlag, print_fields};
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
        let description = client.describe_topic(topic).await?;
        print_fields(format, &figures(&description))?;
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

//! `ratatoskr topic`: create, list, show, change, empty and delete topics.

use std::io::Write as _;

use clap::{Args, Subcommand};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ratatoskr_client::{Client, ClientError, Code, TopicDescription, TopicSettings};
use ratatoskr_server::config::{bytes_in_words, duration_in_words, nearest};

use crate::exit::{Failure, Outcome};
use crate::output::{Field, FormatFlag, about_bytes, print_fields, print_rows, rfc3339};
use crate::topic_flags::{TopicFlags, durability_word};

/// Topics that `topic ls` asks about at a time.
const DESCRIBED_AT_ONCE: usize = 32;

/// What can be done to topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic
    Create(CreateArguments),
    /// List all topics
    Ls(ListArguments),
    /// Show a topic: settings, offsets, size
    Show(OneTopic),
    /// Change settings of a topic; those not given stay as they are
    Update(UpdateArguments),
    /// Remove a topic's messages, all or those before an offset
    Purge(PurgeArguments),
    /// Delete a topic with all its messages
    Delete {
        /// The topic
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The topic: letters, digits, '.', '_' and '-', 1 to 255 bytes
    name: String,
    #[command(flatten)]
    settings: TopicFlags,
    /// Succeed also if the topic exists already; it stays as it is
    #[arg(long)]
    if_missing: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only topics whose name contains this
    contains: Option<String>,
    /// Print names only, one a line
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct OneTopic {
    /// The topic
    name: String,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArguments {
    /// The topic
    name: String,
    #[command(flatten)]
    settings: TopicFlags,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArguments {
    /// The topic
    name: String,
    /// Keep the message of this offset and all after it
    #[arg(long, value_name = "OFFSET")]
    before: Option<u64>,
}

pub(crate) async fn run(client: Client, command: TopicCommand) -> Outcome {
    match command {
        TopicCommand::Create(arguments) => create(&client, &arguments).await,
        TopicCommand::Ls(arguments) => list(&client, &arguments).await,
        TopicCommand::Show(OneTopic { name, format }) => {
            let topic = on_topic(&client, &name, client.describe_topic(&name).await).await?;
            print_fields(format.format(), &described(&topic))?;
            Ok(())
        }
        TopicCommand::Update(UpdateArguments { name, settings, format }) => {
            let settings = settings.settings();
            if settings == TopicSettings::default() {
                return Err(Failure::usage(
                    "no setting is given; try --retention-age 3d, or --help for all of them",
                ));
            }
            let topic = on_topic(&client, &name, client.update_topic(&name, settings).await).await?;
            print_fields(format.format(), &described(&topic))?;
            Ok(())
        }
        TopicCommand::Purge(PurgeArguments { name, before }) => {
            let removed = on_topic(&client, &name, client.purge_topic(&name, before).await).await?;
            writeln!(std::io::stdout(), "removed {removed} messages of topic {name}")?;
            Ok(())
        }
        TopicCommand::Delete { name } => {
            on_topic(&client, &name, client.delete_topic(&name).await).await?;
            writeln!(std::io::stdout(), "deleted topic {name}")?;
            Ok(())
        }
    }
}

async fn create(client: &Client, arguments: &CreateArguments) -> Outcome {
    let name = &arguments.name;
    match client.create_topic(name, arguments.settings.settings()).await {
        Ok(()) => writeln!(std::io::stdout(), "created topic {name}")?,
        Err(error) if error.code() == Code::AlreadyExists && arguments.if_missing => {
            writeln!(std::io::stdout(), "topic {name} exists already")?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn list(client: &Client, arguments: &ListArguments) -> Outcome {
    let contains = arguments.contains.as_deref().unwrap_or_default();
    let names: Vec<String> =
        client.list_topics().await?.into_iter().filter(|name| name.contains(contains)).collect();
    if arguments.quiet {
        let mut text = names.join("\n");
        if !names.is_empty() {
            text.push('\n');
        }
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    let described: Vec<Option<TopicDescription>> = stream::iter(names)
        .map(|name| async move { still_there(client.describe_topic(&name).await) })
        .buffered(DESCRIBED_AT_ONCE)
        .try_collect()
        .await?;
    let rows: Vec<Vec<Field>> = described.iter().flatten().map(listed).collect();
    print_rows(arguments.format.format(), &rows)?;
    Ok(())
}

/// Topics come and go while they are listed.
fn still_there(
    described: Result<TopicDescription, ClientError>,
) -> Result<Option<TopicDescription>, ClientError> {
    match described {
        Ok(topic) => Ok(Some(topic)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds the nearest name there is to "does not exist".
pub(crate) async fn on_topic<T>(client: &Client, name: &str, result: Result<T, ClientError>) -> Outcome<T> {
    let error = match result {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let not_found = error.code() == Code::NotFound;
    let failure = Failure::from(error);
    if !not_found {
        return Err(failure);
    }
    let names = client.list_topics().await.unwrap_or_default();
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => {
            failure.with_line(&format!("did you mean {near}? `ratatoskr topic ls` lists all topics"))
        }
        None => {
            failure.with_line(&format!("`ratatoskr topic create {name}` creates it; `pub` does so by itself"))
        }
    })
}

fn listed(topic: &TopicDescription) -> Vec<Field> {
    vec![
        Field::new("topic", topic.name.as_str()),
        Field::new("messages", topic.message_count),
        Field::new("bytes", topic.bytes).in_words(about_bytes(topic.bytes.unsigned_abs())),
        Field::new("subscribers", topic.subscriber_count),
        Field::new("durability", durability_word(topic.settings.unwrap_or_default().durability())),
    ]
}

/// What moves: the part of a description that `stats` shows.
pub(crate) fn figures(topic: &TopicDescription) -> Vec<Field> {
    vec![
        Field::new("topic", topic.name.as_str()),
        Field::new("messages", topic.message_count),
        Field::new("bytes", topic.bytes).in_words(about_bytes(topic.bytes.unsigned_abs())),
        Field::new("first_offset", topic.first_offset),
        Field::new("next_offset", topic.next_offset),
        Field::new("subscribers", topic.subscriber_count),
        Field::new("segments", topic.segments),
    ]
}

fn described(topic: &TopicDescription) -> Vec<Field> {
    let settings = topic.settings.unwrap_or_default();
    let bound = |name, amount: i64, words: fn(u64) -> String| match amount.unsigned_abs() {
        0 => Field::new(name, serde_json::Value::Null).in_words("none"),
        bounded => Field::new(name, bounded).in_words(words(bounded)),
    };
    let mut fields = figures(topic);
    fields.extend([
        Field::new("created", rfc3339(topic.created_ms)),
        Field::new("durability", durability_word(settings.durability())),
        bound("retention_age_ms", settings.retention_age_ms(), duration_in_words),
        bound("retention_bytes", settings.retention_bytes(), bytes_in_words),
        bound("retention_messages", settings.retention_messages(), crate::output::grouped),
        Field::new("subscribers_max", settings.subscribers_max()),
        Field::new("message_bytes_max", settings.message_bytes_max())
            .in_words(bytes_in_words(settings.message_bytes_max().into())),
        bound("dedup_window_ms", settings.dedup_window_ms(), duration_in_words),
    ]);
    fields
}

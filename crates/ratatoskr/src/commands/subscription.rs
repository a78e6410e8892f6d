//! `ratatoskr subscription`: create, list, show, change, move and look into durable subscriptions.

mod description;

use std::io::Write as _;

use clap::{Args, Subcommand};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use ratatoskr_client::{
    Client, ClientError, Code, Seek, Start, SubscriptionDescription, SubscriptionName, SubscriptionSettings,
};
use ratatoskr_server::config::nearest;

use self::description::{described, listed, standing, why};
use super::topic::on_topic;
use crate::exit::{Failure, Outcome};
use crate::message_writer::{Layout, MessageWriter};
use crate::output::{Field, FormatFlag, print_fields, print_rows};
use crate::start_argument;
use crate::subscription_flags::SubscriptionFlags;

/// Subscriptions that `ls` asks about at a time.
const DESCRIBED_AT_ONCE: usize = 32;

/// What can be done to durable subscriptions.
#[derive(Debug, Subcommand)]
pub(crate) enum SubscriptionCommand {
    /// Create a subscription
    Create(CreateArguments),
    /// List subscriptions, of one topic or of all
    Ls(ListArguments),
    /// Show a subscription: settings, where it stands, its members
    Show(OneSubscription),
    /// Change settings of a subscription; those not given stay as they are
    Update(UpdateArguments),
    /// Deliver nothing until it is resumed
    Pause(Which),
    /// Deliver again
    Resume(Which),
    /// Delete a subscription with all it remembers; the messages stay in the topic
    Delete(Which),
    /// Move a subscription to a place in the topic, or to a saved state
    Seek(SeekArguments),
    /// Pass over the oldest unsettled messages
    Skip(SkipArguments),
    /// Save where a subscription stands under a name
    Save(SaveArguments),
    /// Forget a saved state
    Forget(SaveArguments),
    /// Look at the oldest unsettled messages without leasing them
    Peek(PeekArguments),
    /// Say why nothing is being delivered
    Why(OneSubscription),
}

/// A subscription.
#[derive(Clone, Debug, Args)]
pub(crate) struct Which {
    /// The topic
    pub(crate) topic: String,
    /// The subscription
    #[arg(value_name = "SUBSCRIPTION")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct OneSubscription {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    #[command(flatten)]
    which: Which,
    /// Where it begins: latest, earliest, an offset (42 or offset:42), time:2026-01-31T08:00:00Z, or @-1h (an hour ago)
    #[arg(long, value_name = "PLACE", default_value = "earliest")]
    from: String,
    /// Succeed also if the subscription exists already; it stays as it is
    #[arg(long)]
    if_missing: bool,
    #[command(flatten)]
    settings: SubscriptionFlags,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only subscriptions of this topic
    topic: Option<String>,
    /// Print topics and names only
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArguments {
    #[command(flatten)]
    one: OneSubscription,
    #[command(flatten)]
    settings: SubscriptionFlags,
}

#[derive(Debug, Args)]
pub(crate) struct SeekArguments {
    #[command(flatten)]
    one: OneSubscription,
    /// Where to go on: latest, earliest, an offset, time:…, @-1h (an hour ago), or saved:NAME
    #[arg(long, value_name = "PLACE")]
    to: String,
}

#[derive(Debug, Args)]
pub(crate) struct SkipArguments {
    #[command(flatten)]
    one: OneSubscription,
    /// How many messages
    #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArguments {
    #[command(flatten)]
    which: Which,
    /// The name of the state: letters, digits, '.', '_' and '-'
    #[arg(value_name = "STATE")]
    saved: String,
}

#[derive(Debug, Args)]
pub(crate) struct PeekArguments {
    #[command(flatten)]
    which: Which,
    /// At most this many messages
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Print payloads only, byte for byte, each followed by a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    format: FormatFlag,
}

pub(crate) async fn run(client: Client, command: SubscriptionCommand) -> Outcome {
    match command {
        SubscriptionCommand::Create(arguments) => create(&client, &arguments).await,
        SubscriptionCommand::Ls(arguments) => list(&client, &arguments).await,
        SubscriptionCommand::Show(OneSubscription { which, format }) => {
            let now = client.describe_subscription(&which.topic, &which.name).await;
            print_fields(format.format(), &described(&which.found(&client, now).await?))?;
            Ok(())
        }
        SubscriptionCommand::Update(UpdateArguments { one, settings }) => {
            let settings = settings.settings();
            if settings == SubscriptionSettings::default() {
                return Err(Failure::usage(
                    "no setting is given; try --attempts 5, or --help for all of them",
                ));
            }
            let changed = one.which.change(&client, settings).await?;
            print_fields(one.format.format(), &described(&changed))?;
            Ok(())
        }
        SubscriptionCommand::Pause(which) => pause(&client, &which, true).await,
        SubscriptionCommand::Resume(which) => pause(&client, &which, false).await,
        SubscriptionCommand::Delete(which) => {
            let deleted = client.delete_subscription(&which.topic, &which.name).await;
            which.found(&client, deleted).await?;
            writeln!(std::io::stdout(), "deleted subscription {which}")?;
            Ok(())
        }
        SubscriptionCommand::Seek(SeekArguments { one, to }) => {
            let seek = seek_target(&to)?;
            one.seek(&client, seek).await
        }
        SubscriptionCommand::Skip(SkipArguments { one, count }) => one.seek(&client, Seek::Skip(count)).await,
        SubscriptionCommand::Save(SaveArguments { which, saved }) => {
            let done = client.save_subscription(&which.topic, &which.name, &saved).await;
            which.found(&client, done).await?;
            writeln!(std::io::stdout(), "saved where subscription {which} stands as {saved}")?;
            Ok(())
        }
        SubscriptionCommand::Forget(SaveArguments { which, saved }) => {
            let done = client.forget_saved(&which.topic, &which.name, &saved).await;
            which.found(&client, done).await?;
            writeln!(std::io::stdout(), "forgot state {saved} of subscription {which}")?;
            Ok(())
        }
        SubscriptionCommand::Peek(arguments) => peek(&client, arguments).await,
        SubscriptionCommand::Why(OneSubscription { which, format }) => {
            let now = client.describe_subscription(&which.topic, &which.name).await;
            let now = which.found(&client, now).await?;
            print_fields(format.format(), &why(&now))?;
            Ok(())
        }
    }
}

async fn create(client: &Client, arguments: &CreateArguments) -> Outcome {
    let CreateArguments { which, from, if_missing, settings } = arguments;
    let start = place("--from", from)?;
    let Which { topic, name } = which;
    let created = client.create_subscription(topic, name, start, settings.settings()).await;
    if let Err(error) = &created
        && error.code() == Code::AlreadyExists
        && *if_missing
    {
        writeln!(std::io::stdout(), "subscription {which} exists already")?;
        return Ok(());
    }
    on_topic(client, topic, created).await?;
    writeln!(std::io::stdout(), "created subscription {which}")?;
    Ok(())
}

/// Reads a place in a topic.
pub(crate) fn place(flag: &str, text: &str) -> Outcome<Start> {
    start_argument::parse(text, Timestamp::now())
        .map_err(|reason| Failure::usage(format!("{flag} is {text:?}: {reason}")))
}

fn seek_target(text: &str) -> Outcome<Seek> {
    match text.strip_prefix("saved:") {
        Some(name) => Ok(Seek::Saved(name.to_owned())),
        None => start_argument::parse(text, Timestamp::now())
            .map(Seek::To)
            .map_err(|reason| Failure::usage(format!("--to is {text:?}: {reason}, or saved:NAME"))),
    }
}

async fn list(client: &Client, arguments: &ListArguments) -> Outcome {
    let names = client.list_subscriptions(arguments.topic.as_deref()).await;
    let names = match &arguments.topic {
        Some(topic) => on_topic(client, topic, names).await?,
        None => names?,
    };
    if arguments.quiet {
        let mut out = std::io::stdout().lock();
        for SubscriptionName { topic, subscription } in names {
            writeln!(out, "{topic}\t{subscription}")?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<Field>> = describe_all(client, names).await?.iter().map(listed).collect();
    print_rows(arguments.format.format(), &rows)?;
    Ok(())
}

/// Descriptions of those that are still there when they are asked about.
pub(crate) async fn describe_all(
    client: &Client,
    names: Vec<SubscriptionName>,
) -> Result<Vec<SubscriptionDescription>, ClientError> {
    let described: Vec<Option<SubscriptionDescription>> = stream::iter(names)
        .map(|SubscriptionName { topic, subscription }| async move {
            match client.describe_subscription(&topic, &subscription).await {
                Ok(described) => Ok(Some(described)),
                Err(error) if error.code() == Code::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .buffered(DESCRIBED_AT_ONCE)
        .try_collect()
        .await?;
    Ok(described.into_iter().flatten().collect())
}

async fn pause(client: &Client, which: &Which, paused: bool) -> Outcome {
    let settings = SubscriptionSettings { paused: Some(paused), ..SubscriptionSettings::default() };
    which.change(client, settings).await?;
    writeln!(std::io::stdout(), "{} subscription {which}", if paused { "paused" } else { "resumed" })?;
    Ok(())
}

async fn peek(client: &Client, arguments: PeekArguments) -> Outcome {
    let which = &arguments.which;
    let peeked = client.peek_subscription(&which.topic, &which.name, arguments.count).await;
    let mut writer = MessageWriter::new(Layout::of(arguments.raw, arguments.format));
    for message in which.found(client, peeked).await? {
        writer.write(&message)?;
    }
    writer.flush()?;
    Ok(())
}

impl OneSubscription {
    async fn seek(&self, client: &Client, seek: Seek) -> Outcome {
        let moved = client.seek_subscription(&self.which.topic, &self.which.name, seek).await;
        print_fields(self.format.format(), &standing(&self.which.found(client, moved).await?))?;
        Ok(())
    }
}

impl Which {
    async fn change(
        &self,
        client: &Client,
        settings: SubscriptionSettings,
    ) -> Outcome<SubscriptionDescription> {
        let changed = client.update_subscription(&self.topic, &self.name, settings).await;
        self.found(client, changed).await
    }

    /// Adds the nearest name there is to "does not exist".
    pub(crate) async fn found<T>(&self, client: &Client, result: Result<T, ClientError>) -> Outcome<T> {
        let error = match result {
            Err(error) if error.reason() == "SUBSCRIPTION_NOT_FOUND" => error,
            Err(error) if error.reason() == "TOPIC_NOT_FOUND" => {
                return on_topic(client, &self.topic, Err(error)).await;
            }
            other => return Ok(other?),
        };
        let names = client.list_subscriptions(Some(&self.topic)).await.unwrap_or_default();
        let names = names.iter().map(|name| name.subscription.as_str());
        let failure = Failure::from(error);
        Err(match nearest(&self.name, names) {
            Some(near) => {
                let topic = &self.topic;
                failure.with_line(&format!(
                    "did you mean {near}? `ratatoskr subscription ls {topic}` lists those of the topic"
                ))
            }
            None => failure.with_line(&format!(
                "`ratatoskr subscription create {} {}` creates it; `consume` does so by itself",
                self.topic, self.name
            )),
        })
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.name)
    }
}

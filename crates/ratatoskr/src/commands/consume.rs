//! `ratatoskr consume`: work through a durable subscription as one of its members.
//!
//! ```text
//!   consumer ──▶ print, flush ──▶ ack                       (print.rs)
//!            ──▶ sh -c COMMAND ──▶ ack, nack or reject      (execute.rs)
//!            ──▶ print, hold ──▶ handed back at the end     (--no-ack)
//! ```
//!
//! Invariants:
//! - A message is acked only after it has been written and flushed, or after its command has ended well.
//! - However it ends (a count, Ctrl-C, a reader that has seen enough), what is held goes back unharmed.

mod command;
mod execute;
mod print;

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ratatoskr_client::{
    Client, ClientError, ConsumeOptions, Consumer, Delivery, SettleError, Settling, SubscriptionSettings,
};

use super::subscription::{Which, place};
use crate::exit::{Failure, Outcome};
use crate::output::FormatFlag;
use crate::stop_signals::{INTERRUPTED, StopSignals};
use crate::subscription_flags::SubscriptionFlags;

/// Messages held at a time when they are printed.
const WINDOW_MESSAGES: u32 = 100;
/// Messages held with `--no-ack` and no count: what a subscription lets a member hold unless it says otherwise.
const HELD_MESSAGES: u32 = 1000;
/// How often it is asked whether the subscription has caught up, once nothing comes.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct ConsumeArguments {
    #[command(flatten)]
    which: Which,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End once everything is settled that is in the topic now
    #[arg(long)]
    until_caught_up: bool,
    /// Print and settle nothing: what was printed is handed back at the end
    #[arg(long, conflicts_with_all = ["exec", "until_caught_up"])]
    no_ack: bool,
    #[command(flatten)]
    exec: ExecFlags,
    /// Print payloads only, byte for byte, each followed by a newline
    #[arg(long, conflicts_with_all = ["json", "exec"])]
    raw: bool,
    /// A name for this member, for people to read
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    missing: MissingFlags,
}

/// What happens if the subscription does not exist.
#[derive(Debug, Args)]
struct MissingFlags {
    /// Fail if the subscription does not exist, instead of creating it
    #[arg(long)]
    must_exist: bool,
    /// Where a subscription that is created by this begins
    #[arg(long, value_name = "PLACE", default_value = "earliest")]
    from: String,
    #[command(flatten)]
    settings: SubscriptionFlags,
}

/// What runs for each message.
#[derive(Debug, Args)]
struct ExecFlags {
    /// Run this for every message through `sh -c`, the payload on its standard input: exit code 0 acks, 100 rejects, any other
    /// nacks
    #[arg(long, value_name = "COMMAND", conflicts_with = "json")]
    exec: Option<String>,
    /// Commands that run at a time
    #[arg(long, value_name = "N", default_value_t = 1, requires = "exec")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=500))]
    parallel: u32,
}

/// A consumer at work, and when it is to stop.
struct Work {
    client: Client,
    consumer: Consumer,
    which: Which,
    /// Messages still wanted; `None`: all.
    wanted: Option<u64>,
    /// The end of the topic when this began, if that is where to stop.
    end: Option<u64>,
    stop: StopSignals,
}

/// What comes next.
enum Next {
    Delivery(Box<Delivery>),
    /// Nothing: as many came as were wanted.
    Enough,
    /// Nothing: we were told to stop.
    Interrupted,
}

pub(crate) async fn run(client: Client, arguments: ConsumeArguments) -> Outcome {
    let stop = StopSignals::listen()?;
    let options = options(&arguments)?;
    let which = arguments.which.clone();
    let end = if arguments.until_caught_up {
        let topic = super::topic::on_topic(&client, &which.topic, client.describe_topic(&which.topic).await);
        Some(topic.await?.next_offset.unsigned_abs())
    } else {
        None
    };
    if !arguments.missing.must_exist {
        remark_on_settings(&client, &which, &options.settings).await;
    }
    let consumer = client.consume(&which.topic, &which.name, options).await;
    let consumer = which.found(&client, consumer).await?;
    let mut work = Work { client, consumer, which, wanted: arguments.count, end, stop };
    let outcome = match &arguments.exec.exec {
        Some(command) => execute::run(&mut work, command, arguments.exec.parallel).await,
        None => print::run(&mut work, &arguments).await,
    };
    let Work { consumer, mut stop, .. } = work;
    let closed = tokio::select! {
        closed = consumer.close() => closed,
        _ = stop.next() => std::process::exit(INTERRUPTED),
    };
    outcome?;
    closed.map_err(|error| Failure::from(error).with_line(HANDED_BACK_LATE))
}

const HANDED_BACK_LATE: &str =
    "what was held is delivered again; messages whose ack was not confirmed may come twice";

fn options(arguments: &ConsumeArguments) -> Outcome<ConsumeOptions> {
    let at_most = |wanted: u32| arguments.count.map_or(wanted, |count| count.min(wanted.into()) as u32);
    let window_messages = match (&arguments.exec.exec, arguments.no_ack) {
        // Only what is worked on: the others' share is theirs.
        (Some(_), _) => at_most(arguments.exec.parallel),
        (None, true) => at_most(HELD_MESSAGES),
        (None, false) => at_most(WINDOW_MESSAGES),
    };
    let unnamed = || format!("ratatoskr consume, process {}", std::process::id());
    Ok(ConsumeOptions {
        member: arguments.member.clone().unwrap_or_else(unnamed),
        window_messages,
        must_exist: arguments.missing.must_exist,
        start: place("--from", &arguments.missing.from)?,
        settings: arguments.missing.settings.settings(),
        ..ConsumeOptions::default()
    })
}

/// Settings are for a subscription that is created by this: whoever gives some for one that exists is told so.
async fn remark_on_settings(client: &Client, which: &Which, settings: &SubscriptionSettings) {
    let given = *settings != SubscriptionSettings::default();
    if given && client.describe_subscription(&which.topic, &which.name).await.is_ok() {
        anstream::eprintln!(
            "subscription {which} exists already and keeps its settings; `ratatoskr subscription update {} {}` changes them",
            which.topic,
            which.name
        );
    }
}

impl Work {
    /// The next message, as long as one is wanted.
    async fn next(&mut self) -> Outcome<Next> {
        if self.wanted == Some(0) {
            return Ok(Next::Enough);
        }
        loop {
            let delivery = tokio::select! {
                _ = self.stop.next() => return Ok(Next::Interrupted),
                delivery = self.consumer.next() => delivery?,
                () = tokio::time::sleep(LOOK_AGAIN), if self.end.is_some() => {
                    if self.has_caught_up().await? {
                        return Ok(Next::Enough);
                    }
                    continue;
                }
            };
            self.count_one();
            return Ok(Next::Delivery(Box::new(delivery)));
        }
    }

    /// The next message if it is here and wanted.
    fn try_next(&mut self) -> Result<Option<Delivery>, ClientError> {
        if self.wanted == Some(0) {
            return Ok(None);
        }
        let delivery = self.consumer.try_next().transpose()?;
        if delivery.is_some() {
            self.count_one();
        }
        Ok(delivery)
    }

    fn count_one(&mut self) {
        if let Some(wanted) = &mut self.wanted {
            *wanted -= 1;
        }
    }

    async fn has_caught_up(&self) -> Outcome<bool> {
        let Some(end) = self.end else { return Ok(false) };
        match self.client.describe_subscription(&self.which.topic, &self.which.name).await {
            Ok(now) => Ok(now.oldest_unsettled_offset.unsigned_abs() >= end),
            // The consumer waits for a broker that is away; so do we.
            Err(error) if error.is_retryable() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Settlements on their way, each with the offset it is of.
#[derive(Default)]
struct Fates(FuturesUnordered<futures_util::future::BoxFuture<'static, (u64, Result<(), SettleError>)>>);

impl Fates {
    fn push(&mut self, offset: u64, settling: Settling) {
        self.0.push(Box::pin(async move { (offset, settling.await) }));
    }

    /// Tells of those that came to nothing; the next one, or never if there is none.
    async fn next(&mut self) {
        match self.0.next().await {
            Some((offset, Err(error))) => anstream::eprintln!("message at offset {offset}: {error}"),
            Some((_, Ok(()))) => {}
            None => std::future::pending().await,
        }
    }

    /// All of them.
    async fn finish(&mut self) {
        while !self.0.is_empty() {
            self.next().await;
        }
    }
}

//! `ratatoskr sub`: read a topic from any place, and follow it.
//!
//! ```text
//!   subscription ──▶ --count, --until-end ──▶ writer: lines for people · tabs · JSON · raw bytes
//! ```
//!
//! A broken connection is taken up again where it was (the client library sees to it). Output is
//! written in large pieces while messages wait, and at once when none does.

use std::time::Duration;

use clap::Args;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use ratatoskr_broker::Filter;
use ratatoskr_client::{Client, Code, Message, Start, SubscribeOptions, Subscription};

use super::topic::on_topic;
use crate::exit::{Failure, Outcome};
use crate::filter_argument::{FILTER_HELP, all_of, filter_argument, passes};
use crate::message_writer::{Layout, MessageWriter};
use crate::output::FormatFlag;
use crate::start_argument;

/// With `--until-end`: when a broker that answers has had nothing for us for so long, what is left before the end is not for us: dead
/// letters that were sent again to their own subscription.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct SubscribeArguments {
    /// The topic
    topic: String,
    /// Where to begin: latest, earliest, an offset (42 or offset:42), time:2026-01-31T08:00:00Z, or @-1h (an hour ago)
    #[arg(long, value_name = "PLACE", default_value = "latest")]
    from: String,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End at what is the end of the topic now
    #[arg(long)]
    until_end: bool,
    /// Only messages that pass; may be repeated, all have to pass
    #[arg(long, value_name = "FILTER", value_parser = filter_argument, help = FILTER_HELP)]
    filter: Vec<Filter>,
    /// Print payloads only, byte for byte, each followed by a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    format: FormatFlag,
}

/// When to stop.
struct Bounds {
    /// Messages still wanted; `None`: all.
    count: Option<u64>,
    /// The offset that is not read any more; `None`: follow for ever.
    end: Option<u64>,
    /// What a message has to pass. The broker filters by itself, except where we have to see the last message
    /// to know that it was the last.
    filter: Vec<Filter>,
}

pub(crate) async fn run(client: Client, arguments: SubscribeArguments) -> Outcome {
    let start = start_argument::parse(&arguments.from, Timestamp::now())
        .map_err(|reason| Failure::usage(format!("--from is {:?}: {reason}", arguments.from)))?;
    let layout = Layout::of(arguments.raw, arguments.format);
    let mut bounds = Bounds { count: arguments.count, end: None, filter: Vec::new() };
    let mut options = SubscribeOptions { start, ..SubscribeOptions::default() };
    let topic = arguments.topic.as_str();
    if arguments.until_end {
        let description = on_topic(&client, topic, client.describe_topic(topic).await).await?;
        let (first, end) = (description.first_offset.unsigned_abs(), description.next_offset.unsigned_abs());
        if first == end || nothing_before(&client, topic, start, end).await? {
            return Ok(());
        }
        bounds.end = Some(end);
        bounds.filter = arguments.filter;
    } else {
        options.filter_expression = all_of(&arguments.filter);
    }
    let subscription = on_topic(&client, topic, client.subscribe(topic, options).await).await?;
    copy(&client, subscription, bounds, MessageWriter::new(layout)).await
}

/// Whether a place lies at or behind the end, so that waiting for a message before the end would never end.
async fn nothing_before(client: &Client, topic: &str, start: Start, end: u64) -> Outcome<bool> {
    match start {
        Start::Earliest => Ok(false),
        Start::Latest => Ok(true),
        // Past the end is the broker's to refuse.
        Start::Offset(offset) => Ok(offset == end),
        // Times never decrease in a topic: the last message tells.
        Start::Time(time_ms) => {
            let options = SubscribeOptions {
                start: Start::Offset(end - 1),
                credit: Some(1),
                ..SubscribeOptions::default()
            };
            let mut newest = client.subscribe(topic, options).await?;
            // One that we are not shown leaves it to the reading to find the end.
            let Ok(newest) = tokio::time::timeout(QUIET, newest.next()).await else { return Ok(false) };
            Ok(newest?.timestamp.unsigned_abs() < time_ms)
        }
    }
}

async fn copy(
    client: &Client,
    mut subscription: Subscription,
    mut bounds: Bounds,
    mut writer: MessageWriter,
) -> Outcome {
    loop {
        let next = if let Some(next) = subscription.next().now_or_never() {
            next
        } else {
            // Nothing is waiting: show what there is before we wait ourselves.
            writer.flush()?;
            if bounds.end.is_some() {
                let Ok(next) = tokio::time::timeout(QUIET, subscription.next()).await else {
                    if client.describe_topic(subscription.topic()).await.is_ok() {
                        return Ok(());
                    }
                    continue;
                };
                next
            } else {
                subscription.next().await
            }
        };
        let message = match next {
            Ok(message) => message,
            Err(error) => {
                writer.flush()?;
                // Someone ended this subscription on purpose.
                if error.code() == Code::Cancelled {
                    anstream::eprintln!("{error}");
                    return Ok(());
                }
                return Err(error.into());
            }
        };
        if bounds.wants(&message) {
            writer.write(&message)?;
        }
        if bounds.reached(&message) {
            writer.flush()?;
            return Ok(());
        }
    }
}

impl Bounds {
    /// Counts the message if it is to be shown.
    fn wants(&mut self, message: &Message) -> bool {
        let before_end = self.end.is_none_or(|end| message.offset.unsigned_abs() < end);
        let fits = self.filter.iter().all(|filter| passes(filter, message));
        if before_end
            && fits
            && let Some(count) = &mut self.count
        {
            *count -= 1;
        }
        before_end && fits
    }

    fn reached(&self, message: &Message) -> bool {
        self.count == Some(0) || self.end.is_some_and(|end| message.offset.unsigned_abs() + 1 >= end)
    }
}

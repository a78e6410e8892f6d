//! `ratatoskr pub`: one message, or very many.
//!
//! ```text
//!   MESSAGE            ─▶ template, --count times ─┐
//!   --lines            ─▶ standard input by line  ─┼─▶ pipeline.rs ─▶ "N lines acknowledged"
//!   --lines --file F   ─▶ the file by line        ─┘
//!   - or --file F      ─▶ all of it, one message ─▶ one call ─▶ its receipt
//! ```
//!
//! By default nothing is sent twice: when the broker goes away the command ends, and says after how
//! many lines to go on. `--retry` waits for the broker instead, at the price of possible repetitions.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use ratatoskr_client::{Backoff, Client, Code, Due, NewMessage, PublisherOptions, Receipt};
use serde_json::json;

use crate::exit::{Failure, Outcome};
use crate::input::{Batches, Envelope, fill_template, read_lines};
use crate::output::{FormatFlag, about_bytes, grouped};
use crate::pipeline::{Tally, publish_all};
use crate::progress::Progress;
use crate::subscription_flags::{delay, time_to_live};
use crate::template::Template;
use crate::topic_flags::durability_word;

/// No topic takes a larger message, so no more of an input is read.
const PAYLOAD_BYTES_MAX: u64 = ratatoskr_broker::limits::MESSAGE_BYTES_MAX as u64;

#[derive(Debug, Args)]
pub(crate) struct PublishArguments {
    /// The topic; created if missing
    topic: String,
    /// The message; - or nothing reads all of standard input. {{ n }}, {{ id }}, {{ time }} and {{ random N }} are
    /// filled in: a number from 1, a UUID, the time, and N letters and digits
    #[arg(conflicts_with_all = ["lines", "file"])]
    message: Option<String>,
    #[command(flatten)]
    input: InputFlags,
    /// Publish the message this many times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(conflicts_with_all = ["lines", "file"], requires = "message")]
    count: Option<u64>,
    /// A name and value to go with every message; may be repeated
    #[arg(short = 'H', long = "meta", value_name = "NAME=VALUE", value_parser = name_and_value)]
    meta: Vec<(String, String)>,
    /// The key of every message
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    key: String,
    /// Deliver every message only so long: 1h, 30s
    #[arg(long, value_name = "DURATION", value_parser = time_to_live)]
    ttl: Option<Duration>,
    /// An id of yours for each message, such as order-{{ n }}: a retry with the same id is not published again
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    dedup_id: String,
    /// Put every message into the topic only after so long: 10m, 1h30m
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    delay: Option<Duration>,
    /// Put every message into the topic only at this time: 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    at: Option<Timestamp>,
    /// Publish only if the message gets this offset
    #[arg(long, value_name = "OFFSET", conflicts_with_all = ["lines", "count", "delay", "at"])]
    expect_offset: Option<u64>,
    /// Leave double braces as they are
    #[arg(long)]
    verbatim: bool,
    /// Wait for a broker that goes away, and send again what has no receipt: messages may appear twice
    #[arg(long)]
    retry: bool,
    #[command(flatten)]
    format: FormatFlag,
}

/// Where messages come from, other than the argument.
#[derive(Debug, Args)]
struct InputFlags {
    /// Publish every line of standard input, or of --file, as a message
    #[arg(long)]
    lines: bool,
    /// Read from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Pass over the first N lines: those acknowledged before
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, requires = "lines")]
    skip: u64,
    /// Pass over as many lines as the topic has ever held; for a topic that only this input goes to
    #[arg(long, requires = "lines", conflicts_with = "skip")]
    resume: bool,
}

/// What `-H` takes.
fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as color=red".to_owned()),
    }
}

pub(crate) async fn run(client: Client, arguments: PublishArguments) -> Outcome {
    let envelope = envelope(&arguments)?;
    if arguments.input.lines {
        return publish_lines(&client, &arguments, envelope).await;
    }
    if let Some(text) = arguments.message.as_deref().filter(|text| *text != "-") {
        let payload = template(&arguments, text)?;
        let Some(count) = arguments.count else {
            let message = envelope.wrap(1, payload.render(1).into());
            return publish_one(&client, &arguments, message).await;
        };
        let work = Work {
            batches: fill_template(payload, count, envelope),
            unit: "messages",
            skipped: 0,
            bytes: None,
        };
        return publish_many(&client, &arguments, work).await;
    }
    if arguments.count.is_some() {
        return Err(Failure::usage("--count needs the message as an argument"));
    }
    let payload = read_whole(&arguments)?;
    publish_one(&client, &arguments, envelope.wrap(1, payload.into())).await
}

fn template(arguments: &PublishArguments, text: &str) -> Outcome<Template> {
    if arguments.verbatim {
        return Ok(Template::verbatim(text));
    }
    Template::parse(text).map_err(Failure::usage)
}

fn envelope(arguments: &PublishArguments) -> Outcome<Envelope> {
    let mut metadata = Vec::with_capacity(arguments.meta.len());
    for (name, value) in &arguments.meta {
        metadata.push((name.clone(), template(arguments, value)?));
    }
    let due = match (arguments.delay, arguments.at) {
        (Some(delay), _) => Due::After(delay),
        // What was before 1970 is over.
        (None, Some(at)) => Due::At(at.as_millisecond().max(1).unsigned_abs()),
        (None, None) => Due::Now,
    };
    Ok(Envelope {
        key: template(arguments, &arguments.key)?,
        metadata,
        ttl: arguments.ttl,
        dedup_id: template(arguments, &arguments.dedup_id)?,
        due,
        expected_offset: arguments.expect_offset,
    })
}

/// All of the file or of standard input.
fn read_whole(arguments: &PublishArguments) -> Outcome<Vec<u8>> {
    let mut payload = Vec::new();
    let what = match &arguments.input.file {
        Some(path) => path.display().to_string(),
        None => "standard input".to_owned(),
    };
    let input: Box<dyn Read> = match &arguments.input.file {
        Some(path) => Box::new(open(path)?),
        None => Box::new(standard_input("the message")),
    };
    let read = input.take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut payload);
    read.map_err(|error| Failure::io(format!("{what} cannot be read"), &error))?;
    if payload.len() as u64 > PAYLOAD_BYTES_MAX {
        let advice = format!(
            "{what} has more than {PAYLOAD_BYTES_MAX} bytes, which no topic takes; --lines publishes it line by line"
        );
        return Err(Failure::new(crate::exit::Exit::Refused, advice));
    }
    Ok(payload)
}

fn open(path: &PathBuf) -> Outcome<File> {
    File::open(path).map_err(|error| Failure::io(format!("{} cannot be read", path.display()), &error))
}

/// Standard input; someone at a terminal is told that we wait.
fn standard_input(what: &str) -> io::Stdin {
    if io::stdin().is_terminal() {
        anstream::eprintln!("reading {what} from standard input; Ctrl-D ends it");
    }
    io::stdin()
}

async fn publish_one(client: &Client, arguments: &PublishArguments, message: NewMessage) -> Outcome {
    let receipt = client.publish(&arguments.topic, message).await?;
    let durability = durability_word(receipt.durability);
    let mut out = io::stdout();
    let offset = (!receipt.scheduled).then_some(receipt.offset);
    if arguments.format.is_json() {
        let Receipt { id, timestamp_ms, duplicate, scheduled, .. } = receipt;
        let object = json!({
            "id": id, "offset": offset, "timestamp_ms": timestamp_ms, "durability": durability,
            "duplicate": duplicate, "scheduled": scheduled,
        });
        writeln!(out, "{object}")?;
    } else if out.is_terminal() {
        let what = match offset {
            _ if receipt.duplicate => "was published before".to_owned(),
            Some(offset) => format!("published at offset {offset}"),
            None => "scheduled".to_owned(),
        };
        writeln!(out, "{what} ({durability}), id {}", receipt.id)?;
    } else {
        let offset = offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        writeln!(out, "{offset}\t{}\t{durability}", receipt.id)?;
    }
    Ok(())
}

async fn publish_lines(client: &Client, arguments: &PublishArguments, envelope: Envelope) -> Outcome {
    let skipped = if arguments.input.resume {
        lines_held(client, &arguments.topic).await?
    } else {
        arguments.input.skip
    };
    if arguments.input.resume {
        anstream::eprintln!("resuming after line {skipped}");
    }
    let (batches, bytes) = match &arguments.input.file {
        Some(path) => {
            let file = open(path)?;
            let bytes = file.metadata().ok().filter(Metadata::is_file).map(|metadata| metadata.len());
            (read_lines(file, skipped, envelope), bytes)
        }
        None => (read_lines(standard_input("lines"), skipped, envelope), None),
    };
    publish_many(client, arguments, Work { batches, unit: "lines", skipped, bytes }).await
}

/// How many messages a topic has ever held: the offset its next one will get.
async fn lines_held(client: &Client, topic: &str) -> Outcome<u64> {
    match client.describe_topic(topic).await {
        Ok(description) => Ok(description.next_offset.unsigned_abs()),
        Err(error) if error.code() == Code::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// An input to publish to its end.
struct Work {
    batches: Batches,
    /// What a message is to the person who gave it.
    unit: &'static str,
    /// Lines passed over.
    skipped: u64,
    /// Bytes of the whole input, where that is known.
    bytes: Option<u64>,
}

async fn publish_many(client: &Client, arguments: &PublishArguments, work: Work) -> Outcome {
    let Work { batches, unit, skipped, bytes } = work;
    let backoff = if arguments.retry { Backoff::default() } else { Backoff::never() };
    let options = PublisherOptions { backoff, ..PublisherOptions::default() };
    let mut progress = Progress::new(bytes);
    let mut tally = publish_all(client, &arguments.topic, batches, options, &mut progress).await;
    let took = progress.finish();
    let stop = tally.failure.take();
    let failure = stop.map(|stop| stop.into_failure().with_line(&how_to_go_on(&tally, unit, skipped)));
    if arguments.format.is_json() {
        writeln!(io::stdout(), "{}", account(&tally, skipped, took))?;
    } else if failure.is_none() {
        writeln!(io::stdout(), "{}", summary(&tally, unit, took))?;
    }
    failure.map_or(Ok(()), Err)
}

/// What a failure leaves to do: exact, so that going on loses nothing.
fn how_to_go_on(tally: &Tally, unit: &str, skipped: u64) -> String {
    let Tally { acknowledged, refused, beyond, .. } = *tally;
    let mut line = format!("{acknowledged} {unit} acknowledged before that");
    if beyond > 0 {
        write!(line, ", {beyond} after it").expect("a String takes everything");
    }
    if unit == "lines" {
        let answered = skipped + acknowledged + refused + beyond;
        let behind = if refused > 0 { ", behind what was refused," } else { "" };
        write!(line, "; go on{behind} with --skip {answered}").expect("a String takes everything");
    }
    line
}

fn summary(tally: &Tally, unit: &str, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    // Less than a microsecond would make absurd rates of nothing.
    let per_second = |amount: u64| (amount as f64 / seconds.max(1e-6)) as u64;
    let number = if io::stdout().is_terminal() { grouped } else { |number: u64| number.to_string() };
    let mut line = format!(
        "{} {unit} acknowledged in {seconds:.2} s ({}/s, {}/s)",
        number(tally.acknowledged),
        number(per_second(tally.acknowledged)),
        about_bytes(per_second(tally.input_bytes)),
    );
    if let (Some(first), Some(last)) = (&tally.first, &tally.last)
        && !first.scheduled
    {
        let durability = durability_word(last.durability);
        let (first, last) = (number(first.offset), number(last.offset));
        write!(line, ", offsets {first} to {last}, {durability}").expect("a String takes everything");
    }
    line
}

fn account(tally: &Tally, skipped: u64, took: Duration) -> serde_json::Value {
    let offset = |receipt: &Receipt| (!receipt.scheduled).then_some(receipt.offset);
    json!({
        "acknowledged": tally.acknowledged,
        "refused": tally.refused,
        "acknowledged_beyond_refusal": tally.beyond,
        "skipped": skipped,
        "seconds": took.as_secs_f64(),
        "first_offset": tally.first.as_ref().and_then(offset),
        "last_offset": tally.last.as_ref().and_then(offset),
        "durability": tally.last.as_ref().map(|receipt| durability_word(receipt.durability)),
    })
}

//! `ratatoskr dead-letters`: look at what no member could settle, send it again, drop it.

use std::io::Write as _;

use clap::{Args, Subcommand};
use ratatoskr_broker::Filter;
use ratatoskr_client::{Client, DeadLetter, DeadLetterChoice, DeadLetterPage};

use super::subscription::Which;
use crate::exit::{Exit, Failure, Outcome};
use crate::filter_argument::{FILTER_HELP, all_of, filter_argument};
use crate::message_writer::{escaped, message_object, printable};
use crate::output::{Field, Format, FormatFlag, print_fields, print_rows, rfc3339};

/// Dead letters asked for at a time.
const PAGE_MESSAGES: u32 = 1000;
/// Characters of a payload in a table.
const PAYLOAD_SHOWN: usize = 60;

/// What can be done about dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List dead letters, oldest first
    Ls(ListArguments),
    /// Show one dead letter: what happened to it, and its payload
    Show(ShowArguments),
    /// Count dead letters by reason
    Groups(GroupsArguments),
    /// Send dead letters to their subscription again, with attempts starting anew
    Redrive(ResolveArguments),
    /// Drop dead letters for good
    Drop(ResolveArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    which: Which,
    /// Only those that pass
    #[arg(long, value_name = "FILTER", value_parser = filter_argument, help = FILTER_HELP)]
    filter: Vec<Filter>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    which: Which,
    /// The dead letter's id, as `ls` prints it
    id: String,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArguments {
    #[command(flatten)]
    which: Which,
    /// Only those that pass
    #[arg(long, value_name = "FILTER", value_parser = filter_argument, help = FILTER_HELP)]
    filter: Vec<Filter>,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArguments {
    #[command(flatten)]
    which: Which,
    /// Only this one, by its id; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// Only those that pass
    #[arg(long, value_name = "FILTER", value_parser = filter_argument, help = FILTER_HELP)]
    filter: Vec<Filter>,
    /// All of them
    #[arg(long, conflicts_with_all = ["id", "filter"])]
    all: bool,
    /// At most this many a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatFlag,
}

pub(crate) async fn run(client: Client, command: DeadLettersCommand) -> Outcome {
    match command {
        DeadLettersCommand::Ls(arguments) => list(&client, &arguments).await,
        DeadLettersCommand::Show(arguments) => show(&client, &arguments).await,
        DeadLettersCommand::Groups(GroupsArguments { which, filter, format }) => {
            let groups = client.count_dead_letters(&which.topic, &which.name, &all_of(&filter)).await;
            let row = |group: ratatoskr_client::DeadLetterGroup| {
                vec![Field::new("count", group.count), Field::new("reason", group.reason)]
            };
            let rows: Vec<_> = which.found(&client, groups).await?.into_iter().map(row).collect();
            print_rows(format.format(), &rows)?;
            Ok(())
        }
        DeadLettersCommand::Redrive(arguments) => resolve(&client, arguments, false).await,
        DeadLettersCommand::Drop(arguments) => resolve(&client, arguments, true).await,
    }
}

async fn list(client: &Client, arguments: &ListArguments) -> Outcome {
    let format = arguments.format.format();
    let mut pages = Pages::of(client, &arguments.which, all_of(&arguments.filter));
    let mut rows = Vec::new();
    while (rows.len() as u64) < arguments.count {
        let wanted = (arguments.count - rows.len() as u64).min(PAGE_MESSAGES.into());
        let letters = pages.next(wanted as u32).await?;
        if letters.is_empty() {
            break;
        }
        rows.extend(letters.iter().map(|letter| row(letter, format)));
    }
    let is_full = rows.len() as u64 == arguments.count;
    print_rows(format, &rows)?;
    if is_full && !pages.next(1).await?.is_empty() {
        anstream::eprintln!("there are more; --count N shows more of them, `dead-letters groups` counts all");
    }
    Ok(())
}

async fn show(client: &Client, arguments: &ShowArguments) -> Outcome {
    let ShowArguments { which, id, format } = arguments;
    let mut pages = Pages::of(client, which, String::new());
    loop {
        let letters = pages.next(PAGE_MESSAGES).await?;
        if let Some(letter) = letters.iter().find(|letter| letter.message.id == *id) {
            print_fields(format.format(), &described(letter, format.format()))?;
            return Ok(());
        }
        if letters.is_empty() {
            return Err(no_such_letter(which, id));
        }
    }
}

async fn resolve(client: &Client, arguments: ResolveArguments, drop: bool) -> Outcome {
    let ResolveArguments { which, id, filter, all, rate, dry_run, format } = arguments;
    if !all && id.is_empty() && filter.is_empty() {
        return Err(Failure::usage(
            "which dead letters? give --id ID, --filter FILTER, or --all; --dry-run says how many it would be",
        ));
    }
    let named = id.clone();
    let choice = DeadLetterChoice { ids: id, filter: all_of(&filter), rate_max: rate, dry_run };
    let count = if drop {
        client.drop_dead_letters(&which.topic, &which.name, choice).await
    } else {
        client.redrive_dead_letters(&which.topic, &which.name, choice).await
    };
    let count = which.found(client, count).await?;
    if count == 0 && !named.is_empty() && filter.is_empty() {
        return Err(no_such_letter(&which, &named.join(", ")));
    }
    let word = match (drop, dry_run) {
        (false, false) => "redriven",
        (false, true) => "would be redriven",
        (true, false) => "dropped",
        (true, true) => "would be dropped",
    };
    let mut out = std::io::stdout();
    if format.is_json() {
        writeln!(out, "{}", serde_json::json!({"count": count, "dry_run": dry_run, "dropped": drop}))?;
    } else {
        let letters = if count == 1 { "dead letter" } else { "dead letters" };
        writeln!(out, "{count} {letters} of subscription {which} {word}")?;
    }
    Ok(())
}

fn no_such_letter(which: &Which, id: &str) -> Failure {
    let message = format!(
        "subscription {which} has no dead letter {id}; it may have been redriven or dropped. `ratatoskr dead-letters ls {} {}` lists them",
        which.topic, which.name
    );
    Failure::new(Exit::NotFound, message)
}

/// Dead letters, page after page.
struct Pages<'a> {
    client: &'a Client,
    which: &'a Which,
    filter: String,
    from_offset: u64,
}

impl<'a> Pages<'a> {
    fn of(client: &'a Client, which: &'a Which, filter: String) -> Pages<'a> {
        Pages { client, which, filter, from_offset: 0 }
    }

    /// The next ones, none at the end.
    async fn next(&mut self, messages_max: u32) -> Outcome<Vec<DeadLetter>> {
        let page =
            DeadLetterPage { filter: self.filter.clone(), from_offset: self.from_offset, messages_max };
        let letters = self.client.list_dead_letters(&self.which.topic, &self.which.name, page).await;
        let letters = self.which.found(self.client, letters).await?;
        if let Some(last) = letters.last() {
            self.from_offset = last.message.offset.unsigned_abs() + 1;
        }
        Ok(letters)
    }
}

fn row(letter: &DeadLetter, format: Format) -> Vec<Field> {
    let message = &letter.message;
    let payload = String::from_utf8_lossy(&message.payload);
    let mut fields = vec![
        Field::new("id", message.id.as_str()),
        Field::new("last", rfc3339(letter.last_ms as i64)),
        Field::new("attempts", letter.attempts),
        Field::new("reason", escaped(&letter.reason)),
        Field::new("origin_offset", letter.origin_offset),
    ];
    if format == Format::Json {
        fields.extend(facts(letter));
        fields.push(Field::new("message", message_object(message)));
    } else {
        let short: String = payload.chars().take(PAYLOAD_SHOWN).collect();
        fields.push(Field::new("key", escaped(&message.key)));
        let words = printable(&escaped(&short)).into_owned();
        fields.push(Field::new("payload", escaped(&payload)).in_words(words));
    }
    fields
}

fn described(letter: &DeadLetter, format: Format) -> Vec<Field> {
    let message = &letter.message;
    let mut fields = vec![
        Field::new("id", message.id.as_str()),
        Field::new("reason", letter.reason.as_str()),
        Field::new("attempts", letter.attempts),
        Field::new("first", rfc3339(letter.first_ms as i64)),
        Field::new("last", rfc3339(letter.last_ms as i64)),
        Field::new("origin_offset", letter.origin_offset),
    ];
    fields.extend(facts(letter));
    if format == Format::Json {
        fields.push(Field::new("message", message_object(message)));
        return fields;
    }
    fields.push(Field::new("key", message.key.as_str()));
    // What happened to it stands above.
    let own = message.metadata.iter().filter(|(name, _)| !name.starts_with("ratatoskr-dead-"));
    let own: Vec<_> = own.map(|(name, value)| format!("{name}={value}")).collect();
    fields.push(Field::new("metadata", own.join(" ")));
    let payload = String::from_utf8_lossy(&message.payload);
    fields.push(Field::new("payload", escaped(&payload)).in_words(printable(&payload)));
    fields
}

/// Where it came from.
fn facts(letter: &DeadLetter) -> [Field; 2] {
    [
        Field::new("origin_topic", letter.origin_topic.as_str()),
        Field::new("origin_id", letter.origin_id.as_str()),
    ]
}

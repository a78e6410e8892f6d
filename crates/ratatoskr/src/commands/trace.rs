//! `ratatoskr trace`: the life of one message.

use std::io::Write as _;

use clap::Args;
use ratatoskr_client::{Client, TraceStep};
use serde_json::json;

use crate::exit::Outcome;
use crate::output::{Field, Format, FormatFlag, print_rows, rfc3339};

#[derive(Debug, Args)]
pub(crate) struct TraceArguments {
    /// The message's id, as `pub` and `sub --json` print it
    id: String,
    #[command(flatten)]
    format: FormatFlag,
}

pub(crate) async fn run(client: Client, arguments: TraceArguments) -> Outcome {
    let trace = client.trace_message(&arguments.id).await?;
    let format = arguments.format.format();
    if format == Format::Json {
        let step = |step: &TraceStep| {
            let time_ms = Some(step.time_ms).filter(|time_ms| *time_ms > 0);
            json!({"time_ms": time_ms, "subscription": step.subscription, "what": step.what})
        };
        let steps: Vec<_> = trace.steps.iter().map(step).collect();
        let object = json!({"topic": trace.topic, "offset": trace.offset, "steps": steps});
        writeln!(std::io::stdout(), "{object}")?;
        return Ok(());
    }
    let row = |step: &TraceStep| {
        let time = match step.time_ms {
            // How it stands at this moment.
            0 => Field::new("time", "").in_words("now"),
            time_ms => Field::new("time", rfc3339(time_ms)),
        };
        vec![
            time,
            Field::new("subscription", step.subscription.as_str()),
            Field::new("what", step.what.as_str()),
        ]
    };
    let rows: Vec<_> = trace.steps.iter().map(row).collect();
    print_rows(format, &rows)?;
    Ok(())
}

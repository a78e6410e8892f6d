//! `ratatoskr doctor`: what is wrong with a data directory that no broker uses.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use ratatoskr_broker::{Diagnosis, Finding, OpenError, Severity, examine};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Outcome};
use crate::output::FormatFlag;

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The data directory; no broker may be using it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    format: FormatFlag,
}

pub(crate) fn run(arguments: &DoctorArguments) -> Outcome {
    let directory = &arguments.directory;
    if !directory.is_dir() {
        return Err(Failure::usage(format!("{} is no folder", directory.display())));
    }
    let diagnosis = examine(directory).map_err(cannot_look)?;
    let mut out = std::io::stdout().lock();
    if arguments.format.is_json() {
        writeln!(out, "{}", as_json(directory, &diagnosis))?;
    } else {
        tell(&mut out, &diagnosis)?;
    }
    let bad = diagnosis.findings.iter().filter(|finding| finding.severity > Severity::Note).count();
    if bad == 0 {
        return Ok(());
    }
    let message = format!("{}: findings that need somebody: {bad}", directory.display());
    Err(Failure::new(Exit::Failure, message))
}

fn cannot_look(error: OpenError) -> Failure {
    match error {
        OpenError::Log(error) if error.is_locked() => {
            Failure::new(Exit::Unavailable, format!("{error}; the doctor looks at a data directory at rest"))
        }
        other => Failure::new(Exit::Failure, other.to_string()),
    }
}

fn tell(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    for finding in &diagnosis.findings {
        let place = finding.position.map_or_else(String::new, |position| format!(", byte {position}"));
        let topic = finding.topic.as_ref().map_or_else(String::new, |topic| format!(" (topic {topic})"));
        writeln!(
            out,
            "{}: {}{place}{topic}\n  what: {}\n  means: {}\n  do: {}",
            finding.severity.word(),
            finding.path.display(),
            finding.what,
            finding.meaning,
            finding.advice,
        )?;
    }
    let Diagnosis { topics, segments, records, blocks, .. } = diagnosis;
    writeln!(
        out,
        "looked at {topics} topics, {records} records in {segments} segments, {blocks} blocks of journal: {}",
        match diagnosis.worst() {
            None => "all is well",
            Some(Severity::Note) => "nothing is lost",
            Some(Severity::Loss) => "some records are lost",
            Some(Severity::Refusal) => "the broker would refuse to start",
        }
    )
}

fn as_json(directory: &std::path::Path, diagnosis: &Diagnosis) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "severity": finding.severity.word(),
            "path": finding.path.display().to_string(),
            "position": finding.position,
            "topic": finding.topic,
            "offset": finding.offset,
            "what": finding.what,
            "meaning": finding.meaning,
            "advice": finding.advice,
        })
    };
    json!({
        "directory": directory.display().to_string(),
        "worst": diagnosis.worst().map(Severity::word),
        "topics": diagnosis.topics,
        "segments": diagnosis.segments,
        "records": diagnosis.records,
        "journal_blocks": diagnosis.blocks,
        "bytes": diagnosis.bytes,
        "findings": diagnosis.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

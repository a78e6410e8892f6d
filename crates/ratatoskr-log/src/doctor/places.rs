//! Names in a data directory: what does not belong there, and what was left behind.

use std::path::Path;
use std::sync::Arc;

use super::{Diagnosis, Finding, Severity, note};
use crate::disk::Disk;
use crate::layout::{Layout, journal_number, topic_number};

pub(super) fn examine(disk: &Arc<dyn Disk>, layout: &Layout, names: &[String], diagnosis: &mut Diagnosis) {
    let findings = &mut diagnosis.findings;
    for name in names {
        match name.as_str() {
            "lock" | "checkpoint" | "journal" | "topics" => {}
            "checkpoint.new" => findings.push(note(
                &layout.checkpoint_new(),
                "a checkpoint that was never finished".to_owned(),
                "the broker died while it made it; the one before is in force",
            )),
            _ => findings.push(foreign(&layout.root.join(name), Severity::Note)),
        }
    }
    let is_journal = |name: &str| matches!(name, "spare" | "spare.new") || journal_number(name).is_some();
    examine_folder(disk, &layout.journal(), is_journal, findings);
    examine_folder(disk, &layout.topics(), |name| topic_number(name).is_some(), findings);
}

/// In these folders a start refuses what it does not know: it might be what somebody looks for.
fn examine_folder(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    belongs: impl Fn(&str) -> bool,
    findings: &mut Vec<Finding>,
) {
    match disk.list(folder) {
        Ok(names) => {
            let unknown = names.iter().filter(|name| !belongs(name));
            findings.extend(unknown.map(|name| foreign(&folder.join(name), Severity::Refusal)));
        }
        Err(error) => findings.push(Finding {
            severity: Severity::Refusal,
            path: folder.to_owned(),
            position: None,
            topic: None,
            offset: None,
            what: format!("the folder cannot be listed: {error}"),
            meaning: "the broker refuses to start",
            advice: super::FROM_A_COPY,
        }),
    }
}

fn foreign(path: &Path, severity: Severity) -> Finding {
    let meaning = match severity {
        Severity::Refusal => {
            "the broker never makes such a name, and refuses to start rather than to remove it"
        }
        _ => "the broker never makes such a name, and leaves it alone",
    };
    Finding {
        severity,
        path: path.to_owned(),
        position: None,
        topic: None,
        offset: None,
        what: "it does not belong here".to_owned(),
        meaning,
        advice: "move it away",
    }
}

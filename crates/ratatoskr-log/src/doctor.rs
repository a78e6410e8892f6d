//! The doctor: looks at a data directory that no broker uses, and says what it finds. Changes nothing.
//!
//! ```text
//!   lock ─▶ names ─▶ checkpoint ─▶ journal ─▶ every segment, record by record ─▶ its index
//!             │          └── read and applied by the very code that opens a log
//!             └── what does not belong here
//! ```
//!
//! What a start would refuse is found by what a start does; what a reader would be refused, by what a reader does. So the doctor
//! cannot be of another opinion than the broker. It does not mend: what a start mends by itself it calls a note, for the
//! rest it says what is lost and what to do.

mod places;
mod segments;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint;
use crate::disk::{Disk, DiskLock};
use crate::error::LogError;
use crate::journal::JournalStart;
use crate::layout::Layout;
use crate::machine::StateMachine;
use crate::options::LogOptions;
use crate::recovery::Replay;
use crate::replay::Replayed;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost; the next start puts it right, or it does no harm.
    Note,
    /// Some records cannot be read any more; all others can, and the broker starts.
    Loss,
    /// The broker refuses to start.
    Refusal,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Loss => "loss",
            Severity::Refusal => "refusal",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file or folder.
    pub path: PathBuf,
    /// Byte position in it, where that says something.
    pub position: Option<u64>,
    /// The topic whose records it concerns.
    pub topic: Option<String>,
    /// Offset of the first record it concerns.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What that means.
    pub meaning: &'static str,
    /// What to do.
    pub advice: &'static str,
}

/// What was looked at, and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Findings, in the order of looking.
    pub findings: Vec<Finding>,
    /// Topics there are.
    pub topics: u64,
    /// Segments read.
    pub segments: u64,
    /// Sound records in them.
    pub records: u64,
    /// Sound blocks of the journal since the checkpoint.
    pub blocks: u64,
    /// Bytes read of journal and segments.
    pub bytes: u64,
}

impl Diagnosis {
    /// The worst of the findings; `None` when there are none.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

const FROM_A_COPY: &str = "restore the data directory from a copy; keep this one aside";

/// Looks at everything in a data directory. An error means that it could not be looked at: there is none, or a broker uses it.
pub fn examine(
    disk: &Arc<dyn Disk>,
    options: LogOptions,
    machine: Arc<dyn StateMachine>,
) -> Result<Diagnosis, LogError> {
    let layout = Layout::new(options.folder.clone());
    let names = disk.list(&layout.root).map_err(|error| LogError::refused("list", &layout.root, error))?;
    let _lock = lock_if_used(disk, &layout, &names)?;
    let mut diagnosis = Diagnosis::default();
    if !names.iter().any(|name| name == "checkpoint") {
        diagnosis.findings.push(no_checkpoint(&layout, &names));
        return Ok(diagnosis);
    }
    places::examine(disk, &layout, &names, &mut diagnosis);
    let mut replay = Replay::for_reading(disk.clone(), layout.clone(), options, machine);
    match checkpoint::read(disk, &layout.checkpoint(), &mut |directory, entry| {
        replay.restore(directory, &entry)
    }) {
        Ok(Some(head)) => {
            let start = JournalStart {
                directory: head.directory,
                number: head.header.journal_start,
                last: head.header.position,
                file_bytes: 0,
                reserve_bytes: 0,
            };
            replay.begin_journal(head.directory);
            let replayed = crate::replay::read(disk, &layout, start, &mut |block| replay.apply_block(block));
            examine_journal(&layout, replayed, &mut diagnosis);
        }
        Ok(None) => diagnosis.findings.push(no_checkpoint(&layout, &[])),
        Err(error) => diagnosis.findings.push(refusal(&error)),
    }
    for topic in replay.topics() {
        diagnosis.topics += 1;
        segments::examine(disk, &topic, &mut diagnosis);
    }
    Ok(diagnosis)
}

/// Holds the lock while looking. Where no lock file is, no broker ever was; where it may not be taken, nobody can write.
fn lock_if_used(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    names: &[String],
) -> Result<Option<Box<dyn DiskLock>>, LogError> {
    if !names.iter().any(|name| name == "lock") {
        return Ok(None);
    }
    let path = layout.lock();
    match disk.lock(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(LogError::Locked { path }),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            Ok(None)
        }
        Err(error) => Err(LogError::refused("lock", &path, error)),
    }
}

fn no_checkpoint(layout: &Layout, names: &[String]) -> Finding {
    let is_empty = names.iter().all(|name| matches!(name.as_str(), "lock" | "checkpoint.new"));
    let (what, meaning, advice) = if is_empty {
        ("there is nothing here", "a broker that starts here makes a new data directory", "nothing")
    } else {
        (
            "the checkpoint is missing",
            "without it the broker does not know which topics there are, and refuses to start",
            "if this is no data directory, name another folder; else restore it from a copy",
        )
    };
    Finding {
        severity: if is_empty { Severity::Note } else { Severity::Refusal },
        path: layout.checkpoint(),
        position: None,
        topic: None,
        offset: None,
        what: what.to_owned(),
        meaning,
        advice,
    }
}

/// What ends a start, as a finding.
fn refusal(error: &LogError) -> Finding {
    let (path, position, what) = match error {
        LogError::Damaged { path, position, what } => {
            let what = what.split_once("; restore").map_or(what.as_str(), |(what, _)| what);
            (path.clone(), Some(*position), what.to_owned())
        }
        LogError::Format { path, .. } => {
            return Finding {
                meaning: "the files are not damaged; this version of the broker cannot read them and refuses to start",
                advice: "use the version that wrote them; a release says in its changelog how to convert older data",
                ..refusal(&LogError::Foreign { path: path.clone(), hint: error.to_string() })
            };
        }
        LogError::Foreign { path, hint } => (path.clone(), None, hint.clone()),
        LogError::Io { path, .. } | LogError::Refused { path, .. } | LogError::NoDescriptors { path, .. } => {
            (path.clone(), None, error.to_string())
        }
        other => (PathBuf::new(), None, other.to_string()),
    };
    Finding {
        severity: Severity::Refusal,
        path,
        position,
        topic: None,
        offset: None,
        what,
        meaning: "what was acknowledged cannot be told completely; the broker refuses to start rather than to forget something",
        advice: FROM_A_COPY,
    }
}

fn examine_journal(layout: &Layout, replayed: Result<Replayed, LogError>, diagnosis: &mut Diagnosis) {
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => return diagnosis.findings.push(refusal(&error)),
    };
    diagnosis.blocks += replayed.blocks;
    diagnosis.bytes += replayed.bytes;
    if replayed.torn_bytes > 0 {
        diagnosis.findings.push(Finding {
            severity: Severity::Note,
            path: layout.journal_file(replayed.last_file),
            position: Some(replayed.end),
            topic: None,
            offset: None,
            what: format!("the last write of {} bytes is not complete", replayed.torn_bytes),
            meaning: "the broker died while it wrote this; nothing of it was acknowledged",
            advice: "nothing: the next start cuts it and counts it",
        });
    }
}

fn note(path: &Path, what: String, meaning: &'static str) -> Finding {
    Finding {
        severity: Severity::Note,
        path: path.to_owned(),
        position: None,
        topic: None,
        offset: None,
        what,
        meaning,
        advice: "nothing: the next start puts it right",
    }
}

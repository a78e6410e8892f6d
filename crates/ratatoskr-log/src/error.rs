//! What can go wrong with the log. Each says what now: try again, make room, or stop.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A log operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no room on the disk; nothing was changed. Works again once there is room.
    #[error("the disk is full: {path} could not get {}", wanted(*.bytes))]
    Full {
        /// The file that could not grow.
        path: PathBuf,
        /// How much it wanted; 0 if that is not known.
        bytes: u64,
    },
    /// The disk is full, and so is the room that was kept for this; nothing was changed. Works again once there is room.
    #[error(
        "the disk is full, and the {bytes} bytes that the journal keeps for acks and other small changes are used up; free space on the file system of {path}, or purge or delete topics"
    )]
    ReserveUsed {
        /// The data directory.
        path: PathBuf,
        /// What was kept.
        bytes: u64,
    },
    /// A write or sync failed earlier; nothing is acknowledged any more. The process must end.
    #[error("the journal is closed after a failure: {reason}; restart the broker once the disk is sound")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
    /// Bytes on the disk are not what was written.
    #[error("{path} is damaged at byte {position}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Byte position in it.
        position: u64,
        /// What is wrong there, and what to do.
        what: String,
    },
    /// The operating system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// The data directory is in use.
    #[error("{path} is locked by another running broker; stop it, or give this one another data directory")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The data directory holds something else.
    #[error("{path} does not belong here: {hint}")]
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
}

impl LogError {
    /// Wraps an I/O error with what was tried; a full disk becomes [`LogError::Full`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> LogError {
        match source.kind() {
            // Out of file handles or memory passes as a full disk does: refuse, and try again.
            _ if matches!(
                Errno::from_io_error(&source),
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
            ) =>
            {
                LogError::Full { path: path.to_owned(), bytes: 0 }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LogError::Full { path: path.to_owned(), bytes: 0 }
            }
            _ => LogError::Io { action, path: path.to_owned(), source },
        }
    }

    /// True when another broker has the data directory.
    pub fn is_locked(&self) -> bool {
        matches!(self, LogError::Locked { .. })
    }

    /// True when the only trouble is a lack of room.
    pub fn is_full(&self) -> bool {
        matches!(self, LogError::Full { .. } | LogError::ReserveUsed { .. })
    }
}

/// How much a full disk lacks, and what to do.
fn wanted(bytes: u64) -> String {
    match bytes {
        0 => "more room; free some space on its file system, or delete or purge topics".to_owned(),
        bytes => format!(
            "{bytes} bytes; free as much on its file system, or delete or purge topics that hold more than that"
        ),
    }
}

/// Why records cannot be read at a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Retention or a purge has removed the place.
    #[error("offset {cursor} has been removed by retention or a purge; the earliest is {first}")]
    Trimmed {
        /// Where the reader stood.
        cursor: u64,
        /// The first offset there is.
        first: u64,
    },
    /// The record is damaged; its neighbours can be read.
    #[error(
        "the record at offset {offset} is damaged ({path}, byte {position}); reading can go on at offset {resume}"
    )]
    Damaged {
        /// The first offset that cannot be read.
        offset: u64,
        /// The next offset that can.
        resume: u64,
        /// The segment.
        path: PathBuf,
        /// Byte position in it.
        position: u64,
    },
    /// The operating system refused; trying again may help.
    #[error("reading {path}: {reason}")]
    Io {
        /// The segment.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

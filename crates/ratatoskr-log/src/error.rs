//! What can go wrong with the log. Each says what now: try again, make room, or stop.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::header::FORMAT_VERSION;

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
    /// The process, or the machine, may open no more files; nothing was changed. Works again once some are closed.
    #[error(
        "no file descriptor is left: {action} {path}: {source}; raise the limit (LimitNOFILE= in a systemd unit, ulimit -n in a shell), or lower connections_max"
    )]
    NoDescriptors {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file or folder could not be opened, created, listed, renamed or removed; nothing was changed. Works again once the cause is gone.
    #[error("{action} {path}: {source}")]
    Refused {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
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
    /// A write, sync or read failed: of what was written nothing is known.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// The data directory was written by another version of the broker, in a format this one does not read.
    #[error("{path} has format {found}, and this version reads format {FORMAT_VERSION}: {hint}")]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// What to do.
        hint: &'static str,
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
    /// Wraps the error of a write or read with what was tried.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> LogError {
        match LogError::refused(action, path, source) {
            LogError::Refused { action, path, source } => LogError::Io { action, path, source },
            other => other,
        }
    }

    /// Wraps the error of a call that opens, creates, lists, renames or removes with what was tried.
    pub(crate) fn refused(action: &'static str, path: &Path, source: io::Error) -> LogError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full { path, bytes: 0 },
            _ if is_out_of_descriptors(&source) => LogError::NoDescriptors { action, path, source },
            _ => LogError::Refused { action, path, source },
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

    /// Wraps the error of making something durable. A failed sync is final, whatever its reason, because a second one may succeed over
    /// what the first has lost. Only a folder that could not even be opened for it was not synced, and can be later.
    pub(crate) fn sync(path: &Path, source: io::Error) -> LogError {
        let (action, path) = ("sync", path.to_owned());
        if is_out_of_descriptors(&source) {
            LogError::NoDescriptors { action, path, source }
        } else {
            LogError::Io { action, path, source }
        }
    }

    /// Wraps the error of a rename on which the order of journal files depends. One that the system declined beforehand changed
    /// nothing; after any other the file may have either name, which is final.
    pub(crate) fn rename(to: &Path, source: io::Error) -> LogError {
        use io::ErrorKind::{OutOfMemory, PermissionDenied, ReadOnlyFilesystem};
        match source.kind() {
            PermissionDenied | ReadOnlyFilesystem | OutOfMemory => LogError::refused("rename to", to, source),
            _ => LogError::io("rename to", to, source),
        }
    }

    /// True when nothing was changed, and trying again may help. Anything else ends all writing.
    pub fn is_passing(&self) -> bool {
        self.is_full() || matches!(self, LogError::NoDescriptors { .. } | LogError::Refused { .. })
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

/// `EMFILE` and `ENFILE`: the process, or the machine, has as many files open as it may.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Why a segment could not be opened or read, in words that say what to do.
pub(crate) fn read_refusal(error: &io::Error) -> String {
    if is_out_of_descriptors(error) {
        format!("{error}: no file descriptor is left; raise the limit, or lower connections_max")
    } else {
        error.to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn a_failed_sync_is_final_unless_the_folder_could_not_be_opened_for_it() {
        let sync = |errno| LogError::sync(Path::new("journal"), error(errno));
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ACCESS] {
            assert!(!sync(errno).is_passing(), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(matches!(sync(errno), LogError::NoDescriptors { .. }), "{errno}");
        }
    }

    #[test]
    fn a_rename_that_may_have_happened_is_final() {
        let rename = |errno| LogError::rename(Path::new("2.journal"), error(errno));
        for errno in [Errno::ACCESS, Errno::ROFS, Errno::NOSPC, Errno::NOMEM] {
            assert!(rename(errno).is_passing(), "{errno}");
        }
        for errno in [Errno::IO, Errno::NOENT] {
            assert!(!rename(errno).is_passing(), "{errno}");
        }
    }

    #[test]
    fn want_of_descriptors_is_no_full_disk_and_says_what_to_do() {
        let error = LogError::refused("open", Path::new("spare"), error(Errno::MFILE));
        assert!(error.is_passing() && !error.is_full());
        assert!(error.to_string().contains("LimitNOFILE"), "{error}");
    }
}

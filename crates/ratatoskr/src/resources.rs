//! What the process asks of the operating system before it serves.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of files and connections the process may have open to what it is allowed. The
/// usual soft limit of 1,024 would end the broker's hospitality at about a thousand subscribers. Answers what it is now;
/// `None`: no limit.
pub(crate) fn raise_open_files_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, current = limit.current, "the limit of open files stays low");
            limit.current
        }
    }
}

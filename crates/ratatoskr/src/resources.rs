//! What the process asks of the operating system before it serves.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of files and connections the process may have open to what it is allowed. The
/// usual soft limit of 1,024 would end the broker's hospitality at about a thousand subscribers.
pub(crate) fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays low");
    }
}

//! [`DescriptorShares`]: how the file descriptors of the process are shared out, so that connections never take those of the log.

use crate::limits::{HTTP_CONNECTIONS_MAX, REFUSED_CONNECTIONS_MAX};

/// Descriptors of the process itself: standard streams, lock, listeners, audit log, files that are opened only to be read.
const OWN: u64 = 40;
/// Descriptors of one worker thread: its event loop and, for each of its two disk readers, a segment and its index.
const PER_WORKER: u64 = 6;
/// A quarter of all descriptors is the log's, within these bounds: less is not enough to work with, more is of no use to it.
const LOG_MIN: u64 = 24;
const LOG_MAX: u64 = 768;

/// How many descriptors each part of the process may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorShares {
    /// Files of the data directory.
    pub log_files: usize,
    /// Connections to the gRPC listener.
    pub connections: u64,
    /// Connections to the HTTP listener.
    pub http_connections: usize,
}

impl DescriptorShares {
    /// The shares of a process with a limit and so many worker threads. Each part gets something, however low the limit is.
    pub fn of(limit: u64, workers: usize) -> DescriptorShares {
        let log = (limit / 4).clamp(LOG_MIN, LOG_MAX);
        let http = (limit / 16).clamp(4, HTTP_CONNECTIONS_MAX as u64);
        let own = OWN + PER_WORKER * workers as u64 + REFUSED_CONNECTIONS_MAX;
        DescriptorShares {
            log_files: log as usize,
            connections: limit.saturating_sub(log + http + own).max(1),
            http_connections: http as usize,
        }
    }

    /// The shares of a process without a limit.
    pub fn unlimited() -> DescriptorShares {
        DescriptorShares {
            log_files: LOG_MAX as usize,
            connections: u64::MAX,
            http_connections: HTTP_CONNECTIONS_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_log_its_descriptors_whatever_the_limit() {
        for limit in [128, 256, 1024, 4096, 1 << 20] {
            let shares = DescriptorShares::of(limit, 2);
            let taken = shares.log_files as u64 + shares.connections + shares.http_connections as u64;
            let own = OWN + 2 * PER_WORKER + REFUSED_CONNECTIONS_MAX;
            assert!(taken + own <= limit, "{limit}: {shares:?}");
        }
        assert_eq!(DescriptorShares::of(1 << 20, 2).log_files, 768);
        assert_eq!(DescriptorShares::of(16, 2).connections, 1);
    }
}

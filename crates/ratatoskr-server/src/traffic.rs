//! [`Traffic`]: what the front doors count themselves. Everything else is the broker's to count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the server started. Shared by all threads; touched per connection or per stall, never
/// per message.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// gRPC connections accepted.
    pub(crate) connections: Count,
    /// Connections the operating system would not hand over: out of file descriptors, most likely.
    pub(crate) connections_failed: Count,
    /// TLS handshakes, of both doors, that came to nothing.
    pub(crate) handshakes_failed: Count,
    /// Times a publish stream had as much on its way as it may, and was made to wait.
    pub(crate) publish_streams_stalled: Count,
    /// Connections that were not served, because their client had enough of them or memory was used up.
    pub(crate) connections_refused: Count,
    /// Connections that were closed because they held memory that others waited for, and read or sent nothing.
    pub(crate) connections_stuck: Count,
    /// Connections without credentials that were closed to make room for others of the kind.
    pub(crate) connections_made_room: Count,
    /// Calls refused because memory was used up, of all callers or of one client.
    pub(crate) calls_without_memory: Count,
    /// Calls refused because their client had as many as it may.
    pub(crate) calls_beyond_limit: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number as it stands.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

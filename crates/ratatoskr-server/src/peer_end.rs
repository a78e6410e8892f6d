//! [`PeerEnd`]: how a call's client went, for what is served on the call and outlives the client by a moment.
//!
//! ```text
//!   RST_STREAM, GOAWAY, end of the stream ──▶ closed: the client said so
//!   the connection broke, or is silent    ──▶ vanished
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by a call's connection, which writes it before it drops the call, and by what is served on the call.
#[derive(Debug, Default)]
pub(crate) struct PeerEnd {
    has_vanished: AtomicBool,
}

impl PeerEnd {
    /// The connection is gone, and the client had not said that it would go.
    pub(crate) fn vanish(&self) {
        self.has_vanished.store(true, Ordering::Relaxed);
    }

    /// True when the connection was lost under the call.
    pub(crate) fn has_vanished(&self) -> bool {
        self.has_vanished.load(Ordering::Relaxed)
    }
}

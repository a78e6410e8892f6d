//! Flow control, one direction at a time (RFC 9113, section 5.2).
//!
//! ```text
//!   what we may send:      [`SendWindow`]      taken by data, given by WINDOW_UPDATE; may be negative after new SETTINGS
//!   what the peer may send: [`ReceiveWindow`]  taken by data, given back in halves, so that updates stay few
//! ```

use crate::frame::WINDOW_MAX;

/// Bytes we may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendWindow(i64);

impl SendWindow {
    pub(crate) fn new(bytes: u32) -> SendWindow {
        SendWindow(i64::from(bytes))
    }

    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }

    /// By a `WINDOW_UPDATE`, or by what the peer's initial window has grown (shrunk) by; false if no window can be so large.
    pub(crate) fn grow(&mut self, bytes: i64) -> bool {
        self.0 += bytes;
        self.0 <= i64::from(WINDOW_MAX)
    }
}

/// Bytes the peer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveWindow {
    /// What the peer believes it may send.
    credit: i64,
    /// Taken in and done with, not given back yet.
    owed: u32,
    /// What credit and owed are together when nothing is on its way or in use.
    size: u32,
}

impl ReceiveWindow {
    pub(crate) fn new(size: u32) -> ReceiveWindow {
        ReceiveWindow { credit: i64::from(size), owed: 0, size }
    }

    /// Data has come; false if the peer was not allowed to send it.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        self.credit -= bytes as i64;
        self.credit >= 0
    }

    /// Data is done with. Answers what to give back now, if it is worth a frame.
    pub(crate) fn release(&mut self, bytes: usize) -> Option<u32> {
        self.owed += bytes as u32;
        // An update by nothing is against the rules.
        if self.owed == 0 || self.owed < self.size / 2 {
            return None;
        }
        self.credit += i64::from(self.owed);
        Some(std::mem::take(&mut self.owed))
    }
}

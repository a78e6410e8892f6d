//! [`Pressure`]: whether the log can take appends now, and what it waits for if not.

use std::sync::atomic::Ordering;

use super::Log;
use crate::error::LogError;

/// With so many journal files not yet checkpointed, publishers wait for the flusher.
const JOURNAL_FILES_MAX: u64 = 12;

/// Whether the log can take appends now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// It can.
    None,
    /// Memory or the journal are used up until the flusher has caught up: [`Log::wait_for_flusher`].
    Wait,
    /// The same, and the flusher has no room on the disk.
    Full,
    /// The same, and the flusher cannot open its files.
    Blocked {
        /// What the operating system refuses, and what to do.
        reason: String,
    },
}

impl Log {
    /// Whether appends can be taken now.
    pub fn pressure(&self) -> Pressure {
        let files = self.journal.number() - self.shared.journal_start.load(Ordering::Acquire);
        let unflushed = self.shared.unflushed_bytes.load(Ordering::Relaxed);
        if files < JOURNAL_FILES_MAX && unflushed <= self.shared.options.tail_bytes_max {
            return Pressure::None;
        }
        match self.shared.obstacle() {
            None => Pressure::Wait,
            Some(obstacle) if obstacle.is_full => Pressure::Full,
            Some(obstacle) => Pressure::Blocked { reason: obstacle.reason },
        }
    }

    /// Looks whether writing would succeed: tries for the next journal file if this one is full, and
    /// learns of a flusher that failed.
    pub fn check(&mut self) -> Result<(), LogError> {
        if let Some(reason) = self.shared.failure() {
            return Err(self.journal.poisoned(&LogError::Poisoned { reason }));
        }
        if self.block.has_entries() { Ok(()) } else { self.make_room() }
    }

    /// Blocks until the flusher has made some progress, or a little while.
    pub fn wait_for_flusher(&mut self) {
        self.evict();
        self.shared.wait_for_progress();
    }
}

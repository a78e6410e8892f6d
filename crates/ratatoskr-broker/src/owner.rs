//! The owner of one topic: the only one that changes it, and the wall around its failures.
//!
//! ```text
//!            append                panic               pause over
//!   ┌─────┐ ───────▶ staged   ┌─────────────┐ ───────────────────────▶ ┌─────┐
//!   │ up  │ ────────────────▶ │ restarting  │   state from the log     │ up  │
//!   └─────┘                   └─────────────┘                          └─────┘
//! ```
//!
//! All owners live on the sequencer's thread, yet a panic in one of them reaches no other: it is
//! caught, what the topic had staged is taken back, its publishers are told to try again, and the owner starts anew from
//! what the log says. Restarting is bounded: after [`RESTARTS_AT_ONCE`] within [`RESTART_WINDOW`] the owner pauses,
//! so that a topic that always fails costs next to nothing.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratatoskr_log::{Log, Placed, RecordBatch};

use crate::broken::Broken;
use crate::topic::Topic;

/// So many restarts in a row happen without a pause.
const RESTARTS_AT_ONCE: usize = 5;
/// Restarts are counted within this time.
const RESTART_WINDOW: Duration = Duration::from_secs(10);
/// Then the owner stays down for this long.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// See the file's head.
pub(crate) struct Owner {
    pub(crate) topic: Arc<Topic>,
    /// When it failed lately.
    failures: VecDeque<Instant>,
    down_until: Option<Instant>,
    /// The next append fails in the middle; set by tests.
    crash_next: bool,
}

/// The owner failed; nothing it staged remains.
#[derive(Debug)]
pub(crate) struct Failed;

impl Owner {
    pub(crate) fn new(topic: Arc<Topic>) -> Owner {
        Owner { topic, failures: VecDeque::new(), down_until: None, crash_next: false }
    }

    pub(crate) fn crash_next(&mut self) {
        self.crash_next = true;
    }

    /// True while it pauses after too many failures.
    pub(crate) fn is_down(&mut self) -> bool {
        if self.down_until.is_some_and(|until| Instant::now() >= until) {
            self.down_until = None;
            self.failures.clear();
        }
        self.down_until.is_some()
    }

    /// Stages records.
    pub(crate) fn append(&mut self, log: &mut Log, batch: &mut RecordBatch) -> Result<Placed, Failed> {
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let placed = log.stage_append(&self.topic.log, batch);
            assert!(!std::mem::take(&mut self.crash_next), "this failure was asked for");
            placed
        }));
        attempt.map_err(|panic| {
            if Broken::Wall.is_on() {
                resume_unwind(panic);
            }
            log.unstage(&self.topic.log);
            self.note_failure();
            Failed
        })
    }

    fn note_failure(&mut self) {
        let now = Instant::now();
        self.failures.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        self.failures.push_back(now);
        let pause = self.failures.len() > RESTARTS_AT_ONCE;
        if pause {
            self.down_until = Some(now + RESTART_PAUSE);
        }
        tracing::error!(
            topic = %self.topic.name,
            failures = self.failures.len(),
            pause_ms = if pause { RESTART_PAUSE.as_millis() } else { 0 },
            "a topic's owner failed and starts anew from the log"
        );
    }
}

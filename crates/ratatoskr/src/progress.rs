//! A progress bar on standard error, for what takes longer than a second and is watched by a person.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows how far something has come.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    /// Nothing has been drawn yet.
    waiting: bool,
}

impl Progress {
    /// For a known or unknown number of bytes. `what` is counted in words beside it.
    pub(crate) fn new(bytes: Option<u64>) -> Progress {
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::hidden());
        let template = match bytes {
            Some(_) => "{wide_bar:.cyan} {percent}% {binary_bytes_per_sec} {eta} left, {msg}",
            None => "{spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}, {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the templates are constant"));
        Progress { bar, started: Instant::now(), waiting: std::io::stderr().is_terminal() }
    }

    /// `bytes` are done; `words` say what that means.
    pub(crate) fn update(&mut self, bytes: u64, words: impl FnOnce() -> String) {
        if self.waiting && self.started.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.waiting = false;
        }
        if !self.bar.is_hidden() {
            self.bar.set_message(words());
        }
        self.bar.set_position(bytes);
    }

    /// Takes the bar away and tells how long it all took.
    pub(crate) fn finish(self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}

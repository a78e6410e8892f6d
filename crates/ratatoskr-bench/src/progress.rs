//! A progress bar on standard error, for a person who waits.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::rc::Rc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar looks at the count: counting costs the load nothing.
const PERIOD: Duration = Duration::from_millis(200);

/// Shows how far a load has come. Dropping it takes the bar away.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    watcher: tokio::task::JoinHandle<()>,
    /// What is done; counted by whoever does it.
    pub(crate) done: Rc<Cell<u64>>,
}

/// Whether a bar is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bar {
    /// On a terminal.
    Shown,
    /// Never.
    Hidden,
}

impl Progress {
    /// A bar up to `total`. Has to be called within a `LocalSet`.
    pub(crate) fn start(bar: Bar, what: &'static str, total: u64) -> Progress {
        let is_shown = bar == Bar::Shown && std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{msg} {wide_bar:.cyan} {human_pos} {per_sec} {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is constant"));
        bar.set_message(what);
        let done = Rc::new(Cell::new(0));
        let (counted, shown) = (done.clone(), bar.clone());
        let watcher = tokio::task::spawn_local(async move {
            while !shown.is_hidden() {
                tokio::time::sleep(PERIOD).await;
                shown.set_position(counted.get());
            }
        });
        Progress { bar, watcher, done }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.watcher.abort();
        self.bar.finish_and_clear();
    }
}

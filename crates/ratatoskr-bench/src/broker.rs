//! A broker of our own: this very program as a child, with a folder that goes with it.
//!
//! ```text
//!   start ──▶ "Ready." ──kill_nine──▶ gone, its data stays ──start_again──▶ "Ready." …   dropped: killed, folder removed
//! ```
//!
//! The folder is made where the caller says, or in the working directory: a real disk, where `/tmp` may be memory. The broker
//! listens on ports the system chooses and says in its banner which. `RATATOSKR_…` variables reach it, so that any setting can
//! be measured; addresses and folder are ours.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::{Outcome, during, failed};

/// What the broker writes to standard error, beside its data.
const LOG: &str = "broker.log";

/// A broker that serves.
#[derive(Debug)]
pub(crate) struct OwnBroker {
    child: Child,
    /// Where its banner comes from; held open, it may still want to say something.
    out: BufReader<ChildStdout>,
    /// Host and port of gRPC; another one after each start.
    authority: String,
    /// Its data and its log.
    folder: TempDir,
}

impl OwnBroker {
    /// Starts a broker with a new folder under `parent`.
    pub(crate) fn start(parent: &Path) -> Outcome<OwnBroker> {
        let folder = tempfile::Builder::new().prefix("bench-data-").tempdir_in(parent);
        let folder = folder.map_err(during(format_args!("creating a folder in {}", parent.display())))?;
        let (child, out) = spawn(folder.path())?;
        let mut broker = OwnBroker { child, out, authority: String::new(), folder };
        broker.await_banner()?;
        Ok(broker)
    }

    /// `kill -9`: no warning, no flush.
    pub(crate) fn kill_nine(&mut self) -> Outcome {
        self.child.kill().map_err(during("killing the broker"))?;
        self.child.wait().map_err(during("waiting for the killed broker"))?;
        Ok(())
    }

    /// Starts a killed broker on the data it left, and tells how long it took until it served: recovery and all.
    pub(crate) fn start_again(&mut self) -> Outcome<Duration> {
        let started = Instant::now();
        (self.child, self.out) = spawn(self.folder.path())?;
        self.await_banner()?;
        Ok(started.elapsed())
    }

    /// Host and port of gRPC.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its data and its log are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn await_banner(&mut self) -> Outcome {
        let mut banner = String::new();
        while !banner.contains("Ready.") {
            let read = self.out.read_line(&mut banner).map_err(during("reading the broker's banner"))?;
            if read == 0 {
                let log = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
                return Err(failed(format!("the broker ended before it served:\n{banner}{log}")));
            }
        }
        let grpc = banner.lines().find_map(|line| line.trim().strip_prefix("gRPC"));
        let grpc =
            grpc.ok_or_else(|| failed(format!("the broker's banner names no gRPC address:\n{banner}")))?;
        grpc.trim().clone_into(&mut self.authority);
        Ok(())
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // Both fail only when the child has been waited for already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path) -> Outcome<(Child, BufReader<ChildStdout>)> {
    let program = std::env::current_exe().map_err(during("finding this program"))?;
    let log = File::options().create(true).append(true).open(folder.join(LOG));
    let log = log.map_err(during(format_args!("opening {LOG} in {}", folder.display())))?;
    let mut command = Command::new(&program);
    command.args(["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--data-dir"]);
    command.arg(folder.join("data")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(during(format_args!("starting {}", program.display())))?;
    let out = child.stdout.take().expect("its output is piped");
    Ok((child, BufReader::new(out)))
}

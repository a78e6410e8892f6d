//! The real program for the tests: a broker with a folder of its own, and commands that talk to it.
//!
//! A broker listens on port 0 and says in its banner which one it was given. Dropping it kills it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, with nothing of our own environment that could change what it does.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ratatoskr"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RATATOSKR_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A broker that has said it is ready.
pub(crate) struct Broker {
    child: Child,
    /// What it printed before it was ready.
    pub(crate) banner: String,
    /// Host and port of gRPC.
    pub(crate) grpc: String,
}

impl Broker {
    /// Starts a broker on a folder. `grpc` is an address, or `127.0.0.1:0` for any.
    pub(crate) fn start(folder: &Path, grpc: &str) -> Broker {
        Broker::start_with(folder, grpc, &[])
    }

    /// The same with further settings.
    pub(crate) fn start_with(folder: &Path, grpc: &str, settings: &[&str]) -> Broker {
        let mut command = program();
        command.args(["serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", grpc]).current_dir(folder);
        command.args(settings);
        let log = std::fs::File::options().create(true).append(true).open(folder.join("broker.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("Ready.") {
            if lines.read_line(&mut banner).unwrap() == 0 {
                let log = std::fs::read_to_string(folder.join("broker.log")).unwrap();
                panic!("the broker ended with {} before it was ready:\n{banner}{log}", child.wait().unwrap());
            }
        }
        let grpc =
            banner.lines().find_map(|line| line.trim().strip_prefix("gRPC")).unwrap().trim().to_owned();
        Broker { child, banner, grpc }
    }

    /// Asks the broker to read its files anew.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// A command that talks to this broker.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(["--server", &self.grpc]).args(arguments);
        command
    }

    /// Runs a command that has to succeed, and gives what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run_bytes(arguments)).unwrap()
    }

    /// The same for output that is no text.
    pub(crate) fn run_bytes(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Runs a command that has to fail, and gives its exit code and what it complained about.
    pub(crate) fn fail(&self, arguments: &[&str]) -> (i32, String) {
        failed(&self.command(arguments).output().unwrap())
    }

    /// Runs a command with a standard input, and gives what it printed.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?} ended with {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// `kill -9`: no warning, no flush.
    pub(crate) fn kill_nine(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the broker to stop, as a service manager does, and waits for it.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        wait(&mut self.child)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child, but not for ever.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    until("the child has ended", || child.try_wait().unwrap())
}

/// Waits until something is there, and says what when it does not come.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Exit code and complaint of a command that has to fail.
pub(crate) fn failed(output: &Output) -> (i32, String) {
    let complaint = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!output.status.success(), "it succeeded: {complaint}");
    (output.status.code().expect("it was not killed"), complaint)
}

/// Everything a child has printed when it has ended.
pub(crate) fn printed(mut child: Child) -> (ExitStatus, Vec<u8>, String) {
    let (mut out, mut complaint) = (Vec::new(), String::new());
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    (wait(&mut child), out, complaint)
}

/// A file of numbered lines.
pub(crate) fn numbered_lines(folder: &Path, count: usize) -> (PathBuf, Vec<u8>) {
    let mut text = Vec::new();
    for number in 1..=count {
        writeln!(text, "line {number} of the input").unwrap();
    }
    let path = folder.join("lines.txt");
    std::fs::write(&path, &text).unwrap();
    (path, text)
}

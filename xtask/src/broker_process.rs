//! The real program as a child: started on loopback with a folder of its own, killed without mercy.
//!
//! ```text
//! start ──▶ serving ──kill_nine──▶ gone (data stays) ──start on the same ports──▶ serving …
//!              └────stop──▶ gone (drained)
//! ```
//!
//! A child never outlives the chore: dropping it kills it.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::failed::{Failed, Outcome, While};
use crate::process_usage::ProcessUsage;

/// How long a broker may take until it serves, recovery included.
const START_SECONDS_MAX: u64 = 120;
/// How long a broker may take to drain.
const STOP_SECONDS_MAX: u64 = 30;
/// How often readiness is asked for: a fraction of any figure we quote.
const READY_POLL: Duration = Duration::from_millis(5);

/// How to start a broker; the same setup starts it again after a kill.
pub(crate) struct BrokerSetup {
    /// The program.
    pub(crate) program: PathBuf,
    /// Where its data and its log (`broker.log`) go.
    pub(crate) folder: PathBuf,
    /// The gRPC front door.
    pub(crate) grpc: SocketAddr,
    /// The HTTP front door.
    pub(crate) http: SocketAddr,
    /// Further arguments of `serve`.
    pub(crate) arguments: Vec<String>,
    /// What it listens on, where that is not the address it is reached at.
    pub(crate) listens_on: Option<IpAddr>,
    /// What the program is run by, such as `ip netns exec NAME`.
    pub(crate) run_by: Vec<String>,
    /// Further variables of its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// A broker that serves.
pub(crate) struct BrokerProcess {
    /// In a cell because asking whether it still runs changes it.
    child: RefCell<Child>,
    /// What it writes to standard output and error.
    log_path: PathBuf,
    /// From the start of the process to readiness: recovery and all.
    pub(crate) start_took: Duration,
}

impl BrokerSetup {
    /// A broker on free loopback ports, with its data under `folder`.
    pub(crate) fn new(program: PathBuf, folder: &Path) -> Outcome<BrokerSetup> {
        let [grpc, http] = free_addresses()?;
        let (arguments, run_by, environment) = (Vec::new(), Vec::new(), Vec::new());
        let (folder, listens_on) = (folder.to_owned(), None);
        Ok(BrokerSetup { program, folder, grpc, http, arguments, listens_on, run_by, environment })
    }

    /// Where the broker keeps its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The address as a gRPC client takes it.
    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Starts the broker and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Outcome<BrokerProcess> {
        let log_path = self.folder.join("broker.log");
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.when(format_args!("opening {}", log_path.display()))?;
        let mut words = self.run_by.iter().map(OsStr::new).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().expect("the program is one of them"));
        command.args(words).arg("serve").arg("--data-dir").arg(self.data_dir());
        let listen = |address: SocketAddr| {
            SocketAddr::new(self.listens_on.unwrap_or(address.ip()), address.port()).to_string()
        };
        command.args(["--grpc-addr", &listen(self.grpc), "--http-addr", &listen(self.http)]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().when("sharing the broker's log")?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().when(format_args!("starting {}", self.program.display()))?;
        // From here on an early return drops, and so kills, the child.
        let mut process = BrokerProcess { child: RefCell::new(child), log_path, start_took: Duration::ZERO };
        while !is_ready(self.http) {
            if let Some(status) = process.child.get_mut().try_wait().when("watching the broker start")? {
                return Err(Failed::new(format!(
                    "the broker ended with {status} before it served:\n{}",
                    tail(&process.log_path)
                )));
            }
            if started.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                return Err(Failed::new(format!(
                    "the broker is not ready after {START_SECONDS_MAX} s:\n{}",
                    tail(&process.log_path)
                )));
            }
            std::thread::sleep(READY_POLL);
        }
        process.start_took = started.elapsed();
        Ok(process)
    }
}

impl BrokerProcess {
    /// The broker's use of the machine now. A broker that has ended has none: then its last words are told.
    pub(crate) fn usage(&self) -> Outcome<ProcessUsage> {
        let mut child = self.child.borrow_mut();
        if let Some(status) = child.try_wait().when("watching the broker")? {
            return Err(Failed::new(format!(
                "the broker ended with {status}; its log ends:\n{}",
                tail(&self.log_path)
            )));
        }
        ProcessUsage::read(child.id())
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.borrow().id()
    }

    /// Sends it a signal, named as `kill` names it.
    pub(crate) fn signal(&self, name: &str) -> Outcome {
        crate::workshop::run(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]))
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&self) -> Outcome<Option<ExitStatus>> {
        self.child.borrow_mut().try_wait().when("watching the broker")
    }

    /// `kill -9`: no warning, no flush.
    pub(crate) fn kill_nine(mut self) -> Outcome {
        self.child.get_mut().kill().when("killing the broker")?;
        self.child.get_mut().wait().when("waiting for the killed broker")?;
        Ok(())
    }

    /// Asks the broker to stop and waits until it has drained.
    pub(crate) fn stop(mut self) -> Outcome {
        self.signal("TERM")?;
        let asked = Instant::now();
        loop {
            match self.child.get_mut().try_wait().when("waiting for the broker to stop")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(Failed::new(format!("the broker stopped with {status}, not with 0")));
                }
                None if asked.elapsed() > Duration::from_secs(STOP_SECONDS_MAX) => {
                    return Err(Failed::new(format!(
                        "the broker has not stopped {STOP_SECONDS_MAX} s after SIGTERM"
                    )));
                }
                None => std::thread::sleep(READY_POLL),
            }
        }
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Both fail only when the child has been waited for already, which is what we want.
        let _ = self.child.get_mut().kill();
        let _ = self.child.get_mut().wait();
    }
}

/// Two addresses that were free a moment ago. Fixed ones, so that a restart is found again.
fn free_addresses() -> Outcome<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).when("looking for a free port");
    let listeners = [bind()?, bind()?];
    let [grpc, http] = listeners.map(|listener| listener.local_addr().when("reading a free port"));
    Ok([grpc?, http?])
}

fn is_ready(http: SocketAddr) -> bool {
    get(http, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// One HTTP request, answered in full.
pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The last lines of the broker's log, for the person who has to find out.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let setup = BrokerSetup::new("/bin/false".into(), folder.path()).unwrap();
        let error = setup.start().err().unwrap().to_string();
        assert!(error.starts_with("the broker ended with exit status: 1 before it served"), "{error}");
    }

    #[test]
    fn a_broker_that_has_ended_is_reported_with_how_and_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log_path = folder.path().join("broker.log");
        std::fs::write(&log_path, "last words\n").unwrap();
        let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let process = BrokerProcess { child: RefCell::new(child), log_path, start_took: Duration::ZERO };
        let error = process.usage().unwrap_err().to_string();
        assert_eq!(error, "the broker ended with signal: 9 (SIGKILL); its log ends:\nlast words");
    }

    #[test]
    fn free_addresses_are_on_loopback_and_differ() {
        let [grpc, http] = free_addresses().unwrap();
        assert!(grpc.ip().is_loopback() && http.ip().is_loopback());
        assert_ne!(grpc.port(), http.port());
    }
}

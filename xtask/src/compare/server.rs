//! A peer's server as a child: started on loopback with a folder of its own, watched, killed.
//!
//! ```text
//!   launch (settings in files) ─▶ spawn ─▶ answers ─▶ … ─▶ kill_nine ─▶ spawn again on the same folder …
//! ```
//!
//! What it uses is read from `/proc` for it and all its descendants: RabbitMQ is an Erlang machine with children. A server never outlives
//! the comparison: dropping kills it and its descendants, and should the comparison itself be killed, the kernel does it (`setpriv`).

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::launch::launch;
use super::peers::{Peer, Program};
use super::programs::Found;
use crate::broker_process::{BrokerProcess, BrokerSetup};
use crate::failed::{Failed, Outcome, While};
use crate::process_usage::ProcessUsage;

/// How long a server may take until it answers, recovery included.
const START_MAX: Duration = Duration::from_secs(120);
/// How often it is asked: a fraction of any figure quoted.
const LOOK: Duration = Duration::from_millis(5);

/// What it takes to start a server, and to start it again.
pub(crate) struct Setup {
    pub(crate) peer: &'static Peer,
    pub(crate) program: Found,
    /// Data, settings and log.
    pub(crate) folder: PathBuf,
    /// Where it listens; the same after a restart.
    pub(crate) address: SocketAddr,
    /// Two more free ports, for who needs them.
    pub(crate) ports: [u16; 2],
}

/// A server that answers.
pub(crate) enum Server {
    Ours(BrokerProcess),
    Theirs(PeerProcess),
}

/// Somebody else's server.
pub(crate) struct PeerProcess {
    child: Child,
    /// Held so that they end with it.
    _companions: Companions,
    start_took: Duration,
}

/// Other programs a server needs: RabbitMQ's name service.
#[derive(Default)]
struct Companions(Vec<Child>);

impl Setup {
    /// A server of a peer with its folder under `parent`.
    pub(crate) fn new(peer: &'static Peer, program: Found, folder: &Path) -> Outcome<Setup> {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).when("looking for a free port");
        let listeners = [bind()?, bind()?, bind()?];
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(&listeners) {
            *port = listener.local_addr().when("reading a free port")?.port();
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
        Ok(Setup { peer, program, folder: folder.to_owned(), address, ports: [ports[1], ports[2]] })
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&self) -> Outcome<Server> {
        if self.peer.program == Program::Ratatoskr {
            let mut setup = BrokerSetup::new(self.program.path.clone(), &self.folder)?;
            setup.grpc = self.address;
            return Ok(Server::Ours(setup.start()?));
        }
        let launch = launch(self)?;
        // Companions first: the main program would start its own, which nobody would end.
        let mut companions = Companions::default();
        for companion in launch.companions {
            companions.0.push(self.spawn(companion)?);
        }
        let started = Instant::now();
        let child = self.spawn(launch.main)?;
        let mut process = PeerProcess { child, _companions: companions, start_took: Duration::ZERO };
        while let Err(failed) = self.peer.tongue.answers(self.address).await {
            if let Some(status) = process.child.try_wait().when("watching the server start")? {
                return Err(Failed::new(format!(
                    "{} ended with {status}: {}",
                    self.peer.title,
                    self.last_words()
                )));
            }
            if started.elapsed() > START_MAX {
                return Err(Failed::new(format!(
                    "{} does not answer after {} s ({failed}): {}",
                    self.peer.title,
                    START_MAX.as_secs(),
                    self.last_words()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        process.start_took = started.elapsed();
        Ok(Server::Theirs(process))
    }

    fn spawn(&self, mut command: Command) -> Outcome<Child> {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.when(format_args!("opening {}", self.log().display()))?;
        command.current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().when("sharing a log")?).stderr(log);
        command.spawn().when(format_args!("starting {}", command.get_program().display()))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" / ")
    }
}

impl Server {
    /// From the start of the process to its first answer.
    pub(crate) fn start_took(&self) -> Duration {
        match self {
            Server::Ours(process) => process.start_took,
            Server::Theirs(process) => process.start_took,
        }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Server::Ours(process) => process.pid(),
            Server::Theirs(process) => process.child.id(),
        }
    }

    /// What it uses, with all its descendants.
    pub(crate) fn usage(&self) -> Outcome<ProcessUsage> {
        let mut sum = ProcessUsage::read(self.pid())?;
        for pid in descendants(self.pid()) {
            // A child may end between the listing and the look.
            if let Ok(usage) = ProcessUsage::read(pid) {
                sum.rss_bytes += usage.rss_bytes;
                sum.cpu += usage.cpu;
            }
        }
        Ok(sum)
    }

    /// Stops it where it stands, with all its descendants; only a kill comes after it.
    pub(crate) fn freeze(&self) {
        signal(self.pid(), Signal::STOP);
        for pid in descendants(self.pid()) {
            signal(pid, Signal::STOP);
        }
    }

    /// `kill -9`, and it is gone.
    pub(crate) fn kill_nine(self) -> Outcome {
        match self {
            Server::Ours(process) => process.kill_nine(),
            Server::Theirs(process) => {
                drop(process);
                Ok(())
            }
        }
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        let descendants = descendants(self.child.id());
        end(&mut self.child);
        for pid in descendants {
            signal(pid, Signal::KILL);
        }
    }
}

impl Drop for Companions {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    // Both fail only when the child has been waited for already, which is what we want.
    let _ = child.kill();
    let _ = child.wait();
}

/// Signals a process; one that has ended already needs none.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// All processes below one.
fn descendants(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The parent is the second field after the name, which may hold spaces and parentheses.
        let parent: Option<u32> =
            stat.rsplit_once(')').and_then(|(_, after)| after.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut looked = 0;
    while looked < found.len() {
        let above = found[looked];
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        looked += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_goes_with_its_descendants() {
        let child = Command::new("sh").args(["-c", "sleep 60 & sleep 60 & wait"]).spawn().unwrap();
        let process = PeerProcess { child, _companions: Companions::default(), start_took: Duration::ZERO };
        let pid = process.child.id();
        while descendants(pid).len() < 2 {
            std::thread::sleep(LOOK);
        }
        let below = descendants(pid);
        drop(process);
        let is_there = |pid: &u32| {
            // A killed process nobody has waited for is a zombie until its new parent looks.
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
        };
        while below.iter().any(is_there) {
            std::thread::sleep(LOOK);
        }
    }
}

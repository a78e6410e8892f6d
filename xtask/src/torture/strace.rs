//! Faults of system calls, put into a running broker with strace.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::failed::{Failed, Outcome, While};

/// A strace that has hold of a broker. Dropping it lets go.
pub(super) struct Strace(Child);

/// Why there is none here; `None` where there is one.
pub(super) fn missing() -> Option<String> {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!found.is_ok_and(|status| status.success())).then(|| "strace is not installed".to_owned())
}

impl Strace {
    /// From now on this happens to every `fdatasync` of the process, in words of strace: `error=EIO`, `delay_enter=500000`.
    pub(super) fn inject(pid: u32, what: &str) -> Outcome<Strace> {
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=fdatasync", "-e", &format!("inject=fdatasync:{what}")]);
        command
            .args(["-o", "/dev/null", "-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().when("starting strace")?;
        let stderr = child.stderr.take().ok_or_else(|| Failed::new("strace has no standard error"))?;
        let strace = Strace(child);
        let mut lines = BufReader::new(stderr);
        let mut said = String::new();
        while !said.contains("attached") {
            if lines.read_line(&mut said).when("reading what strace says")? == 0 {
                return Err(Failed::new(format!("strace cannot attach: {said}")));
            }
        }
        // It says more when threads come and go: nobody may wait for it to be read.
        std::thread::spawn(move || lines.lines().for_each(drop));
        Ok(strace)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGTERM, so that it lets go of the broker; it fails only when it has ended already.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

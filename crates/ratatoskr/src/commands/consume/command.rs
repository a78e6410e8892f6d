//! One command through `sh -c`: the payload goes in, standard error passes through and its last line is kept.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

/// Bytes of the last line that are kept; the broker takes a reason of 1,024.
const LAST_LINE_BYTES_MAX: usize = 900;
/// Bytes of a value that the environment takes; the system allows 128 KiB with the name.
const VALUE_BYTES_MAX: usize = 120 << 10;

/// How a command has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` if a signal ended it.
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    /// The last line on its standard error that was not empty.
    pub(super) last_line: String,
}

/// Runs a command to its end. Blocks. An error says that it could not be started or waited for.
pub(super) fn run_command(
    command: &str,
    facts: &[(&'static str, String)],
    payload: &[u8],
) -> io::Result<Ended> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in facts {
        // The environment has no place for a NUL, nor for very much; the payload has.
        if value.len() <= VALUE_BYTES_MAX {
            shell.env(name, value.replace('\0', ""));
        } else {
            shell.env_remove(name);
        }
    }
    let mut child = shell.spawn()?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let stderr = child.stderr.take().expect("it was asked for");
    let last_line = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command need not read its input.
            let _ = stdin.write_all(payload);
        });
        pass_through(BufReader::new(stderr))
    });
    let status = child.wait()?;
    Ok(Ended { exit_code: status.code(), signal: status.signal(), last_line })
}

/// Copies lines to our own standard error; gives the last one that was not empty.
fn pass_through(mut lines: impl io::BufRead) -> String {
    let (mut line, mut last) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let mut piece = io::Read::take(&mut lines, LAST_LINE_BYTES_MAX as u64);
        if !piece.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            return String::from_utf8_lossy(&last).trim().to_owned();
        }
        // Nobody reads it: then nobody needs to.
        let _ = io::stderr().write_all(&line);
        if !line.trim_ascii().is_empty() {
            last.clone_from(&line);
        }
    }
}

impl Ended {
    /// Why the message failed, for people to read.
    pub(super) fn reason(&self) -> String {
        let how = match (self.exit_code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended without a code".to_owned(),
        };
        if self.last_line.is_empty() { how } else { format!("{how}: {}", self.last_line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_goes_in_and_the_last_line_of_complaint_comes_out() {
        let facts = [("RATATOSKR_KEY", "k\0ey".to_owned())];
        let command = r#"test "$(cat)" = hello || exit 1; echo first >&2; echo "key $RATATOSKR_KEY" >&2; echo >&2; exit 7"#;
        let ended = run_command(command, &facts, b"hello").unwrap();
        assert_eq!(ended.reason(), "exit code 7: key key");
    }

    #[test]
    fn a_command_that_reads_nothing_and_one_that_is_killed_are_understood() {
        let ended = run_command("exit 0", &[], &vec![b'x'; 1 << 20]).unwrap();
        assert_eq!((ended.exit_code, ended.reason().as_str()), (Some(0), "exit code 0"));
        let ended = run_command("kill -9 $$", &[], b"").unwrap();
        assert_eq!((ended.exit_code, ended.reason().as_str()), (None, "ended by signal 9"));
    }

    #[test]
    fn what_the_environment_cannot_hold_is_left_out() {
        let facts = [("RATATOSKR_METADATA", "x".repeat(1 << 20))];
        let ended = run_command("test -z \"$RATATOSKR_METADATA\"", &facts, b"").unwrap();
        assert_eq!(ended.exit_code, Some(0));
    }
}

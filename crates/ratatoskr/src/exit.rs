//! How the program ends: the exit codes, and failures on their way to them.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use ratatoskr_client::{ClientError, Code};
use ratatoskr_server::config::ConfigError;

/// The exit codes. `docs/cli.md` and `--help` name the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something else went wrong: a file, the terminal, the broker's own failure.
    Failure = 1,
    /// The command line or the configuration is wrong; nothing was tried. Clap ends with the same.
    Usage = 2,
    /// The topic or subscription does not exist.
    NotFound = 3,
    /// The broker refused: a value out of range, a topic that exists already.
    Refused = 4,
    /// No broker answers, or it cannot do it now; the same command can succeed later.
    Unavailable = 5,
}

/// The table of exit codes at the end of `--help`.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done
  1  something else went wrong: a file, the terminal, the broker itself
  2  the command line or the configuration is wrong; nothing was tried
  3  the topic or subscription does not exist
  4  the broker refused: a value out of range, a topic that exists already
  5  no broker answers, or it cannot do it now; try again later";

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// What happened and what to do, for a person; `None` for an output that nobody reads any more.
    message: Option<String>,
}

/// What commands return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: Some(message.into()) }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// A failure of the file or stream named first.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Failure {
        Failure::new(Exit::Failure, format!("{what}: {error}"))
    }

    /// The same failure with one more line for the reader.
    pub(crate) fn with_line(mut self, line: &str) -> Failure {
        if let Some(message) = &mut self.message {
            message.push('\n');
            message.push_str(line);
        }
        self
    }

    /// Tells the person, and gives the code to end with.
    pub(crate) fn report(self) -> ExitCode {
        let Some(message) = self.message else { return ExitCode::SUCCESS };
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        anstream::eprintln!("{red}error:{red:#} {message}");
        ExitCode::from(self.exit as u8)
    }
}

/// The code for an error of the broker's.
pub(crate) fn exit_of(error: &ClientError) -> Exit {
    match error.code() {
        Code::NotFound => Exit::NotFound,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
        _ if error.is_retryable() => Exit::Unavailable,
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::PermissionDenied
        | Code::Unauthenticated => Exit::Refused,
        _ => Exit::Failure,
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::new(exit_of(&error), error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::usage(error.to_string())
    }
}

/// Failures to write to standard output. `| head` has read enough: that is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Failure, message: None };
        }
        Failure::io("standard output cannot be written", &error)
    }
}

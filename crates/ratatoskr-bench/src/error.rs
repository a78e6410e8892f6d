//! [`BenchError`]: why a measurement did not come about.

use std::fmt;

/// Why a measurement did not come about. A promise that was missed is no error: it stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The arguments do not fit together; nothing was tried. Fix them as the message says.
    #[error("{0}")]
    Usage(String),
    /// No broker answers at the address. Start one, or leave `--server` out.
    #[error("no broker answers at {address}: {reason}")]
    Unavailable {
        /// Host and port.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// The run broke off; its figures would mean nothing. The message says what broke.
    #[error("{0}")]
    Failed(String),
}

/// What everything in this crate returns.
pub(crate) type Outcome<T = ()> = Result<T, BenchError>;

/// Makes an error of a cause: `.map_err(during("reading /proc/1/stat"))`.
pub(crate) fn during<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> BenchError {
    move |cause| BenchError::Failed(format!("{what}: {cause}"))
}

/// An error that is a sentence.
pub(crate) fn failed(message: impl Into<String>) -> BenchError {
    BenchError::Failed(message.into())
}

impl From<tonic::Status> for BenchError {
    fn from(status: tonic::Status) -> BenchError {
        BenchError::Failed(format!("the broker refused ({:?}): {}", status.code(), status.message()))
    }
}

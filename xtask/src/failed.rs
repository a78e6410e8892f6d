//! What a chore ends with when it does not succeed: one sentence for the person who ran it.

use std::fmt;

/// A chore's result.
pub(crate) type Outcome<T = ()> = Result<T, Failed>;

/// Why a chore stopped, as a sentence that says what to do.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl Failed {
    pub(crate) fn new(sentence: impl Into<String>) -> Failed {
        Failed(sentence.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<tonic::Status> for Failed {
    fn from(status: tonic::Status) -> Failed {
        Failed(format!("the broker answered {:?}: {}", status.code(), status.message()))
    }
}

/// Says what was being done when something outside went wrong.
pub(crate) trait While<T> {
    /// Turns the error into a sentence: `doing: error`.
    fn when(self, doing: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> While<T> for Result<T, E> {
    fn when(self, doing: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failed(format!("{doing}: {error}")))
    }
}

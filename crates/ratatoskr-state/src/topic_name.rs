//! [`TopicName`]: a name that has been checked once, at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::TOPIC_NAME_BYTES_MAX;
use crate::quoted::quoted;

/// A valid topic name: 1 to 255 bytes of ASCII letters, digits, `.`, `_` and `-`. Cheap to clone.
///
/// ```
/// use ratatoskr_state::TopicName;
/// assert!(TopicName::parse("orders.eu-1").is_ok());
/// let error = TopicName::parse("a b").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "topic name \"a b\" has ' ' at byte 1; allowed are letters, digits, '.', '_' and '-', 1 to 255 bytes"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No text at all.
    #[error(
        "topic name is empty; it takes 1 to {TOPIC_NAME_BYTES_MAX} bytes of letters, digits, '.', '_' and '-'"
    )]
    Empty,
    /// More bytes than a name may have.
    #[error("topic name has {bytes} bytes; at most {TOPIC_NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// How many bytes were given.
        bytes: usize,
    },
    /// A character outside the allowed set.
    #[error(
        "topic name {} has {character:?} at byte {position}; allowed are letters, digits, '.', '_' and '-', 1 to {TOPIC_NAME_BYTES_MAX} bytes",
        quoted(.name)
    )]
    InvalidCharacter {
        /// The name as given.
        name: String,
        /// The first character that is not allowed.
        character: char,
        /// Its byte position.
        position: usize,
    },
}

impl TopicName {
    /// Checks a text and makes it a name.
    pub fn parse(text: &str) -> Result<TopicName, TopicNameError> {
        if text.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(TopicNameError::TooLong { bytes: text.len() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some((position, character)) = text.char_indices().find(|&(_, c)| !allowed(c)) {
            return Err(TopicNameError::InvalidCharacter { name: text.to_owned(), character, position });
        }
        Ok(TopicName(text.into()))
    }

    /// Reads a name from the journal, where the schedule's may stand too.
    pub fn parse_stored(text: &str) -> Result<TopicName, TopicNameError> {
        if text == SCHEDULE { Ok(TopicName::schedule()) } else { TopicName::parse(text) }
    }

    /// The name of the log that holds what is not due yet. Nobody else can ask for it: it is no valid name.
    pub fn schedule() -> TopicName {
        TopicName(SCHEDULE.into())
    }

    /// True for the log of what is not due yet.
    pub fn is_schedule(&self) -> bool {
        &*self.0 == SCHEDULE
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const SCHEDULE: &str = "@schedule";

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for TopicName {
    type Err = TopicNameError;
    fn from_str(text: &str) -> Result<TopicName, TopicNameError> {
        TopicName::parse(text)
    }
}

//! [`ClientError`]: one type for all that can go wrong, made from the two ways the broker says so.
//!
//! ```text
//!   in-band refusal  `payload_too_large: payload has …` ─┐
//!   gRPC status with ErrorInfo, RetryInfo ───────────────┼─▶ code · reason · message · hint · retry after
//!   no connection at all ────────────────────────────────┘
//! ```
//!
//! The reason is the broker's own word in capitals (`TOPIC_NOT_FOUND`), the same whichever way it came.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a call did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct ClientError {
    code: Code,
    reason: String,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
}

impl ClientError {
    /// The kind of failure, as gRPC sorts them.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The exact failure in capitals, such as `TOPIC_NOT_FOUND`; empty where nobody gave one.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What happened, as one sentence for a person, without the advice.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// How long the broker asks to wait before the same call is tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same call can succeed later. A publish that is repeated may be published twice.
    pub fn is_retryable(&self) -> bool {
        self.code == Code::Unavailable || self.retry_after.is_some()
    }

    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>) -> ClientError {
        let (reason, message) = (reason.to_owned(), message.into());
        ClientError { code, reason, message, hint: None, retry_after: None }
    }

    pub(crate) fn invalid(reason: &str, message: impl Into<String>) -> ClientError {
        ClientError::new(Code::InvalidArgument, reason, message)
    }

    /// The broker broke the contract; nothing a caller did.
    pub(crate) fn protocol(message: impl Into<String>) -> ClientError {
        let mut error = ClientError::new(Code::Internal, "PROTOCOL", message);
        error.hint = Some("client and broker may be of versions that do not fit".to_owned());
        error
    }

    /// A stream that ended without a word where it should go on.
    pub(crate) fn ended(address: &str) -> ClientError {
        ClientError::new(
            Code::Unavailable,
            "STREAM_ENDED",
            format!("the broker at {address} ended the stream"),
        )
    }

    /// From a refusal in a response: a code, alone or followed by a colon and a sentence.
    pub(crate) fn refused(error: &str, subject: &str) -> ClientError {
        let (word, sentence) = match error.split_once(':') {
            Some((word, sentence)) => (word.trim(), Some(sentence.trim().to_owned())),
            None => (error.trim(), None),
        };
        let code = match word {
            "already_exists" => Code::AlreadyExists,
            "topic_not_found" | "subscription_not_found" => Code::NotFound,
            "too_many_topics" => Code::ResourceExhausted,
            "unavailable" => Code::Unavailable,
            _ => Code::InvalidArgument,
        };
        let message = sentence.unwrap_or_else(|| sentence_for(word, subject));
        ClientError::new(code, &word.to_ascii_uppercase(), message)
    }

    /// From a gRPC status. `address` is where the broker should be.
    pub(crate) fn from_status(status: &Status, address: &str) -> ClientError {
        if let Some(error) = no_connection(status.source(), address) {
            return error;
        }
        // Only what happens on our side has a source: the connection broke in the middle of an answer.
        if let (Code::Unknown | Code::Internal | Code::Unavailable, Some(cause)) =
            (status.code(), status.source())
        {
            let message = format!("the connection to {address} broke: {cause}");
            return ClientError::new(Code::Unavailable, "CONNECTION_LOST", message);
        }
        let details = status.get_error_details();
        let reason = details.error_info().map_or("", |named| named.reason.as_str());
        let mut error = ClientError::new(status.code(), reason, status.message());
        error.retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        match status.code() {
            Code::Unimplemented => error.hint = Some("the broker is older than this client".to_owned()),
            Code::DeadlineExceeded => {
                error.message = format!("the broker at {address} did not answer in time");
                error.hint =
                    Some("it may be overloaded; what was asked for may have happened or not".to_owned());
            }
            Code::Cancelled if status.message() == TIMEOUT_MESSAGE => {
                error.code = Code::DeadlineExceeded;
                error.message = format!("the broker at {address} did not answer in time");
            }
            _ if error.message.is_empty() => status.code().description().clone_into(&mut error.message),
            _ => {}
        }
        error
    }

    /// The cause below all causes.
    pub(crate) fn deepest(error: &dyn std::error::Error) -> String {
        error.source().map_or_else(|| error.to_string(), ClientError::deepest)
    }

    /// From a failure to connect.
    pub(crate) fn from_transport(error: &tonic::transport::Error, address: &str) -> ClientError {
        no_connection(Some(error), address).unwrap_or_else(|| {
            ClientError::new(Code::Unavailable, "TRANSPORT", format!("no connection to {address}: {error}"))
        })
    }
}

/// What tonic says when our own limit on a call's time has passed.
const TIMEOUT_MESSAGE: &str = "Timeout expired";

/// The failure of the transport below a status, if that is where it comes from.
fn no_connection(
    mut cause: Option<&(dyn std::error::Error + 'static)>,
    address: &str,
) -> Option<ClientError> {
    let mut transport = None;
    while let Some(error) = cause {
        if let Some(io_error) = error.downcast_ref::<io::Error>() {
            return Some(from_io(io_error, address));
        }
        if error.is::<tonic::transport::Error>() {
            transport = Some(error);
        }
        cause = error.source();
    }
    let message = format!("the connection to {address} is gone: {}", ClientError::deepest(transport?));
    Some(ClientError::new(Code::Unavailable, "CONNECTION_LOST", message))
}

fn from_io(error: &io::Error, address: &str) -> ClientError {
    let (reason, message, hint) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            "CONNECTION_REFUSED",
            format!("no broker answers at {address} (connection refused)"),
            Some("start one with `ratatoskr serve`"),
        ),
        io::ErrorKind::TimedOut => (
            "CONNECT_TIMEOUT",
            format!("no broker answers at {address} (no reaction in time)"),
            Some("check the address, and that no firewall is in between"),
        ),
        io::ErrorKind::InvalidData => (
            "TLS_FAILED",
            format!("the TLS handshake with {address} failed: {error}"),
            Some(
                "name the CA of the broker's certificate with --tls-ca, and the broker by a name in its certificate; or it speaks no TLS",
            ),
        ),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            ("CONNECTION_LOST", format!("the connection to {address} broke: {error}"), None)
        }
        _ => (
            "NO_CONNECTION",
            format!("no connection to {address}: {error}"),
            Some("check the address; `ratatoskr serve` listens on localhost:50051"),
        ),
    };
    let mut failure = ClientError::new(Code::Unavailable, reason, message);
    failure.hint = hint.map(str::to_owned);
    failure
}

/// A sentence for the refusals that come as one word.
fn sentence_for(word: &str, subject: &str) -> String {
    const NAMES: &str = "allowed are 1 to 255 bytes of letters, digits, '.', '_' and '-'";
    match word {
        "already_exists" => format!("topic {subject:?} exists already"),
        "topic_not_found" => format!("topic {subject:?} does not exist"),
        "subscription_not_found" => format!("topic {subject:?} has no subscription of this reference"),
        "empty_topic_name" | "empty_topic" => format!("the topic name is empty; {NAMES}"),
        "topic_name_too_long" | "topic_too_long" => {
            format!("the topic name has {} bytes; {NAMES}", subject.len())
        }
        "invalid_topic_name_format" | "invalid_topic_format" => {
            format!("topic name {subject:?} has a character that is not allowed; {NAMES}")
        }
        _ => format!("the broker refused: {word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn refusals_of_one_word_become_sentences() {
        let error = ClientError::refused("topic_not_found", "orders");
        assert_eq!(error.code(), Code::NotFound);
        assert_eq!(error.reason(), "TOPIC_NOT_FOUND");
        assert_eq!(error.to_string(), "topic \"orders\" does not exist");
    }

    #[test]
    fn refusals_with_a_sentence_keep_it() {
        let error = ClientError::refused("payload_too_large: payload has 3 bytes: too many", "t");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.reason(), "PAYLOAD_TOO_LARGE");
        assert_eq!(error.message(), "payload has 3 bytes: too many");
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_status_brings_its_reason_and_its_wait() {
        let mut details = ErrorDetails::with_error_info("DISK_FULL", "ratatoskr", []);
        details.set_retry_info(Some(Duration::from_secs(5)));
        let status = Status::with_error_details(Code::ResourceExhausted, "the disk is full", details);
        let error = ClientError::from_status(&status, "localhost:1");
        assert_eq!((error.reason(), error.retry_after()), ("DISK_FULL", Some(Duration::from_secs(5))));
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn a_refused_connection_says_what_to_do() {
        // Port 1 is reserved and nobody listens there.
        let error = crate::Client::connect("127.0.0.1:1").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no broker answers at 127.0.0.1:1 (connection refused); start one with `ratatoskr serve`"
        );
        let lazy = crate::Client::connect_lazy("127.0.0.1:1").unwrap();
        assert_eq!(lazy.list_topics().await.unwrap_err(), error);
    }
}

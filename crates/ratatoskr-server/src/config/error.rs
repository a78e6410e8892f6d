//! What can be wrong with a configuration. Every message names the thing, the value and the place.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::sources::Source;

/// Why there is no configuration to start with. All of it is for a person to put right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No setting has this key.
    #[error("unknown setting {key:?} ({place}); {}", advice(.nearest.as_deref()))]
    UnknownKey {
        /// What was given: a file's key or a variable's name.
        key: String,
        /// Where it was given.
        place: Source,
        /// The most similar name there is: a key in a file, a variable in the environment.
        nearest: Option<String>,
    },
    /// The value is not of the setting's kind, or out of its range.
    #[error("{key} is {value:?} ({place}): {reason}")]
    BadValue {
        /// The setting's key.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where it was given.
        place: Source,
        /// What is wrong with it and what is allowed.
        reason: String,
    },
    /// The file is no TOML.
    #[error("{}:{line}: {message}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the reader of TOML says.
        message: String,
    },
    /// The file that was asked for cannot be read.
    #[error("configuration file {} cannot be read: {reason}; give another with --config", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// A variable's value is not text.
    #[error("the value of {name} is no valid UTF-8; set it again, or unset it")]
    NotText {
        /// The variable.
        name: String,
    },
    /// An address beyond loopback, and nothing that asks callers who they are.
    #[error(
        "{key} is {address} ({place}): everyone who reaches that address could read and delete every topic; \
         listen on 127.0.0.1, ask who calls (access, or tls_client_ca) over TLS (tls_cert, tls_key), \
         or accept that with --insecure-listen"
    )]
    InsecureListen {
        /// The setting's key.
        key: &'static str,
        /// What it is.
        address: SocketAddr,
        /// Where it was given.
        place: Source,
    },
    /// An address beyond loopback, callers that are asked who they are, and answers that everybody can read.
    #[error(
        "{key} is {address} ({place}): tokens and messages would cross the network in the clear; \
         give tls_cert and tls_key, or accept that with --insecure-listen (where a mesh or proxy does TLS)"
    )]
    ClearListen {
        /// The setting's key.
        key: &'static str,
        /// What it is.
        address: SocketAddr,
        /// Where it was given.
        place: Source,
    },
    /// A setting without another that it is of no use without.
    #[error("{key} is given ({place}), and {needs} is not; give both, or neither")]
    Incomplete {
        /// The setting's key.
        key: &'static str,
        /// The key of the one that is missing.
        needs: &'static str,
        /// Where the first was given.
        place: Source,
    },
}

fn advice(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("did you mean {name}?"),
        None => "`ratatoskr config` lists all settings".to_owned(),
    }
}

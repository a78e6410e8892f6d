//! The broker's configuration: one struct, filled from one table.
//!
//! ```text
//!   default ──▶ file (TOML) ──▶ environment ──▶ flags        later ones win
//!      └────────────┴───────────────┴─────────────┘
//!               table.rs: key, kind with range, default, help, and the field it fills
//!                  └──▶ Config      └──▶ `ratatoskr config`, `--help`, docs/config.md
//! ```
//!
//! A setting is one row of [`SETTINGS`]. Its key is the file's key; the flag is the key with hyphens
//! (`--grpc-addr`), the variable the key in capitals after `RATATOSKR_` (`RATATOSKR_GRPC_ADDR`).
//!
//! Invariants:
//! - Every value is checked, those that a later source overrides as well: a mistake never waits
//!   in a file for the day the flag is taken away.
//! - An unknown key or variable is an error; so is a value out of range. Errors name the place.
//! - Nothing is read twice: a [`Config`] does not change while the broker runs.
//!
//! What this deliberately does not do: create folders, open ports, or read anything but the file.

mod amount;
mod error;
mod machine;
mod markdown;
mod names;
mod sources;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;

use ratatoskr_broker::{BrokerConfig, TopicSettings};

use crate::access::AccessRule;
use crate::clients::ClientLimits;
use crate::tls::TlsFiles;

pub use amount::{
    AmountError, bytes_in_words, duration_in_words, parse_bytes, parse_duration_ms, parse_number,
};
pub use error::ConfigError;
pub use markdown::markdown;
pub use sources::{Effective, FILE_DEFAULT, Given, Loaded, Source, load};
pub use table::{ENVIRONMENT_PREFIX, Kind, SETTINGS, Setting, Value, nearest};

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Everything that can be set. [`load`] fills it; every field is one row of [`SETTINGS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the broker keeps its files.
    pub data_dir: PathBuf,
    /// Where gRPC listens.
    pub grpc_addr: SocketAddr,
    /// Where HTTP listens.
    pub http_addr: SocketAddr,
    /// Names by which the HTTP listener may be asked for.
    pub http_hosts: Vec<String>,
    /// Allows addresses beyond loopback although nobody is asked who they are.
    pub insecure_listen: bool,
    /// The policy file that says who may do what; without one nobody is asked.
    pub access: Option<PathBuf>,
    /// Where it is written down who did what and what was denied; without one, the log.
    pub audit_log: Option<PathBuf>,
    /// The certificate of both doors; without one they speak no TLS.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// CAs whose client certificates are believed.
    pub tls_client_ca: Option<PathBuf>,
    /// Threads that serve connections; 0 means one per core.
    pub threads: usize,
    /// Bytes of a topic's segment file before the next one is begun.
    pub segment_bytes: u64,
    /// Bytes of one journal file.
    pub journal_file_bytes: u64,
    /// Bytes of memory the broker may use.
    pub memory: u64,
    /// Most connections to the gRPC listener; `None`: as many as file descriptors allow.
    pub connections_max: Option<u64>,
    /// What one client may have.
    pub client_limits: ClientLimits,
    /// What a topic gets that is created without settings of its own.
    pub topic_defaults: TopicSettings,
    /// The least important level that is logged: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: &'static str,
    /// How lines of the log are written.
    pub log_format: LogFormat,
}

impl Config {
    /// A struct for the table to fill: [`load`] overwrites every field.
    fn unfilled() -> Config {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Config {
            data_dir: PathBuf::new(),
            grpc_addr: nowhere,
            http_addr: nowhere,
            http_hosts: Vec::new(),
            insecure_listen: false,
            access: None,
            audit_log: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            threads: 0,
            segment_bytes: 0,
            journal_file_bytes: 0,
            memory: 0,
            connections_max: None,
            client_limits: ClientLimits::default(),
            topic_defaults: TopicSettings::default(),
            log_level: "",
            log_format: LogFormat::Text,
        }
    }

    /// How callers are told apart.
    pub fn access_rule(&self) -> AccessRule {
        match (&self.access, &self.tls_client_ca) {
            (Some(policy), _) => AccessRule::Policy(policy.clone()),
            (None, Some(_)) => AccessRule::Certificates,
            (None, None) => AccessRule::Open,
        }
    }

    /// The files for TLS, if it is wanted. [`load`] has seen to it that there is a key where there is a certificate.
    pub fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(TlsFiles { cert, key, client_ca: self.tls_client_ca.clone() })
    }

    /// What the broker itself needs of it.
    pub fn broker(&self) -> BrokerConfig {
        BrokerConfig {
            topic_defaults: self.topic_defaults.clone(),
            segment_bytes: self.segment_bytes,
            journal_file_bytes: self.journal_file_bytes,
            memory: self.memory,
            ..BrokerConfig::new(&self.data_dir)
        }
    }
}

//! The table: every setting with its kind, range, default and help, and the field it fills.
//!
//! Nothing about a setting stands anywhere else: flags, variables, file keys, `ratatoskr config`
//! and `docs/config.md` are all read off these rows. A test fills a [`Config`] from the
//! defaults, so a row whose kind and field do not fit cannot stay unseen.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ratatoskr_broker::{Durability, MEMORY_BYTES_MIN};

use super::amount::{bytes_in_words, duration_in_words, parse_bytes, parse_duration_ms, parse_number};
use super::machine::memory_auto;
use super::names::parse_names;
use super::{Config, LogFormat};
use crate::limits::WORKERS_MAX;

/// What every variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "RATATOSKR_";
/// The word for "no bound of this kind".
const NONE: &str = "none";
/// The word for "what suits the machine".
const AUTO: &str = "auto";
/// The highest segment size: positions within a segment have 32 bits on disk.
const SEGMENT_BYTES_MAX: u64 = 2 << 30;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file, and the root of its flag and variable.
    pub key: &'static str,
    /// What values look like.
    pub kind: Kind,
    /// The value when nobody gives one, written as a person would.
    pub default: &'static str,
    /// What it is for, in a sentence or two.
    pub help: &'static str,
    /// Puts a value of the row's kind where it belongs.
    pub(super) fill: fn(&mut Config, Value),
}

/// What a setting's values look like, with their range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A path.
    Path,
    /// A file, or `none`.
    File,
    /// An IP address and port; port 0 lets the system choose.
    Address,
    /// Names with commas between them, or `none`.
    Names,
    /// Yes or no.
    Switch,
    /// A count.
    Number(RangeInclusive<u64>),
    /// A size in bytes.
    Bytes(RangeInclusive<u64>),
    /// A size in bytes, or `auto` for what suits the machine.
    BytesOrAuto(RangeInclusive<u64>),
    /// A count, or `none` for no bound.
    NumberBound,
    /// A size in bytes, or `none` for no bound.
    BytesBound,
    /// A duration in milliseconds, or `none` for no bound.
    DurationBound,
    /// One of a few words.
    Word(&'static [&'static str]),
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::File`].
    File(Option<PathBuf>),
    /// Of [`Kind::Address`].
    Address(SocketAddr),
    /// Of [`Kind::Names`].
    Names(Vec<String>),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of the numeric kinds; `None` is "no bound", or "what suits the machine".
    Amount(Option<u64>),
    /// Of [`Kind::Word`].
    Word(&'static str),
}

/// Every setting, in the order people want to read them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "data_dir",
        kind: Kind::Path,
        default: "./data",
        help: "Folder of the journal and the topics' segments. Created if missing; one broker at a time may use it.",
        fill: |config, value| config.data_dir = value.path(),
    },
    Setting {
        key: "grpc_addr",
        kind: Kind::Address,
        default: "127.0.0.1:50051",
        help: "Where gRPC listens. Port 0 lets the system choose; the banner shows the choice.",
        fill: |config, value| config.grpc_addr = value.address(),
    },
    Setting {
        key: "http_addr",
        kind: Kind::Address,
        default: "127.0.0.1:8080",
        help: "Where HTTP listens: /healthz, /readyz, /metrics, /version.",
        fill: |config, value| config.http_addr = value.address(),
    },
    Setting {
        key: "http_hosts",
        kind: Kind::Names,
        default: NONE,
        help: "Names by which HTTP may be asked for (`Host`), beside addresses and localhost: a proxy's, say. With none, HTTP beyond \
               loopback goes by any name.",
        fill: |config, value| config.http_hosts = value.names(),
    },
    Setting {
        key: "insecure_listen",
        kind: Kind::Switch,
        default: "false",
        help: "Allows addresses beyond loopback although callers are not asked who they are, or connections are not \
               encrypted.",
        fill: |config, value| config.insecure_listen = value.switch(),
    },
    Setting {
        key: "access",
        kind: Kind::File,
        default: NONE,
        help: "The policy file that says who may do what (docs/access.md). With none, nobody is asked who they are.",
        fill: |config, value| config.access = value.file(),
    },
    Setting {
        key: "audit_log",
        kind: Kind::File,
        default: NONE,
        help: "Where it is written down who changed what and what was denied, one JSON object a line. With none, it goes to \
               the log.",
        fill: |config, value| config.audit_log = value.file(),
    },
    Setting {
        key: "tls_cert",
        kind: Kind::File,
        default: NONE,
        help: "The certificate of both doors, and those between it and its root, PEM. With none, there is no TLS.",
        fill: |config, value| config.tls_cert = value.file(),
    },
    Setting {
        key: "tls_key",
        kind: Kind::File,
        default: NONE,
        help: "The private key of that certificate, PEM.",
        fill: |config, value| config.tls_key = value.file(),
    },
    Setting {
        key: "tls_client_ca",
        kind: Kind::File,
        default: NONE,
        help: "CAs whose client certificates are believed, PEM. Without a policy file, whoever has one may do everything, \
               and nobody else anything.",
        fill: |config, value| config.tls_client_ca = value.file(),
    },
    Setting {
        key: "threads",
        kind: Kind::Number(0..=WORKERS_MAX as u64),
        default: "0",
        help: "Threads that serve connections; 0 means one per core.",
        fill: |config, value| config.threads = value.number() as usize,
    },
    Setting {
        key: "retention_age",
        kind: Kind::DurationBound,
        default: "7d",
        help: "Messages older than this go. For topics created without a setting of their own.",
        fill: |config, value| config.topic_defaults.retention_age_ms = value.bound(),
    },
    Setting {
        key: "retention_bytes",
        kind: Kind::BytesBound,
        default: NONE,
        help: "The oldest messages go while a topic holds more bytes than this. For topics created without \
               a setting of their own.",
        fill: |config, value| config.topic_defaults.retention_bytes = value.bound(),
    },
    Setting {
        key: "retention_messages",
        kind: Kind::NumberBound,
        default: NONE,
        help: "The oldest messages go while a topic holds more messages than this. For topics created without \
               a setting of their own.",
        fill: |config, value| config.topic_defaults.retention_messages = value.bound(),
    },
    Setting {
        key: "durability",
        kind: Kind::Word(&["fsync", "written", "memory"]),
        default: "fsync",
        help: "What an acknowledgement stands for: on disk (fsync), with the operating system (written), or in \
               the broker's memory only (memory). For topics created without a setting of their own.",
        fill: |config, value| config.topic_defaults.durability = durability(value.word()),
    },
    Setting {
        key: "subscribers_max",
        kind: Kind::Number(1..=u32::MAX as u64),
        default: "100000",
        help: "Subscribers that may follow a topic at a time. For topics created without a setting of their own.",
        fill: |config, value| config.topic_defaults.subscribers_max = value.number() as u32,
    },
    Setting {
        key: "message_bytes_max",
        kind: Kind::Bytes(1..=ratatoskr_broker::limits::MESSAGE_BYTES_MAX as u64),
        default: "1MiB",
        help: "Bytes of one message's payload. For topics created without a setting of their own.",
        fill: |config, value| config.topic_defaults.message_bytes_max = value.number() as u32,
    },
    Setting {
        key: "segment_bytes",
        kind: Kind::Bytes(1 << 20..=SEGMENT_BYTES_MAX),
        default: "100MiB",
        help: "Bytes of a topic's segment file before the next one is begun. Retention removes whole segments.",
        fill: |config, value| config.segment_bytes = value.number(),
    },
    Setting {
        key: "journal_file_bytes",
        kind: Kind::Bytes(32 << 20..=1 << 30),
        default: "32MiB",
        help: "Bytes of one journal file. More means fewer checkpoints and a longer recovery.",
        fill: |config, value| config.journal_file_bytes = value.number(),
    },
    Setting {
        key: "memory",
        kind: Kind::BytesOrAuto(MEMORY_BYTES_MIN..=1 << 40),
        default: AUTO,
        help: "Memory the broker may use, shared out by purpose (docs/limits.md); what would need more waits, or is refused. `auto` is a \
               quarter of what the machine or its container has, at most 1GiB.",
        fill: |config, value| config.memory = value.bound().unwrap_or_else(memory_auto),
    },
    Setting {
        key: "client_memory_max",
        kind: Kind::BytesOrAuto(1 << 20..=1 << 40),
        default: AUTO,
        help: "Memory held for the connections from one address: requests that have not come wholly, answers that wait, open calls. \
               `auto` is half of what all callers share.",
        fill: |config, value| config.client_limits.memory_max = value.bound(),
    },
    Setting {
        key: "connections_max",
        kind: Kind::NumberBound,
        default: NONE,
        help: "Connections to the gRPC listener, of all clients together. Never more than the limit of file descriptors allows \
               (`LimitNOFILE=` in a systemd unit, `ulimit -n`) once the log, the HTTP listener and the broker itself have theirs \
               (docs/limits.md).",
        fill: |config, value| config.connections_max = value.bound(),
    },
    Setting {
        key: "client_connections_max",
        kind: Kind::NumberBound,
        default: NONE,
        help: "Connections that one address may have open.",
        fill: |config, value| config.client_limits.connections_max = value.bound(),
    },
    Setting {
        key: "client_calls_max",
        kind: Kind::NumberBound,
        default: NONE,
        help: "Calls and streams that one address may have open, over all its connections.",
        fill: |config, value| config.client_limits.calls_max = value.bound(),
    },
    Setting {
        key: "client_calls_per_second",
        kind: Kind::NumberBound,
        default: NONE,
        help: "Calls, and steps of publish streams, that one address may begin in a second.",
        fill: |config, value| config.client_limits.calls_per_second = value.bound(),
    },
    Setting {
        key: "log_level",
        kind: Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        default: "info",
        help: "The least important level that is logged.",
        fill: |config, value| config.log_level = value.word(),
    },
    Setting {
        key: "log_format",
        kind: Kind::Word(&["text", "json"]),
        default: "text",
        help: "How the log is written to standard error: text for people, json for machines.",
        fill: |config, value| {
            config.log_format = if value.word() == "json" { LogFormat::Json } else { LogFormat::Text };
        },
    },
];

impl Setting {
    /// The flag without its dashes: `grpc-addr`.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable: `RATATOSKR_GRPC_ADDR`.
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// The setting of a key.
    pub fn of_key(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

impl Kind {
    /// Checks a text and makes it a value; the error says what is wrong and what is allowed.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Path if text.is_empty() => Err("a path cannot be empty".to_owned()),
            Kind::Path => Ok(Value::Path(PathBuf::from(text))),
            Kind::File if text.is_empty() => {
                Err("a path cannot be empty; `none` stands for no file".to_owned())
            }
            Kind::File => Ok(Value::File((text != NONE).then(|| PathBuf::from(text)))),
            Kind::Address => parse_address(text).map(Value::Address),
            Kind::Names if text == NONE => Ok(Value::Names(Vec::new())),
            Kind::Names => parse_names(text).map(Value::Names),
            Kind::Switch => parse_switch(text).map(Value::Switch),
            Kind::Number(range) => in_range(parse_number(text), range, self).map(|n| Value::Amount(Some(n))),
            Kind::Bytes(range) => in_range(parse_bytes(text), range, self).map(|n| Value::Amount(Some(n))),
            Kind::NumberBound | Kind::BytesBound | Kind::DurationBound if text == NONE => {
                Ok(Value::Amount(None))
            }
            Kind::BytesOrAuto(_) if text == AUTO => Ok(Value::Amount(None)),
            Kind::BytesOrAuto(range) => {
                in_range(parse_bytes(text), range, self).map(|n| Value::Amount(Some(n)))
            }
            Kind::NumberBound => {
                in_range(parse_number(text), &(1..=u64::MAX), self).map(|n| Value::Amount(Some(n)))
            }
            Kind::BytesBound => {
                in_range(parse_bytes(text), &(1..=u64::MAX), self).map(|n| Value::Amount(Some(n)))
            }
            Kind::DurationBound => {
                in_range(parse_duration_ms(text), &(1..=u64::MAX), self).map(|n| Value::Amount(Some(n)))
            }
            Kind::Word(words) => match words.iter().find(|word| **word == text) {
                Some(word) => Ok(Value::Word(word)),
                None => Err(match nearest(text, words.iter().copied()) {
                    Some(word) => format!("did you mean {word}? allowed are {}", words.join(", ")),
                    None => format!("allowed are {}", words.join(", ")),
                }),
            },
        }
    }

    /// What is allowed, for documentation and errors: `1MiB to 2GiB`.
    pub fn allowed(&self) -> String {
        match self {
            Kind::Path => "a path".to_owned(),
            Kind::File => "a path, or none".to_owned(),
            Kind::Address => "IP:PORT or localhost:PORT".to_owned(),
            Kind::Names => "NAME,NAME without ports, or none".to_owned(),
            Kind::Switch => "true or false".to_owned(),
            Kind::Number(range) => format!("{} to {}", range.start(), range.end()),
            Kind::Bytes(range) => {
                format!("{} to {}", bytes_in_words(*range.start()), bytes_in_words(*range.end()))
            }
            Kind::BytesOrAuto(range) => {
                format!("{} to {}, or {AUTO}", bytes_in_words(*range.start()), bytes_in_words(*range.end()))
            }
            Kind::NumberBound => "1 or more, or none".to_owned(),
            Kind::BytesBound => "1 byte or more, or none".to_owned(),
            Kind::DurationBound => "1ms or more, or none".to_owned(),
            Kind::Word(words) => words.join(", "),
        }
    }

    /// What stands for the value in help texts: `SIZE`.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Kind::Path => "DIR",
            Kind::File => "FILE",
            Kind::Address => "ADDR",
            Kind::Names => "NAMES",
            Kind::Switch => "BOOL",
            Kind::Number(_) | Kind::NumberBound => "N",
            Kind::Bytes(_) | Kind::BytesOrAuto(_) | Kind::BytesBound => "SIZE",
            Kind::DurationBound => "DURATION",
            Kind::Word(_) => "WORD",
        }
    }

    /// A value of this kind as a person would write it.
    pub fn show(&self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Path(path)) => path.display().to_string(),
            (_, Value::File(file)) => {
                file.as_ref().map_or(NONE.to_owned(), |file| file.display().to_string())
            }
            (_, Value::Names(names)) if names.is_empty() => NONE.to_owned(),
            (_, Value::Names(names)) => names.join(","),
            (_, Value::Address(address)) => address.to_string(),
            (_, Value::Switch(on)) => on.to_string(),
            (_, Value::Word(word)) => (*word).to_owned(),
            (Kind::BytesOrAuto(_), Value::Amount(None)) => AUTO.to_owned(),
            (_, Value::Amount(None)) => NONE.to_owned(),
            (Kind::Bytes(_) | Kind::BytesOrAuto(_) | Kind::BytesBound, Value::Amount(Some(bytes))) => {
                bytes_in_words(*bytes)
            }
            (Kind::DurationBound, Value::Amount(Some(duration_ms))) => duration_in_words(*duration_ms),
            (_, Value::Amount(Some(number))) => number.to_string(),
        }
    }
}

impl Value {
    fn path(self) -> PathBuf {
        let Value::Path(path) = self else { unreachable!("a row of Kind::Path gets a path") };
        path
    }

    fn file(self) -> Option<PathBuf> {
        let Value::File(file) = self else { unreachable!("a row of Kind::File gets a file") };
        file
    }

    fn names(self) -> Vec<String> {
        let Value::Names(names) = self else { unreachable!("a row of Kind::Names gets names") };
        names
    }

    fn address(self) -> SocketAddr {
        let Value::Address(address) = self else { unreachable!("a row of Kind::Address gets an address") };
        address
    }

    fn switch(self) -> bool {
        let Value::Switch(on) = self else { unreachable!("a row of Kind::Switch gets a switch") };
        on
    }

    fn bound(self) -> Option<u64> {
        let Value::Amount(bound) = self else { unreachable!("a numeric row gets an amount") };
        bound
    }

    fn number(self) -> u64 {
        self.bound().expect("only rows of a bound kind take `none`")
    }

    fn word(self) -> &'static str {
        let Value::Word(word) = self else { unreachable!("a row of Kind::Word gets a word") };
        word
    }
}

/// The most similar of some names, if one is similar at all.
pub fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(&given.to_ascii_lowercase(), &name.to_ascii_lowercase());
    names
        .map(|name| (likeness(name), name))
        // Below this, names share little more than a few letters.
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse()
    {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| "expected IP:PORT, such as 127.0.0.1:50051 or [::1]:50051".to_owned())
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn in_range(
    parsed: Result<u64, super::AmountError>,
    range: &RangeInclusive<u64>,
    kind: &Kind,
) -> Result<u64, String> {
    let number = parsed.map_err(|error| error.to_string())?;
    if range.contains(&number) { Ok(number) } else { Err(format!("allowed are {}", kind.allowed())) }
}

fn durability(word: &str) -> Durability {
    match word {
        "memory" => Durability::Memory,
        "written" => Durability::Written,
        _ => Durability::Fsync,
    }
}

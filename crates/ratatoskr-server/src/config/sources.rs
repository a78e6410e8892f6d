//! Reads settings from where they are given, and remembers where each came from.
//!
//! ```text
//!   file: every key checked ─┐
//!   environment: every name ─┼─▶ (setting, text, source) ─▶ Kind::parse ─▶ last one wins ─▶ Config
//!   flags                   ─┘
//! ```
//!
//! The environment and the flags come in as plain lists, so that tests give their own.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{ENVIRONMENT_PREFIX, SETTINGS, Setting, Value, nearest};
use super::{Config, ConfigError};
use crate::access::AccessRule;

/// The file that is read when it is there and no other is asked for.
pub const FILE_DEFAULT: &str = "ratatoskr.toml";
/// The variable that names the file, as `--config` does.
const CONFIG_VARIABLE: &str = "RATATOSKR_CONFIG";
/// The variables the command line's client side reads.
const CLIENT_VARIABLES: [&str; 6] = [
    "RATATOSKR_SERVER",
    "RATATOSKR_TOKEN",
    "RATATOSKR_TOKEN_FILE",
    "RATATOSKR_TLS_CA",
    "RATATOSKR_CLIENT_CERT",
    "RATATOSKR_CLIENT_KEY",
];

/// What was given, before anything is checked.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The file asked for; it has to exist. `None`: [`FILE_DEFAULT`] if it is there.
    pub file: Option<PathBuf>,
    /// The process's environment; names that do not begin with `RATATOSKR_` are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// Keys and values of the flags.
    pub flags: Vec<(&'static str, String)>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave one.
    Default,
    /// A line of the file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, without its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Variable(name) => f.write_str(name),
            Source::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// A setting's value in force.
#[derive(Debug)]
pub struct Effective {
    /// The row of the table.
    pub setting: &'static Setting,
    /// Its value.
    pub value: Value,
    /// Where that came from.
    pub source: Source,
}

impl Effective {
    /// The value as a person would write it.
    pub fn shown(&self) -> String {
        self.setting.kind.show(&self.value)
    }
}

/// A configuration that has been checked.
#[derive(Debug)]
pub struct Loaded {
    /// The values, typed.
    pub config: Config,
    /// Every setting's value and source, in the order of the table.
    pub settings: Vec<Effective>,
}

/// One value as it was given.
struct Entry {
    setting: &'static Setting,
    text: String,
    source: Source,
}

/// Reads every source, checks every value, and fills the configuration.
pub fn load(given: &Given) -> Result<Loaded, ConfigError> {
    let (config_variable, from_environment) = read_environment(&given.environment)?;
    let mut entries = match file_path(given.file.clone().or(config_variable)) {
        Some(path) => read_file(&path)?,
        None => Vec::new(),
    };
    entries.extend(from_environment);
    for (key, text) in &given.flags {
        let setting = Setting::of_key(key).expect("flags are made from the table");
        entries.push(Entry { setting, text: text.clone(), source: Source::Flag(setting.flag()) });
    }
    let loaded = fill(entries)?;
    refuse_half_of_tls(&loaded)?;
    refuse_insecure_listen(&loaded)?;
    Ok(loaded)
}

fn file_path(asked_for: Option<PathBuf>) -> Option<PathBuf> {
    asked_for.or_else(|| Some(PathBuf::from(FILE_DEFAULT)).filter(|path| path.exists()))
}

/// Puts defaults and entries in their fields; later entries win.
fn fill(entries: Vec<Entry>) -> Result<Loaded, ConfigError> {
    let mut settings = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let value = setting.kind.parse(setting.default).expect("defaults are of their kind and in range");
        settings.push(Effective { setting, value, source: Source::Default });
    }
    for Entry { setting, text, source } in entries {
        let value = setting.kind.parse(&text).map_err(|reason| ConfigError::BadValue {
            key: setting.key,
            value: text,
            place: source.clone(),
            reason,
        })?;
        let row = settings.iter_mut().find(|effective| effective.setting.key == setting.key);
        *row.expect("every setting has its row") = Effective { setting, value, source };
    }
    let mut config = Config::unfilled();
    for effective in &settings {
        (effective.setting.fill)(&mut config, effective.value.clone());
    }
    Ok(Loaded { config, settings })
}

/// The file named by the environment, and the settings it holds.
fn read_environment(
    variables: &[(OsString, OsString)],
) -> Result<(Option<PathBuf>, Vec<Entry>), ConfigError> {
    let mut config_variable = None;
    let mut entries = Vec::new();
    for (name, text) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENVIRONMENT_PREFIX)) else { continue };
        if CLIENT_VARIABLES.contains(&name) {
            continue;
        }
        if name == CONFIG_VARIABLE {
            config_variable = Some(PathBuf::from(text));
            continue;
        }
        let source = Source::Variable(name.to_owned());
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            return Err(ConfigError::UnknownKey {
                key: name.to_owned(),
                nearest: nearest_setting(&name[ENVIRONMENT_PREFIX.len()..]).map(Setting::variable),
                place: source,
            });
        };
        let text = text.to_str().ok_or_else(|| ConfigError::NotText { name: name.to_owned() })?;
        entries.push(Entry { setting, text: text.to_owned(), source });
    }
    Ok((config_variable, entries))
}

fn read_file(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
    let line_of = |position: usize| text[..position].matches('\n').count() + 1;
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Malformed {
        path: path.to_owned(),
        line: line_of(error.span().map_or(0, |span| span.start.min(text.len()))),
        message: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let source = Source::File { path: path.to_owned(), line: line_of(key.span().start) };
        let key = key.get_ref().as_ref();
        let Some(setting) = Setting::of_key(key) else {
            return Err(ConfigError::UnknownKey {
                key: key.to_owned(),
                place: source,
                nearest: nearest_setting(key).map(|setting| setting.key.to_owned()),
            });
        };
        let text = plain_text(value).map_err(|reason| ConfigError::BadValue {
            key: setting.key,
            value: text[value.span()].to_owned(),
            place: source.clone(),
            reason,
        })?;
        entries.push(Entry { setting, text, source });
    }
    // The table is sorted by key; people read files from the top.
    entries.sort_by_key(|entry| match entry.source {
        Source::File { line, .. } => line,
        _ => 0,
    });
    Ok(entries)
}

/// The text of a string, number or switch; settings have no other form.
fn plain_text(value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        _ => Err("expected a text in quotes, a whole decimal number, true or false".to_owned()),
    }
}

fn nearest_setting(given: &str) -> Option<&'static Setting> {
    nearest(given, SETTINGS.iter().map(|setting| setting.key)).and_then(Setting::of_key)
}

fn refuse_insecure_listen(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    if config.insecure_listen {
        return Ok(());
    }
    let (is_asking, is_encrypted) = (config.access_rule() != AccessRule::Open, config.tls().is_some());
    if is_asking && is_encrypted {
        return Ok(());
    }
    for effective in &loaded.settings {
        if let Value::Address(address) = effective.value
            && !address.ip().is_loopback()
        {
            let (key, place) = (effective.setting.key, effective.source.clone());
            return Err(if is_asking {
                ConfigError::ClearListen { key, address, place }
            } else {
                ConfigError::InsecureListen { key, address, place }
            });
        }
    }
    Ok(())
}

fn refuse_half_of_tls(loaded: &Loaded) -> Result<(), ConfigError> {
    for (key, needs) in [("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")] {
        let row = |key| loaded.settings.iter().find(|effective| effective.setting.key == key);
        let given = row(key).filter(|effective| matches!(effective.value, Value::File(Some(_))));
        let is_missing = row(needs).is_some_and(|effective| matches!(effective.value, Value::File(None)));
        if let (Some(effective), true) = (given, is_missing) {
            return Err(ConfigError::Incomplete { key, needs, place: effective.source.clone() });
        }
    }
    Ok(())
}

//! The settings of the broker as flags, read off the table in `ratatoskr_server::config`.

use std::path::PathBuf;

use clap::error::Error;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use ratatoskr_server::config::{Given, Kind, SETTINGS};

/// What the flags of `serve` and `config` say.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags {
    /// `--config`: the file to read.
    file: Option<PathBuf>,
    /// Keys and values of the settings that were given.
    flags: Vec<(&'static str, String)>,
}

impl SettingFlags {
    /// The flags together with the process's environment.
    pub(crate) fn with_environment(&self) -> Given {
        Given {
            file: self.file.clone(),
            environment: std::env::vars_os().collect(),
            flags: self.flags.clone(),
        }
    }
}

/// Whether a flag is a setting of the broker.
#[cfg(test)]
pub(crate) fn is_setting(flag: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.flag() == flag)
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .help("Read settings from this TOML file [default: ratatoskr.toml, if there]");
        SETTINGS.iter().fold(command.arg(file), |command, setting| {
            let flag = Arg::new(setting.key)
                .long(setting.flag())
                .value_name(setting.kind.placeholder())
                .help(format!("{} [default: {}]", setting.help, setting.default))
                .help_heading("Settings");
            command.arg(match setting.kind {
                // `--insecure-listen` alone is enough; `--insecure-listen=false` takes it back.
                Kind::Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
                Kind::File => flag.value_hint(ValueHint::FilePath),
                Kind::Path => flag.value_hint(ValueHint::DirPath),
                _ => flag,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        SettingFlags::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SettingFlags, Error> {
        let mut given = SettingFlags::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        self.flags = SETTINGS
            .iter()
            .filter_map(|setting| {
                matches.get_one::<String>(setting.key).map(|text| (setting.key, text.clone()))
            })
            .collect();
        Ok(())
    }
}

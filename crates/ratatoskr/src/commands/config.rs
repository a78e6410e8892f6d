//! `ratatoskr config`: every setting in force and where it came from.

use std::io::Write as _;

use clap::Args;
use ratatoskr_server::config::{load, markdown};

use crate::exit::Outcome;
use crate::output::{Field, FormatFlag, print_rows};
use crate::setting_flags::SettingFlags;

/// Takes the same flags as `serve`, to see what they would do.
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(flatten)]
    settings: SettingFlags,
    #[command(flatten)]
    format: FormatFlag,
    /// Print docs/config.md
    #[arg(long, hide = true)]
    markdown: bool,
}

pub(crate) fn run(arguments: &ConfigArguments) -> Outcome {
    if arguments.markdown {
        std::io::stdout().write_all(markdown().as_bytes())?;
        return Ok(());
    }
    let loaded = load(&arguments.settings.with_environment())?;
    let rows: Vec<Vec<Field>> = loaded
        .settings
        .iter()
        .map(|effective| {
            vec![
                Field::new("setting", effective.setting.key),
                Field::new("value", effective.shown()),
                Field::new("from", effective.source.to_string()),
            ]
        })
        .collect();
    print_rows(arguments.format.format(), &rows)?;
    Ok(())
}

//! `ratatoskr completions`: a script that teaches a shell our commands and flags.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Outcome;

pub(crate) fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ratatoskr", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}

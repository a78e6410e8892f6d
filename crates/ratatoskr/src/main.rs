//! `ratatoskr`: the broker and its command line in one program.
//!
//! ```text
//!   arguments ──cli.rs──▶ Command ──commands/*.rs──▶ Result ──exit.rs──▶ exit code, error on stderr
//!                                     │
//!             serve: broker + server ─┴─ all others: ratatoskr-client, over gRPC
//! ```
//!
//! One file per command. Results go to standard output, everything else to standard error.

mod base64;
mod cli;
mod commands;
mod connection_flags;
mod exit;
mod filter_argument;
mod input;
mod message_writer;
mod output;
mod pipeline;
mod progress;
mod resources;
mod setting_flags;
mod start_argument;
mod stop_signals;
mod subscription_flags;
mod template;
mod topic_flags;

use std::process::ExitCode;

use clap::Parser as _;

/// Took 12 % off the cost of a call against the system's allocator; see docs/dependencies.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

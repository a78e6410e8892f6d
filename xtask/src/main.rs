//! The project's own chores, one file each: `cargo xtask NAME`.
//!
//! ```text
//! tidy            what the house style asks and a machine can check
//! test            installs what is missing and runs every layer; `./test` and CI call this
//! instructions    instructions of the hot path, piece by piece, against a committed table
//! coverage        lines of the log and broker crates that their tests run
//! soak            minutes of real load on one broker: nothing lost, memory flat
//! real-text       100 MB of real text through the command line, killed twice
//! fixture         keeps a data directory of this version, for the test of formats
//! torture         every fault the broker is held against, and a table of what came of it
//! workers         a subscription worked through under kills, and a checker of what was seen
//! abuse           what a hostile client can send, and what it costs: a table
//! recovery-bench  a million messages, a kill, and how long the restart takes
//! compare         the same work on us and on other brokers, side by side
//! ```
//!
//! Nothing here ships: the broker never depends on this crate.

mod abuse;
mod broker_process;
mod compare;
mod corpus;
mod coverage;
mod driver;
mod failed;
mod history;
mod instructions;
mod process_usage;
mod real_text;
mod recovery_bench;
mod soak;
mod tidy;
mod tools;
mod torture;
mod workers;
mod workshop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failed::Outcome;
use crate::workshop::Workshop;

/// Chores of the Ratatoskr repository.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check the house style: arrows, file lengths, headers, words, dependencies, links
    Tidy,
    /// Install what is missing and run every layer of tests
    Test(driver::TestOptions),
    /// Count the instructions of the hot path and compare them with the committed table
    Instructions(instructions::InstructionsOptions),
    /// Print how much of the log and broker crates their tests run
    Coverage,
    /// Put real load on one broker and check every delivery
    Soak(soak::SoakOptions),
    /// Send real text through the command line, kill the broker twice, compare every byte
    RealText(real_text::RealTextOptions),
    /// Work through a durable subscription while workers and the broker are killed; check every promise
    Workers(workers::WorkersOptions),
    /// Abuse the gRPC door in every known way while another client is served; print what each costs
    Abuse(abuse::AbuseOptions),
    /// Keep a data directory as this version writes it; once for each release
    Fixture,
    /// Try every fault the broker is held against, and print what came of it as a table
    Torture(torture::TortureOptions),
    /// Publish a million messages, kill the broker, and time its return
    RecoveryBench(recovery_bench::RecoveryBenchOptions),
    /// Put the same work on other brokers and on ours, in turn, and show it in one table
    Compare(compare::CompareOptions),
}

fn main() -> ExitCode {
    match run(CommandLine::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("failed: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Outcome {
    let workshop = Workshop::open()?;
    match chore {
        Chore::Tidy => tidy::run(&workshop),
        Chore::Test(options) => driver::run(&workshop, &options),
        Chore::Instructions(options) => instructions::run_with(&workshop, &options),
        Chore::Coverage => coverage::run(&workshop),
        Chore::Soak(options) => soak::run(&workshop, &options),
        Chore::RealText(options) => real_text::run(&workshop, &options),
        Chore::Workers(options) => workers::run(&workshop, &options),
        Chore::Abuse(options) => abuse::run(&workshop, &options),
        Chore::Fixture => {
            workshop.cargo(&["test", "-p", "ratatoskr-broker", "--test", "formats", "--", "--ignored"])
        }
        Chore::Torture(options) => torture::run(&workshop, &options),
        Chore::RecoveryBench(options) => recovery_bench::run(&workshop, &options),
        Chore::Compare(options) => compare::run(&workshop, &options),
    }
}

//! The commands, and the one place that knows them all.

pub(crate) mod access;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod dead_letters;
pub(crate) mod doctor;
pub(crate) mod publish;
pub(crate) mod serve;
pub(crate) mod stats;
pub(crate) mod subscribe;
pub(crate) mod subscription;
pub(crate) mod topic;
pub(crate) mod trace;

use std::future::Future;

use ratatoskr_client::Client;

use crate::cli::{Cli, Command};
use crate::connection_flags::ConnectionFlags;
use crate::exit::{Failure, Outcome};

/// Does what the command line asks for.
pub(crate) fn run(arguments: Cli) -> Outcome {
    let connection = &arguments.connection;
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Access(command) => access::run(&command),
        Command::Bench(arguments) => bench::run(&arguments, connection.bench_target()?),
        Command::Completions { shell } => completions::run(shell),
        Command::Topic(command) => with_broker(connection, |client| topic::run(client, command)),
        Command::Pub(arguments) => with_broker(connection, |client| publish::run(client, arguments)),
        Command::Sub(arguments) => with_broker(connection, |client| subscribe::run(client, arguments)),
        Command::Subscription(command) => {
            with_broker(connection, |client| subscription::run(client, command))
        }
        Command::Consume(arguments) => with_broker(connection, |client| consume::run(client, arguments)),
        Command::DeadLetters(command) => with_broker(connection, |client| dead_letters::run(client, command)),
        Command::Trace(arguments) => with_broker(connection, |client| trace::run(client, arguments)),
        Command::Stats(arguments) => with_broker(connection, |client| stats::run(client, arguments)),
    }
}

/// Connects and runs a command. One thread is enough: the work is at the broker.
fn with_broker<F: Future<Output = Outcome>>(
    connection: &ConnectionFlags,
    command: impl FnOnce(Client) -> F,
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("the event loop cannot start", &error))?;
    let outcome = runtime.block_on(async { command(connection.connect().await?).await });
    // Does not wait for a thread that still reads standard input.
    runtime.shutdown_background();
    outcome
}

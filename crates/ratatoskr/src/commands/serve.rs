//! `ratatoskr serve`: the broker, from its banner to its last word.
//!
//! ```text
//!   settings ─▶ log ─▶ broker (recovers) ─▶ server ─▶ banner ─▶ … ─┬─ SIGTERM, SIGINT ─▶ drain ─▶ exit 0
//!                                                                  │        └─ a second one ─▶ exit at once
//!                                                                  └─ journal failed ─▶ exit 1
//! ```
//!
//! The banner goes to standard output, the log to standard error.

mod banner;

use std::time::Duration;

use clap::Args;
use ratatoskr_broker::Broker;
use ratatoskr_server::config::{Config, LogFormat, load};
use ratatoskr_server::{Running, Server, ServerOptions};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::exit::{Exit, Failure, Outcome};
use crate::resources::raise_open_files_limit;
use crate::setting_flags::SettingFlags;
use crate::stop_signals::{INTERRUPTED, StopSignals};

/// How long calls may take to end once the journal has failed: nothing they wait for will come.
const FAILED_DRAIN: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    settings: SettingFlags,
}

pub(crate) fn run(arguments: &ServeArguments) -> Outcome {
    let config = load(&arguments.settings.with_environment())?.config;
    start_log(&config);
    raise_open_files_limit();
    let broker = Broker::open(config.broker()).map_err(|error| {
        Failure::new(Exit::Failure, format!("the broker cannot open {}: {error}", config.data_dir.display()))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("the event loop cannot start", &error))?;
    let outcome = runtime.block_on(serve(&config, &broker));
    runtime.shutdown_background();
    outcome
}

/// Our own modules at the level asked for; libraries below us only when something is wrong.
fn start_log(config: &Config) {
    let level: LevelFilter =
        config.log_level.parse().expect("the table of settings has only levels there are");
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("ratatoskr", level);
    let layer = match config.log_format {
        LogFormat::Text => fmt::layer().with_writer(anstream::stderr).with_target(false).boxed(),
        LogFormat::Json => fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
}

async fn serve(config: &Config, broker: &Broker) -> Outcome {
    // Before the banner: whoever reads it may stop us at once.
    let mut stop = StopSignals::listen()?;
    let options = ServerOptions {
        grpc: config.grpc_addr,
        http: config.http_addr,
        threads: config.threads,
        data_dir: config.data_dir.display().to_string(),
        topic_defaults: config.topic_defaults.clone(),
    };
    let running = Server::start(broker.clone(), options)
        .map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    banner::print(config, broker.recovery(), &running)?;

    let failed = tokio::select! {
        name = stop.next() => {
            tracing::info!(signal = name, "stopping: calls may finish, a second signal ends at once");
            None
        }
        reason = running.failed() => Some(reason),
    };
    match failed {
        None => drain(running, broker, stop).await,
        Some(reason) => {
            // Health says NOT_SERVING by now; what is acknowledged is on disk, the rest never will be.
            let _ = tokio::time::timeout(FAILED_DRAIN, running.shutdown()).await;
            Err(Failure::new(Exit::Failure, format!("the broker has failed: {reason}")))
        }
    }
}

async fn drain(running: Running, broker: &Broker, mut stop: StopSignals) -> Outcome {
    tokio::spawn(async move {
        stop.next().await;
        std::process::exit(INTERRUPTED);
    });
    running.shutdown().await;
    let broker = broker.clone();
    let closed = tokio::task::spawn_blocking(move || broker.shutdown()).await;
    closed
        .expect("shutting down does not panic")
        .map_err(|error| Failure::new(Exit::Failure, format!("the broker did not close cleanly: {error}")))?;
    tracing::info!("stopped");
    Ok(())
}

//! `ratatoskr serve`: the broker, from its banner to its last word.
//!
//! ```text
//!   settings ─▶ log ─▶ broker (recovers) ─▶ server ─▶ banner ─▶ … ─┬─ SIGTERM, SIGINT ─▶ drain ─▶ exit 0
//!                                                                  │        └─ a second one ─▶ exit at once
//!                                                                  ├─ SIGHUP ─▶ policy, keys, certificates anew
//!                                                                  └─ journal failed ─▶ exit 1
//! ```
//!
//! The banner goes to standard output, the log to standard error.

mod banner;

use std::num::NonZero;
use std::time::Duration;

use clap::Args;
use ratatoskr_broker::{Broker, BrokerConfig, Shares};
use ratatoskr_server::config::{Config, LogFormat, load};
use ratatoskr_server::{DescriptorShares, Running, Server, ServerOptions, StartError};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::exit::{Exit, Failure, Outcome};
use crate::resources::raise_open_files_limit;
use crate::setting_flags::SettingFlags;
use crate::stop_signals::{INTERRUPTED, ReloadSignal, StopSignals};

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
    let descriptors = descriptor_shares(&config, raise_open_files_limit());
    let broker_config = BrokerConfig { open_files_max: descriptors.log_files, ..config.broker() };
    let broker = Broker::open(broker_config).map_err(|error| {
        Failure::new(Exit::Failure, format!("the broker cannot open {}: {error}", config.data_dir.display()))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("the event loop cannot start", &error))?;
    let outcome = runtime.block_on(serve(&config, &broker, descriptors));
    runtime.shutdown_background();
    outcome
}

/// Our own modules at the level asked for; libraries below us only when something is wrong.
fn start_log(config: &Config) {
    let level: LevelFilter =
        config.log_level.parse().expect("the table of settings has only levels there are");
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("ratatoskr", level);
    // The audit log, when it has no file, is no matter of levels.
    let targets = targets.with_target("audit", LevelFilter::INFO);
    let layer = match config.log_format {
        LogFormat::Text => fmt::layer().with_writer(anstream::stderr).with_target(false).boxed(),
        LogFormat::Json => fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
}

/// Connections must leave the log its file descriptors, however low their limit is.
fn descriptor_shares(config: &Config, limit: Option<u64>) -> DescriptorShares {
    let Some(limit) = limit else { return DescriptorShares::unlimited() };
    let workers = match config.threads {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    };
    let shares = DescriptorShares::of(limit, workers);
    tracing::debug!(limit, ?shares, "file descriptors are shared out");
    if config.connections_max.is_some_and(|wanted| wanted > shares.connections) {
        tracing::warn!(
            connections_max = config.connections_max,
            allowed = shares.connections,
            limit,
            "connections_max is more than the limit of file descriptors allows; raise LimitNOFILE= or ulimit -n"
        );
    }
    shares
}

async fn serve(config: &Config, broker: &Broker, descriptors: DescriptorShares) -> Outcome {
    // Before the banner: whoever reads it may stop us at once.
    let mut stop = StopSignals::listen()?;
    let mut reload = ReloadSignal::listen()?;
    let options = ServerOptions {
        grpc: config.grpc_addr,
        http: config.http_addr,
        http_hosts: config.http_hosts.clone(),
        threads: config.threads,
        data_dir: config.data_dir.display().to_string(),
        topic_defaults: config.topic_defaults.clone(),
        access: config.access_rule(),
        audit_log: config.audit_log.clone(),
        tls: config.tls(),
        callers_memory: Shares::of(config.memory).callers,
        client_limits: config.client_limits.clone(),
        connections_max: config.connections_max.unwrap_or(u64::MAX).min(descriptors.connections),
        http_connections_max: descriptors.http_connections,
    };
    let running = Server::start(broker.clone(), options).map_err(|error| {
        // What stands in a file is for a person to put right, like the configuration.
        let is_wrong = matches!(error, StartError::Policy(_) | StartError::Tls(_));
        Failure::new(if is_wrong { Exit::Usage } else { Exit::Failure }, error.to_string())
    })?;
    banner::print(config, broker.recovery(), &running)?;

    let failed = loop {
        tokio::select! {
            name = stop.next() => {
                tracing::info!(signal = name, "stopping: calls may finish, a second signal ends at once");
                break None;
            }
            reason = running.failed() => break Some(reason),
            () = reload.next() => {
                tracing::info!("reading policy, keys and certificates anew, as SIGHUP asks");
                running.reload();
            }
        }
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

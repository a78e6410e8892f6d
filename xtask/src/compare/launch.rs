//! How each peer is started: its settings, as close to what its maker ships as the promise allows.
//!
//! ```text
//!   NATS        nats.conf: JetStream in the folder, sync_interval
//!   Redis       arguments: append-only file, appendfsync; no snapshots beside it
//!   RabbitMQ    environment: node, folders; no plugins; a name service (epmd) of its own
//!   Mosquitto   mosquitto.conf: persistence in the folder, queues without a bound
//! ```
//!
//! Every listener is on loopback.

use std::path::Path;
use std::process::Command;

use super::peers::Program;
use super::server::Setup;
use crate::failed::{Failed, Outcome, While};

/// The programs to start.
pub(super) struct Launch {
    pub(super) main: Command,
    /// Started with it, ended with it.
    pub(super) companions: Vec<Command>,
}

/// What starts a peer; settings are written into its folder.
pub(super) fn launch(setup: &Setup) -> Outcome<Launch> {
    match setup.peer.program {
        Program::Ratatoskr => Err(Failed::new("our own broker is started as such")),
        Program::Nats => nats(setup),
        Program::Redis => Ok(redis(setup)),
        Program::RabbitMq => rabbitmq(setup),
        Program::Mosquitto => mosquitto(setup),
    }
}

/// A program that the kernel kills when we die, if this machine has the means.
fn mortal(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

fn alone(main: Command) -> Launch {
    Launch { main, companions: Vec::new() }
}

fn write(setup: &Setup, name: &str, text: &str) -> Outcome<String> {
    let path = setup.folder.join(name);
    std::fs::write(&path, text).when(format_args!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}

fn nats(setup: &Setup) -> Outcome<Launch> {
    let sync = match setup.peer.setting {
        "core" => String::new(),
        interval => format!(
            "jetstream {{\n  store_dir: \"{}\"\n  max_file_store: 50GB\n  sync_interval: {interval}\n}}\n",
            setup.folder.join("data").display()
        ),
    };
    let settings = format!("listen: \"{}\"\n{sync}", setup.address);
    let path = write(setup, "nats.conf", &settings)?;
    let mut main = mortal(&setup.program.path);
    main.args(["--config", &path]);
    Ok(alone(main))
}

fn redis(setup: &Setup) -> Launch {
    let mut main = mortal(&setup.program.path);
    main.args(["--port", &setup.address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
    main.args(["--appendonly", "yes", "--appendfsync", setup.peer.setting, "--dir"]).arg(&setup.folder);
    alone(main)
}

fn rabbitmq(setup: &Setup) -> Outcome<Launch> {
    let [distribution, names] = setup.ports;
    // Only known settings, not the machine's: an empty file of settings, and of plugins.
    let settings = write(setup, "rabbitmq.conf", "loopback_users.guest = true\n")?;
    let plugins = write(setup, "enabled_plugins", "[].\n")?;
    let mut main = mortal(&setup.program.path);
    main.env("RABBITMQ_NODENAME", format!("compare{}@localhost", setup.address.port()));
    main.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
    main.env("RABBITMQ_NODE_PORT", setup.address.port().to_string());
    main.env("RABBITMQ_DIST_PORT", distribution.to_string());
    main.env("ERL_EPMD_PORT", names.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
    main.env("RABBITMQ_CONFIG_FILE", settings).env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins);
    main.env("RABBITMQ_CONF_ENV_FILE", setup.folder.join("none"));
    main.env("RABBITMQ_MNESIA_BASE", setup.folder.join("data"));
    main.env("RABBITMQ_LOG_BASE", setup.folder.join("log"));
    main.env("RABBITMQ_PID_FILE", setup.folder.join("pid"));
    // The cookie lies in the home folder.
    main.env("HOME", &setup.folder);
    // Started by the server itself it would outlive it, for all servers of the machine.
    let mut epmd = mortal(Path::new("epmd"));
    epmd.args(["-address", "127.0.0.1", "-port", &names.to_string()]);
    Ok(Launch { main, companions: vec![epmd] })
}

fn mosquitto(setup: &Setup) -> Outcome<Launch> {
    // Its own default is a bound of 1,000 queued messages a session, beyond which it drops what it has acknowledged.
    let settings = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nuser root\n\
         persistence true\npersistence_location {}/\n\
         max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 0\n",
        setup.address.port(),
        setup.folder.display()
    );
    let path = write(setup, "mosquitto.conf", &settings)?;
    let mut main = mortal(&setup.program.path);
    main.args(["-c", &path]);
    Ok(alone(main))
}

//! [`Server`]: binds both addresses, starts the threads, and takes everything down in order.
//!
//! ```text
//!   shutdown ─▶ stop accepting ─▶ GOAWAY, subscriptions end with UNAVAILABLE ─▶ calls finish ─▶ threads end
//!                                  └──────────────── at most 10 seconds ─────────────────┘
//! ```
//!
//! The broker stays open: whoever opened it shuts it down after the server, so that what
//! clients were told is on disk.

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{io, thread};

use ratatoskr_broker::{Broker, Health, MEMORY_BYTES_DEFAULT, Shares, TopicSettings};
use ratatoskr_proto::FILE_DESCRIPTOR_SET;
use ratatoskr_proto::message_broker_server::MessageBrokerServer;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder as ReflectionBuilder;

use crate::access::{Access, AccessRule, Audit, PolicyError};
use crate::clients::{ClientLimits, Clients};
use crate::closing::{Closer, Closing, closing};
use crate::descriptors::DescriptorShares;
use crate::door::Worker;
use crate::guard::Guard;
use crate::guarded::{Asking, Guarded};
use crate::http::{Hosts, Reception};
use crate::limits::{
    ACCEPT_BACKLOG, REFLECTION_REQUEST_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, SHUTDOWN_TIMEOUT,
    WORKERS_MAX,
};
use crate::service::{Identity, Service};
use crate::tls::{Tls, TlsError, TlsFiles};
use crate::traffic::Traffic;
use crate::trusted_file::closing_command;
use crate::worker::{self, ConnectionSender};
use crate::{health, http};

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where gRPC listens; port 0 takes any free one.
    pub grpc: SocketAddr,
    /// Where HTTP listens; port 0 takes any free one.
    pub http: SocketAddr,
    /// Names by which the HTTP listener may be asked for, beside addresses and `localhost`. With none, one beyond loopback goes by any name.
    pub http_hosts: Vec<String>,
    /// Threads that serve gRPC, at most 256; 0 for one per core.
    pub threads: usize,
    /// Where the data is, as shown to clients.
    pub data_dir: String,
    /// What topics created over gRPC start from; the same as the broker's own defaults.
    pub topic_defaults: TopicSettings,
    /// How callers are told apart.
    pub access: AccessRule,
    /// Where the audit log goes; `None`: to the log.
    pub audit_log: Option<PathBuf>,
    /// Files for TLS at both doors; `None`: no TLS.
    pub tls: Option<TlsFiles>,
    /// Bytes of memory that all who call over gRPC share: [`ratatoskr_broker::Shares::callers`].
    pub callers_memory: usize,
    /// What one client may have.
    pub client_limits: ClientLimits,
    /// Most open connections to the gRPC listener, of all clients together.
    pub connections_max: u64,
    /// Most open connections to the HTTP listener.
    pub http_connections_max: usize,
}

impl Default for ServerOptions {
    /// Loopback, gRPC on 50051, HTTP on 8080, one thread per core.
    fn default() -> ServerOptions {
        ServerOptions {
            grpc: SocketAddr::from(([127, 0, 0, 1], 50051)),
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            http_hosts: Vec::new(),
            threads: 0,
            data_dir: String::new(),
            topic_defaults: TopicSettings::default(),
            access: AccessRule::Open,
            audit_log: None,
            tls: None,
            callers_memory: Shares::of(MEMORY_BYTES_DEFAULT).callers,
            client_limits: ClientLimits::default(),
            connections_max: DescriptorShares::unlimited().connections,
            http_connections_max: DescriptorShares::unlimited().http_connections,
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{door} cannot listen on {address}: {error}; is another program using the port?")]
    Bind {
        /// `gRPC` or `HTTP`.
        door: &'static str,
        /// The address given.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// More threads than any machine needs.
    #[error("threads is {threads}; allowed are 0 (one per core) to {WORKERS_MAX}")]
    TooManyThreads {
        /// The number given.
        threads: usize,
    },
    /// The policy file cannot be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There is no TLS with the files given.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log cannot be written.
    #[error("audit_log {} cannot be written: {error}", .path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A thread or its runtime could not be made.
    #[error("a server thread could not start: {0}")]
    Thread(#[from] io::Error),
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Binds both addresses and serves on threads of its own. Needs no runtime.
    pub fn start(broker: Broker, options: ServerOptions) -> Result<Running, StartError> {
        if options.threads > WORKERS_MAX {
            return Err(StartError::TooManyThreads { threads: options.threads });
        }
        let mut threads = Vec::new();
        let guard = guard(&broker, &options, &mut threads)?;
        warn_of_open_files(&options);
        let (grpc_listener, grpc_addr) = listen("gRPC", options.grpc)?;
        let (http_listener, http_addr) = listen("HTTP", options.http)?;
        let worker_count = match options.threads {
            0 => thread::available_parallelism()?.get(),
            threads => threads,
        };
        let (closer, closing) = closing();
        let identity = Identity {
            data_dir: options.data_dir,
            topic_defaults: options.topic_defaults,
            started: Instant::now(),
        };
        let traffic = Arc::new(Traffic::default());
        let service = Service::new(broker.clone(), identity, closing.clone());
        let reporter = HealthReporter::new();
        let service = Guarded::new(service, broker.clone(), guard.access.clone());
        let routes = routes(service, reporter.clone(), &guard.access);

        let mut workers = Vec::with_capacity(worker_count);
        for number in 0..worker_count {
            let (routes, broker) = (routes.clone(), broker.clone());
            let (traffic, signal) = (Arc::clone(&traffic), closing.clone());
            let guard = guard.clone();
            let make = move || Worker::new(routes, broker, traffic, guard, signal);
            let (sender, thread) = worker::start(number, make, closing.clone())?;
            workers.push(sender);
            threads.push(thread);
        }
        let front = Front {
            broker: broker.clone(),
            grpc_listener,
            http_listener,
            workers,
            reporter,
            traffic,
            guard: guard.clone(),
            closing,
            http_connections_max: options.http_connections_max,
        };
        threads.push(front.start()?);
        Ok(Running { grpc_addr, http_addr, broker, guard, closer, threads })
    }
}

/// A server that serves. Dropping it shuts it down without waiting.
pub struct Running {
    // Where it listens, with the port that was taken.
    grpc_addr: SocketAddr,
    // The same for HTTP.
    http_addr: SocketAddr,
    // Watched for failure.
    broker: Broker,
    // Its files can be read anew.
    guard: Guard,
    // Tells all threads to end.
    closer: Closer,
    // Waited for at shutdown.
    threads: Vec<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("grpc", &self.grpc_addr)
            .field("http", &self.http_addr)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Where gRPC is served.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Waits until the broker can serve no more, and says why: a poisoned journal, most likely. The
    /// process should then end with an error.
    pub async fn failed(&self) -> String {
        let mut health = self.broker.watch_health();
        loop {
            if let Health::Failed { reason } = &*health.borrow_and_update() {
                return reason.clone();
            }
            if health.changed().await.is_err() {
                return "the broker is gone".to_owned();
            }
        }
    }

    /// Reads policy, keys and certificates anew, and opens the audit log again. What has a mistake is logged, and changes
    /// nothing. The server looks for changed files by itself, once a second.
    pub fn reload(&self) {
        self.guard.reload();
    }

    /// Stops accepting, ends subscriptions, lets calls finish for at most 10 seconds, and returns once
    /// everything has ended.
    pub async fn shutdown(self) {
        let Running { closer, threads, guard, .. } = self;
        closer.close();
        // The audit log ends with the last who could write to it.
        drop(guard);
        let joined = spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a server thread panicked");
                }
            }
        });
        joined.await.expect("joining threads does not panic");
    }
}

fn listen(door: &'static str, address: SocketAddr) -> Result<(StdTcpListener, SocketAddr), StartError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A restarted broker may take the port while old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(ACCEPT_BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = StdTcpListener::from(socket);
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bind().map_err(|error| StartError::Bind { door, address, error })
}

/// What the broker creates is its owner's alone; what was there before may be open to others, and stays as its owner has made it.
fn warn_of_open_files(options: &ServerOptions) {
    if let Some(command) = closing_command(Path::new(&options.data_dir)) {
        let path = &options.data_dir;
        tracing::warn!(path, "other users of this machine can look into the data directory; run `{command}`");
    }
    if let Some((path, command)) =
        options.audit_log.as_deref().and_then(|path| Some((path, closing_command(path)?)))
    {
        tracing::warn!(path = %path.display(), "other users of this machine can read the audit log; run `{command}`");
    }
}

/// Reads what says who may come in.
fn guard(
    broker: &Broker,
    options: &ServerOptions,
    threads: &mut Vec<thread::JoinHandle<()>>,
) -> Result<Guard, StartError> {
    let audit = match &options.audit_log {
        None => Audit::to_log(),
        Some(path) => {
            let opened = Audit::to_file(path);
            let (audit, thread) = opened.map_err(|error| StartError::Audit { path: path.clone(), error })?;
            threads.push(thread);
            audit
        }
    };
    let access = Arc::new(Access::new(&options.access, audit)?);
    // Known before the first publish can come.
    access.look(broker);
    let tls = options.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
    let clients =
        Clients::new(options.client_limits.clone(), options.callers_memory, options.connections_max);
    let hosts = Arc::new(Hosts::new(options.http.ip(), &options.http_hosts));
    Ok(Guard { broker: broker.clone(), access, tls, clients, hosts })
}

/// All gRPC services: the contract, health, and reflection in both versions that clients ask for.
fn routes(service: Guarded, reporter: HealthReporter, access: &Arc<Access>) -> Routes {
    let reflection = || {
        ReflectionBuilder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let message_broker = MessageBrokerServer::new(service)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let asking = Asking { access: access.clone(), call: "ServerReflection" };
    let v1 = reflection().build_v1().expect("the descriptors were made by the build");
    let v1 = v1.max_decoding_message_size(REFLECTION_REQUEST_BYTES_MAX);
    let v1alpha = reflection().build_v1alpha().expect("the descriptors were made by the build");
    let v1alpha = v1alpha.max_decoding_message_size(REFLECTION_REQUEST_BYTES_MAX);
    Routes::new(message_broker)
        .add_service(HealthServer::new(HealthService::from_health_reporter(reporter)))
        .add_service(InterceptedService::new(v1, asking.clone()))
        .add_service(InterceptedService::new(v1alpha, asking))
        .prepare()
}

/// The front thread: accepts for the workers, serves HTTP, and reports health.
struct Front {
    broker: Broker,
    grpc_listener: StdTcpListener,
    http_listener: StdTcpListener,
    workers: Vec<ConnectionSender>,
    reporter: HealthReporter,
    traffic: Arc<Traffic>,
    guard: Guard,
    closing: Closing,
    http_connections_max: usize,
}

impl Front {
    fn start(self) -> io::Result<thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("front".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(self.run()) {
                tracing::error!(%error, "the front thread ended");
            }
        })
    }

    async fn run(self) -> io::Result<()> {
        let http_connections_max = self.http_connections_max;
        let Front {
            broker, grpc_listener, http_listener, workers, reporter, traffic, guard, closing, ..
        } = self;
        let grpc_listener = TcpListener::from_std(grpc_listener)?;
        let http_listener = TcpListener::from_std(http_listener)?;
        let pages = http::router(broker.clone(), Arc::clone(&traffic), guard.clone(), closing.clone());
        let reception = Reception {
            pages,
            guard: guard.clone(),
            traffic: Arc::clone(&traffic),
            closing: closing.clone(),
            connections_max: http_connections_max,
        };
        let serving = async {
            tokio::join!(
                http::serve(http_listener, reception),
                worker::accept(grpc_listener, workers, &traffic, closing.clone()),
                health::report(reporter, broker, closing.clone()),
                guard.watch(closing.clone()),
            );
        };
        let time_is_up = async {
            closing.clone().closed().await;
            sleep(SHUTDOWN_TIMEOUT).await;
        };
        tokio::select! {
            () = serving => {}
            () = time_is_up => {}
        }
        Ok(())
    }
}

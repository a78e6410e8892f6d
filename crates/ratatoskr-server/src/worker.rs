//! The worker threads that serve gRPC, and the acceptor that deals connections out to them.
//!
//! Each worker runs a runtime of its own on one thread. The acceptor hands it plain sockets, which the
//! worker registers with its own runtime; from then on the connection never leaves that thread.

use std::net::TcpStream as StdTcpStream;
use std::rc::Rc;
use std::{io, thread};

use ratatoskr_broker::Broken;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::closing::Closing;
use crate::door::Worker;
use crate::limits::{ACCEPT_RETRY_PAUSE, CONNECTIONS_WAITING_MAX, DISK_READERS_PER_WORKER, SHUTDOWN_TIMEOUT};
use crate::traffic::Traffic;

/// Where the acceptor puts one worker's connections.
pub(crate) type ConnectionSender = mpsc::Sender<StdTcpStream>;

/// Starts one worker thread. It ends after the signal, once its calls are done or time is up.
pub(crate) fn start(
    number: usize,
    make: impl FnOnce() -> Rc<Worker> + Send + 'static,
    closing: Closing,
) -> io::Result<(ConnectionSender, thread::JoinHandle<()>)> {
    let (sender, connections) = mpsc::channel(CONNECTIONS_WAITING_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(DISK_READERS_PER_WORKER)
        .thread_name(format!("disk-{number}"))
        .build()?;
    let thread = thread::Builder::new()
        .name(format!("grpc-{number}"))
        .spawn(move || LocalSet::new().block_on(&runtime, serve(make(), connections, closing)))?;
    Ok((sender, thread))
}

async fn serve(worker: Rc<Worker>, connections: mpsc::Receiver<StdTcpStream>, closing: Closing) {
    let time_is_up = async {
        closing.clone().closed().await;
        sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        () = worker.serve(connections) => {}
        () = time_is_up => {
            tracing::warn!(seconds = SHUTDOWN_TIMEOUT.as_secs(), "connections are still open; closing them");
        }
    }
}

/// Accepts connections and deals them out round robin, until the signal.
pub(crate) async fn accept(
    listener: TcpListener,
    workers: Vec<ConnectionSender>,
    traffic: &Traffic,
    closing: Closing,
) {
    let dealing = async {
        for turn in (0..workers.len()).cycle() {
            let connection = next_connection(&listener, traffic).await;
            if let Err(connection) = hand_over(&workers, turn, connection)
                && workers[turn].send(connection).await.is_err()
            {
                // Only a worker that panicked is gone; the client connects again and meets the next one.
                tracing::error!("a grpc worker is gone; one connection was dropped");
            }
        }
    };
    tokio::select! {
        () = dealing => {}
        () = closing.closed() => {}
    }
}

/// Gives a connection to the worker whose turn it is, or to the next one that takes it at once: a worker that is busy for long holds up
/// its own connections, not those of the others. Gives it back if none does.
fn hand_over(
    workers: &[ConnectionSender],
    turn: usize,
    mut connection: StdTcpStream,
) -> Result<(), StdTcpStream> {
    for worker in workers[turn..].iter().chain(&workers[..turn]) {
        match worker.try_send(connection) {
            Ok(()) => return Ok(()),
            Err(error) => connection = error.into_inner(),
        }
    }
    Err(connection)
}

async fn next_connection(listener: &TcpListener, traffic: &Traffic) -> StdTcpStream {
    loop {
        let accepted = listener.accept().await;
        match accepted.and_then(|(connection, _)| prepare(connection)) {
            Ok(connection) => {
                traffic.connections.increment();
                if Broken::Buffers.is_on() {
                    Box::leak(vec![1_u8; 64 << 10].into_boxed_slice());
                }
                return connection;
            }
            Err(error) => {
                traffic.connections_failed.increment();
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
}

/// Replies are written whole: waiting to fill a packet would only delay them.
fn prepare(connection: TcpStream) -> io::Result<StdTcpStream> {
    connection.set_nodelay(true)?;
    connection.into_std()
}

//! The gRPC front door: HTTP/2 connections of one worker thread, and the calls on them.
//!
//! ```text
//!   socket ──bytes──▶ connection ──▶ ratatoskr-http2 ──events──▶ calls ─┬─▶ plain publishing: decoded, submitted, answered by ticket
//!     ▲                  │                                              └─▶ everything else: a task each, through tonic's routes
//!     └──── one write ◀──┘◀──────────── answers of all calls ◀──────────────┘
//! ```
//!
//! A connection is one task, and never leaves its thread: what it shares with its calls is behind `Rc` and `RefCell`. Calls leave their
//! answers in the connection's [`Link`] and wake it; it writes all that has gathered in one go. Once a second the worker looks at all its
//! connections ([`Worker::keep_time`]): who has been silent is asked for a sign of life, who does not answer is closed.
//!
//! Why HTTP/2 is ours and not a library's: ADR 0010.

mod asking;
mod body;
mod calls;
mod connection;
mod decoding;
mod feed;
mod header_list;
mod link;
mod not_a_call;
mod partial;
mod publishing;
mod requests;
mod route;
mod stream;
mod tickets;
mod timeout;
mod tonic_call;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::TcpStream as StdTcpStream;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ratatoskr_broker::Broker;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tonic::service::Routes;

use crate::access::Visitor;
use crate::closing::Closing;
use crate::encoding;
use crate::guard::Guard;
use crate::memory::Wish;
use crate::tls::{self, Door};
use crate::traffic::Traffic;
use link::Link;
use tickets::Tickets;

/// How often a worker looks at its connections.
const TICK: Duration = Duration::from_secs(1);

/// What the connections of one thread share.
pub(crate) struct Worker {
    /// Calls that are not on the hot path.
    routes: Routes,
    /// Where calls on the hot path go.
    broker: Broker,
    /// Who waits for it.
    tickets: Tickets,
    traffic: Arc<Traffic>,
    /// Who may come in.
    guard: Guard,
    closing: Closing,
    /// Where connections read into, one after the other: what is left over is theirs.
    read_buffer: Cell<BytesMut>,
    /// Connections by a number of ours.
    links: RefCell<HashMap<u64, Weak<Link>>>,
    next_link: Cell<u64>,
}

impl Worker {
    pub(crate) fn new(
        routes: Routes,
        broker: Broker,
        traffic: Arc<Traffic>,
        guard: Guard,
        closing: Closing,
    ) -> Rc<Worker> {
        Rc::new(Worker {
            routes,
            tickets: Tickets::new(broker.clone()),
            broker,
            traffic,
            guard,
            closing,
            read_buffer: Cell::new(BytesMut::new()),
            links: RefCell::default(),
            next_link: Cell::new(0),
        })
    }

    /// Serves connections until the signal, and then until the last of them is done.
    pub(crate) async fn serve(self: Rc<Worker>, mut connections: mpsc::Receiver<StdTcpStream>) {
        let mut serving = JoinSet::new();
        let keeping_time = spawn_local(Rc::clone(&self).keep_time());
        let mut answering = spawn_local(Tickets::answer(Rc::clone(&self)));
        let mut closed = Box::pin(self.closing.clone().closed());
        loop {
            tokio::select! {
                biased;
                () = &mut closed => break,
                Some(ended) = serving.join_next(), if !serving.is_empty() => report(ended),
                // Without it publishes would wait for ever, unnoticed: their connections had better break.
                ended = &mut answering => unreachable!("publishes are answered as long as the worker serves: {ended:?}"),
                connection = connections.recv() => {
                    let Some(connection) = connection else { break };
                    match TcpStream::from_std(connection) {
                        Ok(socket) => {
                            serving.spawn_local(Rc::clone(&self).serve_connection(socket));
                        }
                        Err(error) => tracing::warn!(%error, "a connection could not be served"),
                    }
                }
            }
        }
        for link in self.links() {
            calls::stop(&self, &link);
            link.leave();
        }
        while let Some(ended) = serving.join_next().await {
            report(ended);
        }
        keeping_time.abort();
        answering.abort();
    }

    async fn serve_connection(self: Rc<Worker>, socket: TcpStream) {
        let clients = &self.guard.clients;
        let Ok(address) = socket.peer_addr() else { return };
        let seat = clients.seat(address.ip());
        if seat.is_closed_at_once() || seat.client.memory.check(Wish::Connect).is_err() {
            // Nothing is left even for saying why.
            return self.traffic.connections_refused.increment();
        }
        let accepting = tls::accept(self.guard.tls.as_deref(), Door::Grpc, socket);
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            // Nothing has been promised to it yet.
            () = self.closing.clone().closed() => return,
        };
        let (wire, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                self.traffic.handshakes_failed.increment();
                return tracing::debug!(%error, "a TLS handshake failed");
            }
        };
        if seat.turned_away.is_some() {
            self.traffic.connections_refused.increment();
        }
        let link = Link::new(Visitor::new(self.guard.access.clone(), peer), seat);
        let number = self.next_link.get();
        self.next_link.set(number + 1);
        self.links.borrow_mut().insert(number, Rc::downgrade(&link));
        let _entry = Entry { worker: &self, link: &link, number };
        if self.closing.is_closed() {
            // It came between the signal and the last look at all connections.
            link.leave();
        }
        connection::run(&self, &link, wire).await;
    }

    async fn keep_time(self: Rc<Worker>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            encoding::forget();
            for link in self.links() {
                link.tick(&self.traffic);
            }
        }
    }

    fn links(&self) -> Vec<Rc<Link>> {
        self.links.borrow().values().filter_map(Weak::upgrade).collect()
    }
}

/// A connection among the others. Its calls end with it, even if its task panics: each holds on to the link, and the link to them.
struct Entry<'a> {
    worker: &'a Worker,
    link: &'a Link,
    number: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.link.end();
        self.worker.links.borrow_mut().remove(&self.number);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task panicked");
    }
}

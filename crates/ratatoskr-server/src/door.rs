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
mod head;
mod header_list;
mod holder;
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
use std::collections::{BTreeMap, HashMap};
use std::net::TcpStream as StdTcpStream;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ratatoskr_broker::Broker;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, spawn_local};
use tonic::service::Routes;

use crate::access::Visitor;
use crate::clients::{Seat, TooMuch, Whose};
use crate::closing::Closing;
use crate::encoding;
use crate::guard::Guard;
use crate::memory::{Budget, Wish};
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
    /// Connections whose handshake is not over, by a number of ours: the lowest is the oldest.
    handshakes: RefCell<BTreeMap<u64, Rc<Handshake>>>,
    /// The others, by the same numbers.
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
            handshakes: RefCell::default(),
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
        let whose = if self.guard.access.asks() { Whose::Unauthenticated } else { Whose::Address };
        let whose = whose(address.ip());
        let mut seat = clients.seat(whose.clone());
        if matches!(seat.turned_away, Some(TooMuch::AllConnections { .. }))
            && (self.close_unauthenticated(|_| true) || self.close_handshake())
        {
            seat = clients.seat(whose);
        }
        // Whoever has not said who it is takes the place of others like it, not of those who have.
        let memory = if self.guard.access.asks() { &clients.memory } else { &seat.client.memory };
        if seat.is_closed_at_once() || memory.check(Wish::Connect).is_err() {
            // Nothing is left even for saying why.
            return self.traffic.connections_refused.increment();
        }
        let number = self.next_link.get();
        self.next_link.set(number + 1);
        let handshake = Rc::new(Handshake { seat, cut: Notify::new() });
        self.handshakes.borrow_mut().insert(number, Rc::clone(&handshake));
        let accepting = tls::accept(self.guard.tls.as_deref(), Door::Grpc, socket);
        let accepted = tokio::select! {
            accepted = accepting => Some(accepted),
            () = handshake.cut.notified() => None,
            // Nothing has been promised to it yet.
            () = self.closing.clone().closed() => None,
        };
        self.handshakes.borrow_mut().remove(&number);
        let Some(accepted) = accepted else { return };
        let Ok(Handshake { seat, .. }) = Rc::try_unwrap(handshake) else { return };
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
        self.links.borrow_mut().insert(number, Rc::downgrade(&link));
        let _entry = Entry { worker: &self, link: &link, number };
        self.make_room(&link);
        if self.closing.is_closed() {
            // It came between the signal and the last look at all connections.
            link.leave();
        }
        connection::run(&self, &link, wire).await;
    }

    /// Closes connections without credentials as long as they hold so much that another one, `newcomer`, could not begin: of its own address
    /// if that holds too much, else of any.
    fn make_room(&self, newcomer: &Link) {
        let (own, all) = (newcomer.memory(), &self.guard.clients.unauthenticated);
        let is_full = |memory: &Budget| !memory.has_room(Wish::Begin);
        while newcomer.is_unauthenticated() && (is_full(own) || is_full(all)) {
            let is_own_full = is_full(own);
            let is_closed = self.close_unauthenticated(|link| {
                !std::ptr::eq(link, newcomer) && (!is_own_full || Arc::ptr_eq(link.memory(), own))
            });
            if !is_closed {
                return;
            }
        }
    }

    /// Closes a connection without credentials, of those that may give way: one whose address holds most, and of these the oldest. False if
    /// there is none.
    fn close_unauthenticated(&self, gives_way: impl Fn(&Link) -> bool) -> bool {
        let links = self.links.borrow();
        let open = links.iter().filter_map(|(number, link)| Some((*number, link.upgrade()?)));
        let first = open
            .filter(|(_, link)| !link.is_cut() && link.is_unauthenticated() && gives_way(link))
            .max_by_key(|(number, link)| (link.memory().held(), std::cmp::Reverse(*number)));
        drop(links);
        let Some((_, link)) = first else { return false };
        self.traffic.connections_made_room.increment();
        link.cut();
        true
    }

    /// Closes the oldest connection that has not even ended its handshake. False if there is none.
    fn close_handshake(&self) -> bool {
        let handshakes = self.handshakes.borrow();
        let mut open =
            handshakes.values().filter(|open| open.seat.turned_away.is_none() && !open.seat.has_left());
        let Some(handshake) = open.next() else { return false };
        self.traffic.connections_made_room.increment();
        // Its descriptor is there until its task has had its turn.
        handshake.seat.leave();
        handshake.cut.notify_one();
        true
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

/// A connection that has not ended its handshake.
struct Handshake {
    seat: Seat,
    /// It gives way to another.
    cut: Notify,
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

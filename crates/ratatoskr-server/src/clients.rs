//! [`Clients`]: who is connected from where, and what one of them may have.
//!
//! ```text
//!   connection ──▶ Seat of its client ──┬─ connections   at most client_connections_max
//!                                       ├─ open calls    at most client_calls_max
//!                                       ├─ calls begun   at most client_calls_per_second
//!                                       └─ bytes held    at most client_memory_max
//! ```
//!
//! A client is a network address (of IPv6, its network of 64 bits): known before it has said a byte, and nothing it could
//! forge. Where callers have credentials, there are three kinds of them ([`Whose`]), each with the same limits:
//!
//! ```text
//!   connection ──▶ of its address, without credentials ──first call of somebody known──▶ of its address, with credentials
//!                  a small share of memory                                              └─▶ and of its identity, from any address
//! ```
//!
//! So whoever shares an address with callers without credentials is not refused for what those hold. Tenants have quotas besides
//! (`access/quota.rs`).

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bucket::Bucket;
use crate::limits::{REFUSED_CONNECTIONS_MAX, UNAUTHENTICATED_ADDRESS_SHARE, UNAUTHENTICATED_SHARE};
use crate::memory::{Budget, Wish};

/// What one client may have at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Open connections.
    pub connections_max: Option<u64>,
    /// Calls and streams that are open, over all its connections.
    pub calls_max: Option<u64>,
    /// Calls begun a second, and steps of publish streams.
    pub calls_per_second: Option<u64>,
    /// Bytes the broker holds for it; `None`: half of what all callers share.
    pub memory_max: Option<u64>,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: ClientLimits,
    /// Most connections of all clients together.
    connections_max: u64,
    /// Accepted connections that are open. Changed only while `here` is locked.
    connections: AtomicU64,
    /// Rejected connections that are still open, to be answered at their first call. Changed only while `here` is locked.
    refused: AtomicU64,
    /// What all callers share.
    pub(crate) memory: Arc<Budget>,
    /// What of it callers without credentials share.
    pub(crate) unauthenticated: Arc<Budget>,
    /// Also those without connections, until the calls they began are paid for: a rate is not begun anew by coming back.
    here: Mutex<HashMap<Whose, Arc<Client>>>,
    started: Instant,
}

/// With so many clients it is looked who has gone, whenever one comes.
const CLIENTS_SWEPT_MIN: usize = 64;

/// Whose connections are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// Those from an address: of callers that are known, or of all where nobody is asked.
    Address(IpAddr),
    /// Those from an address on which nobody has been known yet.
    Unauthenticated(IpAddr),
    /// Those on which an identity called last.
    Identity(Arc<str>),
}

impl Whose {
    /// False for an identity: its connections are counted with the addresses they come from.
    fn connects(&self) -> bool {
        !matches!(self, Whose::Identity(_))
    }
}

/// All connections that are counted together.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) memory: Arc<Budget>,
    /// Changed only while `Clients::here` is locked.
    connections: AtomicU64,
    calls: AtomicU64,
    /// Bytes that wait on its connections and are shared with others: all callers hold them, and it is one of those who do.
    shared: AtomicU64,
    rate: Option<Bucket>,
}

/// A connection's place among those of its client.
#[derive(Debug)]
pub(crate) struct Seat {
    clients: Arc<Clients>,
    pub(crate) whose: Whose,
    pub(crate) client: Arc<Client>,
    /// There were as many connections as may be: this one is told so, and counts for nothing.
    pub(crate) turned_away: Option<TooMuch>,
    /// It counts no more: the connection has another place.
    has_left: Cell<bool>,
}

/// A client has as much as it may, or all of them together have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooMuch {
    /// Connections.
    #[error(
        "this address has {connections_max} connections, as many as one client may (`client_connections_max`): close some, and send more \
         calls on one"
    )]
    Connections {
        /// As many.
        connections_max: u64,
    },
    /// Connections of all clients together.
    #[error(
        "the broker has {connections_max} open connections, its limit: close some, or raise `connections_max` and the limit of file \
         descriptors (LimitNOFILE= in a systemd unit, ulimit -n in a shell)"
    )]
    AllConnections {
        /// The limit.
        connections_max: u64,
    },
    /// Open calls.
    #[error(
        "{calls_max} calls and streams from this address, or of this identity, are open, as many as one client may have (`client_calls_max`): end some"
    )]
    Calls {
        /// As many.
        calls_max: u64,
    },
    /// Calls a second.
    #[error(
        "this address, or this identity, has begun {per_second} calls within a second, as many as one client may (`client_calls_per_second`): wait \
         {} ms, or send several messages in one call", .retry_after.as_millis()
    )]
    Rate {
        /// As many.
        per_second: u64,
        /// When another one is let in.
        retry_after: Duration,
    },
}

impl Clients {
    /// Clients that share `memory` bytes and `connections_max` connections.
    pub(crate) fn new(limits: ClientLimits, memory: usize, connections_max: u64) -> Arc<Clients> {
        let memory = Budget::of_callers(memory);
        let unauthenticated = Budget::of_unauthenticated(memory.bytes_max() / UNAUTHENTICATED_SHARE, &memory);
        Arc::new(Clients {
            limits,
            connections_max,
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            memory,
            unauthenticated,
            here: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// A place for a connection.
    pub(crate) fn seat(self: &Arc<Clients>, whose: Whose) -> Seat {
        self.seat_after(None, whose)
    }

    /// A place for a connection that has one, or was refused one, and is about to leave it.
    pub(crate) fn seat_after(self: &Arc<Clients>, before: Option<&Seat>, whose: Whose) -> Seat {
        let whose = match whose {
            Whose::Address(address) => Whose::Address(network_of(address)),
            Whose::Unauthenticated(address) => Whose::Unauthenticated(network_of(address)),
            identity @ Whose::Identity(_) => identity,
        };
        let mut here = self.here.lock();
        if here.len() >= CLIENTS_SWEPT_MIN && here.len() == here.capacity() {
            let now = self.now();
            here.retain(|_, client| client.is_wanted(now));
        }
        let client = here.entry(whose.clone()).or_insert_with(|| self.client(&whose));
        let turned_away = if whose.connects() { self.refusal(client, before) } else { None };
        if turned_away.is_some() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else {
            client.connections.fetch_add(1, Ordering::Relaxed);
            self.connections.fetch_add(u64::from(whose.connects()), Ordering::Relaxed);
        }
        Seat {
            clients: Arc::clone(self),
            whose,
            client: Arc::clone(client),
            turned_away,
            has_left: Cell::new(false),
        }
    }

    /// Why a client may have no further connection.
    fn refusal(&self, client: &Client, before: Option<&Seat>) -> Option<TooMuch> {
        let connections_max = self.connections_max;
        let is_counted = before.is_some_and(|seat| seat.turned_away.is_none());
        if !is_counted && self.connections.load(Ordering::Relaxed) >= connections_max {
            return Some(TooMuch::AllConnections { connections_max });
        }
        let connections_max = self.limits.connections_max?;
        let is_full = client.connections.load(Ordering::Relaxed) >= connections_max;
        is_full.then_some(TooMuch::Connections { connections_max })
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn client(&self, whose: &Whose) -> Arc<Client> {
        let bytes_max = self.limits.memory_max.map_or(self.memory.bytes_max() / 2, |max| max as usize);
        let memory = match whose {
            Whose::Address(_) => Budget::of_client(bytes_max, &self.memory),
            Whose::Identity(_) => Budget::of_identity(bytes_max),
            Whose::Unauthenticated(_) => {
                let share = self.unauthenticated.bytes_max() / UNAUTHENTICATED_ADDRESS_SHARE;
                Budget::of_unauthenticated(share.min(bytes_max), &self.unauthenticated)
            }
        };
        Arc::new(Client {
            memory,
            connections: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            rate: self.limits.calls_per_second.map(Bucket::new),
        })
    }
}

impl Client {
    /// It has connections, or begun more calls than are paid for.
    fn is_wanted(&self, now: u64) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
            || self.rate.as_ref().is_some_and(|rate| rate.is_ahead(now))
    }
}

impl Seat {
    /// True if others are refused for want of memory, and its client holds an equal part of all there is, or more; alone or with others.
    pub(crate) fn is_greedy(&self) -> bool {
        let all = &self.clients.memory;
        all.check(Wish::Begin).is_err() && {
            let is_address = |whose: &&Whose| matches!(whose, Whose::Address(_));
            let clients = self.clients.here.lock().keys().filter(is_address).count();
            let held = self.client.memory.held() + self.client.shared.load(Ordering::Relaxed) as usize;
            held >= all.bytes_max() / 8 * 7 / clients.max(1)
        }
    }

    /// True for a rejected connection that is closed without an answer, because enough rejected ones are open already: each holds a
    /// file descriptor until its first call is answered.
    pub(crate) fn is_closed_at_once(&self) -> bool {
        self.turned_away.is_some() && self.clients.refused.load(Ordering::Relaxed) > REFUSED_CONNECTIONS_MAX
    }

    /// Refuses another call, beside `uncounted` ones, if there are as many as may be; and one more a second than may be.
    pub(crate) fn admit(&self, uncounted: u64) -> Result<(), TooMuch> {
        if let Some(too_much) = self.turned_away {
            return Err(too_much);
        }
        // Without credentials calls are few on each connection, and a probe is let in whatever others at its address have open.
        let is_known = !matches!(self.whose, Whose::Unauthenticated(_));
        if let Some(calls_max) = self.clients.limits.calls_max
            && is_known
            && self.client.calls.load(Ordering::Relaxed) + uncounted > calls_max
        {
            return Err(TooMuch::Calls { calls_max });
        }
        self.pay()
    }

    /// Refuses one more a second than may be.
    pub(crate) fn pay(&self) -> Result<(), TooMuch> {
        let Some(rate) = &self.client.rate else { return Ok(()) };
        let now = self.clients.now();
        let retry_after = rate.wait(now);
        if !retry_after.is_zero() {
            return Err(TooMuch::Rate { per_second: rate.per_second(), retry_after });
        }
        rate.take(1, now);
        Ok(())
    }

    /// A connection had so many calls open, and has now so many.
    pub(crate) fn count_calls(&self, before: u64, now: u64) {
        count(&self.client.calls, before, now);
    }

    /// The same of bytes that wait on it and are shared with others.
    pub(crate) fn count_shared(&self, before: usize, now: usize) {
        count(&self.client.shared, before as u64, now as u64);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Seat {
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.get()
    }

    /// The connection is no more one of its client's.
    pub(crate) fn leave(&self) {
        if self.has_left.replace(true) {
            return;
        }
        let mut here = self.clients.here.lock();
        if self.turned_away.is_some() {
            self.clients.refused.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.client.connections.fetch_sub(1, Ordering::Relaxed);
            self.clients.connections.fetch_sub(u64::from(self.whose.connects()), Ordering::Relaxed);
        }
        if !self.client.is_wanted(self.clients.now()) {
            here.remove(&self.whose);
        }
    }
}

fn count(sum: &AtomicU64, before: u64, now: u64) {
    // Mostly nothing has changed, and the number is shared by threads.
    if now > before {
        sum.fetch_add(now - before, Ordering::Relaxed);
    } else if now < before {
        sum.fetch_sub(before - now, Ordering::Relaxed);
    }
}

/// Whoever has an IPv6 address has 2⁶⁴ of them.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests;

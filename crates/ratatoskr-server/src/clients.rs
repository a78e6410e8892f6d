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
//! forge. Who calls by which credentials is another matter: tenants have quotas of their own (`access/quota.rs`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bucket::Bucket;
use crate::limits::REFUSED_CONNECTIONS_MAX;
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
    /// Also those without connections, until the calls they began are paid for: a rate is not begun anew by coming back.
    here: Mutex<HashMap<IpAddr, Arc<Client>>>,
    started: Instant,
}

/// With so many clients it is looked who has gone, whenever one comes.
const CLIENTS_SWEPT_MIN: usize = 64;

/// All connections from one address.
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
    address: IpAddr,
    pub(crate) client: Arc<Client>,
    /// There were as many connections as may be: this one is told so, and counts for nothing.
    pub(crate) turned_away: Option<TooMuch>,
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
        "{calls_max} calls and streams from this address are open, as many as one client may have (`client_calls_max`): end some"
    )]
    Calls {
        /// As many.
        calls_max: u64,
    },
    /// Calls a second.
    #[error(
        "this address has begun {per_second} calls within a second, as many as one client may (`client_calls_per_second`): wait \
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
        Arc::new(Clients {
            limits,
            connections_max,
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            memory: Budget::of_callers(memory),
            here: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// A place for a connection.
    pub(crate) fn seat(self: &Arc<Clients>, address: IpAddr) -> Seat {
        let address = network_of(address);
        let mut here = self.here.lock();
        if here.len() >= CLIENTS_SWEPT_MIN && here.len() == here.capacity() {
            let now = self.now();
            here.retain(|_, client| client.is_wanted(now));
        }
        let client = here.entry(address).or_insert_with(|| self.client());
        let turned_away = self.refusal(client);
        if turned_away.is_none() {
            client.connections.fetch_add(1, Ordering::Relaxed);
            self.connections.fetch_add(1, Ordering::Relaxed);
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Seat { clients: Arc::clone(self), address, client: Arc::clone(client), turned_away }
    }

    /// Why a client may have no further connection.
    fn refusal(&self, client: &Client) -> Option<TooMuch> {
        let connections_max = self.connections_max;
        if self.connections.load(Ordering::Relaxed) >= connections_max {
            return Some(TooMuch::AllConnections { connections_max });
        }
        let connections_max = self.limits.connections_max?;
        let is_full = client.connections.load(Ordering::Relaxed) >= connections_max;
        is_full.then_some(TooMuch::Connections { connections_max })
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn client(&self) -> Arc<Client> {
        let bytes_max = self.limits.memory_max.map_or(self.memory.bytes_max() / 2, |max| max as usize);
        Arc::new(Client {
            memory: Budget::of_client(bytes_max, &self.memory),
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
            let clients = self.clients.here.lock().len();
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
        if let Some(calls_max) = self.clients.limits.calls_max
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
        let mut here = self.clients.here.lock();
        if self.turned_away.is_some() {
            self.clients.refused.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.client.connections.fetch_sub(1, Ordering::Relaxed);
            self.clients.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.client.is_wanted(self.clients.now()) {
            here.remove(&self.address);
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
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Exhausted, Held};

    fn clients(limits: ClientLimits) -> Arc<Clients> {
        Clients::new(limits, 1000, u64::MAX)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_so_many_connections_and_another_one_its_own() {
        let clients = clients(ClientLimits { connections_max: Some(2), ..ClientLimits::default() });
        let (one, other) = (address("10.0.0.1"), address("10.0.0.2"));
        let seats = [clients.seat(one), clients.seat(one)];
        assert!(seats.iter().all(|seat| seat.admit(1).is_ok()));
        let third = clients.seat(one);
        assert_eq!(third.admit(1), Err(TooMuch::Connections { connections_max: 2 }));
        assert!(clients.seat(other).admit(1).is_ok());
        drop(seats);
        drop(third);
        assert!(clients.here.lock().is_empty(), "a client without connections is remembered");
        assert!(clients.seat(one).admit(1).is_ok());
    }

    #[test]
    fn connections_beyond_the_limit_of_all_clients_get_an_answer_while_few_wait_for_one() {
        let clients = Clients::new(ClientLimits::default(), 1000, 2);
        let seat = |number: u8| clients.seat(IpAddr::from([10, 0, 0, number]));
        let seats = [seat(1), seat(2)];
        assert!(seats.iter().all(|seat| seat.admit(1).is_ok()));
        let told: Vec<Seat> = (0..REFUSED_CONNECTIONS_MAX).map(|_| seat(3)).collect();
        let too_much = TooMuch::AllConnections { connections_max: 2 };
        assert!(told.iter().all(|seat| seat.admit(1) == Err(too_much) && !seat.is_closed_at_once()));
        assert!(seat(4).is_closed_at_once(), "each refused connection has a descriptor");
        drop(told);
        assert!(!seat(4).is_closed_at_once());
        drop(seats);
        assert!(clients.here.lock().is_empty(), "a client without connections is remembered");
        seat(5).admit(1).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_a_mapped_address_is_what_it_maps() {
        let clients = clients(ClientLimits::default());
        let seat = |text| clients.seat(address(text));
        let (one, same, other) = (seat("2001:db8::1"), seat("2001:db8::ffff:0:1"), seat("2001:db8:0:1::1"));
        assert!(Arc::ptr_eq(&one.client, &same.client) && !Arc::ptr_eq(&one.client, &other.client));
        assert!(Arc::ptr_eq(&seat("10.0.0.1").client, &seat("10.0.0.1").client));
        assert_eq!(network_of(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }

    #[test]
    fn calls_are_counted_over_all_connections() {
        let clients = clients(ClientLimits { calls_max: Some(3), ..ClientLimits::default() });
        let (one, other) = (clients.seat(address("10.0.0.1")), clients.seat(address("10.0.0.1")));
        one.count_calls(0, 2);
        other.admit(1).unwrap();
        assert_eq!(other.admit(2), Err(TooMuch::Calls { calls_max: 3 }));
        one.count_calls(2, 0);
        other.admit(2).unwrap();
    }

    #[test]
    fn more_calls_a_second_than_may_be_are_told_when_to_come_back() {
        let clients = clients(ClientLimits { calls_per_second: Some(5), ..ClientLimits::default() });
        let seat = clients.seat(address("10.0.0.1"));
        let refused = (0..7).find_map(|_| seat.admit(1).err()).unwrap();
        let TooMuch::Rate { per_second: 5, retry_after } = refused else { panic!("{refused}") };
        assert!(retry_after <= Duration::from_millis(200), "{retry_after:?}");
        drop(seat);
        let again = clients.seat(address("10.0.0.1"));
        assert!(again.admit(1).is_err(), "a rate is begun anew by coming back");
    }

    #[test]
    fn one_client_alone_holds_no_more_than_half_of_the_memory() {
        let clients = clients(ClientLimits::default());
        let (one, other) = (clients.seat(address("10.0.0.1")), clients.seat(address("10.0.0.2")));
        let _held = Held::new(&one.client.memory, 500);
        assert_eq!(one.client.memory.check(Wish::GoOn), Err(Exhausted::Client { bytes_max: 500 }));
        other.client.memory.check(Wish::Begin).unwrap();
    }
}

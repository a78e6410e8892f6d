//! What each client may have, whatever others do.

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
    let seats = [clients.seat(Whose::Address(one)), clients.seat(Whose::Address(one))];
    assert!(seats.iter().all(|seat| seat.admit(1).is_ok()));
    let third = clients.seat(Whose::Address(one));
    assert_eq!(third.admit(1), Err(TooMuch::Connections { connections_max: 2 }));
    assert!(clients.seat(Whose::Address(other)).admit(1).is_ok());
    drop(seats);
    drop(third);
    assert!(clients.here.lock().is_empty(), "a client without connections is remembered");
    assert!(clients.seat(Whose::Address(one)).admit(1).is_ok());
}

#[test]
fn connections_beyond_the_limit_of_all_clients_get_an_answer_while_few_wait_for_one() {
    let clients = Clients::new(ClientLimits::default(), 1000, 2);
    let seat = |number: u8| clients.seat(Whose::Address(IpAddr::from([10, 0, 0, number])));
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
    let seat = |text| clients.seat(Whose::Address(address(text)));
    let (one, same, other) = (seat("2001:db8::1"), seat("2001:db8::ffff:0:1"), seat("2001:db8:0:1::1"));
    assert!(Arc::ptr_eq(&one.client, &same.client) && !Arc::ptr_eq(&one.client, &other.client));
    assert!(Arc::ptr_eq(&seat("10.0.0.1").client, &seat("10.0.0.1").client));
    assert_eq!(network_of(address("::ffff:10.0.0.1")), address("10.0.0.1"));
}

#[test]
fn calls_are_counted_over_all_connections() {
    let clients = clients(ClientLimits { calls_max: Some(3), ..ClientLimits::default() });
    let (one, other) = (
        clients.seat(Whose::Address(address("10.0.0.1"))),
        clients.seat(Whose::Address(address("10.0.0.1"))),
    );
    one.count_calls(0, 2);
    other.admit(1).unwrap();
    assert_eq!(other.admit(2), Err(TooMuch::Calls { calls_max: 3 }));
    one.count_calls(2, 0);
    other.admit(2).unwrap();
}

#[test]
fn more_calls_a_second_than_may_be_are_told_when_to_come_back() {
    let clients = clients(ClientLimits { calls_per_second: Some(5), ..ClientLimits::default() });
    let seat = clients.seat(Whose::Address(address("10.0.0.1")));
    let refused = (0..7).find_map(|_| seat.admit(1).err()).unwrap();
    let TooMuch::Rate { per_second: 5, retry_after } = refused else { panic!("{refused}") };
    assert!(retry_after <= Duration::from_millis(200), "{retry_after:?}");
    drop(seat);
    let again = clients.seat(Whose::Address(address("10.0.0.1")));
    assert!(again.admit(1).is_err(), "a rate is begun anew by coming back");
}

#[test]
fn one_client_alone_holds_no_more_than_half_of_the_memory() {
    let clients = clients(ClientLimits::default());
    let (one, other) = (
        clients.seat(Whose::Address(address("10.0.0.1"))),
        clients.seat(Whose::Address(address("10.0.0.2"))),
    );
    let _held = Held::new(&one.client.memory, 500);
    assert_eq!(one.client.memory.check(Wish::GoOn), Err(Exhausted::Client { bytes_max: 500 }));
    other.client.memory.check(Wish::Begin).unwrap();
}

#[test]
fn callers_without_credentials_take_nothing_from_known_ones_at_the_same_address() {
    let limits = ClientLimits {
        connections_max: Some(1),
        calls_max: Some(1),
        calls_per_second: Some(1),
        memory_max: None,
    };
    let clients = Clients::new(limits, 64_000, u64::MAX);
    let address = address("10.0.0.1");
    let nobody = clients.seat(Whose::Unauthenticated(address));
    nobody.count_calls(0, 1);
    nobody.pay().unwrap();
    let _held = Held::new(&nobody.client.memory, 1000);
    assert_eq!(nobody.client.memory.check(Wish::GoOn), Err(Exhausted::Unauthenticated { bytes_max: 1000 }));
    assert!((0..3).any(|_| nobody.pay().is_err()));
    assert!(clients.seat(Whose::Unauthenticated(address)).turned_away.is_some());

    let known = clients.seat(Whose::Address(address));
    assert_eq!(known.turned_away, None);
    known.admit(1).unwrap();
    known.client.memory.check(Wish::Begin).unwrap();
}

#[test]
fn callers_without_credentials_hold_a_sixteenth_at_most_from_however_many_addresses() {
    let clients = clients(ClientLimits::default());
    let held: Vec<_> = (1..=4)
        .map(|last| {
            let seat = clients.seat(Whose::Unauthenticated(IpAddr::from([10, 0, 0, last])));
            let held = Held::new(&seat.client.memory, 1000 / 16 / 4);
            (seat, held)
        })
        .collect();
    assert_eq!(clients.unauthenticated.held(), 60);
    let _rest = Held::new(&clients.unauthenticated, 2);
    let another = clients.seat(Whose::Unauthenticated(address("10.0.0.9")));
    assert_eq!(another.client.memory.check(Wish::GoOn), Err(Exhausted::Unauthenticated { bytes_max: 62 }));
    clients.memory.check(Wish::Begin).unwrap();
    drop(held);
    another.client.memory.check(Wish::GoOn).unwrap();
}

#[test]
fn an_identity_has_the_limits_of_a_client_from_all_its_addresses_together() {
    let clients = clients(ClientLimits { calls_max: Some(3), ..ClientLimits::default() });
    let (one, same) =
        (clients.seat(Whose::Identity("billing".into())), clients.seat(Whose::Identity("billing".into())));
    one.count_calls(0, 2);
    assert_eq!(same.admit(2), Err(TooMuch::Calls { calls_max: 3 }));
    let _held = Held::new(&one.client.memory, 500);
    assert_eq!(same.client.memory.check(Wish::GoOn), Err(Exhausted::Identity { bytes_max: 500 }));
    clients.seat(Whose::Identity("audit".into())).admit(2).unwrap();
}

#[test]
fn a_connection_that_becomes_known_keeps_its_place_among_all_and_has_one_with_its_address() {
    let limits = ClientLimits { connections_max: Some(1), ..ClientLimits::default() };
    let clients = Clients::new(limits, 1000, 2);
    let unknown = |number: u8| clients.seat(Whose::Unauthenticated(IpAddr::from([10, 0, 0, number])));
    let known = |seat: &Seat| {
        let Whose::Unauthenticated(address) = seat.whose else { panic!("{seat:?}") };
        let known = clients.seat_after(Some(seat), Whose::Address(address));
        seat.leave();
        known
    };
    let (one, other) = (unknown(1), unknown(2));
    let known_one = known(&one);
    known_one.admit(1).unwrap();
    let identity = clients.seat(Whose::Identity("billing".into()));
    let third = unknown(3);
    assert_eq!(third.turned_away, Some(TooMuch::AllConnections { connections_max: 2 }));
    // Who was refused a place among all gets none by saying who it is.
    assert_eq!(known(&third).turned_away, third.turned_away);
    other.leave();
    // A stranger has the place of its address, which known callers do not need.
    let (stranger, second) = (unknown(4), unknown(4));
    stranger.admit(1).unwrap();
    drop((known_one, stranger));
    assert_eq!(second.turned_away, Some(TooMuch::AllConnections { connections_max: 2 }));
    known(&second).admit(1).unwrap();
    drop((identity, one, other, second, third));
    assert!(clients.here.lock().is_empty(), "a client without connections is remembered");
    assert_eq!(clients.connections.load(Ordering::Relaxed) + clients.refused.load(Ordering::Relaxed), 0);
}

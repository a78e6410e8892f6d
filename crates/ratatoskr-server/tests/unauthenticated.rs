//! Callers without credentials where there is a policy: what they may have, and that those with credentials are served meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use ratatoskr_broker::MEMORY_BYTES_MIN;
use ratatoskr_http2::raw::{self, flag, kind};
use ratatoskr_proto as wire;
use ratatoskr_server::ClientLimits;
use support::hand::{ALL, Hand, data, fields, value};
use support::policy::{PolicyFile, until};
use support::{Fixture, message};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// As many as one connection may have open without credentials.
const CALLS_MAX: u32 = 8;

fn policy() -> PolicyFile {
    let roles = "[roles.all]\nallow = [{ actions = [\"publish\", \"subscribe\"], topics = [\"*\"] }]\n\
                 [roles.admin]\nallow = [{ actions = [\"admin\"] }]\n";
    let identities = [("one", "all"), ("other", "all"), ("root", "admin")];
    let identities = identities.map(|(name, role)| (name, format!("roles = [\"{role}\"]")));
    PolicyFile::new(&identities.each_ref().map(|(name, roles)| (*name, &roles[..])), roles)
}

fn serve(policy: &PolicyFile, limits: ClientLimits) -> Fixture {
    Fixture::start_with(|options| {
        options.access = policy.rule();
        options.callers_memory = MEMORY_BYTES_MIN as usize / 4;
        options.client_limits = limits;
    })
}

fn call(stream: u32, path: &str) -> Vec<u8> {
    raw::frame(kind::HEADERS, flag::END_HEADERS, stream, raw::block(&fields(path, &[])))
}

/// An empty request that is whole.
fn whole(stream: u32) -> Vec<u8> {
    data(stream, flag::END_STREAM, &[0; 5])
}

/// A connection without credentials on which as many watches are open as may be.
async fn watching(fixture: &Fixture, last: u8) -> Hand {
    let mut hand = Hand::connect_from(fixture, last).await;
    hand.say(raw::greeting(&[])).await;
    for stream in (0..CALLS_MAX).map(|number| 2 * number + 1) {
        hand.say([call(stream, WATCH), whole(stream)].concat()).await;
    }
    hand
}

/// Connections closed so far to make room for others.
async fn made_room(policy: &PolicyFile, fixture: &Fixture) -> u64 {
    let head = format!("authorization: Bearer {}\r\n", policy.token("root"));
    let page = fixture.page_with("/metrics", &head).await;
    let name = "\nratatoskr_grpc_connections_made_room_total ";
    page.split(name).nth(1).unwrap().lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn no_route_takes_a_body_from_nobody() {
    let policy = policy();
    let fixture = policy.serve();
    for path in [
        "/ratatoskr.MessageBroker/Publish",
        "/ratatoskr.MessageBroker/PublishStream",
        "/ratatoskr.MessageBroker/Settle",
        "/ratatoskr.MessageBroker/Consume",
        "/ratatoskr.MessageBroker/NoSuchCall",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/NoSuchCall",
        "/no.such.Service/Call",
    ] {
        let mut hand = Hand::greeted(&fixture, &[]).await;
        // Nothing but the head: what it is answered does not wait for a body.
        hand.say(call(1, path)).await;
        let (fields, is_end) = hand.headers(1).await;
        assert!(is_end);
        assert_eq!(value(&fields, "grpc-status"), Some("16"), "{path}: {fields:?}");
    }
    until("the audit log names the call", async || {
        policy.audit().iter().any(|line| line["call"] == "Settle")
    })
    .await;
}

#[tokio::test]
async fn watches_without_credentials_are_few_and_known_callers_at_the_same_address_are_served() {
    let policy = policy();
    let limits = ClientLimits { calls_max: Some(4), connections_max: Some(300), ..ClientLimits::default() };
    let fixture = serve(&policy, limits);
    let mut client = policy.client(&fixture, "one").await;
    client.publish(message("orders", "before")).await.unwrap();

    let mut hand = watching(&fixture, 1).await;
    let one_more = 2 * CALLS_MAX + 1;
    hand.say([call(one_more, WATCH), whole(one_more)].concat()).await;
    let (fields, _) = hand.headers(one_more).await;
    assert_eq!(value(&fields, "grpc-status"), Some("8"), "{fields:?}");

    // More connections of the kind than all of them together may have memory for.
    let mut hoard = Vec::new();
    for number in 0..200 {
        hoard.push(watching(&fixture, 1 + number % 4).await);
        client.publish(message("orders", "meanwhile")).await.unwrap();
    }
    policy.client(&fixture, "other").await.publish(message("orders", "from elsewhere")).await.unwrap();
    let mut probe = HealthClient::new(fixture.channel().await);
    probe.check(HealthCheckRequest::default()).await.unwrap();
    // The share has room for seven of them.
    until("connections are closed to make room", async || made_room(&policy, &fixture).await > 180).await;
}

#[tokio::test]
async fn a_probe_without_credentials_has_little_to_say_and_little_time() {
    let policy = policy();
    let fixture = policy.serve();
    let mut hand = Hand::greeted(&fixture, &[]).await;
    hand.say([call(1, CHECK), whole(1)].concat()).await;
    let (fields, _) = hand.headers(1).await;
    assert_eq!(value(&fields, ":status"), Some("200"));

    hand.say([call(3, CHECK), data(3, 0, &[&[0, 0, 0, 0xff, 0xff][..], &[b'x'; 5000]].concat())].concat())
        .await;
    let (fields, is_end) = hand.headers(3).await;
    assert!(is_end);
    assert_eq!(value(&fields, "grpc-status"), Some("8"), "{fields:?}");

    // Its body never ends.
    hand.say([call(5, CHECK), data(5, 0, &[0; 3])].concat()).await;
    let (fields, is_end) = hand.headers(5).await;
    assert!(is_end);
    assert_eq!(value(&fields, "grpc-status"), Some("4"), "{fields:?}");
}

#[tokio::test]
async fn whoever_fails_to_prove_who_it_is_uses_up_nobodys_rate() {
    let policy = policy();
    let limits =
        ClientLimits { calls_per_second: Some(20), connections_max: Some(1), ..ClientLimits::default() };
    let fixture = serve(&policy, limits);
    let mut hand = Hand::greeted(&fixture, &[]).await;
    for stream in (0..100).map(|number| 2 * number + 1) {
        let block =
            raw::block(&fields("/ratatoskr.MessageBroker/ListTopics", &[("authorization", "Bearer no")]));
        hand.say(raw::frame(kind::HEADERS, ALL, stream, block)).await;
    }
    let mut codes = Vec::new();
    for stream in (0..100).map(|number| 2 * number + 1) {
        codes.push(value(&hand.headers(stream).await.0, "grpc-status").unwrap().to_owned());
    }
    assert!(codes.contains(&"16".to_owned()) && codes.contains(&"8".to_owned()), "{codes:?}");
    // From the same address, which has one connection already: known callers have one of their own.
    let mut client = policy.client(&fixture, "one").await;
    client.publish(message("orders", "served")).await.unwrap();
}

#[tokio::test]
async fn an_identity_has_a_clients_limits_over_all_its_addresses() {
    let policy = policy();
    let fixture = serve(&policy, ClientLimits { calls_max: Some(2), ..ClientLimits::default() });
    let mut publisher = policy.client(&fixture, "other").await;
    publisher.publish(message("orders", "one")).await.unwrap();
    let mut request =
        tonic::Request::new(wire::SubscribeRequest { topic: "orders".into(), ..Default::default() });
    let value = format!("Bearer {}", policy.token("one")).parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    let request = || {
        let mut again = tonic::Request::new(request.get_ref().clone());
        *again.metadata_mut() = request.metadata().clone();
        again
    };
    let mut open = Vec::new();
    for last in 2..4 {
        let mut client = fixture.client_from(last).await;
        let stream = client.subscribe(request()).await.unwrap();
        open.push((client, stream));
    }
    let mut third = fixture.client_from(4).await;
    // A call is counted at the end of its connection's turn, on a thread of its own.
    until("a third call of the identity is refused", async || {
        let refused = third.subscribe(request()).await.err();
        refused.is_some_and(|status| status.code() == Code::ResourceExhausted)
    })
    .await;
    publisher.publish(message("orders", "another identity")).await.unwrap();
    drop(open);
    until("the identity's calls have ended", async || third.subscribe(request()).await.is_ok()).await;
}

#[tokio::test]
async fn a_known_caller_has_the_place_of_a_stranger_where_all_connections_are_taken() {
    let policy = policy();
    let fixture = Fixture::start_with(|options| {
        options.access = policy.rule();
        options.connections_max = 4;
    });
    let mut strangers = Vec::new();
    for _ in 0..8 {
        let mut hand = Hand::greeted(&fixture, &[]).await;
        hand.say([call(1, CHECK), whole(1)].concat()).await;
        hand.headers(1).await;
        strangers.push(hand);
    }
    let mut known = Vec::new();
    for _ in 0..4 {
        let mut client = policy.client(&fixture, "one").await;
        client.publish(message("orders", "served")).await.unwrap();
        known.push(client);
    }
    // Nobody who is known gives way.
    let refused =
        policy.client(&fixture, "one").await.publish(message("orders", "one more")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    for client in &mut known {
        client.publish(message("orders", "still served")).await.unwrap();
    }
}

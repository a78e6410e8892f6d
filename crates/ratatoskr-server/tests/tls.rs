//! TLS and client certificates at the real doors.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[path = "support/authority.rs"]
mod authority;
mod support;

use std::sync::Arc;

use authority::{Authority, Files};
use ratatoskr_client::{Client, ClientError, ClientOptions, Code, NewMessage, TlsOptions, Token};
use ratatoskr_server::access::AccessRule;
use ratatoskr_server::tls::TlsFiles;
use support::policy::{PolicyFile, until};
use support::{Fixture, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

fn files(authority: &Authority) -> TlsFiles {
    let Files { cert, key } = authority.server_files();
    TlsFiles { cert, key, client_ca: Some(authority.ca_file()) }
}

fn serve(authority: &Authority, access: AccessRule) -> Fixture {
    Fixture::start_with(|options| {
        options.tls = Some(files(authority));
        options.access = access;
    })
}

/// A client that trusts the authority, and shows a certificate, a token, or both.
async fn connect(
    fixture: &Fixture,
    authority: &Authority,
    own: Option<&Files>,
    token: Option<&str>,
) -> Result<Client, ClientError> {
    let mut tls = TlsOptions::new().ca_file(authority.ca_file())?;
    if let Some(own) = own {
        tls = tls.certificate_files(&own.cert, &own.key)?;
    }
    let token = token.map(Token::new).transpose()?;
    let options = ClientOptions { tls: Some(tls), token, ..ClientOptions::default() };
    let address = fixture.running.as_ref().unwrap().grpc_addr();
    Client::connect_with(&address.to_string(), options).await
}

/// An HTTP page over TLS, and the certificate it came with.
async fn secure_page(fixture: &Fixture, authority: &Authority, path: &str) -> (String, Vec<u8>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(fixture.running.as_ref().unwrap().http_addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    (text, shown)
}

#[tokio::test]
async fn messages_go_both_ways_over_tls() {
    let authority = Authority::new();
    let fixture = serve(&authority, AccessRule::Open);
    let client = connect(&fixture, &authority, None, None).await.unwrap();
    let mut subscription = {
        client.create_topic("orders", ratatoskr_client::TopicSettings::default()).await.unwrap();
        client.subscribe("orders", ratatoskr_client::SubscribeOptions::default()).await.unwrap()
    };
    // Larger than a TLS record, and than a window.
    let large = "x".repeat(900_000);
    client.publish("orders", NewMessage::new(large.clone())).await.unwrap();
    let message = timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    assert!(message.payload == large, "{} bytes came", message.payload.len());
    let (page, _) = secure_page(&fixture, &authority, "/metrics").await;
    assert!(page.contains("\nratatoskr_topics 1\n"), "{page}");
    let line =
        page.lines().find(|line| line.starts_with("ratatoskr_tls_certificate_not_after_seconds ")).unwrap();
    assert!(line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn who_mistakes_the_door_is_told_what_to_do() {
    let authority = Authority::new();
    let fixture = serve(&authority, AccessRule::Open);
    let address = fixture.running.as_ref().unwrap().grpc_addr().to_string();

    // Without TLS at a door with it.
    let plain = async { Client::connect(&address).await?.describe_broker().await };
    let error = plain.await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");

    // A CA that did not make the broker's certificate.
    let tls = TlsOptions::new().ca_file(Authority::new().ca_file()).unwrap();
    let options = ClientOptions { tls: Some(tls), ..ClientOptions::default() };
    let error = Client::connect_with(&address, options.clone()).await.unwrap_err();
    assert_eq!(error.reason(), "TLS_FAILED", "{error}");
    assert!(error.to_string().contains("--tls-ca"), "{error}");

    // With TLS at a door without it.
    let open = Fixture::start();
    let address = open.running.as_ref().unwrap().grpc_addr().to_string();
    let error = Client::connect_with(&address, options).await.unwrap_err();
    assert_eq!(error.reason(), "TLS_FAILED", "{error}");
    assert!(error.to_string().contains("or it speaks no TLS"), "{error}");

    let page = secure_page(&fixture, &authority, "/metrics").await.0;
    let failed =
        page.lines().find(|line| line.starts_with("ratatoskr_tls_handshakes_failed_total ")).unwrap();
    assert!(failed.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap() >= 2, "{failed}");
}

/// More than may be connected at a time: nothing of them is known, and none ends its handshake.
#[tokio::test]
async fn connections_that_never_end_their_handshake_keep_nobody_out() {
    const CONNECTIONS_MAX: u64 = 8;
    let authority = Authority::new();
    let fixture = Fixture::start_with(|options| {
        options.tls = Some(files(&authority));
        options.access = AccessRule::Certificates;
        options.connections_max = CONNECTIONS_MAX;
        // Each thread looks at its own connections.
        options.threads = 1;
    });
    let address = fixture.running.as_ref().unwrap().grpc_addr();
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS_MAX {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let own = authority.issue_files("me", "anybody", &[]);
    let client = connect(&fixture, &authority, Some(&own), None).await.unwrap();
    client.publish("orders", NewMessage::new("one")).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn without_a_policy_file_whoever_has_a_certificate_may_do_everything() {
    let authority = Authority::new();
    let fixture = serve(&authority, AccessRule::Certificates);
    let own = authority.issue_files("me", "anybody", &[]);
    let client = connect(&fixture, &authority, Some(&own), None).await.unwrap();
    client.publish("orders", NewMessage::new("one")).await.unwrap();
    client.delete_topic("orders").await.unwrap();

    let stranger = connect(&fixture, &authority, None, None).await.unwrap();
    let error = stranger.publish("orders", NewMessage::new("one")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    let (page, _) = secure_page(&fixture, &authority, "/metrics").await;
    assert!(page.starts_with("HTTP/1.1 401"), "{page}");
    assert!(secure_page(&fixture, &authority, "/healthz").await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_certificate_is_an_identity_by_any_of_its_names_and_a_token_goes_before_it() {
    let authority = Authority::new();
    let roles = r#"
        [identities.by-uri]
        certificate = "spiffe://acme/billing"
        roles = ["writer"]
        [identities.by-subject]
        certificate = "CN=ledger"
        roles = ["writer"]
        [roles.writer]
        allow = [{ actions = ["publish"], topics = ["orders"] }]
        [roles.all]
        allow = [{ actions = ["publish", "manage"], topics = ["*"] }]
    "#;
    let policy = PolicyFile::new(&[("operator", "roles = [\"all\"]")], roles);
    let fixture = serve(&authority, policy.rule());
    let billing = authority.issue_files("billing", "x", &["spiffe://acme/billing"]);
    let ledger = authority.issue_files("ledger", "ledger", &[]);
    for (own, who) in [(&billing, "by-uri"), (&ledger, "by-subject")] {
        let client = connect(&fixture, &authority, Some(own), None).await.unwrap();
        client.publish("orders", NewMessage::new("one")).await.unwrap();
        let error = client.delete_topic("orders").await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("{who:?} may not manage topic")), "{error}");
    }
    let unknown = authority.issue_files("unknown", "unknown", &["unknown.internal"]);
    let client = connect(&fixture, &authority, Some(&unknown), None).await.unwrap();
    let error = client.publish("orders", NewMessage::new("one")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.to_string().contains("(dns:unknown.internal, cn:unknown)"), "{error}");
    // The spelling of a subject in a URI, which another CA department may give out, is no subject.
    for (file, name) in [("uri", "uri:CN=ledger"), ("mail", "email:CN=ledger"), ("mail2", "email:ledger")] {
        let other = authority.issue_files(file, "x", &[name]);
        let client = connect(&fixture, &authority, Some(&other), None).await.unwrap();
        let error = client.publish("orders", NewMessage::new("forged")).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{name}: {error}");
        assert!(error.to_string().contains(&format!("({name}, cn:x)")), "{error}");
    }
    let client = connect(&fixture, &authority, Some(&billing), Some(policy.token("operator"))).await.unwrap();
    client.delete_topic("orders").await.unwrap();
}

#[tokio::test]
async fn a_changed_certificate_is_shown_without_a_restart() {
    let authority = Authority::new();
    let fixture = serve(&authority, AccessRule::Open);
    let before = connect(&fixture, &authority, None, None).await.unwrap();
    before.publish("orders", NewMessage::new("one")).await.unwrap();
    let (_, first) = secure_page(&fixture, &authority, "/healthz").await;
    authority.server_files();
    until("the new certificate is shown", async || {
        secure_page(&fixture, &authority, "/healthz").await.1 != first
    })
    .await;
    // Who was there before goes on, who comes now comes in.
    before.publish("orders", NewMessage::new("two")).await.unwrap();
    let after = connect(&fixture, &authority, None, None).await.unwrap();
    assert_eq!(after.publish("orders", NewMessage::new("three")).await.unwrap().offset, 2);
}

#[tokio::test]
async fn a_handshake_that_never_comes_holds_up_nobody() {
    let authority = Authority::new();
    let mut fixture = serve(&authority, AccessRule::Open);
    let running = fixture.running.as_ref().unwrap();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(running.grpc_addr()).await.unwrap());
        silent.push(TcpStream::connect(running.http_addr()).await.unwrap());
    }
    let client = timeout(PATIENCE, connect(&fixture, &authority, None, None)).await.unwrap().unwrap();
    client.publish("orders", NewMessage::new("one")).await.unwrap();
    assert!(secure_page(&fixture, &authority, "/healthz").await.0.contains("ok\n"));
    // Nor does it hold up the end.
    drop(client);
    let ending = std::time::Instant::now();
    fixture.running.take().unwrap().shutdown().await;
    assert!(ending.elapsed() < std::time::Duration::from_secs(5), "{:?}", ending.elapsed());
}

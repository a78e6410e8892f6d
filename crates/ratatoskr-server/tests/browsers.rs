//! What a browser can be made to send by any web page, and what is no gRPC call: refused by its head, whatever it carries.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use ratatoskr_http2::raw::{self, flag, kind};
use ratatoskr_proto::{DeleteTopicRequest, PublishRequest, TopicExistsRequest};
use support::hand::{Hand, data, value};
use support::{Fixture, PATIENCE, create, grpc_message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a request with these fields is answered: HTTP status and `grpc-status`.
async fn answer(
    fixture: &Fixture,
    call: (&str, &str),
    more: &[(&str, &str)],
    message: &impl prost::Message,
) -> (String, Option<String>) {
    let (method, path) = call;
    let path = format!("/ratatoskr.MessageBroker/{path}");
    let head =
        [(":method", method), (":scheme", "https"), (":authority", "broker.example"), (":path", &path)];
    let mut hand = Hand::greeted(fixture, &[]).await;
    let block = raw::block(&[&head[..], more].concat());
    hand.say(raw::frame(kind::HEADERS, flag::END_HEADERS, 1, block)).await;
    hand.say(data(1, flag::END_STREAM, &grpc_message(message))).await;
    let (fields, is_end) = hand.headers(1).await;
    let status = value(&fields, ":status").unwrap().to_owned();
    let trailers = if is_end { fields } else { hand.headers(1).await.0 };
    (status, value(&trailers, "grpc-status").map(str::to_owned))
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[tokio::test]
async fn a_web_page_deletes_no_topic_and_publishes_nothing() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let delete = DeleteTopicRequest { name: "orders".into() };
    let publish = PublishRequest { topic: "forged".into(), payload: "x".into(), ..PublishRequest::default() };
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (expected, more) in [
        ("415", &[("content-type", "text/plain")][..]),
        ("415", &[("content-type", "text/plain;charset=UTF-8"), ("origin", "https://evil.example")]),
        ("415", &[form, ("sec-fetch-site", "cross-site")]),
        ("415", &[("content-type", "multipart/form-data; boundary=x")]),
        ("415", &[("content-type", "application/grpc+json")]),
        ("415", &[]),
        ("403", &[GRPC, ("origin", "https://evil.example")]),
        ("403", &[GRPC, ("origin", "null")]),
        ("403", &[GRPC, ("sec-fetch-site", "same-site")]),
    ] {
        let deleted = answer(&fixture, ("POST", "DeleteTopic"), more, &delete).await;
        let published = answer(&fixture, ("POST", "Publish"), more, &publish).await;
        for (status, code) in [deleted, published] {
            assert_eq!(status, expected, "{more:?}");
            assert_ne!(code.as_deref(), Some("0"), "{more:?}");
        }
    }
    for method in ["GET", "PUT", "OPTIONS", "DELETE"] {
        let (status, code) = answer(&fixture, (method, "DeleteTopic"), &[GRPC], &delete).await;
        assert_eq!((status.as_str(), code.as_deref()), ("405", Some("12")), "{method}");
    }
    let exists = async |name: &str| {
        let request = TopicExistsRequest { name: name.into() };
        fixture.client().await.topic_exists(request).await.unwrap().into_inner().exists
    };
    assert!(exists("orders").await && !exists("forged").await);
}

#[tokio::test]
async fn every_spelling_of_grpcs_content_type_is_a_call() {
    let fixture = Fixture::start();
    let publish = PublishRequest { topic: "orders".into(), payload: "x".into(), ..PublishRequest::default() };
    let exists = TopicExistsRequest { name: "orders".into() };
    for content_type in
        ["application/grpc", "application/grpc+proto", "Application/gRPC", "application/grpc; charset=utf-8"]
    {
        let more = [("content-type", content_type), ("origin", "https://broker.example")];
        let ok = ("200".to_owned(), Some("0".to_owned()));
        assert_eq!(answer(&fixture, ("POST", "Publish"), &more, &publish).await, ok, "{content_type}");
        assert_eq!(answer(&fixture, ("POST", "TopicExists"), &more, &exists).await, ok, "{content_type}");
    }
}

/// The status line of a page that is asked for by a name.
async fn page_of(fixture: &Fixture, host: &str, path: &str) -> String {
    let address = fixture.running.as_ref().unwrap().http_addr();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, connection.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn a_name_that_somebody_has_resolve_to_loopback_shows_no_page() {
    let fixture = Fixture::start_with(|options| options.http_hosts = vec!["broker.example".to_owned()]);
    for path in ["/", "/metrics", "/version", "/healthz", "/none"] {
        let page = page_of(&fixture, "evil.example:8080", path).await;
        assert!(page.starts_with("HTTP/1.1 421 ") && page.contains("http_hosts"), "{path}: {page}");
    }
    for host in ["127.0.0.1:8080", "localhost", "[::1]:8080", "broker.example"] {
        let page = page_of(&fixture, host, "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{host}: {page}");
    }
}

#[tokio::test]
async fn pages_are_for_people_and_programs_and_not_for_other_sites() {
    let fixture = Fixture::start();
    let visit = "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n";
    for (head, expected) in [
        ("", "200"),
        ("sec-fetch-site: none\r\n", "200"),
        ("sec-fetch-site: same-origin\r\n", "200"),
        ("origin: http://localhost\r\n", "200"),
        (visit, "200"),
        ("sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n", "403"),
        ("sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: iframe\r\n", "403"),
        ("origin: https://evil.example\r\n", "403"),
    ] {
        for path in ["/metrics", "/version"] {
            let page = fixture.page_with(path, head).await;
            assert!(page.starts_with(&format!("HTTP/1.1 {expected} ")), "{path} {head:?}: {page}");
        }
    }
}

#[tokio::test]
async fn a_path_with_a_query_is_no_call() {
    let fixture = Fixture::start();
    let publish = PublishRequest { topic: "orders".into(), payload: "x".into(), ..PublishRequest::default() };
    let exists = TopicExistsRequest { name: "orders".into() };
    let published = answer(&fixture, ("POST", "Publish?x=1"), &[GRPC], &publish).await;
    let asked = answer(&fixture, ("POST", "TopicExists?"), &[GRPC], &exists).await;
    for (status, code) in [published, asked] {
        assert_eq!((status.as_str(), code.as_deref()), ("200", Some("12")));
    }
    let mut hand = Hand::greeted(&fixture, &[]).await;
    let path = "http://broker.example/ratatoskr.MessageBroker/TopicExists";
    let fields =
        [(":method", "POST"), (":scheme", "http"), (":authority", "broker.example"), (":path", path), GRPC];
    hand.say(raw::frame(kind::HEADERS, flag::END_HEADERS, 1, raw::block(&fields))).await;
    while let Some(heard) = hand.frame().await {
        if heard.kind == kind::RST_STREAM {
            return;
        }
    }
    panic!("an absolute address was taken for a path");
}

#[tokio::test]
async fn a_call_of_one_request_takes_no_second_one_on_any_way() {
    let fixture = Fixture::start();
    let exists = grpc_message(&TopicExistsRequest { name: "orders".into() });
    let publish = PublishRequest { topic: "orders".into(), payload: "x".into(), ..PublishRequest::default() };
    for (method, message) in [("TopicExists", exists), ("Publish", grpc_message(&publish))] {
        let mut hand = Hand::greeted(&fixture, &[]).await;
        hand.say(support::hand::head(1, method, &[])).await;
        hand.say(data(1, flag::END_STREAM, &[&message[..], &message[..]].concat())).await;
        let (fields, is_end) = hand.headers(1).await;
        let trailers = if is_end { fields } else { hand.headers(1).await.0 };
        assert_eq!(value(&trailers, "grpc-status"), Some("3"), "{method}");
    }
}

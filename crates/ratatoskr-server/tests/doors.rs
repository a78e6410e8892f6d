//! Around the contract: descriptions, health, reflection, the HTTP pages, and the way down.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use std::time::{Duration, Instant};

use ratatoskr_proto::{
    CreateSubscriptionRequest, CreateTopicRequest, DescribeBrokerRequest, DescribeTopicRequest, Durability,
    SubscribeRequest, SubscriptionName, TopicSettings, UpdateTopicRequest,
};
use ratatoskr_server::{Server, ServerOptions, StartError};
use support::{Fixture, PATIENCE, create, next, publish, subscribe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

#[tokio::test]
async fn settings_are_kept_described_and_changed_one_by_one() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let settings = TopicSettings {
        retention_age_ms: Some(0),
        retention_messages: Some(500),
        durability: Some(Durability::Written.into()),
        ..TopicSettings::default()
    };
    let request = CreateTopicRequest { name: "orders".into(), settings: Some(settings) };
    assert!(client.create_topic(request).await.unwrap().into_inner().created);
    let receipt = publish(&mut client, "orders", "one").await.receipt();
    assert_eq!(receipt, Durability::Written);

    let describe = DescribeTopicRequest { name: "orders".into() };
    let topic = client.describe_topic(describe.clone()).await.unwrap().into_inner().topic.unwrap();
    let full = TopicSettings {
        retention_age_ms: Some(0),
        retention_bytes: Some(0),
        retention_messages: Some(500),
        durability: Some(Durability::Written.into()),
        subscribers_max: Some(100_000),
        message_bytes_max: Some(1 << 20),
        dedup_window_ms: Some(120_000),
    };
    assert_eq!(topic.settings, Some(full));
    assert_eq!((topic.first_offset, topic.next_offset, topic.message_count), (0, 1, 1));

    let change =
        TopicSettings { subscribers_max: Some(7), retention_messages: Some(0), ..TopicSettings::default() };
    let request = UpdateTopicRequest { name: "orders".into(), settings: Some(change) };
    client.update_topic(request).await.unwrap();
    let topic = client.describe_topic(describe).await.unwrap().into_inner().topic.unwrap();
    assert_eq!(
        topic.settings,
        Some(TopicSettings { subscribers_max: Some(7), retention_messages: Some(0), ..full })
    );

    let missing = client.describe_topic(DescribeTopicRequest { name: "nope".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.get_details_error_info().unwrap().metadata["topic"], "nope");
}

#[tokio::test]
async fn the_broker_describes_itself() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let broker = client.describe_broker(DescribeBrokerRequest {}).await.unwrap().into_inner();
    assert_eq!(broker.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((broker.topics, broker.health.as_str()), (1, "serving"));
    assert_eq!(broker.data_directory, fixture.data_dir());
    assert_eq!(broker.default_durability(), Durability::Fsync);
}

#[tokio::test]
async fn health_is_reported_for_the_server_and_the_service() {
    let fixture = Fixture::start();
    let mut client = HealthClient::new(fixture.channel().await);
    for service in ["", "ratatoskr.MessageBroker"] {
        let request = HealthCheckRequest { service: service.into() };
        let mut watch = client.watch(request.clone()).await.unwrap().into_inner();
        let serving =
            async { while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {} };
        timeout(PATIENCE, serving).await.unwrap();
        assert_eq!(client.check(request).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    let unknown = client.check(HealthCheckRequest { service: "nope".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let fixture = Fixture::start();
    let mut client = ServerReflectionClient::new(fixture.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for expected in
        ["ratatoskr.MessageBroker", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    {
        assert!(names.contains(&expected), "{names:?}");
    }
}

#[tokio::test]
async fn a_long_request_of_the_reflection_service_is_not_answered() {
    let fixture = Fixture::start();
    let mut client = ServerReflectionClient::new(fixture.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileByFilename("x".repeat(64 << 10))),
    };
    // The service ends the stream without a word about it.
    let ended = match client.server_reflection_info(tokio_stream::iter([request])).await {
        Ok(answers) => answers.into_inner().message().await,
        Err(status) => Err(status),
    };
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
}

#[tokio::test]
async fn the_http_pages_say_alive_ready_version_and_figures() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "one").await;
    let name = SubscriptionName { topic: "orders".into(), subscription: "billing".into() };
    let request = CreateSubscriptionRequest { name: Some(name), ..CreateSubscriptionRequest::default() };
    client.create_subscription(request).await.unwrap();
    let labels = "{topic=\"orders\",subscription=\"billing\"}";
    let (lag, acked) = (
        format!("\nratatoskr_subscription_lag_messages{labels} 1\n"),
        format!("\nratatoskr_subscription_acked_total{labels} 0\n"),
    );
    for (path, status, text) in [
        ("/", "200 OK", "/metrics"),
        ("/healthz", "200 OK", "ok\n"),
        ("/readyz", "200 OK", "serving\n"),
        ("/version", "200 OK", concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\"")),
        ("/metrics", "200 OK", "\nratatoskr_topics 1\n"),
        ("/metrics", "200 OK", "\nratatoskr_serving 1\n"),
        ("/metrics", "200 OK", "\nratatoskr_topic_messages{topic=\"orders\"} 1\n"),
        ("/metrics", "200 OK", "# TYPE ratatoskr_published_messages counter\n"),
        ("/metrics", "200 OK", "\nratatoskr_grpc_connections_total 1\n"),
        ("/metrics", "200 OK", &lag),
        ("/metrics", "200 OK", &acked),
        ("/metrics", "200 OK", "# EOF\n"),
        ("/nope", "404 Not Found", ""),
    ] {
        let page = fixture.page(path).await;
        assert!(page.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {page}");
        assert!(page.contains(text), "{path}: {page}");
    }
}

#[tokio::test]
async fn connections_that_ask_for_no_page_keep_nobody_out() {
    let fixture = Fixture::start();
    let address = fixture.running.as_ref().unwrap().http_addr();
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        idle.push(connection);
    }
    assert!(fixture.page("/readyz").await.starts_with("HTTP/1.1 200"));
    // The place of the first went to another, that of the last is still its own.
    let mut answer = [0; 12];
    assert_eq!(timeout(PATIENCE, idle[0].read(&mut answer)).await.unwrap().unwrap_or(0), 0);
    let last = idle.last_mut().unwrap();
    last.write_all(b"host: localhost\r\n\r\n").await.unwrap();
    timeout(PATIENCE, last.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn shutdown_ends_streams_and_returns_in_time() {
    let mut fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let request = SubscribeRequest { topic: "orders".into(), ..SubscribeRequest::default() };
    let mut subscriber = subscribe(&mut client, request).await;
    let (_sender, steps) = mpsc::channel(1);
    let publisher = client.publish_stream(ReceiverStream::new(steps)).await.unwrap();
    let mut health = HealthClient::new(fixture.channel().await);
    let _watch = health.watch(HealthCheckRequest::default()).await.unwrap();

    let started = Instant::now();
    let address = fixture.running.as_ref().unwrap().grpc_addr();
    timeout(PATIENCE, fixture.running.take().unwrap().shutdown()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    let status = next(&mut subscriber).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "SHUTTING_DOWN");
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(publisher.into_inner().message().await.unwrap_err().code(), Code::Unavailable);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_taken_port_and_absurd_threads_are_errors_that_name_them() {
    let fixture = Fixture::start();
    let grpc = fixture.running.as_ref().unwrap().grpc_addr();
    let http = ([127, 0, 0, 1], 0).into();
    let options = ServerOptions { grpc, http, ..ServerOptions::default() };
    let error = Server::start(fixture.broker.clone(), options.clone()).unwrap_err();
    assert!(matches!(error, StartError::Bind { door: "gRPC", .. }));
    assert!(error.to_string().contains(&grpc.to_string()), "{error}");
    let options = ServerOptions { threads: 257, ..options };
    let error = Server::start(fixture.broker.clone(), options).unwrap_err();
    assert_eq!(error.to_string(), "threads is 257; allowed are 0 (one per core) to 256");
}

//! A real broker behind a real server on free ports, and clients of it.
#![allow(dead_code)] // each test file uses what it needs

pub(crate) mod hand;
pub(crate) mod policy;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratatoskr_broker::{Broker, BrokerConfig};
use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{CreateTopicRequest, Message, PublishRequest, PublishResponse, SubscribeRequest};
use ratatoskr_server::{Running, Server, ServerOptions};
use ratatoskr_sim::{SimClock, SimDisk};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server with its broker and data; all of it goes when this is dropped.
pub(crate) struct Fixture {
    pub(crate) running: Option<Running>,
    pub(crate) broker: Broker,
    // Dropped last.
    data: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn start() -> Fixture {
        Fixture::start_with(|_| {})
    }

    /// A server with options of its own.
    pub(crate) fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Fixture {
        let data = tempfile::tempdir().unwrap();
        let broker = Broker::open(BrokerConfig::new(data.path())).unwrap();
        Fixture::serve(broker, data, change)
    }

    /// All clients are served by the same thread.
    pub(crate) fn start_on_one_thread() -> Fixture {
        Fixture::start_with(|options| options.threads = 1)
    }

    /// A broker on a disk that can be made to fail, with a time that moves when told to.
    pub(crate) fn start_on(disk: &Arc<SimDisk>, clock: &Arc<SimClock>) -> Fixture {
        let data = tempfile::tempdir().unwrap();
        let broker = Broker::open_on(&BrokerConfig::new("/data"), disk.clone(), clock.clone()).unwrap();
        Fixture::serve(broker, data, |_| {})
    }

    pub(crate) fn serve(
        broker: Broker,
        data: tempfile::TempDir,
        change: impl FnOnce(&mut ServerOptions),
    ) -> Fixture {
        let mut options = ServerOptions {
            grpc: ([127, 0, 0, 1], 0).into(),
            http: ([127, 0, 0, 1], 0).into(),
            threads: 2,
            data_dir: data.path().display().to_string(),
            ..ServerOptions::default()
        };
        change(&mut options);
        let running = Server::start(broker.clone(), options).unwrap();
        Fixture { running: Some(running), broker, data }
    }

    pub(crate) fn data_dir(&self) -> String {
        self.data.path().display().to_string()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = self.running.as_ref().unwrap().grpc_addr();
        Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
    }

    /// A client from 127.0.0.`last`: another one to the broker than those from elsewhere.
    pub(crate) async fn client_from(&self, last: u8) -> MessageBrokerClient<Channel> {
        let address = self.running.as_ref().unwrap().grpc_addr();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let endpoint = endpoint.local_address(Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))));
        MessageBrokerClient::new(endpoint.connect().await.unwrap())
    }

    /// Waits until nothing is held for any caller: connections end in tasks of their own.
    pub(crate) async fn until_nothing_is_held(&self) {
        let given_back = async {
            while !self.page("/metrics").await.contains("ratatoskr_callers_memory_bytes 0\n") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, given_back).await.expect("memory is held for nobody");
    }

    /// Status line, headers and body of an HTTP page.
    pub(crate) async fn page(&self, path: &str) -> String {
        self.page_with(path, "").await
    }

    /// The same with further lines of the request's head.
    pub(crate) async fn page_with(&self, path: &str, head: &str) -> String {
        let address = self.running.as_ref().unwrap().http_addr();
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{head}\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(PATIENCE, connection.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    pub(crate) async fn client(&self) -> MessageBrokerClient<Channel> {
        MessageBrokerClient::new(self.channel().await)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.running.take());
        self.broker.shutdown().unwrap();
    }
}

/// As it goes over the wire.
pub(crate) fn grpc_message(message: &impl prost::Message) -> Vec<u8> {
    let mut bytes = vec![0; 5];
    message.encode(&mut bytes).unwrap();
    let length = bytes.len() as u32 - 5;
    bytes[1..5].copy_from_slice(&length.to_be_bytes());
    bytes
}

pub(crate) fn message(topic: &str, payload: impl Into<Bytes>) -> PublishRequest {
    PublishRequest { topic: topic.to_owned(), payload: payload.into(), ..PublishRequest::default() }
}

pub(crate) async fn create(client: &mut MessageBrokerClient<Channel>, name: &str) {
    let request = CreateTopicRequest { name: name.to_owned(), settings: None };
    let response = client.create_topic(request).await.unwrap().into_inner();
    assert!(response.created, "{}", response.error);
}

/// Publishes a payload, which must be accepted.
pub(crate) async fn publish(
    client: &mut MessageBrokerClient<Channel>,
    topic: &str,
    payload: &str,
) -> PublishResponse {
    let response = client.publish(message(topic, payload.to_owned())).await.unwrap().into_inner();
    assert!(response.success, "{}", response.error);
    response
}

/// Opens a subscription; it has joined once this returns.
pub(crate) async fn subscribe(
    client: &mut MessageBrokerClient<Channel>,
    request: SubscribeRequest,
) -> Streaming<Message> {
    client.subscribe(request).await.unwrap().into_inner()
}

pub(crate) async fn next(stream: &mut Streaming<Message>) -> Result<Option<Message>, Status> {
    timeout(PATIENCE, stream.message()).await.expect("nothing came")
}

/// The next payloads of a stream, as text.
pub(crate) async fn payloads(stream: &mut Streaming<Message>, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    for _ in 0..count {
        let message = next(stream).await.unwrap().expect("the stream ended");
        payloads.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    payloads
}

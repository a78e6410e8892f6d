//! [`Client`]: the connection, its limits, and publishing call by call.

use std::sync::Arc;
use std::time::Duration;

use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{PublishBatchRequest, SUBSCRIPTION_REF_METADATA};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::address::Address;
use crate::credentials::{Bearer, TlsOptions, Token};
use crate::error::ClientError;
use crate::message::{NewMessage, Receipt};

/// Bytes of one response: the longest list of topics fits.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Bytes of one request: a batch of 16 MiB and its framing fit, which is what the broker takes.
const REQUEST_BYTES_MAX: usize = 17 << 20;
/// HTTP/2 windows. The defaults of 64 KiB make a reader wait for the round trip at every megabyte or so.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How a client connects and waits.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long a connection may take to be made. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a single call may take; streams have no such limit. Default 30 s.
    pub call_timeout: Duration,
    /// A connection without traffic is checked after this time, and given up when no answer comes in as
    /// long again. Default 20 s.
    pub keepalive: Duration,
    /// TLS, and how. Default none: TLS only for an address that begins with `https://`, with the CAs of the operating system.
    pub tls: Option<TlsOptions>,
    /// What is shown with every call. Default none.
    pub token: Option<Token>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(20),
            tls: None,
            token: None,
        }
    }
}

/// A connection that shows the client's token.
pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// A connection to a broker. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// The generated client; clones of it are handles on one connection.
    grpc: MessageBrokerClient<Authorized>,
    /// Host and port, for messages to people.
    address: Arc<str>,
    /// How to make another connection.
    endpoint: Endpoint,
    /// What every call shows.
    bearer: Bearer,
    call_timeout: Duration,
}

impl Client {
    /// Connects to a broker, such as `localhost:50051` or `http://10.0.0.5:50051`. A connection that
    /// breaks later is made again by the next call.
    pub async fn connect(address: &str) -> Result<Client, ClientError> {
        Client::connect_with(address, ClientOptions::default()).await
    }

    /// [`Client::connect`] with other limits.
    pub async fn connect_with(address: &str, options: ClientOptions) -> Result<Client, ClientError> {
        let address = Address::parse(address)?.with_tls(options.tls.is_some())?;
        let endpoint = endpoint(&address, &options)?;
        let connected = endpoint.connect().await;
        let channel = connected.map_err(|error| ClientError::from_transport(&error, &address.shown))?;
        Ok(Client::over(channel, endpoint, &address.shown, &options))
    }

    /// A client that connects by its first call. Has to be called within a Tokio runtime.
    pub fn connect_lazy(address: &str) -> Result<Client, ClientError> {
        let (address, options) = (Address::parse(address)?, ClientOptions::default());
        let endpoint = endpoint(&address, &options)?;
        Ok(Client::over(endpoint.connect_lazy(), endpoint, &address.shown, &options))
    }

    /// The same client on a connection of its own, for when the one there is has gone silent without breaking.
    pub(crate) fn anew(&self) -> Client {
        let grpc = grpc(self.endpoint.connect_lazy(), self.bearer.clone());
        Client { grpc, ..self.clone() }
    }

    fn over(channel: Channel, endpoint: Endpoint, address: &str, options: &ClientOptions) -> Client {
        let bearer = Bearer(options.token.clone());
        let grpc = grpc(channel, bearer.clone());
        Client { grpc, address: address.into(), endpoint, bearer, call_timeout: options.call_timeout }
    }

    /// Host and port of the broker.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Publishes one message and waits until it is as safe as the topic's durability says. A missing topic
    /// is created with the broker's defaults.
    pub async fn publish(&self, topic: &str, message: NewMessage) -> Result<Receipt, ClientError> {
        let request = self.call(message.into_request(topic));
        let response = self.grpc().publish(request).await.map_err(self.failed())?;
        Receipt::from_response(response.into_inner(), topic)
    }

    /// Publishes up to [`BATCH_MESSAGES_MAX`](crate::BATCH_MESSAGES_MAX) messages in one call. Each has its own
    /// result, in order: a refused message does not stop the others.
    pub async fn publish_batch(
        &self,
        topic: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<Receipt, ClientError>>, ClientError> {
        // The batch names the topic once; the messages leave it empty.
        let messages = messages.into_iter().map(|message| message.into_request("")).collect();
        let request = self.call(PublishBatchRequest { topic: topic.to_owned(), messages });
        let response = self.grpc().publish_batch(request).await.map_err(self.failed())?;
        let results = response.into_inner().results;
        Ok(results.into_iter().map(|result| Receipt::from_response(result, topic)).collect())
    }

    /// A handle for one call; tonic wants each to be exclusive.
    pub(crate) fn grpc(&self) -> MessageBrokerClient<Authorized> {
        self.grpc.clone()
    }

    /// How long one call may take.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// A request that is given up after the call's time.
    pub(crate) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.call_timeout);
        request
    }

    /// Makes an error of a status.
    pub(crate) fn failed(&self) -> impl Fn(Status) -> ClientError + '_ {
        |status| ClientError::from_status(&status, &self.address)
    }
}

fn grpc(channel: Channel, bearer: Bearer) -> MessageBrokerClient<Authorized> {
    MessageBrokerClient::with_interceptor(channel, bearer)
        .max_decoding_message_size(RESPONSE_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX)
}

fn endpoint(address: &Address, options: &ClientOptions) -> Result<Endpoint, ClientError> {
    let endpoint = Endpoint::from_shared(address.uri.clone()).map_err(|error| {
        ClientError::invalid("ADDRESS", format!("server address {:?}: {error}", address.shown))
    })?;
    let endpoint = endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(options.keepalive)
        .keep_alive_timeout(options.keepalive)
        .keep_alive_while_idle(true);
    if !address.has_tls {
        return Ok(endpoint);
    }
    let tls = options.tls.clone().unwrap_or_default();
    endpoint.tls_config(tls.config()).map_err(|error| {
        let message = format!("TLS cannot be set up: {}", ClientError::deepest(&error));
        ClientError::invalid("TLS_FILE", message)
    })
}

/// The reference a subscription's stream was given in its initial metadata; empty if there is none.
pub(crate) fn subscription_ref<T>(response: &tonic::Response<T>) -> String {
    let value = response.metadata().get(SUBSCRIPTION_REF_METADATA);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

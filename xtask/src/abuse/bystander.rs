//! An ordinary client, whom no attack of others may concern.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatoskr_proto::message_broker_client::MessageBrokerClient;
use ratatoskr_proto::{CreateTopicRequest, Durability, PublishRequest, TopicSettings};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

use crate::failed::{Failed, Outcome};

/// Longer than any acknowledgement takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where it comes from.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// Refused for lack of memory it tries again after so long.
const RETRY: Duration = Duration::from_millis(100);
/// Between two messages.
const PACE: Duration = Duration::from_millis(2);

/// See the file's head.
pub(super) struct Bystander {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Served>,
}

#[derive(Default)]
struct Served {
    acknowledged: u64,
    wait_max: Duration,
    failure: Option<String>,
}

impl Bystander {
    /// Connects, and publishes from now on; with a token if it has to show one.
    pub(super) fn start(uri: String, token: Option<&'static str>) -> Bystander {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut served = Served::default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = match runtime {
                Ok(runtime) => runtime.block_on(publish((uri, token), &over, &mut served)),
                Err(error) => Err(Failed::new(error.to_string())),
            };
            served.failure = outcome.err().map(|failed| failed.to_string());
            served
        });
        Bystander { is_over, thread }
    }

    /// Messages acknowledged, the longest wait for one, and why it stopped before it was told to.
    pub(super) fn stop(self) -> (u64, Duration, Option<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(served) => (served.acknowledged, served.wait_max, served.failure),
            Err(_) => (0, Duration::ZERO, Some("it panicked".into())),
        }
    }
}

/// A request that shows the token, if there is one.
fn showing<T>(token: Option<&'static str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("tokens are of plain letters");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

async fn publish(
    (uri, token): (String, Option<&'static str>),
    is_over: &AtomicBool,
    served: &mut Served,
) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| Failed::new(error.to_string());
    // An address of its own makes it another client than the assailants.
    let endpoint = Endpoint::from_shared(uri).map_err(|error| failed(&error))?;
    let endpoint = endpoint.local_address(Some(ADDRESS));
    let mut client = MessageBrokerClient::new(endpoint.connect().await.map_err(|error| failed(&error))?);
    let settings = TopicSettings { durability: Some(Durability::Written.into()), ..TopicSettings::default() };
    let topic = CreateTopicRequest { name: "bystander".into(), settings: Some(settings) };
    client.create_topic(showing(token, topic)).await.map_err(|error| failed(&error))?;
    while !is_over.load(Ordering::Relaxed) {
        let message = PublishRequest {
            topic: "bystander".into(),
            payload: vec![0; 100].into(),
            ..PublishRequest::default()
        };
        let asked = Instant::now();
        let response = loop {
            let publishing = timeout(PATIENCE, client.publish(showing(token, message.clone())));
            match publishing.await.map_err(|error| failed(&error))? {
                // It is told to come back, and does.
                Err(status) if status.code() == Code::ResourceExhausted && asked.elapsed() < PATIENCE => {
                    tokio::time::sleep(RETRY).await;
                }
                response => break response.map_err(|error| failed(&error))?.into_inner(),
            }
        };
        if !response.success {
            return Err(Failed::new(response.error));
        }
        served.wait_max = served.wait_max.max(asked.elapsed());
        served.acknowledged += 1;
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

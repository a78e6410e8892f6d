//! [`Publisher`]: many messages on their way at a time, over one publish stream.
//!
//! ```text
//!   send ──▶ permits for its bytes ──▶ queue ──▶ task (stream.rs) ──PublishStream──▶ broker
//!     └──▶ PendingReceipt ◀──────── answer ◀───────┘  ◀──────── receipts, in order ──┘
//! ```
//!
//! Invariants:
//! - Messages reach the topic in the order `send` was called, also across reconnections.
//! - What is on its way is bounded by bytes; `send` waits while there is too much.
//! - A publisher that has failed stays failed: nothing is published after a gap.
//!
//! What it deliberately does not do: recognise what a broken connection left published. After a
//! reconnection everything without a receipt is sent once more, so it may be there twice.

use std::sync::{Arc, OnceLock};

use ratatoskr_proto::PublishRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::ClientError;
use crate::message::{NewMessage, Receipt};
use crate::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};

/// What a message costs beside its content, so that empty ones are bounded as well.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// How a publisher behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherOptions {
    /// Bytes that may wait for their receipts; `send` waits beyond it. Default 8 MiB.
    pub in_flight_bytes_max: usize,
    /// What happens when the connection breaks. [`Backoff::never`] ends the publisher instead, so that
    /// nothing is ever sent twice.
    pub backoff: Backoff,
}

impl Default for PublisherOptions {
    fn default() -> PublisherOptions {
        PublisherOptions { in_flight_bytes_max: 8 << 20, backoff: Backoff::default() }
    }
}

/// The results of the messages of one step, or what ended the publisher.
pub(crate) type Answer = Result<Vec<Result<Receipt, ClientError>>, ClientError>;

/// Messages that were handed in together.
#[derive(Debug)]
pub(crate) struct Step {
    /// The messages, in order; never empty.
    pub(crate) messages: Vec<PublishRequest>,
    /// Bytes of the messages as the broker's limits count them.
    pub(crate) bytes: usize,
    /// Where the results go.
    pub(crate) answer: oneshot::Sender<Answer>,
    /// Their share of what may be in flight; given back with the answer.
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// Why a publisher has ended; set once, by its task.
pub(crate) type Failure = Arc<OnceLock<ClientError>>;

/// A pipelined publisher for one topic. Made by [`Client::publisher`]. Dropping it leaves what has been
/// sent on its way; await the receipts to know that it arrived.
#[derive(Debug)]
pub struct Publisher {
    steps: mpsc::UnboundedSender<Step>,
    in_flight: Arc<Semaphore>,
    in_flight_bytes_max: usize,
    failure: Failure,
}

impl Client {
    /// A publisher for a topic. It connects by its first message. Has to be called within a Tokio runtime.
    ///
    /// ```no_run
    /// # async fn example(client: ratatoskr_client::Client) -> Result<(), ratatoskr_client::ClientError> {
    /// use ratatoskr_client::{NewMessage, PublisherOptions};
    ///
    /// let publisher = client.publisher("readings", PublisherOptions::default());
    /// let mut pending = Vec::new();
    /// for reading in 0..1000 {
    ///     pending.push(publisher.send(NewMessage::new(format!("{reading} °C"))).await?);
    /// }
    /// for receipt in pending {
    ///     receipt.receipt().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn publisher(&self, topic: &str, options: PublisherOptions) -> Publisher {
        let (steps, queue) = mpsc::unbounded_channel();
        let failure = Failure::default();
        let task =
            crate::stream::run(self.clone(), topic.to_owned(), options.backoff, queue, failure.clone());
        tokio::spawn(task);
        let in_flight_bytes_max =
            options.in_flight_bytes_max.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Publisher {
            steps,
            in_flight: Arc::new(Semaphore::new(in_flight_bytes_max)),
            in_flight_bytes_max,
            failure,
        }
    }
}

impl Publisher {
    /// Sends one message; waits only while too much is on its way.
    pub async fn send(&self, message: NewMessage) -> Result<PendingReceipt, ClientError> {
        self.send_batch(vec![message]).await.map(PendingReceipt)
    }

    /// Sends messages together; waits only while too much is on its way. They become neighbours in the
    /// topic, unless other publishers come between.
    pub async fn send_batch(&self, messages: Vec<NewMessage>) -> Result<PendingReceipts, ClientError> {
        let bytes = check_batch(&messages)?;
        let share = (bytes + messages.len() * MESSAGE_OVERHEAD_BYTES).min(self.in_flight_bytes_max);
        let permit = self.in_flight.clone().acquire_many_owned(share as u32).await;
        let permit = permit.expect("the semaphore is never closed");
        let (answer, results) = oneshot::channel();
        // The stream names the topic once per request; the messages leave it empty.
        let messages = messages.into_iter().map(|message| message.into_request("")).collect();
        let step = Step { messages, bytes, answer, _permit: permit };
        self.steps.send(step).map_err(|_| failure_of(&self.failure))?;
        Ok(PendingReceipts { results, failure: self.failure.clone() })
    }
}

/// Bytes of a batch within the broker's limits.
fn check_batch(messages: &[NewMessage]) -> Result<usize, ClientError> {
    if messages.is_empty() {
        return Err(ClientError::invalid("EMPTY_BATCH", "a batch without messages cannot be published"));
    }
    if messages.len() > BATCH_MESSAGES_MAX {
        let message =
            format!("the batch has {} messages; at most {BATCH_MESSAGES_MAX} are allowed", messages.len());
        return Err(ClientError::invalid("BATCH_TOO_LONG", message));
    }
    let bytes = messages.iter().map(NewMessage::size_bytes).sum();
    if bytes > BATCH_BYTES_MAX {
        let message = format!("the batch has {bytes} bytes; at most {BATCH_BYTES_MAX} are allowed");
        return Err(ClientError::invalid("BATCH_TOO_LARGE", message));
    }
    Ok(bytes)
}

fn failure_of(failure: &OnceLock<ClientError>) -> ClientError {
    let stopped =
        || ClientError::new(tonic::Code::Cancelled, "PUBLISHER_STOPPED", "the publisher's task was stopped");
    failure.get().cloned().unwrap_or_else(stopped)
}

/// The receipts of a batch, when they have come.
#[derive(Debug)]
pub struct PendingReceipts {
    results: oneshot::Receiver<Answer>,
    failure: Failure,
}

impl PendingReceipts {
    /// Waits for the results, one per message in order. The outer error ends the publisher: then these
    /// messages may be published or not, and those sent after them as well.
    pub async fn receipts(self) -> Result<Vec<Result<Receipt, ClientError>>, ClientError> {
        match self.results.await {
            Ok(answer) => answer,
            Err(_) => Err(failure_of(&self.failure)),
        }
    }
}

/// The receipt of a message, when it has come.
#[derive(Debug)]
pub struct PendingReceipt(PendingReceipts);

impl PendingReceipt {
    /// Waits for the receipt.
    pub async fn receipt(self) -> Result<Receipt, ClientError> {
        let mut results = self.0.receipts().await?;
        results.pop().expect("a step has as many results as messages")
    }
}

//! The task behind a [`Publisher`](crate::Publisher): one publish stream, and the next one when it breaks.
//!
//! ```text
//!   queue ──merge──▶ request n ──▶ stream ──▶ broker
//!                      │ remembered in flight      │
//!   answers ◀──────────┴── response n ◀────────────┘        broken: wait, connect, send what is in flight
//! ```
//!
//! Steps that wait together travel together, so a thousand callers who send one message each cost a
//! few requests. Responses come in the order of requests; anything else is a broken contract.

use std::collections::VecDeque;

use ratatoskr_proto::{PublishRequest, PublishStreamRequest, PublishStreamResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Streaming};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::ClientError;
use crate::message::Receipt;
use crate::publisher::{Answer, Failure, Step};

/// Messages and bytes up to which steps are merged into one request. Enough to make the cost of a
/// request vanish, little enough that receipts flow.
const MERGED_MESSAGES: usize = 1000;
const MERGED_BYTES: usize = 256 << 10;
/// Steps taken from the queue at a time.
const STEPS_AT_ONCE: usize = 1024;

/// A request that has no response yet.
struct InFlight {
    request: PublishStreamRequest,
    /// The steps it was merged from: how many messages each, and who waits.
    steps: Vec<Waiting>,
}

struct Waiting {
    messages: usize,
    step: Step,
}

/// Why a conversation has ended.
enum End {
    /// Every sender is gone and every request answered.
    Done,
    /// It broke; `progress` tells whether anything was answered before.
    Broken { error: ClientError, progress: bool },
}

/// The state that outlives a connection.
struct Pipeline {
    client: Client,
    topic: String,
    queue: mpsc::UnboundedReceiver<Step>,
    /// Requests without a response, oldest first. Bounded by the permits of their steps.
    in_flight: VecDeque<InFlight>,
    /// Of the next request.
    sequence: u64,
    /// No sender is left.
    queue_ended: bool,
}

/// Runs until every sender is gone, or until the connection has failed too often.
pub(crate) async fn run(
    client: Client,
    topic: String,
    backoff: Backoff,
    queue: mpsc::UnboundedReceiver<Step>,
    failure: Failure,
) {
    let in_flight = VecDeque::new();
    let mut pipeline = Pipeline { client, topic, queue, in_flight, sequence: 1, queue_ended: false };
    let mut failures = 0;
    loop {
        pipeline.wait_for_work().await;
        let End::Broken { error, progress } = pipeline.converse().await else { return };
        failures = if progress { 1 } else { failures + 1 };
        match backoff.wait(failures).filter(|_| error.is_retryable()) {
            Some(wait) => tokio::time::sleep(wait.max(error.retry_after().unwrap_or_default())).await,
            None => return pipeline.fail(&error, &failure),
        }
    }
}

impl Pipeline {
    /// A connection is made when there is something to say.
    async fn wait_for_work(&mut self) {
        if self.in_flight.is_empty() && !self.queue_ended {
            match self.queue.recv().await {
                Some(step) => drop(self.merge(vec![step])),
                None => self.queue_ended = true,
            }
        }
    }

    /// One stream, from its beginning to its end.
    async fn converse(&mut self) -> End {
        if self.in_flight.is_empty() && self.queue_ended {
            return End::Done;
        }
        // Unbounded, and yet never more than what is in flight.
        let (requests, outgoing) = mpsc::unbounded_channel();
        for waiting in &self.in_flight {
            requests.send(waiting.request.clone()).expect("the stream's other half is in our hands");
        }
        let call = Request::new(UnboundedReceiverStream::new(outgoing));
        let mut responses = match self.client.grpc().publish_stream(call).await {
            Ok(response) => response.into_inner(),
            Err(status) => return self.broken(&status, false),
        };
        self.exchange(&requests, &mut responses).await
    }

    async fn exchange(
        &mut self,
        requests: &mpsc::UnboundedSender<PublishStreamRequest>,
        responses: &mut Streaming<PublishStreamResponse>,
    ) -> End {
        let mut progress = false;
        let mut steps = Vec::with_capacity(STEPS_AT_ONCE);
        loop {
            if self.queue_ended && self.in_flight.is_empty() {
                return End::Done;
            }
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => match self.settle(response) {
                        Ok(()) => progress = true,
                        Err(error) => return End::Broken { error, progress },
                    },
                    Ok(None) => return End::Broken { error: ClientError::ended(self.client.address()), progress },
                    Err(status) => return self.broken(&status, progress),
                },
                taken = self.queue.recv_many(&mut steps, STEPS_AT_ONCE), if !self.queue_ended => {
                    self.queue_ended = taken == 0;
                    for request in self.merge(std::mem::take(&mut steps)) {
                        // A closed stream shows in its responses, with the reason.
                        let _ = requests.send(request);
                    }
                }
            }
        }
    }

    fn broken(&self, status: &tonic::Status, progress: bool) -> End {
        End::Broken { error: ClientError::from_status(status, self.client.address()), progress }
    }

    /// Makes requests of steps, and remembers them.
    fn merge(&mut self, steps: Vec<Step>) -> Vec<PublishStreamRequest> {
        let mut requests = Vec::new();
        let mut messages: Vec<PublishRequest> = Vec::new();
        let mut waiting = Vec::new();
        let mut bytes = 0;
        for mut step in steps {
            let over =
                messages.len() + step.messages.len() > MERGED_MESSAGES || bytes + step.bytes > MERGED_BYTES;
            if over && !messages.is_empty() {
                requests.push(self.remember(std::mem::take(&mut messages), std::mem::take(&mut waiting)));
                bytes = 0;
            }
            bytes += step.bytes;
            let content = std::mem::take(&mut step.messages);
            waiting.push(Waiting { messages: content.len(), step });
            // A large step goes as it is; copying it behind nothing would be for nothing.
            if messages.is_empty() { messages = content } else { messages.extend(content) }
        }
        if !messages.is_empty() {
            requests.push(self.remember(messages, waiting));
        }
        requests
    }

    fn remember(&mut self, messages: Vec<PublishRequest>, steps: Vec<Waiting>) -> PublishStreamRequest {
        let request = PublishStreamRequest { sequence: self.sequence, topic: self.topic.clone(), messages };
        self.sequence += 1;
        self.in_flight.push_back(InFlight { request: request.clone(), steps });
        request
    }

    /// Hands a response to those who wait for it.
    fn settle(&mut self, response: PublishStreamResponse) -> Result<(), ClientError> {
        let expected =
            self.in_flight.front().map(|oldest| (oldest.request.sequence, oldest.request.messages.len()));
        if expected != Some((response.sequence, response.results.len())) {
            return Err(ClientError::protocol(format!(
                "the broker answered request {} with {} results; expected were (request, results) {expected:?}",
                response.sequence,
                response.results.len()
            )));
        }
        let oldest = self.in_flight.pop_front().expect("its sequence has just been compared");
        let mut results = response.results.into_iter();
        for Waiting { messages, step } in oldest.steps {
            let of_step = results.by_ref().take(messages);
            let answer: Answer =
                Ok(of_step.map(|result| Receipt::from_response(result, &self.topic)).collect());
            // Whoever has stopped waiting does not want to know.
            let _ = step.answer.send(answer);
        }
        Ok(())
    }

    /// Tells everyone who waits, and everyone to come, that this publisher has ended.
    fn fail(mut self, error: &ClientError, failure: &Failure) {
        failure.set(error.clone()).expect("a publisher fails once");
        self.queue.close();
        for waiting in self.in_flight.drain(..).flat_map(|in_flight| in_flight.steps) {
            let _ = waiting.step.answer.send(Err(error.clone()));
        }
        while let Ok(step) = self.queue.try_recv() {
            let _ = step.answer.send(Err(error.clone()));
        }
    }
}

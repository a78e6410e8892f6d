//! The pipelined publish stream: many requests on their way, responses in request order.
//!
//! ```text
//!   client ──requests──▶ read ──▶ [ in flight: r7 r6 r5 r4 ] ──oldest first──▶ responses ──▶ client
//!                         ▲                │
//!                         └── stops at 1,024 requests or 16 MiB: HTTP/2 then holds the client back
//! ```
//!
//! The whole stream is one task: reading, publishing and answering are polls of the same future.
//! When the client ends its side, or the server shuts down, what is in flight is still answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use ratatoskr_broker::Broker;
use ratatoskr_proto::{PublishStreamRequest, PublishStreamResponse};
use tonic::{Status, Streaming};

use crate::closing::Closing;
use crate::limits::{PUBLISH_STREAM_IN_FLIGHT_BYTES_MAX, PUBLISH_STREAM_IN_FLIGHT_MAX};
use crate::publish::{messages_bytes, publish_each};
use crate::status;
use crate::traffic::Traffic;

/// What a publish stream works with.
pub(crate) struct Publishing {
    /// Where the messages go.
    pub(crate) broker: Broker,
    /// Where stalls are counted.
    pub(crate) traffic: Arc<Traffic>,
}

/// The response stream of one `PublishStream` call.
pub(crate) struct PublishStream {
    // The broker, and what is counted.
    publishing: Publishing,
    // What the client sends; not read any more once `end` is there.
    requests: Streaming<PublishStreamRequest>,
    // Resolves when the server shuts down.
    closed: BoxFuture<'static, ()>,
    // Requests that wait for the journal, oldest first.
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Answer, Status>>>,
    // Bytes of those requests' messages.
    in_flight_bytes: usize,
    // True while the stream has as much on its way as it may.
    stalled: bool,
    // Why no more is read: what the stream ends with once `in_flight` is empty.
    end: Option<Result<(), Status>>,
}

/// A response and what its request weighed.
struct Answer {
    // Goes to the client.
    response: PublishStreamResponse,
    // Comes off `in_flight_bytes`.
    request_bytes: usize,
}

impl PublishStream {
    /// Starts to publish what the client sends.
    pub(crate) fn new(
        publishing: Publishing,
        requests: Streaming<PublishStreamRequest>,
        closing: &Closing,
    ) -> PublishStream {
        PublishStream {
            publishing,
            requests,
            closed: Box::pin(closing.clone().closed()),
            in_flight: FuturesOrdered::new(),
            in_flight_bytes: 0,
            stalled: false,
            end: None,
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < PUBLISH_STREAM_IN_FLIGHT_MAX
            && self.in_flight_bytes < PUBLISH_STREAM_IN_FLIGHT_BYTES_MAX
    }

    fn start(&mut self, request: PublishStreamRequest) {
        let broker = self.publishing.broker.clone();
        let request_bytes = messages_bytes(&request.messages);
        self.in_flight_bytes += request_bytes;
        self.in_flight.push_back(Box::pin(async move {
            let results = publish_each(&broker, &request.topic, request.messages).await?;
            let response = PublishStreamResponse { sequence: request.sequence, results };
            Ok(Answer { response, request_bytes })
        }));
    }

    /// Counts the beginning of each stall, not every look at it.
    fn stall(&mut self) {
        if !self.stalled {
            self.stalled = true;
            self.publishing.traffic.publish_streams_stalled.increment();
        }
    }

    /// Reads until the client has nothing more right now, or there is no room.
    fn read(&mut self, context: &mut Context<'_>) {
        if self.end.is_none() && self.closed.as_mut().poll(context).is_ready() {
            self.end = Some(Err(status::shutting_down()));
        }
        while self.end.is_none() {
            if !self.has_room() {
                self.stall();
                return;
            }
            self.stalled = false;
            match self.requests.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(request))) => self.start(request),
                Poll::Ready(Some(Err(status))) => self.end = Some(Err(status)),
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Pending => return,
            }
        }
    }
}

impl Stream for PublishStream {
    type Item = Result<PublishStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.read(context);
        match this.in_flight.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(answer))) => {
                this.in_flight_bytes -= answer.request_bytes;
                Poll::Ready(Some(Ok(answer.response)))
            }
            Poll::Ready(Some(Err(status))) => {
                // Responses after a gap would tell the client nothing it can use.
                this.in_flight = FuturesOrdered::new();
                this.end = Some(Ok(()));
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) => match &mut this.end {
                Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
                None => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }
}

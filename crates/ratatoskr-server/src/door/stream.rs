//! `PublishStream` on the short way: many requests on their way, answered in their order.
//!
//! ```text
//!   data ──▶ requests ──▶ [ in flight: s7 s6 s5 s4 ] ──oldest first──▶ responses
//!              ▲                     │
//!              └── not read on at 1,024 steps or 16 MiB, or while the client does not read: HTTP/2 then holds it back
//! ```
//!
//! There is no task: the stream moves on when data comes, when a step is done, and when there is room again. When the client ends its
//! side, or the server shuts down, what is in flight is still answered.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use prost::Message;
use ratatoskr_broker::{Broker, PublishError, Published};
use ratatoskr_http2::StreamId;
use ratatoskr_proto::{BatchView, PublishStreamRequest, PublishStreamResponse};
use tokio::task::spawn_local;
use tonic::Status;

use crate::convert::refused;
use crate::door::Worker;
use crate::door::asking::{self, Asked, Way};
use crate::door::calls::{Call, Task};
use crate::door::decoding;
use crate::door::link::Link;
use crate::door::publishing::{OK, draft_batch, put_results};
use crate::door::requests::Requests;
use crate::door::tickets::{Kind, Waiting};
use crate::door::tonic_call::end_with_status;
use crate::limits::{PUBLISH_STREAM_IN_FLIGHT_BYTES_MAX, PUBLISH_STREAM_IN_FLIGHT_MAX};
use crate::message_frame::put_message;
use crate::publish::publish_each;
use crate::status;

/// What an open stream is about.
#[derive(Default)]
pub(crate) struct Steps {
    /// Whose stream it is.
    asked: Asked,
    requests: Requests,
    /// Bytes of data that the peer may not replace yet.
    unreleased: usize,
    /// Steps that are not answered, oldest first.
    in_flight: VecDeque<Step>,
    /// The number of the oldest.
    oldest: u64,
    /// Bytes of their requests.
    in_flight_bytes: usize,
    /// It has as much on its way as it may.
    is_stalled: bool,
    /// Why no more is read, and what the stream ends with once nothing is in flight.
    end: Option<Result<(), Status>>,
}

struct Step {
    bytes: usize,
    /// The response with its prefix, or why there is none, if it came before that of an older step.
    response: Option<Result<Bytes, Status>>,
    /// Waits for room, or goes the long way; ends with the stream.
    _task: Option<Task>,
}

/// A stream's head has come.
pub(super) fn begin(link: &Link, stream: StreamId, asked: Asked) {
    let mut http2 = link.http2();
    http2.send_headers(stream, |fields| {
        fields.known(":status", "200").known("content-type", "application/grpc");
    });
    if let Some(call) = http2.tag(stream) {
        let requests = Requests::new(&link.gathered);
        *call = Call::Steps(Box::new(Steps { asked, requests, ..Steps::default() }));
    }
}

/// Data has come.
pub(super) fn take_data(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, data: Bytes, is_end: bool) {
    change(worker, link, stream, |steps| {
        steps.unreleased += data.len();
        if !matches!(steps.end, Some(Err(_))) {
            steps.requests.push(data);
        }
        if is_end && steps.end.is_none() {
            steps.end = Some(Ok(()));
        }
    });
}

/// There is room to send again.
pub(super) fn has_room(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId) {
    change(worker, link, stream, |_| {});
}

/// The server shuts down: what is in flight is answered, the rest is not read.
pub(super) fn stop(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId) {
    change(worker, link, stream, |steps| {
        steps.requests = Requests::default();
        steps.end = Some(Err(status::shutting_down()));
    });
}

/// A step is answered; an error ends the stream in its turn, because responses after a gap would tell the client nothing it can use.
pub(super) fn step_is_done(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    stream: StreamId,
    number: u64,
    response: Result<Bytes, Status>,
) {
    change(worker, link, stream, |steps| {
        let place = (number - steps.oldest) as usize;
        steps.in_flight[place].response = Some(response);
    });
}

/// The response to a step, with its prefix.
pub(super) fn encode_outcome(
    broker: &Broker,
    sequence: u64,
    count: u32,
    outcome: Result<Published, PublishError>,
) -> Result<Bytes, Status> {
    match outcome {
        Ok(published) => {
            let mut buffer = BytesMut::with_capacity(count as usize * RESULT_BYTES + 16);
            put_message(&mut buffer, |buffer| {
                if sequence != 0 {
                    prost::encoding::uint64::encode(1, &sequence, buffer);
                }
                put_results(broker, (&published, count), 2, buffer);
            });
            Ok(buffer.freeze())
        }
        Err(error) => {
            let results = status::publish_refusal(&error).map(|text| vec![refused(text); count as usize])?;
            Ok(encode(&PublishStreamResponse { sequence, results }))
        }
    }
}

/// About what one receipt takes in a response.
const RESULT_BYTES: usize = 64;

fn encode(response: &PublishStreamResponse) -> Bytes {
    let mut buffer = BytesMut::new();
    put_message(&mut buffer, |buffer| response.encode_raw(buffer));
    buffer.freeze()
}

/// Changes a stream's state and lets it move on.
fn change(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, change: impl FnOnce(&mut Steps)) {
    let mut http2 = link.http2();
    let Some(call @ Call::Steps(_)) = http2.tag(stream) else { return };
    // Stays so if the stream ends here: what still comes for it, while it waits for its window, means nothing.
    let Call::Steps(mut steps) = std::mem::replace(call, Call::Waiting) else { return };
    change(&mut steps);
    while let Some(response) = steps.next_response() {
        match response {
            Ok(response) => http2.send_data(stream, response),
            Err(status) => {
                // What comes after it is told nothing, though it may be published.
                drop(http2);
                return end_with_status(link, stream, &status);
            }
        }
    }
    let has_room = http2.has_room(stream);
    let read = read(worker, link, stream, &mut steps, has_room);
    let counted = if steps.is_stalled {
        steps.requests.discount();
        Ok(())
    } else {
        // All but the beginning of a request has been read, and the rest of that has to come.
        http2.release(stream, std::mem::take(&mut steps.unreleased));
        steps.requests.count().and_then(|()| link.check_request(steps.requests.bytes(), &worker.traffic))
    };
    if let Err(status) = read.and(counted)
        && !matches!(steps.end, Some(Err(_)))
    {
        steps.requests = Requests::default();
        steps.end = Some(Err(status));
    }
    if steps.in_flight.is_empty() && steps.is_read_out() {
        let end = steps.end.take();
        drop(http2);
        match end {
            Some(Err(status)) => end_with_status(link, stream, &status),
            _ => link.http2().end(stream, OK),
        }
    } else if let Some(call) = http2.tag(stream) {
        *call = Call::Steps(steps);
    }
}

impl Steps {
    /// The response to the oldest step, if it is there.
    fn next_response(&mut self) -> Option<Result<Bytes, Status>> {
        let response = self.in_flight.front_mut()?.response.take()?;
        let step = self.in_flight.pop_front()?;
        self.oldest += 1;
        self.in_flight_bytes -= step.bytes;
        Some(response)
    }

    fn may_read(&self) -> bool {
        self.in_flight.len() < PUBLISH_STREAM_IN_FLIGHT_MAX
            && self.in_flight_bytes < PUBLISH_STREAM_IN_FLIGHT_BYTES_MAX
    }

    /// Nothing more is to be made of what has come.
    fn is_read_out(&self) -> bool {
        match &self.end {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(())) => !self.is_stalled,
        }
    }
}

/// Begins steps as far as there are requests and room.
fn read(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    stream: StreamId,
    steps: &mut Steps,
    has_room: bool,
) -> Result<(), Status> {
    if matches!(steps.end, Some(Err(_))) {
        return Ok(());
    }
    loop {
        if !has_room || !steps.may_read() {
            // Counts the beginning of each stall, not every look at it.
            if !std::mem::replace(&mut steps.is_stalled, true) {
                worker.traffic.publish_streams_stalled.increment();
            }
            return Ok(());
        }
        steps.is_stalled = false;
        let Some(request) = steps.requests.next()? else {
            let is_cut = steps.end.is_some() && steps.requests.is_cut();
            return if is_cut { Err(Status::internal("the stream ended within a request")) } else { Ok(()) };
        };
        link.pay().map_err(|too_much| {
            worker.traffic.calls_beyond_limit.increment();
            status::too_much(&too_much)
        })?;
        let way = asking::step(&mut steps.asked, &worker.broker, &request)?;
        let number = steps.oldest + steps.in_flight.len() as u64;
        let task = begin_step(worker, link, (stream, number), &request, way)?;
        // It is answered later, if it has been begun at all.
        steps.in_flight.push_back(Step { bytes: request.len(), response: None, _task: task });
        steps.in_flight_bytes += request.len();
    }
}

fn begin_step(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    (stream, number): (StreamId, u64),
    request: &Bytes,
    way: Way,
) -> Result<Option<Task>, Status> {
    let draft = || {
        let view = BatchView::read_step(request)?;
        draft_batch(&worker.broker, &view, request.len()).map(|draft| (draft, view.sequence))
    };
    let way = match way.with(draft) {
        Ok(((draft, sequence), permit)) => {
            let kind = Kind::Step { number, sequence, count: draft.count() };
            let waiting = Waiting { link: Rc::clone(link), stream, kind, _permit: permit };
            return worker.tickets.submit(draft, waiting, &worker.traffic);
        }
        Err(way) => way,
    };
    let (step, bytes) = decoding::step(request)?;
    let (broker, held) = (worker.broker.clone(), link.hold(bytes));
    let mut publishing = Box::pin(async move {
        let _until_done = (way, held);
        let PublishStreamRequest { sequence, topic, messages } = step;
        let results = publish_each(&broker, &topic, messages).await;
        results.map(|results| encode(&PublishStreamResponse { sequence, results }))
    });
    // Messages take their places when a future is polled first: before those of the next step.
    let early = (&mut publishing).now_or_never();
    let (worker, link) = (Rc::clone(worker), Rc::clone(link));
    let task = spawn_local(async move {
        let response = match early {
            Some(response) => response,
            None => publishing.await,
        };
        step_is_done(&worker, &link, stream, number, response);
        link.wake();
    });
    Ok(Some(Task::new(&task)))
}

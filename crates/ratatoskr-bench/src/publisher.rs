//! Publishing as fast as a number of requests on their way allows.
//!
//! ```text
//!   closed loop   slot 0  ─request──▶ answer ─request──▶ answer …      one request of each slot on its way
//!                 slot 1  ──request──▶ answer ──request──▶ …           its latency: from sending to the answer
//!   stream        one stream a connection, its share of requests on their way, answers in order
//! ```
//!
//! A slot or a stream is one *publisher* of the stamps: it sends its next message after the answer to the last one (a
//! stream: after its last one), so its messages keep their order in a topic.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::try_join_all;
use prost::Message as _;

use crate::bench::Stamper;
use crate::error::{Outcome, during, failed};
use crate::latency::Latencies;
use crate::stamp::{Arena, Request, Template};
use crate::views::{BatchView, ReceiptView, StepView};
use crate::wire::{Caller, Connection};

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `Publish`: one call a message.
    Unary,
    /// `PublishBatch`, with so many messages each.
    Batch(u64),
    /// `PublishStream`, with so many messages in each request.
    Stream(u64),
}

/// A load of messages to publish.
pub(crate) struct Load {
    /// Where to; taken in turn.
    pub(crate) topics: Vec<String>,
    /// How many.
    pub(crate) messages: u64,
    /// Bytes of each payload.
    pub(crate) size: usize,
    /// How they are sent.
    pub(crate) mode: Mode,
    /// Requests on their way, all connections together.
    pub(crate) in_flight: u32,
}

/// What the publishers of one load share.
struct Shared {
    load: Load,
    full: Template,
    /// The last request, if it is smaller.
    rest: Option<Template>,
    /// Number of the next message nobody has taken.
    next: Cell<u64>,
    /// Messages acknowledged; a progress bar may look at it.
    done: Rc<Cell<u64>>,
    latencies: RefCell<Latencies>,
    stamper: Stamper,
}

/// Publishes everything; the answer is how long each message waited for its acknowledgement.
pub(crate) async fn publish(
    connections: &[Connection],
    load: Load,
    stamper: Stamper,
    done: Rc<Cell<u64>>,
) -> Outcome<Latencies> {
    let (request, batch) = match load.mode {
        Mode::Unary => (Request::Single, 1),
        Mode::Batch(batch) => (Request::Batch, batch),
        Mode::Stream(batch) => (Request::StreamStep, batch),
    };
    let rest = load.messages % batch;
    let shared = Rc::new(Shared {
        full: Template::new(request, batch, load.size),
        rest: (rest > 0).then(|| Template::new(request, rest, load.size)),
        next: Cell::new(0),
        done,
        latencies: RefCell::new(Latencies::new()),
        stamper,
        load,
    });
    let slots = match shared.load.mode {
        Mode::Stream(_) => connections.len() as u32,
        Mode::Unary | Mode::Batch(_) => shared.load.in_flight,
    };
    let mut publishers = Vec::with_capacity(slots as usize);
    for publisher in 0..slots {
        let connection = &connections[publisher as usize % connections.len()];
        let shared = shared.clone();
        publishers.push(match shared.load.mode {
            Mode::Unary => tokio::task::spawn_local(slot(connection.caller("Publish"), shared, publisher)),
            Mode::Batch(_) => {
                tokio::task::spawn_local(slot(connection.caller("PublishBatch"), shared, publisher))
            }
            Mode::Stream(_) => {
                let in_flight = (shared.load.in_flight / slots).max(1);
                let caller = connection.caller("PublishStream");
                tokio::task::spawn_local(pipeline(caller, shared, publisher, in_flight))
            }
        });
    }
    for ended in try_join_all(publishers).await.map_err(during("a publisher panicked"))? {
        ended?;
    }
    Ok(shared.latencies.borrow().clone())
}

impl Shared {
    /// The next request: its number in the load, and what it looks like.
    fn take(&self) -> Option<(u64, &Template)> {
        let first = self.next.get();
        let left = self.load.messages.checked_sub(first).filter(|left| *left > 0)?;
        let template = if left < self.full.messages() { self.rest.as_ref()? } else { &self.full };
        self.next.set(first + template.messages());
        Some((first, template))
    }

    fn topic(&self, number: u64) -> &str {
        let request = number / self.full.messages();
        &self.load.topics[(request % self.load.topics.len() as u64) as usize]
    }

    fn record(&self, sent: Instant, messages: u64) {
        self.latencies.borrow_mut().record_many(sent.elapsed(), messages);
        self.done.set(self.done.get() + messages);
    }
}

/// One request after the other.
async fn slot(mut caller: Caller, shared: Rc<Shared>, publisher: u32) -> Outcome {
    let mut arena = Arena::new();
    while let Some((number, template)) = shared.take() {
        let sent = Instant::now();
        let stamp = shared.stamper.stamp(publisher, number, sent);
        let answer = caller.call(template.stamped(&mut arena, shared.topic(number), stamp)).await?;
        match shared.load.mode {
            Mode::Unary => check_receipt(&ReceiptView::decode(answer).map_err(during("reading a receipt"))?)?,
            Mode::Batch(_) | Mode::Stream(_) => check_batch(answer)?,
        }
        shared.record(sent, template.messages());
    }
    Ok(())
}

/// Many requests on their way on one stream.
async fn pipeline(mut caller: Caller, shared: Rc<Shared>, publisher: u32, in_flight: u32) -> Outcome {
    let mut arena = Arena::new();
    let mut sent: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut next = || {
        let (number, template) = shared.take()?;
        let now = Instant::now();
        let stamp = shared.stamper.stamp(publisher, number, now);
        let frame = template.stamped(&mut arena, shared.topic(number), stamp);
        Some((frame, (now, template.messages())))
    };
    let Some((first, waiting)) = next() else { return Ok(()) };
    sent.push_back(waiting);
    // The broker's headers may come with its first answer only, so the first request goes along.
    let mut conversation = caller.converse(first).await?;
    let mut is_open = true;
    loop {
        while is_open && sent.len() < in_flight as usize {
            if let Some((frame, waiting)) = next() {
                conversation.send(frame).await?;
                sent.push_back(waiting);
            } else {
                conversation.close();
                is_open = false;
            }
        }
        let Some((at, messages)) = sent.pop_front() else { return Ok(()) };
        let answer = conversation.frames.next().await?;
        let answer = answer.ok_or_else(|| failed("the broker ended a publish stream too early"))?;
        let step = StepView::decode(answer).map_err(during("reading receipts"))?;
        step.results.iter().try_for_each(check_receipt)?;
        shared.record(at, messages);
    }
}

/// A message that was refused ends the measurement.
pub(crate) fn check_receipt(receipt: &ReceiptView) -> Outcome {
    if receipt.success { Ok(()) } else { Err(failed(format!("a message was refused: {}", receipt.error))) }
}

fn check_batch(answer: Bytes) -> Outcome {
    let batch = BatchView::decode(answer).map_err(during("reading receipts"))?;
    if batch.error_count == 0 {
        return Ok(());
    }
    Err(failed(format!("{} messages of a batch were refused", batch.error_count)))
}

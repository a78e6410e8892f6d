//! Publishing at a fixed rate, whatever the broker does.
//!
//! ```text
//!   pace.rs: message 7 is due ─▶ a caller that is free, or a new one ─Publish─▶ answer ─▶ free again
//!                                                  └── due … answer: its latency
//! ```
//!
//! A caller is one *publisher* of the stamps: it has one call on its way, so its messages keep their order in a topic. How many are on
//! their way is up to the broker, within [`IN_FLIGHT_MAX`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;

use crate::bench::Stamper;
use crate::error::{BenchError, Outcome, during};
use crate::latency::Latencies;
use crate::pace::{Pacer, Schedule};
use crate::publisher::check_receipt;
use crate::stamp::{Arena, Request, Template};
use crate::views::ReceiptView;
use crate::wire::{Caller, Connection};

/// With more than this on its way the broker does not keep up, and waiting is all there is to measure.
const IN_FLIGHT_MAX: u32 = 20_000;

/// A load at a fixed rate, one call a message.
pub(crate) struct PacedLoad {
    /// Where to; taken in turn.
    pub(crate) topics: Vec<String>,
    /// How many.
    pub(crate) messages: u64,
    /// Bytes of each payload.
    pub(crate) size: usize,
    /// Messages a second.
    pub(crate) rate: u64,
    /// When the first one is due.
    pub(crate) start: Instant,
}

/// What became of a paced load.
pub(crate) struct Paced {
    /// From when a message was due until it was acknowledged.
    pub(crate) acknowledged: Latencies,
    /// From when a message was due until it was sent: what the load generator itself was late.
    pub(crate) late: Latencies,
    /// Requests that were on their way at a time, at most.
    pub(crate) in_flight_peak: u32,
}

/// What the tasks of a paced load share.
struct PacedShared {
    found: RefCell<Paced>,
    /// Callers without a call, each with its number as a publisher.
    free: RefCell<Vec<(Caller, u32)>>,
    in_flight: Cell<u32>,
    failure: RefCell<Option<BenchError>>,
    done: Rc<Cell<u64>>,
    /// Told whenever a call has ended.
    ended: tokio::sync::Notify,
}

/// Publishes at a fixed rate, whatever the broker does.
pub(crate) async fn publish(
    connections: &[Connection],
    load: PacedLoad,
    stamper: Stamper,
    done: Rc<Cell<u64>>,
) -> Outcome<Paced> {
    let schedule = Schedule::new(load.rate);
    let pacer = Pacer::start(schedule, load.start, load.messages)?;
    let template = Template::new(Request::Single, 1, load.size);
    let mut arena = Arena::new();
    let shared = Rc::new(PacedShared {
        found: RefCell::new(Paced {
            acknowledged: Latencies::new(),
            late: Latencies::new(),
            in_flight_peak: 0,
        }),
        free: RefCell::new(Vec::new()),
        in_flight: Cell::new(0),
        failure: RefCell::new(None),
        done,
        ended: tokio::sync::Notify::new(),
    });
    let mut publishers = 0;
    for number in 0..load.messages {
        let due = load.start + schedule.due(number);
        pacer.reach(number).await;
        while shared.in_flight.get() >= IN_FLIGHT_MAX {
            shared.ended.notified().await;
        }
        if shared.failure.borrow().is_some() {
            break;
        }
        let free = shared.free.borrow_mut().pop();
        let (caller, publisher) = if let Some(free) = free {
            free
        } else {
            publishers += 1;
            (connections[publishers as usize % connections.len()].caller("Publish"), publishers)
        };
        let topic = &load.topics[(number % load.topics.len() as u64) as usize];
        let frame = template.stamped(&mut arena, topic, stamper.stamp(publisher, number, due));
        shared.begin(due);
        tokio::task::spawn_local(paced_call(caller, publisher, (frame, due), shared.clone()));
    }
    while shared.in_flight.get() > 0 {
        shared.ended.notified().await;
    }
    if let Some(failure) = shared.failure.borrow_mut().take() {
        return Err(failure);
    }
    let nothing = Paced { acknowledged: Latencies::new(), late: Latencies::new(), in_flight_peak: 0 };
    Ok(shared.found.replace(nothing))
}

impl PacedShared {
    fn begin(&self, due: Instant) {
        let in_flight = self.in_flight.get() + 1;
        self.in_flight.set(in_flight);
        let mut found = self.found.borrow_mut();
        found.late.record(due.elapsed());
        found.in_flight_peak = found.in_flight_peak.max(in_flight);
    }
}

async fn paced_call(mut caller: Caller, publisher: u32, request: (Bytes, Instant), shared: Rc<PacedShared>) {
    let (frame, due) = request;
    let outcome = caller
        .call(frame)
        .await
        .and_then(|answer| check_receipt(&ReceiptView::decode(answer).map_err(during("reading a receipt"))?));
    match outcome {
        Ok(()) => shared.found.borrow_mut().acknowledged.record(due.elapsed()),
        Err(error) => *shared.failure.borrow_mut() = Some(error),
    }
    shared.free.borrow_mut().push((caller, publisher));
    shared.in_flight.set(shared.in_flight.get() - 1);
    shared.done.set(shared.done.get() + 1);
    shared.ended.notify_one();
}

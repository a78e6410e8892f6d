//! Publishing at a fixed rate over one publish stream: what is due goes out together.
//!
//! ```text
//!   due      0   1   2   3   4   5
//!   request  [0] [1] [2  ·  ·] …           the broker or this machine was busy when 3 and 4 were due: one request for 2, 3, 4
//!   latency  from when each message was due, to the answer of its request
//! ```
//!
//! As programs with a steady flow of messages publish: no call a message, no waiting for a batch to fill. One publisher of the stamps.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use prost::Message as _;
use ratatoskr_proto::PublishStreamRequest;

use crate::bench::Stamper;
use crate::error::{Outcome, during, failed};
use crate::latency::Latencies;
use crate::pace::{Pacer, Schedule};
use crate::paced::{Paced, PacedLoad};
use crate::publisher::check_receipt;
use crate::stamp::{Arena, Request, Template, frame_of};
use crate::views::StepView;
use crate::wire::Connection;

/// Messages of one request, at most.
const STEP_MESSAGES_MAX: u64 = 500;
/// Requests on their way, at most: what the broker allows a stream, and a few less.
const IN_FLIGHT_MAX: usize = 1000;

/// Publishes at a fixed rate, whatever the broker does; all to the first topic.
pub(crate) async fn publish(
    connection: &Connection,
    load: PacedLoad,
    stamper: Stamper,
    done: Rc<Cell<u64>>,
) -> Outcome<Paced> {
    let schedule = Schedule::new(load.rate);
    let template = Template::new(Request::StreamStep, STEP_MESSAGES_MAX, load.size);
    let mut arena = Arena::new();
    let topic = load.topics.first().ok_or_else(|| failed("there is no topic to publish to"))?;
    // A request without messages is answered in its turn: the stream is there.
    let nothing = frame_of(&PublishStreamRequest::default());
    let mut conversation = connection.caller("PublishStream").converse(nothing).await?;
    let mut open: VecDeque<(u64, u64)> = VecDeque::from([(0, 0)]);
    let mut found = Paced { acknowledged: Latencies::new(), late: Latencies::new(), in_flight_peak: 0 };
    let mut sent = 0;
    let pacer = Pacer::start(schedule, load.start, load.messages)?;
    while sent < load.messages || !open.is_empty() {
        let may_send = sent < load.messages && open.len() < IN_FLIGHT_MAX;
        tokio::select! {
            biased;
            answer = conversation.frames.next(), if !open.is_empty() => {
                let answer = answer?.ok_or_else(|| failed("the broker ended a publish stream too early"))?;
                let step = StepView::decode(answer).map_err(during("reading receipts"))?;
                step.results.iter().try_for_each(check_receipt)?;
                let (first, messages) = open.pop_front().ok_or_else(|| failed("an answer came without a request"))?;
                for number in first..first + messages {
                    found.acknowledged.record((load.start + schedule.due(number)).elapsed());
                }
                done.set(done.get() + messages);
            }
            () = pacer.reach(sent), if may_send => {
                let messages = (pacer.due() - sent).min(STEP_MESSAGES_MAX);
                let stamp = |index| stamper.stamp(0, sent + index, load.start + schedule.due(sent + index));
                let frame = template.stamped_some(&mut arena, topic, (messages, stamp));
                conversation.send(frame).await?;
                for number in sent..sent + messages {
                    found.late.record((load.start + schedule.due(number)).elapsed());
                }
                open.push_back((sent, messages));
                found.in_flight_peak = found.in_flight_peak.max(open.len() as u32);
                sent += messages;
            }
        }
    }
    Ok(found)
}

//! What the short way asks before it takes a call: nothing, where nobody is asked who they are.
//!
//! ```text
//!   head ──enter──▶ Asked ──message, batch, step──▶ the short way, or the long one with places set aside, or a refusal
//! ```
//!
//! The long way through tonic's routes has `guarded.rs` for the same.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use ratatoskr_broker::Broker;
use ratatoskr_proto::{BatchView, PublishView};
use tonic::Status;

use crate::access::{Action, Gate, Reservation};
use crate::door::link::Link;
use crate::door::route::Route;
use crate::door::{Worker, decoding};
use crate::guarded::admit;

/// Who makes a call; `None` where nobody is asked.
pub(super) type Asked = Option<Box<Gate>>;

/// How a request that is let in goes on. `None`: the short way. Else the long way, with the places of topics it makes.
pub(super) type Way = Option<Vec<Reservation>>;

/// Lets a call in, by its head, if it is known who makes it.
pub(super) fn enter(worker: &Worker, link: &Link, route: Route) -> Result<Asked, Status> {
    if !worker.guard.access.asks() {
        return Ok(None);
    }
    let gate = {
        let http2 = link.http2();
        let authorization = http2.fields().iter().find(|(name, _)| *name == b"authorization");
        Gate::enter(&link.visitor, authorization.map(|(_, value)| value), route.call())?
    };
    if route == Route::PublishStream {
        // Where to is seen later, if anything comes at all.
        gate.may_anywhere(Action::Publish)?;
    }
    Ok(Some(Box::new(gate)))
}

/// Lets a `Publish` in.
pub(super) fn message(asked: &Asked, broker: &Broker, request: &Bytes) -> Result<Way, Status> {
    let Some(gate) = asked else { return Ok(None) };
    if let Some(view) = PublishView::read(request) {
        let place = gate.may_publish(broker, view.topic, 1, weight(&view))?;
        return Ok(place.map(|place| vec![place]));
    }
    let message = decoding::message(request)?;
    admit(gate, broker, "", std::slice::from_ref(&message)).map(Some)
}

/// Lets a `PublishBatch` in.
pub(super) fn batch(asked: &Asked, broker: &Broker, request: &Bytes) -> Result<Way, Status> {
    let Some(gate) = asked else { return Ok(None) };
    if let Some(load) = BatchView::read_batch(request).as_ref().and_then(load_of) {
        return load.admit(gate, broker);
    }
    let batch = decoding::batch(request)?;
    admit(gate, broker, &batch.topic, &batch.messages).map(Some)
}

/// Lets a step of a `PublishStream` in, by the policy of now.
pub(super) fn step(asked: &mut Asked, broker: &Broker, request: &Bytes) -> Result<Way, Status> {
    let Some(gate) = asked else { return Ok(None) };
    gate.renew()?;
    if let Some(load) = BatchView::read_step(request).as_ref().and_then(load_of) {
        return load.admit(gate, broker);
    }
    let step = decoding::step(request)?;
    admit(gate, broker, &step.topic, &step.messages).map(Some)
}

/// Ends when a subscriber may read no more.
pub(super) fn revoked(asked: Asked, topic: &str) -> BoxFuture<'static, Status> {
    match asked {
        Some(gate) => Box::pin(gate.revoked(Action::Subscribe, topic.to_owned())),
        None => Box::pin(std::future::pending()),
    }
}

/// Messages for one topic.
struct Load<'a> {
    topic: &'a str,
    messages: u64,
    bytes: u64,
}

impl Load<'_> {
    fn admit(&self, gate: &Gate, broker: &Broker) -> Result<Way, Status> {
        let place = gate.may_publish(broker, self.topic, self.messages, self.bytes)?;
        Ok(place.map(|place| vec![place]))
    }
}

/// What a batch weighs, if it is plain and has messages for one topic only.
fn load_of<'a>(batch: &BatchView<'a>) -> Option<Load<'a>> {
    let mut load: Option<Load<'a>> = None;
    for message in batch.messages() {
        let view = PublishView::read(message)?;
        let topic = if view.topic.is_empty() { batch.topic } else { view.topic };
        let load = load.get_or_insert(Load { topic, messages: 0, bytes: 0 });
        if load.topic != topic {
            return None;
        }
        load.messages += 1;
        load.bytes += weight(&view);
    }
    load
}

/// Bytes of a message, as the limits count them.
fn weight(view: &PublishView<'_>) -> u64 {
    let metadata: usize = view.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    (view.payload.len() + view.key.len() + metadata) as u64
}

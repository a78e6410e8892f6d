//! What the short way asks before it takes a call: nothing, where nobody is asked who they are.
//!
//! ```text
//!   head ──enter──▶ Asked ──message, batch, step──▶ the short way or the long one, or a refusal
//! ```
//!
//! The long way through tonic's routes has `guarded.rs` for the same.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use ratatoskr_broker::Broker;
use ratatoskr_proto::{BatchView, PublishView};
use tonic::Status;

use crate::access::{Action, Gate, Load, Permit};
use crate::door::link::Link;
use crate::door::route::{Route, Target};
use crate::door::{Worker, decoding};
use crate::guarded::admit;

/// Who makes a call; `None` where nobody is asked.
pub(super) type Asked = Option<Box<Gate>>;

/// How a request that is let in goes on, with what it holds until it is done.
pub(super) enum Way {
    /// The short way, if it is plain.
    Short(Permit),
    /// The long way: a topic is to be made, or there are several.
    Long { _permits: Vec<Permit> },
}

impl Way {
    fn of(permit: Permit) -> Way {
        if permit.place.is_none() { Way::Short(permit) } else { Way::Long { _permits: vec![permit] } }
    }

    fn unasked() -> Way {
        Way::Short(Permit::default())
    }

    /// The short way with a draft, if there is both.
    pub(super) fn with<T>(self, draft: impl FnOnce() -> Option<T>) -> Result<(T, Permit), Way> {
        match self {
            Way::Short(permit) => match draft() {
                Some(draft) => Ok((draft, permit)),
                None => Err(Way::Short(permit)),
            },
            long @ Way::Long { .. } => Err(long),
        }
    }
}

/// Who makes a call, told by its head.
pub(super) enum Entered {
    /// Anybody: nobody is asked.
    Anyone,
    /// Somebody who is known.
    Known(Box<Gate>),
    /// A probe without credentials.
    Probe,
}

/// Lets a call in, by its head, if it is known who makes it, or if it is a probe: on every route, before any of its body is kept.
pub(super) fn enter(
    worker: &Worker,
    link: &Link,
    target: Target,
    authorization: Option<&[u8]>,
) -> Result<Entered, Status> {
    if !worker.guard.access.asks() {
        return Ok(Entered::Anyone);
    }
    // What a probe shows by mistake is no attempt to come in.
    if target.is_probe && link.visitor.caller(authorization).is_err() {
        return Ok(Entered::Probe);
    }
    let gate = Gate::enter(&link.visitor, authorization, target.name)?;
    if target.route == Route::PublishStream {
        // Where to is seen later, if anything comes at all.
        gate.may_anywhere(Action::Publish)?;
    }
    Ok(Entered::Known(Box::new(gate)))
}

/// Whose call it is, by the policy of now, to have what it does written down. Where nobody is asked, all are the same one.
pub(super) fn gate_of(link: &Link, asked: &Asked, call: &'static str) -> Result<Gate, Status> {
    match asked {
        Some(gate) => {
            let mut gate = Gate::clone(gate);
            gate.renew()?;
            Ok(gate)
        }
        None => Gate::enter(&link.visitor, None, call),
    }
}

/// Lets a `Publish` in, by the policy of now: its request may have come long after its head.
pub(super) fn message(asked: &mut Asked, broker: &Broker, request: &Bytes) -> Result<Way, Status> {
    let Some(gate) = asked else { return Ok(Way::unasked()) };
    gate.renew()?;
    if let Some(view) = PublishView::read(request) {
        let mut load = Load::default();
        count(&mut load, &view);
        return gate.may_publish(broker, view.topic, &load).map(Way::of);
    }
    let (message, _) = decoding::message(request)?;
    admit(gate, broker, "", std::slice::from_ref(&message)).map(|permits| Way::Long { _permits: permits })
}

/// The same for a `PublishBatch`.
pub(super) fn batch(asked: &mut Asked, broker: &Broker, request: &Bytes) -> Result<Way, Status> {
    let Some(gate) = asked else { return Ok(Way::unasked()) };
    gate.renew()?;
    if let Some(load) = BatchView::read_batch(request).as_ref().and_then(load_of) {
        return gate.may_publish(broker, load.0, &load.1).map(Way::of);
    }
    let (batch, _) = decoding::batch(request)?;
    admit(gate, broker, &batch.topic, &batch.messages).map(|permits| Way::Long { _permits: permits })
}

/// Lets a step of a `PublishStream` in, by the policy of now.
pub(super) fn step(asked: &mut Asked, broker: &Broker, request: &Bytes) -> Result<Way, Status> {
    let Some(gate) = asked else { return Ok(Way::unasked()) };
    gate.renew()?;
    if let Some(load) = BatchView::read_step(request).as_ref().and_then(load_of) {
        return gate.may_publish(broker, load.0, &load.1).map(Way::of);
    }
    let (step, _) = decoding::step(request)?;
    admit(gate, broker, &step.topic, &step.messages).map(|permits| Way::Long { _permits: permits })
}

/// Ends when a subscriber may read no more.
pub(super) fn revoked(asked: Asked, topic: &str) -> BoxFuture<'static, Status> {
    match asked {
        Some(gate) => Box::pin(gate.revoked(Action::Subscribe, topic.to_owned())),
        None => Box::pin(std::future::pending()),
    }
}

/// What a batch weighs, and on which topic, if it is plain and has messages for one only.
fn load_of<'a>(batch: &BatchView<'a>) -> Option<(&'a str, Load)> {
    let mut load: Option<(&'a str, Load)> = None;
    for message in batch.messages() {
        let view = PublishView::read(message)?;
        let topic = if view.topic.is_empty() { batch.topic } else { view.topic };
        let (known, load) = load.get_or_insert((topic, Load::default()));
        if *known != topic {
            return None;
        }
        count(load, &view);
    }
    load
}

/// Adds a message to a load.
fn count(load: &mut Load, view: &PublishView<'_>) {
    let metadata: usize = view.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    load.add(view.payload.len() + view.key.len() + metadata, view.metadata.len(), view.dedup_id.len());
}

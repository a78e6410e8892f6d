//! `Subscribe` on the short way: one cursor a subscriber, frames shared by all that stand at the same place.
//!
//! ```text
//!   woken ─▶ cursor ─▶ frames from here remembered by this worker? ──yes──▶ shared, cursor passes them
//!                                                                  └─no───▶ read, encoded once, remembered
//! ```
//!
//! There is no queue per subscriber: the next batch is asked for when the last one is on its way, so a slow client costs one batch of memory
//! and its place in the log. With the name of a durable subscription the subscriber is a member; its messages are its own.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use prost::Message;
use ratatoskr_broker::{Broker, Durability, Subscription, SubscriptionEnd, TopicName};
use ratatoskr_http2::StreamId;
use ratatoskr_proto::{SUBSCRIPTION_CREATED_METADATA, SUBSCRIPTION_REF_METADATA, SubscribeRequest};
use tonic::Status;

use crate::access::{Action, Gate};
use crate::consume::Joiner;
use crate::convert::subscription_from_wire;
use crate::door::asking::{self, Asked};
use crate::door::link::Link;
use crate::door::publishing::OK;
use crate::door::tonic_call::{refuse, status_ending};
use crate::door::{Worker, calls};
use crate::encoding::{frames, shared_frames};
use crate::fetch::Subscribed;
use crate::memory::{Budget, counted};
use crate::message_frame::put_message;
use crate::peer_end::PeerEnd;
use crate::served::StreamEnds;
use crate::{fetch, status};

/// A subscriber's request has come.
pub(super) fn begin(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, request: &Bytes, asked: Asked) {
    let request: SubscribeRequest = match ratatoskr_proto::decode_counted(request.clone()) {
        Ok(request) => request,
        Err(status) => return refuse(link, stream, &status),
    };
    let gate = match asking::gate_of(link, &asked, "Subscribe") {
        Ok(gate) => gate,
        Err(status) => return refuse(link, stream, &status),
    };
    if let Err(status) = gate.may(Action::Subscribe, &request.topic) {
        return refuse(link, stream, &status);
    }
    let revoked = asking::revoked(asked, &request.topic);
    let peer_end = Arc::<PeerEnd>::default();
    let (place, ends) = (
        (Rc::clone(worker), Rc::clone(link), stream),
        StreamEnds::new(&worker.closing, Arc::clone(&peer_end)),
    );
    let feeding = feed(place, (request, gate), revoked, ends);
    calls::spawn_for(link, stream, (None, peer_end), feeding);
}

async fn feed(
    (worker, link, stream): (Rc<Worker>, Rc<Link>, StreamId),
    (request, gate): (SubscribeRequest, Gate),
    mut revoked: BoxFuture<'static, Status>,
    ends: StreamEnds,
) {
    if !request.subscription.is_empty() {
        let joiner = Joiner { broker: &worker.broker, gate: &gate };
        match fetch::subscribe(&joiner, request, ends).await {
            Ok(subscribed) => deliver(&link, stream, subscribed, revoked).await,
            Err(status) => refuse(&link, stream, &status),
        }
        return;
    }
    let broker = worker.broker.scanning_as(gate.takes_turns_as());
    drop(gate);
    let mut follower = match follow(&broker, request) {
        Ok(follower) => follower,
        Err(status) => return refuse(&link, stream, &status),
    };
    if let Some(status) = (&mut revoked).now_or_never() {
        return refuse(&link, stream, &status);
    }
    write_head(&link, stream, [(SUBSCRIPTION_REF_METADATA, follower.subscription.reference())]);
    let mut closed = Box::pin(worker.closing.clone().closed());
    link.http2().share(stream);
    let end = loop {
        let next = async {
            link.room_for_more(stream).await;
            follower.next_frames(link.memory(), &worker.guard.clients.memory).await
        };
        let batch = tokio::select! {
            biased;
            // First: a stream that never waits is to hear of it, too.
            status = &mut revoked => break status_ending(&link, &status),
            batch = next => batch,
            () = &mut closed => break status_ending(&link, &status::shutting_down()),
        };
        match batch {
            Ok(frames) => link.http2().send_data(stream, frames),
            Err(end) => {
                let topic = follower.subscription.topic();
                break status::subscription_end(&end, topic.as_str())
                    .map_or(OK, |status| status_ending(&link, &status));
            }
        }
        link.wake();
    };
    link.http2().end(stream, end);
}

/// `Subscribe` with the name of a durable subscription.
async fn deliver(
    link: &Link,
    stream: StreamId,
    subscribed: Subscribed,
    mut revoked: BoxFuture<'static, Status>,
) {
    if let Some(status) = (&mut revoked).now_or_never() {
        return refuse(link, stream, &status);
    }
    let created = subscribed.has_created().then_some((SUBSCRIPTION_CREATED_METADATA, "true"));
    write_head(
        link,
        stream,
        [(SUBSCRIPTION_REF_METADATA, subscribed.reference())].into_iter().chain(created),
    );
    let mut messages = subscribed.into_stream();
    let mut buffer = BytesMut::new();
    let end = loop {
        let next = async {
            link.room_for_more(stream).await;
            messages.next().await
        };
        let next = tokio::select! {
            biased;
            status = &mut revoked => break status_ending(link, &status),
            next = next => next,
        };
        match next {
            None => break OK,
            Some(Err(status)) => break status_ending(link, &status),
            Some(Ok(message)) => put_message(&mut buffer, |buffer| message.encode_raw(buffer)),
        }
        link.http2().send_data(stream, buffer.split().freeze());
        link.wake();
    };
    link.http2().end(stream, end);
}

fn write_head<'a>(
    link: &Link,
    stream: StreamId,
    metadata: impl IntoIterator<Item = (&'static str, &'a str)>,
) {
    link.http2().send_headers(stream, |fields| {
        fields.known(":status", "200").known("content-type", "application/grpc");
        for (name, value) in metadata {
            fields.put(name, value);
        }
    });
    link.wake();
}

/// A subscription and what is told with its messages.
struct Follower {
    /// The cursor; dropping it unsubscribes.
    subscription: Subscription,
    /// What publishers of this topic were promised.
    receipt: Durability,
    /// Nothing has been sent: the first message carries the reference.
    is_new: bool,
}

fn follow(broker: &Broker, request: SubscribeRequest) -> Result<Follower, Status> {
    let topic = TopicName::parse(&request.topic).map_err(|error| status::bad_name("topic", &error))?;
    let options = subscription_from_wire(request).map_err(|error| status::bad_field(error.field, &error))?;
    let subscription = broker.subscribe(&topic, options).map_err(|error| status::subscribe_status(&error))?;
    // A topic's durability never changes, so one look is enough. A topic that is gone by now has
    // ended the subscription already.
    let receipt =
        broker.describe_topic(&topic).map_or_else(Durability::default, |topic| topic.settings.durability);
    Ok(Follower { subscription, receipt, is_new: true })
}

impl Follower {
    /// What nobody else is sent is its client's to hold, and the rest all callers'.
    async fn next_frames(&mut self, own: &Arc<Budget>, all: &Arc<Budget>) -> Result<Bytes, SubscriptionEnd> {
        let Follower { subscription, receipt, is_new } = self;
        if *is_new {
            let messages = subscription.next_batch().await?;
            *is_new = false;
            return Ok(counted(frames(&messages, *receipt, subscription.reference()), own));
        }
        if subscription.takes_all() {
            subscription.arrived().await?;
            return shared_frames(subscription, *receipt, all).await;
        }
        let messages = subscription.next_batch().await?;
        Ok(counted(frames(&messages, *receipt, ""), own))
    }
}

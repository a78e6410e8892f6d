//! Calls on a connection: which way each goes, and what has come of it.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use futures_util::FutureExt;
use ratatoskr_http2::{ErrorCode, StreamId};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tonic::{Code, Status};

use crate::answers::AnswerMemory;
use crate::door::Worker;
use crate::door::asking::{self, Asked, Entered};
use crate::door::body::{BodyLimits, BodySender, request_body};
use crate::door::head::Head;
use crate::door::link::Link;
use crate::door::not_a_call::NotACall;
use crate::door::requests::Requests;
use crate::door::route::{Route, Target};
use crate::door::stream::{self, Steps};
use crate::door::{feed, publishing, tonic_call};
use crate::limits::{SERVED_CALL_BYTES, UNAUTHENTICATED_REQUEST_BYTES_MAX, UNAUTHENTICATED_REQUEST_TIMEOUT};
use crate::peer_end::PeerEnd;
use crate::status;

/// What a connection remembers with each stream. Dropped when the stream is gone, however that came.
#[derive(Default)]
pub(crate) enum Call {
    /// `Publish` or `PublishBatch` whose request has not come wholly.
    Gathering {
        /// Which one.
        route: Route,
        /// Who makes it.
        asked: Asked,
        /// What has come.
        request: Requests,
    },
    /// What comes for it means nothing: it has not begun, or is with the broker.
    #[default]
    Waiting,
    /// `PublishStream`.
    Steps(Box<Steps>),
    /// A task of its own serves it.
    Served {
        /// Where its request goes; nothing once it is complete.
        body: Option<BodySender>,
        /// Ends the task.
        _task: Task,
        /// How the client went, once it has.
        peer_end: Arc<PeerEnd>,
        /// Wakes the task when there is room to send.
        room: Option<Waker>,
    },
}

/// A task that ends with what holds this.
pub(crate) struct Task(AbortHandle);

impl Task {
    pub(super) fn new(task: &JoinHandle<()>) -> Task {
        Task(task.abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request's head has come.
pub(super) fn begin(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, is_end: bool) {
    let (target, entered) = match enter(worker, link) {
        Ok(entered) => entered,
        Err(Shut::NotACall(not_a_call)) => return tonic_call::refuse_as(link, stream, not_a_call),
        Err(Shut::Oversized) => {
            let message =
                "the call's metadata has more than 16 KiB (names, values and 32 bytes each); send less";
            return tonic_call::refuse(link, stream, &Status::resource_exhausted(message));
        }
        Err(Shut::Unknown(status)) => return refuse_unknown(worker, link, stream, &status),
    };
    let admitted = match &entered {
        Entered::Anyone => link.admit(&worker.traffic),
        Entered::Known(gate) => link.admit_known(worker, gate.caller().who()),
        Entered::Probe => link.admit_probe(worker),
    };
    if let Err(status) = admitted {
        return turn_away(link, stream, &status);
    }
    let asked = match entered {
        Entered::Probe => return probe(worker, link, stream, is_end),
        _ if target.has_query => return tonic_call::refuse(link, stream, &status::no_such_call()),
        _ if target.route == Route::Other => {
            return serve(worker, link, (stream, is_end), target.requests_max);
        }
        Entered::Known(gate) => Some(gate),
        Entered::Anyone => None,
    };
    match target.route {
        Route::PublishStream => stream::begin(link, stream, asked),
        route => {
            if let Some(call) = link.http2().tag(stream) {
                *call = Call::Gathering { route, asked, request: Requests::new(&link.gathered) };
            }
        }
    }
    if is_end {
        take_data(worker, link, stream, Bytes::new(), true);
    }
}

/// Why a request is refused by its head.
enum Shut {
    NotACall(NotACall),
    /// Its head is too large, and only its beginning is there.
    Oversized,
    /// Nobody known makes it, or somebody who may not.
    Unknown(Status),
}

/// Looks at a request's head: what it is for, and who makes it.
fn enter(worker: &Worker, link: &Link) -> Result<(Target, Entered), Shut> {
    let http2 = link.http2();
    let head = Head::of(http2.fields());
    NotACall::check(&head).map_err(Shut::NotACall)?;
    if http2.fields().is_oversized() {
        return Err(Shut::Oversized);
    }
    let target = Target::of(&head);
    let entered = asking::enter(worker, link, target, head.authorization).map_err(Shut::Unknown)?;
    Ok((target, entered))
}

/// Tells a call why it is not let in; where its connection is one too many, that is the end of it.
fn turn_away(link: &Link, stream: StreamId, status: &Status) {
    tonic_call::refuse(link, stream, status);
    if let Some(too_much) = link.seat().turned_away {
        // Which it has been told now.
        link.http2().go_away(ErrorCode::ENHANCE_YOUR_CALM, &too_much.to_string());
    }
}

/// Refuses a call that nobody known makes; of those, too, there may be only so many a second.
fn refuse_unknown(worker: &Worker, link: &Link, stream: StreamId, status: &Status) {
    if status.code() == Code::Unauthenticated
        && let Err(too_much) = link.entry().pay()
    {
        worker.traffic.calls_beyond_limit.increment();
        return tonic_call::refuse(link, stream, &status::too_much(&too_much));
    }
    tonic_call::refuse(link, stream, status);
}

/// A call off the hot path begins.
fn serve(worker: &Rc<Worker>, link: &Rc<Link>, (stream, is_end): (StreamId, bool), messages: u64) {
    let held = link.hold(SERVED_CALL_BYTES);
    let cut_off = async move {
        let _until_done = held;
        std::future::pending::<()>().await;
    };
    let limits = BodyLimits { bytes: usize::MAX, messages };
    serve_within(worker, link, (stream, is_end), limits, cut_off);
}

/// A probe without credentials begins: it has little to say and little time.
fn probe(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, is_end: bool) {
    let owner = Rc::clone(link);
    let counted = link.count_probe();
    let late = async move {
        let _until_done = counted;
        tokio::time::sleep(UNAUTHENTICATED_REQUEST_TIMEOUT).await;
        if owner.http2().is_answered(stream) {
            // A watch, which may last.
            std::future::pending::<()>().await;
        }
        tonic_call::fail(&owner, stream, &status::late_probe());
    };
    let limits = BodyLimits { bytes: UNAUTHENTICATED_REQUEST_BYTES_MAX, messages: 1 };
    serve_within(worker, link, (stream, is_end), limits, late);
}

/// Serves a call through tonic's routes until it is done, or `cut_off` is, which holds what the call does. Its body has at most so much.
fn serve_within(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    (stream, is_end): (StreamId, bool),
    limits: BodyLimits,
    cut_off: impl Future<Output = ()> + 'static,
) {
    let (sender, body) = if is_end {
        (None, None)
    } else {
        let (sender, body) = request_body(stream, link.backflow.clone(), &link.gathered, limits);
        (Some(sender), Some(body))
    };
    let request = tonic_call::request(link.http2().fields(), body);
    let Some(mut request) = request else {
        let call = link.http2().reset(stream, ErrorCode::PROTOCOL_ERROR);
        return drop(call);
    };
    request.extensions_mut().insert(Arc::clone(&link.visitor));
    let (budget, traffic) = (Arc::clone(link.memory()), Arc::clone(&worker.traffic));
    request.extensions_mut().insert(AnswerMemory { budget, traffic });
    let peer_end = Arc::<PeerEnd>::default();
    request.extensions_mut().insert(Arc::clone(&peer_end));
    let serving = tonic_call::serve(worker.routes.clone(), Rc::clone(link), stream, request);
    let serving = async move {
        tokio::select! {
            biased;
            () = serving => {}
            () = cut_off => {}
        }
    };
    spawn_for(link, stream, (sender, peer_end), serving);
}

/// Lets a task serve a call whose request is complete, as [`spawn_for`] does.
pub(super) fn spawn(link: &Rc<Link>, stream: StreamId, serving: impl Future<Output = ()> + 'static) {
    spawn_for(link, stream, (None, Arc::default()), serving);
}

/// Lets a task serve a call to its end; the task ends with the call. Should it panic, the client is told.
pub(super) fn spawn_for(
    link: &Rc<Link>,
    stream: StreamId,
    (body, peer_end): (Option<BodySender>, Arc<PeerEnd>),
    serving: impl Future<Output = ()> + 'static,
) {
    let (owner, serving) = (Rc::clone(link), AssertUnwindSafe(serving).catch_unwind());
    let task = spawn_local(async move {
        if serving.await.is_err() {
            tracing::error!("a call panicked");
            let call = owner.http2().reset(stream, ErrorCode::INTERNAL_ERROR);
            drop(call);
        }
        owner.wake();
    });
    if let Some(call) = link.http2().tag(stream) {
        *call = Call::Served { body, _task: Task::new(&task), peer_end, room: None };
    }
}

/// Keeps a task with the call it serves.
pub(super) fn hold(link: &Link, stream: StreamId, task: Task) {
    if let Some(call) = link.http2().tag(stream) {
        *call = Call::Served { body: None, _task: task, peer_end: Arc::default(), room: None };
    }
}

impl Call {
    /// The connection is lost, and the client had not said that it would go.
    pub(super) fn lose_peer(&self) {
        if let Call::Served { peer_end, .. } = self {
            peer_end.vanish();
        }
    }
}

/// Some of a request's body has come.
pub(super) fn take_data(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, data: Bytes, is_end: bool) {
    let mut http2 = link.http2();
    let Some(call) = http2.tag(stream) else { return };
    match call {
        Call::Served { body, .. } => {
            if let Some(sender) = body {
                let pushed = sender.push(data).and_then(|kept| link.check_request(kept, &worker.traffic));
                if let Err(status) = pushed {
                    let call = std::mem::take(call);
                    drop(http2);
                    drop(call);
                    return tonic_call::fail(link, stream, &status);
                }
                if is_end && let Some(sender) = body.take() {
                    sender.end();
                }
            }
        }
        Call::Gathering { .. } => {
            drop(http2);
            gather(worker, link, stream, data, is_end);
        }
        Call::Steps(_) => {
            drop(http2);
            stream::take_data(worker, link, stream, data, is_end);
        }
        Call::Waiting => http2.release(stream, data.len()),
    }
}

/// A piece of a request for the short way; it is published once it is whole.
fn gather(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, data: Bytes, is_end: bool) {
    let mut http2 = link.http2();
    http2.release(stream, data.len());
    let Some(call @ Call::Gathering { .. }) = http2.tag(stream) else { return };
    let Call::Gathering { route, asked, request } = call else { return };
    let route = *route;
    request.push(data);
    let whole = match request.next() {
        Ok(None) if !is_end => {
            match request.count().and_then(|()| link.check_request(request.bytes(), &worker.traffic)) {
                Ok(()) => return,
                Err(status) => Err(status),
            }
        }
        Ok(None) => Err(Status::invalid_argument("the call ended before its request was complete")),
        Ok(Some(_)) if request.is_cut() => Err(status::more_than_one()),
        Ok(Some(whole)) => Ok(whole),
        Err(status) => Err(status),
    };
    let asked = asked.take();
    *call = Call::Waiting;
    drop(http2);
    match whole {
        Err(status) => tonic_call::refuse(link, stream, &status),
        Ok(request) if route == Route::PublishBatch => {
            publishing::batch(worker, link, stream, &request, asked);
        }
        Ok(request) if route == Route::Subscribe => feed::begin(worker, link, stream, &request, asked),
        Ok(request) => publishing::single(worker, link, stream, &request, asked),
    }
}

/// Wakes those whose streams have room again.
pub(super) fn tell_room(worker: &Rc<Worker>, link: &Rc<Link>) {
    loop {
        let mut http2 = link.http2();
        let Some(stream) = http2.next_with_room() else { return };
        match http2.tag(stream) {
            Some(Call::Served { room: Some(waker), .. }) => waker.wake_by_ref(),
            Some(Call::Steps(_)) => {
                drop(http2);
                stream::has_room(worker, link, stream);
            }
            _ => {}
        }
    }
}

/// The server shuts down: streams that would go on for ever end.
pub(super) fn stop(worker: &Rc<Worker>, link: &Rc<Link>) {
    let streams = link.http2().stream_ids();
    for stream in streams {
        stream::stop(worker, link, stream);
    }
}

//! Calls on a connection: which way each goes, and what has come of it.

use std::rc::Rc;
use std::task::Waker;

use bytes::Bytes;
use ratatoskr_http2::{ErrorCode, StreamId};
use tokio::task::{AbortHandle, spawn_local};
use tonic::Status;

use crate::door::Worker;
use crate::door::body::{BodySender, request_body};
use crate::door::link::Link;
use crate::door::tonic_call;
use crate::limits::UNREAD_BYTES_PER_CONNECTION_MAX;

/// What a connection remembers with each stream. Dropped when the stream is gone, however that came.
#[derive(Default)]
pub(crate) enum Call {
    /// Nothing has begun.
    #[default]
    New,
    /// A task of its own serves it.
    Served {
        /// Where its request goes; nothing once it is complete.
        body: Option<BodySender>,
        /// Ends the task.
        _task: Task,
        /// Wakes the task when there is room to send.
        room: Option<Waker>,
    },
}

/// A task that ends with what holds this.
pub(crate) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request's head has come.
pub(super) fn begin(worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, is_end: bool) {
    if link.http2().fields().is_oversized() {
        let message = "the call's metadata has more than 16 KiB (names, values and 32 bytes each); send less";
        return tonic_call::refuse(link, stream, Status::resource_exhausted(message));
    }
    let (sender, body) = if is_end {
        (None, None)
    } else {
        let (sender, body) = request_body(stream, link.backflow.clone());
        (Some(sender), Some(body))
    };
    let request = tonic_call::request(link.http2().fields(), body);
    let Some(request) = request else {
        let call = link.http2().reset(stream, ErrorCode::PROTOCOL_ERROR);
        return drop(call);
    };
    let serving = tonic_call::serve(worker.routes.clone(), Rc::clone(link), stream, request);
    let task = Task(spawn_local(serving).abort_handle());
    if let Some(call) = link.http2().tag(stream) {
        *call = Call::Served { body: sender, _task: task, room: None };
    }
}

/// Some of a request's body has come.
pub(super) fn take_data(_worker: &Rc<Worker>, link: &Rc<Link>, stream: StreamId, data: Bytes, is_end: bool) {
    let mut http2 = link.http2();
    let unread = http2.unreleased();
    let Some(call) = http2.tag(stream) else { return };
    match call {
        Call::Served { body, .. } => {
            if unread > UNREAD_BYTES_PER_CONNECTION_MAX {
                let message = format!(
                    "requests of this connection have {unread} bytes that wait to be read; at most {UNREAD_BYTES_PER_CONNECTION_MAX} are allowed: send less at a time"
                );
                let call = std::mem::take(call);
                drop(http2);
                drop(call);
                return tonic_call::refuse(link, stream, Status::resource_exhausted(message));
            }
            if let Some(sender) = body {
                sender.push(data);
                if is_end && let Some(sender) = body.take() {
                    sender.end();
                }
            }
        }
        Call::New => {
            let length = data.len();
            http2.release(stream, length);
        }
    }
}

/// Wakes those whose streams have room again.
pub(super) fn tell_room(link: &Link) {
    loop {
        let mut http2 = link.http2();
        let Some(stream) = http2.next_with_room() else { return };
        if let Some(Call::Served { room: Some(waker), .. }) = http2.tag(stream) {
            waker.wake_by_ref();
        }
    }
}

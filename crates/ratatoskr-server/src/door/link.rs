//! [`Link`]: what a connection's task and the calls on it share.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::BytesMut;
use parking_lot::Mutex;
use ratatoskr_broker::Broken;
use ratatoskr_http2::{Announced, Connection, ErrorCode, Role, StreamId};
use tonic::Status;

use crate::access::Visitor;
use crate::clients::Seat;
use crate::door::calls::Call;
use crate::door::holder::Identity;
use crate::limits::{
    CALL_BYTES, CALLS_UNCOUNTED_MAX, CONNECTION_BYTES, FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT, HELD_STEP_BYTES,
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MEMORY_LOOK, SCRATCH_BYTES_KEPT, SERVED_CALL_BYTES,
    SMALL_REQUEST_BYTES, STREAMS_PER_CONNECTION_MAX, STUCK_BYTES_MIN, STUCK_SECONDS,
    UNREAD_BYTES_PER_CONNECTION_MAX,
};
use crate::memory::{Budget, Exhausted, Held, Wish};
use crate::status;
use crate::traffic::Traffic;

/// See the file's head.
pub(crate) struct Link {
    http2: RefCell<Connection<Call>>,
    /// Reaches the connection's task, also from other threads.
    pub(super) backflow: Arc<Backflow>,
    /// Who is at the other end.
    pub(super) visitor: Arc<Visitor>,
    /// Messages are made here.
    scratch: RefCell<BytesMut>,
    /// Bytes of requests that have not come wholly.
    pub(super) gathered: Rc<Cell<usize>>,
    /// Bytes of a frame that has not come wholly.
    pub(super) unfinished: Cell<usize>,
    /// Seconds without a sign of life, or since the beginning while the peer has not said what every client says first.
    silent_s: Cell<u64>,
    /// The task is to end now, whatever is open.
    pub(super) is_cut: Cell<bool>,
    /// The peer has said that it is about to go.
    has_said_goodbye: Cell<bool>,
    /// For whom it counts at first …
    pub(super) entry: Seat,
    /// … and once somebody known has called.
    pub(super) known: OnceCell<Seat>,
    /// Who called last, if anybody known has.
    pub(super) identity: RefCell<Option<Identity>>,
    /// Open calls without credentials, where they are asked for.
    pub(super) probes: Rc<Cell<usize>>,
    /// What this connection counts for, as of the last look.
    pub(super) held: RefCell<Held>,
    /// Open calls counted with the client, as of the last look …
    pub(super) calls: Cell<u64>,
    /// … and bytes that wait here and are shared with others.
    pub(super) shared: Cell<usize>,
    /// Whether it gives memory back that others want.
    flow: Cell<Flow>,
    /// It came when there was no room for it: until a call is let in, it has no longer than a connection that says nothing.
    is_on_trial: Cell<bool>,
}

/// What is on its way on a connection, as seen since any of it last got there.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// The most there was.
    highest: usize,
    /// The least.
    lowest: usize,
    /// Bytes of data sent on the connection before.
    sent: u64,
    /// Seconds since then.
    stuck_s: u64,
}

/// The way back from request bodies that are read elsewhere: what was read, so that the peer may send more.
#[derive(Default)]
pub(crate) struct Backflow {
    taken: Mutex<Vec<(StreamId, usize)>>,
    /// Wakes the connection's task.
    waker: Mutex<Option<Waker>>,
}

impl Backflow {
    pub(super) fn put(&self, stream: StreamId, bytes: usize) {
        self.taken.lock().push((stream, bytes));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// What was read since the last time.
    pub(super) fn take(&self) -> Vec<(StreamId, usize)> {
        std::mem::take(&mut self.taken.lock())
    }
}

impl Link {
    pub(super) fn new(visitor: Visitor, seat: Seat) -> Rc<Link> {
        let announced = Announced {
            streams_max: STREAMS_PER_CONNECTION_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
            unreleased_bytes_max: UNREAD_BYTES_PER_CONNECTION_MAX,
            ..Announced::default()
        };
        Rc::new(Link {
            http2: RefCell::new(Connection::new(Role::Server, &announced)),
            backflow: Arc::default(),
            visitor: Arc::new(visitor),
            scratch: RefCell::default(),
            gathered: Rc::default(),
            unfinished: Cell::new(0),
            silent_s: Cell::new(0),
            is_cut: Cell::new(false),
            has_said_goodbye: Cell::new(false),
            is_on_trial: Cell::new(
                seat.turned_away.is_some() || seat.client.memory.check(Wish::Begin).is_err(),
            ),
            held: RefCell::new(Held::new(&seat.client.memory, CONNECTION_BYTES)),
            entry: seat,
            known: OnceCell::new(),
            identity: RefCell::default(),
            probes: Rc::default(),
            calls: Cell::new(0),
            shared: Cell::new(0),
            flow: Cell::default(),
        })
    }

    /// The connection's state, for as long as no other call of this thread runs: never across an await.
    pub(crate) fn http2(&self) -> RefMut<'_, Connection<Call>> {
        self.http2.borrow_mut()
    }

    /// Lets `write` make a message in a buffer, and send it.
    pub(super) fn reply(&self, write: impl FnOnce(&mut Connection<Call>, &mut BytesMut)) {
        let mut scratch = self.scratch.borrow_mut();
        write(&mut self.http2.borrow_mut(), &mut scratch);
        if scratch.capacity() > SCRATCH_BYTES_KEPT {
            *scratch = BytesMut::new();
        }
    }

    /// What its client may hold.
    pub(super) fn memory(&self) -> &Arc<Budget> {
        &self.seat().client.memory
    }

    /// Refuses what would take more memory, as long as none is left for it.
    pub(super) fn check_memory(&self, wish: Wish, traffic: &Traffic) -> Result<(), Status> {
        let identity = self.identity.borrow();
        let of_identity = || identity.as_ref().map_or(Ok(()), |identity| identity.check(wish));
        self.memory().check(wish).and_then(|()| of_identity()).map_err(|exhausted| {
            traffic.calls_without_memory.increment();
            status::no_memory(&exhausted)
        })
    }

    /// Refuses more of a request of which so much has come, as long as no memory is left for it.
    pub(super) fn check_request(&self, bytes: usize, traffic: &Traffic) -> Result<(), Status> {
        let wish = if bytes > SMALL_REQUEST_BYTES { Wish::GoOn } else { Wish::Little };
        self.check_memory(wish, traffic)
    }

    /// Lets a call in, unless its client has as many as it may, or memory is used up.
    pub(super) fn admit(&self, traffic: &Traffic) -> Result<(), Status> {
        let open = self.http2().stream_count() as u64;
        let uncounted = open.saturating_sub(self.calls.get());
        if uncounted >= CALLS_UNCOUNTED_MAX {
            self.count();
        }
        self.check_memory(Wish::Begin, traffic)?;
        self.seat().admit(open.saturating_sub(self.calls.get())).map_err(|too_much| {
            traffic.calls_beyond_limit.increment();
            status::too_much(&too_much)
        })?;
        self.is_on_trial.set(false);
        Ok(())
    }

    /// Counts bytes that a call holds until the answer is dropped.
    pub(super) fn hold(&self, bytes: usize) -> Held {
        Held::new(self.memory(), bytes)
    }

    /// Counts what this connection holds now, and the calls on it.
    pub(super) fn count(&self) {
        let (open, shared) = {
            let http2 = self.http2.borrow();
            (http2.stream_count(), http2.shared())
        };
        if shared.abs_diff(self.shared.get()) >= HELD_STEP_BYTES || shared == 0 {
            self.seat().count_shared(self.shared.replace(shared), shared);
        }
        self.seat().count_calls(self.calls.replace(open as u64), open as u64);
        let cargo = self.cargo();
        let flow = self.flow.get();
        self.flow.set(Flow { highest: flow.highest.max(cargo), lowest: flow.lowest.min(cargo), ..flow });
        let bytes = if self.is_cut() {
            // Others have been let in for it.
            0
        } else {
            CONNECTION_BYTES + open * CALL_BYTES + self.probes.get() * SERVED_CALL_BYTES + cargo
        };
        let mut held = self.held.borrow_mut();
        if bytes.abs_diff(held.bytes()) >= HELD_STEP_BYTES {
            held.set(bytes);
        }
        if let Some(identity) = &*self.identity.borrow() {
            identity.count(open as u64, held.bytes());
        }
    }

    /// Bytes of what is on its way, beside what the connection and its calls cost if nothing is.
    fn cargo(&self) -> usize {
        let http2 = self.http2.borrow();
        self.gathered.get() + self.unfinished.get() + http2.unreleased() + http2.buffered()
    }

    /// Waits until a stream should be given more to send, and there is memory to make it in. There always is while nothing waits on the
    /// connection: whoever reads gets on.
    pub(super) async fn room_for_more(&self, stream: StreamId) {
        self.room(stream).await;
        while self.http2().waiting() > 0 && self.memory().check(Wish::GoOn).is_err() {
            tokio::time::sleep(MEMORY_LOOK).await;
        }
    }

    /// Waits until a stream should be given more to send.
    pub(super) async fn room(&self, stream: StreamId) {
        poll_fn(|context| {
            let mut http2 = self.http2();
            if http2.has_room(stream) {
                return Poll::Ready(());
            }
            if let Some(Call::Served { room, .. }) = http2.tag(stream) {
                *room = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Lets the connection's task write what has gathered.
    pub(crate) fn wake(&self) {
        self.backflow.wake();
    }

    /// The task has been woken, and has to be woken by this from now on.
    pub(super) fn attend(&self, waker: &Waker) {
        let mut known = self.backflow.waker.lock();
        if known.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Gives back what was read of request bodies.
    pub(super) fn take_backflow(&self) {
        let taken = self.backflow.take();
        let mut http2 = self.http2();
        for (stream, bytes) in taken {
            http2.release(stream, bytes);
        }
    }

    /// The server shuts down: no new calls.
    pub(super) fn leave(&self) {
        self.http2().go_away(ErrorCode::NO_ERROR, "the broker is shutting down");
        self.wake();
    }

    /// The peer sends no more calls, and may close the connection any time.
    pub(super) fn note_goaway(&self) {
        self.has_said_goodbye.set(true);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Asked once a second: true once the connection has held on to memory that others want for too long.
    fn is_stuck(&self) -> bool {
        let (cargo, sent, held) = {
            let http2 = self.http2.borrow();
            let (cargo, calls) = (self.cargo(), http2.stream_count() * CALL_BYTES);
            let on_its_way = cargo + http2.waiting();
            let held = match self.memory().check(Wish::Begin) {
                _ if self.seat().is_greedy() => on_its_way + calls,
                Ok(()) | Err(Exhausted::Callers { .. }) => 0,
                Err(_) => on_its_way,
            };
            (cargo, http2.data_sent(), held)
        };
        let flow = self.flow.get();
        let has_moved = sent - flow.sent >= STUCK_BYTES_MIN as u64
            || flow.highest >= flow.lowest + STUCK_BYTES_MIN
            || held < STUCK_BYTES_MIN
            || Broken::Stuck.is_on();
        if has_moved {
            self.flow.set(Flow { highest: cargo, lowest: cargo, sent, stuck_s: 0 });
            return false;
        }
        self.flow.set(Flow { stuck_s: flow.stuck_s + 1, ..flow });
        flow.stuck_s + 1 >= STUCK_SECONDS
    }

    /// A second has passed.
    pub(super) fn tick(&self, traffic: &Traffic) {
        self.count();
        if self.is_stuck() {
            traffic.connections_stuck.increment();
            // No further connection is closed for what this one gives back.
            return self.cut();
        }
        let mut http2 = self.http2();
        http2.tick();
        let is_greeted = http2.is_greeted();
        // Who is on trial has as long for a call that is let in; the others are told why they are not.
        let is_awaited = is_greeted && !self.is_on_trial.get();
        if http2.take_liveliness() && is_awaited {
            self.silent_s.set(0);
            return;
        }
        let silent_s = self.silent_s.get() + 1;
        self.silent_s.set(silent_s);
        // Byte by byte is not fast enough.
        let is_late = !is_awaited && silent_s >= HANDSHAKE_TIMEOUT.as_secs();
        if is_late || silent_s >= (KEEPALIVE_INTERVAL + KEEPALIVE_TIMEOUT).as_secs() {
            self.is_cut.set(true);
        } else if silent_s == KEEPALIVE_INTERVAL.as_secs() {
            http2.ping();
        } else {
            return;
        }
        drop(http2);
        self.wake();
    }

    /// The connection is gone, and with it all calls on it.
    pub(super) fn end(&self) {
        self.end_calls_as(if self.has_said_goodbye.get() { |_| {} } else { Call::lose_peer });
        self.count();
        self.seat().count_shared(self.shared.take(), 0);
        *self.identity.borrow_mut() = None;
        *self.backflow.waker.lock() = None;
    }

    /// Nobody is left to hear what comes of the calls.
    pub(super) fn end_calls(&self) {
        self.end_calls_as(|_| {});
    }

    /// The same, and says of each how it ended.
    fn end_calls_as(&self, note: fn(&Call)) {
        let mut calls = Vec::new();
        {
            let mut http2 = self.http2();
            for stream in http2.stream_ids() {
                calls.extend(http2.remove(stream));
            }
        }
        calls.iter().for_each(note);
        // Outside of the borrow: what ends a call may look at the link.
        drop(calls);
    }
}

//! [`Listener`]: takes in what a consumer sends, whether or not it reads.
//!
//! ```text
//!   requests ──▶ Listener ──settle──▶ broker
//!                  │   └─────window─▶
//!                  └──fates to come, the end──▶ the response stream
//! ```
//!
//! Settlements are in the broker's hands as soon as they have been read. Bounded: what is not told yet holds permits, and while there are none left
//! the stream is not read on, which the client feels by HTTP/2's flow control. It also holds memory of its client's, over all streams: a step
//! for which none is left ends the stream. When the server stops, what has arrived is still taken in.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use ratatoskr_broker::{Broker, WindowSetter};
use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step as Ask;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Code, Status, Streaming};

use crate::access::Gate;
use crate::answers::AnswerMemory;
use crate::closing::Closing;
use crate::convert::subscriptions::window_from_wire;
use crate::limits::SETTLEMENTS_IN_FLIGHT_MAX;
use crate::memory::Held;
use crate::settle::{begin, check_count, step_bytes};
use crate::status;

/// What the response stream is told.
pub(super) enum Heard {
    /// Settlements are under way. With what bounds them; none for the last one before the server stops.
    Settling(BoxFuture<'static, (wire::Fates, Held)>, Option<OwnedSemaphorePermit>),
    /// Nothing more is heard. Comes last, once.
    End(Ending),
}

/// Why nothing more is heard.
pub(super) enum Ending {
    /// The client has closed its side.
    Closed,
    /// The server stops.
    Stopping,
    /// What came cannot be.
    Refused(Status),
    /// The stream broke.
    Broken(Status),
}

/// See the file's head.
pub(super) struct Listener {
    broker: Broker,
    requests: Streaming<wire::ConsumeRequest>,
    telling: Telling,
    /// Settlements that may be heard before fates are told.
    room: Arc<Semaphore>,
}

/// Whom the listener tells, and whom it asks.
pub(super) struct Telling {
    pub(super) windows: WindowSetter,
    pub(super) tell: mpsc::UnboundedSender<Heard>,
    /// Tokens of other subscriptions may be settled here, too.
    pub(super) gate: Gate,
    /// What steps hold until their fates are told.
    pub(super) memory: AnswerMemory,
}

/// A step of settlements, and what it holds.
type Step = (wire::ConsumeSettle, Held);

impl Listener {
    pub(super) fn new(
        broker: &Broker,
        requests: Streaming<wire::ConsumeRequest>,
        telling: Telling,
    ) -> Listener {
        let room = Arc::new(Semaphore::new(SETTLEMENTS_IN_FLIGHT_MAX));
        Listener { broker: broker.clone(), requests, telling, room }
    }

    /// Listens until the end, which is told.
    pub(super) async fn run(mut self, closing: Closing) {
        let ending = match self.listen(closing).await {
            Err(ending) => ending,
            Ok(()) => self.take_in_the_rest().err().unwrap_or(Ending::Stopping),
        };
        let _ = self.telling.tell.send(Heard::End(ending));
    }

    /// Listens until the server stops, or the client has no more to say.
    async fn listen(&mut self, closing: Closing) -> Result<(), Ending> {
        let mut closed = Box::pin(closing.closed());
        loop {
            let request = tokio::select! {
                biased;
                () = &mut closed => return Ok(()),
                request = self.requests.message() => request,
            };
            let Some(step) = self.look_at(request)? else { continue };
            let (permit, stops) = tokio::select! {
                permit = self.room.clone().acquire_many_owned(permits_of(&step.0)) => (permit.ok(), false),
                () = &mut closed => (None, true),
            };
            self.settle(step, permit)?;
            if stops {
                return Ok(());
            }
        }
    }

    /// What has arrived already, as far as there is room.
    fn take_in_the_rest(&mut self) -> Result<(), Ending> {
        while let Some(request) = self.requests.message().now_or_never() {
            let Some(step) = self.look_at(request)? else { continue };
            let permit = self.room.clone().try_acquire_many_owned(permits_of(&step.0)).ok();
            let is_full = permit.is_none();
            self.settle(step, permit)?;
            if is_full {
                break;
            }
        }
        Ok(())
    }

    /// Sees to a request; answers settlements, which need room first.
    fn look_at(
        &mut self,
        request: Result<Option<wire::ConsumeRequest>, Status>,
    ) -> Result<Option<Step>, Ending> {
        let refused = |field, error: &dyn std::fmt::Display| Ending::Refused(status::bad_field(field, error));
        let Some(request) = request.map_err(end_of_requests)? else { return Err(Ending::Closed) };
        match request.step {
            None => Err(refused("step", &"step is missing; give window or settle")),
            Some(Ask::Open(_)) => Err(refused("open", &"open comes once; open another stream instead")),
            Some(Ask::Window(window)) => {
                let window = window_from_wire(Some(&window)).map_err(|error| refused(error.field, &error))?;
                self.telling.windows.set(window);
                Ok(None)
            }
            Some(Ask::Settle(step)) => {
                check_count(&step).map_err(Ending::Refused)?;
                let held = self.telling.memory.hold_request(step_bytes(&step)).map_err(Ending::Refused)?;
                Ok(Some((step, held)))
            }
        }
    }

    fn settle(&mut self, (step, held): Step, permit: Option<OwnedSemaphorePermit>) -> Result<(), Ending> {
        // Who may no more since the stream was opened may not here either.
        self.telling.gate.renew().map_err(Ending::Refused)?;
        let settlements = step.acks.len() + step.settlements.len();
        let (accepted, settling) =
            begin(&self.broker, &self.telling.gate, step, held).map_err(Ending::Refused)?;
        if accepted == 0 && settlements > 0 {
            // The broker hears of none of them, and yet somebody is at work.
            self.telling.windows.keep_alive();
        }
        // An error means that the stream is gone, and this task ends with it.
        let _ = self.telling.tell.send(Heard::Settling(settling.boxed(), permit));
        Ok(())
    }
}

/// A request that does not follow the contract is refused like any other that cannot be; otherwise the stream broke.
fn end_of_requests(status: Status) -> Ending {
    if status.code() == Code::InvalidArgument { Ending::Refused(status) } else { Ending::Broken(status) }
}

/// What a step weighs: its settlements and one more.
fn permits_of(step: &wire::ConsumeSettle) -> u32 {
    (step.acks.len() + step.settlements.len() + 1).min(SETTLEMENTS_IN_FLIGHT_MAX) as u32
}

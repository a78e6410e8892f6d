//! The way to the sequencer, and to the dispatcher: a queue that many fill and one thread empties in one go.
//!
//! ```text
//!   publishers ──push──▶ [ c c c c c c ] ──take all──▶ sequencer
//!        ▲                                               │
//!        └────────── bytes given back ◀──────────────────┘
//! ```
//!
//! Bounded by bytes: a publisher whose batch does not fit waits its turn, first come
//! first served. Taking everything at once is what makes one sync serve everybody who waited.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use crate::broken::Broken;

/// The bound is kept in units of this many bytes.
const UNIT_BYTES: usize = 64;

/// See the file's head.
pub(crate) struct Inbox<C> {
    queue: Mutex<Queue<C>>,
    arrived: Condvar,
    /// Free units …
    room: Semaphore,
    /// … of so many.
    units_max: usize,
}

struct Queue<C> {
    commands: Vec<C>,
    /// True while the thread behind it sleeps: only then is waking it worth a system call.
    sleeping: bool,
    closed: bool,
}

/// The inbox takes nothing more: the broker is stopping.
#[derive(Debug)]
pub(crate) struct Closed;

impl<C> Inbox<C> {
    /// With room for so many bytes. A command that is larger takes all of it.
    pub(crate) fn new(bytes_max: usize) -> Inbox<C> {
        let units_max = (bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Inbox {
            queue: Mutex::new(Queue { commands: Vec::new(), sleeping: false, closed: false }),
            arrived: Condvar::new(),
            room: Semaphore::new(units_max),
            units_max,
        }
    }

    /// Waits for room and hands over a command that holds `bytes`. On its first poll the command is
    /// handed over unless there is no room, so commands stay in the order they were polled.
    pub(crate) async fn send(&self, command: C, bytes: usize) -> Result<(), Closed> {
        let permit = self.room.acquire_many(self.units(bytes)).await.map_err(|_| Closed)?;
        permit.forget();
        self.push(command)
    }

    /// Hands over a command that holds `bytes` if there is room right now; gives it back if not.
    pub(crate) fn try_send(&self, command: C, bytes: usize) -> Result<Result<(), Closed>, C> {
        match self.room.try_acquire_many(self.units(bytes)) {
            Ok(permit) => {
                permit.forget();
                Ok(self.push(command))
            }
            Err(TryAcquireError::NoPermits) => Err(command),
            Err(TryAcquireError::Closed) => Ok(Err(Closed)),
        }
    }

    /// Waits for room for so many bytes and keeps it until the answer is dropped.
    pub(crate) async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Closed> {
        self.room.acquire_many(self.units(bytes)).await.map_err(|_| Closed)
    }

    /// Hands over a command that holds nothing worth counting.
    pub(crate) fn push(&self, command: C) -> Result<(), Closed> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(Closed);
        }
        queue.commands.push(command);
        if queue.sleeping {
            queue.sleeping = false;
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Gives back the room of commands that are done.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.room.add_permits(self.units(bytes) as usize);
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        ((self.units_max - self.room.available_permits()) * UNIT_BYTES) as u64
    }

    /// Takes everything there is, waiting up to `timeout` for something. `Err` once closed and empty.
    pub(crate) fn take(&self, commands: &mut Vec<C>, timeout: Duration) -> Result<(), Closed> {
        let mut queue = self.queue.lock();
        if queue.commands.is_empty() && !queue.closed {
            queue.sleeping = true;
            self.arrived.wait_for(&mut queue, timeout);
            queue.sleeping = false;
        }
        std::mem::swap(&mut queue.commands, commands);
        if commands.is_empty() && queue.closed { Err(Closed) } else { Ok(()) }
    }

    /// Takes nothing more. What is inside is still worked off.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.room.close();
        self.arrived.notify_all();
    }

    /// Takes nothing more and drops what is inside: nobody is there to work it off.
    pub(crate) fn abandon(&self) {
        self.close();
        self.queue.lock().commands.clear();
    }

    /// Units of room that so many bytes take; one command never takes more than there are.
    fn units(&self, bytes: usize) -> u32 {
        let bytes = if Broken::Inbox.is_on() { 0 } else { bytes };
        bytes.div_ceil(UNIT_BYTES).clamp(1, self.units_max) as u32
    }
}

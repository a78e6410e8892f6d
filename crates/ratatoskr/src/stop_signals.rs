//! The signals that ask a program to end (SIGTERM and Ctrl-C), and the one that asks the broker to read its files anew (SIGHUP).

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Failure, Outcome};

/// The shell's code for a program that ended by SIGINT.
pub(crate) const INTERRUPTED: i32 = 130;

/// The signals that ask a program to end. While they are listened for they do not end it by themselves.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn listen() -> Outcome<StopSignals> {
        let listen = |kind| signal(kind).map_err(|error| Failure::io("signals cannot be received", &error));
        Ok(StopSignals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signal that asks the broker to read its files anew. While it is listened for it does not end the program.
pub(crate) struct ReloadSignal(Signal);

impl ReloadSignal {
    pub(crate) fn listen() -> Outcome<ReloadSignal> {
        let listening = signal(SignalKind::hangup());
        Ok(ReloadSignal(listening.map_err(|error| Failure::io("signals cannot be received", &error))?))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}

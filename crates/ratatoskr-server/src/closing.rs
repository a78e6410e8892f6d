//! [`Closing`]: how everything long-lived learns that the server shuts down.

use tokio::sync::watch;

/// A signal that is given once. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    // True once the server shuts down.
    signal: watch::Receiver<bool>,
}

/// The other end: gives the signal. Dropping it gives the signal as well.
#[derive(Debug)]
pub(crate) struct Closer {
    signal: watch::Sender<bool>,
}

/// A signal and who gives it.
pub(crate) fn closing() -> (Closer, Closing) {
    let (sender, receiver) = watch::channel(false);
    (Closer { signal: sender }, Closing { signal: receiver })
}

impl Closer {
    /// Gives the signal.
    pub(crate) fn close(&self) {
        self.signal.send_replace(true);
    }
}

impl Closing {
    /// Whether the signal has been given.
    pub(crate) fn is_closed(&self) -> bool {
        *self.signal.borrow()
    }

    /// Waits for the signal.
    pub(crate) async fn closed(mut self) {
        // An error means that the closer is gone, which is a signal too.
        let _ = self.signal.wait_for(|closing| *closing).await;
    }
}

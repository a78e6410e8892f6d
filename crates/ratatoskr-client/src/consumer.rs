//! [`Consumer`]: a member of a durable subscription, across broken connections.
//!
//! ```text
//!   consume ──▶ link (link.rs) ◀──Consume──▶ broker
//!                 │ deliveries
//!                 ▼
//!              tray (bounded by the window) ──next──▶ Delivery ──ack …──▶ link
//! ```
//!
//! Invariants:
//! - `next` gives out only messages that are still leased to this consumer: what came by a stream that has broken, and
//!   what waited here for half of its lease, has gone from the tray before.
//! - A message that nobody took has used up no attempt: it is handed back in time.
//! - After the first stream the subscription has to exist: one that was deleted is an error, it is not created anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_core::Stream;
use ratatoskr_proto::{SubscriptionSettings, Window};
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::Code;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::delivery::Delivery;
use crate::error::ClientError;
use crate::link::{Command, Link};
use crate::subscription::Start;

/// The largest window the broker takes.
const WINDOW_MESSAGES_MAX: u32 = 100_000;
/// The shortest heartbeat the broker takes.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// How a consumer works through a subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumeOptions {
    /// A name for people to read, at most 255 bytes. Need not be unique.
    pub member: String,
    /// Messages it may hold unsettled, 1 to 100,000. Default 100.
    pub window_messages: u32,
    /// Bytes of payload it may hold unsettled; one message always comes. Default 16 MiB.
    pub window_bytes: u64,
    /// Whether a missing subscription is an error. Default: it is created, with `start` and `settings`.
    pub must_exist: bool,
    /// For a subscription that is created by this: where it begins. Default: earliest.
    pub start: Start,
    /// For a subscription that is created by this: its settings.
    pub settings: SubscriptionSettings,
    /// The broker is heard at least this often, 100 ms or more. When it was silent three times as long, the connection is made
    /// again. Default 5 s.
    pub heartbeat: Duration,
    /// What happens when the connection breaks.
    pub backoff: Backoff,
}

impl Default for ConsumeOptions {
    fn default() -> ConsumeOptions {
        ConsumeOptions {
            member: String::new(),
            window_messages: 100,
            window_bytes: 16 << 20,
            must_exist: false,
            start: Start::Earliest,
            settings: SubscriptionSettings::default(),
            heartbeat: Duration::from_secs(5),
            backoff: Backoff::default(),
        }
    }
}

/// One member of a durable subscription. Made by [`Client::consume`]. Dropping it hands back what it holds, without
/// waiting for that; [`Consumer::close`] waits.
#[derive(Debug)]
pub struct Consumer {
    tray: Arc<Tray>,
    commands: mpsc::UnboundedSender<Command>,
    topic: String,
    subscription: String,
}

/// Where the link puts deliveries until the consumer takes them.
#[derive(Debug)]
pub(crate) struct Tray {
    state: Mutex<TrayState>,
    /// Something has changed in `state`.
    changed: Notify,
}

#[derive(Debug)]
struct TrayState {
    /// What may be held unsettled, on the tray and off it.
    window: Window,
    /// Deliveries that nobody has taken, oldest first.
    untaken: VecDeque<Delivery>,
    /// Why there will be no more.
    end: Option<ClientError>,
}

impl Client {
    /// Joins a durable subscription as one of its members. Returns once the broker has accepted it. The topic has to exist;
    /// the subscription is created if it is missing, unless `must_exist` says otherwise.
    ///
    /// ```no_run
    /// # async fn example(client: ratatoskr_client::Client) -> Result<(), ratatoskr_client::ClientError> {
    /// # fn handle(order: &[u8]) -> Result<(), String> { Ok(()) }
    /// use ratatoskr_client::ConsumeOptions;
    ///
    /// let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await?;
    /// loop {
    ///     let delivery = consumer.next().await?;
    ///     match handle(delivery.payload()) {
    ///         // Need not be awaited: it is on its way, together with others.
    ///         Ok(()) => delivery.ack(),
    ///         Err(reason) => delivery.nack(None, reason),
    ///     };
    /// }
    /// # }
    /// ```
    pub async fn consume(
        &self,
        topic: &str,
        subscription: &str,
        options: ConsumeOptions,
    ) -> Result<Consumer, ClientError> {
        check(&options)?;
        let (commands, queue) = mpsc::unbounded_channel();
        let window = Window { messages: options.window_messages, bytes: options.window_bytes };
        let tray = Arc::new(Tray::new(window));
        let consumer = Consumer {
            tray: tray.clone(),
            commands: commands.clone(),
            topic: topic.to_owned(),
            subscription: subscription.to_owned(),
        };
        let (link, first) = Link::open(self.clone(), (topic, subscription), options, tray).await?;
        tokio::spawn(link.run(first, queue, commands));
        Ok(consumer)
    }
}

/// The broker would read 0 as its own default; here every number means itself.
fn check(options: &ConsumeOptions) -> Result<(), ClientError> {
    let wrong = |message: String| Err(ClientError::invalid("INVALID_OPTION", message));
    if options.window_messages == 0 || options.window_bytes == 0 {
        return wrong("a window of 0 lets nothing through; allowed are 1 and above".to_owned());
    }
    if options.heartbeat < HEARTBEAT_MIN {
        return wrong(format!("heartbeat is {:?}; allowed are 100 ms and above", options.heartbeat));
    }
    Ok(())
}

impl Consumer {
    /// The next message. Waits for it, across reconnections. An error ends the consumer: the code is `NotFound` once the
    /// subscription or its topic is deleted, and `Unavailable` when the broker stays away.
    ///
    /// Cancel-safe: a message is never lost to a future that was dropped.
    pub async fn next(&mut self) -> Result<Delivery, ClientError> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.tray.changed.notified().await;
        }
    }

    /// The next message if it is here already, or the error that ended the consumer.
    pub fn try_next(&mut self) -> Option<Result<Delivery, ClientError>> {
        let mut state = self.tray.lock();
        let TrayState { untaken, end, .. } = &mut *state;
        untaken.pop_front().map(Ok).or_else(|| end.clone().map(Err))
    }

    /// Changes how much it may hold unsettled, messages (1 to 100,000) and bytes (1 or more).
    pub fn set_window(&self, messages: u32, bytes: u64) {
        self.tray.lock().window =
            Window { messages: messages.clamp(1, WINDOW_MESSAGES_MAX), bytes: bytes.max(1) };
        // Without a link there is nothing to hold back.
        let _ = self.commands.send(Command::Window);
    }

    /// Hands back unharmed what is not settled, and waits until that is done and every settlement before has its fate.
    /// If the connection breaks first this is an error: the broker hands back by itself what the consumer held, as of a member that vanished.
    pub async fn close(self) -> Result<(), ClientError> {
        let (answer, closed) = oneshot::channel();
        let ended =
            || ClientError::new(Code::Cancelled, "CONSUMER_STOPPED", "the consumer's task was stopped");
        if self.commands.send(Command::Close(Some(answer))).is_err() {
            // It ended by an error before, which `next` has told or would have told.
            return self.tray.lock().end.clone().map_or(Ok(()), Err);
        }
        closed.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The messages as a stream; ends after its first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Delivery, ClientError>> {
        futures_util::stream::unfold(Some(self), async |consumer| {
            let mut consumer = consumer?;
            match consumer.next().await {
                Ok(delivery) => Some((Ok(delivery), Some(consumer))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The subscription.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // After `close` it is of no use and of no harm.
        let _ = self.commands.send(Command::Close(None));
    }
}

impl Tray {
    fn new(window: Window) -> Tray {
        let state = TrayState { window, untaken: VecDeque::new(), end: None };
        Tray { state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, TrayState> {
        self.state.lock().expect("nothing that could panic is done under this lock")
    }

    /// What may be held unsettled.
    pub(crate) fn window(&self) -> Window {
        self.lock().window
    }

    /// Takes deliveries in.
    pub(crate) fn put(&self, deliveries: impl Iterator<Item = Delivery>) {
        self.lock().untaken.extend(deliveries);
        self.changed.notify_one();
    }

    /// Takes back what nobody has taken.
    pub(crate) fn clear(&self) {
        self.lock().untaken.clear();
    }

    /// Tells that there will be no more.
    pub(crate) fn end(&self, error: ClientError) {
        self.lock().end = Some(error);
        self.changed.notify_one();
    }

    /// When the oldest untaken delivery is better handed back.
    pub(crate) fn hand_back_at(&self) -> Option<tokio::time::Instant> {
        self.lock().untaken.front().map(Delivery::hand_back_at)
    }

    /// Takes back what has waited too long.
    pub(crate) fn overdue(&self, now: tokio::time::Instant) -> Vec<Delivery> {
        let mut state = self.lock();
        // They came in order: those before the first one in time are all overdue.
        let count = state.untaken.partition_point(|delivery| delivery.hand_back_at() <= now);
        state.untaken.drain(..count).collect()
    }
}

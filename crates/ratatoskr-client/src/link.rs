//! The task behind a [`Consumer`](crate::Consumer): one consume stream after another.
//!
//! ```text
//!   open ──▶ converse (conversation.rs) ── breaks ──▶ what was held is stale ──wait──▶ open ──▶ …
//!                └── close ──▶ everything handed back, done
//! ```
//!
//! While there is no stream, whatever is settled is stale, and is told so at once: nobody waits for a broker that is away.

use std::future::Future;
use std::sync::Arc;

use ratatoskr_proto as wire;
use ratatoskr_proto::SubscriptionName;
use tokio::sync::{mpsc, oneshot};

use crate::client::Client;
use crate::consumer::{ConsumeOptions, Tray};
use crate::conversation::{Conversation, End, SILENT};
use crate::error::ClientError;
use crate::settlement::SettleError;

/// What the consumer and its deliveries want of the link.
#[derive(Debug)]
pub(crate) enum Command {
    Settle(SettleCommand),
    /// Tell the broker how large the tray is now.
    Window,
    /// Hand back everything; tell when it is done, if somebody waits.
    Close(Option<CloseAnswer>),
}

/// One settlement, and who wants to know its fate.
#[derive(Debug)]
pub(crate) struct SettleCommand {
    /// The stream the delivery came by.
    pub(crate) stream: u64,
    pub(crate) settlement: wire::Settlement,
    pub(crate) answer: oneshot::Sender<Result<(), SettleError>>,
}

/// Where it is told that the consumer is closed.
pub(crate) type CloseAnswer = oneshot::Sender<Result<(), ClientError>>;

/// What outlives a stream.
pub(crate) struct Link {
    client: Client,
    name: SubscriptionName,
    options: ConsumeOptions,
    tray: Arc<Tray>,
    /// Streams opened so far.
    streams: u64,
}

impl Link {
    /// Opens the first stream. An error of it is the caller's; only later ones are tried again.
    pub(crate) async fn open(
        client: Client,
        (topic, subscription): (&str, &str),
        options: ConsumeOptions,
        tray: Arc<Tray>,
    ) -> Result<(Link, Conversation), ClientError> {
        let name = SubscriptionName { topic: topic.to_owned(), subscription: subscription.to_owned() };
        let mut link = Link { client, name, options, tray, streams: 0 };
        let first = link.connect().await?;
        link.streams = 1;
        // One that was deleted meanwhile must not begin anew in silence.
        link.options.must_exist = true;
        Ok((link, first))
    }

    async fn connect(&self) -> Result<Conversation, ClientError> {
        let open = wire::ConsumeOpen {
            name: Some(self.name.clone()),
            member: self.options.member.clone(),
            window: Some(self.tray.window()),
            start: Some(self.options.start.to_position()),
            settings: Some(self.options.settings.clone()),
            must_exist: self.options.must_exist,
            heartbeat_ms: i64::try_from(self.options.heartbeat.as_millis()).unwrap_or(i64::MAX),
        };
        Conversation::open(&self.client, self.streams + 1, open).await
    }

    /// Runs until the consumer is closed, or until the connection has failed too often.
    pub(crate) async fn run(
        mut self,
        first: Conversation,
        mut queue: mpsc::UnboundedReceiver<Command>,
        commands: mpsc::UnboundedSender<Command>,
    ) {
        let mut conversation = Some(first);
        let mut failures = 0;
        loop {
            let end = match conversation.take() {
                Some(conversation) => conversation.run(&mut queue, &commands, &self.tray).await,
                None => match meanwhile(&mut queue, self.connect()).await {
                    Ok(Ok(opened)) => {
                        self.streams += 1;
                        conversation = Some(opened);
                        continue;
                    }
                    Ok(Err(error)) => End::Broken { error, progress: false },
                    Err(answer) => End::Closed { answer, result: Ok(()) },
                },
            };
            self.tray.clear();
            let (error, progress) = match end {
                End::Closed { answer, result } => return finish(answer, result),
                End::Broken { error, progress } => (error, progress),
            };
            if error.reason() == SILENT {
                // Another stream on the same connection would be as silent.
                self.client = self.client.anew();
            }
            failures = if progress { 1 } else { failures + 1 };
            let Some(wait) = self.options.backoff.wait(failures).filter(|_| error.is_retryable()) else {
                return self.tray.end(error);
            };
            let wait = wait.max(error.retry_after().unwrap_or_default());
            if let Err(answer) = meanwhile(&mut queue, tokio::time::sleep(wait)).await {
                return finish(answer, Ok(()));
            }
        }
    }
}

/// Does something without a stream, and answers commands meanwhile. `Err` when the consumer is closed.
async fn meanwhile<T>(
    queue: &mut mpsc::UnboundedReceiver<Command>,
    work: impl Future<Output = T>,
) -> Result<T, Option<CloseAnswer>> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            command = queue.recv() => match command {
                Some(Command::Settle(settle)) => drop(settle.answer.send(Err(SettleError::Stale))),
                // The next stream opens with it.
                Some(Command::Window) => {}
                Some(Command::Close(answer)) => return Err(answer),
                // The link has a sender of its own.
                None => return Err(None),
            },
        }
    }
}

fn finish(answer: Option<CloseAnswer>, result: Result<(), ClientError>) {
    if let Some(answer) = answer {
        // Whoever has stopped waiting does not want to know.
        let _ = answer.send(result);
    }
}

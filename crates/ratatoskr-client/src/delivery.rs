//! [`Delivery`]: a message on loan, and the words that settle it.
//!
//! ```text
//!   Delivery ──ack, nack, extend, reject, release──▶ link (link.rs) ──Consume──▶ broker
//!      Settling ◀── its fate: settled, or why not ◀──────┘
//! ```
//!
//! Invariants:
//! - A settlement is on its way when the method returns; awaiting its [`Settling`] tells what became of it.
//! - A delivery belongs to the stream it came by. Once that has broken, settling it is [`SettleError::Stale`], and
//!   nothing is sent.
//!
//! Dropping a delivery settles nothing: the message returns when its lease ends, and the attempt counts.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ratatoskr_proto::Message;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::link::{Command, SettleCommand};
use crate::settlement::{Outcome, SettleError, Settlement};

/// A message that is leased to this consumer until it is settled.
#[derive(Debug)]
pub struct Delivery {
    message: Message,
    /// When it came.
    received: Instant,
    /// How long messages of this subscription are leased.
    lease: Duration,
    /// The stream it came by, counted from 1.
    stream: u64,
    commands: mpsc::UnboundedSender<Command>,
}

/// What became of a settlement, when it is known. It need not be awaited to happen.
#[derive(Debug)]
pub struct Settling(oneshot::Receiver<Result<(), SettleError>>);

impl Delivery {
    pub(crate) fn new(
        message: Message,
        lease: Duration,
        stream: u64,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Delivery {
        Delivery { message, received: Instant::now(), lease, stream, commands }
    }

    /// The message as it came.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The content.
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// The key; empty for none.
    pub fn key(&self) -> &str {
        &self.message.key
    }

    /// Names and values, as published.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.message.metadata
    }

    /// The message's id.
    pub fn id(&self) -> &str {
        &self.message.id
    }

    /// The message's place in the topic.
    pub fn offset(&self) -> u64 {
        self.message.offset.unsigned_abs()
    }

    /// Which delivery of this message it is, 1 or more.
    pub fn attempt(&self) -> u32 {
        self.message.attempt
    }

    /// Until when the message was leased when it came, milliseconds since the Unix epoch by the broker's clock.
    pub fn lease_until_ms(&self) -> u64 {
        self.message.lease_until_ms.unsigned_abs()
    }

    /// What settles this delivery in [`Client::settle`](crate::Client::settle) and
    /// [`Client::settle_and_publish`](crate::Client::settle_and_publish).
    pub fn token(&self) -> &Bytes {
        &self.message.token
    }

    /// Done.
    pub fn ack(&self) -> Settling {
        self.settle(Outcome::Ack)
    }

    /// Could not be handled: again after the delay, or by the subscription's retry schedule.
    pub fn nack(&self, delay: Option<Duration>, reason: impl Into<String>) -> Settling {
        self.settle(Outcome::Nack { delay, reason: reason.into() })
    }

    /// Still at it: leased from now on for this long, or for the subscription's lease.
    pub fn extend(&self, lease: Option<Duration>) -> Settling {
        self.settle(Outcome::Extend { lease })
    }

    /// Can never be handled: to the dead letters at once.
    pub fn reject(&self, reason: impl Into<String>) -> Settling {
        self.settle(Outcome::Reject { reason: reason.into() })
    }

    /// Not looked at: again at once, for whoever is next, and this attempt does not count.
    pub fn release(&self) -> Settling {
        self.settle(Outcome::Release)
    }

    /// Says what is to become of the message.
    pub fn settle(&self, outcome: Outcome) -> Settling {
        let (answer, fate) = oneshot::channel();
        let settlement = Settlement { token: self.message.token.clone(), outcome };
        match settlement.into_wire() {
            Ok(settlement) => {
                let command = SettleCommand { stream: self.stream, settlement, answer };
                // Without a link the consumer is closed and has handed everything back: the fate is stale.
                let _ = self.commands.send(Command::Settle(command));
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
        Settling(fate)
    }

    /// Runs work on this message, and extends the lease again and again until it is done. If the lease is lost on the
    /// way the work goes on; settling tells.
    ///
    /// ```no_run
    /// # async fn example(delivery: ratatoskr_client::Delivery) -> Result<(), ratatoskr_client::ClientError> {
    /// # async fn transcode(video: &[u8]) -> Result<(), String> { Ok(()) }
    /// match delivery.keep_during(transcode(delivery.payload())).await {
    ///     Ok(()) => delivery.ack().await?,
    ///     Err(reason) => delivery.nack(None, reason).await?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn keep_during<F: Future>(&self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        // Twice within each lease, so that one extension may be late.
        let pause = self.lease / 3;
        let mut next = self.received + pause;
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                () = tokio::time::sleep_until(next) => {
                    self.extend(None);
                    next = Instant::now() + pause;
                }
            }
        }
    }

    /// From when on a delivery that nobody has taken is better handed back: half of its lease is over.
    pub(crate) fn hand_back_at(&self) -> Instant {
        self.received + self.lease / 2
    }

    /// A settlement whose fate interests nobody.
    pub(crate) fn into_release(self) -> SettleCommand {
        let settlement = Settlement { token: self.message.token, outcome: Outcome::Release };
        let settlement = settlement.into_wire().expect("a release has nothing that could be wrong");
        SettleCommand { stream: self.stream, settlement, answer: oneshot::channel().0 }
    }
}

impl Future for Settling {
    type Output = Result<(), SettleError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A link that is gone has handed everything back.
        Pin::new(&mut self.0).poll(context).map(|fate| fate.unwrap_or(Err(SettleError::Stale)))
    }
}

//! [`Member`]: one member of a durable subscription, over the `Consume` stream.
//!
//! ```text
//!   join ──▶ next() ─▶ deliveries ── ack(tokens), nack(tokens, delay) ──▶ next() ─▶ fates, in the order of the steps
//! ```
//!
//! It remembers when each settle step was sent: fates come in the same order, so the front of the queue is the one they answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::{
    ConsumeOpen, ConsumeRequest, ConsumeSettle, Nack, Settlement, SubscriptionName, Window, settlement,
};

use crate::error::{Outcome, during, failed};
use crate::stamp::frame_of;
use crate::views::{ConsumeView, MessageView};
use crate::wire::{Connection, Conversation};

/// Settlements of one step; the broker takes no more.
const SETTLEMENTS_MAX: usize = 10_000;

/// One member.
pub(crate) struct Member {
    conversation: Conversation,
    /// When each step without an answer was sent.
    sent: VecDeque<Instant>,
}

/// What the broker says to a member.
pub(crate) enum Told {
    /// Messages.
    Deliveries(Vec<MessageView>),
    /// A step is settled.
    Settled {
        /// How many messages.
        messages: u64,
        /// From the step to its fates.
        took: Duration,
    },
}

impl Member {
    /// Joins a subscription.
    pub(crate) async fn join(
        connection: &Connection,
        name: &SubscriptionName,
        window: u32,
    ) -> Outcome<Member> {
        let open = ConsumeOpen {
            name: Some(name.clone()),
            member: "bench".to_owned(),
            // Bytes must not be what holds deliveries back: the window is given in messages.
            window: Some(Window { messages: window, bytes: 1 << 30 }),
            must_exist: true,
            ..ConsumeOpen::default()
        };
        let first = frame_of(&ConsumeRequest { step: Some(Ask::Open(open)) });
        let conversation = connection.caller("Consume").converse(first).await?;
        Ok(Member { conversation, sent: VecDeque::new() })
    }

    /// What the broker says next. A settlement that was refused is an error: here nobody else settles, and leases are long.
    pub(crate) async fn next(&mut self) -> Outcome<Told> {
        loop {
            let frame = self.conversation.frames.next().await?;
            let frame = frame.ok_or_else(|| failed("the broker ended a member's stream"))?;
            let view = ConsumeView::decode(frame).map_err(during("reading what a member was told"))?;
            if let Some(deliveries) = view.deliveries {
                return Ok(Told::Deliveries(deliveries.messages));
            }
            if let Some(fates) = view.fates {
                let sent = self.sent.pop_front().ok_or_else(|| failed("fates came without a step"))?;
                if let Some(refused) = fates.refused.first() {
                    return Err(failed(format!("a settlement was refused: {}", refused.reason)));
                }
                return Ok(Told::Settled { messages: u64::from(fates.settled), took: sent.elapsed() });
            }
        }
    }

    /// Acks messages.
    pub(crate) async fn ack(&mut self, tokens: impl IntoIterator<Item = Bytes>) -> Outcome {
        let acks: Vec<Bytes> = tokens.into_iter().collect();
        for acks in acks.chunks(SETTLEMENTS_MAX) {
            self.settle(ConsumeSettle { acks: acks.to_vec(), ..ConsumeSettle::default() }).await?;
        }
        Ok(())
    }

    /// Nacks messages: again after a delay.
    pub(crate) async fn nack(&mut self, tokens: impl IntoIterator<Item = Bytes>, delay: Duration) -> Outcome {
        let delay_ms = Some(delay.as_millis() as i64);
        let nack = |token| {
            let outcome = settlement::Outcome::Nack(Nack { delay_ms, reason: String::new() });
            Settlement { token, outcome: Some(outcome) }
        };
        let settlements: Vec<Settlement> = tokens.into_iter().map(nack).collect();
        for settlements in settlements.chunks(SETTLEMENTS_MAX) {
            self.settle(ConsumeSettle { settlements: settlements.to_vec(), ..ConsumeSettle::default() })
                .await?;
        }
        Ok(())
    }

    /// Steps without an answer.
    pub(crate) fn steps_open(&self) -> usize {
        self.sent.len()
    }

    async fn settle(&mut self, step: ConsumeSettle) -> Outcome {
        self.sent.push_back(Instant::now());
        self.conversation.send(frame_of(&ConsumeRequest { step: Some(Ask::Settle(step)) })).await
    }
}

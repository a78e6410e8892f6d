//! One worker: consumes, settles, and now and then behaves badly.
//!
//! Whatever it is sent it records at once, also what it will not handle, so that nothing lies unread in a socket while the
//! history goes on. When its stream breaks it comes back with another one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::settlement::Outcome as Settled;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{LEASE, Run, connect, name, read};
use crate::failed::{Failed, Outcome};
use crate::history::{Fact, Kind};

/// A worker that cannot get in tries again after this time.
const AGAIN: Duration = Duration::from_millis(20);
/// How often it looks whether the run is over, and after what it holds.
const LOOK: Duration = Duration::from_millis(50);
const WINDOW_MESSAGES: u32 = 50;

/// One stream's worth of a worker's life.
struct Life<'a> {
    run: &'a Run,
    chance: &'a mut fastrand::Rng,
    steps: mpsc::UnboundedSender<wire::ConsumeRequest>,
    sequence: u64,
    /// Acks on their way, by sequence: token and offset.
    sent: HashMap<u64, Vec<(Bytes, u64)>>,
    /// What is held beyond its lease, and until when.
    held: Vec<(Instant, Bytes, u64)>,
    /// Messages until it vanishes.
    left: u32,
}

/// Works until the run is over.
pub(super) async fn work(run: Arc<Run>, number: u32, seed: u64) -> Outcome {
    let mut chance = fastrand::Rng::with_seed(seed);
    while !run.done.load(Ordering::Relaxed) {
        // Whatever breaks a stream (the broker was killed, most likely), another one follows.
        if live(&run, number, &mut chance).await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

async fn live(run: &Run, number: u32, chance: &mut fastrand::Rng) -> Outcome {
    let mut client = connect(&run.uri).await?;
    let (steps, requests) = mpsc::unbounded_channel();
    let open = wire::ConsumeOpen {
        name: Some(name()),
        member: format!("worker {number}"),
        window: Some(wire::Window { messages: WINDOW_MESSAGES, bytes: 0 }),
        must_exist: true,
        ..wire::ConsumeOpen::default()
    };
    let left = chance.u32(100..3_000);
    let mut life = Life { run, chance, steps, sequence: 0, sent: HashMap::new(), held: Vec::new(), left };
    life.send(Ask::Open(open));
    let mut responses = client.consume(UnboundedReceiverStream::new(requests)).await?.into_inner();
    while !run.done.load(Ordering::Relaxed) {
        let Ok(response) = tokio::time::timeout(LOOK, responses.message()).await else {
            life.let_go();
            continue;
        };
        let response = response?.ok_or_else(|| Failed::new("the stream ended"))?;
        match response.step {
            Some(Tell::Deliveries(deliveries)) => life.handle(&deliveries.messages)?,
            Some(Tell::Fates(fates)) => life.learn(&fates),
            _ => {}
        }
        if life.left == 0 {
            // All at once, with everything it holds.
            run.vanished.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        life.let_go();
    }
    Ok(())
}

impl Life<'_> {
    fn send(&self, step: Ask) {
        // A closed channel means that the stream broke, which is noticed where it is read.
        let _ = self.steps.send(wire::ConsumeRequest { step: Some(step) });
    }

    fn record(&self, fact: Fact) {
        self.run.history.lock().expect("no task panics with it").record(fact);
    }

    fn handle(&mut self, messages: &[wire::Message]) -> Outcome {
        let (mut acks, mut settlements) = (Vec::new(), Vec::new());
        for message in messages {
            let offset = message.offset as u64;
            self.record(Fact::Delivered { offset, key: message.key.parse().unwrap_or(0) });
            let (id, kind) = read(&message.payload)?;
            let token = message.token.clone();
            let outcome = match kind {
                Kind::Poison => Settled::Reject(wire::Reject { reason: format!("poison {id}") }),
                Kind::Failing => {
                    Settled::Nack(wire::Nack { delay_ms: Some(0), reason: format!("failing {id}") })
                }
                Kind::Good if self.chance.u32(..100) < 2 => {
                    let delay_ms = Some(self.chance.i64(1..50));
                    Settled::Nack(wire::Nack { delay_ms, reason: "bad luck".to_owned() })
                }
                Kind::Good if self.chance.u32(..500) == 0 => {
                    self.run.stalled.fetch_add(1, Ordering::Relaxed);
                    self.held.push((Instant::now() + LEASE * 5 / 4, token, offset));
                    continue;
                }
                Kind::Good => {
                    acks.push((token, offset));
                    continue;
                }
            };
            settlements.push(wire::Settlement { token, outcome: Some(outcome) });
        }
        self.left = self.left.saturating_sub(messages.len() as u32);
        self.settle(acks, settlements);
        Ok(())
    }

    fn settle(&mut self, acks: Vec<(Bytes, u64)>, settlements: Vec<wire::Settlement>) {
        for (_, offset) in &acks {
            self.record(Fact::AckSent { offset: *offset });
        }
        self.sequence += 1;
        let tokens = acks.iter().map(|(token, _)| token.clone()).collect();
        self.sent.insert(self.sequence, acks);
        self.send(Ask::Settle(wire::ConsumeSettle { sequence: self.sequence, acks: tokens, settlements }));
    }

    /// Settles what was held beyond its lease, which is too late.
    fn let_go(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.held.extract_if(.., |(until, ..)| *until <= now).collect();
        if !due.is_empty() {
            self.settle(due.into_iter().map(|(_, token, offset)| (token, offset)).collect(), Vec::new());
        }
    }

    fn learn(&mut self, fates: &wire::Fates) {
        let Some(acks) = self.sent.remove(&fates.sequence) else { return };
        self.run.stale.fetch_add(fates.refused.len() as u64, Ordering::Relaxed);
        for (token, offset) in acks {
            if fates.refused.iter().any(|refused| refused.token == token) {
                self.record(Fact::AckRefused { offset });
            } else {
                self.record(Fact::AckConfirmed { offset });
                self.run.acked.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

//! One consume stream, from its opening to its end.
//!
//! ```text
//!   commands ──bundle──▶ ConsumeSettle n ──▶ broker         deliveries ──▶ tray
//!                           │ remembered in flight             heartbeat ──▶ the broker is there
//!   answers ◀───────────────┴── Fates n ◀──┘                  silence   ──▶ broken
//! ```
//!
//! What is settled while a step is being written travels together in the next one. Fates come in the order of steps;
//! anything else is a broken contract.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step as Ask;
use ratatoskr_proto::consume_response::Step as Tell;
use ratatoskr_proto::settlement::Outcome;
use ratatoskr_proto::{ConsumeRequest, ConsumeResponse, ConsumeSettle, Fates};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Streaming};

use crate::client::Client;
use crate::consumer::Tray;
use crate::delivery::Delivery;
use crate::error::ClientError;
use crate::link::{CloseAnswer, Command, SettleCommand};
use crate::settlement::SettleError;

/// Commands taken at a time, and so settlements of one step; the broker takes 10,000.
const COMMANDS_AT_ONCE: usize = 1024;
/// Heartbeats that may be missing before the connection is given up.
const HEARTBEATS_MISSED_MAX: u32 = 3;

/// Why a conversation has ended.
pub(crate) enum End {
    /// The consumer was closed, and everything is handed back unless the result says otherwise.
    Closed { answer: Option<CloseAnswer>, result: Result<(), ClientError> },
    /// It broke; `progress` tells whether anything came before.
    Broken { error: ClientError, progress: bool },
}

/// A stream on which the broker has accepted us.
pub(crate) struct Conversation {
    /// Host and port, for messages to people.
    address: String,
    /// Which stream of the consumer's it is, from 1.
    number: u64,
    /// `None` once our side is closed.
    requests: Option<mpsc::UnboundedSender<ConsumeRequest>>,
    responses: Streaming<ConsumeResponse>,
    /// How long messages are leased.
    lease: Duration,
    /// How long the broker may be silent.
    patience: Duration,
    /// Of the next step.
    sequence: u64,
    /// Steps without fates, oldest first. Bounded by what the window lets us hold.
    in_flight: VecDeque<Step>,
    /// Anything came after the opening.
    progress: bool,
    /// Closing was asked for.
    is_closing: bool,
    /// Who waits for it, if anybody does.
    close_answer: Option<CloseAnswer>,
}

/// Settlements that were sent together.
struct Step {
    sequence: u64,
    waiting: Vec<(Bytes, oneshot::Sender<Result<(), SettleError>>)>,
}

impl Conversation {
    /// Opens a stream and waits until the broker has accepted it.
    pub(crate) async fn open(
        client: &Client,
        number: u64,
        open: wire::ConsumeOpen,
    ) -> Result<Conversation, ClientError> {
        let address = client.address().to_owned();
        // Unbounded, and yet never more than what may be held.
        let (requests, outgoing) = mpsc::unbounded_channel();
        let sent = requests.send(ConsumeRequest { step: Some(Ask::Open(open)) });
        sent.expect("the stream's other half is in our hands");
        let opening = async {
            let call = Request::new(UnboundedReceiverStream::new(outgoing));
            let mut responses = client.grpc().consume(call).await.map_err(client.failed())?.into_inner();
            let first = responses.message().await.map_err(client.failed())?;
            Ok::<_, ClientError>((responses, first.and_then(|response| response.step)))
        };
        let in_time = tokio::time::timeout(client.call_timeout(), opening).await;
        let (responses, first) = in_time.map_err(|_| silent(&address))??;
        let Some(Tell::Opened(opened)) = first else {
            return Err(ClientError::protocol("Consume did not begin with opened"));
        };
        let lease_ms = opened.settings.and_then(|settings| settings.lease_ms).unwrap_or_default();
        let heartbeat = Duration::from_millis(opened.heartbeat_ms.unsigned_abs());
        Ok(Conversation {
            address,
            number,
            requests: Some(requests),
            responses,
            lease: Duration::from_millis(lease_ms.unsigned_abs()),
            patience: heartbeat * HEARTBEATS_MISSED_MAX,
            sequence: 1,
            in_flight: VecDeque::new(),
            progress: false,
            is_closing: false,
            close_answer: None,
        })
    }

    /// Converses until the stream ends.
    pub(crate) async fn run(
        mut self,
        queue: &mut mpsc::UnboundedReceiver<Command>,
        commands: &mpsc::UnboundedSender<Command>,
        tray: &Tray,
    ) -> End {
        let mut heard = Instant::now();
        let mut taken = Vec::with_capacity(COMMANDS_AT_ONCE);
        loop {
            let is_open = !self.is_closing;
            let hand_back_at = tray.hand_back_at().filter(|_| is_open);
            let silent_at = heard + self.patience;
            tokio::select! {
                // What has come is taken in before it is asked whether anything came.
                biased;
                response = self.responses.message() => {
                    heard = Instant::now();
                    match response {
                        Ok(Some(response)) => match self.take(response.step, commands, tray) {
                            Ok(()) => self.progress = true,
                            Err(error) => return self.broken(error),
                        },
                        Ok(None) => return self.ended(),
                        Err(status) => {
                            let error = ClientError::from_status(&status, &self.address);
                            return self.broken(error);
                        }
                    }
                }
                _ = queue.recv_many(&mut taken, COMMANDS_AT_ONCE), if is_open => {
                    let settles = self.obey(taken.drain(..), tray);
                    self.settle(settles);
                    // Only now, so that what was settled before goes first.
                    if self.is_closing {
                        self.requests = None;
                    }
                }
                () = tokio::time::sleep_until(silent_at) => {
                    let now = Instant::now();
                    if now < silent_at + self.patience / 2 {
                        let error = silent(&self.address);
                        return self.broken(error);
                    }
                    // A timer as late as this: it was this program that stood still, not the broker.
                    heard = now;
                }
                () = tokio::time::sleep_until(hand_back_at.unwrap_or(heard)), if hand_back_at.is_some() => {
                    let overdue = tray.overdue(Instant::now());
                    self.settle(overdue.into_iter().map(Delivery::into_release).collect());
                }
            }
        }
    }

    fn take(
        &mut self,
        step: Option<Tell>,
        commands: &mpsc::UnboundedSender<Command>,
        tray: &Tray,
    ) -> Result<(), ClientError> {
        match step {
            Some(Tell::Deliveries(deliveries)) if !self.is_closing => {
                let messages = deliveries.messages.into_iter();
                tray.put(
                    messages.map(|message| Delivery::new(message, self.lease, self.number, commands.clone())),
                );
                Ok(())
            }
            Some(Tell::Fates(fates)) => self.answer(&fates),
            Some(Tell::Opened(_)) => Err(ClientError::protocol("the broker opened the same stream twice")),
            // Deliveries that cross our closing go back with everything else. None is a step of a newer broker.
            Some(Tell::Deliveries(_) | Tell::Heartbeat(_)) | None => Ok(()),
        }
    }

    /// Follows commands; gives the settlements to send.
    fn obey(&mut self, commands: impl Iterator<Item = Command>, tray: &Tray) -> Vec<SettleCommand> {
        let mut settles = Vec::new();
        for command in commands {
            match command {
                // What is settled after closing has been handed back: its answer goes, which means stale.
                _ if self.is_closing => {}
                Command::Settle(settle) if settle.stream == self.number => settles.push(settle),
                Command::Settle(settle) => drop(settle.answer.send(Err(SettleError::Stale))),
                Command::Window => self.send(Ask::Window(tray.window())),
                Command::Close(answer) => (self.is_closing, self.close_answer) = (true, answer),
            }
        }
        settles
    }

    /// Sends settlements, as one step if each is of another delivery: a fate names the token it is of.
    fn settle(&mut self, settles: Vec<SettleCommand>) {
        let mut tokens = HashSet::with_capacity(settles.len());
        let mut together = Vec::with_capacity(settles.len());
        for settle in settles {
            if !tokens.insert(settle.settlement.token.clone()) {
                self.send_step(std::mem::take(&mut together));
                tokens = HashSet::from([settle.settlement.token.clone()]);
            }
            together.push(settle);
        }
        self.send_step(together);
    }

    fn send_step(&mut self, settles: Vec<SettleCommand>) {
        if settles.is_empty() {
            return;
        }
        let mut step = ConsumeSettle { sequence: self.sequence, ..ConsumeSettle::default() };
        let mut waiting = Vec::with_capacity(settles.len());
        for SettleCommand { settlement, answer, .. } in settles {
            waiting.push((settlement.token.clone(), answer));
            match settlement.outcome {
                Some(Outcome::Ack(_)) => step.acks.push(settlement.token),
                _ => step.settlements.push(settlement),
            }
        }
        self.in_flight.push_back(Step { sequence: self.sequence, waiting });
        self.sequence += 1;
        self.send(Ask::Settle(step));
    }

    fn send(&self, step: Ask) {
        if let Some(requests) = &self.requests {
            // A closed stream shows in its responses, with the reason.
            let _ = requests.send(ConsumeRequest { step: Some(step) });
        }
    }

    /// Hands fates to those who wait for them.
    fn answer(&mut self, fates: &Fates) -> Result<(), ClientError> {
        let expected = self.in_flight.pop_front().filter(|step| step.sequence == fates.sequence);
        let Some(step) = expected else {
            let message =
                format!("the broker told the fates of step {}, which is not the oldest", fates.sequence);
            return Err(ClientError::protocol(message));
        };
        for (token, answer) in step.waiting {
            let refused = fates.refused.iter().find(|fate| fate.token == token);
            // Whoever has stopped waiting does not want to know.
            let _ = answer.send(refused.map_or(Ok(()), |fate| Err(SettleError::from_fate(fate))));
        }
        Ok(())
    }

    fn broken(self, error: ClientError) -> End {
        for (_, answer) in self.in_flight.into_iter().flat_map(|step| step.waiting) {
            let _ = answer.send(Err(SettleError::Unanswered));
        }
        if self.is_closing {
            return End::Closed { answer: self.close_answer, result: Err(error) };
        }
        End::Broken { error, progress: self.progress }
    }

    /// The broker has ended the stream in order, which it does when we have closed our side.
    fn ended(self) -> End {
        if self.is_closing {
            return End::Closed { answer: self.close_answer, result: Ok(()) };
        }
        let error = ClientError::ended(&self.address);
        self.broken(error)
    }
}

/// The reason of an error that says nothing came for too long.
pub(crate) const SILENT: &str = "SILENT";

fn silent(address: &str) -> ClientError {
    let message = format!("the broker at {address} was silent for too long");
    ClientError::new(Code::Unavailable, SILENT, message)
}

//! `consume --exec`: a command for every message, some at a time, and what its exit code means.
//!
//! ```text
//!   delivery ──▶ command, lease extended while it runs ──▶ 0: ack · 100: reject · else: nack
//! ```
//!
//! After Ctrl-C no command is started. Those that run may finish; one that was interrupted hands its message back unharmed.

use std::cell::Cell;
use std::fmt::Write as _;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ratatoskr_client::{Delivery, SettleError};

use super::command::{Ended, run_command};
use super::{Next, Work};
use crate::exit::{Failure, Outcome};
use crate::stop_signals::INTERRUPTED;

/// What became of the messages.
#[derive(Debug, Default)]
struct Tally {
    acked: u64,
    nacked: u64,
    rejected: u64,
    released: u64,
    /// Settled in vain: the lease was gone, or the broker could not write.
    lost: u64,
}

/// What a command's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Acked,
    Nacked,
    Rejected,
    Released,
}

pub(super) async fn run(work: &mut Work, command: &str, parallel: u32) -> Outcome {
    let server = work.client.address().to_owned();
    let subscription = work.which.name.clone();
    let interrupted = Cell::new(false);
    let mut enough = false;
    let mut tally = Tally::default();
    let mut running = FuturesUnordered::new();
    let mut failure = None;
    loop {
        let has_ended = enough || interrupted.get() || failure.is_some();
        if has_ended && running.is_empty() {
            break;
        }
        let commands = running.len();
        let has_room = !has_ended && commands < parallel as usize;
        tokio::select! {
            biased;
            Some(done) = running.next(), if !running.is_empty() => match done {
                Ok((verdict, fate)) => tally.count(verdict, &fate),
                Err(error) => failure = Some(error),
            },
            next = next_if(work, has_room) => match next {
                Ok(Next::Delivery(delivery)) => {
                    let facts = facts(&delivery, &subscription, &server);
                    running.push(handle(delivery, command.to_owned(), facts, &interrupted));
                }
                Ok(Next::Enough) => enough = true,
                Ok(Next::Interrupted) if interrupted.replace(true) => std::process::exit(INTERRUPTED),
                Ok(Next::Interrupted) => remark_on_stopping(commands),
                Err(error) => failure = Some(error),
            },
        }
    }
    drop(running);
    tally.tell();
    failure.map_or(Ok(()), Err)
}

fn remark_on_stopping(commands: usize) {
    match commands {
        0 => {}
        1 => anstream::eprintln!("stopping: 1 command still runs; a second signal ends at once"),
        some => anstream::eprintln!("stopping: {some} commands still run; a second signal ends at once"),
    }
}

/// The next message if there is room for one; a signal to stop in any case.
async fn next_if(work: &mut Work, has_room: bool) -> Outcome<Next> {
    if has_room {
        return work.next().await;
    }
    work.stop.next().await;
    Ok(Next::Interrupted)
}

/// Runs the command for one message and settles it.
async fn handle(
    delivery: Box<Delivery>,
    command: String,
    facts: Vec<(&'static str, String)>,
    interrupted: &Cell<bool>,
) -> Outcome<(Verdict, Result<(), SettleError>)> {
    let payload = delivery.payload().clone();
    let ended = tokio::task::spawn_blocking(move || run_command(&command, &facts, &payload));
    let ended = delivery.keep_during(ended).await.expect("running a command does not panic");
    let ended = ended.map_err(|error| Failure::io("the command cannot be run", &error))?;
    let verdict = verdict(&ended, interrupted.get());
    let settling = match verdict {
        Verdict::Acked => delivery.ack(),
        Verdict::Rejected => delivery.reject(ended.reason()),
        Verdict::Nacked => delivery.nack(None, ended.reason()),
        Verdict::Released => delivery.release(),
    };
    let fate = settling.await;
    if let Err(error) = &fate {
        anstream::eprintln!("message at offset {}: {error}", delivery.offset());
    } else if matches!(verdict, Verdict::Nacked | Verdict::Rejected) {
        let (offset, attempt) = (delivery.offset(), delivery.attempt());
        anstream::eprintln!("message at offset {offset}, attempt {attempt}: {}", ended.reason());
    }
    Ok((verdict, fate))
}

fn verdict(ended: &Ended, interrupted: bool) -> Verdict {
    match ended.exit_code {
        Some(0) => Verdict::Acked,
        Some(100) => Verdict::Rejected,
        // Ctrl-C reaches the command as well: that is no failure of the message's.
        _ if interrupted => Verdict::Released,
        _ => Verdict::Nacked,
    }
}

/// What the command finds in its environment.
fn facts(delivery: &Delivery, subscription: &str, server: &str) -> Vec<(&'static str, String)> {
    let message = delivery.message();
    let metadata = serde_json::to_string(&message.metadata).expect("names and values are text");
    vec![
        ("RATATOSKR_SERVER", server.to_owned()),
        ("RATATOSKR_TOPIC", message.topic.clone()),
        ("RATATOSKR_SUBSCRIPTION", subscription.to_owned()),
        ("RATATOSKR_OFFSET", message.offset.to_string()),
        ("RATATOSKR_ID", message.id.clone()),
        ("RATATOSKR_KEY", message.key.clone()),
        ("RATATOSKR_ATTEMPT", message.attempt.to_string()),
        ("RATATOSKR_TIMESTAMP_MS", message.timestamp.to_string()),
        ("RATATOSKR_METADATA", metadata),
    ]
}

impl Tally {
    fn count(&mut self, verdict: Verdict, fate: &Result<(), SettleError>) {
        let counter = match verdict {
            _ if fate.is_err() => &mut self.lost,
            Verdict::Acked => &mut self.acked,
            Verdict::Nacked => &mut self.nacked,
            Verdict::Rejected => &mut self.rejected,
            Verdict::Released => &mut self.released,
        };
        *counter += 1;
    }

    fn tell(&self) {
        let Tally { acked, nacked, rejected, released, lost } = self;
        let mut line = format!("{acked} acked, {nacked} nacked, {rejected} rejected");
        for (count, what) in [(released, "handed back"), (lost, "settled in vain")] {
            if *count > 0 {
                write!(line, ", {count} {what}").expect("a String takes everything");
            }
        }
        anstream::eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_have_their_meaning_and_an_interrupted_command_fails_nobody() {
        for (exit_code, stopping, expected) in [
            (Some(0), false, Verdict::Acked),
            (Some(0), true, Verdict::Acked),
            (Some(100), true, Verdict::Rejected),
            (Some(1), false, Verdict::Nacked),
            (None, false, Verdict::Nacked),
            (Some(130), true, Verdict::Released),
            (None, true, Verdict::Released),
        ] {
            let ended = Ended { exit_code, signal: None, last_line: String::new() };
            assert_eq!(verdict(&ended, stopping), expected, "{exit_code:?} {stopping}");
        }
    }
}

//! Many messages to one topic, pipelined, with an exact account of what was acknowledged.
//!
//! ```text
//!   batches ──send_batch──▶ publisher ──▶ broker
//!                └─▶ pending, in order ──receipts──▶ Tally: the prefix of the input that is acknowledged
//! ```
//!
//! Invariants:
//! - `acknowledged` counts messages from the first on without a gap: going on after them loses nothing.
//! - After the first failure or refusal nothing more is sent; what is on its way is waited for.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use ratatoskr_client::{Client, ClientError, PublisherOptions, Receipt};

use crate::exit::Failure;
use crate::input::{Batch, Batches};
use crate::output::grouped;
use crate::progress::Progress;

/// Batches whose receipts are waited for at a time; the publisher bounds their bytes.
const BATCHES_PENDING_MAX: usize = 256;

/// What became of the input.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Messages acknowledged, from the first on without a gap.
    pub(crate) acknowledged: u64,
    /// Bytes of the input they stood for.
    pub(crate) input_bytes: u64,
    /// Messages refused.
    pub(crate) refused: u64,
    /// Messages acknowledged after one that was refused.
    pub(crate) beyond: u64,
    /// Receipts of the first and the last message of `acknowledged`.
    pub(crate) first: Option<Receipt>,
    pub(crate) last: Option<Receipt>,
    /// Why it ended early: the first failure there was.
    pub(crate) failure: Option<Stop>,
}

/// Why an input was not published to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The message after the acknowledged ones was refused, or the broker went away.
    Broker(ClientError),
    /// The input could not be read.
    Input(std::io::Error),
}

impl Tally {
    fn count(&mut self, results: Vec<Result<Receipt, ClientError>>, input_bytes: u64) {
        for result in results {
            match result {
                Ok(_) if self.failure.is_some() => self.beyond += 1,
                Ok(receipt) => {
                    self.acknowledged += 1;
                    if self.first.is_none() {
                        self.first = Some(receipt.clone());
                    }
                    self.last = Some(receipt);
                }
                Err(error) => {
                    self.refused += 1;
                    self.stop(Stop::Broker(error));
                }
            }
        }
        if self.failure.is_none() {
            self.input_bytes += input_bytes;
        }
    }

    fn stop(&mut self, why: Stop) {
        self.failure.get_or_insert(why);
    }
}

/// Publishes everything a producer gives.
pub(crate) async fn publish_all(
    client: &Client,
    topic: &str,
    mut batches: Batches,
    options: PublisherOptions,
    progress: &mut Progress,
) -> Tally {
    let publisher = client.publisher(topic, options);
    let mut tally = Tally::default();
    let mut pending = FuturesOrdered::new();
    let mut input_open = true;
    let mut input_error = None;
    while input_open || !pending.is_empty() {
        tokio::select! {
            Some((input_bytes, answer)) = pending.next(), if !pending.is_empty() => {
                match answer {
                    Ok(results) => tally.count(results, input_bytes),
                    Err(error) => tally.stop(Stop::Broker(error)),
                }
                progress.update(tally.input_bytes, || format!("{} acknowledged", grouped(tally.acknowledged)));
                input_open &= tally.failure.is_none();
            }
            batch = batches.recv(), if input_open && pending.len() < BATCHES_PENDING_MAX => match batch {
                Some(Ok(Batch { messages, input_bytes })) if messages.is_empty() => tally.input_bytes += input_bytes,
                Some(Ok(Batch { messages, input_bytes })) => {
                    let sent = publisher.send_batch(messages).await;
                    input_open = sent.is_ok();
                    // A failure to send waits its turn: what was sent before may still be acknowledged.
                    pending.push_back(async move {
                        match sent {
                            Ok(receipts) => (input_bytes, receipts.receipts().await),
                            Err(error) => (input_bytes, Err(error)),
                        }
                    });
                }
                Some(Err(error)) => {
                    input_open = false;
                    input_error = Some(Stop::Input(error));
                }
                None => input_open = false,
            },
        }
    }
    tally.failure = tally.failure.or(input_error);
    tally
}

impl Stop {
    /// As the program reports it.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Stop::Broker(error) => error.into(),
            Stop::Input(error) => Failure::io("the input cannot be read", &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatoskr_client::Durability;

    fn receipt(offset: u64) -> Receipt {
        Receipt {
            id: String::new(),
            offset,
            timestamp_ms: 0,
            durability: Durability::Fsync,
            duplicate: false,
            scheduled: false,
        }
    }

    #[tokio::test]
    async fn only_messages_before_the_first_refusal_count_as_acknowledged() {
        let refused = Client::connect_lazy("").unwrap_err();
        let mut tally = Tally::default();
        tally.count(vec![Ok(receipt(5)), Ok(receipt(6))], 10);
        tally.count(vec![Ok(receipt(7)), Err(refused), Ok(receipt(8))], 20);
        tally.count(vec![Ok(receipt(9))], 5);
        assert_eq!((tally.acknowledged, tally.refused, tally.beyond, tally.input_bytes), (3, 1, 2, 10));
        assert_eq!(tally.first.map(|receipt| receipt.offset), Some(5));
        assert_eq!(tally.last.map(|receipt| receipt.offset), Some(7));
        assert!(matches!(tally.failure, Some(Stop::Broker(_))));
    }
}

//! A bare connection with its two buffers, and what a peer's protocol has to say over it.
//!
//! ```text
//!   publish ─▶ output ─flush─▶ socket ─receive─▶ input ─read_acks─▶ how many messages the peer has confirmed
//! ```
//!
//! One task owns one line. Nothing is allocated per message: what a load generator spends, the server on the same machine lacks.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::failed::{Failed, Outcome, While};

/// Room for one read: several hundred small messages.
const READ_BYTES: usize = 256 << 10;
/// How long one answer to a request that sets something up may take; a loaded RabbitMQ needs seconds.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection.
pub(crate) struct Line {
    stream: TcpStream,
    /// What has come and is not consumed: from `start` on.
    input: Vec<u8>,
    start: usize,
    /// What is to be sent by the next `flush`.
    pub(crate) output: Vec<u8>,
}

/// What one look at the input gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes of the input that are done with.
    pub(crate) bytes: usize,
    /// Messages that count now: confirmed ones for who publishes or acks, delivered ones for who only follows.
    pub(crate) messages: u64,
}

/// How a protocol publishes.
pub(crate) trait Publishing {
    /// Appends one message whose ack is wanted.
    fn publish(&mut self, payload: &[u8], output: &mut Vec<u8>);

    /// Appends several messages as one piece, in the way the protocol is best at.
    fn publish_batch(&mut self, payloads: &[&[u8]], output: &mut Vec<u8>) {
        for payload in payloads {
            self.publish(payload, output);
        }
    }

    /// Reads the answers that are complete.
    fn read_acks(&mut self, input: &[u8], output: &mut Vec<u8>) -> Outcome<Progress>;
}

/// How a protocol is read from.
pub(crate) trait Reading {
    /// Reads the deliveries that are complete, shows each payload, and appends the acks and requests that follow from them.
    fn read(&mut self, input: &[u8], output: &mut Vec<u8>, seen: &mut dyn FnMut(&[u8])) -> Outcome<Progress>;
}

/// A connection that publishes.
pub(crate) struct Producer {
    pub(crate) line: Line,
    pub(crate) speech: Box<dyn Publishing>,
}

/// A connection that is read from; its first request lies in the line's output.
pub(crate) struct Consumer {
    pub(crate) line: Line,
    pub(crate) speech: Box<dyn Reading>,
}

impl Line {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Outcome<Line> {
        let stream = TcpStream::connect(address).await.when(format_args!("connecting to {address}"))?;
        stream.set_nodelay(true).when("setting TCP_NODELAY")?;
        Ok(Line { stream, input: Vec::with_capacity(READ_BYTES), start: 0, output: Vec::new() })
    }

    /// Sends the output.
    pub(crate) async fn flush(&mut self) -> Outcome {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await.when("sending to the peer")?;
            self.output.clear();
        }
        Ok(())
    }

    /// Waits for more input. Nothing is lost if the wait is given up.
    pub(crate) async fn receive(&mut self) -> Outcome {
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
        } else if self.start >= READ_BYTES {
            self.input.drain(..self.start);
            self.start = 0;
        }
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await.when("reading from the peer")? {
            0 => Err(Failed::new("the peer closed the connection")),
            _ => Ok(()),
        }
    }

    /// What has come and is not consumed.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input[self.start..]
    }

    /// Forgets the first bytes of the input.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// Sends the output and waits until `parse` finds what it looks for; it answers with the bytes that are done with.
    pub(crate) async fn ask<T>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Outcome<(usize, Option<T>)>,
    ) -> Outcome<T> {
        self.flush().await?;
        let answer = async {
            loop {
                let (bytes, found) = parse(self.input())?;
                self.consume(bytes);
                if let Some(found) = found {
                    return Ok(found);
                }
                if bytes == 0 {
                    self.receive().await?;
                }
            }
        };
        tokio::time::timeout(ANSWER_MAX, answer).await.when("waiting for the peer's answer")?
    }
}

impl Producer {
    /// Reads the acks that have come.
    pub(crate) fn read_acks(&mut self) -> Outcome<u64> {
        let progress = self.speech.read_acks(&self.line.input[self.line.start..], &mut self.line.output)?;
        self.line.consume(progress.bytes);
        Ok(progress.messages)
    }
}

impl Consumer {
    /// Reads what has come.
    pub(crate) fn read(&mut self, seen: &mut dyn FnMut(&[u8])) -> Outcome<u64> {
        let input = &self.line.input[self.line.start..];
        let progress = self.speech.read(input, &mut self.line.output, seen)?;
        self.line.consume(progress.bytes);
        Ok(progress.messages)
    }
}

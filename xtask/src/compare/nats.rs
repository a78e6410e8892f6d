//! The NATS protocol, bare: what core and JetStream share, and core itself.
//!
//! ```text
//!   PUB subject [reply] LEN ┐            MSG  subject sid [reply] LEN ┐
//!   payload                 ┘            HMSG subject sid [reply] HEADER-LEN LEN ┐ headers, payload
//! ```
//!
//! Core acknowledges nothing. To know that the server has taken what was sent, a piece ends with a PING, and its PONG counts as the
//! confirmation of all before it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::line::{Consumer, Line, Producer, Progress, Publishing, Reading};
use crate::failed::{Failed, Outcome};

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}\r\nPING\r\n";
pub(super) const PONG: &[u8] = b"PONG\r\n";

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Message(Message<'a>),
    Ping,
    Pong,
    /// `INFO`, `+OK`.
    Other,
}

/// A delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Number of the subscription it is for.
    pub(super) sid: &'a [u8],
    /// Where an answer goes; empty if none is wanted.
    pub(super) reply: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// The first frame and its length, if it is complete. An error of the server is an error here.
pub(super) fn frame(input: &[u8]) -> Outcome<Option<(Frame<'_>, usize)>> {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let (line, after) = (&input[..end.saturating_sub(1)], end + 1);
    let strange = || Failed::new(format!("nats sent {:?}", String::from_utf8_lossy(line)));
    let has_headers = line.starts_with(b"HMSG ");
    if !has_headers && !line.starts_with(b"MSG ") {
        let other = match line {
            b"PING" => Frame::Ping,
            b"PONG" => Frame::Pong,
            _ if line.starts_with(b"-ERR") => return Err(strange()),
            _ => Frame::Other,
        };
        return Ok(Some((other, after)));
    }
    // The words after the verb: subject, sid, perhaps a reply, and one or two lengths.
    let mut words: [&[u8]; 5] = [b""; 5];
    let mut count = 0;
    for word in line.split(|byte| *byte == b' ').skip(1) {
        *words.get_mut(count).ok_or_else(strange)? = word;
        count += 1;
    }
    let lengths = if has_headers { 2 } else { 1 };
    if count < 2 + lengths {
        return Err(strange());
    }
    let total = number(words[count - 1]).ok_or_else(strange)?;
    let head = if has_headers { number(words[count - 2]).ok_or_else(strange)? } else { 0 };
    if input.len() < after + total + 2 || head > total {
        return Ok(None);
    }
    let reply = if count == 3 + lengths { words[2] } else { b"" };
    let (headers, payload) = input[after..after + total].split_at(head);
    Ok(Some((Frame::Message(Message { sid: words[1], reply, headers, payload }), after + total + 2)))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A connection that has been answered.
pub(super) async fn connect(address: SocketAddr) -> Outcome<Line> {
    let mut line = Line::open(address).await?;
    line.output.extend_from_slice(CONNECT);
    synced(&mut line).await?;
    Ok(line)
}

/// Sends the output, which ends with a PING, and waits for the PONG.
pub(super) async fn synced(line: &mut Line) -> Outcome {
    line.ask(|input| {
        Ok(match frame(input)? {
            Some((Frame::Pong, bytes)) => (bytes, Some(())),
            Some((_, bytes)) => (bytes, None),
            None => (0, None),
        })
    })
    .await
}

pub(super) fn push_publish(subject: &str, reply: &[u8], payload: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(b"PUB ");
    output.extend_from_slice(subject.as_bytes());
    output.push(b' ');
    if !reply.is_empty() {
        output.extend_from_slice(reply);
        output.push(b' ');
    }
    push_number(payload.len(), output);
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(payload);
    output.extend_from_slice(b"\r\n");
}

pub(super) fn push_number(number: usize, output: &mut Vec<u8>) {
    use std::io::Write as _;
    write!(output, "{number}").expect("a Vec takes every write");
}

/// Whether the server answers.
pub(crate) async fn answers(address: SocketAddr) -> Outcome {
    connect(address).await.map(drop)
}

/// A connection that publishes to core.
pub(crate) async fn producer(address: SocketAddr, topic: &str) -> Outcome<Producer> {
    let line = connect(address).await?;
    Ok(Producer { line, speech: Box::new(Sends { topic: topic.to_owned(), pieces: VecDeque::new() }) })
}

/// So many subscribers of core on one connection.
pub(crate) async fn followers(address: SocketAddr, topic: &str, count: u32) -> Outcome<Consumer> {
    let mut line = connect(address).await?;
    for sid in 0..count {
        line.output.extend_from_slice(format!("SUB {topic} {sid}\r\n").as_bytes());
    }
    line.output.extend_from_slice(b"PING\r\n");
    synced(&mut line).await?;
    Ok(Consumer { line, speech: Box::new(Receives) })
}

struct Sends {
    topic: String,
    /// Messages of the pieces that no PONG has confirmed.
    pieces: VecDeque<u64>,
}

impl Publishing for Sends {
    fn publish(&mut self, payload: &[u8], output: &mut Vec<u8>) {
        self.publish_batch(&[payload], output);
    }

    fn publish_batch(&mut self, payloads: &[&[u8]], output: &mut Vec<u8>) {
        for payload in payloads {
            push_publish(&self.topic, b"", payload, output);
        }
        output.extend_from_slice(b"PING\r\n");
        self.pieces.push_back(payloads.len() as u64);
    }

    fn read_acks(&mut self, input: &[u8], output: &mut Vec<u8>) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((frame, bytes)) = frame(&input[progress.bytes..])? {
            progress.bytes += bytes;
            match frame {
                Frame::Ping => output.extend_from_slice(PONG),
                Frame::Pong => progress.messages += self.pieces.pop_front().unwrap_or(0),
                Frame::Message(_) | Frame::Other => {}
            }
        }
        Ok(progress)
    }
}

/// Counts whatever comes; also for JetStream's push without acks.
pub(super) struct Receives;

impl Reading for Receives {
    fn read(&mut self, input: &[u8], output: &mut Vec<u8>, seen: &mut dyn FnMut(&[u8])) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((frame, bytes)) = frame(&input[progress.bytes..])? {
            progress.bytes += bytes;
            match frame {
                Frame::Ping => output.extend_from_slice(PONG),
                // A status in the headers makes it a word of the server's own: an idle heartbeat.
                Frame::Message(message) if !message.headers.starts_with(b"NATS/1.0 ") => {
                    seen(message.payload);
                    progress.messages += 1;
                }
                Frame::Message(_) | Frame::Pong | Frame::Other => {}
            }
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_read_with_and_without_a_reply_and_headers() {
        for (wire, sid, reply, headers) in [
            (&b"MSG a.b 7 3\r\nxyz\r\n"[..], &b"7"[..], &b""[..], &b""[..]),
            (b"MSG a.b 7 r.1 3\r\nxyz\r\n", b"7", b"r.1", b""),
            (b"HMSG a.b 9 r 4 7\r\nN/1\nxyz\r\n", b"9", b"r", b"N/1\n"),
            (b"HMSG a.b 9 4 7\r\nN/1\nxyz\r\n", b"9", b"", b"N/1\n"),
        ] {
            let expected = Frame::Message(Message { sid, reply, headers, payload: b"xyz" });
            assert_eq!(frame(wire).unwrap(), Some((expected, wire.len())));
            assert_eq!(frame(&wire[..wire.len() - 1]).unwrap(), None);
        }
    }

    #[test]
    fn the_rest_of_the_protocol_is_lines() {
        assert_eq!(frame(b"PING\r\n").unwrap(), Some((Frame::Ping, 6)));
        assert_eq!(frame(b"INFO {}\r\n").unwrap(), Some((Frame::Other, 9)));
        assert!(frame(b"-ERR 'Stale'\r\n").is_err());
        assert!(frame(b"MSG a\r\n").is_err());
    }

    #[test]
    fn a_pong_confirms_the_piece_before_its_ping() {
        let (mut sends, mut wire) = (Sends { topic: "t".into(), pieces: VecDeque::new() }, Vec::new());
        sends.publish_batch(&[b"a", b"bc"], &mut wire);
        assert_eq!(wire, b"PUB t 1\r\na\r\nPUB t 2\r\nbc\r\nPING\r\n");
        let progress = sends.read_acks(b"PONG\r\nPO", &mut wire).unwrap();
        assert_eq!(progress, Progress { bytes: 6, messages: 2 });
    }
}

//! MQTT 3.1.1 at QoS 1, on bare packets.
//!
//! ```text
//!   publish   PUBLISH qos 1 ─▶ PUBACK
//!   member    a session that outlives its connection: what came meanwhile is sent, each PUBLISH answered with a PUBACK
//!   follower  a session of its own at QoS 0: deliveries without acks
//! ```
//!
//! A topic here is a name and one kept session subscribed to it, so that a message published has somewhere to stay: a broker
//! throws away what nobody has subscribed to, and would be fast at that. A PUBACK of a member is not confirmed by the broker: an ack
//! counts when it is written.

use std::net::SocketAddr;

use super::line::{Consumer, Line, Producer, Progress, Publishing, Reading};
use crate::failed::{Failed, Outcome};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const DISCONNECT: u8 = 0xe0;
/// In the flags of a PUBLISH: QoS 1.
const QOS_1: u8 = 0x02;

/// Whether the broker keeps a session when its connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Session {
    Kept,
    Fresh,
}

/// Whether the server answers.
pub(crate) async fn answers(address: SocketAddr) -> Outcome {
    connect(address, "compare-look", Session::Fresh).await.map(drop)
}

/// Makes a topic: the session that keeps its messages.
pub(crate) async fn create(address: SocketAddr, topic: &str) -> Outcome {
    let mut line = connect(address, topic, Session::Kept).await?;
    subscribe(&mut line, topic, 1).await?;
    line.output.extend_from_slice(&[DISCONNECT, 0]);
    line.flush().await
}

/// Removes a topic: its session, and with it the messages.
pub(crate) async fn delete(address: SocketAddr, topic: &str) -> Outcome {
    connect(address, topic, Session::Fresh).await.map(drop)
}

/// A connection that publishes.
pub(crate) async fn producer(address: SocketAddr, topic: &str, number: u32) -> Outcome<Producer> {
    let line = connect(address, &format!("{topic}-p{number}"), Session::Fresh).await?;
    Ok(Producer { line, speech: Box::new(Publishes { topic: topic.to_owned(), packet: 0 }) })
}

/// The one member: it takes over the session of the topic.
pub(crate) async fn member(address: SocketAddr, topic: &str) -> Outcome<Consumer> {
    let line = connect(address, topic, Session::Kept).await?;
    Ok(Consumer { line, speech: Box::new(Receives) })
}

/// A subscriber without acks.
pub(crate) async fn follower(address: SocketAddr, topic: &str, number: u32) -> Outcome<Consumer> {
    let mut line = connect(address, &format!("{topic}-f{number}"), Session::Fresh).await?;
    subscribe(&mut line, topic, 0).await?;
    Ok(Consumer { line, speech: Box::new(Receives) })
}

async fn connect(address: SocketAddr, client: &str, session: Session) -> Outcome<Line> {
    let mut line = Line::open(address).await?;
    let mut body = Vec::new();
    push_text("MQTT", &mut body);
    // Protocol level 4 is 3.1.1; keep-alive 0 asks for no pings.
    let flags = if session == Session::Fresh { 0x02 } else { 0 };
    body.extend_from_slice(&[4, flags, 0, 0]);
    push_text(client, &mut body);
    push_packet(CONNECT, &body, &mut line.output);
    let code = line.ask(|input| await_packet(input, CONNACK, |body| body.get(1).copied())).await?;
    if code == 0 {
        Ok(line)
    } else {
        Err(Failed::new(format!("the MQTT broker refused a connection with {code}")))
    }
}

async fn subscribe(line: &mut Line, topic: &str, qos: u8) -> Outcome {
    let mut body = vec![0, 1];
    push_text(topic, &mut body);
    body.push(qos);
    push_packet(SUBSCRIBE, &body, &mut line.output);
    let granted = line.ask(|input| await_packet(input, SUBACK, |body| body.get(2).copied())).await?;
    if granted == qos {
        Ok(())
    } else {
        Err(Failed::new(format!("the MQTT broker granted QoS {granted:#x}")))
    }
}

fn await_packet<T>(input: &[u8], kind: u8, pick: impl Fn(&[u8]) -> Option<T>) -> Outcome<(usize, Option<T>)> {
    Ok(match packet(input)? {
        Some((head, body, bytes)) if head & 0xf0 == kind => (bytes, pick(body)),
        Some((_, _, bytes)) => (bytes, None),
        None => (0, None),
    })
}

fn push_text(text: &str, output: &mut Vec<u8>) {
    output.extend_from_slice(&(text.len() as u16).to_be_bytes());
    output.extend_from_slice(text.as_bytes());
}

fn push_packet(head: u8, body: &[u8], output: &mut Vec<u8>) {
    output.push(head);
    push_remaining(body.len(), output);
    output.extend_from_slice(body);
}

/// The length of what follows: seven bits a byte, the lowest first.
fn push_remaining(mut length: usize, output: &mut Vec<u8>) {
    loop {
        let (digit, rest) = ((length & 0x7f) as u8, length >> 7);
        output.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            return;
        }
        length = rest;
    }
}

/// The first packet, if it is complete: its first byte, its body, and its length.
fn packet(input: &[u8]) -> Outcome<Option<(u8, &[u8], usize)>> {
    let mut length = 0;
    for (index, byte) in input.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let (from, to) = (index + 2, index + 2 + length);
            return Ok(input.get(from..to).map(|body| (input[0], body, to)));
        }
    }
    if input.len() < 5 {
        Ok(None)
    } else {
        Err(Failed::new("an MQTT packet has a length of more than four bytes"))
    }
}

struct Publishes {
    topic: String,
    /// Id of the newest packet; 0 is not allowed.
    packet: u16,
}

impl Publishing for Publishes {
    fn publish(&mut self, payload: &[u8], output: &mut Vec<u8>) {
        self.packet = self.packet.checked_add(1).unwrap_or(1);
        output.push(PUBLISH | QOS_1);
        push_remaining(self.topic.len() + 4 + payload.len(), output);
        push_text(&self.topic, output);
        output.extend_from_slice(&self.packet.to_be_bytes());
        output.extend_from_slice(payload);
    }

    fn read_acks(&mut self, input: &[u8], _output: &mut Vec<u8>) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((head, _, bytes)) = packet(&input[progress.bytes..])? {
            progress.bytes += bytes;
            progress.messages += u64::from(head == PUBACK);
        }
        Ok(progress)
    }
}

struct Receives;

impl Reading for Receives {
    fn read(&mut self, input: &[u8], output: &mut Vec<u8>, seen: &mut dyn FnMut(&[u8])) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((head, body, bytes)) = packet(&input[progress.bytes..])? {
            progress.bytes += bytes;
            if head & 0xf0 != PUBLISH {
                continue;
            }
            let short = || Failed::new("an MQTT broker sent a PUBLISH without a topic");
            let [high, low, after @ ..] = body else { return Err(short()) };
            let rest = after.get(usize::from(u16::from_be_bytes([*high, *low]))..).ok_or_else(short)?;
            let payload = if head & 0x06 == QOS_1 {
                let (id, payload) = rest.split_at_checked(2).ok_or_else(short)?;
                push_packet(PUBACK, id, output);
                payload
            } else {
                rest
            };
            seen(payload);
            progress.messages += 1;
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_seven_bits_a_byte() {
        for (length, bytes) in [(0, vec![0]), (127, vec![0x7f]), (128, vec![0x80, 1]), (321, vec![0xc1, 2])] {
            let mut output = Vec::new();
            push_remaining(length, &mut output);
            assert_eq!(output, bytes);
        }
    }

    #[test]
    fn what_is_published_is_read_and_acked_with_its_id() {
        let (mut publishes, mut wire) = (Publishes { topic: "t".into(), packet: u16::MAX }, Vec::new());
        publishes.publish(&[7; 300], &mut wire);
        let (mut acks, mut payloads) = (Vec::new(), Vec::new());
        let mut seen = |payload: &[u8]| payloads.push(payload.to_vec());
        assert_eq!(Receives.read(&wire[..20], &mut acks, &mut seen).unwrap(), Progress::default());
        let progress = Receives.read(&wire, &mut acks, &mut seen).unwrap();
        assert_eq!(progress, Progress { bytes: wire.len(), messages: 1 });
        assert_eq!(payloads, [vec![7; 300]]);
        // The id after the largest one is 1.
        assert_eq!(acks, [PUBACK, 2, 0, 1]);
        assert_eq!(publishes.read_acks(&acks, &mut Vec::new()).unwrap().messages, 1);
    }

    #[test]
    fn a_delivery_at_qos_0_is_not_acked() {
        let (mut wire, mut acks) = (Vec::new(), Vec::new());
        push_packet(PUBLISH, b"\0\x01tpayload", &mut wire);
        let mut payloads = Vec::new();
        Receives.read(&wire, &mut acks, &mut |payload| payloads.push(payload.to_vec())).unwrap();
        assert!(acks.is_empty() && payloads == [b"payload"]);
    }
}

//! AMQP 0-9-1, bare, as RabbitMQ speaks it: confirms, durable queues, manual acks.
//!
//! ```text
//!   topic     an exchange, and one durable queue bound to it (quorum or classic)
//!   publish   basic.publish, header, body ─▶ basic.ack TAG multiple
//!   member    basic.consume, prefetch 1000 ─▶ basic.deliver, header, body ─▶ basic.ack of the last tag, multiple
//!   follower  the same without acks; for fan-out a durable queue of its own
//! ```
//!
//! The protocol has no batches: a batch is so many messages in one write. The broker does not confirm acks of a member: an ack counts
//! when it is written. Frames are in [`super::amqp_frame`].

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::amqp_frame::{BODY, HEADER, METHOD, Writer, frame, push_frame};
use super::line::{Consumer, Line, Producer, Progress, Publishing, Reading};
use crate::failed::{Failed, Outcome};

const PREFETCH: u16 = 1000;

/// Which kind of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Quorum,
    Classic,
}

impl Queue {
    fn word(self) -> &'static str {
        match self {
            Queue::Quorum => "quorum",
            Queue::Classic => "classic",
        }
    }
}

type Method = (u16, u16);
const CONNECTION_START: Method = (10, 10);
const CONNECTION_START_OK: Method = (10, 11);
const CONNECTION_TUNE: Method = (10, 30);
const CONNECTION_TUNE_OK: Method = (10, 31);
const CONNECTION_OPEN: Method = (10, 40);
const CONNECTION_OPEN_OK: Method = (10, 41);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_OPEN: Method = (20, 10);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
const EXCHANGE_DECLARE: Method = (40, 10);
const EXCHANGE_DECLARE_OK: Method = (40, 11);
const EXCHANGE_DELETE: Method = (40, 20);
const EXCHANGE_DELETE_OK: Method = (40, 21);
const QUEUE_DECLARE: Method = (50, 10);
const QUEUE_DECLARE_OK: Method = (50, 11);
const QUEUE_BIND: Method = (50, 20);
const QUEUE_BIND_OK: Method = (50, 21);
const QUEUE_DELETE: Method = (50, 40);
const QUEUE_DELETE_OK: Method = (50, 41);
const BASIC_QOS: Method = (60, 10);
const BASIC_QOS_OK: Method = (60, 11);
const BASIC_CONSUME: Method = (60, 20);
const BASIC_CONSUME_OK: Method = (60, 21);
const BASIC_PUBLISH: Method = (60, 40);
const BASIC_DELIVER: Method = (60, 60);
const BASIC_ACK: Method = (60, 80);
const BASIC_NACK: Method = (60, 120);
const CONFIRM_SELECT: Method = (85, 10);
const CONFIRM_SELECT_OK: Method = (85, 11);

/// Bits of `declare`: passive, durable. Of `consume`: no ack.
const PASSIVE: u8 = 1;
const DURABLE: u8 = 2;
const NO_ACK: u8 = 2;
const MULTIPLE: u8 = 1;

/// Whether the server answers.
pub(crate) async fn answers(address: SocketAddr) -> Outcome {
    connect(address).await.map(drop)
}

/// Makes a topic: an exchange, and the one queue that keeps its messages.
pub(crate) async fn create(address: SocketAddr, topic: &str, queue: Queue) -> Outcome {
    let mut line = connect(address).await?;
    declare_exchange(&mut line, topic).await?;
    declare_queue(&mut line, topic, topic, queue).await
}

/// Makes a topic for fan-out: an exchange without a queue, subscribers bring theirs.
pub(crate) async fn create_fan(address: SocketAddr, topic: &str) -> Outcome {
    declare_exchange(&mut connect(address).await?, topic).await
}

/// Removes a topic with its queue.
pub(crate) async fn delete(address: SocketAddr, topic: &str) -> Outcome {
    let mut line = connect(address).await?;
    call(&mut line, Writer::method(1, QUEUE_DELETE).u16(0).text(topic).u8(0), QUEUE_DELETE_OK).await?;
    call(&mut line, Writer::method(1, EXCHANGE_DELETE).u16(0).text(topic).u8(0), EXCHANGE_DELETE_OK).await?;
    Ok(())
}

/// Messages in a topic's queue.
pub(crate) async fn count(address: SocketAddr, topic: &str) -> Outcome<u64> {
    let mut line = connect(address).await?;
    let look = Writer::method(1, QUEUE_DECLARE).u16(0).text(topic).u8(PASSIVE).u32(0);
    let answer = call(&mut line, look, QUEUE_DECLARE_OK).await?;
    let at = 1 + usize::from(answer.first().copied().unwrap_or(0));
    let messages = answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    messages.map(u64::from).ok_or_else(|| Failed::new("rabbitmq told no count of messages"))
}

/// A connection that publishes with confirms.
pub(crate) async fn producer(address: SocketAddr, topic: &str) -> Outcome<Producer> {
    let mut line = connect(address).await?;
    call(&mut line, Writer::method(1, CONFIRM_SELECT).u8(0), CONFIRM_SELECT_OK).await?;
    let mut head = Vec::new();
    Writer::method(1, BASIC_PUBLISH).u16(0).text(topic).text("").u8(0).finish(&mut head);
    Ok(Producer { line, speech: Box::new(Confirmed { head, confirmed: Confirms::default() }) })
}

/// A member: one of the consumers of the topic's queue.
pub(crate) async fn member(address: SocketAddr, topic: &str) -> Outcome<Consumer> {
    let mut line = connect(address).await?;
    call(&mut line, Writer::method(1, BASIC_QOS).u32(0).u16(PREFETCH).u8(0), BASIC_QOS_OK).await?;
    consume(&mut line, topic, 0).await?;
    Ok(Consumer { line, speech: Box::new(Receives { acks: true, tag: 0 }) })
}

/// A subscriber of the topic's queue without acks.
pub(crate) async fn follower(address: SocketAddr, topic: &str) -> Outcome<Consumer> {
    let mut line = connect(address).await?;
    consume(&mut line, topic, NO_ACK).await?;
    Ok(Consumer { line, speech: Box::new(Receives { acks: false, tag: 0 }) })
}

/// So many subscribers without acks on one connection, each with a queue of its own.
pub(crate) async fn fan(address: SocketAddr, topic: &str, connection: u32, count: u32) -> Outcome<Consumer> {
    let mut line = connect(address).await?;
    for number in 0..count {
        let name = format!("{topic}-{connection}-{number}");
        declare_queue(&mut line, topic, &name, Queue::Classic).await?;
        consume(&mut line, &name, NO_ACK).await?;
    }
    Ok(Consumer { line, speech: Box::new(Receives { acks: false, tag: 0 }) })
}

async fn declare_exchange(line: &mut Line, topic: &str) -> Outcome {
    let declare = Writer::method(1, EXCHANGE_DECLARE).u16(0).text(topic).text("fanout").u8(DURABLE).u32(0);
    call(line, declare, EXCHANGE_DECLARE_OK).await.map(drop)
}

async fn declare_queue(line: &mut Line, topic: &str, name: &str, queue: Queue) -> Outcome {
    let declare = Writer::method(1, QUEUE_DECLARE).u16(0).text(name).u8(DURABLE);
    call(line, declare.table(&[("x-queue-type", queue.word())]), QUEUE_DECLARE_OK).await?;
    let bind = Writer::method(1, QUEUE_BIND).u16(0).text(name).text(topic).text("").u8(0).u32(0);
    call(line, bind, QUEUE_BIND_OK).await.map(drop)
}

/// Starts to consume; deliveries may come right behind the answer and stay in the line's input.
async fn consume(line: &mut Line, name: &str, flags: u8) -> Outcome {
    let consume = Writer::method(1, BASIC_CONSUME).u16(0).text(name).text(name).u8(flags).u32(0);
    call(line, consume, BASIC_CONSUME_OK).await.map(drop)
}

async fn connect(address: SocketAddr) -> Outcome<Line> {
    let mut line = Line::open(address).await?;
    line.output.extend_from_slice(b"AMQP\0\0\x09\x01");
    expect(&mut line, CONNECTION_START).await?;
    let login =
        Writer::method(0, CONNECTION_START_OK).u32(0).text("PLAIN").long("\0guest\0guest").text("en_US");
    let tune = call(&mut line, login, CONNECTION_TUNE).await?;
    let [c0, c1, f0, f1, f2, f3, ..] = tune[..] else {
        return Err(Failed::new("rabbitmq sent a short tune"));
    };
    // Heartbeat 0: none.
    let tuned = Writer::method(0, CONNECTION_TUNE_OK)
        .u16(u16::from_be_bytes([c0, c1]))
        .u32(u32::from_be_bytes([f0, f1, f2, f3]))
        .u16(0);
    tuned.finish(&mut line.output);
    call(&mut line, Writer::method(0, CONNECTION_OPEN).text("/").text("").u8(0), CONNECTION_OPEN_OK).await?;
    call(&mut line, Writer::method(1, CHANNEL_OPEN).text(""), CHANNEL_OPEN_OK).await?;
    Ok(line)
}

async fn call(line: &mut Line, request: Writer, answer: Method) -> Outcome<Vec<u8>> {
    request.finish(&mut line.output);
    expect(line, answer).await
}

/// Waits for a method. Deliveries of consumers that have started already are not lost to it only because there are none: a topic is
/// published to after all its subscribers are there.
async fn expect(line: &mut Line, answer: Method) -> Outcome<Vec<u8>> {
    line.ask(|input| {
        Ok(match frame(input)? {
            Some(frame) => {
                let method = frame.method().filter(|(method, _)| *method == answer);
                refuse(frame.method())?;
                (frame.bytes, method.map(|(_, arguments)| arguments.to_vec()))
            }
            None => (0, None),
        })
    })
    .await
}

/// A close by the server is an error with its words.
fn refuse(method: Option<(Method, &[u8])>) -> Outcome {
    match method {
        Some((CONNECTION_CLOSE | CHANNEL_CLOSE, arguments)) => {
            let words = arguments.get(3..).unwrap_or_default();
            Err(Failed::new(format!(
                "rabbitmq closed: {}",
                String::from_utf8_lossy(words).trim_end_matches('\0')
            )))
        }
        Some((BASIC_NACK, _)) => Err(Failed::new("rabbitmq refused a message")),
        _ => Ok(()),
    }
}

struct Confirmed {
    /// The method frame of every message.
    head: Vec<u8>,
    confirmed: Confirms,
}

/// Which tags are confirmed. Single confirms may come out of order.
#[derive(Default)]
struct Confirms {
    /// All up to this tag are.
    floor: u64,
    /// And these above it.
    early: BTreeSet<u64>,
}

impl Confirms {
    /// Takes a confirm; the answer is how many messages it confirms that were not before.
    fn take(&mut self, tag: u64, flags: u8) -> u64 {
        let is_multiple = flags & MULTIPLE != 0;
        if !is_multiple && tag != self.floor + 1 {
            return u64::from(tag > self.floor && self.early.insert(tag));
        }
        let known = self.early.range(..=tag).count() as u64;
        let messages = tag.saturating_sub(self.floor + known);
        self.floor = self.floor.max(tag);
        self.early = self.early.split_off(&(self.floor + 1));
        while self.early.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        messages
    }
}

impl Publishing for Confirmed {
    fn publish(&mut self, payload: &[u8], output: &mut Vec<u8>) {
        /// Class basic, weight 0; then the body's length.
        const BASIC: [u8; 4] = [0, 60, 0, 0];
        /// One property, the delivery mode: persistent.
        const PERSISTENT: [u8; 3] = [0x10, 0, 2];
        output.extend_from_slice(&self.head);
        let mut header = [0; 15];
        header[..4].copy_from_slice(&BASIC);
        header[4..12].copy_from_slice(&(payload.len() as u64).to_be_bytes());
        header[12..].copy_from_slice(&PERSISTENT);
        push_frame(HEADER, 1, &header, output);
        push_frame(BODY, 1, payload, output);
    }

    fn read_acks(&mut self, input: &[u8], _output: &mut Vec<u8>) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some(frame) = frame(&input[progress.bytes..])? {
            progress.bytes += frame.bytes;
            refuse(frame.method())?;
            let Some((BASIC_ACK, arguments)) = frame.method() else { continue };
            let [t0, t1, t2, t3, t4, t5, t6, t7, flags] = arguments[..] else { continue };
            let tag = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
            progress.messages += self.confirmed.take(tag, flags);
        }
        Ok(progress)
    }
}

struct Receives {
    /// Whether deliveries are to be acked.
    acks: bool,
    /// Tag of the newest delivery.
    tag: u64,
}

impl Reading for Receives {
    fn read(&mut self, input: &[u8], output: &mut Vec<u8>, seen: &mut dyn FnMut(&[u8])) -> Outcome<Progress> {
        let (mut progress, before) = (Progress::default(), self.tag);
        while let Some(frame) = frame(&input[progress.bytes..])? {
            progress.bytes += frame.bytes;
            match (frame.kind, frame.method()) {
                (METHOD, Some((BASIC_DELIVER, arguments))) => {
                    let at = 1 + usize::from(arguments.first().copied().unwrap_or(0));
                    let tag = arguments.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                    self.tag = u64::from_be_bytes(tag.ok_or_else(|| Failed::new("rabbitmq sent no tag"))?);
                }
                (METHOD, method) => refuse(method)?,
                // A body of a message; small ones, as here, come in one frame.
                (BODY, _) => {
                    seen(frame.payload);
                    progress.messages += 1;
                }
                _ => {}
            }
        }
        if self.acks && self.tag > before {
            let [high, low] = [(self.tag >> 32) as u32, self.tag as u32];
            Writer::method(1, BASIC_ACK).u32(high).u32(low).u8(MULTIPLE).finish(output);
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(tag: u64, flags: u8) -> Vec<u8> {
        let mut wire = Vec::new();
        Writer::method(1, BASIC_ACK).u32((tag >> 32) as u32).u32(tag as u32).u8(flags).finish(&mut wire);
        wire
    }

    #[test]
    fn confirms_count_once_single_or_many_at_a_time() {
        let mut confirmed = Confirmed { head: Vec::new(), confirmed: Confirms::default() };
        let wire = [ack(1, 0), ack(3, 0), ack(2, MULTIPLE), ack(5, 0), ack(4, 0)].concat();
        let progress = confirmed.read_acks(&wire, &mut Vec::new()).unwrap();
        assert_eq!(progress, Progress { bytes: wire.len(), messages: 5 });
        assert_eq!(confirmed.read_acks(&ack(9, MULTIPLE), &mut Vec::new()).unwrap().messages, 4);
    }

    #[test]
    fn a_refused_message_and_a_close_are_errors() {
        let mut wire = Vec::new();
        Writer::method(1, BASIC_NACK).u32(0).u32(1).u8(0).finish(&mut wire);
        assert!(
            Confirmed { head: vec![], confirmed: Confirms::default() }.read_acks(&wire, &mut vec![]).is_err()
        );
        let mut wire = Vec::new();
        Writer::method(1, CHANNEL_CLOSE).u16(404).text("NOT_FOUND").u32(0).finish(&mut wire);
        let error = Receives { acks: true, tag: 0 }.read(&wire, &mut vec![], &mut |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "rabbitmq closed: NOT_FOUND");
    }

    #[test]
    fn a_member_acks_all_that_came_at_once() {
        let mut wire = Vec::new();
        for tag in 1..=2 {
            Writer::method(1, BASIC_DELIVER)
                .text("c")
                .u32(0)
                .u32(tag)
                .u8(0)
                .text("")
                .text("")
                .finish(&mut wire);
            push_frame(HEADER, 1, &[0; 14], &mut wire);
            push_frame(BODY, 1, b"payload", &mut wire);
        }
        let (mut member, mut output, mut count) = (Receives { acks: true, tag: 0 }, Vec::new(), 0);
        let progress = member.read(&wire, &mut output, &mut |payload| count += payload.len()).unwrap();
        assert_eq!((progress.messages, count), (2, 14));
        assert_eq!(output, ack(2, MULTIPLE));
    }

    #[test]
    fn a_message_is_method_header_and_body() {
        let (mut confirmed, mut wire) =
            (Confirmed { head: b"HEAD".to_vec(), confirmed: Confirms::default() }, Vec::new());
        confirmed.publish(b"abc", &mut wire);
        let expected =
            b"HEAD\x02\0\x01\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\0\x03\x10\0\x02\xce\x03\0\x01\0\0\0\x03abc\xce";
        assert_eq!(wire, expected);
    }
}

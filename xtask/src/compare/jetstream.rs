//! NATS JetStream: a file stream, publishing with acks, a durable pull consumer, push consumers without acks.
//!
//! ```text
//!   publish   PUB topic INBOX ─▶ MSG INBOX {"stream":…,"seq":…}
//!   batch     HPUB … Nats-Batch-Sequence: 1, 2, … n, Nats-Batch-Commit: 1 ─▶ one answer for all (atomic batch, 2.12 and later)
//!   member    PUB $JS.API.CONSUMER.MSG.NEXT… {"batch":500} ─▶ MSG … $JS.ACK… ─▶ PUB $JS.ACK… INBOX +ACK ─▶ MSG INBOX, empty
//!   follower  $JS.API.CONSUMER.CREATE… {"deliver_subject":…,"ack_policy":"none"} ─▶ MSG, MSG, …
//! ```
//!
//! Acks of a member ask for confirmation, as those of our members are confirmed.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::line::{Consumer, Line, Producer, Progress, Publishing, Reading};
use super::nats::{Frame, PONG, Receives, connect, frame, push_number, push_publish, synced};
use crate::failed::{Failed, Outcome, While};

/// Messages a member asks for; half of it anew whenever half has come.
const WINDOW: u64 = 1000;
/// What a request for more says; it waits ten seconds for messages that are not there yet.
const NEXT: &[u8] = b"{\"batch\":500,\"expires\":10000000000}";
const NEXT_MESSAGES: u64 = 500;
const CONSUMER: &str = "compare";
const INBOX: &str = "_INBOX.acks";
/// Longer than any load: nothing is delivered again while it is measured.
const ACK_WAIT_NS: u64 = 600_000_000_000;
/// Subscription of a member's deliveries, and of the confirmations of its acks.
const DELIVERIES: &[u8] = b"1";
const CONFIRMATIONS: &[u8] = b"2";

/// How a batch is published: whichever is faster with a setting, measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batches {
    /// As an atomic batch: one sync for all of it, but a store of its own for each. Faster when every write is synced.
    Atomic,
    /// As so many messages in one write: faster when nothing is.
    Pipelined,
}

/// Whether JetStream answers.
pub(crate) async fn answers(address: SocketAddr) -> Outcome {
    request(&mut connect(address).await?, "$JS.API.INFO", &json!({})).await.map(drop)
}

/// Makes a topic: a stream on disk, of one subject.
pub(crate) async fn create(address: SocketAddr, topic: &str) -> Outcome {
    let stream = json!({
        "name": topic, "subjects": [topic], "storage": "file", "retention": "limits", "discard": "old",
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "num_replicas": 1, "allow_atomic": true,
    });
    let subject = format!("$JS.API.STREAM.CREATE.{topic}");
    request(&mut connect(address).await?, &subject, &stream).await.map(drop)
}

/// Removes a topic.
pub(crate) async fn delete(address: SocketAddr, topic: &str) -> Outcome {
    let subject = format!("$JS.API.STREAM.DELETE.{topic}");
    request(&mut connect(address).await?, &subject, &json!({})).await.map(drop)
}

/// Messages in a topic.
pub(crate) async fn count(address: SocketAddr, topic: &str) -> Outcome<u64> {
    let subject = format!("$JS.API.STREAM.INFO.{topic}");
    let answer = request(&mut connect(address).await?, &subject, &json!({})).await?;
    answer["state"]["messages"].as_u64().ok_or_else(|| Failed::new("JetStream told no count of messages"))
}

/// A connection that publishes.
pub(crate) async fn producer(
    address: SocketAddr,
    topic: &str,
    number: u32,
    batches: Batches,
) -> Outcome<Producer> {
    let mut line = connect(address).await?;
    let inbox = format!("{INBOX}.{number}");
    subscribe(&mut line, &inbox, "1").await?;
    let stores =
        Stores { topic: topic.to_owned(), inbox, batches, number, batch: 0, pieces: VecDeque::new() };
    Ok(Producer { line, speech: Box::new(stores) })
}

/// A member of the one durable consumer of a topic.
pub(crate) async fn member(address: SocketAddr, topic: &str, number: u32) -> Outcome<Consumer> {
    let mut line = connect(address).await?;
    let config = json!({
        "durable_name": CONSUMER, "ack_policy": "explicit", "deliver_policy": "all",
        "max_ack_pending": 100_000, "ack_wait": ACK_WAIT_NS,
    });
    let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{topic}.{CONSUMER}");
    request(&mut line, &subject, &json!({"stream_name": topic, "config": config})).await?;
    let (deliveries, confirmations) = (format!("_INBOX.d{number}"), format!("_INBOX.c{number}"));
    subscribe(&mut line, &deliveries, "1").await?;
    subscribe(&mut line, &confirmations, "2").await?;
    let mut pulls = Pulls {
        next: format!("$JS.API.CONSUMER.MSG.NEXT.{topic}.{CONSUMER}"),
        deliveries,
        confirmations,
        asked: 0,
    };
    pulls.ask(&mut line.output);
    Ok(Consumer { line, speech: Box::new(pulls) })
}

/// So many subscribers without acks on one connection, each a consumer of its own.
pub(crate) async fn followers(
    address: SocketAddr,
    topic: &str,
    connection: u32,
    count: u32,
) -> Outcome<Consumer> {
    let mut line = connect(address).await?;
    for number in 0..count {
        let name = format!("f{connection}-{number}");
        let inbox = format!("_INBOX.{topic}.{name}");
        // The numbers of the requests' own subscriptions are not among these.
        subscribe(&mut line, &inbox, &(100 + number).to_string()).await?;
        let config = json!({
            "name": name, "deliver_subject": inbox, "ack_policy": "none", "deliver_policy": "all",
            "mem_storage": true, "inactive_threshold": ACK_WAIT_NS,
        });
        let subject = format!("$JS.API.CONSUMER.CREATE.{topic}.{name}");
        request(&mut line, &subject, &json!({"stream_name": topic, "config": config})).await?;
    }
    Ok(Consumer { line, speech: Box::new(Receives) })
}

async fn subscribe(line: &mut Line, inbox: &str, sid: &str) -> Outcome {
    line.output.extend_from_slice(format!("SUB {inbox} {sid}\r\nPING\r\n").as_bytes());
    synced(line).await
}

/// One request of the JetStream API and its answer.
async fn request(line: &mut Line, subject: &str, body: &Value) -> Outcome<Value> {
    // A number no other subscription has; the inbox is of this connection alone.
    let inbox = format!("_INBOX.api.{:016x}", fastrand::u64(..));
    line.output.extend_from_slice(format!("SUB {inbox} 99\r\n").as_bytes());
    push_publish(subject, inbox.as_bytes(), body.to_string().as_bytes(), &mut line.output);
    let answer = line
        .ask(|input| {
            Ok(match frame(input)? {
                Some((Frame::Message(message), bytes)) if message.sid == b"99" => {
                    (bytes, Some((message.headers.to_vec(), message.payload.to_vec())))
                }
                Some((_, bytes)) => (bytes, None),
                None => (0, None),
            })
        })
        .await?;
    line.output.extend_from_slice(b"UNSUB 99\r\n");
    let (headers, payload) = answer;
    if !headers.is_empty() {
        return Err(Failed::new(format!(
            "JetStream does not answer: {}",
            String::from_utf8_lossy(&headers).trim()
        )));
    }
    let answer: Value = serde_json::from_slice(&payload).when("reading JetStream's answer")?;
    match &answer["error"] {
        Value::Null => Ok(answer),
        error => Err(Failed::new(format!("JetStream refused {subject}: {error}"))),
    }
}

struct Stores {
    topic: String,
    /// Where answers come.
    inbox: String,
    batches: Batches,
    /// Tells the batches of this connection from others'.
    number: u32,
    /// Batches so far.
    batch: u64,
    /// Messages of the pieces that are not answered.
    pieces: VecDeque<u64>,
}

impl Publishing for Stores {
    fn publish(&mut self, payload: &[u8], output: &mut Vec<u8>) {
        push_publish(&self.topic, self.inbox.as_bytes(), payload, output);
        self.pieces.push_back(1);
    }

    fn publish_batch(&mut self, payloads: &[&[u8]], output: &mut Vec<u8>) {
        if self.batches == Batches::Pipelined || payloads.len() < 2 {
            for payload in payloads {
                self.publish(payload, output);
            }
            return;
        }
        self.batch += 1;
        let last = payloads.len() - 1;
        for (index, payload) in payloads.iter().enumerate() {
            let (reply, commit) =
                if index == last { (self.inbox.as_str(), "Nats-Batch-Commit:1\r\n") } else { ("", "") };
            let headers = format!(
                "NATS/1.0\r\nNats-Batch-Id:{}-{}\r\nNats-Batch-Sequence:{}\r\n{commit}\r\n",
                self.number,
                self.batch,
                index + 1
            );
            let space = if reply.is_empty() { "" } else { " " };
            output.extend_from_slice(format!("HPUB {} {reply}{space}", self.topic).as_bytes());
            push_number(headers.len(), output);
            output.push(b' ');
            push_number(headers.len() + payload.len(), output);
            output.extend_from_slice(b"\r\n");
            output.extend_from_slice(headers.as_bytes());
            output.extend_from_slice(payload);
            output.extend_from_slice(b"\r\n");
        }
        self.pieces.push_back(payloads.len() as u64);
    }

    fn read_acks(&mut self, input: &[u8], output: &mut Vec<u8>) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((frame, bytes)) = frame(&input[progress.bytes..])? {
            progress.bytes += bytes;
            match frame {
                Frame::Ping => output.extend_from_slice(PONG),
                Frame::Message(message) => {
                    if !message.payload.starts_with(b"{\"stream\"") {
                        let said = [message.headers, message.payload].concat();
                        return Err(Failed::new(format!(
                            "JetStream did not store a message: {}",
                            String::from_utf8_lossy(&said).trim()
                        )));
                    }
                    progress.messages += self.pieces.pop_front().unwrap_or(0);
                }
                Frame::Pong | Frame::Other => {}
            }
        }
        Ok(progress)
    }
}

struct Pulls {
    /// Where requests for more go.
    next: String,
    deliveries: String,
    confirmations: String,
    /// Messages that are asked for and have not come.
    asked: u64,
}

impl Pulls {
    fn ask(&mut self, output: &mut Vec<u8>) {
        while self.asked <= WINDOW - NEXT_MESSAGES {
            push_publish(&self.next, self.deliveries.as_bytes(), NEXT, output);
            self.asked += NEXT_MESSAGES;
        }
    }
}

impl Reading for Pulls {
    fn read(&mut self, input: &[u8], output: &mut Vec<u8>, seen: &mut dyn FnMut(&[u8])) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((frame, bytes)) = frame(&input[progress.bytes..])? {
            progress.bytes += bytes;
            match frame {
                Frame::Ping => output.extend_from_slice(PONG),
                Frame::Message(message) if message.sid == CONFIRMATIONS => progress.messages += 1,
                Frame::Message(message) if message.sid == DELIVERIES && !message.reply.is_empty() => {
                    seen(message.payload);
                    output.extend_from_slice(b"PUB ");
                    output.extend_from_slice(message.reply);
                    output.push(b' ');
                    output.extend_from_slice(self.confirmations.as_bytes());
                    output.extend_from_slice(b" 4\r\n+ACK\r\n");
                    self.asked = self.asked.saturating_sub(1);
                }
                // A status: a request ended with less than it asked for.
                Frame::Message(message) if message.sid == DELIVERIES => {
                    self.asked = self.asked.saturating_sub(NEXT_MESSAGES);
                }
                Frame::Message(_) | Frame::Pong | Frame::Other => {}
            }
        }
        self.ask(output);
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores() -> Stores {
        let (topic, inbox, batches) = ("t".into(), "i".into(), Batches::Atomic);
        Stores { topic, inbox, batches, number: 3, batch: 0, pieces: VecDeque::new() }
    }

    #[test]
    fn each_message_is_answered_and_a_refusal_is_an_error() {
        let (mut stores, mut wire) = (stores(), Vec::new());
        stores.publish(b"abc", &mut wire);
        assert_eq!(wire, b"PUB t i 3\r\nabc\r\n");
        let answer = b"MSG i 1 23\r\n{\"stream\":\"t\",\"seq\":17}\r\n";
        assert_eq!(stores.read_acks(answer, &mut wire).unwrap().messages, 1);
        let refusal = b"MSG i 1 12\r\n{\"error\":{}}\r\n";
        assert!(stores.read_acks(refusal, &mut wire).is_err());
    }

    #[test]
    fn a_batch_is_answered_once_for_all_of_it() {
        let (mut stores, mut wire) = (stores(), Vec::new());
        stores.publish_batch(&[b"a", b"b"], &mut wire);
        let text = String::from_utf8(wire.clone()).unwrap();
        let first = "HPUB t 54 55\r\nNATS/1.0\r\nNats-Batch-Id:3-1\r\nNats-Batch-Sequence:1\r\n\r\na\r\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("HPUB t i ") && text.contains("Nats-Batch-Commit:1"), "{text}");
        let answer = b"MSG i 1 23\r\n{\"stream\":\"t\",\"seq\":17}\r\n";
        assert_eq!(stores.read_acks(answer, &mut wire).unwrap().messages, 2);
    }

    #[test]
    fn a_member_acks_each_delivery_and_counts_the_confirmations() {
        let mut pulls =
            Pulls { next: "n".into(), deliveries: "d".into(), confirmations: "c".into(), asked: WINDOW };
        let (mut output, mut payloads) = (Vec::new(), 0);
        let wire = b"MSG t 1 $JS.ACK.1 3\r\nabc\r\nMSG c 2 0\r\n\r\n";
        let progress = pulls.read(wire, &mut output, &mut |_| payloads += 1).unwrap();
        assert_eq!(progress, Progress { bytes: wire.len(), messages: 1 });
        assert_eq!((payloads, output.as_slice()), (1, &b"PUB $JS.ACK.1 c 4\r\n+ACK\r\n"[..]));
        pulls.asked = NEXT_MESSAGES;
        pulls.ask(&mut output);
        assert_eq!(pulls.asked, WINDOW);
    }
}

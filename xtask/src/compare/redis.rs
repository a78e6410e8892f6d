//! Redis Streams, as bare RESP: `XADD`, `XREAD`, `XREADGROUP`, `XACK`.
//!
//! ```text
//!   publish   XADD topic * p PAYLOAD                       its answer, the id, is the ack
//!   member    XREADGROUP … COUNT 1000 ─▶ XACK ids, and the next XREADGROUP in the same write
//!   follower  XREAD BLOCK COUNT 1000 topic LAST
//! ```
//!
//! A protocol without batches: a batch is so many commands in one write. Answers are read token by token, so that a long one
//! that arrives in pieces is not read twice.

use std::net::SocketAddr;

use super::line::{Consumer, Line, Producer, Progress, Publishing, Reading};
use crate::failed::{Failed, Outcome};

/// Messages one read asks for, as many as a member of ours may hold.
const COUNT: &str = "1000";
/// Milliseconds a read waits for messages before it is asked again.
const BLOCK_MS: &str = "1000";
const GROUP: &str = "compare";

/// Whether the server answers and has finished loading.
pub(crate) async fn answers(address: SocketAddr) -> Outcome {
    command(&mut Line::open(address).await?, &["PING"]).await.map(drop)
}

/// Removes a topic.
pub(crate) async fn delete(address: SocketAddr, topic: &str) -> Outcome {
    command(&mut Line::open(address).await?, &["UNLINK", topic]).await.map(drop)
}

/// Messages in a topic.
pub(crate) async fn count(address: SocketAddr, topic: &str) -> Outcome<u64> {
    command(&mut Line::open(address).await?, &["XLEN", topic]).await
}

/// A connection that publishes.
pub(crate) async fn producer(address: SocketAddr, topic: &str) -> Outcome<Producer> {
    let mut head = Vec::new();
    // The payload is the fifth word; its length is all that changes.
    head.extend_from_slice(b"*5\r\n");
    for word in ["XADD", topic, "*", "p"] {
        push_word(word.as_bytes(), &mut head);
    }
    Ok(Producer { line: Line::open(address).await?, speech: Box::new(Appends { head }) })
}

/// A member of the one group of a topic.
pub(crate) async fn member(address: SocketAddr, topic: &str, number: u32) -> Outcome<Consumer> {
    // A refusal ends what is understood of a connection: the group is made on one of its own.
    let mut setting_up = Line::open(address).await?;
    match command(&mut setting_up, &["XGROUP", "CREATE", topic, GROUP, "0", "MKSTREAM"]).await {
        Err(failed) if !failed.to_string().contains("BUSYGROUP") => return Err(failed),
        _ => {}
    }
    let mut line = Line::open(address).await?;
    let mut read = Vec::new();
    let name = format!("m{number}");
    let words =
        ["XREADGROUP", "GROUP", GROUP, &name, "COUNT", COUNT, "BLOCK", BLOCK_MS, "STREAMS", topic, ">"];
    push_command(&words, &mut read);
    line.output.extend_from_slice(&read);
    let settles =
        Settles { topic: topic.to_owned(), read, answer: Answer::default(), ids: Vec::new(), held: 0 };
    Ok(Consumer { line, speech: Box::new(settles) })
}

/// A subscriber that follows a topic from its beginning without acks.
pub(crate) async fn follower(address: SocketAddr, topic: &str) -> Outcome<Consumer> {
    let mut line = Line::open(address).await?;
    let mut follows = Follows { topic: topic.to_owned(), answer: Answer::default(), last: b"0".to_vec() };
    follows.ask(&mut line.output);
    Ok(Consumer { line, speech: Box::new(follows) })
}

/// One command and its answer, as a number if it is one.
async fn command(line: &mut Line, words: &[&str]) -> Outcome<u64> {
    push_command(words, &mut line.output);
    line.ask(|input| {
        Ok(match token(input)? {
            Some((Token::Number(number), bytes)) => (bytes, Some(number)),
            Some((_, bytes)) => (bytes, Some(0)),
            None => (0, None),
        })
    })
    .await
}

fn push_command(words: &[&str], output: &mut Vec<u8>) {
    output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        push_word(word.as_bytes(), output);
    }
}

fn push_word(word: &[u8], output: &mut Vec<u8>) {
    push_length(word.len(), output);
    output.extend_from_slice(word);
    output.extend_from_slice(b"\r\n");
}

fn push_length(length: usize, output: &mut Vec<u8>) {
    use std::io::Write as _;
    write!(output, "${length}\r\n").expect("a Vec takes every write");
}

/// A piece of an answer. An error of the server is an error here.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// So many elements follow; `None` is the nil answer of a read that found nothing.
    Array(Option<u64>),
    Bulk(&'a [u8]),
    Number(u64),
    /// `+OK`, or a nil bulk.
    Word,
}

/// The first token and its length, if it is complete.
fn token(input: &[u8]) -> Outcome<Option<(Token<'_>, usize)>> {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let (line, after) = (&input[..end.saturating_sub(1)], end + 1);
    let Some((kind, rest)) = line.split_first() else { return Err(Failed::new("redis sent an empty line")) };
    let number = || -> Outcome<i64> {
        let text = String::from_utf8_lossy(rest);
        text.parse().map_err(|_| Failed::new(format!("redis sent {text:?} for a number")))
    };
    Ok(Some(match kind {
        b'$' => match usize::try_from(number()?) {
            Ok(length) if input.len() < after + length + 2 => return Ok(None),
            Ok(length) => (Token::Bulk(&input[after..after + length]), after + length + 2),
            Err(_) => (Token::Word, after),
        },
        b'*' => (Token::Array(u64::try_from(number()?).ok()), after),
        b':' => (Token::Number(number()?.unsigned_abs()), after),
        b'-' => return Err(Failed::new(format!("redis answered {}", String::from_utf8_lossy(rest)))),
        _ => (Token::Word, after),
    }))
}

struct Appends {
    /// The command up to the payload's length.
    head: Vec<u8>,
}

impl Publishing for Appends {
    fn publish(&mut self, payload: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(&self.head);
        push_word(payload, output);
    }

    fn read_acks(&mut self, input: &[u8], _output: &mut Vec<u8>) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((_, bytes)) = token(&input[progress.bytes..])? {
            progress.bytes += bytes;
            progress.messages += 1;
        }
        Ok(progress)
    }
}

/// Where in the answer to a read we are: `[[topic, [[id, [p, PAYLOAD]], …]]]`.
#[derive(Default)]
struct Answer {
    /// Elements still to come; 0 between answers.
    pending: u64,
    /// Leaves seen: the first is the topic, then id, field, payload of each message.
    leaves: u64,
}

/// What a token of an answer means.
enum Part<'a> {
    Id(&'a [u8]),
    Payload(&'a [u8]),
    /// Messages whose `XACK` is confirmed.
    Acked(u64),
    Other,
}

impl Answer {
    /// What a token means, and whether the answer to a read ends with it.
    fn take<'a>(&mut self, token: &Token<'a>) -> (Part<'a>, bool) {
        if self.pending == 0 {
            if let Token::Number(number) = token {
                return (Part::Acked(*number), false);
            }
            (self.pending, self.leaves) = (1, 0);
        }
        self.pending -= 1;
        let mut part = Part::Other;
        match token {
            Token::Array(elements) => self.pending += elements.unwrap_or(0),
            Token::Bulk(bytes) => {
                part = match self.leaves {
                    0 => Part::Other,
                    leaf => match (leaf - 1) % 3 {
                        0 => Part::Id(bytes),
                        1 => Part::Other,
                        _ => Part::Payload(bytes),
                    },
                };
                self.leaves += 1;
            }
            Token::Number(_) | Token::Word => self.leaves += 1,
        }
        (part, self.pending == 0)
    }
}

/// A member of a group: acks all messages of an answer in one command.
struct Settles {
    topic: String,
    /// The command that reads on.
    read: Vec<u8>,
    answer: Answer,
    /// Ids of the messages of this answer, as words of a command.
    ids: Vec<u8>,
    held: usize,
}

impl Reading for Settles {
    fn read(&mut self, input: &[u8], output: &mut Vec<u8>, seen: &mut dyn FnMut(&[u8])) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((token, bytes)) = token(&input[progress.bytes..])? {
            progress.bytes += bytes;
            let (part, ended) = self.answer.take(&token);
            match part {
                Part::Id(id) => {
                    push_word(id, &mut self.ids);
                    self.held += 1;
                }
                Part::Payload(payload) => seen(payload),
                Part::Acked(messages) => progress.messages += messages,
                Part::Other => {}
            }
            if ended {
                if self.held > 0 {
                    output.extend_from_slice(format!("*{}\r\n", self.held + 3).as_bytes());
                    for word in ["XACK", &self.topic, GROUP] {
                        push_word(word.as_bytes(), output);
                    }
                    output.append(&mut self.ids);
                    self.held = 0;
                }
                output.extend_from_slice(&self.read);
            }
        }
        Ok(progress)
    }
}

struct Follows {
    topic: String,
    answer: Answer,
    /// Id of the newest message that was seen.
    last: Vec<u8>,
}

impl Follows {
    fn ask(&mut self, output: &mut Vec<u8>) {
        output.extend_from_slice(b"*8\r\n");
        for word in ["XREAD", "COUNT", COUNT, "BLOCK", BLOCK_MS, "STREAMS", &self.topic] {
            push_word(word.as_bytes(), output);
        }
        push_word(&self.last, output);
    }
}

impl Reading for Follows {
    fn read(&mut self, input: &[u8], output: &mut Vec<u8>, seen: &mut dyn FnMut(&[u8])) -> Outcome<Progress> {
        let mut progress = Progress::default();
        while let Some((token, bytes)) = token(&input[progress.bytes..])? {
            progress.bytes += bytes;
            let (part, ended) = self.answer.take(&token);
            match part {
                Part::Id(id) => id.clone_into(&mut self.last),
                Part::Payload(payload) => {
                    seen(payload);
                    progress.messages += 1;
                }
                Part::Acked(_) | Part::Other => {}
            }
            if ended {
                self.ask(output);
            }
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"*1\r\n*2\r\n$1\r\nt\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\np\r\n$3\r\none\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\np\r\n$3\r\ntwo\r\n";

    #[test]
    fn an_append_is_one_command_and_its_id_one_ack() {
        let mut head = b"*5\r\n".to_vec();
        for word in ["XADD", "t", "*", "p"] {
            push_word(word.as_bytes(), &mut head);
        }
        let (mut appends, mut output) = (Appends { head }, Vec::new());
        appends.publish(b"hello", &mut output);
        assert_eq!(output, b"*5\r\n$4\r\nXADD\r\n$1\r\nt\r\n$1\r\n*\r\n$1\r\np\r\n$5\r\nhello\r\n");
        let progress = appends.read_acks(b"$3\r\n1-0\r\n$3\r\n2-0\r\n$3\r\n3-", &mut output).unwrap();
        assert_eq!(progress, Progress { bytes: 18, messages: 2 });
        assert!(appends.read_acks(b"-OOM no memory\r\n", &mut output).is_err());
    }

    #[test]
    fn a_member_acks_every_id_of_an_answer_however_it_was_cut() {
        for cut in 0..ANSWER.len() {
            let mut settles = Settles {
                topic: "t".into(),
                read: b"READ".to_vec(),
                answer: Answer::default(),
                ids: vec![],
                held: 0,
            };
            let (mut output, mut payloads) = (Vec::new(), Vec::new());
            let mut seen = |payload: &[u8]| payloads.push(payload.to_vec());
            let first = settles.read(&ANSWER[..cut], &mut output, &mut seen).unwrap();
            settles.read(&ANSWER[first.bytes..], &mut output, &mut seen).unwrap();
            assert_eq!(payloads, [b"one", b"two"]);
            let expected = b"*5\r\n$4\r\nXACK\r\n$1\r\nt\r\n$7\r\ncompare\r\n$3\r\n1-0\r\n$3\r\n2-0\r\nREAD";
            assert_eq!(output, expected);
            assert_eq!(settles.read(b":2\r\n", &mut output, &mut |_| ()).unwrap().messages, 2);
        }
    }

    #[test]
    fn a_read_that_found_nothing_is_asked_again() {
        let mut follows = Follows { topic: "t".into(), answer: Answer::default(), last: b"7-1".to_vec() };
        let mut output = Vec::new();
        assert_eq!(follows.read(b"*-1\r\n", &mut output, &mut |_| ()).unwrap().messages, 0);
        let expected = b"*8\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n$4\r\n1000\r\n$5\r\nBLOCK\r\n$4\r\n1000\r\n$7\r\nSTREAMS\r\n$1\r\nt\r\n$3\r\n7-1\r\n";
        assert_eq!(output, expected);
    }

    #[test]
    fn a_follower_goes_on_after_the_newest_id() {
        let mut follows = Follows { topic: "t".into(), answer: Answer::default(), last: b"0".to_vec() };
        let mut output = Vec::new();
        assert_eq!(follows.read(ANSWER, &mut output, &mut |_| ()).unwrap().messages, 2);
        assert!(output.ends_with(b"$3\r\n2-0\r\n"));
    }
}

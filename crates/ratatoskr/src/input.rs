//! Where `pub` takes its messages from: lines of a file or of standard input, or a template.
//!
//! ```text
//!   thread: read 256 KiB ─▶ cut at \n ─▶ batch ──bounded channel──▶ pipeline.rs
//! ```
//!
//! A line is what stands before a `\n`, byte for byte: no encoding is assumed, `\r` stays, an empty line is an
//! empty message. What follows the last `\n` is a line if it is not empty. Lines go out as soon as the
//! reader has them, so `tail -f | ratatoskr pub … --lines` does not wait for a full batch.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ratatoskr_client::{BATCH_BYTES_MAX, Due, NewMessage};
use tokio::sync::mpsc;

use crate::template::Template;

/// Messages of one batch at most.
const BATCH_MESSAGES: usize = 1000;
/// Bytes read at a time, and so about the bytes of a batch.
const READ_BYTES: usize = 256 << 10;
/// Batches that may wait between the reading thread and the pipeline.
const BATCHES_WAITING_MAX: usize = 8;
/// A line without an end in sight is refused before it fills the memory; no topic takes a longer one.
const LINE_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// What a producer hands over: messages with the bytes they took up in the input, or why it stopped.
pub(crate) type Batches = mpsc::Receiver<io::Result<Batch>>;

/// Messages that go out together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<NewMessage>,
    /// Bytes of the input, for progress.
    pub(crate) input_bytes: u64,
}

/// What every message of a command has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Envelope {
    pub(crate) key: Template,
    pub(crate) metadata: Vec<(String, Template)>,
    /// How long messages may be delivered; `None` for ever.
    pub(crate) ttl: Option<Duration>,
    /// The id of each, by which a retry is known; empty for none.
    pub(crate) dedup_id: Template,
    pub(crate) due: Due,
    pub(crate) expected_offset: Option<u64>,
}

impl Envelope {
    /// Message `number` with a payload.
    pub(crate) fn wrap(&self, number: u64, payload: Bytes) -> NewMessage {
        let metadata: BTreeMap<_, _> =
            self.metadata.iter().map(|(name, value)| (name.clone(), value.render(number))).collect();
        NewMessage {
            payload,
            key: self.key.render(number),
            metadata,
            ttl: self.ttl,
            dedup_id: self.dedup_id.render(number),
            due: self.due,
            expected_offset: self.expected_offset,
        }
    }
}

/// Reads lines on a thread of its own, after passing over the first `skip`.
pub(crate) fn read_lines(input: impl Read + Send + 'static, skip: u64, envelope: Envelope) -> Batches {
    let (batches, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    std::thread::spawn(move || {
        let mut lines = Lines { input, unread: BytesMut::new(), ended: false };
        let mut number = 0;
        loop {
            let batch = match lines.next_batch() {
                Ok(None) => return,
                Ok(Some(lines)) => wrap_lines(lines, &mut number, skip, &envelope),
                Err(error) => {
                    // Nobody listens any more: then nobody needs to know.
                    let _ = batches.blocking_send(Err(error));
                    return;
                }
            };
            if batches.blocking_send(Ok(batch)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn wrap_lines(lines: Vec<Bytes>, number: &mut u64, skip: u64, envelope: &Envelope) -> Batch {
    let mut batch = Batch::default();
    for line in lines {
        *number += 1;
        batch.input_bytes += line.len() as u64 + 1;
        if *number > skip {
            batch.messages.push(envelope.wrap(*number, line));
        }
    }
    batch
}

/// Fills a template `count` times, on a thread of its own.
pub(crate) fn fill_template(payload: Template, count: u64, envelope: Envelope) -> Batches {
    let (batches, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    std::thread::spawn(move || {
        let mut batch = Batch::default();
        for number in 1..=count {
            let message = envelope.wrap(number, payload.render(number).into());
            batch.input_bytes += message.size_bytes() as u64;
            batch.messages.push(message);
            let full = batch.messages.len() == BATCH_MESSAGES || batch.input_bytes >= READ_BYTES as u64;
            if (full || number == count) && batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Cuts an input into lines without copying them: each is a slice of the buffer it was read into.
struct Lines<R> {
    input: R,
    /// Bytes that have been read and not given out.
    unread: BytesMut,
    ended: bool,
}

impl<R: Read> Lines<R> {
    /// The next lines, at least one; `None` at the end.
    fn next_batch(&mut self) -> io::Result<Option<Vec<Bytes>>> {
        loop {
            let lines = self.cut();
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    fn cut(&mut self) -> Vec<Bytes> {
        let mut lines = Vec::new();
        while lines.len() < BATCH_MESSAGES {
            let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') else { break };
            let mut line = self.unread.split_to(end + 1).freeze();
            line.truncate(end);
            lines.push(line);
        }
        if self.ended && lines.is_empty() && !self.unread.is_empty() {
            lines.push(self.unread.split().freeze());
        }
        lines
    }

    fn fill(&mut self) -> io::Result<()> {
        let kept = self.unread.len();
        if kept > LINE_BYTES_MAX {
            let message = format!(
                "a line has more than {LINE_BYTES_MAX} bytes, which no topic takes; is the input text?"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.unread.resize(kept + READ_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.unread[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.unread.truncate(kept + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its bytes a few at a time, as a slow pipe does.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn lines_of(input: &[u8], at_once: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines { input: Trickle(input, at_once), unread: BytesMut::new(), ended: false };
        let mut all = Vec::new();
        while let Some(batch) = lines.next_batch().unwrap() {
            assert!(batch.len() <= BATCH_MESSAGES);
            all.extend(batch.into_iter().map(|line| line.to_vec()));
        }
        all
    }

    #[test]
    fn lines_are_cut_at_newlines_only_and_kept_byte_for_byte() {
        let input = b"one\r\n\n\xff\xfe\x00\nlast without end";
        let expected: [&[u8]; 4] = [b"one\r", b"", b"\xff\xfe\x00", b"last without end"];
        for at_once in [1, 2, 3, 100] {
            assert_eq!(lines_of(input, at_once), expected);
        }
        assert_eq!(lines_of(b"a\n", 1), [b"a"]);
        assert!(lines_of(b"", 1).is_empty());
    }

    #[test]
    fn many_lines_come_in_bounded_batches() {
        let input = b"x\n".repeat(100_000);
        assert_eq!(lines_of(&input, READ_BYTES).len(), 100_000);
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let mut lines = Lines { input: io::repeat(b'x'), unread: BytesMut::new(), ended: false };
        let error = lines.next_batch().unwrap_err().to_string();
        assert!(error.starts_with("a line has more than 16777216 bytes"), "{error}");
    }

    #[test]
    fn skipped_lines_count_as_read_but_are_not_sent() {
        let envelope = Envelope { key: Template::verbatim("k"), ..Envelope::default() };
        let mut batches = read_lines(&b"1\n2\n3\n"[..], 2, envelope);
        let batch = batches.blocking_recv().unwrap().unwrap();
        assert_eq!(batch.input_bytes, 6);
        assert_eq!(batch.messages, [NewMessage::new("3").with_key("k")]);
        assert!(batches.blocking_recv().is_none());
    }

    #[test]
    fn a_template_is_filled_as_often_as_asked() {
        let metadata = vec![("n".to_owned(), Template::parse("{{n}}").unwrap())];
        let envelope = Envelope { metadata, ..Envelope::default() };
        let mut batches = fill_template(Template::parse("m{{n}}").unwrap(), 2500, envelope);
        let mut messages = Vec::new();
        while let Some(batch) = batches.blocking_recv() {
            messages.extend(batch.unwrap().messages);
        }
        assert_eq!(messages.len(), 2500);
        assert_eq!(messages[2499], NewMessage::new("m2500").with_metadata("n", "2500"));
    }
}

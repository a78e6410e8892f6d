//! What every payload begins with, and requests that are encoded once and only stamped for each message.
//!
//! ```text
//!   payload   [ run u32 | publisher u32 | number u64 | at_ns u64 | random bytes … ]
//!   request   [ prefix | topic | payload ]                          one message
//!             [ prefix | topic | payload | payload | … ]            a batch, every payload at the same stride
//!                                └── the template ──┘
//! ```
//!
//! A message costs a copy out of the template and 24 bytes written over it. What follows the stamp is random, so that nothing below
//! can compress it. A template knows no connection.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::frames::PREFIX_BYTES;

/// Bytes of the stamp; no payload is smaller.
pub(crate) const STAMP_BYTES: usize = 24;
/// Buffers are cut out of blocks of this size, so that few messages need an allocation.
const ARENA_BYTES: usize = 256 << 10;

/// Who published a message, as what, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Drawn by chance for each run: messages of others in the same topic are passed over.
    pub(crate) run: u32,
    /// Messages of one publisher keep their order within a topic.
    pub(crate) publisher: u32,
    /// Counts all messages of a round from 0; rises for each publisher.
    pub(crate) number: u64,
    /// When the message was due, nanoseconds since the run began.
    pub(crate) at_ns: u64,
}

impl Stamp {
    /// The stamp of a payload; `None` if it is too short to have one.
    pub(crate) fn read(payload: &[u8]) -> Option<Stamp> {
        let (run, rest) = payload.split_first_chunk()?;
        let (publisher, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (at_ns, _) = rest.split_first_chunk()?;
        Some(Stamp {
            run: u32::from_le_bytes(*run),
            publisher: u32::from_le_bytes(*publisher),
            number: u64::from_le_bytes(*number),
            at_ns: u64::from_le_bytes(*at_ns),
        })
    }

    fn write(self, mut payload: &mut [u8]) {
        payload.put_u32_le(self.run);
        payload.put_u32_le(self.publisher);
        payload.put_u64_le(self.number);
        payload.put_u64_le(self.at_ns);
    }
}

/// Which request a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `PublishRequest`: one message.
    Single,
    /// `PublishBatchRequest`.
    Batch,
    /// `PublishStreamRequest`, without a sequence: responses come in order anyway.
    StreamStep,
}

/// A request, encoded but for its topic and its stamps.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The number of the topic's field.
    topic_field: u32,
    /// What follows the topic.
    body: Vec<u8>,
    /// Where in it the first payload begins.
    first: usize,
    /// From one payload to the next.
    stride: usize,
    /// Messages of one request.
    messages: u64,
}

impl Template {
    /// A request with so many messages of so many bytes.
    pub(crate) fn new(request: Request, messages: u64, size: usize) -> Template {
        let mut payload = vec![0; size.max(STAMP_BYTES)];
        fastrand::Rng::with_seed(messages).fill(&mut payload);
        let mut message = Vec::new();
        put_bytes(&mut message, 2, &payload);
        let (topic_field, field) = match request {
            Request::Single => {
                let first = message.len() - payload.len();
                return Template { topic_field: 1, body: message, first, stride: 0, messages: 1 };
            }
            Request::Batch => (1, 2),
            Request::StreamStep => (2, 3),
        };
        let mut body = Vec::new();
        put_bytes(&mut body, field, &message);
        let (first, stride) = (body.len() - payload.len(), body.len());
        let body = body.repeat(messages as usize);
        Template { topic_field, body, first, stride, messages }
    }

    /// Messages of one request.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// The whole frame, its messages stamped: with this stamp, and for each further message the next number.
    pub(crate) fn stamped(&self, arena: &mut Arena, topic: &str, stamp: Stamp) -> Bytes {
        let numbered = |index| Stamp { number: stamp.number + index, ..stamp };
        self.stamped_some(arena, topic, (self.messages, numbered))
    }

    /// A frame with some of the messages only, each with a stamp of its own.
    pub(crate) fn stamped_some(
        &self,
        arena: &mut Arena,
        topic: &str,
        (messages, stamp): (u64, impl Fn(u64) -> Stamp),
    ) -> Bytes {
        let Arena(buffer) = arena;
        let length = if messages < self.messages { self.stride * messages as usize } else { self.body.len() };
        // Keys and lengths take no more than this.
        buffer.reserve(PREFIX_BYTES + 8 + topic.len() + length);
        buffer.put_slice(&[0; PREFIX_BYTES]);
        put_bytes(buffer, self.topic_field, topic.as_bytes());
        let body = buffer.len();
        buffer.put_slice(&self.body[..length]);
        let frame_bytes = (buffer.len() - PREFIX_BYTES) as u32;
        buffer[1..PREFIX_BYTES].copy_from_slice(&frame_bytes.to_be_bytes());
        for index in 0..messages {
            let start = body + self.first + index as usize * self.stride;
            stamp(index).write(&mut buffer[start..start + STAMP_BYTES]);
        }
        buffer.split().freeze()
    }
}

/// Where stamped requests are cut from; each sender has its own.
#[derive(Debug)]
pub(crate) struct Arena(BytesMut);

impl Arena {
    /// An arena that allocates for many messages at a time.
    pub(crate) fn new() -> Arena {
        Arena(BytesMut::with_capacity(ARENA_BYTES))
    }
}

/// A gRPC frame of an encoded message.
pub(crate) fn frame_of(message: &impl prost::Message) -> Bytes {
    framed(&message.encode_to_vec()).into()
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + body.len());
    frame.push(0);
    frame.put_u32(body.len() as u32);
    frame.extend_from_slice(body);
    frame
}

fn put_bytes(buffer: &mut impl BufMut, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ratatoskr_proto as wire;

    use super::*;

    const STAMP: Stamp = Stamp { run: 1, publisher: 2, number: 3, at_ns: 4 };

    fn body(frame: &Bytes) -> Bytes {
        assert_eq!(frame[..PREFIX_BYTES], [&[0], &(frame.len() as u32 - 5).to_be_bytes()[..]].concat());
        frame.slice(PREFIX_BYTES..)
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let mut payload = [0; 30];
        STAMP.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(STAMP));
        assert_eq!(Stamp::read(&payload[..STAMP_BYTES - 1]), None);
    }

    #[test]
    fn a_single_request_is_what_the_contract_says() {
        let frame = Template::new(Request::Single, 1, 300).stamped(&mut Arena::new(), "orders", STAMP);
        let request = wire::PublishRequest::decode(body(&frame)).unwrap();
        assert_eq!((request.topic.as_str(), request.payload.len()), ("orders", 300));
        assert_eq!(Stamp::read(&request.payload), Some(STAMP));
    }

    #[test]
    fn the_messages_of_a_batch_are_numbered_on() {
        let frame = Template::new(Request::Batch, 3, 100).stamped(&mut Arena::new(), "orders", STAMP);
        let request = wire::PublishBatchRequest::decode(body(&frame)).unwrap();
        let numbers = request.messages.iter().map(|message| Stamp::read(&message.payload).unwrap().number);
        assert_eq!(numbers.collect::<Vec<_>>(), [3, 4, 5]);
        let frame = Template::new(Request::StreamStep, 2, 10).stamped(&mut Arena::new(), "orders", STAMP);
        let step = wire::PublishStreamRequest::decode(body(&frame)).unwrap();
        assert_eq!((step.topic.as_str(), step.messages.len()), ("orders", 2));
        assert_eq!(step.messages[1].payload.len(), STAMP_BYTES);
    }

    #[test]
    fn a_part_of_a_request_is_a_request() {
        let template = Template::new(Request::StreamStep, 5, 100);
        let due = |index| Stamp { at_ns: 10 + index, ..STAMP };
        let frame = template.stamped_some(&mut Arena::new(), "orders", (2, due));
        let step = wire::PublishStreamRequest::decode(body(&frame)).unwrap();
        let times = step.messages.iter().map(|message| Stamp::read(&message.payload).unwrap().at_ns);
        assert_eq!((step.topic.as_str(), times.collect::<Vec<_>>()), ("orders", vec![10, 11]));
    }
}

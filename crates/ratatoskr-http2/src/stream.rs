//! [`Stream`]: one call's state on the wire, and what waits to be sent on it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::{Buf, Bytes};

use crate::frame::StreamId;
use crate::window::{ReceiveWindow, SendWindow};

/// What ends a stream that we send on.
#[derive(Debug)]
pub enum Ending {
    /// Nothing: the last data says that it is the last.
    Data,
    /// Fields that are the same each time.
    Known(&'static [(&'static str, &'static str)]),
    /// Any fields.
    Trailers(Vec<(Bytes, Bytes)>),
}

/// What the user of a stream waits for before it gives more to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    /// That less of this stream waits.
    Room,
    /// That less of all streams waits.
    RoomForAll,
}

/// What begins an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Due,
    Sent,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream<T> {
    /// The user's own.
    pub(crate) tag: T,
    pub(crate) send: SendWindow,
    pub(crate) receive: ReceiveWindow,
    /// The peer may still send.
    pub(crate) is_receiving: bool,
    /// Of our answer.
    pub(crate) head: Head,
    /// Data that could not be sent yet.
    waiting: VecDeque<Bytes>,
    /// Bytes of it.
    pub(crate) waiting_bytes: usize,
    /// Goes out after that, and then we are done with it.
    pub(crate) ending: Option<Ending>,
    /// It is in the connection's list of those that have something to send.
    pub(crate) is_queued: bool,
    /// The user wants to be told when there is room again.
    pub(crate) wish: Wish,
    /// What is sent on it is shared, and counted by whoever shares it.
    pub(crate) is_shared: bool,
    /// Bytes handed to the user and not released.
    pub(crate) unreleased: usize,
}

impl<T> Stream<T> {
    pub(crate) fn new(tag: T, send: SendWindow, receive: ReceiveWindow) -> Stream<T> {
        Stream {
            tag,
            send,
            receive,
            is_receiving: true,
            head: Head::Due,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            ending: None,
            is_queued: false,
            wish: Wish::Nothing,
            is_shared: false,
            unreleased: 0,
        }
    }

    pub(crate) fn wait(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.waiting_bytes += data.len();
            self.waiting.push_back(data);
        }
    }

    /// Takes up to so many bytes of what waits, all from one piece.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Bytes {
        let Some(first) = self.waiting.front_mut() else { return Bytes::new() };
        let taken = if first.len() <= bytes_max {
            self.waiting.pop_front().expect("it is there")
        } else {
            let taken = first.slice(..bytes_max);
            first.advance(bytes_max);
            taken
        };
        self.waiting_bytes -= taken.len();
        taken
    }

    /// True if something could go out once windows allow.
    pub(crate) fn has_work(&self) -> bool {
        self.waiting_bytes > 0 || self.ending.is_some()
    }
}

/// Streams by number.
pub(crate) type Streams<T> = HashMap<StreamId, Stream<T>, StreamHashing>;

/// One multiplication, folded, spreads numbers well enough. By what, the peer cannot know: it chooses the numbers, and could choose such that
/// fall together.
#[derive(Clone)]
pub(crate) struct StreamHashing {
    factor: u64,
}

impl Default for StreamHashing {
    fn default() -> StreamHashing {
        StreamHashing { factor: RandomState::new().hash_one(0) | 1 }
    }
}

impl BuildHasher for StreamHashing {
    type Hasher = StreamHasher;

    fn build_hasher(&self) -> StreamHasher {
        StreamHasher(self.factor)
    }
}

/// The factor, and then the hash.
pub(crate) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("stream numbers are hashed as numbers");
    }

    fn write_u32(&mut self, number: u32) {
        let product = u128::from(number) * u128::from(self.0);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

//! Two ends with a pipe that is cut anywhere; windows that do what they like; noise, and good traffic gone bad.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use crate::frame::{ErrorCode, StreamId, kind};
use crate::limits::HEADER_BLOCK_BYTES_MAX;
use crate::raw::Heard;
use crate::{Announced, Connection, Ending, Event, Role};

use super::wire::{
    ALL, END_HEADERS, REQUEST, Talk, data, frame, greeting, headers, request, reset, settings, take_frame,
    window_update,
};

/// What happens next between two ends.
#[derive(Clone, Debug)]
enum Step {
    Open,
    /// The client sends so much on one of its streams.
    Ask(usize, usize),
    EndAsking(usize),
    /// So much is carried to the server …
    Up(usize),
    /// … or to the client.
    Down(usize),
    Reset(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Open),
        4 => (any::<usize>(), 0_usize..40_000).prop_map(|(stream, length)| Step::Ask(stream, length)),
        2 => any::<usize>().prop_map(Step::EndAsking),
        6 => (1_usize..20_000).prop_map(Step::Up),
        6 => (1_usize..20_000).prop_map(Step::Down),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(stream, by_client)| Step::Reset(stream, by_client)),
    ]
}

/// A client that asks, and a server that echoes. Each stream's bytes count up from its number, so that a byte out of place shows.
struct Pair {
    client: Connection<u32>,
    server: Connection<u32>,
    up: BytesMut,
    down: BytesMut,
    /// Carried and not taken, at each end.
    at_server: BytesMut,
    at_client: BytesMut,
    /// Sent by the client, by stream; false once it has ended.
    asked: HashMap<StreamId, (usize, bool)>,
    /// Come back, by stream; true once its trailers have.
    answered: HashMap<StreamId, (usize, bool)>,
    reset: Vec<StreamId>,
}

fn content(stream: StreamId, from: usize, length: usize) -> Bytes {
    (from..from + length).map(|at| (at as u32).wrapping_mul(7).wrapping_add(stream) as u8).collect()
}

impl Pair {
    fn new(of_client: &Announced, of_server: &Announced) -> Pair {
        Pair {
            client: Connection::new(Role::Client, of_client),
            server: Connection::new(Role::Server, of_server),
            up: BytesMut::new(),
            down: BytesMut::new(),
            at_server: BytesMut::new(),
            at_client: BytesMut::new(),
            asked: HashMap::new(),
            answered: HashMap::new(),
            reset: Vec::new(),
        }
    }

    fn pick(&self, any: usize) -> Option<StreamId> {
        let mut open: Vec<_> =
            self.asked.iter().filter(|(_, (_, is_open))| *is_open).map(|(s, _)| *s).collect();
        open.sort_unstable();
        open.get(any.checked_rem(open.len())?).copied()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open => {
                let opened = self.client.open(0, |fields| {
                    fields.known(":method", "POST").known(":scheme", "http").put(":path", "/echo");
                });
                self.asked.extend(opened.map(|stream| (stream, (0, true))));
            }
            Step::Ask(any, length) => {
                let Some(stream) = self.pick(any) else { return };
                let (asked, _) = self.asked.get_mut(&stream).unwrap();
                self.client.send_data(stream, content(stream, *asked, length));
                *asked += length;
            }
            Step::EndAsking(any) => {
                let Some(stream) = self.pick(any) else { return };
                self.asked.get_mut(&stream).unwrap().1 = false;
                self.client.end(stream, Ending::Data);
            }
            Step::Up(length) => self.up(length),
            Step::Down(length) => self.down(length),
            Step::Reset(any, by_client) => {
                let Some(stream) = self.pick(any) else { return };
                let end = if by_client { &mut self.client } else { &mut self.server };
                // The server may not know it yet.
                if end.reset(stream, ErrorCode::CANCEL).is_some() {
                    self.reset.push(stream);
                    self.asked.get_mut(&stream).unwrap().1 = false;
                }
            }
        }
    }

    fn up(&mut self, length: usize) {
        self.client.write_into(&mut self.up);
        self.at_server.unsplit(self.up.split_to(length.min(self.up.len())));
        while let Some(event) = self.server.receive(&mut self.at_server).expect("the client is well-behaved")
        {
            match event {
                Event::Headers { stream, is_end } => {
                    self.server.send_headers(stream, |fields| {
                        fields.known(":status", "200").known("content-type", "application/grpc");
                    });
                    self.echo(stream, Bytes::new(), is_end);
                }
                Event::Data { stream, data, is_end } => self.echo(stream, data, is_end),
                Event::Reset { stream, .. } => drop(self.server.remove(stream)),
                Event::GoAway { .. } => panic!("nobody goes"),
            }
        }
    }

    fn echo(&mut self, stream: StreamId, data: Bytes, is_end: bool) {
        let length = data.len();
        self.server.send_data(stream, data);
        self.server.release(stream, length);
        if is_end {
            self.server.end(stream, Ending::Known(&[("grpc-status", "0")]));
        }
    }

    fn down(&mut self, length: usize) {
        self.server.write_into(&mut self.down);
        self.at_client.unsplit(self.down.split_to(length.min(self.down.len())));
        while let Some(event) = self.client.receive(&mut self.at_client).expect("the server is well-behaved")
        {
            match event {
                Event::Headers { stream, is_end } => {
                    self.answered.entry(stream).or_default().1 |= is_end;
                    if is_end {
                        self.client.remove(stream);
                    }
                }
                Event::Data { stream, data, is_end } => {
                    assert!(!is_end, "trailers end each answer");
                    let (come, _) = self.answered.get_mut(&stream).expect("its head came first");
                    assert_eq!(data, content(stream, *come, data.len()), "stream {stream} from {come}");
                    *come += data.len();
                    self.client.release(stream, data.len());
                }
                Event::Reset { stream, .. } => {
                    assert!(self.reset.contains(&stream), "nobody reset stream {stream}");
                    self.client.remove(stream);
                }
                Event::GoAway { .. } => panic!("nobody goes"),
            }
        }
    }

    /// Ends what is open, and carries until nothing is said any more.
    fn finish(&mut self) {
        while let Some(stream) = self.pick(0) {
            self.asked.get_mut(&stream).unwrap().1 = false;
            self.client.end(stream, Ending::Data);
        }
        loop {
            self.up(usize::MAX);
            self.down(usize::MAX);
            self.client.tick();
            self.server.tick();
            if self.client.outgoing().is_empty() && self.server.outgoing().is_empty() {
                return;
            }
        }
    }
}

fn announced() -> impl Strategy<Value = Announced> {
    let window = prop_oneof![1_u32..10, 10_u32..2000, Just(1 << 20)];
    let connection_window = prop_oneof![Just(65_535_u32), Just(16 << 20)];
    (window, connection_window, 1_u32..8, 16_384_u32..30_000).prop_map(
        |(stream_window_bytes, connection_window_bytes, streams_max, frame_bytes_max)| Announced {
            streams_max,
            stream_window_bytes,
            connection_window_bytes,
            frame_bytes_max,
            unreleased_bytes_max: 0,
        },
    )
}

/// What a peer does with the windows it gives.
#[derive(Clone, Debug)]
enum Given {
    Stream(usize, u32),
    Connection(u32),
    Initial(u32),
    FrameBytes(u32),
    Send(usize, usize),
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        3 => (any::<usize>(), 1_u32..5000).prop_map(|(stream, bytes)| Given::Stream(stream, bytes)),
        3 => (1_u32..5000).prop_map(Given::Connection),
        2 => (0_u32..3000).prop_map(Given::Initial),
        1 => (16_384_u32..20_000).prop_map(Given::FrameBytes),
        4 => (any::<usize>(), 0_usize..30_000).prop_map(|(stream, bytes)| Given::Send(stream, bytes)),
    ]
}

/// The books of a peer that keeps account of what it has allowed.
struct Books {
    streams: [i64; STREAMS],
    connection: i64,
    initial: i64,
    frame_bytes: usize,
    come: [usize; STREAMS],
}

const STREAMS: usize = 4;

impl Books {
    fn enter(&mut self, said: &mut BytesMut) {
        while let Some(Heard { kind, stream, payload, .. }) = take_frame(said) {
            if kind != kind::DATA {
                continue;
            }
            let index = stream as usize / 2;
            self.streams[index] -= payload.len() as i64;
            self.connection -= payload.len() as i64;
            self.come[index] += payload.len();
            assert!(payload.is_empty() || self.streams[index] >= 0, "more than stream {index} may");
            assert!(self.connection >= 0, "more than the connection may");
            assert!(payload.len() <= self.frame_bytes, "a frame of {}", payload.len());
        }
    }
}

/// Traffic of all kinds, as a good client says it.
fn good_traffic() -> Vec<u8> {
    let mut said = greeting(&[]);
    for stream in [1, 3, 5, 7] {
        said.extend(request(stream));
        said.extend(data(stream, 0, vec![b'x'; 300]));
        said.extend(window_update(stream, 100));
        said.extend(frame(kind::PING, 0, 0, [0; 8]));
    }
    said.extend(settings(&[(1, 0), (4, 10), (5, 20_000)]));
    said.extend(headers(9, 0, REQUEST));
    said.extend(frame(kind::CONTINUATION, END_HEADERS, 9, []));
    said.extend(data(1, 0x9, b"\x02ok\0\0"));
    said.extend(reset(3, ErrorCode::CANCEL));
    said.extend(headers(5, ALL, &[("a", "b")]));
    said
}

/// A server hears something, answers each request at length, and is asked what it keeps.
fn survives(said: &[u8], cut: usize) {
    let mut server: Connection<u32> = Connection::new(Role::Server, &Announced::default());
    let (mut input, mut written) = (BytesMut::new(), BytesMut::new());
    for piece in said.chunks(cut) {
        input.extend_from_slice(piece);
        loop {
            let before = input.len();
            match server.receive(&mut input) {
                Ok(None) => break,
                Err(_) => {
                    server.write_into(&mut written);
                    return;
                }
                Ok(Some(Event::Headers { stream, .. })) => {
                    server.send_data(stream, Bytes::from(vec![0; 1000]));
                }
                Ok(Some(Event::Data { stream, data, .. })) => server.release(stream, data.len()),
                Ok(Some(Event::Reset { stream, .. })) => drop(server.remove(stream)),
                Ok(Some(Event::GoAway { .. })) => {}
            }
            assert!(input.len() < before, "an event out of nothing");
        }
        assert!(server.block.as_ref().is_none_or(|block| block.bytes.len() <= HEADER_BLOCK_BYTES_MAX));
        assert!(server.stream_count() <= 1000);
    }
    server.write_into(&mut written);
    // Settings, and for each frame of nine bytes or more at most the echo of a ping or a reset, and what was answered.
    let answers = said.len() / 9 * 1009;
    assert!(written.len() <= 100 + 2 * said.len() + answers, "{} for {}", written.len(), said.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn all_that_is_asked_is_answered_however_the_pipe_is_cut(
        of_client in announced(),
        of_server in announced(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut pair = Pair::new(&of_client, &of_server);
        // Each knows what the other allows: before that it may use a window of 65,535 bytes.
        pair.finish();
        for step in &steps {
            pair.take(step);
        }
        pair.finish();
        for (stream, (asked, _)) in &pair.asked {
            if !pair.reset.contains(stream) {
                prop_assert_eq!(pair.answered.get(stream), Some(&(*asked, true)), "stream {}", stream);
            }
        }
        prop_assert_eq!((pair.client.stream_count(), pair.server.stream_count()), (0, 0));
        prop_assert_eq!((pair.client.waiting(), pair.server.waiting()), (0, 0));
        prop_assert_eq!((pair.client.unreleased(), pair.server.unreleased()), (0, 0));
    }

    #[test]
    fn whatever_the_windows_do_no_more_is_sent_than_they_allow_and_in_the_end_all(
        steps in prop::collection::vec(given(), 0..120),
    ) {
        let mut talk = Talk::server();
        (0..STREAMS as u32).for_each(|index| drop(talk.hear(request(index * 2 + 1))));
        let mut books =
            Books { streams: [65_535; STREAMS], connection: 65_535, initial: 65_535, frame_bytes: 16_384, come: [0; STREAMS] };
        let mut sent = [0; STREAMS];
        let last = [Given::Initial(1 << 20), Given::Connection(1 << 30)];
        for step in steps.into_iter().chain(last) {
            let said = match step {
                Given::Stream(any, bytes) => {
                    books.streams[any % STREAMS] += i64::from(bytes);
                    window_update((any % STREAMS) as u32 * 2 + 1, bytes)
                }
                Given::Connection(bytes) => {
                    books.connection += i64::from(bytes);
                    window_update(0, bytes)
                }
                Given::Initial(bytes) => {
                    let growth = i64::from(bytes) - books.initial;
                    books.streams.iter_mut().for_each(|window| *window += growth);
                    books.initial = i64::from(bytes);
                    settings(&[(4, bytes)])
                }
                Given::FrameBytes(bytes) => {
                    books.frame_bytes = bytes as usize;
                    settings(&[(5, bytes)])
                }
                Given::Send(any, bytes) => {
                    sent[any % STREAMS] += bytes;
                    talk.connection.send_data((any % STREAMS) as u32 * 2 + 1, Bytes::from(vec![0; bytes]));
                    Vec::new()
                }
            };
            let (mut input, mut said_back) = (BytesMut::from(&said[..]), BytesMut::new());
            prop_assert_eq!(talk.connection.receive(&mut input), Ok(None));
            talk.connection.write_into(&mut said_back);
            books.enter(&mut said_back);
        }
        // A stream may be so deep in debt that a wide window does not reach.
        for (index, sent) in sent.into_iter().enumerate() {
            prop_assert!(books.come[index] == sent || books.streams[index] <= 0, "stream {}", index);
        }
    }

    #[test]
    fn noise_never_panics_and_what_is_kept_is_bounded(
        noise in prop::collection::vec(any::<u8>(), 0..3000),
        is_greeted in any::<bool>(),
        cut in 1_usize..400,
    ) {
        let said = if is_greeted { [greeting(&[]), noise].concat() } else { noise };
        survives(&said, cut);
    }

    #[test]
    fn frames_of_any_kind_and_content_never_panic(
        frames in prop::collection::vec(
            (0_u8..12, any::<u8>(), 0_u32..12, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        cut in 1_usize..400,
    ) {
        let mut said = greeting(&[]);
        for (kind, flags, stream, payload) in frames {
            said.extend(frame(kind, flags, stream, payload));
        }
        survives(&said, cut);
    }

    #[test]
    fn good_traffic_gone_bad_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..8),
        cut in 1_usize..400,
    ) {
        let mut said = good_traffic();
        for (place, byte, how) in changes {
            let at = place.index(said.len());
            match how {
                0 => said[at] = byte,
                1 => said.insert(at, byte),
                _ => drop(said.remove(at)),
            }
        }
        survives(&said, cut);
    }
}

#[test]
fn good_traffic_is_good() {
    let mut talk = Talk::new(Role::Server, &Announced::default());
    let words = talk.hear(good_traffic());
    assert!(!words.contains("fault") && !words.contains("RESET"), "{words}");
}

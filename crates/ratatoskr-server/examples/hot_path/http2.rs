//! What a connection does: heads, whole calls, and the frames of a subscriber.

use std::hint::black_box;
use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};
use ratatoskr_http2::hpack::{Decoder, Encoder, Fields};
use ratatoskr_http2::limits::{HEADER_LIST_BYTES_MAX, HEADER_TABLE_BYTES};
use ratatoskr_http2::{Announced, Connection, Ending, Event, Role, StreamId};

use crate::publishing::{receipt_bytes, request_bytes};

/// What a gRPC library says with each call of one method.
const HEAD: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/ratatoskr.MessageBroker/Publish"),
    (":authority", "localhost:50051"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-python/1.80.0 grpc-c/53.0.0 (linux; chttp2)"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
];
/// `grpc-timeout: 10S`, which no table keeps, its value in Huffman's code (RFC 7541, appendix B).
const TIMEOUT: &[u8] = b"\x00\x0cgrpc-timeout\x83\x08\x37\x7f";
/// As the server's door writes at a time.
const SLICES: usize = 64;
/// Frames of one batch of messages, as a subscriber gets them.
const BATCH_BYTES: usize = 32 << 10;
/// A peer that takes all that it is sent.
const WINDOW_BYTES: u32 = (1 << 31) - 1;

/// A head is decoded: eight fields that the tables know by now, one literal.
pub(super) fn hpack() -> Box<dyn FnMut()> {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(HEADER_TABLE_BYTES);
    let mut fields = Fields::new(HEADER_LIST_BYTES_MAX);
    let mut block = BytesMut::new();
    // The first one fills the tables.
    for _ in 0..2 {
        block.clear();
        encoder.begin(&mut block);
        for (name, value) in HEAD {
            encoder.put_known(name.as_bytes(), value.as_bytes(), &mut block);
        }
        block.put_slice(TIMEOUT);
        decoder.decode(&block, &mut fields).expect("our own block is sound");
    }
    let (name, value) = fields.iter().last().expect("there are fields");
    assert_eq!((name, value), (&b"grpc-timeout"[..], &b"10S"[..]));
    Box::new(move || {
        decoder.decode(black_box(&block), &mut fields).expect("it was sound before");
        black_box(&fields);
    })
}

/// A server takes in the frames of one `Publish`, and answers with head, message and trailers.
pub(super) fn call() -> Box<dyn FnMut()> {
    let (mut client, mut server) = connections();
    let mut input = BytesMut::new();
    let request = grpc_message(&request_bytes());
    let reply = grpc_message(&receipt_bytes());
    // The first call fills the tables; all later ones are as the second.
    for _ in 0..2 {
        serve(&mut server, &mut input, &reply);
        let stream = open(&mut client);
        client.send_data(stream, request.clone());
        client.end(stream, Ending::Data);
        input.clear();
        client.write_into(&mut input);
    }
    let mut frames = input.to_vec();
    let mut stream = 3;
    Box::new(move || {
        renumber(&mut frames, stream);
        stream += 2;
        input.extend_from_slice(&frames);
        serve(&mut server, &mut input, &reply);
    })
}

/// The frames of a batch of messages go out to a subscriber.
pub(super) fn feed() -> Box<dyn FnMut()> {
    let (mut client, mut server) = connections();
    let mut input = BytesMut::new();
    let stream = open(&mut client);
    client.write_into(&mut input);
    serve(&mut server, &mut input, b"");
    server.send_headers(stream, |fields| {
        fields.known(":status", "200").known("content-type", "application/grpc");
    });
    let frames = Bytes::from(vec![7; BATCH_BYTES]);
    Box::new(move || {
        assert!(server.has_room(stream));
        server.send_data(stream, frames.clone());
        write(&mut server);
    })
}

/// A client and a server that have greeted each other.
fn connections() -> (Connection<()>, Connection<()>) {
    let generous = Announced {
        stream_window_bytes: WINDOW_BYTES,
        connection_window_bytes: WINDOW_BYTES,
        ..Announced::default()
    };
    let mut client = Connection::new(Role::Client, &generous);
    let mut server = Connection::new(Role::Server, &Announced::default());
    let mut wire = BytesMut::new();
    client.write_into(&mut wire);
    assert!(matches!(server.receive(&mut wire), Ok(None)), "a greeting is no event");
    server.write_into(&mut wire);
    assert!(matches!(client.receive(&mut wire), Ok(None)), "a greeting is no event");
    (client, server)
}

fn open(client: &mut Connection<()>) -> StreamId {
    let opened = client.open((), |fields| {
        for (name, value) in HEAD {
            fields.known(name, value);
        }
    });
    opened.expect("a new connection has streams left")
}

/// What the server's task does when it is woken: reads, answers each call that is complete, writes.
fn serve(server: &mut Connection<()>, input: &mut BytesMut, reply: &[u8]) {
    while let Some(event) = server.receive(black_box(input)).expect("the client keeps the rules") {
        match event {
            Event::Headers { .. } => assert_eq!(server.fields().len(), HEAD.len()),
            Event::Data { stream, data, is_end } => {
                server.release(stream, data.len());
                if is_end {
                    server.send_headers(stream, |fields| {
                        fields.known(":status", "200").known("content-type", "application/grpc");
                    });
                    server.send_copied(stream, reply);
                    server.end(stream, Ending::Known(&[("grpc-status", "0")]));
                }
            }
            event => unreachable!("the client does nothing else: {event:?}"),
        }
    }
    write(server);
}

/// Takes all that is ready, as a socket that is never full.
fn write(server: &mut Connection<()>) {
    loop {
        let outgoing = server.outgoing();
        if outgoing.is_empty() {
            return;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = outgoing.slices(&mut slices);
        let written = black_box(&slices[..filled]).iter().map(|slice| slice.len()).sum();
        outgoing.advance(written);
    }
}

/// Gives frames to another stream.
fn renumber(mut frames: &mut [u8], stream: StreamId) {
    while let Some((header, rest)) = frames.split_first_chunk_mut::<9>() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        header[5..].copy_from_slice(&stream.to_be_bytes());
        frames = &mut rest[length..];
    }
}

fn grpc_message(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

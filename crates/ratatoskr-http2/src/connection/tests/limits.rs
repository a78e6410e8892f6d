//! What a peer gets that asks too much: refused cheaply, and in words.

use bytes::{Bytes, BytesMut};

use crate::frame::{ErrorCode, kind};
use crate::hpack::Encoder;
use crate::limits::{
    HEADER_BLOCK_BYTES_MAX, HEADER_LIST_BYTES_MAX, NUISANCES_PER_TICK_MAX, OUTGOING_BYTES_STALLED,
};
use crate::{Announced, Event};

use super::wire::{
    ALL, END_HEADERS, REQUEST, Talk, block, data, frame, headers, request, reset, settings, window_update,
};

const CALM: &str = "fault ENHANCE_YOUR_CALM, GOAWAY after";

/// Says the same until the connection is at its end. How often that was.
fn until_calmed(talk: &mut Talk, mut said: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for time in 1..=NUISANCES_PER_TICK_MAX + 10 {
        let words = talk.hear(said(time));
        if let Some(at) = words.find("fault") {
            assert!(words[at..].starts_with(CALM), "{words}");
            return time;
        }
    }
    panic!("it went on for ever");
}

#[test]
fn frames_of_no_use_are_counted_and_forgiven_by_time() {
    for (what, nuisance) in [
        ("pings", frame(kind::PING, 0, 0, [0; 8])),
        ("answers to no ping", frame(kind::PING, 1, 0, [0; 8])),
        ("settings", settings(&[])),
        ("acknowledged settings", frame(kind::SETTINGS, 1, 0, [])),
        ("empty data", data(1, 0, "")),
        ("padding alone", data(1, 0x8, b"\x01\0")),
        ("data for a stream that is gone", data(3, 0, "x")),
        ("priorities", frame(kind::PRIORITY, 0, 1, [0; 5])),
        ("window updates", window_update(0, 1)),
        ("window updates of a stream", window_update(1, 1)),
        ("window updates of a stream that is gone", window_update(3, 1)),
        ("resets of a stream that is gone", reset(3, ErrorCode::CANCEL)),
        ("farewells", frame(kind::GOAWAY, 0, 0, [0; 8])),
        ("what nobody knows", frame(0x20, 0, 0, [])),
    ] {
        let mut talk = Talk::server();
        talk.hear([request(1), request(3), reset(3, ErrorCode::CANCEL)].concat());
        for _ in 0..2 {
            talk.connection.tick();
            let words = talk.hear(nuisance.repeat(NUISANCES_PER_TICK_MAX as usize));
            assert!(!words.contains("fault"), "{what}");
        }
        assert!(talk.hear(&nuisance).contains(CALM), "{what}");
    }
}

#[test]
fn requests_that_are_taken_back_are_nuisances() {
    let rapid_reset =
        |time: u32| [headers(time * 2 - 1, ALL, REQUEST), reset(time * 2 - 1, ErrorCode::CANCEL)].concat();
    assert_eq!(until_calmed(&mut Talk::server(), rapid_reset), NUISANCES_PER_TICK_MAX);
}

#[test]
fn requests_that_we_are_made_to_take_back_are_nuisances_too() {
    type Mistake = fn(u32) -> Vec<u8>;
    let mistakes: [(&str, Mistake); 5] = [
        ("malformed trailers", |stream| headers(stream, END_HEADERS, &[("a", "b")])),
        ("a window that grows by nothing", |stream| window_update(stream, 0)),
        ("a window that grows too much", |stream| window_update(stream, (1 << 31) - 1)),
        ("PRIORITY of another size", |stream| frame(kind::PRIORITY, 0, stream, [])),
        ("more than the window", |stream| data(stream, 0, "xx")),
    ];
    for (what, mistake) in mistakes {
        let announced = Announced { stream_window_bytes: 1, ..Announced::default() };
        let mut talk = Talk::server_with(&announced, &[]);
        let times = until_calmed(&mut talk, |time| {
            let stream = time * 2 - 1;
            [request(stream), mistake(stream)].concat()
        });
        assert!((NUISANCES_PER_TICK_MAX / 2..=NUISANCES_PER_TICK_MAX).contains(&times), "{what}: {times}");
    }
}

#[test]
fn requests_that_are_malformed_or_over_the_limit_are_nuisances() {
    let malformed = |time: u32| headers(time * 2 - 1, ALL, &[(":method", "GET")]);
    assert_eq!(until_calmed(&mut Talk::server(), malformed), NUISANCES_PER_TICK_MAX);
    let mut full = Talk::server_with(&Announced { streams_max: 0, ..Announced::default() }, &[]);
    assert_eq!(until_calmed(&mut full, |time| request(time * 2 - 1)), NUISANCES_PER_TICK_MAX);
}

#[test]
fn who_is_sent_data_may_answer_each_piece_with_two_updates() {
    let mut talk = Talk::server();
    talk.hear(request(1));
    for _ in 0..NUISANCES_PER_TICK_MAX {
        talk.connection.send_copied(1, b"x");
        assert_eq!(talk.hear([window_update(0, 1), window_update(1, 1)].concat()), "DATA 1 1");
    }
}

#[test]
fn a_header_block_without_end_ends_the_connection() {
    let mut talk = Talk::server();
    assert_eq!(talk.hear(frame(kind::HEADERS, 0, 1, [])), "");
    let part = frame(kind::CONTINUATION, 0, 1, vec![0; HEADER_BLOCK_BYTES_MAX / 4]);
    assert_eq!(talk.hear(part.repeat(4)), "");
    assert_eq!(talk.hear(frame(kind::CONTINUATION, 0, 1, [0])), format!("{CALM} 0 ENHANCE_YOUR_CALM"));
    let empty = |_| frame(kind::CONTINUATION, 0, 1, []);
    let mut talk = Talk::server();
    talk.hear(frame(kind::HEADERS, 0, 1, []));
    assert_eq!(until_calmed(&mut talk, empty), NUISANCES_PER_TICK_MAX);
}

#[test]
fn a_header_block_in_one_large_frame_is_bounded_alike() {
    let announced = Announced { frame_bytes_max: 1 << 20, ..Announced::default() };
    let large = vec![0; HEADER_BLOCK_BYTES_MAX + 1];
    let mut talk = Talk::server_with(&announced, &[]);
    assert_eq!(talk.hear(frame(kind::HEADERS, ALL, 1, large)), format!("{CALM} 0 ENHANCE_YOUR_CALM"));
}

#[test]
fn a_list_that_is_too_large_is_the_users_to_refuse_and_the_connection_stays_sound() {
    let mut talk = Talk::server();
    let mut fields = REQUEST.to_vec();
    let long = "x".repeat(15_000);
    fields.extend([("a", long.as_str()), ("b", long.as_str()), ("c", "kept by nobody")]);
    let parts = block(&fields);
    let (first, second) = parts.split_at(16_000);
    let said = [frame(kind::HEADERS, 1, 1, first), frame(kind::CONTINUATION, END_HEADERS, 1, second)];
    assert_eq!(talk.hear(said.concat()), "headers 1 of 5 oversized end");
    assert_eq!(talk.hear(headers(3, ALL, REQUEST)), "headers 3 of 4 end");
}

/// Puts a name of nearly 4 KB into the table, and then says so often that it comes again: three bytes each time, which insert it anew.
fn bomb(stream: u32, times: usize) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let mut encoder = Encoder::new();
    for (name, value) in REQUEST {
        encoder.put(name.as_bytes(), value.as_bytes(), &mut bytes);
    }
    encoder.put_known(&[b'n'; 4000], b"", &mut bytes);
    for _ in 0..times {
        bytes.extend_from_slice(&[0x7e, 1, b'v']);
    }
    frame(kind::HEADERS, ALL, stream, bytes)
}

#[test]
fn a_list_that_is_small_on_the_wire_and_huge_behind_it_is_not_even_decoded() {
    assert_eq!(Talk::server().hear(bomb(1, 2)), "headers 1 of 7 end");
    assert_eq!(Talk::server().hear(bomb(1, 20)), "headers 1 of 8 oversized end");
    assert_eq!(Talk::server().hear(bomb(1, 4000)), format!("{CALM} 0 ENHANCE_YOUR_CALM"));
}

#[test]
fn what_a_list_that_is_too_large_takes_is_counted_and_given_back_within_a_second() {
    let mut talk = Talk::server();
    // A literal, not indexed, with a name of one byte and a value of 30,000.
    let mut block = vec![0, 1, b'n', 0x7f, 0xb1, 0xe9, 0x01];
    block.resize(block.len() + 30_000, b'v');
    let (first, rest) = block.split_at(16_000);
    let parts = [frame(kind::HEADERS, 1, 1, first), frame(kind::CONTINUATION, 4, 1, rest)];
    assert_eq!(talk.hear(parts.concat()), "headers 1 of 0 oversized end");
    assert!(talk.connection.buffered() >= 30_000);
    talk.connection.tick();
    assert!(talk.connection.buffered() <= HEADER_LIST_BYTES_MAX);
}

#[test]
fn lists_that_are_too_large_are_nuisances_by_their_size() {
    let times = until_calmed(&mut Talk::server(), |time| {
        // The user refuses it at once.
        [bomb(time * 2 - 1, 20), reset(time * 2 - 1, ErrorCode::CANCEL)].concat()
    });
    // 21 fields of 4033 bytes are 83 KiB.
    assert!((200..300).contains(&times), "{times}");
}

#[test]
fn who_asks_and_does_not_listen_is_to_be_heard_no_more() {
    let mut talk = Talk::server();
    let pings = frame(kind::PING, 0, 0, [0; 8]).repeat(1000);
    let mut input = BytesMut::new();
    let mut said = 0;
    while !talk.connection.is_stalled() {
        input.extend_from_slice(&pings);
        assert_eq!(talk.connection.receive(&mut input), Ok(None));
        talk.connection.tick();
        said += pings.len();
    }
    assert!((OUTGOING_BYTES_STALLED..OUTGOING_BYTES_STALLED + pings.len()).contains(&said), "{said}");
    talk.frames();
    assert!(!talk.connection.is_stalled());
}

#[test]
fn data_never_stalls_a_connection() {
    let mut talk = Talk::server_with(&Announced::default(), &[(4, 1 << 30)]);
    talk.hear([request(1), window_update(0, 1 << 30)].concat());
    for _ in 0..100 {
        talk.connection.send_data(1, Bytes::from(vec![0; 1 << 20]));
        talk.connection.outgoing();
    }
    assert!(!talk.connection.is_stalled());
}

#[test]
fn a_fault_is_told_with_its_reason_in_words() {
    let mut talk = Talk::server();
    let mut input = BytesMut::from(&frame(kind::PING, 0, 0, [0; 7])[..]);
    let fault = talk.connection.receive(&mut input).unwrap_err();
    assert_eq!(fault.to_string(), "PING has not 8 bytes (FRAME_SIZE_ERROR)");
    let mut said = BytesMut::new();
    talk.connection.write_into(&mut said);
    assert!(said.ends_with(b"PING has not 8 bytes"));
    assert_eq!(talk.connection.receive(&mut BytesMut::new()), Ok::<Option<Event>, _>(None));
}

//! Windows in both directions, turns between streams, and when a stream has room for more.

use bytes::{Bytes, BytesMut};

use crate::frame::{ErrorCode, StreamId};
use crate::limits::{
    CONNECTION_WAITING_BYTES, CONNECTION_WAITING_BYTES_MAX, COPIED_BYTES_MAX, OUTGOING_BYTES_MAX,
    STREAM_WAITING_BYTES, TURN_BYTES,
};
use crate::{Announced, Ending};

use super::wire::{END_STREAM, PADDED, Talk, data, request, reset, settings, window_update};

const INITIAL_WINDOW: u16 = 4;
const WIDE: u32 = 1 << 30;

fn zeros(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
}

/// A server whose peer has opened streams 1, 3, … and announced this window for each.
fn with_streams(count: u32, window: u32) -> Talk {
    let mut talk = Talk::server_with(&Announced::default(), &[(INITIAL_WINDOW, window)]);
    for number in 0..count {
        talk.hear(request(number * 2 + 1));
    }
    talk
}

fn frames(talk: &mut Talk) -> String {
    talk.frames().join(", ")
}

/// Bytes of data in words like `DATA 1 300`, for one stream.
fn sent(words: &[String], stream: StreamId) -> usize {
    let start = format!("DATA {stream} ");
    let lengths = words.iter().filter_map(|word| word.strip_prefix(&start));
    lengths.map(|rest| rest.split(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[test]
fn data_goes_out_as_far_as_the_streams_window_allows() {
    let mut talk = with_streams(1, 10);
    talk.connection.send_data(1, zeros(25));
    talk.connection.end(1, Ending::Known(&[("grpc-status", "0")]));
    assert_eq!(frames(&mut talk), "DATA 1 10");
    assert_eq!(talk.hear(window_update(1, 5)), "DATA 1 5");
    assert_eq!(talk.hear(settings(&[(INITIAL_WINDOW, 12)])), "SETTINGS ACK, DATA 1 2");
    assert_eq!(talk.hear(window_update(1, 100)), "DATA 1 8, HEADERS 1 grpc-status=0 END, RESET 1 NO_ERROR");
    assert_eq!(talk.connection.stream_count(), 0);
}

#[test]
fn a_window_can_be_negative_and_has_to_grow_out_of_it() {
    let mut talk = with_streams(1, 10);
    talk.connection.send_data(1, zeros(25));
    assert_eq!(frames(&mut talk), "DATA 1 10");
    assert_eq!(talk.hear(settings(&[(INITIAL_WINDOW, 3)])), "SETTINGS ACK");
    assert_eq!(talk.hear(window_update(1, 7)), "");
    assert_eq!(talk.hear(window_update(1, 1)), "DATA 1 1");
    // 3 + 10 - 10 + 8 - 1 …: back to where it was.
    assert_eq!(talk.hear(settings(&[(INITIAL_WINDOW, 10)])), "SETTINGS ACK, DATA 1 7");
    assert_eq!(talk.hear(settings(&[(INITIAL_WINDOW, 0)])), "SETTINGS ACK");
    assert_eq!(talk.hear(window_update(1, 17)), "DATA 1 7");
}

#[test]
fn a_new_window_counts_for_streams_opened_later() {
    let mut talk = with_streams(1, 10);
    talk.hear([settings(&[(INITIAL_WINDOW, 4)]), request(3)].concat());
    talk.connection.send_data(3, zeros(9));
    assert_eq!(frames(&mut talk), "DATA 3 4");
}

#[test]
fn the_connections_window_bounds_all_streams_together() {
    let mut talk = with_streams(2, WIDE);
    talk.connection.send_data(1, zeros(40_000));
    talk.connection.send_data(3, zeros(40_000));
    let words = talk.frames();
    assert_eq!((sent(&words, 1), sent(&words, 3)), (40_000, 25_535));
    talk.connection.send_data(1, zeros(500));
    talk.connection.end(1, Ending::Data);
    assert_eq!(frames(&mut talk), "");
    let mut words = Vec::new();
    for _ in 0..4 {
        talk.hear(window_update(0, 0x7000)).split(", ").for_each(|word| words.push(word.to_owned()));
    }
    assert_eq!((sent(&words, 1), sent(&words, 3)), (500, 14_465));
}

#[test]
fn an_ending_without_data_needs_no_window() {
    let mut talk = with_streams(2, 0);
    talk.connection.end(1, Ending::Data);
    talk.connection.end(3, Ending::Trailers(vec![(Bytes::from("a"), Bytes::from("b"))]));
    let ended = "DATA 1 0 END, RESET 1 NO_ERROR, HEADERS 3 a=b END, RESET 3 NO_ERROR";
    assert_eq!(frames(&mut talk), ended);
}

#[test]
fn the_last_data_says_that_it_is_the_last() {
    let mut talk = with_streams(1, 10);
    talk.connection.send_data(1, zeros(12));
    talk.connection.end(1, Ending::Data);
    assert_eq!(frames(&mut talk), "DATA 1 10");
    assert_eq!(talk.hear(window_update(1, 2)), "DATA 1 2 END, RESET 1 NO_ERROR");
}

#[test]
fn frames_are_as_large_as_the_peer_takes_them() {
    let mut talk = with_streams(1, WIDE);
    talk.connection.send_data(1, zeros(40_000));
    assert_eq!(frames(&mut talk), "DATA 1 16384, DATA 1 16384, DATA 1 7232");
    talk.hear([settings(&[(5, 20_000)]), window_update(0, WIDE)].concat());
    talk.connection.send_data(1, zeros(40_001));
    assert_eq!(frames(&mut talk), "DATA 1 20000, DATA 1 20000, DATA 1 1");
}

#[test]
fn short_data_is_copied_and_obeys_the_same_windows() {
    let mut talk = with_streams(2, 10);
    talk.connection.send_copied(1, &[0; 4]);
    talk.connection.send_copied(1, &[0; 7]);
    talk.connection.send_copied(1, &[0; 1]);
    assert_eq!(frames(&mut talk), "DATA 1 4, DATA 1 6");
    assert_eq!(talk.connection.waiting(), 2);
    assert_eq!(talk.hear(window_update(1, 100)), "DATA 1 1, DATA 1 1");
    talk.connection.send_copied(9, b"to nobody");
    assert_eq!(talk.connection.waiting(), 0);
}

#[test]
fn streams_take_turns() {
    let mut talk = with_streams(3, WIDE);
    talk.hear(window_update(0, WIDE));
    for stream in [1, 3, 5] {
        talk.connection.send_data(stream, zeros(1 << 20));
    }
    let words = talk.frames();
    let mut ahead = [0_i64; 3];
    for word in words {
        let mut parts = word.split(' ').skip(1).map(|part| part.parse::<usize>().unwrap());
        let (stream, length) = (parts.next().unwrap(), parts.next().unwrap());
        ahead[stream / 2] += length as i64;
        let (least, most) = (*ahead.iter().min().unwrap(), *ahead.iter().max().unwrap());
        // The first fills what may be outgoing before the others have begun.
        assert!(most - least <= (OUTGOING_BYTES_MAX + TURN_BYTES) as i64, "{ahead:?}");
    }
    assert_eq!(ahead, [1 << 20; 3]);
}

#[test]
fn whoever_waits_for_its_turn_is_not_overtaken_for_ever() {
    let mut talk = with_streams(2, WIDE);
    talk.connection.send_data(1, zeros(100_000));
    assert_eq!(sent(&talk.frames(), 1), 65_535);
    let mut sent_by_first = 0;
    for _ in 0..100 {
        // The window opens, and before anything is written another stream has as much to say.
        let mut input = BytesMut::from(&window_update(0, 1000)[..]);
        assert_eq!(talk.connection.receive(&mut input), Ok(None));
        talk.connection.send_copied(3, &[0; 1000]);
        sent_by_first += sent(&talk.frames(), 1);
    }
    assert!(sent_by_first >= 34_465, "{sent_by_first}");
}

#[test]
fn no_more_is_made_ready_than_is_to_be_written_soon() {
    let mut talk = with_streams(50, WIDE);
    talk.hear(window_update(0, WIDE));
    for stream in 0..50 {
        talk.connection.send_data(stream * 2 + 1, zeros(1 << 20));
    }
    let ready = talk.connection.outgoing().len();
    assert!((OUTGOING_BYTES_MAX..OUTGOING_BYTES_MAX + 20_000).contains(&ready), "{ready}");
    assert_eq!(talk.connection.waiting(), (50 << 20) - ready / 16_393 * 16_384);
}

#[test]
fn a_stream_has_room_until_enough_of_it_waits_and_is_named_when_it_has_again() {
    let mut talk = with_streams(2, 0);
    assert!(talk.connection.has_room(1));
    talk.connection.send_data(1, zeros(STREAM_WAITING_BYTES));
    assert!(!talk.connection.has_room(1));
    assert!(talk.connection.has_room(3));
    assert_eq!(talk.connection.next_with_room(), None);
    talk.hear(window_update(1, 1));
    assert_eq!(talk.connection.next_with_room(), Some(1));
    assert_eq!(talk.connection.next_with_room(), None);
    assert!(talk.connection.has_room(1));
    assert!(talk.connection.has_room(99), "one that is gone would be waited for in vain");
}

#[test]
fn with_much_waiting_on_all_streams_only_an_empty_one_has_room() {
    let mut talk = with_streams(3, 0);
    talk.connection.send_data(1, zeros(CONNECTION_WAITING_BYTES));
    talk.connection.send_data(3, zeros(1));
    assert!(!talk.connection.has_room(3));
    assert!(talk.connection.has_room(5));
    talk.hear(window_update(3, 1));
    assert_eq!(talk.connection.next_with_room(), Some(3));
    assert_eq!(talk.hear(reset(1, ErrorCode::CANCEL)), "gone 1 CANCEL");
    assert_eq!(talk.connection.waiting(), 0);
}

#[test]
fn with_too_much_waiting_no_stream_has_room_until_a_quarter_of_it_has_gone() {
    let mut talk = with_streams(4, 0);
    talk.hear(window_update(0, WIDE));
    talk.connection.send_data(1, zeros(CONNECTION_WAITING_BYTES_MAX));
    assert!(!talk.connection.has_room(3) && !talk.connection.has_room(3) && !talk.connection.has_room(5));
    assert!(!talk.connection.has_room(1));
    talk.hear(window_update(1, CONNECTION_WAITING_BYTES_MAX as u32 / 4 - 1));
    assert_eq!(talk.connection.next_with_room(), None);
    // What is gone by then is not named.
    talk.hear(reset(5, ErrorCode::CANCEL));
    talk.hear(window_update(1, 1));
    let named: Vec<_> = std::iter::from_fn(|| talk.connection.next_with_room()).collect();
    assert_eq!(named, [3, 1]);
    assert!(talk.connection.has_room(3) && !talk.connection.has_room(1));
    // The end of a stream makes room like its data.
    talk.connection.send_data(3, zeros(CONNECTION_WAITING_BYTES_MAX));
    assert!(!talk.connection.has_room(7));
    talk.connection.reset(1, ErrorCode::CANCEL);
    assert_eq!(talk.connection.next_with_room(), None);
    talk.connection.reset(3, ErrorCode::CANCEL);
    assert_eq!(talk.connection.next_with_room(), Some(7));
}

#[test]
fn a_peer_may_send_as_much_as_its_windows_and_not_a_byte_more() {
    let announced = Announced { stream_window_bytes: 100, ..Announced::default() };
    let mut talk = Talk::server_with(&announced, &[]);
    talk.hear(request(1));
    let mut input = BytesMut::from(&[data(1, 0, [0; 100]), data(1, 0, [0; 1])].concat()[..]);
    assert!(talk.connection.receive(&mut input).unwrap().is_some());
    assert_eq!(talk.connection.unreleased(), 100);
    let reset = talk.connection.receive(&mut input).unwrap();
    assert_eq!(reset, Some(crate::Event::Reset { stream: 1, code: ErrorCode::FLOW_CONTROL_ERROR }));
    talk.connection.remove(1);
    assert_eq!(talk.connection.unreleased(), 0);
    assert_eq!(frames(&mut talk), "RESET 1 FLOW_CONTROL_ERROR");
}

#[test]
fn what_was_taken_in_is_given_back_by_halves_padding_included() {
    let announced = Announced { stream_window_bytes: 100, ..Announced::default() };
    let mut talk = Talk::server_with(&announced, &[]);
    talk.hear(request(1));
    assert_eq!(talk.hear(data(1, 0, "x".repeat(49))), format!("data 1 {:?}", "x".repeat(49)));
    assert!(talk.hear(data(1, 0, "y")).ends_with("WINDOW 1 +50"));
    let padded = [&[60][..], b"z", &[0; 60]].concat();
    assert_eq!(talk.hear(data(1, PADDED, padded)), "data 1 \"z\", WINDOW 1 +61");
    // Who has ended needs no more.
    let last = "x".repeat(90);
    assert_eq!(talk.hear(data(1, END_STREAM, &last)), format!("data 1 {last:?} end"));
}

#[test]
fn the_connections_window_is_given_back_until_the_user_keeps_too_much() {
    let announced =
        Announced { connection_window_bytes: 65_535, unreleased_bytes_max: 33_000, ..Announced::default() };
    let mut talk = Talk::server_with(&announced, &[]);
    talk.hear([request(1), request(3)].concat());
    let keep = |talk: &mut Talk, stream| {
        let mut input = BytesMut::from(&data(stream, 0, vec![0; 16_384])[..]);
        assert!(talk.connection.receive(&mut input).unwrap().is_some());
        frames(talk)
    };
    assert_eq!(keep(&mut talk, 1), "");
    assert_eq!(keep(&mut talk, 1), "WINDOW 0 +32768");
    assert_eq!(keep(&mut talk, 3), "");
    assert_eq!(keep(&mut talk, 3), "");
    assert_eq!(talk.connection.unreleased(), 65_536);
    talk.connection.release(1, 32_000);
    assert_eq!(frames(&mut talk), "");
    talk.connection.release(1, 768);
    assert_eq!(frames(&mut talk), "WINDOW 0 +32768");
    assert_eq!(keep(&mut talk, 1), "");
    assert_eq!(keep(&mut talk, 1), "");
    // Whose stream is gone keeps nothing.
    assert_eq!(talk.hear(reset(3, ErrorCode::CANCEL)), "gone 3 CANCEL, WINDOW 0 +32768");
    assert_eq!(talk.connection.unreleased(), 32_768);
    assert_eq!(talk.hear(data(3, 0, "too late")), "RESET 3 STREAM_CLOSED");
}

#[test]
fn the_smallest_window_is_never_updated_by_nothing() {
    let announced = Announced { stream_window_bytes: 1, ..Announced::default() };
    let mut talk = Talk::server_with(&announced, &[]);
    talk.hear(request(1));
    assert_eq!(talk.hear(data(1, 0, "")), "data 1 \"\"");
    assert_eq!(talk.hear(data(1, 0, "x")), "data 1 \"x\", WINDOW 1 +1");
    assert_eq!(talk.hear(data(1, PADDED, b"\0")), "data 1 \"\", WINDOW 1 +1");
}

#[test]
fn long_data_is_not_copied_on_its_way_out() {
    let mut talk = with_streams(1, WIDE);
    let long = zeros(COPIED_BYTES_MAX);
    talk.connection.send_data(1, long.clone());
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    let filled = talk.connection.outgoing().slices(&mut slices);
    assert_eq!(filled, 2);
    assert_eq!((slices[0].len(), slices[1].as_ptr()), (9, long.as_ptr()));
}

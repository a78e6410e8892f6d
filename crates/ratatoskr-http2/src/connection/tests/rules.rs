//! The rules of RFC 9113, one a line: a server that has been greeted, what it is told, what comes of it.
//!
//! Events first (small letters), then what is answered (capitals). A fault is an end of the connection; the GOAWAY that tells
//! the peer comes with it.

use bytes::BytesMut;

use crate::frame::{ErrorCode, PREFACE, kind};
use crate::{Announced, Role};

use super::wire::{
    ACK, ALL, END_HEADERS, END_STREAM, PADDED, PRIORITY, REQUEST, Talk, block, data, frame, headers, request,
    reset, settings, window_update,
};

/// Each is told to a server of its own.
fn check(rules: &[(&str, &[&[u8]], &str)]) {
    for (rule, said, expected) in rules {
        let mut talk = Talk::server();
        assert_eq!(talk.hear(said.concat()), *expected, "{rule}");
    }
}

fn with(extra: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    REQUEST.iter().chain(extra).copied().collect()
}

fn protocol_error(last: u32) -> String {
    format!("fault PROTOCOL_ERROR, GOAWAY after {last} PROTOCOL_ERROR")
}

#[test]
fn section_3_4_a_connection_begins_with_preface_and_settings() {
    let begins = |said: &[&[u8]]| Talk::new(Role::Server, &Announced::default()).hear(said.concat());
    let greeted = "SETTINGS, WINDOW 0 +16711681, SETTINGS ACK";
    assert_eq!(begins(&[PREFACE, &settings(&[])]), greeted);
    let refused = "fault PROTOCOL_ERROR, SETTINGS, WINDOW 0 +16711681, GOAWAY after 0 PROTOCOL_ERROR";
    assert_eq!(begins(&[b"INVALID CONNECTION PREFACE\r\n\r\n"]), refused);
    assert_eq!(begins(&[b"GET / HTTP/1.1\r\n\r\n"]), refused);
    assert_eq!(begins(&[b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]), refused);
    assert_eq!(begins(&[PREFACE, &frame(kind::PING, 0, 0, [0; 8])]), refused);
    assert_eq!(begins(&[PREFACE, &frame(kind::SETTINGS, ACK, 0, [])]), refused);
    assert_eq!(begins(&[PREFACE, &request(1)]), refused);
}

#[test]
fn section_3_4_nothing_is_said_before_the_preface_is_complete() {
    let mut talk = Talk::new(Role::Server, &Announced::default());
    for byte in &PREFACE[..PREFACE.len() - 1] {
        assert_eq!(talk.hear([*byte]), "");
    }
    assert!(!talk.connection.is_greeted());
    assert_eq!(talk.hear(&PREFACE[PREFACE.len() - 1..]), "SETTINGS, WINDOW 0 +16711681");
    assert!(!talk.connection.is_greeted());
    assert_eq!(talk.hear(settings(&[])), "SETTINGS ACK");
    assert!(talk.connection.is_greeted());
}

#[test]
fn section_4_frames() {
    let size_error = "fault FRAME_SIZE_ERROR, GOAWAY after 0 FRAME_SIZE_ERROR";
    check(&[
        ("4.1 unknown kinds are ignored", &[&frame(0x16, 0xff, 0, [0; 8]), &frame(0x16, 0, 3, [])], ""),
        ("4.1 undefined flags are ignored", &[&frame(kind::PING, 0x16, 0, [0; 8])], "PING ACK"),
        ("4.1 the reserved bit is ignored", &[&frame(kind::PING, 0, 1 << 31, [0; 8])], "PING ACK"),
        ("4.2 as large as allowed", &[&request(1), &data(1, 0, vec![b'x'; 16_384])], &large_data()),
        ("4.2 DATA too large", &[&data(1, 0, vec![0; 16_385])], size_error),
        ("4.2 HEADERS too large", &[&frame(kind::HEADERS, ALL, 1, vec![0; 16_385])], size_error),
        ("4.2 SETTINGS too large", &[&frame(kind::SETTINGS, 0, 0, vec![0; 16_386])], size_error),
        ("4.2 unknown too large", &[&frame(0x16, 0, 0, vec![0; 16_385])], size_error),
        (
            "4.3 a block that cannot be decoded",
            &[&frame(kind::HEADERS, ALL, 1, [0xbe])],
            "fault COMPRESSION_ERROR, GOAWAY after 0 COMPRESSION_ERROR",
        ),
        (
            "4.3 a block interrupted by another stream's",
            &[&headers(1, 0, REQUEST), &request(3)],
            &protocol_error(0),
        ),
        (
            "4.3 a block interrupted by PRIORITY",
            &[&headers(1, 0, REQUEST), &frame(2, 0, 1, [0; 5])],
            &protocol_error(0),
        ),
        (
            "4.3 a block interrupted by the unknown",
            &[&headers(1, 0, REQUEST), &frame(0x16, 0, 0, [])],
            &protocol_error(0),
        ),
    ]);
}

fn large_data() -> String {
    format!("headers 1 of 4, data 1 {:?}", "x".repeat(16_384))
}

#[test]
fn section_5_1_states_of_streams() {
    let closed = "headers 1 of 4 end, gone 1 STREAM_CLOSED, RESET 1 STREAM_CLOSED";
    let whole = headers(1, ALL, REQUEST);
    let gone = [request(1), reset(1, ErrorCode::CANCEL)].concat();
    let after = "headers 1 of 4, gone 1 CANCEL";
    let after_reset = "headers 1 of 4, gone 1 CANCEL, RESET 1 STREAM_CLOSED";
    check(&[
        ("idle: DATA", &[&data(1, END_STREAM, "x")], &protocol_error(0)),
        ("idle: RST_STREAM", &[&reset(1, ErrorCode::CANCEL)], &protocol_error(0)),
        ("idle: WINDOW_UPDATE", &[&window_update(1, 100)], &protocol_error(0)),
        (
            "idle: CONTINUATION",
            &[&frame(kind::CONTINUATION, END_HEADERS, 1, block(REQUEST))],
            &protocol_error(0),
        ),
        ("idle: PRIORITY", &[&frame(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 9])], ""),
        ("idle of ours: DATA", &[&data(2, 0, "x")], &protocol_error(0)),
        ("idle of ours: RST_STREAM", &[&reset(2, ErrorCode::CANCEL)], &protocol_error(0)),
        ("half closed: DATA", &[&whole, &data(1, END_STREAM, "x")], closed),
        ("half closed: HEADERS", &[&whole, &headers(1, ALL, REQUEST)], closed),
        ("half closed: trailers", &[&whole, &headers(1, ALL, &[("a", "b")])], closed),
        (
            "half closed: CONTINUATION",
            &[&whole, &frame(kind::CONTINUATION, END_HEADERS, 1, block(REQUEST))],
            "headers 1 of 4 end, fault PROTOCOL_ERROR, GOAWAY after 1 PROTOCOL_ERROR",
        ),
        ("half closed: WINDOW_UPDATE", &[&whole, &window_update(1, 9)], "headers 1 of 4 end"),
        ("half closed: PRIORITY", &[&whole, &frame(kind::PRIORITY, 0, 1, [0; 5])], "headers 1 of 4 end"),
        (
            "half closed: RST_STREAM",
            &[&whole, &reset(1, ErrorCode::CANCEL)],
            "headers 1 of 4 end, gone 1 CANCEL",
        ),
        ("closed: DATA", &[&gone, &data(1, 0, "x")], after_reset),
        ("closed: HEADERS", &[&gone, &headers(1, ALL, REQUEST)], after_reset),
        ("closed: WINDOW_UPDATE", &[&gone, &window_update(1, 9)], after),
        ("closed: WINDOW_UPDATE by nothing", &[&gone, &window_update(1, 0)], after),
        ("closed: RST_STREAM", &[&gone, &reset(1, ErrorCode::CANCEL)], after),
        ("closed: PRIORITY", &[&gone, &frame(kind::PRIORITY, 0, 1, [0; 5])], after),
        ("5.1.1 an even number", &[&request(2)], &protocol_error(0)),
        (
            "5.1.1 a number passed over is closed",
            &[&request(5), &headers(3, ALL, REQUEST)],
            "headers 5 of 4, RESET 3 STREAM_CLOSED",
        ),
    ]);
}

#[test]
fn section_5_1_2_streams_over_the_limit_are_refused_and_may_be_opened_again_later() {
    let announced = Announced { streams_max: 2, ..Announced::default() };
    let mut talk = Talk::server_with(&announced, &[]);
    let said = [request(1), request(3), request(5)].concat();
    assert_eq!(talk.hear(said), "headers 1 of 4, headers 3 of 4, RESET 5 REFUSED_STREAM");
    assert_eq!(talk.hear(data(5, END_STREAM, "its body")), "RESET 5 STREAM_CLOSED");
    assert_eq!(talk.hear(reset(1, ErrorCode::CANCEL)), "gone 1 CANCEL");
    assert_eq!(talk.hear(request(7)), "headers 7 of 4");
}

#[test]
fn section_6_1_to_6_4_data_headers_priority_reset() {
    let ended = "headers 1 of 4, data 1 \"x\" end";
    let size_error = |last| format!("fault FRAME_SIZE_ERROR, GOAWAY after {last} FRAME_SIZE_ERROR");
    let after_head = format!("headers 1 of 4, {}", protocol_error(1));
    let padded_request = [&[3][..], &block(REQUEST), &[0; 3]].concat();
    let with_priority = [&[0, 0, 0, 0, 200][..], &block(REQUEST)].concat();
    let with_both = [&[2, 0, 0, 0, 0, 200][..], &block(REQUEST), &[0; 2]].concat();
    let over_padded = [&[200][..], &block(REQUEST)].concat();
    check(&[
        ("6.1 DATA for the connection", &[&data(0, 0, "x")], &protocol_error(0)),
        ("6.1 padding", &[&request(1), &data(1, PADDED | END_STREAM, b"\x05x\0\0\0\0\0")], ended),
        (
            "6.1 padding that is all",
            &[&request(1), &data(1, PADDED, b"\x02\0\0")],
            "headers 1 of 4, data 1 \"\"",
        ),
        ("6.1 padding too long", &[&request(1), &data(1, PADDED, b"\x07x\0\0\0\0\0")], &after_head),
        ("6.1 padding without its length", &[&request(1), &data(1, PADDED, b"")], &after_head),
        ("6.2 HEADERS for the connection", &[&headers(0, ALL, REQUEST)], &protocol_error(0)),
        ("6.2 padding", &[&frame(1, ALL | PADDED, 1, padded_request)], "headers 1 of 4 end"),
        ("6.2 priority", &[&frame(1, ALL | PRIORITY, 1, with_priority)], "headers 1 of 4 end"),
        ("6.2 both", &[&frame(1, ALL | PRIORITY | PADDED, 1, with_both)], "headers 1 of 4 end"),
        ("6.2 padding too long", &[&frame(1, ALL | PADDED, 1, over_padded)], &protocol_error(0)),
        ("6.2 too short for its priority", &[&frame(1, ALL | PRIORITY, 1, [0; 4])], &size_error(0)),
        ("6.3 PRIORITY for the connection", &[&frame(2, 0, 0, [0; 5])], &protocol_error(0)),
        (
            "6.3 PRIORITY of another size",
            &[&request(1), &frame(2, 0, 1, [0; 4])],
            "headers 1 of 4, gone 1 FRAME_SIZE_ERROR, RESET 1 FRAME_SIZE_ERROR",
        ),
        ("6.4 RST_STREAM for the connection", &[&reset(0, ErrorCode::CANCEL)], &protocol_error(0)),
        (
            "6.4 RST_STREAM of another size",
            &[&request(1), &frame(3, 0, 1, [0; 3])],
            &format!("headers 1 of 4, {}", size_error(1)),
        ),
        (
            "7 an unknown error code",
            &[&request(1), &reset(1, ErrorCode(0xff))],
            "headers 1 of 4, gone 1 error 255",
        ),
    ]);
}

#[test]
fn section_6_5_settings() {
    let size_error = "fault FRAME_SIZE_ERROR, GOAWAY after 0 FRAME_SIZE_ERROR";
    let flow_error = "fault FLOW_CONTROL_ERROR, GOAWAY after 0 FLOW_CONTROL_ERROR";
    check(&[
        ("an ACK", &[&frame(kind::SETTINGS, ACK, 0, [])], ""),
        ("an ACK that says more", &[&frame(kind::SETTINGS, ACK, 0, [0; 6])], size_error),
        ("for a stream", &[&frame(kind::SETTINGS, 0, 1, [0; 6])], &protocol_error(0)),
        ("of another size", &[&frame(kind::SETTINGS, 0, 0, [0; 5])], size_error),
        ("ENABLE_PUSH neither 0 nor 1", &[&settings(&[(2, 2)])], &protocol_error(0)),
        ("ENABLE_PUSH", &[&settings(&[(2, 0), (2, 1)])], "SETTINGS ACK"),
        ("INITIAL_WINDOW_SIZE too large", &[&settings(&[(4, 1 << 31)])], flow_error),
        ("MAX_FRAME_SIZE too small", &[&settings(&[(5, 16_383)])], &protocol_error(0)),
        ("MAX_FRAME_SIZE too large", &[&settings(&[(5, 1 << 24)])], &protocol_error(0)),
        ("what nobody knows", &[&settings(&[(0x99, 1), (0, 0)])], "SETTINGS ACK"),
        (
            "one after the other",
            &[&settings(&[]), &settings(&[(4, 0), (4, 9)])],
            "SETTINGS ACK, SETTINGS ACK",
        ),
    ]);
}

#[test]
fn section_6_6_to_6_10_the_rest() {
    let size_error = "fault FRAME_SIZE_ERROR, GOAWAY after 0 FRAME_SIZE_ERROR";
    let go_away = |last: u32, code: u32| [last.to_be_bytes(), code.to_be_bytes()].concat();
    let whole = block(REQUEST);
    let (first, second) = whole.split_at(5);
    let head = frame(kind::HEADERS, END_STREAM, 1, first);
    check(&[
        (
            "6.6 PUSH_PROMISE",
            &[&request(1), &frame(kind::PUSH_PROMISE, 4, 1, [0; 4])],
            &format!("headers 1 of 4, {}", protocol_error(1)),
        ),
        ("6.7 PING", &[&frame(kind::PING, 0, 0, b"whatever")], "PING ACK"),
        ("6.7 an answer nobody asked for", &[&frame(kind::PING, ACK, 0, [0; 8])], ""),
        ("6.7 PING for a stream", &[&frame(kind::PING, 0, 1, [0; 8])], &protocol_error(0)),
        ("6.7 PING of another size", &[&frame(kind::PING, 0, 0, [0; 6])], size_error),
        ("6.8 GOAWAY", &[&frame(kind::GOAWAY, 0, 0, go_away(0, 0))], "peer goes after 0 NO_ERROR"),
        ("6.8 GOAWAY for a stream", &[&frame(kind::GOAWAY, 0, 1, go_away(0, 0))], &protocol_error(0)),
        ("6.8 GOAWAY too short", &[&frame(kind::GOAWAY, 0, 0, [0; 7])], size_error),
        ("6.9 by nothing, the connection", &[&window_update(0, 0)], &protocol_error(0)),
        (
            "6.9 by nothing, a stream",
            &[&request(1), &window_update(1, 0)],
            "headers 1 of 4, gone 1 PROTOCOL_ERROR, RESET 1 PROTOCOL_ERROR",
        ),
        ("6.9 of another size", &[&frame(kind::WINDOW_UPDATE, 0, 0, [0; 3])], size_error),
        ("6.9 the reserved bit is ignored", &[&window_update(0, (1 << 31) | 1)], ""),
        (
            "6.9.1 beyond 2^31 - 1, the connection",
            &[&window_update(0, (1 << 31) - 65_536), &window_update(0, 1)],
            "fault FLOW_CONTROL_ERROR, GOAWAY after 0 FLOW_CONTROL_ERROR",
        ),
        (
            "6.9.1 beyond 2^31 - 1, a stream",
            &[&request(1), &window_update(1, (1 << 31) - 65_536), &window_update(1, 1)],
            "headers 1 of 4, gone 1 FLOW_CONTROL_ERROR, RESET 1 FLOW_CONTROL_ERROR",
        ),
        (
            "6.9.2 beyond 2^31 - 1 by SETTINGS",
            &[&request(1), &window_update(1, 1), &settings(&[(4, (1 << 31) - 1)])],
            "headers 1 of 4, fault FLOW_CONTROL_ERROR, GOAWAY after 1 FLOW_CONTROL_ERROR",
        ),
        (
            "6.10 in two parts",
            &[&head, &frame(kind::CONTINUATION, END_HEADERS, 1, second)],
            "headers 1 of 4 end",
        ),
        (
            "6.10 in many, some of them empty",
            &[&head, &frame(9, 0, 1, []), &frame(9, 0, 1, second), &frame(9, END_HEADERS, 1, [])],
            "headers 1 of 4 end",
        ),
        ("6.10 for another stream", &[&head, &frame(kind::CONTINUATION, 4, 3, second)], &protocol_error(0)),
        ("6.10 for the connection", &[&head, &frame(kind::CONTINUATION, 4, 0, second)], &protocol_error(0)),
        ("6.10 that continues nothing", &[&frame(kind::CONTINUATION, 4, 1, second)], &protocol_error(0)),
        (
            "6.10 behind a whole block",
            &[&request(1), &frame(kind::CONTINUATION, END_HEADERS, 1, second)],
            &format!("headers 1 of 4, {}", protocol_error(1)),
        ),
    ]);
}

#[test]
fn section_8_1_trailers_end_a_request_and_say_nothing_else() {
    let trailers: &[(&str, &str)] = &[("checksum", "1")];
    let ended = "headers 1 of 4, data 1 \"x\", data 1 \"\" end";
    let refused = "headers 1 of 4, gone 1 PROTOCOL_ERROR, RESET 1 PROTOCOL_ERROR";
    check(&[
        ("trailers", &[&request(1), &data(1, 0, "x"), &headers(1, ALL, trailers)], ended),
        ("that do not end", &[&request(1), &headers(1, END_HEADERS, trailers)], refused),
        ("with pseudo fields", &[&request(1), &headers(1, ALL, &[(":method", "GET")])], refused),
        ("with capitals", &[&request(1), &headers(1, ALL, &[("Checksum", "1")])], refused),
    ]);
}

#[test]
fn section_8_2_and_8_3_a_malformed_head_ends_its_stream_and_no_other() {
    for (rule, fields) in [
        ("capitals", with(&[("X-Capital", "1")])),
        ("no name", with(&[("", "1")])),
        ("a space in the name", with(&[("a b", "1")])),
        ("a byte above 0x7e in the name", with(&[("a\u{7f}", "1")])),
        ("a colon in the name", with(&[("a:b", "1")])),
        ("a line end in the value", with(&[("a", "1\r\nb: 2")])),
        ("a zero byte in the value", with(&[("a", "1\0")])),
        ("a line end in the path", vec![(":method", "POST"), (":scheme", "http"), (":path", "/a\r\n")]),
        ("an unknown pseudo field", [&[(":test", "x")], REQUEST].concat()),
        ("a response's pseudo field", [&[(":status", "200")], REQUEST].concat()),
        ("a pseudo field behind others", with(&[(":authority", "x")])),
        ("connection", with(&[("connection", "keep-alive")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("te other than trailers", with(&[("te", "gzip")])),
        ("an empty path", vec![(":method", "POST"), (":scheme", "http"), (":path", "")]),
        ("no method", vec![(":scheme", "http"), (":path", "/")]),
        ("no scheme", vec![(":method", "POST"), (":path", "/")]),
        ("no path", vec![(":method", "POST"), (":scheme", "http")]),
        ("two methods", [&[(":method", "GET")], REQUEST].concat()),
        ("two schemes", [&[(":scheme", "http")], REQUEST].concat()),
        ("two paths", [&[(":path", "/")], REQUEST].concat()),
        ("nothing at all", vec![]),
    ] {
        let mut talk = Talk::server();
        assert_eq!(talk.hear(headers(1, ALL, &fields)), "RESET 1 PROTOCOL_ERROR", "{rule}");
        assert_eq!(talk.hear(headers(3, ALL, REQUEST)), "headers 3 of 4 end", "after {rule}");
    }
}

#[test]
fn any_cut_of_a_conversation_comes_to_the_same() {
    let said = [
        request(1),
        data(1, PADDED, b"\x02hello\0\0"),
        frame(kind::PING, 0, 0, [7; 8]),
        headers(3, 0, REQUEST),
        frame(kind::CONTINUATION, END_HEADERS, 3, []),
        data(1, END_STREAM, "!"),
        reset(3, ErrorCode::CANCEL),
        data(9, 0, "nobody's"),
    ]
    .concat();
    let whole = "headers 1 of 4, data 1 \"hello\", headers 3 of 4, data 1 \"!\" end, gone 3 CANCEL, \
                 fault PROTOCOL_ERROR, PING ACK, GOAWAY after 3 PROTOCOL_ERROR";
    assert_eq!(Talk::server().hear(&said), whole);
    for cut in 1..said.len() {
        let mut talk = Talk::server();
        let first = talk.hear(&said[..cut]);
        let words = format!("{first}, {}", talk.hear(&said[cut..]));
        let sorted = |text: &str| {
            let mut words: Vec<_> =
                text.split(", ").filter(|word| !word.is_empty()).map(String::from).collect();
            words.sort();
            words
        };
        assert_eq!(sorted(&words), sorted(whole), "cut at {cut}");
    }
}

#[test]
fn bytes_of_the_next_frame_stay_with_whoever_reads() {
    let mut talk = Talk::server();
    let mut input = BytesMut::from(&[request(1), b"\0\0".to_vec()].concat()[..]);
    assert!(talk.connection.receive(&mut input).unwrap().is_some());
    assert!(talk.connection.receive(&mut input).unwrap().is_none());
    assert_eq!(&input[..], b"\0\0");
}

//! Streams from their beginning to every end they can have, on both sides, and the connection's own end.

use bytes::{Bytes, BytesMut};

use crate::frame::{ErrorCode, StreamId, kind};
use crate::{Connection, Ending, NotOpen};

use super::wire::{
    ALL, END_HEADERS, END_STREAM, REQUEST, Talk, data, frame, headers, request, reset, settings,
    window_update,
};

const OK: &[(&str, &str)] = &[("grpc-status", "0")];

fn respond(connection: &mut Connection<u32>, stream: StreamId) {
    connection.send_headers(stream, |fields| {
        fields.known(":status", "200");
    });
}

fn open(talk: &mut Talk) -> Result<StreamId, NotOpen> {
    talk.connection.open(7, |fields| {
        fields.known(":method", "POST").known(":scheme", "http").put(":path", "/a.B/C");
    })
}

fn frames(talk: &mut Talk) -> String {
    talk.frames().join(", ")
}

#[test]
fn a_call_is_answered_and_forgotten() {
    let mut talk = Talk::server();
    talk.hear(headers(1, ALL, REQUEST));
    *talk.connection.tag(1).unwrap() = 42;
    assert!(!talk.connection.is_answered(1));
    respond(&mut talk.connection, 1);
    assert!(talk.connection.is_answered(1));
    talk.connection.send_data(1, Bytes::from("hello"));
    talk.connection.end(1, Ending::Known(OK));
    assert!(!talk.connection.is_answered(1));
    assert_eq!(frames(&mut talk), "HEADERS 1 :status=200, DATA 1 5, HEADERS 1 grpc-status=0 END");
    assert_eq!(talk.connection.tag(1), None);
    assert_eq!(talk.connection.stream_count(), 0);
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_says_that_the_rest_is_not_needed() {
    let mut talk = Talk::server();
    talk.hear(request(1));
    talk.connection.end_with_headers(1, |fields| {
        fields.known(":status", "200").put("grpc-status", "8");
    });
    assert_eq!(frames(&mut talk), "HEADERS 1 :status=200 grpc-status=8 END, RESET 1 NO_ERROR");
    // What was on its way finds nobody; trailers still keep the tables in step.
    assert_eq!(talk.hear(data(1, 0, "more")), "RESET 1 STREAM_CLOSED");
    assert_eq!(talk.hear(headers(1, ALL, &[("a", "b")])), "RESET 1 STREAM_CLOSED");
    assert_eq!(talk.hear(headers(3, ALL, REQUEST)), "headers 3 of 4 end");
}

#[test]
fn a_stream_that_is_gone_is_silent_whatever_the_user_still_does() {
    for leave in [
        |talk: &mut Talk| assert!(talk.connection.reset(1, ErrorCode::CANCEL).is_some()),
        |talk: &mut Talk| drop(talk.hear(reset(1, ErrorCode::CANCEL))),
        |talk: &mut Talk| talk.connection.end(1, Ending::Data),
    ] {
        let mut talk = Talk::server();
        talk.hear(request(1));
        leave(&mut talk);
        frames(&mut talk);
        respond(&mut talk.connection, 1);
        talk.connection.send_data(1, Bytes::from("x"));
        talk.connection.send_copied(1, b"x");
        talk.connection.release(1, 0);
        talk.connection.end(1, Ending::Known(OK));
        talk.connection.end_with_headers(1, |_| {});
        assert_eq!(talk.connection.reset(1, ErrorCode::CANCEL), None);
        assert_eq!(frames(&mut talk), "");
    }
}

#[test]
fn a_reset_from_either_side_drops_what_waits() {
    for is_ours in [true, false] {
        let mut talk = Talk::server_with(&crate::Announced::default(), &[(4, 3)]);
        talk.hear([request(1), request(3)].concat());
        for stream in [1, 3] {
            respond(&mut talk.connection, stream);
            talk.connection.send_data(stream, Bytes::from("hello"));
            talk.connection.end(stream, Ending::Known(OK));
        }
        assert_eq!(frames(&mut talk), "HEADERS 1 :status=200, DATA 1 3, HEADERS 3 :status=200, DATA 3 3");
        if is_ours {
            assert_eq!(talk.connection.reset(1, ErrorCode::INTERNAL_ERROR), Some(0));
            assert_eq!(frames(&mut talk), "RESET 1 INTERNAL_ERROR");
        } else {
            assert_eq!(talk.hear(reset(1, ErrorCode::CANCEL)), "gone 1 CANCEL");
        }
        assert_eq!(talk.connection.waiting(), 2);
        assert_eq!(talk.hear([window_update(1, 9), window_update(3, 1)].concat()), "DATA 3 1");
    }
}

#[test]
fn a_head_longer_than_a_frame_is_continued() {
    let mut talk = Talk::server();
    talk.hear(headers(1, ALL, REQUEST));
    talk.connection.end_with_headers(1, |fields| {
        fields.known(":status", "200").put("grpc-message", "x".repeat(40_000));
    });
    assert_eq!(frames(&mut talk), "HEADERS 1 16384+ END, CONTINUATION 1 16384+, CONTINUATION 1 7251");
}

#[test]
fn a_peer_that_takes_its_table_away_is_told_so_in_the_next_block_and_understands_all_that_follow() {
    let mut talk = Talk::server();
    talk.hear([request(1), request(3), request(5)].concat());
    let answer = |talk: &mut Talk, stream| {
        talk.connection.end_with_headers(stream, |fields| {
            fields.known(":status", "200").known("content-type", "application/grpc");
        });
        talk.frames().swap_remove(0)
    };
    let answered = |stream| format!("HEADERS {stream} :status=200 content-type=application/grpc END");
    assert_eq!(answer(&mut talk, 1), answered(1));
    assert_eq!(talk.hear(settings(&[(1, 0)])), "SETTINGS ACK");
    assert_eq!(answer(&mut talk, 3), answered(3));
    assert_eq!(talk.hear(settings(&[(1, 4096)])), "SETTINGS ACK");
    assert_eq!(answer(&mut talk, 5), answered(5));
}

#[test]
fn a_server_that_goes_finishes_what_it_has_begun() {
    let mut talk = Talk::server();
    talk.hear([request(1), headers(3, ALL, REQUEST)].concat());
    talk.connection.go_away(ErrorCode::NO_ERROR, "the broker is shutting down");
    talk.connection.go_away(ErrorCode::NO_ERROR, "said once");
    assert_eq!(frames(&mut talk), "GOAWAY after 3 NO_ERROR");
    assert_eq!(talk.hear(request(5)), "RESET 5 REFUSED_STREAM");
    assert_eq!(talk.hear(data(1, END_STREAM, "x")), "data 1 \"x\" end");
    talk.connection.end(1, Ending::Data);
    assert!(!talk.connection.is_done());
    talk.connection.end(3, Ending::Data);
    assert!(talk.connection.is_done());
    assert_eq!(frames(&mut talk), "DATA 1 0 END, DATA 3 0 END");
}

#[test]
fn a_fault_is_told_though_we_were_about_to_go() {
    let mut talk = Talk::server();
    talk.connection.go_away(ErrorCode::NO_ERROR, "the broker is shutting down");
    let told = "fault PROTOCOL_ERROR, GOAWAY after 0 NO_ERROR, GOAWAY after 0 PROTOCOL_ERROR";
    assert_eq!(talk.hear(data(1, 0, "x")), told);
}

#[test]
fn a_server_is_done_with_a_client_that_goes_once_its_calls_are() {
    let mut talk = Talk::server();
    talk.hear(headers(1, ALL, REQUEST));
    assert_eq!(talk.hear(frame(kind::GOAWAY, 0, 0, [0; 8])), "peer goes after 0 NO_ERROR");
    assert!(!talk.connection.is_done());
    talk.connection.end(1, Ending::Data);
    assert!(talk.connection.is_done());
}

#[test]
fn a_client_calls_and_is_answered() {
    let mut talk = Talk::client(&[]);
    assert_eq!(open(&mut talk), Ok(1));
    talk.connection.send_data(1, Bytes::from("hello"));
    talk.connection.end(1, Ending::Data);
    assert_eq!(frames(&mut talk), "HEADERS 1 :method=POST :scheme=http :path=/a.B/C, DATA 1 5, DATA 1 0 END");
    let response = headers(1, END_HEADERS, &[(":status", "200"), ("content-type", "application/grpc")]);
    assert_eq!(talk.hear([response, data(1, 0, "hi")].concat()), "headers 1 of 2, data 1 \"hi\"");
    assert_eq!(talk.hear(headers(1, ALL, OK)), "headers 1 of 1 end");
    assert_eq!(talk.connection.remove(1), Some(7));
    assert_eq!(open(&mut talk), Ok(3));
}

#[test]
fn a_client_refuses_an_answer_that_is_none() {
    for fields in
        [&[(":status", "200"), ("Capital", "1")][..], &[("x", "y"), (":status", "200")], &[("x", "y")]]
    {
        let mut talk = Talk::client(&[]);
        open(&mut talk).unwrap();
        frames(&mut talk);
        let refused = "gone 1 PROTOCOL_ERROR, RESET 1 PROTOCOL_ERROR";
        assert_eq!(talk.hear(headers(1, END_HEADERS, fields)), refused, "{fields:?}");
    }
    let mut talk = Talk::client(&[]);
    frames(&mut talk);
    let fault = "fault PROTOCOL_ERROR, GOAWAY after 0 PROTOCOL_ERROR";
    assert_eq!(talk.hear(headers(1, ALL, &[(":status", "200")])), fault, "nobody asked");
}

#[test]
fn a_client_opens_as_many_streams_as_the_server_allows() {
    let mut talk = Talk::client(&[(3, 1)]);
    assert_eq!(open(&mut talk), Ok(1));
    assert_eq!(open(&mut talk), Err(NotOpen::Full));
    assert_eq!(
        talk.hear(reset(1, ErrorCode::REFUSED_STREAM)).split(',').next(),
        Some("gone 1 REFUSED_STREAM")
    );
    assert_eq!(open(&mut talk), Ok(3));
    talk.hear(frame(kind::GOAWAY, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]));
    talk.connection.reset(3, ErrorCode::CANCEL);
    assert_eq!(open(&mut talk), Err(NotOpen::Ending));
    assert!(talk.connection.is_done());
}

#[test]
fn a_ping_is_a_question_at_a_time() {
    let mut talk = Talk::server();
    assert!(talk.connection.take_liveliness());
    assert!(!talk.connection.take_liveliness());
    assert!(talk.connection.ping());
    assert!(!talk.connection.ping());
    assert_eq!(frames(&mut talk), "PING");
    assert_eq!(talk.hear(frame(kind::PING, 1, 0, *b"ratatosk")), "");
    assert!(talk.connection.take_liveliness() && talk.connection.ping());
}

#[test]
fn memory_of_many_streams_is_given_back_though_one_stays() {
    let mut talk = Talk::server();
    for number in 0..900 {
        talk.hear(request(number * 2 + 1));
    }
    for number in 1..900 {
        talk.connection.reset(number * 2 + 1, ErrorCode::CANCEL);
    }
    talk.connection.tick();
    assert!(talk.connection.streams.capacity() < 100, "{}", talk.connection.streams.capacity());
    assert!(talk.connection.tag(1).is_some());
}

#[test]
fn streams_that_left_while_they_waited_for_their_turn_are_forgotten() {
    let mut talk = Talk::server_with(&crate::Announced::default(), &[(4, 1 << 20)]);
    talk.hear(request(1));
    talk.connection.send_data(1, Bytes::from(vec![0; 100_000]));
    frames(&mut talk);
    for number in 1..1000 {
        let stream = number * 2 + 1;
        talk.hear(request(stream));
        talk.connection.send_data(stream, Bytes::from("x"));
        talk.hear(reset(stream, ErrorCode::CANCEL));
    }
    talk.connection.tick();
    assert_eq!(talk.connection.queue.len(), 1);
    let mut input = BytesMut::from(&window_update(0, 1 << 20)[..]);
    assert_eq!(talk.connection.receive(&mut input), Ok(None));
    assert_eq!(talk.frames().len(), 3);
}

#[test]
fn a_client_that_waited_for_a_window_says_its_end_once() {
    let mut talk = Talk::client(&[(4, 3)]);
    let call = open(&mut talk).unwrap();
    talk.connection.send_data(call, Bytes::from("hello"));
    talk.connection.end(call, Ending::Data);
    talk.frames();
    assert_eq!(talk.hear(window_update(call, 9)), "DATA 1 2 END");
    assert_eq!(talk.hear(window_update(call, 9)), "");
}

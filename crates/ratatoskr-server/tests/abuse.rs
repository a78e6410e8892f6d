//! Clients by hand, of the kind that no library is: what each gets from the real server, while another client is served.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use ratatoskr_broker::{Broker, BrokerConfig, MEMORY_BYTES_MIN};
use ratatoskr_http2::hpack::Fields;
use ratatoskr_http2::raw::{self, flag, kind};
use ratatoskr_http2::{ErrorCode, limits::NUISANCES_PER_TICK_MAX};
use ratatoskr_proto::{CreateSubscriptionRequest, PeekSubscriptionRequest, SubscriptionName};
use ratatoskr_server::ClientLimits;
use support::hand::{ALL, Hand, data, head, value};
use support::{Fixture, PATIENCE, create, publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// What a server on one thread says last to a client that floods it, while another client publishes.
async fn flood(first: Vec<u8>, make: impl Fn(u32) -> Vec<u8>) -> (ErrorCode, String) {
    let fixture = Fixture::start_on_one_thread();
    let mut bystander = fixture.client().await;
    create(&mut bystander, "orders").await;
    let mut hand = Hand::greeted(&fixture, &[]).await;
    hand.say(first).await;
    let (mut reader, mut writer) = hand.socket.into_split();
    let flood: Vec<u8> = (1..NUISANCES_PER_TICK_MAX + 1000).flat_map(make).collect();
    let writing = tokio::spawn(async move {
        // Again and again, until the server has had enough: a second may pass between.
        while writer.write_all(&flood).await.is_ok() {}
    });
    let mut said = Vec::new();
    let reading = reader.read_to_end(&mut said);
    tokio::pin!(reading);
    loop {
        tokio::select! {
            ended = timeout(PATIENCE, &mut reading) => {
                // A reset after the farewell is the flood's own doing.
                drop(ended.expect("the flood goes on for ever"));
                break;
            }
            response = publish(&mut bystander, "orders", "served") => drop(response),
        }
    }
    writing.await.unwrap();
    publish(&mut bystander, "orders", "served still").await;
    let mut said = BytesMut::from(&said[..]);
    let mut farewell = None;
    while let Some(frame) = raw::take_frame(&mut said) {
        if frame.kind == kind::GOAWAY {
            let code = u32::from_be_bytes(*frame.payload[4..].first_chunk().unwrap());
            farewell = Some((ErrorCode(code), String::from_utf8_lossy(&frame.payload[8..]).into_owned()));
        }
    }
    farewell.expect("the reason arrives before the connection is closed")
}

#[tokio::test]
async fn floods_of_no_use_are_ended_in_words_while_others_are_served() {
    let calm = ErrorCode::ENHANCE_YOUR_CALM;
    let (code, reason) = flood(vec![], |number| {
        let stream = number * 2 - 1;
        [head(stream, "TopicExists", &[]), raw::reset(stream, ErrorCode::CANCEL)].concat()
    })
    .await;
    assert_eq!(
        (code, reason.as_str()),
        (calm, "too many frames of no use: pings, settings, resets, empty data")
    );
    let (code, _) = flood(vec![], |_| raw::frame(kind::PING, 0, 0, [0; 8])).await;
    assert_eq!(code, calm);
    let (code, _) = flood(head(1, "PublishStream", &[]), |_| data(1, 0, &[])).await;
    assert_eq!(code, calm);
}

#[tokio::test]
async fn a_header_block_without_end_is_ended_in_words() {
    let first = raw::frame(kind::HEADERS, 0, 1, []);
    let (code, reason) = flood(first, |_| raw::frame(kind::CONTINUATION, 0, 1, [0; 1000])).await;
    assert_eq!(
        (code, reason.as_str()),
        (ErrorCode::ENHANCE_YOUR_CALM, "a header block has more than 64 KiB")
    );
}

#[tokio::test]
async fn http_1_is_answered_in_its_own_words_alone() {
    let fixture = Fixture::start();
    let mut hand = Hand::connect(&fixture).await;
    // A server that speaks first would spoil the answer.
    assert!(timeout(std::time::Duration::from_millis(50), hand.socket.readable()).await.is_err());
    hand.say("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut said = String::new();
    timeout(PATIENCE, hand.socket.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(
        said.starts_with("HTTP/1.1 400 Bad Request\r\n") && said.contains("This port speaks gRPC"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_words() {
    let fixture = Fixture::start();
    for hello in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0", b"hello"]
    {
        let mut hand = Hand::connect(&fixture).await;
        hand.say(hello).await;
        assert_eq!(hand.farewell().await, (ErrorCode::PROTOCOL_ERROR, "this is no HTTP/2".into()));
    }
}

#[tokio::test]
async fn a_fault_is_told_though_much_more_was_sent() {
    let fixture = Fixture::start();
    let mut hand = Hand::greeted(&fixture, &[]).await;
    let rest = data(1, 0, &vec![0; 60_000]).repeat(20);
    hand.say([raw::frame(kind::PING, 0, 0, [0; 7]), rest].concat()).await;
    assert_eq!(hand.farewell().await, (ErrorCode::FRAME_SIZE_ERROR, "PING has not 8 bytes".into()));
}

#[tokio::test]
async fn a_deadline_that_is_over_before_the_head_went_out_is_answered_with_a_head() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let mut hand = Hand::greeted(&fixture, &[]).await;
    let name = ratatoskr_proto::SubscriptionName { topic: "orders".into(), subscription: "work".into() };
    let pull = ratatoskr_proto::PullRequest { name: Some(name), wait_ms: 10_000, ..Default::default() };
    let request = support::grpc_message(&pull);
    hand.say([head(1, "Pull", &[("grpc-timeout", "20m")]), data(1, flag::END_STREAM, &request)].concat())
        .await;
    let (fields, is_end) = hand.headers(1).await;
    assert!(is_end);
    assert_eq!(
        (value(&fields, ":status"), value(&fields, "grpc-status")),
        (Some("200"), Some("4")),
        "{fields:?}"
    );
}

#[tokio::test]
async fn compressed_requests_are_refused_in_words_and_lying_lengths_at_their_prefix() {
    let fixture = Fixture::start();
    let mut hand = Hand::greeted(&fixture, &[]).await;
    let bomb = [1, 0, 0, 0, 4, 0x1f, 0x8b, 8, 0];
    for (stream, method) in [(1, "Publish"), (3, "TopicExists")] {
        let gzip = [("grpc-encoding", "gzip")];
        hand.say([head(stream, method, &gzip), data(stream, flag::END_STREAM, &bomb)].concat()).await;
        let (fields, _) = hand.headers(stream).await;
        assert_eq!(value(&fields, "grpc-status"), Some("12"), "{method}: {fields:?}");
    }
    for (stream, method) in [(5, "Publish"), (7, "PublishStream"), (9, "TopicExists")] {
        hand.say([head(stream, method, &[]), data(stream, 0, &[0, 0xff, 0xff, 0xff, 0xff])].concat()).await;
        let (mut fields, mut is_end) = hand.headers(stream).await;
        if !is_end {
            (fields, is_end) = hand.headers(stream).await;
        }
        assert!(is_end);
        assert_eq!(value(&fields, "grpc-status"), Some("11"), "{method}: {fields:?}");
    }
}

#[tokio::test]
async fn requests_that_are_never_whole_are_refused_once_a_connection_has_begun_too_many() {
    let fixture = Fixture::start();
    let part = vec![0; 16_384];
    for method in ["Publish", "PublishStream", "Settle"] {
        let mut hand = Hand::greeted(&fixture, &[]).await;
        let mut refused = None;
        'streams: for number in 0..400 {
            let stream = number * 2 + 1;
            let opening = [0, 1, 0, 0, 0];
            hand.say(
                [head(stream, method, &[]), data(stream, 0, &opening), data(stream, 0, &part).repeat(50)]
                    .concat(),
            )
            .await;
            hand.say(raw::frame(kind::PING, 0, 0, [0; 8])).await;
            loop {
                let frame = hand.frame().await.unwrap();
                let is_refusal = frame.kind == kind::HEADERS && frame.flags & ALL == ALL;
                if frame.kind == kind::HEADERS {
                    let mut fields = Fields::new(1 << 16);
                    hand.decoder.decode(&frame.payload, &mut fields).unwrap();
                    let status = fields.iter().find(|(name, _)| *name == b"grpc-status");
                    if is_refusal && status.is_some_and(|(_, value)| value == b"8") {
                        refused = Some(number);
                        break 'streams;
                    }
                }
                if frame.kind == kind::PING {
                    break;
                }
            }
        }
        // 68 MiB in pieces of 800 KiB.
        assert!(refused.is_some_and(|number| (85..100).contains(&number)), "{method}: {refused:?}");
        // The rest of the connection is sound.
        let request = support::grpc_message(&support::message("orders", "x"));
        hand.say([head(2001, "Publish", &[]), data(2001, flag::END_STREAM, &request)].concat()).await;
        let (fields, _) = hand.headers(2001).await;
        assert_eq!(value(&fields, ":status"), Some("200"));
    }
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_does_not_concern_others() {
    let fixture = Fixture::start_on_one_thread();
    let mut bystander = fixture.client().await;
    create(&mut bystander, "orders").await;
    for _ in 0..4 {
        publish(&mut bystander, "orders", &"x".repeat(500_000)).await;
    }
    // Windows of a byte, never updated: each answer waits for ever.
    let mut hand = Hand::greeted(&fixture, &[(4, 1)]).await;
    let subscribe = ratatoskr_proto::SubscribeRequest {
        topic: "orders".into(),
        start: Some(ratatoskr_proto::StartPosition {
            position: Some(ratatoskr_proto::start_position::Position::Earliest(true)),
        }),
        ..Default::default()
    };
    let request = support::grpc_message(&subscribe);
    for number in 0..200 {
        let stream = number * 2 + 1;
        hand.say([head(stream, "Subscribe", &[]), data(stream, flag::END_STREAM, &request)].concat()).await;
    }
    hand.headers(399).await;
    for _ in 0..20 {
        publish(&mut bystander, "orders", "served").await;
    }
    drop(hand);
    // Its subscriptions end with it.
    let mut stats = fixture.page("/metrics").await;
    while !stats.lines().any(|line| line.starts_with("ratatoskr_topic_subscribers") && line.ends_with(" 0")) {
        publish(&mut bystander, "orders", "served").await;
        stats = fixture.page("/metrics").await;
    }
}

#[tokio::test]
async fn a_stream_that_ended_while_its_window_was_shut_takes_no_further_steps() {
    let fixture = Fixture::start_on_one_thread();
    let mut bystander = fixture.client().await;
    create(&mut bystander, "orders").await;
    let mut hand = Hand::greeted(&fixture, &[(4, 0)]).await;
    let step = |sequence: u64, topic: &str| {
        support::grpc_message(&ratatoskr_proto::PublishStreamRequest {
            sequence,
            topic: topic.into(),
            messages: vec![support::message("", "x")],
        })
    };
    // Answered, but the answer waits; then what is no request, which ends the stream; then more.
    let said = [step(1, "orders"), vec![0, 0, 0, 0, 1, 0xff], step(2, "orders")].concat();
    hand.say([head(1, "PublishStream", &[]), data(1, 0, &said)].concat()).await;
    let (_, is_end) = hand.headers(1).await;
    assert!(!is_end);
    hand.say(data(1, 0, &step(3, "orders"))).await;
    // The window opens: the answer to the first step, and the end.
    hand.say(raw::window_update(1, 1 << 20)).await;
    let (trailers, is_end) = hand.headers(1).await;
    assert!(is_end && value(&trailers, "grpc-status") != Some("0"), "{trailers:?}");
    let describe = ratatoskr_proto::DescribeTopicRequest { name: "orders".into() };
    let topic = bystander.describe_topic(describe).await.unwrap().into_inner().topic.unwrap();
    assert_eq!(topic.message_count, 1);
    publish(&mut bystander, "orders", "served").await;
}

/// Begins a publish of 1 MiB on a stream of its own, and sends 10 KiB of it.
/// A message as gRPC frames it.
fn framed(message: &impl prost::Message) -> Vec<u8> {
    [&[0][..], &(message.encoded_len() as u32).to_be_bytes(), &message.encode_to_vec()].concat()
}

#[tokio::test]
async fn answers_nobody_reads_are_refused_before_they_are_made() {
    let fixture = Fixture::start_with(|options| options.callers_memory = 8 << 20);
    let mut client = fixture.client_from(2).await;
    publish(&mut client, "orders", &"x".repeat(900_000)).await;
    let name = SubscriptionName { topic: "orders".into(), subscription: "billing".into() };
    let create = CreateSubscriptionRequest { name: Some(name.clone()), ..Default::default() };
    client.create_subscription(create).await.unwrap();
    let peek = framed(&PeekSubscriptionRequest { name: Some(name), messages_max: 1, from_offset: 0 });
    let mut hand = Hand::greeted(&fixture, &[(4, 0)]).await;
    // Let in one by one; they end together.
    let (first, last) = peek.split_at(peek.len() - 1);
    for stream in (1..20).step_by(2) {
        hand.say([head(stream, "PeekSubscription", &[]), data(stream, 0, first)].concat()).await;
    }
    let ends = (1..20).step_by(2).flat_map(|stream| data(stream, flag::END_STREAM, last));
    hand.say(ends.collect::<Vec<_>>()).await;
    let (mut answers, mut refusals) = (0, 0);
    while answers < 10 {
        let heard = hand.frame().await.expect("the server has closed");
        answers += u32::from(heard.kind == kind::HEADERS);
        refusals += u32::from(heard.kind == kind::HEADERS && heard.flags & flag::END_STREAM != 0);
    }
    // Half of 8 MiB holds one that is being made, and four that are.
    assert!((5..=9).contains(&refusals), "{refusals}");
    let counted = format!("ratatoskr_calls_without_memory_total {refusals}\n");
    assert!(fixture.page("/metrics").await.contains(&counted));
}

fn beginning_of_a_request(stream: u32) -> Vec<u8> {
    let prefix = [&[0][..], &(1_u32 << 20).to_be_bytes()].concat();
    [head(stream, "Publish", &[]), data(stream, 0, &[&prefix[..], &[b'x'; 10 << 10]].concat())].concat()
}

#[tokio::test]
async fn who_hoards_requests_is_refused_more_and_closed_if_it_does_not_move() {
    let fixture = Fixture::start_with(|options| options.callers_memory = 8 << 20);
    let mut bystander = fixture.client_from(2).await;
    let mut hand = Hand::greeted(&fixture, &[]).await;
    // Half of 8 MiB is its share: the beginnings of some 230 requests.
    for number in 0..400 {
        hand.say(beginning_of_a_request(number * 2 + 1)).await;
    }
    let (refused, is_end) = hand.headers(799).await;
    assert_eq!((value(&refused, "grpc-status"), is_end), (Some("8"), true), "{refused:?}");
    assert!(value(&refused, "grpc-message").unwrap().contains("client_memory_max"), "{refused:?}");
    let began = Instant::now();
    publish(&mut bystander, "orders", "served").await;
    while hand.frame().await.is_some() {}
    assert!(began.elapsed() > Duration::from_secs(5), "at once, without giving it time");
    publish(&mut bystander, "orders", "served still").await;
    let metrics = fixture.page("/metrics").await;
    assert!(metrics.contains("ratatoskr_grpc_connections_stuck_total 1\n"), "{metrics}");
    // What it held is there for others.
    let mut same = fixture.client_from(1).await;
    publish(&mut same, "orders", &"x".repeat(1 << 20)).await;
}

#[tokio::test]
async fn frames_that_never_end_are_not_waited_for_once_memory_is_used_up() {
    let fixture = Fixture::start_with(|options| options.callers_memory = 4 << 20);
    let mut bystander = fixture.client_from(2).await;
    let frame = data(1, 0, &vec![0; 60 << 10]);
    let mut hands = Vec::new();
    for _ in 0..200 {
        let mut hand = Hand::greeted(&fixture, &[]).await;
        // Its settings: it has let this one in.
        hand.frame().await.expect("the server has closed");
        hands.push(hand);
    }
    for hand in &mut hands {
        hand.say(&frame[..58 << 10]).await;
    }
    // Those that are still waited for say nothing more: all are listened to together.
    let listening = hands.iter_mut().map(|hand| async {
        let mut is_calmed = false;
        while let Ok(Some(frame)) = timeout(Duration::from_secs(3), hand.try_frame()).await {
            is_calmed |= frame.kind == kind::GOAWAY;
        }
        is_calmed
    });
    let calmed = futures_util::future::join_all(listening).await;
    let ended = calmed.into_iter().filter(|is_calmed| *is_calmed).count();
    // Half of 4 MiB holds some 20 of them, beside the connections themselves.
    assert!((100..=190).contains(&ended), "{ended}");
    publish(&mut bystander, "orders", "served").await;
}

#[tokio::test]
async fn a_connection_too_many_is_closed_though_it_never_calls() {
    let limits = ClientLimits { connections_max: Some(1), ..ClientLimits::default() };
    let fixture = Fixture::start_with(|options| options.client_limits = limits);
    let _first = Hand::greeted(&fixture, &[]).await;
    let mut second = Hand::greeted(&fixture, &[]).await;
    for _ in 0..15 {
        // Pings are no reason to stay.
        second.say(raw::frame(kind::PING, 0, 0, [0; 8])).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    while second.try_frame().await.is_some() {}
}

#[tokio::test]
async fn a_publish_that_is_reset_while_the_inbox_is_full_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let config = BrokerConfig { memory: MEMORY_BYTES_MIN, ..BrokerConfig::new(folder.path()) };
    let fixture = Fixture::serve(Broker::open(config).unwrap(), folder, |options| options.threads = 1);
    let request = support::grpc_message(&support::message("orders", vec![7; 15 << 10]));
    let mut hand = Hand::greeted(&fixture, &[]).await;
    for number in 0..1500 {
        let stream = number * 2 + 1;
        let call = [head(stream, "Publish", &[]), data(stream, flag::END_STREAM, &request)];
        hand.say([&call.concat()[..], &raw::reset(stream, ErrorCode::CANCEL)].concat()).await;
    }
    drop(hand);
    fixture.until_nothing_is_held().await;
}

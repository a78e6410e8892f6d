//! Attacks by repetition: the same again, as fast as it is taken, on a new connection whenever one is closed.

use std::collections::BTreeMap;
use std::time::Instant;

use ratatoskr_http2::ErrorCode;
use ratatoskr_http2::hpack::Encoder;
use ratatoskr_http2::raw::{self, flag, kind};

use crate::failed::Outcome;

use super::assailant::{Assailant, REQUEST, Said, head, message};
use super::attacks::{Arena, Fought};

/// Said in one go.
const BATCH: u32 = 200;
const ALL: u8 = flag::END_HEADERS | flag::END_STREAM;
/// Whoever says more than so many that are no calls, which are answered, is told to stop.
const NUISANCES_MAX: u64 = 60_000;
/// So many client streams are never used up.
const STREAMS_MAX: u32 = 1 << 29;

fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Says `first` on each connection, and then what `make` says to a number that counts up from 1.
fn flood(arena: &Arena, what: &str, first: &[u8], make: impl Fn(u32) -> Vec<u8>) -> Outcome<Fought> {
    let began = Instant::now();
    let (mut connections, mut units, mut bytes) = (0_u64, 0_u64, 0_u64);
    let mut farewells: BTreeMap<String, u64> = BTreeMap::new();
    let mut answers = [0_u64; 2];
    while began.elapsed() < arena.lasts {
        let mut assailant = Assailant::connect(arena.address, &[])?;
        connections += 1;
        assailant.say(first);
        let mut number = 1;
        while began.elapsed() < arena.lasts && number < STREAMS_MAX {
            let batch: Vec<u8> = (number..number + BATCH).flat_map(&make).collect();
            if assailant.say(&batch) == Said::Closed {
                break;
            }
            number += BATCH;
            bytes += batch.len() as u64;
        }
        units += u64::from(number - 1);
        if began.elapsed() < arena.lasts {
            // It has been closed; the reason may still be on its way.
            let closed = Instant::now();
            while !assailant.ear.is_closed() && closed.elapsed().as_secs() < 2 {
                std::thread::yield_now();
            }
            let farewell =
                assailant.ear.farewell().map_or("no reason heard".into(), |code| format!("{code:?}"));
            *farewells.entry(farewell).or_default() += 1;
        }
        for (sum, kind) in answers.iter_mut().zip([kind::HEADERS, kind::RST_STREAM]) {
            *sum += assailant.ear.frames(kind);
        }
    }
    let mut outcome: Vec<_> = farewells.iter().map(|(reason, times)| format!("{times} × {reason}")).collect();
    outcome.push(format!("{} answers, {} resets", count(answers[0]), count(answers[1])));
    let tried = format!("{} {what}, {} MB, {connections} connections", count(units), bytes / 1_000_000);
    let mut broken = Vec::new();
    if farewells.is_empty() && units > NUISANCES_MAX && answers[0] < units / 2 {
        broken.push(format!("{} {what}, and nobody was told to stop", count(units)));
    }
    Ok(Fought { tried, outcome: outcome.join("; "), broken, ..Fought::default() })
}

fn stream(number: u32) -> u32 {
    number * 2 + 1
}

pub(super) fn rapid_reset(arena: &Arena) -> Outcome<Fought> {
    flood(arena, "requests", &[], |number| {
        let request = raw::frame(kind::HEADERS, flag::END_HEADERS, stream(number), raw::block(REQUEST));
        [request, raw::reset(stream(number), ErrorCode::CANCEL)].concat()
    })
}

pub(super) fn made_to_reset(arena: &Arena) -> Outcome<Fought> {
    flood(arena, "requests", &[], |number| {
        let trailers =
            raw::frame(kind::HEADERS, flag::END_HEADERS, stream(number), raw::block(&[("a", "b")]));
        [head(stream(number), "TopicExists"), trailers].concat()
    })
}

pub(super) fn malformed(arena: &Arena) -> Outcome<Fought> {
    let block = raw::block(&[(":method", "POST"), ("Capital", "1")]);
    flood(arena, "requests", &[], |number| raw::frame(kind::HEADERS, ALL, stream(number), &block))
}

pub(super) fn continuation(arena: &Arena) -> Outcome<Fought> {
    let part = raw::frame(kind::CONTINUATION, 0, 1, vec![0; 16_384]);
    flood(arena, "frames", &raw::frame(kind::HEADERS, 0, 1, []), |_| part.clone())
}

pub(super) fn empty_continuation(arena: &Arena) -> Outcome<Fought> {
    let part = raw::frame(kind::CONTINUATION, 0, 1, []);
    flood(arena, "frames", &raw::frame(kind::HEADERS, 0, 1, []), |_| part.clone())
}

/// A name of 4,000 bytes in the table, and then so many fields of three bytes that each insert it anew.
pub(super) fn bomb(times: usize) -> Vec<u8> {
    let mut block = bytes::BytesMut::new();
    let mut encoder = Encoder::new();
    for (name, value) in REQUEST {
        encoder.put(name.as_bytes(), value.as_bytes(), &mut block);
    }
    encoder.put_known(&[b'n'; 4000], b"", &mut block);
    for _ in 0..times {
        block.extend_from_slice(&[0x7e, 1, b'v']);
    }
    block.to_vec()
}

pub(super) fn bombs(arena: &Arena) -> Outcome<Fought> {
    let block = bomb(15_000);
    flood(arena, "blocks", &[], |number| raw::frame(kind::HEADERS, ALL, stream(number), &block))
}

pub(super) fn small_bombs(arena: &Arena) -> Outcome<Fought> {
    let block = bomb(30);
    flood(arena, "blocks", &[], |number| raw::frame(kind::HEADERS, ALL, stream(number), &block))
}

fn same(arena: &Arena, frame: Vec<u8>) -> Outcome<Fought> {
    flood(arena, "frames", &head(1, "PublishStream"), move |_| frame.clone())
}

pub(super) fn pings(arena: &Arena) -> Outcome<Fought> {
    same(arena, raw::frame(kind::PING, 0, 0, [0; 8]))
}

pub(super) fn settings(arena: &Arena) -> Outcome<Fought> {
    same(arena, raw::settings(&[]))
}

pub(super) fn empty_data(arena: &Arena) -> Outcome<Fought> {
    same(arena, raw::frame(kind::DATA, 0, 1, []))
}

pub(super) fn priorities(arena: &Arena) -> Outcome<Fought> {
    same(arena, raw::frame(kind::PRIORITY, 0, 1, [0; 5]))
}

pub(super) fn window_updates(arena: &Arena) -> Outcome<Fought> {
    same(arena, raw::window_update(0, 1))
}

pub(super) fn unknown(arena: &Arena) -> Outcome<Fought> {
    same(arena, raw::frame(0x20, 0, 0, []))
}

pub(super) fn window_settings(arena: &Arena) -> Outcome<Fought> {
    let streams: Vec<u8> = (0..1000).flat_map(|number| head(stream(number), "PublishStream")).collect();
    let changes: Vec<_> = (0..10_000).map(|change| (4, 60_000 + change % 2)).collect();
    let frame = raw::settings(&changes);
    flood(arena, "frames", &streams, move |_| frame.clone())
}

pub(super) fn noise(arena: &Arena) -> Outcome<Fought> {
    flood(arena, "pieces", &[], |_| std::iter::repeat_with(|| fastrand::u8(..)).take(100).collect())
}

/// Bytes instead of a preface, on one connection after the other.
fn foreign(arena: &Arena, hello: &[u8]) -> Outcome<Fought> {
    let began = Instant::now();
    let (mut connections, mut closed) = (0, 0);
    while began.elapsed() < arena.lasts {
        let mut assailant = Assailant::mute(arena.address)?;
        assailant.say(hello);
        assailant.listen()?;
        let said = Instant::now();
        while !assailant.ear.is_closed() && said.elapsed().as_secs() < 2 {
            std::thread::yield_now();
        }
        connections += 1;
        closed += u64::from(assailant.ear.is_closed());
    }
    let broken = if closed == connections { vec![] } else { vec!["a connection was left open".into()] };
    Ok(Fought {
        tried: format!("{} connections", count(connections)),
        outcome: format!("{} closed", count(closed)),
        broken,
        ..Fought::default()
    })
}

pub(super) fn http1(arena: &Arena) -> Outcome<Fought> {
    foreign(arena, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

pub(super) fn tls(arena: &Arena) -> Outcome<Fought> {
    foreign(arena, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03")
}

pub(super) fn compressed(arena: &Arena) -> Outcome<Fought> {
    let fields = [REQUEST, &[("grpc-encoding", "gzip")]].concat();
    let block = raw::block(&fields);
    let message = [&[1][..], &message(&[0x1f; 1000])[1..]].concat();
    flood(arena, "calls", &[], |number| {
        let head = raw::frame(kind::HEADERS, flag::END_HEADERS, stream(number), &block);
        [head, raw::frame(kind::DATA, flag::END_STREAM, stream(number), &message)].concat()
    })
}

/// Says the same to a server whose answers are not read, until the time is over.
fn deaf(arena: &Arena, make: impl Fn(u32) -> Vec<u8>) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailant = Assailant::deaf(arena.address, &[])?;
    let (mut number, mut bytes) = (1, 0);
    let mut said = Said::Taken;
    while began.elapsed() < arena.lasts {
        if said != Said::Taken {
            std::thread::yield_now();
            continue;
        }
        let batch: Vec<u8> = (number..number + BATCH).flat_map(&make).collect();
        said = assailant.say(&batch);
        number += BATCH;
        bytes += batch.len();
    }
    let outcome = match said {
        Said::Taken => "all of it taken",
        Said::Blocked => "not heard any more",
        Said::Closed => "closed",
    };
    let tried = format!("{} frames, {} MB", count(number.into()), bytes / 1_000_000);
    Ok(Fought { tried, outcome: outcome.into(), ..Fought::default() })
}

pub(super) fn deaf_pings(arena: &Arena) -> Outcome<Fought> {
    // A nuisance is none below 20,000 a second: this is as fast as it is taken, so the connection is ended, or stalls before.
    deaf(arena, |_| raw::frame(kind::PING, 0, 0, [0; 8]))
}

pub(super) fn deaf_publishing(arena: &Arena) -> Outcome<Fought> {
    let request = message(b"\x0a\x01t\x12\x01x");
    deaf(arena, |number| {
        [head(stream(number), "Publish"), raw::frame(kind::DATA, flag::END_STREAM, stream(number), &request)]
            .concat()
    })
}

//! Attacks by persistence: much is begun and nothing ended.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ratatoskr_http2::raw::{self, flag, kind};
use ratatoskr_proto::PublishRequest;
use ratatoskr_proto::message_broker_client::MessageBrokerClient;

use crate::broker_process::get;
use crate::failed::{Failed, Outcome, While as _};

use super::assailant::{Assailant, REQUEST, Said, head, message};
use super::attacks::{Arena, Fought};
use super::floods::bomb;

/// Keeps connections open until the time is over, and asks how they are.
fn hold(arena: &Arena, began: Instant, assailants: &[Assailant]) -> Fought {
    while began.elapsed() < arena.lasts {
        std::thread::sleep(Duration::from_millis(5));
    }
    let sum = |kind| assailants.iter().map(|assailant| assailant.ear.frames(kind)).sum::<u64>();
    let closed = assailants.iter().filter(|assailant| assailant.ear.is_closed()).count();
    let farewell = assailants.iter().find_map(|assailant| assailant.ear.farewell());
    let farewell = farewell.map_or_else(String::new, |code| format!(" ({code:?})"));
    let outcome = format!(
        "{} answers, {} resets; {closed} of {} connections closed{farewell}",
        sum(kind::HEADERS),
        sum(kind::RST_STREAM),
        assailants.len()
    );
    Fought { outcome, closed, ..Fought::default() }
}

pub(super) fn nothing(arena: &Arena) -> Fought {
    hold(arena, Instant::now(), &[])
}

fn fought(tried: impl Into<String>, held: Fought) -> Fought {
    Fought { tried: tried.into(), ..held }
}

pub(super) fn cut_requests(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailant = Assailant::connect(arena.address, &[])?;
    let opening = [&[0][..], &(16_u32 << 20).to_be_bytes()].concat();
    for number in 0..1000 {
        let method = if number % 2 == 0 { "Publish" } else { "TopicExists" };
        let opened = [head(number * 2 + 1, method), raw::frame(kind::DATA, 0, number * 2 + 1, &opening)];
        assailant.say(&opened.concat());
    }
    // As much as the windows allow, over and over: it counts no updates, and sends what would be lawful if all were given back.
    let part = vec![b'x'; 16_384];
    let mut bytes = 0_u64;
    'sending: for _ in 0..60 {
        for number in 0..1000 {
            if began.elapsed() > arena.lasts
                || assailant.say(&raw::frame(kind::DATA, 0, number * 2 + 1, &part)) != Said::Taken
            {
                break 'sending;
            }
            bytes += part.len() as u64;
        }
    }
    let tried = format!("{} MB", bytes / 1_000_000);
    Ok(fought(tried, hold(arena, began, &[assailant])))
}

/// 16 connections an address, or 64 from one; each begins requests of 16 MiB, and sends a quarter of each.
pub(super) fn hoard(arena: &Arena, addresses: u8) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailants = Vec::new();
    for number in 0..64 {
        assailants.push(Assailant::connect_from(2 + number % addresses, arena.address)?);
    }
    let opening = [&[0][..], &(16_u32 << 20).to_be_bytes()].concat();
    let part = raw::frame(kind::DATA, 0, 1, vec![b'x'; 16_384]);
    let mut bytes = 0_u64;
    for round in 0..4 {
        for assailant in &mut assailants {
            let stream = round * 2 + 1;
            assailant.say(&[head(stream, "Publish"), raw::frame(kind::DATA, 0, stream, &opening)].concat());
            let part = raw::frame(kind::DATA, 0, stream, &part[9..]);
            let parts = (0..256).take_while(|_| assailant.say(&part) == Said::Taken).count();
            bytes += parts as u64 * 16_384;
        }
    }
    Ok(fought(format!("{} MB", bytes / 1_000_000), hold(arena, began, &assailants)))
}

pub(super) fn lying_lengths(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailant = Assailant::connect(arena.address, &[])?;
    for number in 0..20_000 {
        let method = if number % 2 == 0 { "Publish" } else { "TopicExists" };
        let opened = [
            head(number * 2 + 1, method),
            raw::frame(kind::DATA, 0, number * 2 + 1, [0, 0xff, 0xff, 0xff, 0xff]),
        ];
        assailant.say(&opened.concat());
    }
    Ok(fought("20,000 calls", hold(arena, began, &[assailant])))
}

pub(super) fn crumbs(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailant = Assailant::connect(arena.address, &[])?;
    // A message that does not end, on a stream of which each byte comes alone.
    assailant.say(&[head(1, "Settle"), raw::frame(kind::DATA, 0, 1, [0, 0, 0x10, 0, 0])].concat());
    let crumb = raw::frame(kind::DATA, 0, 1, b"x");
    let mut crumbs = 0_u64;
    while began.elapsed() < arena.lasts && assailant.say(&crumb) == Said::Taken {
        crumbs += 1;
    }
    Ok(fought(format!("{crumbs} frames of a byte"), hold(arena, began, &[assailant])))
}

/// Topics with messages, for those who read them and do not.
pub(super) fn large_messages(arena: &Arena) -> Outcome {
    fill(arena, "large", 8, 900_000)
}

pub(super) fn many_large_messages(arena: &Arena) -> Outcome {
    fill(arena, "many", 120, 32_000)
}

fn fill(arena: &Arena, topic: &str, count: usize, bytes: usize) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failed::new(error.to_string()))?;
    runtime.block_on(async {
        let failed = |error: &dyn std::fmt::Display| Failed::new(error.to_string());
        let mut client =
            MessageBrokerClient::connect(arena.uri.clone()).await.map_err(|error| failed(&error))?;
        for _ in 0..count {
            let payload = vec![b'x'; bytes].into();
            let message = PublishRequest { topic: topic.into(), payload, ..PublishRequest::default() };
            client.publish(message).await.map_err(|error| failed(&error))?;
        }
        Ok(())
    })
}

pub(super) fn shut_windows(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    // INITIAL_WINDOW_SIZE 1
    let mut assailant = Assailant::connect(arena.address, &[(4, 1)])?;
    // topic "large", start: earliest
    let subscribe = message(b"\x0a\x05large\x1a\x02\x10\x01");
    for number in 0..1000 {
        let stream = number * 2 + 1;
        let call = [head(stream, "Subscribe"), raw::frame(kind::DATA, flag::END_STREAM, stream, &subscribe)]
            .concat();
        assailant.say(&call);
    }
    Ok(fought("1,000 calls", hold(arena, began, &[assailant])))
}

/// Each asks for the messages from another place on, and gives no room to send them.
pub(super) fn scattered_readers(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    // INITIAL_WINDOW_SIZE 0
    let mut assailant = Assailant::connect(arena.address, &[(4, 0)])?;
    for number in 0..900 {
        // topic "many", start: offset
        let start = [0x18, (number % 100) as u8];
        let subscribe = [field(1, b"many"), field(3, &start)].concat();
        let stream = number * 2 + 1;
        assailant.say(&[head(stream, "Subscribe"), last(stream, &message(&subscribe))].concat());
    }
    Ok(fought("900 calls", hold(arena, began, &[assailant])).has_to_close())
}

/// All but the last byte of many calls, and then the last bytes.
pub(super) fn lists_at_once(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    // name { topic "many", subscription "s" }, messages_max 1,000
    let name = [field(1, b"many"), field(2, b"s")].concat();
    let peek = message(&[field(1, &name), vec![0x10, 0xe8, 0x07]].concat());
    let (first, rest) = peek.split_at(peek.len() - 1);
    let mut assailants = Vec::new();
    for _ in 0..40 {
        let mut assailant = Assailant::connect(arena.address, &[(4, 0)])?;
        if assailants.is_empty() {
            let create = message(&field(1, &name));
            assailant.say(&[head(25, "CreateSubscription"), last(25, &create)].concat());
            std::thread::sleep(Duration::from_millis(200));
        }
        for number in 0..12 {
            let stream = number * 2 + 31;
            assailant
                .say(&[head(stream, "PeekSubscription"), raw::frame(kind::DATA, 0, stream, first)].concat());
        }
        assailants.push(assailant);
    }
    for assailant in &mut assailants {
        let rests: Vec<_> = (0..12).flat_map(|number| last(number * 2 + 31, rest)).collect();
        assailant.say(&rests);
    }
    Ok(fought("480 calls", hold(arena, began, &assailants)))
}

/// The end of a call's request.
fn last(stream: u32, bytes: &[u8]) -> Vec<u8> {
    raw::frame(kind::DATA, flag::END_STREAM, stream, bytes)
}

pub(super) fn many_streams(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailant = Assailant::connect(arena.address, &[])?;
    // The first puts the name into the table; those after it cost a few bytes each.
    assailant.say(&raw::frame(kind::HEADERS, flag::END_HEADERS, 1, bomb(1)));
    let path = [(":path", "/ratatoskr.MessageBroker/Consume")];
    let fields: Vec<_> =
        REQUEST.iter().map(|field| if field.0 == ":path" { path[0] } else { *field }).collect();
    let mut block = raw::block(&fields);
    block.extend_from_slice(&[0xbe, 0xbe, 0xbe]);
    let mut streams = 1;
    for number in 1..100_000 {
        if assailant.say(&raw::frame(kind::HEADERS, flag::END_HEADERS, number * 2 + 1, &block)) != Said::Taken
        {
            break;
        }
        streams += 1;
    }
    Ok(fought(format!("{streams} streams"), hold(arena, began, &[assailant])))
}

/// Four addresses open streams, on two connections each, and let them be.
pub(super) fn idle_streams(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailants = Vec::new();
    for number in 0..8 {
        let mut assailant = Assailant::connect_from(2 + number % 4, arena.address)?;
        for number in 0..1000 {
            assailant.say(&head(number * 2 + 1, "PublishStream"));
        }
        assailants.push(assailant);
    }
    Ok(fought("8,000 streams", hold(arena, began, &assailants)).has_to_close())
}

/// Steps of consumers that would be eight million settlements each.
pub(super) fn many_values(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailants = Vec::new();
    let settle = field(3, &b"\x1a\x00".repeat(8 << 20));
    let request = message(&settle);
    for _ in 0..4 {
        let mut assailant = Assailant::connect(arena.address, &[])?;
        assailant.say(&head(1, "Consume"));
        for part in request.chunks(16_384) {
            assailant.say(&raw::frame(kind::DATA, 0, 1, part));
        }
        assailants.push(assailant);
    }
    Ok(fought("4 steps of 16 MiB", hold(arena, began, &assailants)))
}

/// A field of a message, with its length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

pub(super) fn half_frames(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailants = Vec::new();
    let half = &raw::frame(kind::DATA, 0, 1, vec![0; 60_000])[..50_000];
    for _ in 0..1000 {
        let mut assailant = Assailant::connect(arena.address, &[])?;
        assailant.say(&[&head(1, "Publish"), half].concat());
        assailants.push(assailant);
    }
    Ok(fought("50 MB", hold(arena, began, &assailants)))
}

pub(super) fn open_blocks(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailants = Vec::new();
    for _ in 0..500 {
        let mut assailant = Assailant::connect(arena.address, &[])?;
        assailant.say(&raw::frame(kind::HEADERS, 0, 1, vec![0; 60_000]));
        assailants.push(assailant);
    }
    Ok(fought("30 MB", hold(arena, began, &assailants)))
}

pub(super) fn unasked_pages(arena: &Arena) -> Outcome<Fought> {
    let mut connections = Vec::new();
    let (mut pages, mut slowest) = (0, Duration::ZERO);
    for number in 0..10_000 {
        let mut connection = TcpStream::connect(arena.http).when("connecting to the HTTP door")?;
        connection.write_all(b"GET /readyz HTTP/1.1\r\n").when("beginning a request")?;
        connections.push(connection);
        if number % 100 == 0 {
            let asked = Instant::now();
            let answer = get(arena.http, "/readyz").when("asking for a page")?;
            pages += usize::from(answer.starts_with("HTTP/1.1 200"));
            slowest = slowest.max(asked.elapsed());
        }
    }
    let open = connections.iter().filter(|connection| is_open(connection)).count();
    let mut broken = Vec::new();
    if open > 256 {
        broken.push(format!("{open} connections are open"));
    }
    if pages < 100 {
        broken.push(format!("{pages} of 100 pages were served"));
    }
    let outcome = format!(
        "{open} still open; {pages} of 100 pages served, the slowest within {} ms",
        slowest.as_millis()
    );
    Ok(Fought { tried: "10,000 connections".into(), outcome, broken, ..Fought::default() })
}

/// Whether the other end has not closed it.
fn is_open(mut connection: &TcpStream) -> bool {
    let silent = connection.set_nonblocking(true).and_then(|()| connection.read(&mut [0]));
    silent.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

pub(super) fn slow_prefaces(arena: &Arena) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailants = Vec::new();
    for _ in 0..100 {
        let assailant = Assailant::mute(arena.address)?;
        assailant.listen()?;
        assailants.push(assailant);
    }
    for byte in raw::greeting(&[]) {
        if began.elapsed() > arena.lasts {
            break;
        }
        for assailant in &mut assailants {
            assailant.say(&[byte]);
        }
        std::thread::sleep(Duration::from_millis(700));
    }
    let open = assailants.iter().filter(|assailant| !assailant.ear.is_closed()).count();
    let broken = if open == 0 { vec![] } else { vec![format!("{open} connections are still open")] };
    Ok(Fought { broken, ..fought("100 connections", hold(arena, began, &assailants)) })
}

//! Attacks by callers without credentials, where the broker asks for them: the bystander has some, and has to be served like before.

use std::time::{Duration, Instant};

use ratatoskr_http2::raw::{self, flag, kind};

use crate::failed::Outcome;

use super::assailant::{Assailant, REQUEST, Said, head};
use super::attacks::{Arena, Fought};

/// The attacks come from so many addresses, the bystander's among them.
const ADDRESSES: [u8; 4] = [2, 3, 4, 9];
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// A probe that is not answered within this time has failed.
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// Connections without end, on each of which a thousand watches are begun.
pub(super) fn watches(arena: &Arena) -> Outcome<Fought> {
    fight(arena, |assailant, number| {
        let opened = [call(number, WATCH), raw::frame(kind::DATA, flag::END_STREAM, number, [0; 5])];
        assailant.say(&opened.concat())
    })
}

/// The same with requests of 16 MiB, of which a part is sent.
pub(super) fn bodies(arena: &Arena) -> Outcome<Fought> {
    let opening = [&[0][..], &(16_u32 << 20).to_be_bytes(), &[b'x'; 16_000]].concat();
    fight(arena, |assailant, number| {
        let opened = [head(number, "Settle"), raw::frame(kind::DATA, 0, number, &opening)];
        assailant.say(&opened.concat())
    })
}

fn call(stream: u32, path: &str) -> Vec<u8> {
    let fields: Vec<_> =
        REQUEST.iter().map(|&(name, value)| (name, if name == ":path" { path } else { value })).collect();
    raw::frame(kind::HEADERS, flag::END_HEADERS, stream, raw::block(&fields))
}

/// Keeps as many connections as it is left, and begins calls on each; then asks as a probe does.
fn fight(arena: &Arena, call_on: impl Fn(&mut Assailant, u32) -> Said) -> Outcome<Fought> {
    let began = Instant::now();
    let mut assailants = Vec::new();
    let (mut connections, mut calls) = (0_u64, 0_u64);
    while began.elapsed() < arena.lasts {
        for last in ADDRESSES {
            let mut assailant = Assailant::connect_from(last, arena.address)?;
            connections += 1;
            let taken = (0..1000).take_while(|number| call_on(&mut assailant, number * 2 + 1) == Said::Taken);
            calls += taken.count() as u64;
            assailants.push(assailant);
        }
        assailants.retain(|assailant| !assailant.ear.is_closed());
    }
    let mut broken = Vec::new();
    if !probe(arena)? {
        broken.push("a health check was not answered".into());
    }
    let tried = format!("{calls} calls, {connections} connections");
    let outcome = format!("{} connections still open", assailants.len());
    Ok(Fought { tried, outcome, broken, ..Fought::default() })
}

/// Whether a health check from yet another address is answered.
fn probe(arena: &Arena) -> Outcome<bool> {
    let mut probe = Assailant::connect_from(5, arena.address)?;
    probe.say(&[call(1, CHECK), raw::frame(kind::DATA, flag::END_STREAM, 1, [0; 5])].concat());
    let asked = Instant::now();
    // A refusal is a header list alone.
    while probe.ear.frames(kind::DATA) == 0 {
        if asked.elapsed() > PROBE_WAIT || probe.ear.is_closed() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

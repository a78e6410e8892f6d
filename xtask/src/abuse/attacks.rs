//! The list of attacks.

use std::net::SocketAddr;
use std::time::Duration;

use crate::failed::Outcome;

use super::{floods, sieges, strangers};

const MIB: u64 = 1 << 20;
/// The longest the bystander may wait for an acknowledgement.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Where an attack takes place.
pub(super) struct Arena {
    pub(super) address: SocketAddr,
    /// The door of the pages.
    pub(super) http: SocketAddr,
    /// The same for ordinary clients.
    pub(super) uri: String,
    pub(super) lasts: Duration,
}

/// How an attack went.
#[derive(Default)]
pub(super) struct Fought {
    pub(super) tried: String,
    pub(super) outcome: String,
    /// Connections that the broker closed.
    pub(super) closed: usize,
    pub(super) broken: Vec<String>,
}

impl Fought {
    /// Some of the connections have to have been closed.
    pub(super) fn has_to_close(mut self) -> Fought {
        if self.closed == 0 {
            self.broken.push("nobody was closed".into());
        }
        self
    }
}

/// One attack.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) promise: &'static str,
    /// The most that memory may grow by.
    pub(super) rss_bytes_max: u64,
    /// The longest that the bystander may wait; refused for lack of memory it tries again.
    pub(super) wait_max: Duration,
    /// Further arguments of the broker.
    pub(super) arguments: &'static [&'static str],
    /// Whether callers have to show credentials, as the bystander does then.
    pub(super) asks: bool,
    pub(super) lasts_min: Duration,
    pub(super) prepare: fn(&Arena) -> Outcome,
    pub(super) run: fn(&Arena) -> Outcome<Fought>,
}

const fn flood(name: &'static str, run: fn(&Arena) -> Outcome<Fought>) -> Attack {
    let promise = "refused in words beyond 20,000 a second; bystander served; memory flat";
    siege(name, promise, 64, run)
}

const fn siege(
    name: &'static str,
    promise: &'static str,
    mib_max: u64,
    run: fn(&Arena) -> Outcome<Fought>,
) -> Attack {
    Attack {
        name,
        promise,
        rss_bytes_max: mib_max * MIB,
        wait_max: WAIT_MAX,
        arguments: &[],
        asks: false,
        lasts_min: Duration::ZERO,
        prepare: |_| Ok(()),
        run,
    }
}

/// All of them.
pub(super) const ATTACKS: &[Attack] = &[
    siege("nothing", "what the bystander costs alone", 16, |arena| Ok(sieges::nothing(arena))),
    flood("rapid reset (CVE-2023-44487)", floods::rapid_reset),
    flood("made you reset (CVE-2025-8671)", floods::made_to_reset),
    flood("malformed requests", floods::malformed),
    flood("CONTINUATION without end (CVE-2024-27316)", floods::continuation),
    flood("empty CONTINUATION without end", floods::empty_continuation),
    flood("header bomb, a frame each", floods::bombs),
    flood("header bomb, just under what ends the connection", floods::small_bombs),
    flood("PING", floods::pings),
    flood("SETTINGS", floods::settings),
    flood("SETTINGS that change 1,000 windows 10,000 times", floods::window_settings),
    flood("empty DATA", floods::empty_data),
    flood("PRIORITY", floods::priorities),
    flood("WINDOW_UPDATE", floods::window_updates),
    flood("frames nobody knows", floods::unknown),
    flood("random bytes", floods::noise),
    flood("HTTP/1.1", floods::http1),
    flood("TLS", floods::tls),
    flood("compressed requests", floods::compressed),
    siege("PING without reading", "memory flat: who does not listen is not heard", 16, floods::deaf_pings),
    siege(
        "publishing without reading",
        "memory bounded: 100,000 calls, and who does not listen is not heard",
        128,
        floods::deaf_publishing,
    ),
    siege(
        "requests of 16 MiB, cut, on 1,000 streams",
        "refused beyond 68 MiB of a connection",
        // Room for a request doubles as it grows, and is there twice while it moves.
        224,
        sieges::cut_requests,
    ),
    siege("lengths of 4 GiB on 20,000 streams", "each refused at its prefix", 128, sieges::lying_lengths),
    siege("a byte in each packet, unread", "no byte holds on to what was read with it", 128, sieges::crumbs),
    Attack {
        prepare: sieges::large_messages,
        ..siege(
            "1,000 subscribers with a window of a byte",
            "answers that wait are bounded",
            512,
            sieges::shut_windows,
        )
    },
    siege(
        "100,000 streams of nothing, each with 16 KB of metadata",
        "refused beyond half of what callers share, 128 MiB",
        256,
        sieges::many_streams,
    ),
    Attack {
        arguments: &["--memory", "128MiB"],
        lasts_min: Duration::from_secs(16),
        wait_max: Duration::from_secs(13),
        prepare: sieges::many_large_messages,
        ..siege(
            "900 subscribers that read nothing, each at a place of its own; the broker may use 128 MiB",
            "closed after ten seconds, and the bystander goes on",
            80,
            sieges::scattered_readers,
        )
    },
    Attack {
        arguments: &["--memory", "128MiB"],
        prepare: sieges::many_large_messages,
        ..siege(
            "480 lists of 3 MiB, asked for at once and never read; the broker may use 128 MiB",
            "refused beyond half of what callers share, 16 MiB",
            96,
            sieges::lists_at_once,
        )
    },
    Attack {
        arguments: &["--memory", "128MiB"],
        lasts_min: Duration::from_secs(16),
        wait_max: Duration::from_secs(13),
        ..siege(
            "thousands of idle streams from four addresses; the broker may use 128 MiB",
            "refused beyond what callers share, 32 MiB; whoever holds more than an equal part is closed after ten seconds, and the bystander goes on",
            80,
            sieges::idle_streams,
        )
    },
    siege(
        "steps of consumers that would become 8,388,608 settlements each",
        "refused before they do",
        128,
        sieges::many_values,
    ),
    siege("1,000 halves of a frame", "memory is what was sent", 160, sieges::half_frames),
    siege("500 header blocks without end", "memory is what was sent", 128, sieges::open_blocks),
    Attack {
        arguments: &["--memory", "128MiB"],
        ..siege(
            "a gigabyte of requests, all cut, on 64 connections from one address; the broker may use 128 MiB",
            "refused beyond half of what callers share, 16 MiB; others have the rest",
            64,
            |arena| sieges::hoard(arena, 1),
        )
    },
    Attack {
        arguments: &["--memory", "128MiB"],
        lasts_min: Duration::from_secs(16),
        wait_max: Duration::from_secs(13),
        ..siege(
            "that gigabyte from four addresses",
            "refused beyond what callers share, 32 MiB; who does not move is closed after ten seconds, and the bystander goes on",
            80,
            |arena| Ok(sieges::hoard(arena, 4)?.has_to_close()),
        )
    },
    Attack {
        arguments: &["--memory", "128MiB"],
        asks: true,
        ..siege(
            "health watches without credentials, a thousand on each connection, also from the bystander's address; the broker may use 128 MiB",
            "they share a sixteenth of what callers do, 2 MiB; the bystander, which has credentials, and probes are served",
            96,
            strangers::watches,
        )
    },
    Attack {
        arguments: &["--memory", "128MiB"],
        asks: true,
        ..siege(
            "requests of 16 MiB without credentials, cut, from the same addresses",
            "refused by their heads; the bystander and probes are served",
            48,
            strangers::bodies,
        )
    },
    siege(
        "10,000 connections to the HTTP door that never finish a request",
        "at most 256 are open; pages are served meanwhile",
        32,
        sieges::unasked_pages,
    ),
    Attack {
        lasts_min: Duration::from_secs(13),
        ..siege("prefaces byte by byte", "closed after ten seconds", 32, sieges::slow_prefaces)
    },
];

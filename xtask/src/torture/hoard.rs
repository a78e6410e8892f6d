//! Callers that begin far more than the broker may remember: two of the attacks of `cargo xtask abuse`, held against `memory`.

use std::time::Duration;

use super::arena::Arena;
use super::{Fault, Tried};
use crate::abuse;
use crate::failed::{Failed, Outcome};

pub(super) const FAULT: Fault = Fault {
    name: "hoard",
    what: "a gigabyte of requests that never end, from one address and from four, while the broker may use 128 MiB",
    promise: "memory stays below that; beyond their share callers are refused; another client goes on",
    run,
};

/// `memory` of the broker: what the attacks' arguments say.
const MEMORY: u64 = 128 << 20;

fn run(arena: &Arena<'_>) -> Outcome<Tried> {
    let rows = abuse::rows(&arena.program, Duration::from_secs(3), &["gigabyte".to_owned()], arena.broken)?;
    let most = rows.iter().map(|row| row.rss_bytes[1]).max().unwrap_or(0);
    let (acknowledged, wait) = rows
        .iter()
        .fold((0, Duration::ZERO), |(sum, wait), row| (sum + row.acknowledged, wait.max(row.wait_max)));
    let broken: Vec<_> = rows.into_iter().flat_map(|row| row.broken).collect();
    if !broken.is_empty() || most > MEMORY {
        return Err(Failed::new(format!("{}; at most {} MiB", broken.join("; "), most >> 20)));
    }
    Ok(Tried {
        how_often: format!(
            "2 × 1 GB begun; at most {} MiB; {acknowledged} messages of another client acknowledged, the longest wait {} ms",
            most >> 20,
            wait.as_millis()
        ),
        recovered: "–".to_owned(),
        ..Tried::default()
    })
}

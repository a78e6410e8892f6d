//! The log is crashed in every way the simulator knows, and must keep what it promised.
//!
//! ```text
//!   script   fixed steps, or drawn from a seed          life     one process: opens the log, plays steps, ends
//!   every_operation   cut after each single operation   seeds    random lives, one after the other
//!   flipped_bits      one in every byte of every file   failures    failed syncs and writes, a full disk
//!   mutants           broken on purpose: the others must notice
//! ```
//!
//! A failing seed is printed; `RATATOSKR_SIM_SEED=n` plays it again, `RATATOSKR_SIM_SEEDS=n` plays seeds 0 to n.
//!
//! Three broken builds of the log are features of this crate. With one of them on, `mutants` passes when
//! the tests beside would have failed, and those are left out:
//! `cargo test -p ratatoskr-sim --test crash --features broken-no-checksum` (or `broken-no-sync`, `broken-late-handle`).
#![allow(clippy::unwrap_used)] // a test may end here
// With a broken build only `mutants` tests, and needs a part of the rest.
#![cfg_attr(
    any(feature = "broken-no-sync", feature = "broken-no-checksum"),
    allow(dead_code, unused_imports)
)]

#[cfg(not(feature = "broken-no-sync"))]
mod cuts;
mod every_operation;
mod flipped_bits;
mod life;
mod mutants;
mod script;

#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
mod failures;
#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
mod full_disk;
#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
mod seeds;

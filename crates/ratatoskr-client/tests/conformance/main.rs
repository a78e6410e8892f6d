//! What every way to use the broker has to do, as named behaviours seen from outside.
//!
//! ```text
//!   behaviours (sharing, leases, retries, …) ──▶ Door ──┬── in process, topics of durability fsync
//!          each listed by its theme's file             ├── in process, topics of durability memory
//!                                                      └── over gRPC, through the Rust client
//! ```
//!
//! A behaviour is one async function; its name is the sentence it holds. It has a topic of its own and knows the door by
//! [`doors::Door`] alone, so another engine, or a client of another language, has a list to pass. All behaviours of a door run at
//! the same time on one broker; each is reported by name, and one that fails stops no other. One that
//! cannot hold at a door is skipped there, with its reason.
//!
//! Deliberately not here: what only one door has, such as broken connections, codes on the wire, and restarts.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod behaviour;
mod dead_letters;
mod doors;
#[allow(dead_code, reason = "each test program uses its part")]
#[path = "../house/mod.rs"]
mod house;
mod in_process;
mod leases;
mod over_grpc;
mod positions;
mod publishing;
mod reading;
mod retries;
mod sharing;
mod spoken;
mod stage;
mod standing;
mod together;

use behaviour::{Behaviour, hold};
use doors::Door;
use in_process::InProcess;
use over_grpc::OverGrpc;
use ratatoskr_broker::Durability;

/// Every behaviour there is.
fn all<D: Door>() -> Vec<Behaviour<D>> {
    [
        publishing::behaviours(),
        together::behaviours(),
        reading::behaviours(),
        sharing::behaviours(),
        leases::behaviours(),
        retries::behaviours(),
        dead_letters::behaviours(),
        positions::behaviours(),
        standing::behaviours(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn in_process_with_topics_on_disk_every_behaviour_holds() {
    hold(&all(), &InProcess::open(Durability::Fsync));
}

#[test]
fn in_process_with_topics_in_memory_every_behaviour_holds() {
    hold(&all(), &InProcess::open(Durability::Memory));
}

#[test]
fn over_grpc_every_behaviour_holds() {
    hold(&all(), &OverGrpc::open());
}

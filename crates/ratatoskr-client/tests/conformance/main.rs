//! What every way to use the broker has to do, as named behaviours seen from outside.
//!
//! ```text
//!   behaviours (sharing, leases, retries, …) ──▶ Door ──┬── in process, topics of durability fsync
//!          one line each in TABLE order                ├── in process, topics of durability memory
//!                                                      └── over gRPC, through the Rust client
//! ```
//!
//! A behaviour is one async function; its name is the sentence it holds. It has a topic of its own and knows the door by
//! [`doors::Door`] alone, so another engine, or a client of another language, has a list to pass. All behaviours of a door run at
//! the same time on one broker; each is reported by name, and one that fails stops no other.
//!
//! Deliberately not here: what only one door has, such as broken connections, codes on the wire, and restarts.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

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

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use doors::Door;
use futures_util::FutureExt as _;
use in_process::InProcess;
use over_grpc::OverGrpc;
use ratatoskr_broker::Durability;
use stage::{PATIENCE, Stage};

/// One behaviour, ready to be run.
struct Behaviour<D> {
    /// Its function's name: the sentence.
    name: &'static str,
    run: Box<dyn Fn(Stage<D>) -> Pin<Box<dyn Future<Output = ()>>>>,
}

/// A behaviour of its function.
fn of<D, F, R>(function: F) -> Behaviour<D>
where
    F: Fn(Stage<D>) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let path = std::any::type_name::<F>();
    let path = path.split('<').next().unwrap_or(path);
    let name = path.rsplit("::").next().unwrap_or(path);
    Behaviour { name, run: Box::new(move |stage| Box::pin(function(stage))) }
}

/// Runs all behaviours through one door, prints what became of each, and fails with the names of those that failed.
fn hold<D: Door>(door: &D) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcomes =
        runtime.block_on(futures_util::future::join_all(all().iter().map(|behaviour| run(door, behaviour))));
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        let sentence = name.replace('_', " ");
        match outcome {
            Ok(()) => println!("{}: {sentence} ... ok", door.name()),
            Err(reason) => {
                println!("{}: {sentence} ... FAILED: {reason}", door.name());
                failed.push(format!("\n  {name}: {reason}"));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{}: {} behaviours do not hold:{}",
        door.name(),
        failed.len(),
        failed.concat()
    );
}

async fn run<D: Door>(door: &D, behaviour: &Behaviour<D>) -> (&'static str, Result<(), String>) {
    let running = AssertUnwindSafe((behaviour.run)(Stage::new(door.clone(), behaviour.name))).catch_unwind();
    let outcome = match tokio::time::timeout(PATIENCE * 2, running).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(panic)) => Err(told(&*panic)),
        Err(_) => Err(format!("has not ended after {:?}", PATIENCE * 2)),
    };
    (behaviour.name, outcome)
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

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
    hold(&InProcess::open(Durability::Fsync));
}

#[test]
fn in_process_with_topics_in_memory_every_behaviour_holds() {
    hold(&InProcess::open(Durability::Memory));
}

#[test]
fn over_grpc_every_behaviour_holds() {
    hold(&OverGrpc::open());
}

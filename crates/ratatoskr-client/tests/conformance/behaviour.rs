//! [`Behaviour`]: one async function whose name is what it shows; how all of them are run through a door and reported.
//!
//! All run at the same time on the thread of their test. One that panics or does not end is reported with its place, and
//! stops no other.

use std::any::Any;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Once;

use futures_util::FutureExt as _;

use crate::doors::Door;
use crate::stage::{PATIENCE, Stage};

/// One behaviour, ready to be run.
pub(crate) struct Behaviour<D> {
    /// Its function's name: the sentence.
    name: &'static str,
    run: Run<D>,
    /// The doors it does not hold for, and why.
    exceptions: Vec<(&'static str, &'static str)>,
}

type Run<D> = Box<dyn Fn(Stage<D>) -> Pin<Box<dyn Future<Output = ()>>>>;

/// What became of a behaviour.
enum Outcome {
    Holds,
    Fails(String),
    Skipped(&'static str),
}

/// A behaviour of its function.
pub(crate) fn of<D, F, R>(function: F) -> Behaviour<D>
where
    F: Fn(Stage<D>) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let path = std::any::type_name::<F>();
    let path = path.split('<').next().unwrap_or(path);
    let name = path.rsplit("::").next().unwrap_or(path);
    Behaviour { name, run: Box::new(move |stage| Box::pin(function(stage))), exceptions: Vec::new() }
}

impl<D: Door> Behaviour<D> {
    /// The same, but skipped at this door, for this reason.
    pub(crate) fn except(mut self, door: &'static str, reason: &'static str) -> Behaviour<D> {
        self.exceptions.push((door, reason));
        self
    }

    async fn run(&self, door: &D) -> (&'static str, Outcome) {
        if let Some((_, reason)) = self.exceptions.iter().find(|(name, _)| *name == door.name()) {
            return (self.name, Outcome::Skipped(reason));
        }
        let running = AssertUnwindSafe((self.run)(Stage::new(door.clone(), self.name))).catch_unwind();
        let outcome = match tokio::time::timeout(PATIENCE * 2, running).await {
            Ok(Ok(())) => Outcome::Holds,
            Ok(Err(panic)) => Outcome::Fails(told(&*panic)),
            Err(_) => Outcome::Fails(format!("has not ended after {:?}", PATIENCE * 2)),
        };
        (self.name, outcome)
    }
}

/// Runs behaviours through one door, prints what became of each, and fails with the names of those that failed.
pub(crate) fn hold<D: Door>(behaviours: &[Behaviour<D>], door: &D) {
    note_places_of_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = behaviours.iter().map(|behaviour| behaviour.run(door));
    PLACE.set(Some(String::new()));
    let outcomes = runtime.block_on(futures_util::future::join_all(running));
    PLACE.set(None);
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        let sentence = format!("{}: {}", door.name(), name.replace('_', " "));
        match outcome {
            Outcome::Holds => println!("{sentence} ... ok"),
            Outcome::Skipped(reason) => println!("{sentence} ... skipped: {reason}"),
            Outcome::Fails(reason) => {
                println!("{sentence} ... FAILED");
                failed.push(format!("\n- {name}\n  {reason}"));
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

thread_local! {
    /// Where the last panic was, while behaviours run on this thread; `None` while none do.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic of a behaviour leaves its place, and is not printed: its report is.
fn note_places_of_panics() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if PLACE.with_borrow(Option::is_none) {
                return print(panic);
            }
            PLACE.set(Some(panic.location().map(ToString::to_string).unwrap_or_default()));
        }));
    });
}

/// Where and why a behaviour on this thread has just panicked.
fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let place = PLACE.with_borrow(|place| place.clone().unwrap_or_default());
    format!("at {place}: {}", text.unwrap_or_default())
}

//! Reliability as a list: every fault the broker is held against, what it promises then, and the figure that came out.
//!
//! ```text
//!   cargo xtask torture [--long] ──▶ one fault after the other ──▶ a table: fault · promise · tried · lost · recovered in
//!                                     │ the real program, killed, stopped, starved, cut off …
//!                                     └ the simulator and the tests, where a fault has to be placed to the byte
//! ```
//!
//! Each fault is a file of its own and answers what was tried and what was lost. A fault that cannot be tried on a machine says so in a
//! line that starts with `!!!`; a promise that was broken fails the run, once all others were tried as well.

mod arena;
pub(crate) mod broken;
mod cut_off;
mod disk_error;
mod full_disk;
mod hoard;
mod idle_connections;
mod kill;
mod ledger;
mod load;
mod proxy;
mod reset;
mod second_broker;
mod simulated;
mod slow_disk;
mod slow_reader;
mod stalled;
mod storm;
mod strace;
mod table;
mod terminate;

use std::path::PathBuf;

use arena::Arena;
use broken::Broken;
use table::{Row, Table};

use crate::failed::{Failed, Outcome, While};
use crate::workshop::{Profile, Workshop};

/// How much, on what, and what becomes of the table.
#[derive(clap::Args)]
pub(crate) struct TortureOptions {
    /// Try everything as often as the promises of docs/reliability.md say (about an hour)
    #[arg(long)]
    long: bool,
    /// Put the table into docs/reliability.md
    #[arg(long)]
    write: bool,
    /// Try these faults only
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// A broker that is already built
    #[arg(long, value_name = "PATH")]
    broker: Option<PathBuf>,
    /// Seed of everything that happens by chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out what `cargo test` shows: the simulator and the tests
    #[arg(long)]
    without_tests: bool,
    /// Break the broker on purpose; the fault that has to notice is tried, and has to fail
    #[arg(long, value_name = "WORD", value_parser = broken::find)]
    broken: Option<&'static Broken>,
}

/// Something that happens to a broker.
pub(crate) struct Fault {
    /// The word that tries it alone.
    name: &'static str,
    /// What happens.
    what: &'static str,
    /// What holds then.
    promise: &'static str,
    /// Does it, and answers what came of it.
    run: fn(&Arena<'_>) -> Outcome<Tried>,
}

/// What came of a fault.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// How often, and under what: for people.
    pub(crate) how_often: String,
    /// What was promised and is not there any more, or is there twice.
    pub(crate) lost: u64,
    /// How long it took until all was well again: for people.
    pub(crate) recovered: String,
    /// Why it could not be tried on this machine.
    pub(crate) not_here: Option<String>,
}

impl Tried {
    pub(crate) fn not_here(reason: impl Into<String>) -> Tried {
        Tried { not_here: Some(reason.into()), ..Tried::default() }
    }
}

const FAULTS: &[&Fault] = &[
    &kill::FAULT,
    &terminate::FAULT,
    &stalled::FAULT,
    &second_broker::FAULT,
    &disk_error::FAULT,
    &full_disk::FAULT,
    &slow_disk::SLOW,
    &slow_disk::HANGING,
    &cut_off::FAULT,
    &reset::FAULT,
    &slow_reader::FAULT,
    &idle_connections::FAULT,
    &hoard::FAULT,
    &storm::FAULT,
];

/// The short form, for `./test`: the tests have run there already.
pub(crate) fn short(broken: Option<&'static Broken>) -> TortureOptions {
    let only = Vec::new();
    TortureOptions { long: false, write: false, only, broker: None, seed: 1, without_tests: true, broken }
}

/// Tries everything and prints the table.
pub(crate) fn run(workshop: &Workshop, options: &TortureOptions) -> Outcome {
    let only: Vec<&str> = match options.broken {
        Some(broken) => vec![broken.noticed_by],
        None => options.only.iter().map(String::as_str).collect(),
    };
    let mut faults = FAULTS.to_vec();
    faults.extend(simulated::FAULTS.iter().filter(|_| !options.without_tests || options.broken.is_some()));
    check_names(&faults, &only)?;
    faults.retain(|fault| only.is_empty() || only.contains(&fault.name));
    let program = match (&options.broker, options.broken) {
        // Started in a folder of its own: a relative path would be looked for there.
        (Some(program), _) => std::path::absolute(program).when("resolving the broker's path")?,
        (None, Some(_)) => workshop.broken_program()?,
        (None, None) => {
            workshop.broker_program(if options.long { Profile::Release } else { Profile::Dev })?
        }
    };
    let arena = Arena {
        workshop,
        program,
        is_long: options.long,
        seed: options.seed,
        broken: options.broken.map(|broken| broken.word),
    };
    let table = try_all(&arena, &faults);
    println!("\n{}", table.for_people());
    if options.write {
        table.write(workshop, options.long)?;
    }
    match options.broken {
        None => table.verdict(),
        Some(broken) => broken.judge(table.verdict()),
    }
}

fn check_names(faults: &[&Fault], only: &[&str]) -> Outcome {
    for name in only {
        if !faults.iter().any(|fault| fault.name == *name) {
            let known: Vec<_> = faults.iter().map(|fault| fault.name).collect();
            return Err(Failed::new(format!("there is no fault {name:?}; faults are {}", known.join(", "))));
        }
    }
    Ok(())
}

fn try_all(arena: &Arena<'_>, faults: &[&Fault]) -> Table {
    let mut table = Table::default();
    for fault in faults {
        println!("=== {}: {}", fault.name, fault.what);
        let started = std::time::Instant::now();
        let outcome = (fault.run)(arena);
        match &outcome {
            Ok(Tried { not_here: Some(reason), .. }) => println!("!!! not tried here: {reason}"),
            Ok(Tried { how_often: tried, lost, recovered, .. }) => {
                println!("    {tried}; lost {lost}; {recovered}");
            }
            Err(failed) => println!("    FAILED: {failed}"),
        }
        println!("    took {:.1} s", started.elapsed().as_secs_f64());
        table.push(Row { what: fault.what, promise: fault.promise, outcome });
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_different_names_and_every_broken_build_is_noticed_by_one_of_them() {
        let all: Vec<&Fault> = FAULTS.iter().copied().chain(simulated::FAULTS.iter().copied()).collect();
        let mut names: Vec<_> = all.iter().map(|fault| fault.name).collect();
        for broken in broken::ALL {
            assert!(names.contains(&broken.noticed_by), "{broken:?}");
        }
        let is_covered = |fault: &&Fault| broken::ALL.iter().any(|broken| broken.noticed_by == fault.name);
        assert!(
            FAULTS.iter().copied().all(|fault| is_covered(&fault)),
            "a check that was never seen to fail"
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert!(check_names(&all, &["kill"]).is_ok());
        let error = check_names(&all, &["kil"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no fault \"kil\"; faults are kill, "), "{error}");
    }
}

//! Faults that have to be placed to the byte, or to the step: the simulator's tests and those of the crates, run from here so that one
//! command tries everything, and so that the figures stand in one table.

use std::time::Instant;

use super::arena::Arena;
use super::{Fault, Tried};
use crate::failed::{Failed, Outcome};
use crate::workshop::read;

/// Tests of one program.
struct Suite {
    /// What cargo is told of it: the program, and filters.
    arguments: &'static [&'static str],
    /// Seeds of the short and the long form, where there are seeds.
    seeds: Option<(u64, u64)>,
}

pub(super) const FAULTS: &[&Fault] = &[
    &Fault {
        name: "power",
        what: "power cuts at random (simulated disk: unsynced sectors vanish or tear, names without a folder sync vanish)",
        promise: "what was acknowledged is there; the same seed twice gives the same trace",
        run: |arena| {
            run(arena, &Suite { arguments: &["--test", "crash", "seeds"], seeds: Some((300, 10_000)) })
        },
    },
    &Fault {
        name: "power-step",
        what: "power cuts after every single operation of a tour through everything the log does",
        promise: "what was acknowledged is there",
        run: |arena| run(arena, &Suite { arguments: &["--test", "crash", "every_operation"], seeds: None }),
    },
    &Fault {
        name: "power-broker",
        what: "power cuts at random while subscriptions, dead letters, atomic steps, dedup ids and scheduled messages are at work",
        promise: "what was confirmed is there wholly, once",
        run: |arena| run(arena, &Suite { arguments: &["--test", "power"], seeds: Some((300, 10_000)) }),
    },
    &Fault {
        name: "cut",
        what: "a journal and a segment cut at every byte",
        promise: "what stands before the cut is there; nothing else is, and nothing is invented",
        run: |arena| run(arena, &Suite { arguments: &["--test", "crash", "cuts"], seeds: None }),
    },
    &Fault {
        name: "bits",
        what: "a bit flipped in every byte of a journal, a checkpoint, a segment, an index; files missing, shortened, swapped",
        promise: "it is told; exactly the damaged record is refused, its neighbours are served, offsets stay; an index is written anew",
        run: |arena| run(arena, &Suite { arguments: &["--test", "crash", "flipped_bits"], seeds: None }),
    },
    &Fault {
        name: "doctor",
        what: "damage of every kind, and foreign files, looked at by `ratatoskr doctor`",
        promise: "it names file, byte, offset and what to do, and is of one opinion with a start",
        run: |arena| run(arena, &Suite { arguments: &["--test", "doctor"], seeds: None }),
    },
    &Fault {
        name: "panic",
        what: "a panic in a topic's owner",
        promise: "that topic starts anew, the others do not notice",
        run: |arena| {
            run(arena, &Suite { arguments: &["--test", "broker", "a_topic_that_fails"], seeds: None })
        },
    },
    &Fault {
        name: "formats",
        what: "a data directory of every released version",
        promise: "it opens, and holds what it held",
        run: |arena| run(arena, &Suite { arguments: &["--test", "formats"], seeds: None }),
    },
    &Fault {
        name: "fuzz",
        what: "files of a data directory, and filter expressions, that nobody wrote",
        promise: "they are read or refused; nothing panics",
        run: |arena| {
            run(
                arena,
                &Suite {
                    arguments: &["--test", "fuzz", "whatever_stands", "whatever_a_filter"],
                    seeds: None,
                },
            )
        },
    },
    &Fault {
        name: "fuzz-requests",
        what: "requests of every call, and configurations, that are almost right",
        promise: "each is answered or refused; nothing panics, and the server stays of use",
        run: |arena| {
            run(
                arena,
                &Suite {
                    arguments: &["--test", "fuzz", "whatever_a_request", "whatever_a_configuration"],
                    seeds: None,
                },
            )
        },
    },
    &Fault {
        name: "thread",
        what: "a panic in the sequencer itself",
        promise: "nothing is acknowledged any more, stopping says so, and what was acknowledged is there after a restart",
        run: |arena| run(arena, &Suite { arguments: &["--test", "shutdown"], seeds: None }),
    },
    &Fault {
        name: "clock",
        what: "the wall clock jumps by years, ahead and back",
        promise: "offsets, leases, retries and duplicates stay; retention believes a jump only after an hour",
        run: |arena| run(arena, &Suite { arguments: &["--test", "clocks"], seeds: None }),
    },
];

/// Runs a suite; a test that failed, or no test at all, is a failure.
fn run(arena: &Arena<'_>, suite: &Suite) -> Outcome<Tried> {
    let mut command = arena.workshop.command("cargo");
    let (program, filters) = suite.arguments.split_at(2);
    // Of the whole workspace, so that what `./test tests` has built is used again.
    command.args(["test", "--workspace", "--locked", "--quiet"]).args(program);
    if let Some(word) = arena.broken {
        command.args(["--features", "ratatoskr-broker/broken"]).env("E2E_BROKEN", word);
    }
    command.arg("--").args(filters);
    let seeds = suite.seeds.map(|(short, long)| arena.times(short, long));
    if let Some(seeds) = seeds {
        command.env("RATATOSKR_SIM_SEEDS", seeds.to_string());
    }
    let started = Instant::now();
    let passed = passed(&read(&mut command)?);
    if passed == 0 {
        return Err(Failed::new(format!("there is no test {:?}", suite.arguments)));
    }
    let took = started.elapsed().as_secs_f64();
    let seeds = seeds.map_or_else(String::new, |seeds| format!("{seeds} seeds, "));
    let tried = format!("{seeds}{passed} tests, {took:.0} s");
    Ok(Tried { how_often: tried, lost: 0, recovered: "–".to_owned(), ..Tried::default() })
}

/// How many tests passed, by cargo's own words.
fn passed(output: &str) -> u64 {
    let counts = output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_added_up() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored\n\ntest result: ok. 10 passed; 0 failed";
        assert_eq!(passed(output), 13);
        assert_eq!(passed("running 0 tests"), 0);
    }
}

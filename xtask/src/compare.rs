//! Ratatoskr and its peers, side by side: the same work on each, in turn, and one table.
//!
//! ```text
//!   find or install the peers ─▶ build ours ─▶ rounds: each in turn, on loopback, with a folder of its own ─▶ crashes, once
//!        └─ what cannot be had is a row that says so                                   └─▶ tables, pictures, JSON
//! ```
//!
//! The load generators for peers are ours, on bare sockets ([`mod@line`]), one thread, as that of `ratatoskr bench`, which drives our
//! own broker. Equal is compared with equal first: what an ack means decides which rows stand together ([`peers`]). How to read the
//! figures stands in `docs/benchmark.md`.
//!
//! It does not judge: no figure fails the command.

mod amounts;
mod amqp;
mod amqp_frame;
mod consume;
mod crash;
mod fanout;
mod floor;
mod jetstream;
mod latency;
mod launch;
mod line;
mod machine;
mod mark;
mod meter;
mod mqtt;
mod nats;
mod ours;
mod ours_crash;
mod pages;
mod peers;
mod plot;
mod power;
mod programs;
mod publish;
mod redis;
mod results;
mod rounds;
mod sample;
mod server;
mod tables;
mod theirs;
mod tongue;
mod works;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use self::amounts::Amounts;
use self::peers::{PEERS, Program, Promise};
use self::programs::Found;
use self::results::{Results, Row};
use self::rounds::{Contender, Plan};
use self::works::{Work, WorkWord};
use crate::failed::{Outcome, While};
use crate::workshop::{Profile, Workshop, read};

const PAGE: &str = "docs/performance.md";

/// Against whom, at what, and how much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareOptions {
    /// Small loads, no recovery, no loss of power, to see that it works; the figures mean little
    #[arg(long)]
    quick: bool,
    /// Peers whose key begins with one of these, separated by commas; we are always in
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    only: Vec<String>,
    /// Works, separated by commas; not given: all, with --quick all short ones
    #[arg(long, value_name = "WORK", value_enum, value_delimiter = ',')]
    work: Vec<WorkWord>,
    /// How often everybody has a turn [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How long a load runs
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, conflicts_with = "quick")]
    seconds: f64,
    /// Write everything as JSON to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What this machine is called; with it, results go to `bench/results/DATE-MACHINE`
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Where results go instead
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Make the figures in docs/performance.md anew; needs --machine
    #[arg(long, requires = "machine", conflicts_with = "out")]
    page: bool,
    /// A built `ratatoskr` to measure instead of this tree's
    #[arg(long, value_name = "PATH")]
    ratatoskr: Option<PathBuf>,
    /// Where servers keep their data; not given: cargo's target folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs the comparison.
pub(crate) fn run(workshop: &Workshop, options: &CompareOptions) -> Outcome {
    if cfg!(debug_assertions) {
        // Our load generators share the machine with what they measure, and must not be what is measured.
        let mut words = vec!["run", "--release", "--locked", "--quiet", "--package", "xtask", "--"];
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        words.extend(arguments.iter().map(String::as_str));
        return workshop.cargo(&words);
    }
    let parent = options.data_dir.clone().unwrap_or_else(|| workshop.target.clone());
    let parent = std::path::absolute(&parent).when("resolving the data folder")?;
    std::fs::create_dir_all(&parent).when(format_args!("creating {}", parent.display()))?;
    let folder = tempfile::Builder::new().prefix("compare-").tempdir_in(&parent);
    let folder = folder.when(format_args!("creating a folder in {}", parent.display()))?;

    let mut results = Results::under(conditions(workshop, options, folder.path()));
    let line: Vec<_> = results.conditions.iter().map(|(name, value)| format!("{name} {value}")).collect();
    println!("compare: {}", line.join("; "));
    let plan = Plan {
        contenders: contenders(workshop, options, &mut results)?,
        works: works(options),
        rounds: rounds(options),
        amounts: amounts(options),
        parent: folder.path(),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().when("starting a runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, plan.run(&mut results))?;
    println!("\n{}", pages::text(&results));
    write(workshop, options, &results)
}

fn write(workshop: &Workshop, options: &CompareOptions, results: &Results) -> Outcome {
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", results.json()))
            .when(format_args!("writing {}", path.display()))?;
    }
    let named =
        options.machine.as_ref().map(|machine| format!("bench/results/{}-{machine}", machine::today()));
    let folder = options.out.clone().or_else(|| named.as_ref().map(|name| workshop.root.join(name)));
    let Some(folder) = folder else { return Ok(()) };
    pages::write(&folder, results)?;
    println!("written to {}", folder.display());
    if let Some(name) = named.filter(|_| options.page) {
        pages::refresh(&workshop.root.join(PAGE), &format!("../{name}"), results)?;
        println!("{PAGE} shows it");
    }
    Ok(())
}

fn amounts(options: &CompareOptions) -> Amounts {
    if options.quick { Amounts::quick() } else { Amounts::full(options.seconds.clamp(0.1, 60.0)) }
}

fn rounds(options: &CompareOptions) -> u32 {
    options.rounds.unwrap_or(if options.quick { 1 } else { 3 })
}

fn works(options: &CompareOptions) -> Vec<Work> {
    let is_wanted = |work: &Work| {
        let is_long = matches!(work, Work::Recovery | Work::Power);
        if options.work.is_empty() {
            !(options.quick && is_long)
        } else {
            options.work.contains(&work.word())
        }
    };
    Work::ALL.into_iter().filter(is_wanted).collect()
}

fn conditions(workshop: &Workshop, options: &CompareOptions, data: &Path) -> Vec<(&'static str, String)> {
    let Amounts { size, time, rate, .. } = amounts(options);
    let mut conditions = vec![
        (
            "command",
            std::env::args().skip(1).fold("cargo xtask".to_owned(), |line, word| format!("{line} {word}")),
        ),
        ("rounds", rounds(options).to_string()),
        ("payload", format!("{size} bytes")),
        ("each load", format!("{} s", time.as_secs_f64())),
        ("latency at", format!("{rate}/s")),
    ];
    conditions.extend(machine::describe(workshop, data));
    if let Some(name) = &options.machine {
        conditions.insert(0, ("machine", name.clone()));
    }
    if let Some(path) = &options.ratatoskr {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        conditions.push(("ratatoskr", format!("the given program {name}, not built from this tree")));
    }
    conditions
}

/// Who takes part; everybody has a row, also who cannot be had.
fn contenders(
    workshop: &Workshop,
    options: &CompareOptions,
    results: &mut Results,
) -> Outcome<Vec<Contender>> {
    let mut found: HashMap<Program, Outcome<Found>> = HashMap::new();
    found.insert(Program::Ratatoskr, Ok(ours(workshop, options)?));
    let mut contenders = Vec::new();
    for peer in PEERS.iter().filter(|peer| peer.program == Program::Ratatoskr || peer.is_meant(&options.only))
    {
        let program = found.entry(peer.program).or_insert_with(|| programs::find(workshop, peer.program));
        let row = results.rows.len();
        match program {
            Ok(program) => {
                results.rows.push(Row::of_peer(peer, program.version.clone(), None));
                contenders.push(Contender { peer, program: program.clone(), row });
            }
            Err(failed) => {
                eprintln!("!!! {}: {failed}", peer.title);
                results.rows.push(Row::of_peer(peer, "–".to_owned(), Some(failed.to_string())));
            }
        }
    }
    results.rows.extend(Promise::ALL.map(Row::of_floor));
    Ok(contenders)
}

fn ours(workshop: &Workshop, options: &CompareOptions) -> Outcome<Found> {
    let path = match &options.ratatoskr {
        Some(path) => std::path::absolute(path).when("resolving --ratatoskr")?,
        None => workshop.broker_program(Profile::Release)?,
    };
    let said = read(std::process::Command::new(&path).arg("--version"))?;
    Ok(Found { path, version: said.split_whitespace().nth(1).unwrap_or("unknown").to_owned() })
}

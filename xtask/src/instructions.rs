//! Instructions of the hot path, piece by piece, against a committed table: micro-benchmarks that do not care how busy the machine is.
//!
//! ```text
//!   examples/hot_path ──callgrind──▶ PIECE 20 rounds  ─┐
//!                                    PIECE 220 rounds ─┴─▶ difference / operations ──▶ hot_path/table.toml: within 5 % above?
//! ```
//!
//! The difference of two runs leaves out the start. Only the main thread counts: a broker's own threads do other things as time goes by.
//! Two runs of the same build differ by a thousandth or two, because maps hash with random keys.
//!
//! Counts depend on more than our code. *The compiler*: its version stands in the table, and another one is allowed
//! [`table::OTHER_COMPILER_PERCENT`]. *The processor*: the C library and `crc32c` choose code by what it can do; valgrind shows a program the
//! same model on every x86-64 machine with AVX2, whatever that can do beyond. *The C library*: its allocator is counted as part of a piece.
//!
//! What it deliberately does not do: guess time from instructions. A cache miss is one instruction.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failed::{Failed, Outcome, While};
use crate::tools::{Tools, VALGRIND};
use crate::workshop::{Workshop, read, run};

use table::{Count, Table};

/// What is counted, and why it may be as much.
const TABLE: &str = "crates/ratatoskr-server/examples/hot_path/table.toml";
/// The page that shows the counts.
const PAGE: &str = "docs/benchmark.md";
/// Cargo's settings for the build.
const BUILD: &str = "crates/ratatoskr-server/examples/hot_path/build.toml";
/// Rounds of the shorter run: enough that what grows at the beginning has grown.
const ROUNDS: u64 = 20;
/// Rounds of the longer one.
const MORE_ROUNDS: u64 = 11 * ROUNDS;
/// The processors the table is for.
const ARCHITECTURE: &str = "x86_64";

/// What to do with the counts.
#[derive(clap::Args, Default)]
pub(crate) struct InstructionsOptions {
    /// Write the counts into the table, in place of comparing them; then say why, there and in the commit
    #[arg(long)]
    write: bool,
}

/// Counts every piece and compares, or writes, the table.
pub(crate) fn run_with(workshop: &Workshop, options: &InstructionsOptions) -> Outcome {
    Tools::install(workshop)?;
    let folder = workshop.target.join("instructions");
    fs::create_dir_all(&folder).when(format_args!("creating {}", folder.display()))?;
    let counting = Counting { program: build(workshop, &folder)?, folder };
    let counts = counting.count_all()?;
    let compiler = compiler()?;
    let table = Table::parse(&text_of(workshop, TABLE)?).when(TABLE)?;
    if options.write {
        return write(workshop, &table.with(&counts, &compiler));
    }
    let report = table.compare(&counts, &compiler);
    print!("{report}");
    if std::env::consts::ARCH != ARCHITECTURE {
        println!("!!! INSTRUCTIONS NOT COMPARED: the table is for {ARCHITECTURE}");
        return Ok(());
    }
    if report.is_kept() {
        return Ok(());
    }
    Err(Failed::new(format!(
        "the hot path has become longer, or {TABLE} does not fit it. Look for what was added: `callgrind_annotate {}/PIECE.more-01` names functions and lines. \
         If it is worth that: `cargo xtask instructions --write`, and say why in the commit",
        counting.folder.display()
    )))
}

fn text_of(workshop: &Workshop, file: &str) -> Outcome<String> {
    fs::read_to_string(workshop.root.join(file)).when(format_args!("reading {file}"))
}

fn write(workshop: &Workshop, table: &Table) -> Outcome {
    let page = table.put_into(&text_of(workshop, PAGE)?);
    for (file, text) in [(TABLE, table.to_string()), (PAGE, page)] {
        fs::write(workshop.root.join(file), text).when(format_args!("writing {file}"))?;
    }
    println!(
        "{TABLE} and {PAGE} are written; each piece has a `why` there: let it say what the count is for"
    );
    Ok(())
}

/// Builds the program and puts it where no other build of it goes.
fn build(workshop: &Workshop, folder: &Path) -> Outcome<PathBuf> {
    let mut cargo = workshop.command("cargo");
    // The whole workspace is named so that libraries are built as other steps build them, and shared.
    cargo.args(["build", "--locked", "--quiet", "--workspace", "--example", "hot_path", "--config", BUILD]);
    // Incremental builds cut a crate into other pieces.
    run(cargo.env("CARGO_INCREMENTAL", "0"))?;
    let program = folder.join("hot_path");
    fs::copy(workshop.target.join("debug/examples/hot_path"), &program).when("keeping the program")?;
    Ok(program)
}

/// The version of the compiler, `1.95.0`.
fn compiler() -> Outcome<String> {
    let said = read(Command::new("rustc").arg("--version"))?;
    let version = said.split_whitespace().nth(1);
    version.map(str::to_owned).ok_or_else(|| Failed::new(format!("rustc says no version: {said:?}")))
}

/// Where counts come from.
struct Counting {
    program: PathBuf,
    /// Keeps callgrind's profiles, for who wants to know more.
    folder: PathBuf,
}

/// What one run was.
struct Run {
    instructions: u64,
    operations: u64,
}

impl Counting {
    fn count_all(&self) -> Outcome<Vec<Count>> {
        let names = read(&mut Command::new(&self.program))?;
        let count = |piece: &str| {
            let (short, long) = (self.run(piece, "few", ROUNDS)?, self.run(piece, "more", MORE_ROUNDS)?);
            let operations = long.operations - short.operations;
            let instructions =
                (long.instructions - short.instructions).saturating_add(operations / 2) / operations;
            Ok(Count { piece: piece.to_owned(), instructions })
        };
        names.lines().map(count).collect()
    }

    fn run(&self, piece: &str, run: &str, rounds: u64) -> Outcome<Run> {
        let profile = self.folder.join(format!("{piece}.{run}"));
        let mut valgrind = Command::new(VALGRIND);
        valgrind.args(["--tool=callgrind", "--quiet", "--separate-threads=yes"]);
        valgrind.arg(format!("--callgrind-out-file={}", profile.display()));
        let operations = read(valgrind.arg(&self.program).arg(piece).arg(rounds.to_string()))?;
        // Each thread has a file; the first is the main thread's.
        let main_thread = self.folder.join(format!("{piece}.{run}-01"));
        let text =
            fs::read_to_string(&main_thread).when(format_args!("reading {}", main_thread.display()))?;
        let instructions = summary(&text)
            .ok_or_else(|| Failed::new(format!("{} has no line `summary: NUMBER`", main_thread.display())))?;
        let operations = operations.trim().parse().when(format_args!("reading what {piece} printed"))?;
        Ok(Run { instructions, operations })
    }
}

/// The instructions a profile sums up to.
fn summary(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("summary: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_says_how_many_instructions_it_sums_up_to() {
        assert_eq!(
            summary("# callgrind format\nevents: Ir\nsummary: 813616\n\n\nfn=(1) main\n0 5\n"),
            Some(813_616)
        );
        assert_eq!(summary("events: Ir\n"), None);
    }

    #[test]
    fn the_committed_table_and_the_page_that_shows_it_say_the_same() {
        let workshop = Workshop::open().unwrap();
        let (text, page) = (text_of(&workshop, TABLE).unwrap(), text_of(&workshop, PAGE).unwrap());
        let table = Table::parse(&text).unwrap();
        assert_eq!(table.to_string(), text);
        assert_eq!(table.put_into(&page), page);
    }
}

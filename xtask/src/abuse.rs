//! Abuse of the gRPC door, tried for real: what a client can send that costs the server more than the client, and what it is refused with.
//!
//! ```text
//!   a broker with one thread ◀── assailant: frames by hand, as fast as they are taken (or not read, or never finished)
//!                            ◀── bystander: publishes all the while, on the same thread; each has to be acknowledged
//!   a row:  attack · promise · tried · outcome · processor · memory before, at most, after
//! ```
//!
//! Each attack has a broker of its own, so that its figures are its own. The first row is no attack: what the bystander alone costs.

mod assailant;
mod attacks;
mod bystander;
mod floods;
mod sieges;
mod strangers;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::broker_process::{BrokerProcess, BrokerSetup};
use crate::failed::{Failed, Outcome, While};
use crate::workshop::{Profile, Workshop};

use attacks::{ATTACKS, Arena, Attack, Fought};
use bystander::Bystander;

/// The bystander's token where callers have to show one: of a broker that lasts for seconds and holds nothing.
const TOKEN: &str = "rtk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// The policy that knows it, by its SHA-256.
const POLICY: &str = "\
[identities.bystander]
roles = [\"bystander\"]
token_sha256 = \"32baa0de3b48e59882905279993135e1ff0d546a27c4b20d547833a31055c4ab\"

[roles.bystander]
allow = [{ actions = [\"publish\", \"manage\"], topics = [\"*\"] }]
";
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Memory is back within this time …
const RECOVERY: Duration = Duration::from_secs(20);
/// … to this much above what it was, or the same again costs nothing more: the allocator keeps some.
const RSS_KEPT_MAX: u64 = 96 << 20;

/// How long, and on what.
#[derive(clap::Args)]
pub(crate) struct AbuseOptions {
    /// Seconds of each attack
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// These attacks only
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// A broker that is already built
    #[arg(long, value_name = "PATH")]
    broker: Option<PathBuf>,
    /// Put the table into docs/reliability.md
    #[arg(long)]
    write: bool,
}

/// What came of an attack.
pub(crate) struct Row {
    pub(crate) attack: &'static str,
    pub(crate) promise: &'static str,
    /// How much of it there was.
    pub(crate) tried: String,
    /// How it was answered.
    pub(crate) outcome: String,
    /// Processor time of the server while it lasted, the bystander's part included.
    pub(crate) cpu: Duration,
    pub(crate) took: Duration,
    /// Memory of the server before, at most, and afterwards.
    pub(crate) rss_bytes: [u64; 3],
    pub(crate) acknowledged: u64,
    /// The longest that the bystander waited.
    pub(crate) wait_max: Duration,
    /// Promises that were broken.
    pub(crate) broken: Vec<String>,
}

/// Tries everything, and prints a table.
pub(crate) fn run(workshop: &Workshop, options: &AbuseOptions) -> Outcome {
    let program = match &options.broker {
        // Started in a folder of its own: a relative path would be looked for there.
        Some(program) => std::path::absolute(program).when("resolving the broker's path")?,
        None => workshop.broker_program(Profile::Release)?,
    };
    let rows = rows(&program, Duration::from_secs(options.seconds), &options.only, None)?;
    if options.write {
        write(workshop, &rows)?;
    }
    let broken: Vec<_> =
        rows.iter().flat_map(|row| row.broken.iter().map(|what| format!("{}: {what}", row.attack))).collect();
    if broken.is_empty() { Ok(()) } else { Err(Failed::new(broken.join("\n"))) }
}

const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- attacks: written by `cargo xtask abuse --write` -->\n";
const END: &str = "<!-- end of attacks -->";

/// Puts the table between the page's markers.
fn write(workshop: &Workshop, rows: &[Row]) -> Outcome {
    let path = workshop.root.join(PAGE);
    let page = std::fs::read_to_string(&path).when(format_args!("reading {PAGE}"))?;
    let lost = || Failed::new(format!("{PAGE} has lost its markers"));
    let (head, rest) = page.split_once(BEGIN).ok_or_else(lost)?;
    let (_, foot) = rest.split_once(END).ok_or_else(lost)?;
    let mut table = String::from(
        "| attack | promise | tried | what came of it | processor | memory before, most, after | acknowledged meanwhile, longest wait |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let [before, most, after] = row.rss_bytes.map(|bytes| bytes >> 20);
        let (cpu, took) = (row.cpu.as_secs_f64(), row.took.as_secs_f64());
        let cells = [
            row.attack.to_owned(),
            row.promise.to_owned(),
            row.tried.clone(),
            row.outcome.clone(),
            format!("{cpu:.2} of {took:.1} s"),
            format!("{before}, {most}, {after} MiB"),
            format!("{}, {} ms", row.acknowledged, row.wait_max.as_millis()),
        ];
        table.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    std::fs::write(&path, format!("{head}{BEGIN}{table}{END}{foot}")).when(format_args!("writing {PAGE}"))
}

/// Tries each attack, or those named, against a broker of its own, which may be broken on purpose.
pub(crate) fn rows(
    program: &Path,
    lasts: Duration,
    only: &[String],
    broken_by: Option<&'static str>,
) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    println!("attack | tried | outcome | CPU s of s | RSS MiB before, most, after | acks, longest wait ms");
    for attack in ATTACKS {
        if only.is_empty() || only.iter().any(|name| attack.name.contains(name.as_str())) {
            let row = attempt(program, attack, lasts, broken_by)?;
            print(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn print(row: &Row) {
    let [before, most, after] = row.rss_bytes.map(|bytes| bytes >> 20);
    println!(
        "{} | {} | {} | {:.2} of {:.1} | {before}, {most}, {after} | {}, {}",
        row.attack,
        row.tried,
        row.outcome,
        row.cpu.as_secs_f64(),
        row.took.as_secs_f64(),
        row.acknowledged,
        row.wait_max.as_millis(),
    );
    for what in &row.broken {
        println!("!!! {}: {what} (promised: {})", row.attack, row.promise);
    }
}

/// Lets an attack run: how it went, and the most memory the broker had.
fn fight(broker: &BrokerProcess, attack: &'static Attack, arena: &Arena) -> Outcome<(Fought, u64)> {
    std::thread::scope(|scope| {
        let fight = scope.spawn(|| (attack.run)(arena));
        let mut most = 0;
        while !fight.is_finished() {
            most = most.max(broker.usage()?.rss_bytes);
            std::thread::sleep(LOOK);
        }
        let fought =
            fight.join().map_err(|_| Failed::new(format!("{}: the assailant panicked", attack.name)))?;
        Ok((fought?, most))
    })
}

fn attempt(
    program: &Path,
    attack: &'static Attack,
    lasts: Duration,
    broken_by: Option<&'static str>,
) -> Outcome<Row> {
    let folder =
        tempfile::tempdir().map_err(|error| Failed::new(format!("a folder for the broker: {error}")))?;
    let mut setup = BrokerSetup::new(program.to_owned(), folder.path())?;
    setup.arguments = ["--threads", "1"].iter().chain(attack.arguments).map(ToString::to_string).collect();
    if attack.asks {
        let path = folder.path().join("access.toml");
        std::fs::write(&path, POLICY).when("writing the policy")?;
        setup.arguments.extend(["--access".to_owned(), path.display().to_string()]);
    }
    setup.environment.extend(broken_by.map(|word| ("E2E_BROKEN", word.to_owned())));
    let broker = setup.start()?;
    let bystander = Bystander::start(setup.uri(), attack.asks.then_some(TOKEN));
    let arena =
        Arena { address: setup.grpc, http: setup.http, uri: setup.uri(), lasts: lasts.max(attack.lasts_min) };
    (attack.prepare)(&arena)?;
    let before = broker.usage()?;
    let began = Instant::now();
    let (fought, most) = fight(&broker, attack, &arena)?;
    let took = began.elapsed();
    let cpu = broker.usage()?.cpu.saturating_sub(before.cpu);
    let ended = Instant::now();
    while broker.usage()?.rss_bytes > before.rss_bytes + RSS_KEPT_MAX && ended.elapsed() < RECOVERY {
        std::thread::sleep(LOOK);
    }
    let after = broker.usage()?.rss_bytes;
    let mut again = 0;
    if after > before.rss_bytes + RSS_KEPT_MAX {
        // Either it is lost, or the allocator keeps it for the next time: which of them shows the next time.
        again = fight(&broker, attack, &arena)?.1;
    }
    let (acknowledged, wait_max, failure) = bystander.stop();
    let mut faults = fought.broken;
    faults.extend(failure.map(|error| format!("the bystander was refused: {error}")));
    if wait_max > attack.wait_max {
        faults.push(format!("the bystander waited for {} ms", wait_max.as_millis()));
    }
    if most - before.rss_bytes > attack.rss_bytes_max {
        let (grown, allowed) = ((most - before.rss_bytes) >> 20, attack.rss_bytes_max >> 20);
        faults.push(format!("memory grew by {grown} MiB; at most {allowed} were promised"));
    }
    if again > most.max(after) + RSS_KEPT_MAX {
        faults.push(format!("a second time memory grew to {} MiB: it had not come back", again >> 20));
    }
    Ok(Row {
        attack: attack.name,
        promise: attack.promise,
        tried: fought.tried,
        outcome: fought.outcome,
        cpu,
        took,
        rss_bytes: [before.rss_bytes, most, after],
        acknowledged,
        wait_max,
        broken: faults,
    })
}

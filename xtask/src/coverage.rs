//! How much of the crates that keep promises is run by their tests.
//!
//! The tests of the log, the broker and the simulator are built once more with the compiler's own
//! instrumentation. Only lines of the log and the broker count; the figure is printed for each
//! and for both, and falling under [`FLOOR_PERCENT`] is a failure.

use std::fs;

use serde_json::Value;

use crate::failed::{Failed, Outcome, While};
use crate::tools::Tools;
use crate::workshop::{self, Workshop};

/// Keeps the names in the profile plain: the packaged LLVM tools are built without zlib.
const PLAIN_NAMES: &str = "-C llvm-args=-enable-name-compression=false";
/// What we aim for.
const GOAL_PERCENT: f64 = 85.0;
/// What the project promises; less is a failure.
const FLOOR_PERCENT: f64 = 82.0;
/// Crates whose lines count.
const COUNTED: &[&str] = &["ratatoskr-state", "ratatoskr-log", "ratatoskr-broker"];
/// Random crash runs under instrumentation: enough to reach every line, few enough to be quick.
const SIMULATED_SEEDS: &str = "50";

/// Lines that could be run, and that were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Lines {
    count: u64,
    covered: u64,
}

impl Lines {
    fn percent(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.covered as f64 * 100.0 / self.count as f64 }
    }
}

/// Runs the tests with instrumentation and prints the figures.
pub(crate) fn run(workshop: &Workshop) -> Outcome {
    let tools = Tools::install(workshop)?;
    let llvm = tools.llvm()?;
    let report = workshop.target.join("coverage.json");
    let mut command = workshop.command(tools.cargo_llvm_cov());
    command
        .args(["llvm-cov", "--locked", "--no-fail-fast", "--json", "--summary-only", "--output-path"])
        .arg(&report);
    command.args([
        "--package",
        "ratatoskr-state",
        "--package",
        "ratatoskr-log",
        "--package",
        "ratatoskr-broker",
        "--package",
        "ratatoskr-sim",
    ]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} {PLAIN_NAMES}").trim());
    command.env("LLVM_COV", llvm.join("llvm-cov")).env("LLVM_PROFDATA", llvm.join("llvm-profdata"));
    workshop::run(command.env("RATATOSKR_SIM_SEEDS", SIMULATED_SEEDS))?;
    let text = fs::read_to_string(&report).when(format_args!("reading {}", report.display()))?;
    print_figures(&serde_json::from_str(&text).when("parsing the coverage report")?)
}

fn print_figures(report: &Value) -> Outcome {
    let mut both = Lines::default();
    for name in COUNTED {
        let lines = lines_of(report, &format!("/{name}/src/"));
        println!("coverage: {name:<17} {:>5.1} % of {} lines", lines.percent(), lines.count);
        both = Lines { count: both.count + lines.count, covered: both.covered + lines.covered };
    }
    println!(
        "coverage: {:<17} {:>5.1} % of {} lines (goal {GOAL_PERCENT} %)",
        "both",
        both.percent(),
        both.count
    );
    if both.percent() < FLOOR_PERCENT {
        return Err(Failed::new(format!(
            "{:.1} % of log and broker is run by tests; {FLOOR_PERCENT} % is promised",
            both.percent()
        )));
    }
    Ok(())
}

fn lines_of(report: &Value, folder: &str) -> Lines {
    let files = report["data"][0]["files"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_folder =
        files.iter().filter(|file| file["filename"].as_str().is_some_and(|name| name.contains(folder)));
    of_folder.fold(Lines::default(), |sum, file| {
        let lines = &file["summary"]["lines"];
        Lines {
            count: sum.count + lines["count"].as_u64().unwrap_or(0),
            covered: sum.covered + lines["covered"].as_u64().unwrap_or(0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(covered: u64) -> Value {
        let file = |name: &str, count: u64, covered: u64| json!({"filename": name, "summary": {"lines": {"count": count, "covered": covered}}});
        json!({"data": [{"files": [
            file("/r/crates/ratatoskr-log/src/journal.rs", 100, covered),
            file("/r/crates/ratatoskr-sim/src/disk.rs", 100, 0),
        ]}]})
    }

    #[test]
    fn only_the_counted_crates_count() {
        assert_eq!(lines_of(&report(90), "/ratatoskr-log/src/"), Lines { count: 100, covered: 90 });
        assert!(print_figures(&report(82)).is_ok());
    }

    #[test]
    fn less_than_promised_fails() {
        assert!(print_figures(&report(81)).unwrap_err().to_string().contains("82 % is promised"));
        assert!(print_figures(&json!({})).is_err());
    }
}

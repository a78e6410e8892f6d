//! `ratatoskr bench`: measures a broker, and tells what it found.
//!
//! The measuring is all in `ratatoskr-bench`; here are its output and its exit code. A report is a report on a terminal and in a
//! pipe alike; programs read `--json`.

use std::io::{self, Write as _};

use ratatoskr_bench::{BenchArguments, BenchError, Target};

use crate::exit::{Exit, Failure, Outcome};
use crate::resources::raise_open_files_limit;

/// `target` is a broker somebody asked for by name; without one, a broker is started for the run.
pub(crate) fn run(arguments: &BenchArguments, target: Option<Target>) -> Outcome {
    // Thousands of connections, and the broker we start inherits it.
    raise_open_files_limit();
    let is_json = arguments.workload.flags().json;
    let mut out = io::stdout();
    let announce = |headline: &str| {
        if !is_json {
            // Nobody may be reading; the report that follows finds out.
            let _ = writeln!(io::stdout(), "{headline}");
        }
    };
    let report = ratatoskr_bench::run(&arguments.workload, target, announce)?;
    if is_json {
        writeln!(out, "{}", report.json())?;
    } else {
        write!(out, "{}", report.tables())?;
    }
    if report.missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, report.missed.join("\n")))
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Failure {
        let exit = match error {
            BenchError::Usage(_) => Exit::Usage,
            BenchError::Unavailable { .. } => Exit::Unavailable,
            BenchError::Failed(_) => Exit::Failure,
        };
        Failure::new(exit, error.to_string())
    }
}

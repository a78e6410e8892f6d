//! What we build on: licences, sources and bans always; vulnerabilities when the database of
//! known ones can be had.
//!
//! That database is a git repository on a public site, and some build machines reach package
//! registries only. Whether the vulnerability check ran is therefore said in one loud line,
//! and with `ADVISORIES=required` its absence is a failure (the hosted workflow sets
//! this, so that no change lands there unchecked).

use crate::failed::{Failed, Outcome};
use crate::tools::Tools;
use crate::workshop::{Workshop, read, run};

/// Runs cargo-deny.
pub(super) fn check(workshop: &Workshop) -> Outcome {
    let tools = Tools::install(workshop)?;
    let deny = || {
        let mut command = workshop.command(tools.cargo_deny());
        command.args(["--workspace", "--locked"]);
        command
    };
    run(deny().args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    if let Err(failed) = read(deny().args(["fetch", "db"])) {
        let why = failed.to_string();
        let why = why.lines().last().unwrap_or_default();
        if std::env::var("ADVISORIES").as_deref() == Ok("required") {
            return Err(Failed::new(format!(
                "the advisory database cannot be fetched, and it is required here: {why}"
            )));
        }
        println!(
            "!!! ADVISORIES NOT CHECKED: the database of known vulnerabilities cannot be fetched from this machine ({why})"
        );
        return Ok(());
    }
    run(deny().args(["check", "--hide-inclusion-graph", "advisories"]))?;
    println!("advisories: checked against the current database");
    Ok(())
}

//! The test driver: one command that installs what is missing and runs every layer.
//!
//! ```text
//! ./test ──▶ cargo xtask test ──▶ tools ▸ fmt ▸ tidy ▸ clippy ▸ tests ▸ … ▸ coverage ──▶ one line per step
//! ```
//!
//! Invariants: a step either ran or failed, it is never left out in silence; one failed step does
//! not hide the next; the exit code is zero only when all steps passed. What a step is stands in
//! [`steps`].

mod proto;
mod steps;
mod supply;

use std::time::{Duration, Instant};

use crate::failed::{Failed, Outcome};
use crate::workshop::Workshop;

use steps::{STEPS, Step};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct TestOptions {
    /// Steps to run, by name; all of them when none is given
    steps: Vec<String>,
    /// List the steps and what each is for, and run nothing
    #[arg(long)]
    list: bool,
}

/// How a step ended.
struct Ended {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// Runs the chosen steps in their order and prints a line for each.
pub(crate) fn run(workshop: &Workshop, options: &TestOptions) -> Outcome {
    if options.list {
        for step in STEPS {
            println!("{:<12} {}", step.name, step.purpose);
        }
        return Ok(());
    }
    let chosen = choose(&options.steps)?;
    let started = Instant::now();
    let mut ended = Vec::new();
    for step in &chosen {
        println!("\n=== {}: {}", step.name, step.purpose);
        let step_started = Instant::now();
        let outcome = (step.run)(workshop);
        if let Err(failed) = &outcome {
            println!("=== {} FAILED: {failed}", step.name);
        }
        ended.push(Ended { name: step.name, took: step_started.elapsed(), outcome });
    }
    report(&ended, started.elapsed())
}

fn choose(names: &[String]) -> Outcome<Vec<&'static Step>> {
    if names.is_empty() {
        return Ok(STEPS.iter().collect());
    }
    for name in names {
        if !STEPS.iter().any(|step| step.name == name) {
            let known: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            return Err(Failed::new(format!("there is no step {name:?}; steps are {}", known.join(", "))));
        }
    }
    // The tools come first whatever was asked for: later steps may need them.
    Ok(STEPS
        .iter()
        .filter(|step| step.name == "tools" || names.iter().any(|name| name == step.name))
        .collect())
}

fn report(ended: &[Ended], took: Duration) -> Outcome {
    println!("\n=== steps, with the seconds each took");
    for step in ended {
        let word = if step.outcome.is_ok() { "passed" } else { "FAILED" };
        println!("{:<12} {word} {:>7.1} s", step.name, step.took.as_secs_f64());
    }
    let failed: Vec<_> = ended.iter().filter(|step| step.outcome.is_err()).map(|step| step.name).collect();
    println!("total               {:>7.1} s", took.as_secs_f64());
    println!("steps: {} passed, {} failed", ended.len() - failed.len(), failed.len());
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failed::new(format!("{} did not pass; run one alone with `./test NAME`", failed.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_different_names_and_start_with_the_tools() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names[0], "tools");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn chosen_steps_keep_their_order_and_bring_the_tools() {
        let chosen = choose(&["tidy".into(), "fmt".into()]).unwrap();
        assert_eq!(chosen.iter().map(|step| step.name).collect::<Vec<_>>(), ["tools", "fmt", "tidy"]);
    }

    #[test]
    fn an_unknown_step_is_an_error_that_names_the_known_ones() {
        let error = choose(&["lint".into()]).err().unwrap().to_string();
        assert!(error.starts_with("there is no step \"lint\"; steps are tools, fmt"), "{error}");
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        let passed = || Ended { name: "a", took: Duration::ZERO, outcome: Ok(()) };
        assert!(report(&[passed()], Duration::ZERO).is_ok());
        let failed = Ended { name: "b", took: Duration::ZERO, outcome: Err(Failed::new("x")) };
        assert!(
            report(&[passed(), failed], Duration::ZERO)
                .unwrap_err()
                .to_string()
                .starts_with("b did not pass")
        );
    }
}

//! Every step of a walk in `ARCHITECTURE.md` names a file that exists and functions that are in it.
//!
//! ```text
//!   1. `broker/src/sequencer.rs` `append`, `place`: the records get their offsets
//!       │                         └── functions, up to the colon
//!       └── below `crates/ratatoskr-`
//! ```
//!
//! A walk that is wrong is worse than none: somebody new believes it.

use super::{Finding, Tree};

const PAGE: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Walks";

/// Reports steps that name a file or a function that is not there.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some((_, text)) = tree.iter().find(|(path, _)| *path == PAGE) else { return Vec::new() };
    let mut findings = Vec::new();
    let mut in_walks = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("## ") {
            in_walks = line == HEADING;
        }
        if in_walks && line.starts_with(|c: char| c.is_ascii_digit()) {
            let advice = examine(tree, line);
            findings.extend(advice.map(|advice| Finding::new(PAGE, index + 1, advice)));
        }
    }
    findings
}

/// What is wrong with a step.
fn examine(tree: &Tree, step: &str) -> Option<String> {
    let names = step.split(": ").next().unwrap_or(step);
    let mut spans = names.split('`').skip(1).step_by(2);
    let Some(file) = spans.next() else { return Some("this step names no file".to_owned()) };
    let path = format!("crates/ratatoskr-{file}");
    let Some((_, text)) = tree.iter().find(|(known, _)| **known == path) else {
        return Some(format!("there is no file {path}"));
    };
    let is_missing = |function: &&str| {
        let (call, generic) = (format!("fn {function}("), format!("fn {function}<"));
        !text.contains(&call) && !text.contains(&generic)
    };
    let missing: Vec<&str> = spans.filter(is_missing).collect();
    (!missing.is_empty()).then(|| format!("{path} has no function {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(page: &str) -> Vec<String> {
        let code = "fn append(&mut self) {}\nfn place<T>(topic: T) {}\n";
        let tree = Tree::of(&[(PAGE, page), ("crates/ratatoskr-broker/src/sequencer.rs", code)]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_step_that_leads_nowhere_is_told() {
        let page = "## Walks\n\
            1. `broker/src/sequencer.rs` `append`, `place`: `Records` get offsets\n\
            2. `broker/src/sequencer.rs` `aped`: wrong\n\
            3. `broker/src/gone.rs` `append`: wrong\n\
            ## Threads\n\
            1. none\n";
        let told = findings(page);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("ARCHITECTURE.md:3") && told[0].contains("no function aped"), "{}", told[0]);
        assert!(told[1].contains("no file crates/ratatoskr-broker/src/gone.rs"), "{}", told[1]);
    }
}

//! Files are short and open with their story.
//!
//! A file past [`LINES_MAX`] lines wants splitting. The few that may be longer stand in
//! [`LONGER`] with a reason and their own limit; the list only shrinks: a file that has become
//! short must leave it. Tests and tables of cases may be as long as they need.

use super::{Finding, Tree, has_extension};

/// Lines of a source file; past it the file holds more than one idea.
const LINES_MAX: usize = 500;
/// Lines from which a Rust file must open with `//!`.
const STORY_LINES: usize = 100;

/// A file that may be longer than [`LINES_MAX`].
struct Exception {
    path: &'static str,
    /// Lines it may have; lower it when the file shrinks.
    lines_max: usize,
    /// Why it is not split.
    reason: &'static str,
}

const LONGER: &[Exception] = &[];

/// Reports files that are too long or start without a story.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    check_with(tree, LONGER)
}

fn check_with(tree: &Tree, longer: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter() {
        let lines = text.lines().count();
        if is_source(path) && !is_test(path) {
            findings.extend(check_length(path, lines, longer));
        }
        if is_rust(path) && lines >= STORY_LINES && !text.trim_start().starts_with("//!") {
            let advice = format!(
                "{lines} lines without a story: open the file with `//!`: what it is, a small picture, the invariants, what it does not do"
            );
            findings.push(Finding::new(path, 1, advice));
        }
    }
    for exception in longer.iter().filter(|exception| tree.get(exception.path).is_none()) {
        findings.push(Finding::new(
            exception.path,
            1,
            "is gone; take it off LONGER in xtask/src/tidy/shape.rs",
        ));
    }
    findings
}

fn check_length(path: &str, lines: usize, longer: &[Exception]) -> Option<Finding> {
    let exception = longer.iter().find(|exception| exception.path == path);
    let (lines_max, why) = exception.map_or((LINES_MAX, "one idea per file"), |e| (e.lines_max, e.reason));
    if lines > lines_max {
        return Some(Finding::new(
            path,
            lines_max + 1,
            format!("{lines} lines, {lines_max} allowed ({why}); split it"),
        ));
    }
    if exception.is_some() && lines <= LINES_MAX {
        return Some(Finding::new(
            path,
            1,
            format!("has {lines} lines now; take it off LONGER in xtask/src/tidy/shape.rs"),
        ));
    }
    None
}

fn is_rust(path: &str) -> bool {
    has_extension(path, &["rs"])
}

fn is_source(path: &str) -> bool {
    has_extension(path, &["rs", "py", "sh"])
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs") || path.ends_with("_tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::advice;

    fn file_of(lines: usize) -> String {
        format!("//! A story.\n{}", "let x = 1;\n".repeat(lines - 1))
    }

    #[test]
    fn a_file_of_500_lines_is_fine_and_one_of_501_is_not() {
        let (fits, over) = (file_of(500), file_of(501));
        assert_eq!(advice(&check(&Tree::of(&[("src/a.rs", &fits)]))), Vec::<String>::new());
        let found = advice(&check(&Tree::of(&[("src/a.rs", &over)])));
        assert_eq!(found, ["src/a.rs:501: 501 lines, 500 allowed (one idea per file); split it"]);
    }

    #[test]
    fn tests_may_be_long() {
        let long = file_of(900);
        assert_eq!(
            check(&Tree::of(&[("crates/x/tests/table.rs", &long), ("src/topic/tests.rs", &long)])),
            []
        );
    }

    #[test]
    fn a_file_of_100_lines_needs_a_story_and_one_of_99_does_not() {
        let plain = "let x = 1;\n";
        assert_eq!(check(&Tree::of(&[("src/a.rs", &plain.repeat(99))])), []);
        let found = advice(&check(&Tree::of(&[("src/a.rs", &plain.repeat(100))])));
        assert!(found[0].starts_with("src/a.rs:1: 100 lines without a story"), "{found:?}");
    }

    #[test]
    fn the_list_of_exceptions_only_shrinks() {
        let longer = [Exception { path: "src/a.rs", lines_max: 600, reason: "a table" }];
        let (in_bounds, grown, shrunk) = (file_of(600), file_of(601), file_of(500));
        assert_eq!(check_with(&Tree::of(&[("src/a.rs", &in_bounds)]), &longer), []);
        assert!(
            advice(&check_with(&Tree::of(&[("src/a.rs", &grown)]), &longer))[0]
                .contains("600 allowed (a table)")
        );
        assert!(
            advice(&check_with(&Tree::of(&[("src/a.rs", &shrunk)]), &longer))[0]
                .contains("take it off LONGER")
        );
        assert!(advice(&check_with(&Tree::of(&[]), &longer))[0].contains("is gone"));
    }
}

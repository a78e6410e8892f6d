//! Every relative link in a Markdown page leads to a file of the repository, and to a heading
//! that exists.
//!
//! Links to other sites are not followed: a test must not depend on somebody's server. Code
//! blocks and `code spans` hold no links.

use super::{Finding, Tree, has_extension};

/// Reports links that lead nowhere.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| has_extension(path, &["md"])) {
        for (line, target) in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if let Err(advice) = follow(tree, path, target) {
                findings.push(Finding::new(path, line, advice));
            }
        }
    }
    findings
}

/// Targets of `[text](target)` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            // Every second piece between backticks is a code span.
            for prose in line.split('`').step_by(2) {
                let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
                found.extend(targets.map(|target| (index + 1, target)));
            }
        }
    }
    found
}

fn follow(tree: &Tree, from: &str, target: &str) -> Result<(), String> {
    let (file, heading) =
        target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let path = if file.is_empty() { from.to_owned() } else { resolve(from, file) };
    let is_folder = || {
        tree.iter()
            .any(|(known, _)| known.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/')))
    };
    let Some(text) = tree.get(&path) else {
        return if is_folder() {
            Ok(())
        } else {
            Err(format!("link to {target} leads nowhere: there is no {path}"))
        };
    };
    match heading {
        Some(heading) if !anchors(text).any(|anchor| anchor == heading) => {
            Err(format!("link to {target} leads nowhere: {path} has no heading #{heading}"))
        }
        _ => Ok(()),
    }
}

/// `../x.md` seen from `docs/a.md` is `x.md`.
fn resolve(from: &str, file: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchors a page offers: its headings in lower case, signs removed, spaces as `-`.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::advice;

    fn findings(page: &str) -> Vec<String> {
        let files = [("docs/a.md", page), ("README.md", "# The Start, here\n"), ("docs/adr/0001-x.md", "")];
        advice(&check(&Tree::of(&files)))
    }

    #[test]
    fn links_to_files_folders_headings_and_other_sites_are_fine() {
        let page = "# Own\n[a](../README.md) [b](adr/0001-x.md) [c](adr) [d](#own)\n[e](../README.md#the-start-here) [f](https://example.org/x)\n";
        assert_eq!(findings(page), Vec::<String>::new());
    }

    #[test]
    fn a_link_to_nothing_is_reported_with_its_line() {
        assert_eq!(
            findings("x\n[a](gone.md)\n"),
            ["docs/a.md:2: link to gone.md leads nowhere: there is no docs/gone.md"]
        );
    }

    #[test]
    fn a_link_to_a_missing_heading_is_reported() {
        assert!(findings("[a](../README.md#end)\n")[0].contains("has no heading #end"));
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(findings("```\n[a](gone.md)\n```\n`[a](gone.md)`\n"), Vec::<String>::new());
    }
}

//! What `docs` and the house style ask of the text of this repository, checked by a machine.
//!
//! ```text
//! git ls-files ──▶ Tree ──▶ arrows · dependencies · shape · words · links · walks ──▶ findings: file:line: what to do
//! ```
//!
//! Each check is a pure function from the [`Tree`] to findings, with bad samples in its tests.
//! What clippy can check (function length, `unwrap`, parameters) is left to clippy.

mod arrows;
mod dependencies;
mod links;
mod shape;
mod walks;
mod words;

use std::collections::BTreeMap;
use std::fmt;

use crate::failed::{Failed, Outcome, While};
use crate::workshop::{Workshop, read};

/// The text files of the repository, by path from its top folder.
pub(crate) struct Tree(BTreeMap<String, String>);

/// One thing to put right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, from the repository's top folder.
    path: String,
    /// The line, counted from 1.
    line: usize,
    /// What is wrong and what to do.
    advice: String,
}

type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: &[(&str, Check)] = &[
    ("crate arrows", arrows::check),
    ("dependencies", dependencies::check),
    ("file shape", shape::check),
    ("words", words::check),
    ("links", links::check),
    ("walks", walks::check),
];

/// Runs every check and prints each finding.
pub(crate) fn run(workshop: &Workshop) -> Outcome {
    let tree = Tree::load(workshop)?;
    let mut total = 0;
    for (name, check) in CHECKS {
        let findings = check(&tree);
        println!(
            "tidy: {name}: {}",
            if findings.is_empty() { "ok".into() } else { format!("{} to fix", findings.len()) }
        );
        for finding in &findings {
            println!("{finding}");
        }
        total += findings.len();
    }
    if total == 0 {
        return Ok(());
    }
    Err(Failed::new(format!(
        "tidy found {total} things to fix in {} files; each line above says what to do",
        tree.0.len()
    )))
}

impl Tree {
    /// Reads every text file that git knows or would add.
    fn load(workshop: &Workshop) -> Outcome<Tree> {
        let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = read(workshop.command("git").args(arguments))?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            match std::fs::read(workshop.root.join(path)) {
                // What is not UTF-8 (a picture, a fixture of the disk format) has no lines to check, but
                // exists: links may point at it.
                Ok(bytes) => files.insert(path.to_owned(), String::from_utf8(bytes).unwrap_or_default()),
                // Removed in the work tree, not yet in the index.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error).when(format_args!("reading {path}")),
            };
        }
        Ok(Tree(files))
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The manifests of the workspace's crates: (path, text).
    fn crate_manifests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(path, _)| {
            let parts: Vec<_> = path.split('/').collect();
            matches!(parts.as_slice(), ["crates", _, "Cargo.toml"] | ["xtask", "Cargo.toml"])
        })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        Tree(files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect())
    }
}

impl Finding {
    fn new(path: &str, line: usize, advice: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.advice)
    }
}

/// The first line that starts with `start`, counted from 1; 1 when there is none.
fn line_starting(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(start)).map_or(1, |index| index + 1)
}

/// Whether a path ends in one of these extensions, given without the dot.
fn has_extension(path: &str, extensions: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}

#[cfg(test)]
fn advice(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

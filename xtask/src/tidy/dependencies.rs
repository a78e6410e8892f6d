//! Every dependency has a line in `docs/dependencies.md`, and every line there a dependency; and a
//! crate names no dependency that its code does not mention.
//!
//! Whether code mentions a crate is decided by its name as a word anywhere in the crate's Rust
//! files. That can miss an unused one whose name is an ordinary word; it never accuses a used one, but
//! for generated code, which is not in the tree: see [`ONLY_GENERATED`].

use std::collections::BTreeSet;

use super::{Finding, Tree, has_extension, line_starting};

const MANIFEST: &str = "Cargo.toml";
const PAGE: &str = "docs/dependencies.md";
/// The heading that ends the table of crates; what follows are tools of the test run.
const END_OF_CRATES: &str = "## Tools";
/// Dependencies that only generated code mentions: (crate's manifest, dependency).
const ONLY_GENERATED: &[(&str, &str)] = &[("crates/ratatoskr-proto/Cargo.toml", "tonic-prost")];

/// Compares `[workspace.dependencies]` with the page, and with what the crates use.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let (Some(manifest), Some(page)) = (tree.get(MANIFEST), tree.get(PAGE)) else {
        return vec![Finding::new(PAGE, 1, format!("{MANIFEST} or {PAGE} is missing"))];
    };
    let declared = match declared(manifest) {
        Ok(declared) => declared,
        Err(error) => return vec![Finding::new(MANIFEST, 1, format!("this is no valid TOML: {error}"))],
    };
    let explained = explained(page);
    let used = used(tree);
    let mut findings = Vec::new();
    for name in &declared {
        let line = line_starting(manifest, name);
        if !explained.iter().any(|(_, explained)| explained == name) {
            let advice = format!(
                "{name} has no line in {PAGE}: say what it is for, why this one, and what we would do without it"
            );
            findings.push(Finding::new(MANIFEST, line, advice));
        }
        if !used.contains(name) {
            findings.push(Finding::new(MANIFEST, line, format!("no crate uses {name}; remove it")));
        }
    }
    for (line, name) in &explained {
        if !declared.contains(name) {
            findings.push(Finding::new(
                PAGE,
                *line,
                format!("{name} is not in [workspace.dependencies] of {MANIFEST}; remove its line"),
            ));
        }
    }
    findings.extend(unmentioned(tree));
    findings
}

/// Dependencies that a crate's manifest names and its code does not.
fn unmentioned(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.crate_manifests() {
        let folder = path.trim_end_matches("Cargo.toml");
        let code: Vec<&str> = tree
            .iter()
            .filter(|(file, _)| file.starts_with(folder) && has_extension(file, &["rs"]))
            .map(|(_, code)| code)
            .collect();
        for name in dependencies_of(text) {
            let word = name.replace('-', "_");
            if !ONLY_GENERATED.contains(&(path, &name)) && !code.iter().any(|code| mentions(code, &word)) {
                findings.push(Finding::new(
                    path,
                    line_starting(text, &name),
                    format!("no code of this crate mentions {name}; remove it"),
                ));
            }
        }
    }
    findings
}

fn mentions(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part))
}

/// Dependencies from elsewhere, as the root manifest names them.
fn declared(manifest: &str) -> Result<BTreeSet<String>, toml::de::Error> {
    let manifest: toml::Table = toml::from_str(manifest)?;
    let dependencies = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let names = dependencies.and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
    Ok(names.filter(|name| !name.starts_with("ratatoskr")).cloned().collect())
}

/// Names in the first column of the page's table, with their lines.
fn explained(page: &str) -> Vec<(usize, String)> {
    let lines = page.lines().enumerate().take_while(|(_, line)| !line.starts_with(END_OF_CRATES));
    let mut names = Vec::new();
    for (index, line) in lines {
        let Some(cell) = line.strip_prefix('|').and_then(|rest| rest.split('|').next()) else { continue };
        // One row may explain a family: `tonic`, `tonic-prost`.
        names.extend(cell.split('`').skip(1).step_by(2).map(|name| (index + 1, name.to_owned())));
    }
    names
}

fn used(tree: &Tree) -> BTreeSet<String> {
    tree.crate_manifests().flat_map(|(_, text)| dependencies_of(text)).collect()
}

/// All dependencies a crate's manifest names, of every kind. A manifest that is no TOML is reported by `arrows`.
fn dependencies_of(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(manifest).unwrap_or_default();
    let sections = ["dependencies", "build-dependencies", "dev-dependencies"];
    let tables = sections.iter().filter_map(|section| manifest.get(*section).and_then(toml::Value::as_table));
    tables.flat_map(toml::Table::keys).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::advice;

    const ROOT: &str =
        "[workspace.dependencies]\nratatoskr-log = { path = \"crates/ratatoskr-log\" }\nbytes = \"1\"\n";
    const CRATE: &str = "[package]\nname = \"ratatoskr-log\"\n[dependencies]\nbytes.workspace = true\n";

    fn findings(root: &str, page: &str) -> Vec<String> {
        let code = ("crates/log/src/lib.rs", "use bytes::Bytes;\n");
        let files =
            [("Cargo.toml", root), ("docs/dependencies.md", page), ("crates/log/Cargo.toml", CRATE), code];
        advice(&check(&Tree::of(&files)))
    }

    #[test]
    fn an_explained_and_used_dependency_is_fine() {
        assert_eq!(findings(ROOT, "| `bytes` | shared buffers |\n"), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_without_a_line_is_reported() {
        assert!(findings(ROOT, "nothing\n")[0].starts_with("Cargo.toml:3: bytes has no line"));
    }

    #[test]
    fn a_line_without_a_dependency_is_reported() {
        let found = findings(ROOT, "| `bytes` | |\n| `gone` | |\n");
        assert!(found[0].starts_with("docs/dependencies.md:2: gone is not in"), "{found:?}");
    }

    #[test]
    fn an_unused_dependency_is_reported() {
        let root = format!("{ROOT}idle = \"1\"\n");
        assert!(findings(&root, "| `bytes`, `idle` | |\n")[0].contains("no crate uses idle"));
    }

    #[test]
    fn a_dependency_that_no_code_mentions_is_reported_with_its_line() {
        let manifest = format!("{CRATE}serde_json.workspace = true\n");
        let tree =
            |code| Tree::of(&[("crates/log/Cargo.toml", manifest.as_str()), ("crates/log/src/lib.rs", code)]);
        let found = advice(&unmentioned(&tree("use bytes::Bytes; // not_serde_json\n")));
        assert_eq!(found, ["crates/log/Cargo.toml:5: no code of this crate mentions serde_json; remove it"]);
        assert_eq!(unmentioned(&tree("use bytes::Bytes; use serde_json::Value;\n")), []);
    }

    #[test]
    fn tools_below_the_table_are_no_crates() {
        assert_eq!(findings(ROOT, "| `bytes` | |\n## Tools\n| `buf` | |\n"), Vec::<String>::new());
    }
}

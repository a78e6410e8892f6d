//! Every dependency has a line in `docs/dependencies.md`, and every line there a dependency.

use std::collections::BTreeSet;

use super::{Finding, Tree, line_starting};

const MANIFEST: &str = "Cargo.toml";
const PAGE: &str = "docs/dependencies.md";
/// The heading that ends the table of crates; what follows are tools of the test run.
const END_OF_CRATES: &str = "## Tools";

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
    findings
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
    let mut used = BTreeSet::new();
    for (_, text) in tree.crate_manifests() {
        let manifest: toml::Table = toml::from_str(text).unwrap_or_default();
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let table = manifest.get(section).and_then(toml::Value::as_table);
            used.extend(table.into_iter().flat_map(toml::Table::keys).cloned());
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::advice;

    const ROOT: &str =
        "[workspace.dependencies]\nratatoskr-log = { path = \"crates/ratatoskr-log\" }\nbytes = \"1\"\n";
    const CRATE: &str = "[package]\nname = \"ratatoskr-log\"\n[dependencies]\nbytes.workspace = true\n";

    fn findings(root: &str, page: &str) -> Vec<String> {
        let files = [("Cargo.toml", root), ("docs/dependencies.md", page), ("crates/log/Cargo.toml", CRATE)];
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
    fn tools_below_the_table_are_no_crates() {
        assert_eq!(findings(ROOT, "| `bytes` | |\n## Tools\n| `buf` | |\n"), Vec::<String>::new());
    }
}

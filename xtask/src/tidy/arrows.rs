//! Which crate may depend on which: the boxes and arrows of `ARCHITECTURE.md`, as a table.
//!
//! ```text
//! ratatoskr ──▶ server ──▶ broker ──▶ log ──▶ state      sim ──▶ log
//!     │            ├─────▶ proto ◀── client ◀── ratatoskr
//!     │            └─────▶ http2   ▲
//!     └──▶ bench ───────────┴──────┘
//! ```
//!
//! A new arrow is a decision: it needs a record in `docs/adr/` and a line here. Tests may know
//! more than the code they test, so `[dev-dependencies]` have a table of their own. Some crates
//! are also kept clear of whole kinds of libraries ([`CLEAR_OF`]).

use super::{Finding, Tree, line_starting};

/// A crate, and the crates of ours it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("ratatoskr-state", &[]),
    ("ratatoskr-log", &["ratatoskr-state"]),
    ("ratatoskr-http2", &[]),
    ("ratatoskr-proto", &[]),
    ("ratatoskr-broker", &["ratatoskr-log", "ratatoskr-state"]),
    ("ratatoskr-sim", &["ratatoskr-log"]),
    ("ratatoskr-client", &["ratatoskr-proto"]),
    ("ratatoskr-bench", &["ratatoskr-http2", "ratatoskr-proto"]),
    ("ratatoskr-server", &["ratatoskr-broker", "ratatoskr-http2", "ratatoskr-proto"]),
    (
        "ratatoskr",
        &["ratatoskr-bench", "ratatoskr-broker", "ratatoskr-client", "ratatoskr-proto", "ratatoskr-server"],
    ),
    ("xtask", &["ratatoskr-client", "ratatoskr-http2", "ratatoskr-proto"]),
];

/// What the tests of a crate may depend on beyond [`ARROWS`].
const TEST_ARROWS: &[(&str, &[&str])] = &[
    ("ratatoskr-broker", &["ratatoskr-sim"]),
    ("ratatoskr-sim", &["ratatoskr-broker", "ratatoskr-state"]),
    ("ratatoskr-server", &["ratatoskr-client", "ratatoskr-sim"]),
    ("ratatoskr-client", &["ratatoskr-broker", "ratatoskr-server"]),
];

/// Libraries a crate must not know, with the reason.
const CLEAR_OF: &[(&str, &[&str], &str)] = &[
    (
        "ratatoskr-log",
        &["tokio", "futures-core", "futures-util", "tonic", "prost", "axum"],
        "the log is synchronous and knows no network",
    ),
    (
        "ratatoskr-state",
        &["tokio", "rustix", "fastrand", "parking_lot", "tonic", "prost", "axum"],
        "state is a function of the journal: it knows no clock, no randomness, no I/O and no locks",
    ),
    (
        "ratatoskr-http2",
        &["tokio", "futures-core", "futures-util", "tonic", "prost", "axum", "http", "hyper", "h2"],
        "HTTP/2 is a state machine: it does no I/O",
    ),
    ("ratatoskr-sim", &["tokio", "tonic", "axum"], "the simulator is synchronous and deterministic"),
    ("ratatoskr-broker", &["tonic", "prost", "axum", "http", "tower"], "the broker knows no wire"),
    ("ratatoskr-client", &["axum", "ratatoskr-broker"], "a client is not a server"),
    ("ratatoskr-bench", &["axum"], "it measures a server, over the wire alone"),
];

/// Reports arrows that are not in the table, and versions outside the root manifest.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.crate_manifests() {
        let manifest: toml::Table = match toml::from_str(text) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::new(path, 1, format!("this is no valid TOML: {error}")));
                continue;
            }
        };
        check_manifest(path, text, &manifest, &mut findings);
    }
    findings
}

fn check_manifest(path: &str, text: &str, manifest: &toml::Table, findings: &mut Vec<Finding>) {
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let Some(name) = name else {
        findings.push(Finding::new(path, 1, "[package] has no name"));
        return;
    };
    let Some(allowed) = row(ARROWS, name) else {
        findings.push(Finding::new(
            path,
            1,
            format!("crate {name} is not in the table of arrows; add it in xtask/src/tidy/arrows.rs"),
        ));
        return;
    };
    for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
        let for_tests =
            if section == "dev-dependencies" { row(TEST_ARROWS, name).unwrap_or(&[]) } else { &[] };
        for (dependency, value) in dependencies {
            let line = line_starting(text, dependency);
            let ours = dependency.starts_with("ratatoskr");
            if ours && !allowed.contains(&dependency.as_str()) && !for_tests.contains(&dependency.as_str()) {
                let advice = format!(
                    "{name} must not depend on {dependency}; a new arrow needs a record in docs/adr/ and a line in xtask/src/tidy/arrows.rs"
                );
                findings.push(Finding::new(path, line, advice));
            }
            if section != "dev-dependencies"
                && let Some(reason) = kept_clear(name, dependency)
            {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("{name} must not depend on {dependency}: {reason}"),
                ));
            }
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                let advice = format!(
                    "write `{dependency}.workspace = true`; versions live once, in the root Cargo.toml"
                );
                findings.push(Finding::new(path, line, advice));
            }
        }
    }
}

fn row(table: &[(&str, &'static [&'static str])], name: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(owner, _)| *owner == name).map(|(_, names)| *names)
}

fn kept_clear(name: &str, dependency: &str) -> Option<&'static str> {
    CLEAR_OF
        .iter()
        .find(|(owner, names, _)| *owner == name && names.contains(&dependency))
        .map(|(_, _, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::advice;

    fn findings(manifest: &str) -> Vec<String> {
        advice(&check(&Tree::of(&[("crates/sample/Cargo.toml", manifest)])))
    }

    #[test]
    fn an_arrow_in_the_table_is_fine() {
        let manifest =
            "[package]\nname = \"ratatoskr-broker\"\n[dependencies]\nratatoskr-log.workspace = true\n";
        assert_eq!(findings(manifest), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_points_up_is_reported_with_its_line() {
        let manifest =
            "[package]\nname = \"ratatoskr-log\"\n[dependencies]\nratatoskr-broker.workspace = true\n";
        let found = findings(manifest);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .starts_with("crates/sample/Cargo.toml:4: ratatoskr-log must not depend on ratatoskr-broker")
        );
    }

    #[test]
    fn tests_may_know_more_than_the_code() {
        let manifest =
            "[package]\nname = \"ratatoskr-broker\"\n[dev-dependencies]\nratatoskr-sim.workspace = true\n";
        assert_eq!(findings(manifest), Vec::<String>::new());
        let manifest = manifest.replace("dev-dependencies", "dependencies");
        assert_eq!(findings(&manifest).len(), 1);
    }

    #[test]
    fn a_wire_library_in_the_broker_is_reported() {
        let manifest = "[package]\nname = \"ratatoskr-broker\"\n[dependencies]\ntonic.workspace = true\n";
        assert!(findings(manifest)[0].contains("the broker knows no wire"));
    }

    #[test]
    fn a_version_outside_the_root_manifest_is_reported() {
        let manifest = "[package]\nname = \"ratatoskr-log\"\n[dependencies]\nbytes = \"1\"\n";
        assert!(findings(manifest)[0].contains("write `bytes.workspace = true`"));
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_reported() {
        assert!(findings("[package]\nname = \"ratatoskr-new\"\n")[0].contains("not in the table of arrows"));
    }
}

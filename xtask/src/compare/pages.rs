//! Writes what was found: JSON, a page, pictures, all into one folder; and the figures into `docs/performance.md`.
//!
//! ```text
//!   bench/results/DATE-MACHINE/   results.json   README.md   publish-1.svg, publish-64.svg, …
//!   docs/performance.md           what stands between the two markers, made anew; the words around it are people's
//! ```

use std::fmt::Write as _;
use std::path::Path;

use super::plot::plot;
use super::results::Results;
use super::tables::{promises, summary, table};
use super::works::Work;
use crate::failed::{Failed, Outcome, While};

const BEGIN: &str = "<!-- figures: made by `cargo xtask compare --page` -->";
const END: &str = "<!-- end of figures -->";
/// The pictures that say most; the others are in the folder.
const PICTURES: [Work; 7] = [
    Work::Publish(64),
    Work::Publish(1),
    Work::Publish(1000),
    Work::FanOut(50),
    Work::Consume,
    Work::Latency,
    Work::Recovery,
];

/// Everything as text: for the terminal, and for the page of the folder.
pub(crate) fn text(results: &Results) -> String {
    let mut text = String::new();
    section(&mut text, "The main figure of everything", &summary(results));
    for work in results.works() {
        section(&mut text, &work.title(), &table(results, work));
    }
    section(&mut text, "What an ack means", &promises(results));
    text
}

fn section(text: &mut String, title: &str, body: &str) {
    writeln!(text, "## {title}\n\n{body}").expect("a String takes every write");
}

/// Writes the folder.
pub(crate) fn write(folder: &Path, results: &Results) -> Outcome {
    std::fs::create_dir_all(folder).when(format_args!("creating {}", folder.display()))?;
    let mut page = String::from("# Ratatoskr and its peers, side by side\n\n");
    page.push_str("Made by `cargo xtask compare`; how to read it says [docs/benchmark.md](../../../docs/benchmark.md#side-by-side).\n\n");
    for (name, value) in &results.conditions {
        writeln!(page, "- {name}: {value}").expect("a String takes every write");
    }
    page.push('\n');
    section(&mut page, "The main figure of everything", &summary(results));
    for work in results.works() {
        let mut body = String::new();
        if let Some(svg) = plot(results, work) {
            let name = format!("{}.svg", work.key());
            put(&folder.join(&name), &svg)?;
            writeln!(body, "![{}]({name})\n", work.title()).expect("a String takes every write");
        }
        body.push_str(&table(results, work));
        section(&mut page, &work.title(), &body);
    }
    section(&mut page, "What an ack means", &promises(results));
    put(&folder.join("README.md"), &format!("{}\n", page.trim_end()))?;
    put(&folder.join("results.json"), &format!("{:#}\n", results.json()))
}

/// Makes the figures of a page anew; `from_page` is the way from the page to the folder of results.
pub(crate) fn refresh(page: &Path, from_page: &str, results: &Results) -> Outcome {
    let text = std::fs::read_to_string(page).when(format_args!("reading {}", page.display()))?;
    put(page, &refreshed(&text, &figures(from_page, results))?)
}

fn refreshed(page: &str, figures: &str) -> Outcome<String> {
    let split = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = split.ok_or_else(|| {
        Failed::new(format!("the page has no lines {BEGIN} and {END}; put them where the figures go"))
    })?;
    Ok(format!("{before}{BEGIN}\n\n{figures}\n{END}{after}"))
}

fn figures(from_page: &str, results: &Results) -> String {
    let mut text = String::new();
    let conditions: Vec<_> =
        results.conditions.iter().map(|(name, value)| format!("{name} {value}")).collect();
    writeln!(text, "{}. All tables: [{from_page}]({from_page}/README.md).\n", conditions.join("; "))
        .expect("a String takes every write");
    for work in PICTURES.into_iter().filter(|work| plot(results, *work).is_some()) {
        writeln!(text, "![{}]({from_page}/{}.svg)\n", work.title(), work.key())
            .expect("a String takes every write");
    }
    text.push_str(&summary(results));
    section(&mut text, "What an ack means", &promises(results));
    let text = text.trim_end();
    format!("{}\n", text.replacen("## What", "\n## What", 1))
}

fn put(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text).when(format_args!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::sample_results;
    use super::*;

    #[test]
    fn a_folder_has_a_page_pictures_and_json() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &sample_results()).unwrap();
        let page = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
        assert!(page.contains("![Publish, 64 in flight](publish-64.svg)"), "{page}");
        assert!(folder.path().join("publish-64.svg").exists());
        let json = std::fs::read_to_string(folder.path().join("results.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["rows"][1]["works"]["publish-64"]["messages_per_second"]["median"], 500.0);
    }

    #[test]
    fn only_what_stands_between_the_markers_is_made_anew() {
        let page = format!("# Before\n{BEGIN}\nold\n{END}\nafter\n");
        let fresh = refreshed(&page, &figures("../bench/x", &sample_results())).unwrap();
        assert!(fresh.starts_with("# Before\n") && fresh.ends_with("\nafter\n") && !fresh.contains("old"));
        assert!(fresh.contains("](../bench/x/publish-64.svg)"), "{fresh}");
        let again = refreshed(&fresh, &figures("../bench/x", &sample_results())).unwrap();
        assert_eq!(again, fresh);
        assert!(refreshed("no markers", "x").is_err());
    }
}

//! The table of faults: for people, for `docs/reliability.md`, and as a verdict.

use std::fmt::Write as _;

use super::Tried;
use crate::failed::{Failed, Outcome, While};
use crate::workshop::Workshop;

const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- the table: written by `cargo xtask torture --long --write` -->";
const END: &str = "<!-- end of the table -->";

pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) promise: &'static str,
    pub(super) outcome: Outcome<Tried>,
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(super) fn for_people(&self) -> String {
        let mut text =
            String::from("| fault | promise | tried | lost | recovered in |\n|---|---|---|---|---|\n");
        for Row { what, promise, outcome } in &self.rows {
            let (tried, lost, recovered) = match outcome {
                Ok(Tried { not_here: Some(reason), .. }) => {
                    (format!("not on this machine: {reason}"), "–".to_owned(), "–".to_owned())
                }
                Ok(Tried { how_often: tried, lost, recovered, .. }) => {
                    (tried.clone(), lost.to_string(), recovered.clone())
                }
                Err(failed) => (format!("**failed:** {failed}"), "?".to_owned(), "–".to_owned()),
            };
            let cells =
                [what, promise, &*tried, &*lost, &*recovered].map(|cell| cell.replace(['\n', '|'], " "));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    /// Puts the table between the page's markers.
    pub(super) fn write(&self, workshop: &Workshop, is_long: bool) -> Outcome {
        if !is_long {
            return Err(Failed::new("only the long form is written down: add --long"));
        }
        let path = workshop.root.join(PAGE);
        let page = std::fs::read_to_string(&path).when(format_args!("reading {PAGE}"))?;
        let written = between(&page, &self.for_people())
            .ok_or_else(|| Failed::new(format!("{PAGE} has lost its markers")))?;
        std::fs::write(&path, written).when(format_args!("writing {PAGE}"))
    }

    /// An error when a promise was broken.
    pub(super) fn verdict(&self) -> Outcome {
        let complaint = |row: &Row| match &row.outcome {
            Err(failed) => Some(format!("{}: {failed}", row.what)),
            Ok(Tried { lost: 0, .. }) => None,
            Ok(tried) => Some(format!("{}: {} lost", row.what, tried.lost)),
        };
        let complaints: Vec<String> = self.rows.iter().filter_map(complaint).collect();
        if complaints.is_empty() { Ok(()) } else { Err(Failed::new(complaints.join("; "))) }
    }
}

fn between(page: &str, table: &str) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, foot) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{table}{END}{foot}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome<Tried>) -> Row {
        Row { what: "kill -9", promise: "nothing is lost", outcome }
    }

    #[test]
    fn a_table_goes_between_the_markers_and_replaces_the_one_before() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let written = between(&page, "| new |\n").unwrap();
        assert_eq!(written, format!("before\n{BEGIN}\n| new |\n{END}\nafter\n"));
        assert_eq!(between(&written, "| new |\n"), Some(written.clone()));
        assert_eq!(between("no markers", ""), None);
    }

    #[test]
    fn what_was_lost_and_what_failed_is_the_verdict_and_what_cannot_be_tried_is_told() {
        let mut table = Table::default();
        table.push(row(Ok(Tried { how_often: "200 kills".to_owned(), ..Tried::default() })));
        table.push(row(Ok(Tried::not_here("it has no strace"))));
        assert!(table.verdict().is_ok());
        assert!(table.for_people().contains("not on this machine: it has no strace"));
        table.push(row(Ok(Tried { lost: 3, ..Tried::default() })));
        table.push(row(Err(Failed::new("it hangs"))));
        assert_eq!(table.verdict().unwrap_err().to_string(), "kill -9: 3 lost; kill -9: it hangs");
    }
}

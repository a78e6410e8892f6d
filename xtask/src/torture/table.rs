//! The table of faults: for people, for `docs/reliability.md`, and as a verdict.

use super::Tried;
use crate::failed::{Failed, Outcome, While};
use crate::workshop::Workshop;

const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- the table: written by `cargo xtask torture --long --write` -->";
const END: &str = "<!-- end of the table -->";
const HEAD: &str = "| fault | promise | tried | lost | recovered in |\n|---|---|---|---|---|\n";

pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) promise: &'static str,
    pub(super) outcome: Outcome<Tried>,
}

impl Row {
    /// A line of the table.
    fn for_people(&self) -> String {
        let (tried, lost, recovered) = match &self.outcome {
            Ok(Tried { not_here: Some(reason), .. }) => {
                (format!("not on this machine: {reason}"), "–".to_owned(), "–".to_owned())
            }
            Ok(Tried { how_often: tried, lost, recovered, .. }) => {
                (tried.clone(), lost.to_string(), recovered.clone())
            }
            Err(failed) => (format!("**failed:** {failed}"), "?".to_owned(), "–".to_owned()),
        };
        let cells = [self.what, self.promise, &*tried, &*lost, &*recovered]
            .map(|cell| cell.replace(['\n', '|'], " "));
        format!("| {} |\n", cells.join(" | "))
    }
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
        let rows: Vec<String> = self.rows.iter().map(Row::for_people).collect();
        format!("{HEAD}{}", rows.concat())
    }

    /// Puts the rows between the page's markers, in the place of those that are there of the same faults; others stay.
    pub(super) fn write(&self, workshop: &Workshop, is_long: bool) -> Outcome {
        if !is_long {
            return Err(Failed::new("only the long form is written down: add --long"));
        }
        let path = workshop.root.join(PAGE);
        let page = std::fs::read_to_string(&path).when(format_args!("reading {PAGE}"))?;
        let written =
            self.written_into(&page).ok_or_else(|| Failed::new(format!("{PAGE} has lost its markers")))?;
        std::fs::write(&path, written).when(format_args!("writing {PAGE}"))
    }

    fn written_into(&self, page: &str) -> Option<String> {
        let (head, rest) = page.split_once(BEGIN)?;
        let (old, foot) = rest.split_once(END)?;
        let mut lines: Vec<String> = old
            .trim_start()
            .strip_prefix(HEAD)
            .unwrap_or_default()
            .split_inclusive('\n')
            .map(str::to_owned)
            .collect();
        for row in &self.rows {
            let line = row.for_people();
            let begin = format!("| {} |", row.what);
            match lines.iter_mut().find(|old| old.starts_with(&begin)) {
                Some(old) => *old = line,
                None => lines.push(line),
            }
        }
        Some(format!("{head}{BEGIN}\n{HEAD}{}{END}{foot}", lines.concat()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome<Tried>) -> Row {
        Row { what: "kill -9", promise: "nothing is lost", outcome }
    }

    #[test]
    fn rows_replace_those_of_the_same_faults_and_leave_the_others() {
        let page = format!("before\n{BEGIN}\n{HEAD}| stop | p | old |\n| kill -9 | old |\n{END}\nafter\n");
        let mut table = Table::default();
        table.push(row(Ok(Tried::default())));
        table.push(Row { what: "new", ..row(Ok(Tried::default())) });
        let written = table.written_into(&page).unwrap();
        let (kill, new) = (table.rows[0].for_people(), table.rows[1].for_people());
        assert_eq!(written, format!("before\n{BEGIN}\n{HEAD}| stop | p | old |\n{kill}{new}{END}\nafter\n"));
        assert_eq!(table.written_into(&written), Some(written.clone()));
        assert_eq!(table.written_into("no markers"), None);
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

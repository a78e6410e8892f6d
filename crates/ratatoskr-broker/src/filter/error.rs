//! [`FilterError`]: what is wrong with a filter's text, and where.

use std::fmt;

/// Characters of the line that [`FilterError::caret`] shows on either side of the place.
const CARET_SIDE_CHARS: usize = 60;

/// Why a text is no filter. It can only be put right by changing the text, at the place it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The line of the text, counted from 1.
    pub line: usize,
    /// The place in that line, counted from 1, in characters; one past the end when something is missing there.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
    /// The line around the place, without control characters, and with `…` where it was cut.
    excerpt: String,
    /// Characters of the excerpt before the place.
    indent: usize,
}

/// What the parser found wrong: a place in bytes, and the reason.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(at: usize, reason: impl Into<String>) -> Fault {
        Fault { at, reason: reason.into() }
    }
}

impl FilterError {
    pub(super) fn new(source: &str, fault: Fault) -> FilterError {
        let (before, after) = source.split_at(fault.at);
        let before_line = before.rsplit('\n').next().unwrap_or_default();
        let after_line = after.split('\n').next().unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before_line.chars().count() + 1;

        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let mut excerpt = String::new();
        let cut = (column - 1).saturating_sub(CARET_SIDE_CHARS);
        if cut > 0 {
            excerpt.push('…');
        }
        excerpt.extend(before_line.chars().skip(cut).map(shown));
        let indent = excerpt.chars().count();
        excerpt.extend(after_line.chars().take(CARET_SIDE_CHARS).map(shown));
        if after_line.chars().nth(CARET_SIDE_CHARS).is_some() {
            excerpt.push('…');
        }
        FilterError { line, column, reason: fault.reason, excerpt, indent }
    }

    /// The line at fault (of a long one, the part around the place) and below it a `^` at the place.
    pub fn caret(&self) -> String {
        format!("{}\n{:indent$}^", self.excerpt, "", indent = self.indent)
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("filter ")?;
        if self.line > 1 {
            write!(f, "line {} ", self.line)?;
        }
        write!(f, "column {}: {}", self.column, self.reason)
    }
}

impl std::error::Error for FilterError {}

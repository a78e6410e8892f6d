//! The committed table of counts, and what it says about new ones.
//!
//! ```text
//!   limit          −10 %              +5 %
//!   ───────────────┤────────┼─────────┤───────▶  instructions of one operation
//!    lower the limit   kept             longer: a failure
//! ```
//!
//! A table of another compiler is compared with [`OTHER_COMPILER_PERCENT`] above: more may be its doing, and less says nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::failed::{Failed, Outcome, While};

/// How much above its limit a piece may be. Counts of one build differ by a thousandth or two; those of code that was only moved, by a few hundredths.
const ABOVE_PERCENT: u64 = 5;
/// The same if another compiler counts than the table's.
pub(super) const OTHER_COMPILER_PERCENT: u64 = 15;
/// How much below its limit a piece is told to have its limit lowered, so that the gain is kept.
const BELOW_PERCENT: u64 = 10;

const HEAD: &str = "\
# Instructions of one operation of each piece of main.rs. `cargo xtask instructions` fails when a piece needs more than 5 % above
# (15 % with another compiler). Who means it runs `cargo xtask instructions --write`, and says why here and in the commit.
";

/// Instructions of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) piece: String,
    pub(super) instructions: u64,
}

/// The committed counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The compiler they were counted with.
    rustc: String,
    /// By the name of the piece.
    limits: BTreeMap<String, Limit>,
}

#[derive(Debug, PartialEq, Eq)]
struct Limit {
    instructions: u64,
    /// What the instructions are for.
    why: String,
}

/// What a comparison says of one piece.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// More than allowed.
    Longer,
    /// So much less that the limit should follow.
    Shorter,
    /// In the program and not in the table.
    New,
    /// In the table and not in the program.
    Gone,
    /// The table does not say why.
    Unexplained,
}

/// A comparison, to be printed.
pub(super) struct Report {
    /// The piece, its count before and now, and what that means.
    lines: Vec<(String, Option<u64>, Option<u64>, Verdict)>,
    allowed_percent: u64,
    /// Said before the lines.
    note: String,
}

impl Table {
    pub(super) fn parse(text: &str) -> Outcome<Table> {
        let table: toml::Table = toml::from_str(text).when("parsing")?;
        let mut rustc = None;
        let mut limits = BTreeMap::new();
        for (name, value) in &table {
            if name == "rustc" {
                rustc = value.as_str().map(str::to_owned);
                continue;
            }
            let instructions = value.get("instructions").and_then(toml::Value::as_integer);
            let why = value.get("why").and_then(toml::Value::as_str);
            let (Some(instructions), Some(why)) = (instructions, why) else {
                return Err(Failed::new(format!(
                    "[{name}] needs `instructions`, a number, and `why`, a text"
                )));
            };
            limits.insert(name.clone(), Limit { instructions: instructions as u64, why: why.to_owned() });
        }
        let rustc = rustc.ok_or_else(|| Failed::new("`rustc` is missing: the compiler's version"))?;
        Ok(Table { rustc, limits })
    }

    /// The same pieces with other counts; new ones wait for their `why`, those that are gone go.
    pub(super) fn with(&self, counts: &[Count], rustc: &str) -> Table {
        let limits = counts.iter().map(|Count { piece, instructions }| {
            let why = self.limits.get(piece).map_or_else(String::new, |limit| limit.why.clone());
            (piece.clone(), Limit { instructions: *instructions, why })
        });
        Table { rustc: rustc.to_owned(), limits: limits.collect() }
    }

    /// A page whose table has a row for each piece, `| piece | … | count |`, with these counts.
    pub(super) fn put_into(&self, page: &str) -> String {
        let row = |line: &str| {
            let (piece, rest) = line.strip_prefix("| ")?.split_once(" | ")?;
            let (meaning, _) = rest.split_once(" | ")?;
            let instructions = self.limits.get(piece)?.instructions;
            Some(format!("| {piece} | {meaning} | {instructions} |"))
        };
        page.lines().map(|line| row(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
    }

    pub(super) fn compare(&self, counts: &[Count], rustc: &str) -> Report {
        let is_same = self.rustc == rustc;
        let allowed_percent = if is_same { ABOVE_PERCENT } else { OTHER_COMPILER_PERCENT };
        let note = if is_same {
            format!("counted with rustc {rustc}, as the table: {allowed_percent} % above are allowed\n")
        } else {
            format!(
                "counted with rustc {rustc}; the table is of {}: {allowed_percent} % above are allowed\n",
                self.rustc
            )
        };
        let mut lines = Vec::new();
        for Count { piece, instructions: now } in counts {
            let limit = self.limits.get(piece);
            let verdict = match limit {
                None => Verdict::New,
                Some(limit) if limit.why.is_empty() => Verdict::Unexplained,
                Some(limit) => match judge(limit.instructions, *now, allowed_percent) {
                    Verdict::Shorter if !is_same => Verdict::Kept,
                    verdict => verdict,
                },
            };
            let before = limit.map(|limit| limit.instructions);
            lines.push((piece.clone(), before, Some(*now), verdict));
        }
        for (piece, limit) in &self.limits {
            if !counts.iter().any(|count| count.piece == *piece) {
                lines.push((piece.clone(), Some(limit.instructions), None, Verdict::Gone));
            }
        }
        Report { lines, allowed_percent, note }
    }
}

fn judge(before: u64, now: u64, allowed_percent: u64) -> Verdict {
    if now * 100 > before * (100 + allowed_percent) {
        Verdict::Longer
    } else if now * 100 < before * (100 - BELOW_PERCENT) {
        Verdict::Shorter
    } else {
        Verdict::Kept
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| toml::Value::String(text.to_owned());
        writeln!(f, "{HEAD}rustc = {}", text(&self.rustc))?;
        for (piece, Limit { instructions, why }) in &self.limits {
            writeln!(f, "\n[{piece}]\ninstructions = {instructions}\nwhy = {}", text(why))?;
        }
        Ok(())
    }
}

impl Report {
    /// True if nothing has to be done.
    pub(super) fn is_kept(&self) -> bool {
        self.lines.iter().all(|(.., verdict)| matches!(verdict, Verdict::Kept | Verdict::Shorter))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{:<10} {:>8} {:>8} {:>9}", self.note, "piece", "before", "now", "change")?;
        let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        for (piece, before, now, verdict) in &self.lines {
            let change = match (before, now) {
                (Some(before), Some(now)) => {
                    format!("{:+.1} %", (*now as f64 / *before as f64 - 1.0) * 100.0)
                }
                _ => String::new(),
            };
            let says = match verdict {
                Verdict::Kept => String::new(),
                Verdict::Longer => format!("FAILED: more than {} % above", self.allowed_percent),
                Verdict::Shorter => "shorter: lower the limit with --write, so that it stays".to_owned(),
                Verdict::New => "FAILED: not in the table; add it with --write".to_owned(),
                Verdict::Gone => "FAILED: no such piece any more; remove it with --write".to_owned(),
                Verdict::Unexplained => "FAILED: the table does not say why".to_owned(),
            };
            let line = format!("{piece:<10} {:>8} {:>8} {change:>9}  {says}", number(*before), number(*now));
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

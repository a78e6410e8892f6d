//! What goes to standard output: a table for people, tab-separated lines for a pipe, JSON when asked.
//!
//! ```text
//!   terminal      aligned columns, bold heading, thousands grouped
//!   pipe          one line a row, tabs between, no heading, plain numbers
//!   --json        one object, or one object a line for lists
//! ```
//!
//! Colour follows `NO_COLOR` and the terminal: `anstream` takes it out where it is not wanted.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};
use serde_json::Value;

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For other programs.
    Tabs,
    /// For other programs that know JSON.
    Json,
}

/// The flag that every command with a result has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FormatFlag {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl FormatFlag {
    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// JSON when asked for, else by where the output goes.
    pub(crate) fn format(self) -> Format {
        match (self.json, io::stdout().is_terminal()) {
            (true, _) => Format::Json,
            (false, true) => Format::Table,
            (false, false) => Format::Tabs,
        }
    }
}

/// One value of a result: itself for JSON, words for people where a number alone says little.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    name: &'static str,
    value: Value,
    /// What people see instead; `None` for the value itself.
    words: Option<String>,
}

impl Field {
    pub(crate) fn new(name: &'static str, value: impl Into<Value>) -> Field {
        Field { name, value: value.into(), words: None }
    }

    /// The same field, shown to people in words.
    pub(crate) fn in_words(mut self, words: impl Into<String>) -> Field {
        self.words = Some(words.into());
        self
    }

    /// In words a unit stands beside the value, not in the name.
    fn name_for_people(&self) -> String {
        let name = self.words.as_ref().and_then(|_| self.name.strip_suffix("_ms")).unwrap_or(self.name);
        name.replace('_', " ")
    }

    fn for_people(&self) -> String {
        match (&self.words, &self.value) {
            (Some(words), _) => words.clone(),
            (None, Value::Number(number)) => number.as_u64().map_or_else(|| number.to_string(), grouped),
            (None, value) => plain(value),
        }
    }
}

/// Prints one thing with its fields.
pub(crate) fn print_fields(format: Format, fields: &[Field]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", object(fields)),
        Format::Tabs => {
            fields.iter().try_for_each(|field| writeln!(out, "{}\t{}", field.name, plain(&field.value)))
        }
        Format::Table => {
            let mut table = new_table();
            for field in fields {
                let name = Cell::new(field.name_for_people()).add_attribute(Attribute::Bold);
                table.add_row([name, Cell::new(field.for_people())]);
            }
            writeln!(out, "{}", aligned(table))
        }
    }
}

/// Prints a list; all rows have the fields of the first.
pub(crate) fn print_rows(format: Format, rows: &[Vec<Field>]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match format {
        Format::Json => rows.iter().try_for_each(|row| writeln!(out, "{}", object(row))),
        Format::Tabs => rows.iter().try_for_each(|row| {
            let values: Vec<_> = row.iter().map(|field| plain(&field.value)).collect();
            writeln!(out, "{}", values.join("\t"))
        }),
        Format::Table => {
            let Some(first) = rows.first() else { return Ok(()) };
            let mut table = new_table();
            table.set_header(first.iter().map(|field| {
                Cell::new(field.name_for_people())
                    .add_attribute(Attribute::Bold)
                    .set_alignment(alignment(field))
            }));
            for row in rows {
                table.add_row(
                    row.iter().map(|field| Cell::new(field.for_people()).set_alignment(alignment(field))),
                );
            }
            writeln!(out, "{}", aligned(table))
        }
    }
}

fn new_table() -> Table {
    let mut table = Table::new();
    // Columns without lines, as `ls` and `ps` have them; anstream takes the bold out where it is not wanted.
    table.load_style(presets::NOTHING).enforce_styling();
    table
}

/// The finished table, from the first column on and with a little air between columns.
fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn alignment(field: &Field) -> CellAlignment {
    if field.value.is_number() { CellAlignment::Right } else { CellAlignment::Left }
}

/// A JSON object that keeps the order of its fields.
fn object(fields: &[Field]) -> String {
    let entries: Vec<_> = fields.iter().map(|field| format!("\"{}\":{}", field.name, field.value)).collect();
    format!("{{{}}}", entries.join(","))
}

/// A value as a pipe wants it: text without quotes, nothing for null.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A number with its thousands apart: 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A size to read at a glance: 1.4 GiB.
pub(crate) fn about_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A time as RFC 3339 in UTC, to the millisecond.
pub(crate) fn rfc3339(timestamp_ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(timestamp_ms);
    timestamp.map_or_else(|_| timestamp_ms.to_string(), |timestamp| format!("{timestamp:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), shown);
        }
    }

    #[test]
    fn objects_keep_the_order_of_their_fields() {
        let fields = [Field::new("topic", "a\"b"), Field::new("bytes", 3), Field::new("age", Value::Null)];
        assert_eq!(object(&fields), r#"{"topic":"a\"b","bytes":3,"age":null}"#);
    }

    #[test]
    fn times_are_shown_in_utc_to_the_millisecond() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}

//! The argument of `--filter`: an expression (`docs/filters.md`), or NAME=VALUE for what is asked most often.
//!
//! ```text
//!   color=red            ─▶ metadata["color"] == "red"
//!   size > 100           ─▶ as it is
//!   both, given twice    ─▶ (metadata["color"] == "red") && (size > 100)
//! ```
//!
//! It is checked here, by the broker's own parser, so that a slip is shown under its column before anything is tried.

use std::fmt::Write as _;

use ratatoskr_broker::{Filter, FilterFacts};
use ratatoskr_client::Message;

/// What `--help` says.
pub(crate) const FILTER_HELP: &str = "Only messages that pass: NAME=VALUE for metadata, or an expression such as 'size > 100 && key.startsWith(\"a\")'; may be repeated, all have to pass";

/// Reads the argument.
pub(crate) fn filter_argument(text: &str) -> Result<Filter, String> {
    let source = match name_and_value(text) {
        Some((name, value)) => format!("metadata[{}] == {}", literal(name), literal(value)),
        None => text.to_owned(),
    };
    if source.trim().is_empty() {
        return Err("it is empty; expected NAME=VALUE, or an expression such as size > 100".to_owned());
    }
    Filter::parse(&source).map_err(|error| format!("{error}\n\n{}\n", error.caret()))
}

/// One expression that lets through what passes all of them; empty for none.
pub(crate) fn all_of(filters: &[Filter]) -> String {
    match filters {
        [] => String::new(),
        [one] => one.source().to_owned(),
        several => {
            let parts: Vec<_> = several.iter().map(|filter| format!("({})", filter.source())).collect();
            parts.join(" && ")
        }
    }
}

/// Whether a message passes, as the broker would say.
pub(crate) fn passes(filter: &Filter, message: &Message) -> bool {
    filter.passes(&Facts(message))
}

/// A message on the wire, as a filter looks at it.
struct Facts<'a>(&'a Message);

impl FilterFacts for Facts<'_> {
    fn metadata(&self, name: &str) -> Option<&str> {
        self.0.metadata.get(name).map(String::as_str)
    }

    fn key(&self) -> &str {
        &self.0.key
    }

    fn topic(&self) -> &str {
        &self.0.topic
    }

    fn size_bytes(&self) -> u64 {
        self.0.payload.len() as u64
    }

    fn time_ms(&self) -> u64 {
        self.0.timestamp.unsigned_abs()
    }
}

/// The short form: a plain word, one `=`, and anything. What has `==`, `!=`, `<=` or a sign in its name is an expression.
fn name_and_value(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/');
    let is_short = !name.is_empty() && name.chars().all(is_plain) && !value.starts_with('=');
    is_short.then_some((name, value))
}

/// A text as the expression writes it.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            control if control.is_control() => {
                write!(literal, "\\u{:04x}", u32::from(control)).expect("a String takes everything");
            }
            other => literal.push(other),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> String {
        filter_argument(text).unwrap().source().to_owned()
    }

    #[test]
    fn names_and_values_become_questions_about_metadata() {
        for (text, expected) in [
            ("color=red", r#"metadata["color"] == "red""#),
            ("color=", r#"metadata["color"] == """#),
            ("trace-id=a=b\"\\", r#"metadata["trace-id"] == "a=b\"\\""#),
            ("note=a\tb", r#"metadata["note"] == "a\u0009b""#),
            ("size==3", "size==3"),
            ("size <= 3", "size <= 3"),
            ("metadata.x.contains('a=b')", "metadata.x.contains('a=b')"),
        ] {
            assert_eq!(source(text), expected, "{text}");
        }
    }

    #[test]
    fn several_filters_are_one_that_asks_for_all() {
        let filters = ["color=red", "size > 1 || key == ''"].map(|text| filter_argument(text).unwrap());
        let all = all_of(&filters);
        assert_eq!(all, r#"(metadata["color"] == "red") && (size > 1 || key == '')"#);
        assert!(Filter::parse(&all).is_ok());
        assert_eq!((all_of(&[]), all_of(&filters[..1])), (String::new(), source("color=red")));
    }

    #[test]
    fn a_slip_is_shown_under_its_column() {
        let error = filter_argument("size > ").unwrap_err();
        assert!(error.starts_with("filter column ") && error.contains("size > \n"), "{error}");
        assert!(filter_argument(" ").unwrap_err().starts_with("it is empty"));
    }

    #[test]
    fn messages_pass_here_as_they_do_at_the_broker() {
        let message = Message {
            metadata: [("color".to_owned(), "red".to_owned())].into(),
            payload: "abc".into(),
            key: "k".into(),
            ..Message::default()
        };
        for (text, expected) in
            [("color=red", true), ("color=blue", false), ("size == 3 && key == 'k'", true)]
        {
            assert_eq!(passes(&filter_argument(text).unwrap(), &message), expected, "{text}");
        }
    }
}

//! [`quoted`] and [`shortened`]: a caller's text as an error or a log line repeats it.
//!
//! ```text
//!   "orders!"                               ─▶ "orders!"
//!   16 MiB of 'a'                           ─▶ "aaaa…aaaa…" (16777216 bytes)
//! ```
//!
//! An error is built, escaped, encoded for a header and logged, so each byte that is repeated costs several. What a caller sends may have
//! megabytes where a short id is expected. Invariant: what is shown has at most [`SHOWN_BYTES_MAX`] bytes and a few words.

use std::borrow::Cow;
use std::fmt;

/// Bytes of a caller's text that are shown, escapes included: two UUIDs side by side, or the beginning of anything longer.
pub const SHOWN_BYTES_MAX: usize = 128;

/// A caller's text between quotation marks, with escapes; see [`quoted`].
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(&'a str);

/// Quotes a text of any length for an error: as much of it as fits, and how long it is if that is not all.
///
/// ```
/// use ratatoskr_state::quoted;
/// assert_eq!(quoted("a\nb").to_string(), r#""a\nb""#);
/// let long = quoted(&"a".repeat(70_000)).to_string();
/// assert!(long.starts_with("\"aaa") && long.ends_with("a…\" (70000 bytes)") && long.len() < 200);
/// ```
pub fn quoted(text: &str) -> Quoted<'_> {
    Quoted(text)
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quoted(text) = self;
        let shown = beginning(text, |c| c.escape_debug().map(char::len_utf8).sum());
        if shown.len() == text.len() {
            return write!(f, "{text:?}");
        }
        write!(f, "\"{}…\" ({} bytes)", shown.escape_debug(), text.len())
    }
}

/// A text as it is if it is short, else its beginning and its length; for values that programs compare and lines that are parsed.
pub fn shortened(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    Cow::Owned(format!("{}… ({} bytes)", &text[..end], text.len()))
}

/// As many characters as fit, each of which takes `cost` bytes.
fn beginning(text: &str, cost: impl Fn(char) -> usize) -> &str {
    let mut shown = 0;
    for (at, c) in text.char_indices() {
        shown += cost(c);
        if shown > SHOWN_BYTES_MAX {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_quoted_whole_and_escaped() {
        for text in ["", "orders", "a \"b\" 'c'", "zeile\n", "ü\u{301}", "\u{301}x"] {
            assert_eq!(quoted(text).to_string(), format!("{text:?}"));
            assert_eq!(shortened(text, 20), text);
        }
        let full = "a".repeat(SHOWN_BYTES_MAX);
        assert_eq!(quoted(&full).to_string(), format!("{full:?}"));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_and_its_length_is_told() {
        for unit in ["a", "ü", "\u{301}", "\n", "\"", "🐿", "\u{10ffff}"] {
            let text = unit.repeat(100_000);
            let length = format!("({} bytes)", text.len());
            for shown in [quoted(&text).to_string(), shortened(&text, SHOWN_BYTES_MAX).into_owned()] {
                assert!(shown.ends_with(&length), "{shown}");
                assert!(shown.len() <= SHOWN_BYTES_MAX + "\"…\" (400000 bytes)".len(), "{shown}");
            }
        }
    }
}

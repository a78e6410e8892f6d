//! [`bounded`]: a text of any length, of which no more than its beginning is ever kept.

use std::fmt::{self, Display, Write as _};

/// What is kept, and how much there was.
struct Bounded {
    kept: String,
    /// Bytes that may be kept.
    bytes_max: usize,
    /// Bytes that were written.
    bytes: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nothing is kept behind what was left out.
        if self.kept.len() == self.bytes {
            let room = self.bytes_max - self.kept.len();
            let end = (0..=room.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            self.kept.push_str(&text[..end]);
        }
        self.bytes += text.len();
        Ok(())
    }
}

/// The value as text if it has at most so many bytes, else its beginning and how long it is.
pub(super) fn bounded(value: &dyn Display, bytes_max: usize) -> String {
    let mut text = Bounded { kept: String::new(), bytes_max, bytes: 0 };
    write!(text, "{value}").expect("writing to memory does not fail");
    let Bounded { mut kept, bytes, .. } = text;
    if kept.len() < bytes {
        write!(kept, "… ({bytes} bytes)").expect("writing to memory does not fail");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character_and_its_length_is_told() {
        assert_eq!(bounded(&"orders", 6), "orders");
        assert_eq!(bounded(&"orders", 5), "order… (6 bytes)");
        assert_eq!(bounded(&"aü", 2), "a… (3 bytes)");
        assert_eq!(bounded(&format_args!("{}{}{}", "ab", "üü", "c"), 3), "ab… (7 bytes)");
        let (long, more) = ("x".repeat(1 << 20), "y".repeat(1 << 20));
        assert_eq!(bounded(&format_args!("{long}{more}"), 10), "xxxxxxxxxx… (2097152 bytes)");
    }
}

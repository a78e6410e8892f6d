//! [`Pattern`]: topic names with `*`, which stands for any characters, also for none.

use std::fmt;

/// A pattern over topic names: `orders`, `orders.*`, `*.eu.*`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Box<str>);

impl Pattern {
    /// Checks a pattern; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("a topic pattern cannot be empty; `*` stands for all topics".to_owned());
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
        match text.chars().find(|&c| !allowed(c)) {
            Some(c) => Err(format!(
                "topic pattern {text:?} has {c:?}; allowed are letters, digits, '.', '_', '-', and '*' for any characters"
            )),
            None => Ok(Pattern(text.into())),
        }
    }

    /// Whether a topic's name fits. Takes at most length × length steps, of 255 bytes each.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        let (pattern, topic) = (self.0.as_bytes(), topic.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last star was, and how far it reaches so far.
        let mut star = None;
        while t < topic.len() {
            if pattern.get(p) == Some(&b'*') {
                star = Some((p, t));
                p += 1;
            } else if pattern.get(p) == Some(&topic[t]) {
                (p, t) = (p + 1, t + 1);
            } else if let Some((place, reach)) = star {
                star = Some((place, reach + 1));
                (p, t) = (place + 1, reach + 1);
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_for_none() {
        for (pattern, fits, does_not) in [
            ("orders", &["orders"][..], &["order", "orders2", "orders.eu", "xorders"][..]),
            ("orders.*", &["orders.", "orders.eu", "orders.eu.new"], &["orders", "xorders.eu"]),
            ("*.dlq", &["a.dlq", "a.b.dlq", ".dlq", "a.dlq.dlq"], &["dlq", "a.dlq.x"]),
            ("a*b*c", &["abc", "aXbXc", "abbbcc", "a.b.c.c"], &["ab", "acb", "abcd"]),
            ("*", &["a", "anything.at-all"], &[]),
            ("**", &["a", ""], &[]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            for topic in fits {
                assert!(parsed.matches(topic), "{pattern} should fit {topic}");
            }
            for topic in does_not {
                assert!(!parsed.matches(topic), "{pattern} should not fit {topic}");
            }
        }
    }

    #[test]
    fn what_could_match_no_topic_is_told() {
        assert!(Pattern::parse("").unwrap_err().contains("cannot be empty"));
        assert!(Pattern::parse("orders/#").unwrap_err().contains("has '/'"));
    }
}

//! Templates in a message given as an argument: `order {{n}} at {{time}}`.
//!
//! `{{n}}` is the message's number, from 1; `{{id}}` a random UUID; `{{time}}` the time now, RFC 3339;
//! `{{random N}}` N random letters and digits. Anything else between double braces is an
//! error: a typo would otherwise be published a thousand times.

use std::fmt::Write as _;

use jiff::Timestamp;
use ratatoskr_server::config::nearest;

/// Characters `{{random N}}` may make; a message larger than this would be refused anyway.
const RANDOM_CHARACTERS_MAX: usize = 16 << 20;
const WORDS: &[&str] = &["n", "id", "time", "random"];

/// A text with gaps to fill anew for each message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number,
    Id,
    Time,
    Random(usize),
}

impl Template {
    /// A text without gaps, whatever it contains.
    pub(crate) fn verbatim(text: &str) -> Template {
        Template { parts: vec![Part::Text(text.to_owned())] }
    }

    /// Finds the gaps.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((gap, after_gap)) = after.split_once("}}") else { break };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(parse_gap(gap)?);
            rest = after_gap;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// The text of message `number`.
    pub(crate) fn render(&self, number: u64) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Number => write!(text, "{number}").expect("a String takes everything"),
                Part::Id => {
                    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
                    write!(text, "{id}").expect("a String takes everything");
                }
                Part::Time => write!(text, "{:.3}", Timestamp::now()).expect("a String takes everything"),
                Part::Random(characters) => text.extend((0..*characters).map(|_| fastrand::alphanumeric())),
            }
        }
        text
    }
}

fn parse_gap(gap: &str) -> Result<Part, String> {
    let mut words = gap.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("n"), None, None) => Ok(Part::Number),
        (Some("id"), None, None) => Ok(Part::Id),
        (Some("time"), None, None) => Ok(Part::Time),
        (Some("random"), Some(count), None) => match count.parse() {
            Ok(characters) if (1..=RANDOM_CHARACTERS_MAX).contains(&characters) => {
                Ok(Part::Random(characters))
            }
            _ => Err(format!(
                "{{{{{gap}}}}} asks for {count:?} characters; allowed are 1 to {RANDOM_CHARACTERS_MAX}"
            )),
        },
        (Some("random"), None, None) => Err("{{random}} needs a count, such as {{random 100}}".to_owned()),
        (word, ..) => {
            let near = nearest(word.unwrap_or_default(), WORDS.iter().copied());
            let advice = near.map_or(String::new(), |near| format!(" (did you mean {near}?)"));
            Err(format!(
                "{{{{{gap}}}}} is no template{advice}; there are {{{{n}}}}, {{{{id}}}}, {{{{time}}}} and {{{{random N}}}}; \
                 --verbatim publishes the text as it is"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, number: u64) -> String {
        Template::parse(text).unwrap().render(number)
    }

    #[test]
    fn numbers_fill_their_gaps() {
        assert_eq!(render("order {{n}} of {{ n }}!", 7), "order 7 of 7!");
        assert_eq!(render("plain", 1), "plain");
        assert_eq!(render("", 1), "");
    }

    #[test]
    fn ids_times_and_random_text_differ_each_time() {
        let id: uuid::Uuid = render("{{id}}", 1).parse().unwrap();
        assert_eq!(id.get_version_num(), 4);
        assert_ne!(render("{{id}}", 1), render("{{id}}", 1));
        assert!(render("{{time}}", 1).parse::<Timestamp>().is_ok());
        let random = render("<{{random 20}}>", 1);
        assert_eq!(random.len(), 22);
        assert!(random[1..21].chars().all(|c| c.is_ascii_alphanumeric()));
    }

    #[test]
    fn single_braces_and_open_ends_are_plain_text() {
        assert_eq!(render("{\"a\": {\"b\": 1}}", 1), "{\"a\": {\"b\": 1}}");
        assert_eq!(render("{{n", 1), "{{n");
    }

    #[test]
    fn unknown_gaps_are_told_with_the_nearest_one() {
        let error = Template::parse("{{tme}}").unwrap_err();
        assert!(error.starts_with("{{tme}} is no template (did you mean time?)"), "{error}");
        assert!(Template::parse("{{}}").unwrap_err().starts_with("{{}} is no template;"));
        assert!(Template::parse("{{random}}").is_err());
        assert!(Template::parse("{{random 0}}").is_err());
        assert!(Template::parse("{{n 1}}").is_err());
    }

    #[test]
    fn verbatim_text_keeps_its_braces() {
        assert_eq!(Template::verbatim("{{n}}").render(1), "{{n}}");
    }
}

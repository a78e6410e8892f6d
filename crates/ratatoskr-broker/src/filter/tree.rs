//! What a filter's text means: a tree with a type for each kind of value, and how it is evaluated.
//!
//! ```text
//!   Test    true │ false │ no answer       Text    a piece of text, or none      Number    an i64, or none
//!    All, Any, Not, Same ──▶ Test           Literal, Metadata, Key, Topic         Literal, Size, Time, Parsed ──▶ Text
//!    Texts, Starts, … ──▶ Text
//!    Numbers, … ──▶ Number
//! ```
//!
//! `None` is "no answer" everywhere. It spreads upward until a `&&` or `||` has another side that decides alone.
//! Nothing here allocates or fails; what would be a type error elsewhere cannot be built.

use super::FilterFacts;

/// Something that is true or false of a message, or has no answer.
#[derive(Debug)]
pub(super) enum Test {
    /// `true` or `false`.
    Literal(bool),
    /// `a && b && …`: false if one is, else no answer if one has none.
    All(Vec<Test>),
    /// `a || b || …`: true if one is, else no answer if one has none.
    Any(Vec<Test>),
    /// `!a`.
    Not(Box<Test>),
    /// `a == b` of two tests.
    Same(Box<Test>, Box<Test>),
    /// A comparison of texts, by code point.
    Texts(Text, Relation, Text),
    /// A comparison of numbers.
    Numbers(Number, Relation, Number),
    /// `text in ["a", "b"]`; the list is sorted.
    TextIn(Text, Box<[Box<str>]>),
    /// `number in [1, 2]`; the list is sorted.
    NumberIn(Number, Box<[i64]>),
    /// `has(metadata.name)` and `text in metadata`.
    Present(Text),
    /// `text.startsWith(text)`.
    Starts(Text, Text),
    /// `text.endsWith(text)`.
    Ends(Text, Text),
    /// `text.contains(text)`.
    Contains(Text, Text),
}

/// A piece of text.
#[derive(Debug)]
pub(super) enum Text {
    Literal(Box<str>),
    /// The value of the entry of this name; nothing if there is none.
    Metadata(Box<str>),
    Key,
    Topic,
}

/// A whole number.
#[derive(Debug)]
pub(super) enum Number {
    Literal(i64),
    /// Bytes of the payload.
    Size,
    /// Milliseconds since the Unix epoch.
    Time,
    /// `int(text)`: nothing if the text is no decimal number of 64 bits.
    Parsed(Text),
}

/// How two values can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Test {
    /// True or false, or `None` for no answer.
    pub(super) fn answer(&self, facts: &impl FilterFacts) -> Option<bool> {
        match self {
            Test::Literal(value) => Some(*value),
            Test::All(tests) => decide(tests, false, facts),
            Test::Any(tests) => decide(tests, true, facts),
            Test::Not(test) => test.answer(facts).map(|answer| !answer),
            Test::Same(left, right) => Some(left.answer(facts)? == right.answer(facts)?),
            Test::Texts(left, relation, right) => {
                Some(relation.holds(left.value(facts)?, right.value(facts)?))
            }
            Test::Numbers(left, relation, right) => {
                Some(relation.holds(&left.value(facts)?, &right.value(facts)?))
            }
            Test::TextIn(text, list) => {
                let value = text.value(facts)?;
                Some(list.binary_search_by(|item| (**item).cmp(value)).is_ok())
            }
            Test::NumberIn(number, list) => Some(list.binary_search(&number.value(facts)?).is_ok()),
            Test::Present(name) => Some(facts.metadata(name.value(facts)?).is_some()),
            Test::Starts(text, part) => Some(text.value(facts)?.starts_with(part.value(facts)?)),
            Test::Ends(text, part) => Some(text.value(facts)?.ends_with(part.value(facts)?)),
            // The search of the standard library is linear in both texts, whatever they hold.
            Test::Contains(text, part) => Some(text.value(facts)?.contains(part.value(facts)?)),
        }
    }
}

/// The first answer that is `decisive` is the answer of all; without one, a missing answer is.
fn decide(tests: &[Test], decisive: bool, facts: &impl FilterFacts) -> Option<bool> {
    let mut outcome = Some(!decisive);
    for test in tests {
        match test.answer(facts) {
            Some(answer) if answer == decisive => return Some(decisive),
            Some(_) => {}
            None => outcome = None,
        }
    }
    outcome
}

impl Text {
    fn value<'a>(&'a self, facts: &'a impl FilterFacts) -> Option<&'a str> {
        match self {
            Text::Literal(text) => Some(text),
            Text::Metadata(name) => facts.metadata(name),
            Text::Key => Some(facts.key()),
            Text::Topic => Some(facts.topic()),
        }
    }
}

impl Number {
    fn value(&self, facts: &impl FilterFacts) -> Option<i64> {
        match self {
            Number::Literal(number) => Some(*number),
            Number::Size => Some(clamped(facts.size_bytes())),
            Number::Time => Some(clamped(facts.time_ms())),
            Number::Parsed(text) => text.value(facts)?.parse().ok(),
        }
    }
}

/// Sizes and times beyond `i64` do not occur; if one does, it is the largest number rather than a negative one.
fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Relation {
    fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Relation::Equal => left == right,
            Relation::Unequal => left != right,
            Relation::Less => left < right,
            Relation::AtMost => left <= right,
            Relation::More => left > right,
            Relation::AtLeast => left >= right,
        }
    }
}

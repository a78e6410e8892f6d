//! Cuts a filter's text into tokens, one at a time.
//!
//! A token borrows from the text, except for literals with escapes in them. What is no token of the language is
//! refused here, with a hint where the slip is a usual one (`=`, `&`, `1.5`). Operators the language does not have are tokens
//! all the same: the parser can say more about them.

use std::borrow::Cow;
use std::fmt;

use super::error::Fault;
use crate::broken::Broken;

/// A piece of a filter's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// `"…"` or `'…'`, escapes resolved.
    Text(Cow<'s, str>),
    /// Decimal digits; a sign before them is a token of its own.
    Number(u64),
    /// A word.
    Name(&'s str),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// Nothing more.
    End,
}

/// Longer ones first: the first that fits is taken.
const SYMBOLS: [&str; 22] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", ".", "-", "+", "*", "/", "%",
    "?", ":",
];

/// Characters of a literal that an error quotes.
const QUOTED_CHARS_MAX: usize = 32;

/// How an error names what it found.
impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shortened = |text: &str| match text.char_indices().nth(QUOTED_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        };
        match self {
            Token::Text(text) => write!(f, "text {:?}", shortened(text)),
            Token::Number(number) => write!(f, "number {number}"),
            Token::Name(name) => write!(f, "\"{}\"", shortened(name)),
            Token::Symbol(symbol) => write!(f, "\"{symbol}\""),
            Token::End => f.write_str("end of text"),
        }
    }
}

/// Where reading the text has come to.
pub(super) struct Tokens<'s> {
    source: &'s str,
    /// The byte after the last token.
    at: usize,
}

impl<'s> Tokens<'s> {
    pub(super) fn new(source: &'s str) -> Tokens<'s> {
        Tokens { source, at: 0 }
    }

    /// The next token and the byte it begins at.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'s>), Fault> {
        let rest = self.source[self.at..].trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
        let start = self.source.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            self.at = start;
            return Ok((start, Token::End));
        };
        let (token, bytes) = match first {
            '"' | '\'' => text(rest, first, start)?,
            '0'..='9' => number(rest, start)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let name = word(rest);
                (Token::Name(name), name.len())
            }
            _ => symbol(rest, first, start)?,
        };
        self.at = start + bytes;
        Ok((start, token))
    }
}

fn word(rest: &str) -> &str {
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

fn symbol(rest: &str, first: char, start: usize) -> Result<(Token<'static>, usize), Fault> {
    if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
        return Ok((Token::Symbol(symbol), symbol.len()));
    }
    let reason = match first {
        '=' => "\"=\" means nothing here; equality is \"==\"".to_owned(),
        '&' => "\"&\" means nothing here; \"and\" is \"&&\"".to_owned(),
        '|' => "\"|\" means nothing here; \"or\" is \"||\"".to_owned(),
        _ => format!("{first:?} means nothing here"),
    };
    Err(Fault::new(start, reason))
}

fn number(rest: &str, start: usize) -> Result<(Token<'static>, usize), Fault> {
    let digits = word(rest);
    if let Some(other) = digits.find(|c: char| !c.is_ascii_digit()) {
        return Err(Fault::new(start + other, "a number has decimal digits only"));
    }
    let fraction = rest[digits.len()..]
        .strip_prefix('.')
        .is_some_and(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    if fraction {
        return Err(Fault::new(start + digits.len(), "numbers are whole; there are no fractions"));
    }
    let number = digits.parse().map_err(|_| Fault::new(start, too_large()))?;
    Ok((Token::Number(number), digits.len()))
}

/// What is said of a number that 64 bits do not hold.
pub(super) fn too_large() -> String {
    format!("a number is {} to {}", i64::MIN, i64::MAX)
}

/// Reads a literal: the token, and the bytes it takes with both its quotes.
fn text(rest: &str, quote: char, start: usize) -> Result<(Token<'_>, usize), Fault> {
    let mut resolved = String::new();
    // From where on nothing was copied yet; all of the literal, while there was no escape.
    let mut plain_from = 1;
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' | '\r' => {
                return Err(Fault::new(
                    start + at,
                    "a text ends on its line; a line break in it is written \\n",
                ));
            }
            '\\' => {
                resolved.push_str(&rest[plain_from..at]);
                let (meant, bytes) = escape(&rest[at..]).map_err(|reason| Fault::new(start + at, reason))?;
                resolved.push(meant);
                plain_from = at + bytes;
                // All of an escape is ASCII: its other bytes are so many characters.
                chars.nth(bytes - 2);
            }
            c if c == quote => {
                let token = if resolved.is_empty() && plain_from == 1 {
                    Cow::Borrowed(&rest[1..at])
                } else {
                    resolved.push_str(&rest[plain_from..at]);
                    Cow::Owned(resolved)
                };
                return Ok((Token::Text(token), at + 1));
            }
            _ => {}
        }
    }
    assert!(!Broken::Quotes.is_on(), "this panic was asked for");
    Err(Fault::new(start, format!("this text has no end; a {quote} is missing")))
}

/// What an escape stands for, and its bytes.
fn escape(rest: &str) -> Result<(char, usize), String> {
    let digits = match rest.as_bytes().get(1) {
        Some(b'\\') => return Ok(('\\', 2)),
        Some(b'"') => return Ok(('"', 2)),
        Some(b'\'') => return Ok(('\'', 2)),
        Some(b'n') => return Ok(('\n', 2)),
        Some(b'r') => return Ok(('\r', 2)),
        Some(b't') => return Ok(('\t', 2)),
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        _ => {
            return Err(
                "there is no such escape; there are \\\\ \\\" \\' \\n \\r \\t \\xHH \\uHHHH \\UHHHHHHHH"
                    .to_owned(),
            );
        }
    };
    let code = rest.get(2..2 + digits).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let code = code.ok_or_else(|| format!("this escape takes {digits} hexadecimal digits"))?;
    let meant = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
    meant.map(|meant| (meant, 2 + digits)).ok_or_else(|| format!("{code} is no character's number"))
}

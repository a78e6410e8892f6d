//! Makes a tree of tests of a filter's text, with types checked on the way.
//!
//! ```text
//!   or        and { "||" and }
//!   and       relation { "&&" relation }
//!   relation  value [ ("==" | "!=" | "<" | "<=" | ">" | ">=") value | "in" (list | "metadata") ]
//!   value     "!" value | "-" number | term { "." method "(" or ")" }
//!   term      literal | "(" or ")" | key | topic | size | time | metadata… | has(…) | int(…) | timestamp(…) | duration(…)
//! ```
//!
//! By recursive descent; every step down is counted against [`DEPTH_MAX`], every node against [`NODES_MAX`].

use super::error::Fault;
use super::moment::{duration_ms, timestamp_ms};
use super::token::{Token, Tokens, too_large};
use super::tree::{Number, Relation, Test, Text};
use super::{DEPTH_MAX, LIST_ITEMS_MAX, NODES_MAX, SOURCE_BYTES_MAX};
use ratatoskr_state::quoted;

/// A part of the tree, by its type.
enum Value {
    Test(Test),
    Text(Text),
    Number(Number),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::Test(_) => "true or false",
            Value::Text(_) => "text",
            Value::Number(_) => "a number",
        }
    }
}

struct Parser<'s> {
    tokens: Tokens<'s>,
    /// The token that is looked at, and the byte it begins at.
    at: usize,
    token: Token<'s>,
    /// What came before it, for errors.
    before: String,
    depth: usize,
    nodes: usize,
}

/// Compiles a whole text.
pub(super) fn parse(source: &str) -> Result<Test, Fault> {
    if source.len() > SOURCE_BYTES_MAX {
        let reason = format!("a filter has at most {SOURCE_BYTES_MAX} bytes, this one has {}", source.len());
        return Err(Fault::new(0, reason));
    }
    let mut tokens = Tokens::new(source);
    let (at, token) = tokens.next()?;
    let mut parser = Parser { tokens, at, token, before: String::new(), depth: 0, nodes: 0 };
    let test = parser.test()?;
    match parser.token {
        Token::End => Ok(test),
        _ => Err(parser.fault("expected an operator or the end")),
    }
}

impl<'s> Parser<'s> {
    // ---- levels ----

    /// Something that is true or false.
    fn test(&mut self) -> Result<Test, Fault> {
        let at = self.at;
        as_test(self.or()?, at)
    }

    fn or(&mut self) -> Result<Value, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Fault::new(self.at, format!("parentheses and calls nest at most {DEPTH_MAX} deep")));
        }
        let value = self.chain("||", Parser::and, Test::Any);
        self.depth -= 1;
        value
    }

    fn and(&mut self) -> Result<Value, Fault> {
        self.chain("&&", Parser::relation, Test::All)
    }

    fn chain(
        &mut self,
        operator: &'static str,
        part: fn(&mut Parser<'s>) -> Result<Value, Fault>,
        join: fn(Vec<Test>) -> Test,
    ) -> Result<Value, Fault> {
        let at = self.at;
        let first = part(self)?;
        if !self.is_symbol(operator) {
            return Ok(first);
        }
        let mut tests = vec![as_test(first, at)?];
        while self.is_symbol(operator) {
            self.node()?;
            self.step()?;
            let at = self.at;
            tests.push(as_test(part(self)?, at)?);
        }
        Ok(Value::Test(join(tests)))
    }

    fn relation(&mut self) -> Result<Value, Fault> {
        let left = self.value()?;
        let at = self.at;
        if self.token == Token::Name("in") {
            self.node()?;
            self.step()?;
            return self.membership(left, at);
        }
        let relation = match &self.token {
            Token::Symbol("==") => Relation::Equal,
            Token::Symbol("!=") => Relation::Unequal,
            Token::Symbol("<") => Relation::Less,
            Token::Symbol("<=") => Relation::AtMost,
            Token::Symbol(">") => Relation::More,
            Token::Symbol(">=") => Relation::AtLeast,
            Token::Symbol(operator @ ("+" | "-" | "*" | "/" | "%" | "?" | ":")) => {
                return Err(Fault::new(
                    at,
                    format!("there is no {operator:?} in filters, they only compare"),
                ));
            }
            _ => return Ok(left),
        };
        self.node()?;
        self.step()?;
        let right = self.value()?;
        let (left_kind, right_kind) = (left.kind(), right.kind());
        Ok(Value::Test(match (left, right) {
            (Value::Text(left), Value::Text(right)) => Test::Texts(left, relation, right),
            (Value::Number(left), Value::Number(right)) => Test::Numbers(left, relation, right),
            (Value::Test(left), Value::Test(right)) if relation == Relation::Equal => {
                Test::Same(Box::new(left), Box::new(right))
            }
            (Value::Test(left), Value::Test(right)) if relation == Relation::Unequal => {
                Test::Not(Box::new(Test::Same(Box::new(left), Box::new(right))))
            }
            _ => {
                let reason = format!("{left_kind} cannot be compared with {right_kind} this way");
                return Err(Fault::new(at, reason));
            }
        }))
    }

    /// The right side of `in`.
    fn membership(&mut self, left: Value, at: usize) -> Result<Value, Fault> {
        if self.token == Token::Name("metadata") {
            self.node()?;
            self.step()?;
            return match left {
                Value::Text(name) => Ok(Value::Test(Test::Present(name))),
                other => Err(Fault::new(at, format!("names of metadata are text, this is {}", other.kind()))),
            };
        }
        if !self.is_symbol("[") {
            return Err(self.fault("expected a list such as [\"a\", \"b\"], or metadata,"));
        }
        self.step()?;
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        while !self.is_symbol("]") {
            let item_at = self.at;
            if texts.len() + numbers.len() == LIST_ITEMS_MAX {
                return Err(Fault::new(item_at, format!("a list has at most {LIST_ITEMS_MAX} items")));
            }
            match (self.value()?, &left) {
                (Value::Text(Text::Literal(item)), Value::Text(_)) => texts.push(item),
                (Value::Number(Number::Literal(item)), Value::Number(_)) => numbers.push(item),
                (item, _) => {
                    let reason = format!(
                        "expected a literal of the type on the left, {}, found {}",
                        left.kind(),
                        item.kind()
                    );
                    return Err(Fault::new(item_at, reason));
                }
            }
            if !self.is_symbol(",") {
                break;
            }
            self.step()?;
        }
        self.symbol("]")?;
        texts.sort_unstable();
        numbers.sort_unstable();
        match left {
            Value::Text(text) => Ok(Value::Test(Test::TextIn(text, texts.into()))),
            Value::Number(number) => Ok(Value::Test(Test::NumberIn(number, numbers.into()))),
            Value::Test(_) => Err(Fault::new(at, "only text and numbers can be in a list")),
        }
    }

    fn value(&mut self) -> Result<Value, Fault> {
        let mut negations = 0;
        while self.is_symbol("!") {
            self.node()?;
            self.step()?;
            negations += 1;
        }
        let at = self.at;
        let mut value = self.term()?;
        while self.is_symbol(".") {
            self.step()?;
            value = self.method(value, at)?;
        }
        if negations == 0 {
            return Ok(value);
        }
        let test = as_test(value, at)?;
        // Two in a row undo each other, so that the tree is no deeper for them.
        Ok(Value::Test(if negations % 2 == 1 { Test::Not(Box::new(test)) } else { test }))
    }

    fn method(&mut self, value: Value, at: usize) -> Result<Value, Fault> {
        let make: fn(Text, Text) -> Test = match &self.token {
            Token::Name("startsWith") => Test::Starts,
            Token::Name("endsWith") => Test::Ends,
            Token::Name("contains") => Test::Contains,
            Token::Name("matches") => {
                return Err(Fault::new(
                    self.at,
                    "there is no matches(); use startsWith, endsWith or contains",
                ));
            }
            _ => return Err(self.fault("expected startsWith, endsWith or contains")),
        };
        self.node()?;
        self.step()?;
        let text = as_text(value, at)?;
        self.symbol("(")?;
        let argument_at = self.at;
        let argument = as_text(self.or()?, argument_at)?;
        self.symbol(")")?;
        Ok(Value::Test(make(text, argument)))
    }

    // ---- terms ----

    fn term(&mut self) -> Result<Value, Fault> {
        self.node()?;
        let at = self.at;
        match self.token.clone() {
            Token::Text(text) => {
                self.step()?;
                Ok(Value::Text(Text::Literal(text.into_owned().into())))
            }
            Token::Number(number) => {
                self.step()?;
                let number = i64::try_from(number).map_err(|_| Fault::new(at, too_large()))?;
                Ok(Value::Number(Number::Literal(number)))
            }
            Token::Symbol("-") => {
                self.step()?;
                let Token::Number(number) = self.token else { return Err(self.fault("expected a number")) };
                self.step()?;
                let number = 0_i64.checked_sub_unsigned(number).ok_or_else(|| Fault::new(at, too_large()))?;
                Ok(Value::Number(Number::Literal(number)))
            }
            Token::Symbol("(") => {
                self.step()?;
                let value = self.or()?;
                self.symbol(")")?;
                Ok(value)
            }
            Token::Name(name) => self.name(name, at),
            Token::Symbol(_) | Token::End => Err(self.fault("expected a value")),
        }
    }

    fn name(&mut self, name: &str, at: usize) -> Result<Value, Fault> {
        self.step()?;
        Ok(match name {
            "true" => Value::Test(Test::Literal(true)),
            "false" => Value::Test(Test::Literal(false)),
            "key" => Value::Text(Text::Key),
            "topic" => Value::Text(Text::Topic),
            "size" => Value::Number(Number::Size),
            "time" => Value::Number(Number::Time),
            "metadata" => Value::Text(self.entry()?),
            "has" => {
                self.symbol("(")?;
                if self.token != Token::Name("metadata") {
                    return Err(self.fault("expected metadata"));
                }
                self.step()?;
                let Text::Metadata(name) = self.entry()? else { unreachable!("an entry is metadata") };
                self.symbol(")")?;
                Value::Test(Test::Present(Text::Literal(name)))
            }
            "int" => {
                self.symbol("(")?;
                let argument_at = self.at;
                let text = as_text(self.or()?, argument_at)?;
                self.symbol(")")?;
                Value::Number(Number::Parsed(text))
            }
            "timestamp" => {
                Value::Number(self.moment(timestamp_ms, "a time such as \"2026-01-02T03:04:05Z\"")?)
            }
            "duration" => {
                Value::Number(self.moment(duration_ms, "a duration such as \"1h30m\" or \"250ms\"")?)
            }
            _ => {
                let reason = format!(
                    "{} is nothing a message has; there are metadata, key, topic, size, time, and has(), int(), timestamp(), duration()",
                    quoted(name)
                );
                return Err(Fault::new(at, reason));
            }
        })
    }

    /// What follows the word metadata: `["name"]` or `.name`.
    fn entry(&mut self) -> Result<Text, Fault> {
        if self.is_symbol(".") {
            self.step()?;
            let Token::Name(name) = self.token else { return Err(self.fault("expected a name")) };
            self.step()?;
            return Ok(Text::Metadata(name.into()));
        }
        self.symbol("[")?;
        let Token::Text(name) = self.token.clone() else {
            return Err(self.fault("expected a name in quotes"));
        };
        self.step()?;
        self.symbol("]")?;
        Ok(Text::Metadata(name.into_owned().into()))
    }

    fn moment(&mut self, read: fn(&str) -> Option<i64>, expected: &str) -> Result<Number, Fault> {
        self.symbol("(")?;
        let Token::Text(text) = self.token.clone() else {
            return Err(self.fault(&format!("expected {expected}")));
        };
        let ms = read(&text).ok_or_else(|| self.fault(&format!("expected {expected}")))?;
        self.step()?;
        self.symbol(")")?;
        Ok(Number::Literal(ms))
    }

    // ---- steps ----

    fn step(&mut self) -> Result<(), Fault> {
        let (at, token) = self.tokens.next()?;
        self.before = std::mem::replace(&mut self.token, token).to_string();
        self.at = at;
        Ok(())
    }

    fn is_symbol(&self, symbol: &'static str) -> bool {
        self.token == Token::Symbol(symbol)
    }

    fn symbol(&mut self, symbol: &'static str) -> Result<(), Fault> {
        if self.is_symbol(symbol) { self.step() } else { Err(self.fault(&format!("expected \"{symbol}\""))) }
    }

    fn node(&mut self) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let reason = format!("a filter has at most {NODES_MAX} literals, facts and operators");
            return Err(Fault::new(self.at, reason));
        }
        Ok(())
    }

    /// Something else was expected here.
    fn fault(&self, expected: &str) -> Fault {
        let after = if self.before.is_empty() { String::new() } else { format!(" after {}", self.before) };
        Fault::new(self.at, format!("{expected}{after}, found {}", self.token))
    }
}

fn as_test(value: Value, at: usize) -> Result<Test, Fault> {
    match value {
        Value::Test(test) => Ok(test),
        other => {
            Err(Fault::new(at, format!("expected something that is true or false, this is {}", other.kind())))
        }
    }
}

fn as_text(value: Value, at: usize) -> Result<Text, Fault> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(Fault::new(at, format!("expected text, this is {}", other.kind()))),
    }
}

//! [`Section`]: a table of the policy file that remembers what was asked for, so that whatever else stands in it is an error.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{nearest, parse_bytes, parse_number};

/// Why a policy file is none. All of it is for a person to put right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A file cannot be read.
    #[error("{what} {} cannot be read: {reason}", .path.display())]
    Unreadable {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// A file that may not be believed, or is no file.
    #[error("{what} {} is refused: {reason}", .path.display())]
    Untrusted {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A line that cannot be.
    #[error("{}:{line}: {message}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it, and what is allowed.
        message: String,
    },
}

/// The file that is being read.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Page<'_> {
    /// An error at a byte of the file.
    pub(super) fn error(&self, position: usize, message: impl Into<String>) -> PolicyError {
        let line = self.text[..position.min(self.text.len())].matches('\n').count() + 1;
        PolicyError::Line { path: self.path.to_owned(), line, message: message.into() }
    }
}

/// See the file's head.
pub(super) struct Section<'a> {
    page: Page<'a>,
    /// As a person names it: `identities.billing`; empty for the file itself.
    name: String,
    /// Where it stands, for errors about what it lacks.
    position: usize,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

/// A value and where it stands.
pub(super) type Placed<T> = (T, usize);

impl<'a> Section<'a> {
    pub(super) fn new(page: Page<'a>, name: String, position: usize, table: &'a DeTable<'a>) -> Section<'a> {
        Section { page, name, position, table, asked: Vec::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An error about the section as a whole.
    pub(super) fn error(&self, message: impl Into<String>) -> PolicyError {
        self.page.error(self.position, message)
    }

    pub(super) fn error_at(&self, position: usize, message: impl Into<String>) -> PolicyError {
        self.page.error(position, message)
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn expected(&self, key: &str, value: &Spanned<DeValue<'_>>, what: &str) -> PolicyError {
        self.page.error(value.span().start, format!("{}{key} is no {what}", self.prefix()))
    }

    fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}.", self.name) }
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<Placed<&'a str>>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::String(text) => Ok(Some((text.as_ref(), value.span().start))),
            _ => Err(self.expected(key, value, "text in quotes")),
        }
    }

    /// A text that has to be there.
    pub(super) fn needed_text(&mut self, key: &'static str) -> Result<Placed<&'a str>, PolicyError> {
        let missing = self.error(format!("{} needs {key}", self.name));
        self.text(key)?.ok_or(missing)
    }

    /// Texts: a list, or one alone.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<Vec<Placed<&'a str>>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let list = match value.get_ref() {
            DeValue::String(text) => return Ok(vec![(text.as_ref(), value.span().start)]),
            DeValue::Array(list) => list,
            _ => return Err(self.expected(key, value, "list of texts")),
        };
        let mut texts = Vec::with_capacity(list.len());
        for item in list {
            match item.get_ref() {
                DeValue::String(text) => texts.push((text.as_ref(), item.span().start)),
                _ => return Err(self.expected(key, item, "list of texts")),
            }
        }
        Ok(texts)
    }

    /// A count of 1 or more.
    pub(super) fn count(&mut self, key: &'static str) -> Result<Option<u64>, PolicyError> {
        self.amount(key, "whole number of 1 or more", |text| parse_number(text).map_err(|e| e.to_string()))
    }

    /// A size of 1 byte or more.
    pub(super) fn bytes(&mut self, key: &'static str) -> Result<Option<u64>, PolicyError> {
        self.amount(key, "size of 1 byte or more", |text| parse_bytes(text).map_err(|e| e.to_string()))
    }

    fn amount(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Result<u64, String>,
    ) -> Result<Option<u64>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let parsed = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => parse(number.as_str()),
            DeValue::String(text) => parse(text),
            _ => return Err(self.expected(key, value, what)),
        };
        match parsed {
            Ok(amount) if amount > 0 => Ok(Some(amount)),
            Ok(_) => Err(self.expected(key, value, what)),
            Err(reason) => {
                Err(self.page.error(value.span().start, format!("{}{key}: {reason}", self.prefix())))
            }
        }
    }

    /// A table within it.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Option<Section<'a>>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Table(table) => Ok(Some(Section::new(
                self.page,
                format!("{}{key}", self.prefix()),
                value.span().start,
                table,
            ))),
            _ => Err(self.expected(key, value, "table")),
        }
    }

    /// Tables within it by names that a person chose.
    pub(super) fn sections(&mut self, key: &'static str) -> Result<Vec<(&'a str, Section<'a>)>, PolicyError> {
        let Some(outer) = self.section(key)? else { return Ok(Vec::new()) };
        let mut sections = Vec::with_capacity(outer.table.len());
        for (name, value) in outer.table {
            let place = format!("{}.{}", outer.name, name.get_ref());
            let DeValue::Table(table) = value.get_ref() else {
                return Err(outer.expected(name.get_ref(), value, "table"));
            };
            let section = Section::new(self.page, place, name.span().start, table);
            sections.push((name.get_ref().as_ref(), section));
        }
        Ok(sections)
    }

    /// A list of tables.
    pub(super) fn list(&mut self, key: &'static str) -> Result<Vec<Section<'a>>, PolicyError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let DeValue::Array(list) = value.get_ref() else {
            return Err(self.expected(key, value, "list of tables"));
        };
        let mut sections = Vec::with_capacity(list.len());
        for item in list {
            let DeValue::Table(table) = item.get_ref() else {
                return Err(self.expected(key, item, "list of tables"));
            };
            sections.push(Section::new(
                self.page,
                format!("{}{key}", self.prefix()),
                item.span().start,
                table,
            ));
        }
        Ok(sections)
    }

    /// Whatever has not been asked for cannot be.
    pub(super) fn finish(self) -> Result<(), PolicyError> {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let advice = match nearest(name, self.asked.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("allowed are {}", self.asked.join(", ")),
            };
            return Err(self
                .page
                .error(key.span().start, format!("unknown key {}{name}; {advice}", self.prefix())));
        }
        Ok(())
    }
}

//! Filters: an expression over a message that says whether a subscriber wants it.
//!
//! ```text
//!   text ──token──▶ tokens ──parse──▶ tree of tests ──answer(facts)──▶ true │ false │ no answer
//!            once, when subscribing: errors with a column          per message: only `true` passes
//! ```
//!
//! The language is a subset of CEL (`docs/filters.md` has all of it, ADR 0008 the why). Invariants:
//! - Types are checked when parsing: the tree has a type of its own for text, numbers and tests, so evaluation
//!   meets no wrong one.
//! - A question about metadata that is not there, or a number made of text that is none, has *no answer*. `&&`,
//!   `||` and `!` work on with that as CEL does with errors; a message passes only when the answer is `true`.
//! - Evaluation allocates nothing and borrows everything. Its cost is bounded by the limits below: each node
//!   looks up at most one metadata entry (a walk over at most 64 names) and reads each of at most two texts a bounded
//!   number of times (8 KiB each at most), so one evaluation is at most `NODES_MAX` × 64 = 16,384 names compared, and
//!   `NODES_MAX` × 8 KiB = 2 MiB of text read, whatever the expression.
//! - Recursion, when parsing, evaluating and dropping, goes no deeper than a constant times `DEPTH_MAX`.
//!
//! Deliberately not here: arithmetic, variables, functions of one's own, regular expressions, the payload.

mod error;
mod moment;
mod parse;
mod token;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use error::FilterError;
use tree::Test;

/// Bytes of a filter's text: a screen full, far more than people write.
pub(crate) const SOURCE_BYTES_MAX: usize = 4096;
/// Levels of parentheses, calls counted: bounds recursion.
pub(crate) const DEPTH_MAX: usize = 32;
/// Literals, facts and operators of one filter, list items counted: bounds the cost of one evaluation.
pub(crate) const NODES_MAX: usize = 256;
/// Literals in one list.
pub(crate) const LIST_ITEMS_MAX: usize = 128;

/// What a filter can ask about a message.
pub trait FilterFacts {
    /// The value of a metadata entry, `None` if there is none of that name; the first if there are several.
    fn metadata(&self, name: &str) -> Option<&str>;
    /// The key, empty for none.
    fn key(&self) -> &str;
    /// The topic's name.
    fn topic(&self) -> &str;
    /// Bytes of the payload.
    fn size_bytes(&self) -> u64;
    /// When the broker took the message in, milliseconds since the Unix epoch.
    fn time_ms(&self) -> u64;
}

/// An expression that messages pass or do not pass, checked and ready to use. Cheap to clone; equal when its text is.
///
/// ```
/// use ratatoskr_broker::{Filter, FilterFacts};
///
/// struct Order;
/// impl FilterFacts for Order {
///     fn metadata(&self, name: &str) -> Option<&str> {
///         (name == "type").then_some("order")
///     }
///     fn key(&self) -> &str {
///         "customer-7"
///     }
///     fn topic(&self) -> &str {
///         "shop"
///     }
///     fn size_bytes(&self) -> u64 {
///         120
///     }
///     fn time_ms(&self) -> u64 {
///         1_767_323_045_000
///     }
/// }
///
/// let filter = Filter::parse(r#"metadata["type"] == "order" && size < 1000"#)?;
/// assert!(filter.passes(&Order));
///
/// let error = Filter::parse("size < 1000 &&").unwrap_err();
/// assert_eq!(error.to_string(), r#"filter column 15: expected a value after "&&", found end of text"#);
/// assert_eq!(error.caret(), "size < 1000 &&\n              ^");
/// # Ok::<(), ratatoskr_broker::FilterError>(())
/// ```
#[derive(Clone)]
pub struct Filter(Arc<Compiled>);

/// What all clones of a filter share.
struct Compiled {
    /// The text it was made of, as given.
    source: Box<str>,
    /// What the text means.
    test: Test,
}

impl Filter {
    /// Compiles a text: at most 4,096 bytes, 256 nodes, 32 levels of parentheses and 128 literals in a list.
    pub fn parse(source: &str) -> Result<Filter, FilterError> {
        let test = parse::parse(source).map_err(|fault| FilterError::new(source, fault))?;
        Ok(Filter(Arc::new(Compiled { source: source.into(), test })))
    }

    /// The text it was made of.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether a message passes: the answer is `true`, not `false` and not missing. Allocates nothing.
    pub fn passes(&self, facts: &impl FilterFacts) -> bool {
        self.0.test.answer(facts) == Some(true)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.source()).finish()
    }
}

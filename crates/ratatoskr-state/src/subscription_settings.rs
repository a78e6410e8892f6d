//! What can be set per subscription, with defaults and the retry schedule. Whether it can be is decided where it is asked for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::topic_name::{TopicName, TopicNameError};

/// The name of the subscription on a topic of dead letters that knows which of them are still to be resolved. Only the broker creates it: its place
/// and settings decide which letters are listed, and for how long.
pub const DEAD_LETTERS_SUBSCRIPTION: &str = "dlq";

/// A valid name of a durable subscription, unique on its topic; same letters and length as a topic's name.
///
/// ```
/// use ratatoskr_state::SubscriptionName;
/// assert!(SubscriptionName::parse("billing").is_ok());
/// let error = SubscriptionName::parse("").unwrap_err();
/// assert!(error.to_string().starts_with("subscription name is empty"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionName(Arc<str>);

/// Why a text is no subscription name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionNameError(TopicNameError);

impl fmt::Display for SubscriptionNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rules are those of topic names; only what is named differs.
        let text = self.0.to_string();
        write!(f, "subscription{}", text.strip_prefix("topic").unwrap_or(&text))
    }
}

impl std::error::Error for SubscriptionNameError {}

impl SubscriptionName {
    /// Checks a text and makes it a name.
    pub fn parse(text: &str) -> Result<SubscriptionName, SubscriptionNameError> {
        TopicName::parse(text)
            .map(|name| SubscriptionName(name.as_str().into()))
            .map_err(SubscriptionNameError)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before all names in order; no name itself.
    pub(crate) fn first() -> SubscriptionName {
        SubscriptionName("".into())
    }
}

impl fmt::Display for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// Which durable subscription is meant. Shown as `topic/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionRef {
    /// Its topic.
    pub topic: TopicName,
    /// Its own name.
    pub name: SubscriptionName,
}

impl fmt::Display for SubscriptionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.name)
    }
}

/// Where dead letters go unless a subscription's settings say otherwise. Dots of its name become underscores, so that the topic can be told from the
/// name: whoever may work through one topic must not be able to write among another's dead letters.
pub fn dead_letter_topic(topic: &str, subscription: &str) -> String {
    format!("{topic}.{}.dlq", subscription.replace('.', "_"))
}

/// Settings of one durable subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriptionSettings {
    /// Only messages that pass this expression are delivered; empty for all. See the broker's `Filter`.
    pub filter: String,
    /// Messages of one key go out one after another. Default true.
    pub ordered: bool,
    /// How long a message is leased, milliseconds, 100 to 43,200,000. Default 30,000.
    pub lease_ms: u64,
    /// Deliveries before a message becomes a dead letter; 0 for ever. Default 3.
    pub attempts_max: u32,
    /// Delay before the second delivery of a nacked message, milliseconds. Default 1,000.
    pub retry_delay_ms: u64,
    /// The delay never grows beyond this, milliseconds. Default 300,000.
    pub retry_delay_max_ms: u64,
    /// The delay grows by this factor each time, 1 to 100. Default 2.
    pub retry_multiplier: f64,
    /// Each delay is changed by chance by at most this share of itself, 0 to 1. Default 0.1.
    pub retry_jitter: f64,
    /// Where dead letters go; `None` for [`dead_letter_topic`]. Not the subscription's own topic.
    pub dead_letter_topic: Option<String>,
    /// Messages one member may hold unsettled. Default 1,000.
    pub member_outstanding_max: u32,
    /// Messages all members together may hold unsettled. Default 100,000.
    pub outstanding_max: u32,
    /// The subscription goes when it had no member for so long, milliseconds. Default never.
    pub expiry_ms: Option<u64>,
    /// Nothing is delivered while true.
    pub paused: bool,
}

impl Default for SubscriptionSettings {
    fn default() -> SubscriptionSettings {
        SubscriptionSettings {
            filter: String::new(),
            ordered: true,
            lease_ms: 30_000,
            attempts_max: 3,
            retry_delay_ms: 1_000,
            retry_delay_max_ms: 300_000,
            retry_multiplier: 2.0,
            retry_jitter: 0.1,
            dead_letter_topic: None,
            member_outstanding_max: 1_000,
            outstanding_max: 100_000,
            expiry_ms: None,
            paused: false,
        }
    }
}

impl SubscriptionSettings {
    /// How long to wait before the next delivery after so many; `chance` lies between 0 and 1.
    pub fn retry_delay_ms(&self, attempts: u32, chance: f64) -> u64 {
        let grown = self.retry_delay_ms as f64
            * self.retry_multiplier.powi(attempts.saturating_sub(1).min(10_000) as i32);
        let delay = grown.min(self.retry_delay_max_ms.max(self.retry_delay_ms) as f64);
        (delay * (1.0 + self.retry_jitter * (2.0 * chance - 1.0))).max(0.0) as u64
    }

    /// True when a message that was delivered so often is not delivered again.
    pub fn is_exhausted(&self, attempts: u32) -> bool {
        self.attempts_max > 0 && attempts >= self.attempts_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_stray_by_the_jitter() {
        let settings = SubscriptionSettings { retry_delay_max_ms: 5_000, ..SubscriptionSettings::default() };
        let delays: Vec<u64> = (1..6).map(|attempts| settings.retry_delay_ms(attempts, 0.5)).collect();
        assert_eq!(delays, [1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!((settings.retry_delay_ms(1, 0.0), settings.retry_delay_ms(1, 1.0)), (900, 1_100));
        assert_eq!(settings.retry_delay_ms(u32::MAX, 0.5), 5_000);
    }
}

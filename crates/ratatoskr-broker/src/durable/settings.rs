//! What can be set per durable subscription, with defaults, ranges, the retry schedule, and its form in the journal.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::filter::{Filter, FilterError};
use crate::limits::{
    LEASE_MS_MAX, LEASE_MS_MIN, MEMBER_OUTSTANDING_MAX, OUTSTANDING_MAX, TOPIC_NAME_BYTES_MAX,
};
use crate::name::{TopicName, TopicNameError};

/// The name of the subscription on a topic of dead letters that knows which of them are still to be resolved. Only the broker creates it: its place
/// and settings decide which letters are listed, and for how long.
pub const DEAD_LETTERS_SUBSCRIPTION: &str = "dlq";

/// A valid name of a durable subscription, unique on its topic; same letters and length as a topic's name.
///
/// ```
/// use ratatoskr_broker::SubscriptionName;
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
    /// Only messages that pass this expression are delivered; empty for all. See [`Filter`].
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

/// A subscription's setting that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SubscriptionSettingsError {
    /// The value lies outside its range.
    #[error("setting {field} is {value}; allowed are {allowed}")]
    OutOfRange {
        /// The setting's name, as in the proto file.
        field: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// The filter is no expression.
    #[error("setting filter: {0}")]
    Filter(FilterError),
    /// The topic of dead letters has no valid name.
    #[error("setting dead_letter_topic: {0}")]
    DeadLetterTopic(TopicNameError),
    /// Dead letters would come back to the subscription they come from, for ever.
    #[error(
        "setting dead_letter_topic is {topic:?}, the subscription's own topic: what it rejects would come back to it for ever; name another topic"
    )]
    OwnTopic {
        /// The topic.
        topic: TopicName,
    },
    /// The default name of the topic of dead letters would be too long.
    #[error(
        "the dead letters of this subscription would go to a topic with a name of {bytes} bytes, and {TOPIC_NAME_BYTES_MAX} are allowed; set dead_letter_topic, or choose a shorter name"
    )]
    DeadLetterTopicTooLong {
        /// Bytes of the name.
        bytes: usize,
    },
}

impl SubscriptionSettings {
    /// Checks every range, the filter, and that there is a place for dead letters.
    pub fn validate(self, name: &SubscriptionRef) -> Result<SubscriptionSettings, SubscriptionSettingsError> {
        let out_of_range = |field, value: String, allowed| {
            Err(SubscriptionSettingsError::OutOfRange { field, value, allowed })
        };
        let whole = [
            ("lease_ms", self.lease_ms, LEASE_MS_MIN..=LEASE_MS_MAX, "100 to 43200000 ms"),
            ("attempts_max", self.attempts_max.into(), 0..=1_000_000, "0 to 1000000"),
            ("retry_delay_ms", self.retry_delay_ms, 0..=LEASE_MS_MAX, "0 to 43200000 ms"),
            ("retry_delay_max_ms", self.retry_delay_max_ms, 0..=LEASE_MS_MAX, "0 to 43200000 ms"),
            (
                "member_outstanding_max",
                self.member_outstanding_max.into(),
                1..=MEMBER_OUTSTANDING_MAX.into(),
                "1 to 100000",
            ),
            ("outstanding_max", self.outstanding_max.into(), 1..=OUTSTANDING_MAX.into(), "1 to 1000000"),
            (
                "expiry_ms",
                self.expiry_ms.unwrap_or(u64::MAX),
                1000..=u64::MAX,
                "1000 ms and more, or 0 for never",
            ),
        ];
        for (field, value, range, allowed) in whole {
            if !range.contains(&value) {
                return out_of_range(field, value.to_string(), allowed);
            }
        }
        if !(1.0..=100.0).contains(&self.retry_multiplier) {
            return out_of_range("retry_multiplier", self.retry_multiplier.to_string(), "1 to 100");
        }
        if !(0.0..=1.0).contains(&self.retry_jitter) {
            return out_of_range("retry_jitter", self.retry_jitter.to_string(), "0 to 1");
        }
        if !self.filter.is_empty() {
            Filter::parse(&self.filter).map_err(SubscriptionSettingsError::Filter)?;
        }
        let dead = self.dead_letters(name)?;
        if dead != name.topic {
            return Ok(self);
        }
        // Only what looks after dead letters leaves them where they are, and never counts their attempts.
        match (name.name.as_str(), self.attempts_max) {
            (DEAD_LETTERS_SUBSCRIPTION, 0) => Ok(self),
            (DEAD_LETTERS_SUBSCRIPTION, _) => {
                out_of_range("attempts_max", self.attempts_max.to_string(), "0 where dead letters end")
            }
            _ => Err(SubscriptionSettingsError::OwnTopic { topic: dead }),
        }
    }

    /// The topic dead letters go to.
    pub(crate) fn dead_letters(
        &self,
        name: &SubscriptionRef,
    ) -> Result<TopicName, SubscriptionSettingsError> {
        if let Some(topic) = &self.dead_letter_topic {
            return TopicName::parse(topic).map_err(SubscriptionSettingsError::DeadLetterTopic);
        }
        let topic = dead_letter_topic(name.topic.as_str(), name.name.as_str());
        TopicName::parse(&topic)
            .map_err(|_| SubscriptionSettingsError::DeadLetterTopicTooLong { bytes: topic.len() })
    }

    /// How long to wait before the next delivery after so many; `chance` lies between 0 and 1.
    pub(crate) fn retry_delay_ms(&self, attempts: u32, chance: f64) -> u64 {
        let grown = self.retry_delay_ms as f64
            * self.retry_multiplier.powi(attempts.saturating_sub(1).min(10_000) as i32);
        let delay = grown.min(self.retry_delay_max_ms.max(self.retry_delay_ms) as f64);
        (delay * (1.0 + self.retry_jitter * (2.0 * chance - 1.0))).max(0.0) as u64
    }

    /// True when a message that was delivered so often is not delivered again.
    pub(crate) fn is_exhausted(&self, attempts: u32) -> bool {
        self.attempts_max > 0 && attempts >= self.attempts_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> SubscriptionRef {
        SubscriptionRef {
            topic: TopicName::parse("orders").unwrap(),
            name: SubscriptionName::parse("billing").unwrap(),
        }
    }

    #[test]
    fn delays_grow_to_their_bound_and_stray_by_the_jitter() {
        let settings = SubscriptionSettings { retry_delay_max_ms: 5_000, ..SubscriptionSettings::default() };
        let delays: Vec<u64> = (1..6).map(|attempts| settings.retry_delay_ms(attempts, 0.5)).collect();
        assert_eq!(delays, [1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!((settings.retry_delay_ms(1, 0.0), settings.retry_delay_ms(1, 1.0)), (900, 1_100));
        assert_eq!(settings.retry_delay_ms(u32::MAX, 0.5), 5_000);
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let settings = SubscriptionSettings { lease_ms: 99, ..SubscriptionSettings::default() };
        let error = settings.validate(&name()).unwrap_err();
        assert_eq!(error.to_string(), "setting lease_ms is 99; allowed are 100 to 43200000 ms");
        let settings = SubscriptionSettings { retry_multiplier: f64::NAN, ..SubscriptionSettings::default() };
        assert!(settings.validate(&name()).unwrap_err().to_string().starts_with("setting retry_multiplier"));
        let settings = SubscriptionSettings {
            dead_letter_topic: Some("a b".to_owned()),
            ..SubscriptionSettings::default()
        };
        assert!(
            settings.validate(&name()).unwrap_err().to_string().contains("dead_letter_topic: topic name")
        );
    }

    #[test]
    fn only_the_caretaker_of_dead_letters_leaves_them_in_its_own_topic_and_counts_no_attempts() {
        let own = SubscriptionSettings {
            dead_letter_topic: Some("orders".to_owned()),
            attempts_max: 0,
            ..SubscriptionSettings::default()
        };
        let refused = own.clone().validate(&name()).unwrap_err();
        assert!(matches!(refused, SubscriptionSettingsError::OwnTopic { .. }), "{refused}");
        let caretaker =
            SubscriptionRef { name: SubscriptionName::parse(DEAD_LETTERS_SUBSCRIPTION).unwrap(), ..name() };
        own.clone().validate(&caretaker).unwrap();
        let refused = SubscriptionSettings { attempts_max: 3, ..own }.validate(&caretaker).unwrap_err();
        assert_eq!(refused.to_string(), "setting attempts_max is 3; allowed are 0 where dead letters end");
    }

    #[test]
    fn dead_letters_go_beside_their_topic() {
        let settings = SubscriptionSettings::default();
        assert_eq!(settings.dead_letters(&name()).unwrap().as_str(), "orders.billing.dlq");
        assert_eq!(dead_letter_topic("orders", "eu.pay"), "orders.eu_pay.dlq");
        assert_ne!(dead_letter_topic("orders", "eu.pay"), dead_letter_topic("orders.eu", "pay"));
        let long = SubscriptionRef { name: SubscriptionName::parse(&"s".repeat(250)).unwrap(), ..name() };
        let error = settings.validate(&long).unwrap_err();
        assert!(error.to_string().contains("name of 261 bytes"), "{error}");
    }
}

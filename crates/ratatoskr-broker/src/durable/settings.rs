//! What can be set per subscription: ranges, and where dead letters go.

use ratatoskr_state::limits::{
    LEASE_MS_MAX, LEASE_MS_MIN, MEMBER_OUTSTANDING_MAX, OUTSTANDING_MAX, TOPIC_NAME_BYTES_MAX,
};
use ratatoskr_state::{
    DEAD_LETTERS_SUBSCRIPTION, SubscriptionRef, SubscriptionSettings, TopicName, TopicNameError,
    dead_letter_topic,
};

use crate::filter::{Filter, FilterError};

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

/// Checks every range, the filter, and that there is a place for dead letters.
pub(crate) fn validate(
    settings: SubscriptionSettings,
    name: &SubscriptionRef,
) -> Result<SubscriptionSettings, SubscriptionSettingsError> {
    let out_of_range =
        |field, value: String, allowed| Err(SubscriptionSettingsError::OutOfRange { field, value, allowed });
    let whole = [
        ("lease_ms", settings.lease_ms, LEASE_MS_MIN..=LEASE_MS_MAX, "100 to 43200000 ms"),
        ("attempts_max", settings.attempts_max.into(), 0..=1_000_000, "0 to 1000000"),
        ("retry_delay_ms", settings.retry_delay_ms, 0..=LEASE_MS_MAX, "0 to 43200000 ms"),
        ("retry_delay_max_ms", settings.retry_delay_max_ms, 0..=LEASE_MS_MAX, "0 to 43200000 ms"),
        (
            "member_outstanding_max",
            settings.member_outstanding_max.into(),
            1..=MEMBER_OUTSTANDING_MAX.into(),
            "1 to 100000",
        ),
        ("outstanding_max", settings.outstanding_max.into(), 1..=OUTSTANDING_MAX.into(), "1 to 1000000"),
        (
            "expiry_ms",
            settings.expiry_ms.unwrap_or(u64::MAX),
            1000..=u64::MAX,
            "1000 ms and more, or 0 for never",
        ),
    ];
    for (field, value, range, allowed) in whole {
        if !range.contains(&value) {
            return out_of_range(field, value.to_string(), allowed);
        }
    }
    if !(1.0..=100.0).contains(&settings.retry_multiplier) {
        return out_of_range("retry_multiplier", settings.retry_multiplier.to_string(), "1 to 100");
    }
    if !(0.0..=1.0).contains(&settings.retry_jitter) {
        return out_of_range("retry_jitter", settings.retry_jitter.to_string(), "0 to 1");
    }
    if !settings.filter.is_empty() {
        Filter::parse(&settings.filter).map_err(SubscriptionSettingsError::Filter)?;
    }
    let dead = dead_letters(&settings, name)?;
    if dead != name.topic {
        return Ok(settings);
    }
    // Only what looks after dead letters leaves them where they are, and never counts their attempts.
    match (name.name.as_str(), settings.attempts_max) {
        (DEAD_LETTERS_SUBSCRIPTION, 0) => Ok(settings),
        (DEAD_LETTERS_SUBSCRIPTION, _) => {
            out_of_range("attempts_max", settings.attempts_max.to_string(), "0 where dead letters end")
        }
        _ => Err(SubscriptionSettingsError::OwnTopic { topic: dead }),
    }
}

/// The topic dead letters go to.
pub(crate) fn dead_letters(
    settings: &SubscriptionSettings,
    name: &SubscriptionRef,
) -> Result<TopicName, SubscriptionSettingsError> {
    if let Some(topic) = &settings.dead_letter_topic {
        return TopicName::parse(topic).map_err(SubscriptionSettingsError::DeadLetterTopic);
    }
    let topic = dead_letter_topic(name.topic.as_str(), name.name.as_str());
    TopicName::parse(&topic)
        .map_err(|_| SubscriptionSettingsError::DeadLetterTopicTooLong { bytes: topic.len() })
}

#[cfg(test)]
mod tests {
    use ratatoskr_state::SubscriptionName;

    use super::*;

    fn name() -> SubscriptionRef {
        SubscriptionRef {
            topic: TopicName::parse("orders").unwrap(),
            name: SubscriptionName::parse("billing").unwrap(),
        }
    }

    #[test]
    fn a_setting_out_of_range_is_named() {
        let settings = SubscriptionSettings { lease_ms: 99, ..SubscriptionSettings::default() };
        let error = validate(settings, &name()).unwrap_err();
        assert_eq!(error.to_string(), "setting lease_ms is 99; allowed are 100 to 43200000 ms");
        let settings = SubscriptionSettings { retry_multiplier: f64::NAN, ..SubscriptionSettings::default() };
        assert!(validate(settings, &name()).unwrap_err().to_string().starts_with("setting retry_multiplier"));
        let settings = SubscriptionSettings {
            dead_letter_topic: Some("a b".to_owned()),
            ..SubscriptionSettings::default()
        };
        assert!(
            validate(settings, &name()).unwrap_err().to_string().contains("dead_letter_topic: topic name")
        );
    }

    #[test]
    fn only_the_dlq_subscription_leaves_dead_letters_in_its_own_topic_and_counts_no_attempts() {
        let own = SubscriptionSettings {
            dead_letter_topic: Some("orders".to_owned()),
            attempts_max: 0,
            ..SubscriptionSettings::default()
        };
        let refused = validate(own.clone(), &name()).unwrap_err();
        assert!(matches!(refused, SubscriptionSettingsError::OwnTopic { .. }), "{refused}");
        let dlq =
            SubscriptionRef { name: SubscriptionName::parse(DEAD_LETTERS_SUBSCRIPTION).unwrap(), ..name() };
        validate(own.clone(), &dlq).unwrap();
        let refused = validate(SubscriptionSettings { attempts_max: 3, ..own }, &dlq).unwrap_err();
        assert_eq!(refused.to_string(), "setting attempts_max is 3; allowed are 0 where dead letters end");
    }

    #[test]
    fn dead_letters_go_beside_their_topic() {
        let settings = SubscriptionSettings::default();
        assert_eq!(dead_letters(&settings, &name()).unwrap().as_str(), "orders.billing.dlq");
        assert_eq!(dead_letter_topic("orders", "eu.pay"), "orders.eu_pay.dlq");
        assert_ne!(dead_letter_topic("orders", "eu.pay"), dead_letter_topic("orders.eu", "pay"));
        let long = SubscriptionRef { name: SubscriptionName::parse(&"s".repeat(250)).unwrap(), ..name() };
        let error = validate(settings, &long).unwrap_err();
        assert!(error.to_string().contains("name of 261 bytes"), "{error}");
    }
}

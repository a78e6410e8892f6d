//! A durable subscription as fields: in a list, on its own, and the answer to "why is nothing delivered".

use ratatoskr_client::{SubscriptionDescription, SubscriptionSettings};
use ratatoskr_server::config::duration_in_words;
use serde_json::{Value, json};

use crate::output::{Field, rfc3339};

/// A row of `ls`.
pub(super) fn listed(subscription: &SubscriptionDescription) -> Vec<Field> {
    let [topic, name] = names(subscription);
    vec![
        topic,
        name,
        Field::new("lag", subscription.lag_messages),
        Field::new("leased", subscription.leased),
        Field::new("waiting", subscription.waiting),
        Field::new("parked", subscription.parked),
        Field::new("dead", subscription.dead),
        Field::new("members", subscription.member_count),
        Field::new("state", state(subscription).0),
    ]
}

/// Where it stands: what `seek` and `skip` answer, and the beginning of `show`.
pub(super) fn standing(subscription: &SubscriptionDescription) -> Vec<Field> {
    let [topic, name] = names(subscription);
    vec![
        topic,
        name,
        Field::new("oldest_unsettled_offset", subscription.oldest_unsettled_offset),
        Field::new("lag_messages", subscription.lag_messages),
        // To the second is near enough for what moves.
        Field::new("lag_ms", subscription.lag_ms).in_words(format!("{} s", subscription.lag_ms / 1000)),
        Field::new("state", state(subscription).0),
    ]
}

/// Everything there is to know.
pub(super) fn described(subscription: &SubscriptionDescription) -> Vec<Field> {
    let mut fields = standing(subscription);
    fields.extend([
        Field::new("why", state(subscription).1),
        Field::new("leased", subscription.leased),
        Field::new("waiting", subscription.waiting),
        Field::new("parked", subscription.parked),
        Field::new("parked_keys", subscription.parked_keys),
        Field::new("acked", subscription.acked),
        Field::new("dead", subscription.dead),
        Field::new("expired", subscription.expired),
        Field::new("passed", subscription.passed),
        Field::new("redelivered", subscription.redelivered),
        members(subscription),
        Field::new("saved", subscription.saved.clone()).in_words(subscription.saved.join(", ")),
        Field::new("created", rfc3339(subscription.created_ms)),
    ]);
    fields.extend(settings(&subscription.settings.clone().unwrap_or_default()));
    fields
}

/// The answer to `why`, with what can be done about it.
pub(super) fn why(subscription: &SubscriptionDescription) -> Vec<Field> {
    let (state, why) = state(subscription);
    let [topic, name] = names(subscription);
    let (of_topic, of_name) = match &subscription.name {
        Some(name) => (name.topic.as_str(), name.subscription.as_str()),
        None => ("", ""),
    };
    let advice = match state {
        "paused" => format!("ratatoskr subscription resume {of_topic} {of_name}"),
        "no_members" => format!("ratatoskr consume {of_topic} {of_name}"),
        "filter_matches_nothing" => {
            format!("ratatoskr subscription update {of_topic} {of_name} --filter 'another one'")
        }
        "key_parked" | "waiting_for_retry" => {
            format!("ratatoskr subscription peek {of_topic} {of_name}")
        }
        _ => String::new(),
    };
    let advice = Field::new("advice", Some(advice).filter(|advice| !advice.is_empty()));
    vec![topic, name, Field::new("state", state), Field::new("why", why), advice]
}

fn names(subscription: &SubscriptionDescription) -> [Field; 2] {
    let name = subscription.name.clone().unwrap_or_default();
    [Field::new("topic", name.topic), Field::new("subscription", name.subscription)]
}

/// One word and a sentence.
fn state(subscription: &SubscriptionDescription) -> (&str, &str) {
    match subscription.why.split_once(':') {
        Some((word, sentence)) => (word, sentence.trim()),
        None => ("delivering", "messages are being delivered"),
    }
}

fn members(subscription: &SubscriptionDescription) -> Field {
    let member = |member: &ratatoskr_client::MemberDescription| {
        json!({
            "name": member.name,
            "leased": member.leased,
            "window_messages": member.window_messages,
            "joined_ms": member.joined_ms,
        })
    };
    let in_words = |member: &ratatoskr_client::MemberDescription| {
        let name = if member.name.is_empty() { "unnamed" } else { member.name.as_str() };
        format!("{name} ({} of {})", member.leased, member.window_messages)
    };
    let words: Vec<_> = subscription.members.iter().map(in_words).collect();
    let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    Field::new("members", subscription.members.iter().map(member).collect::<Value>()).in_words(words)
}

fn settings(settings: &SubscriptionSettings) -> Vec<Field> {
    let bound = |name, bound: i64, words: String| match bound {
        0 => Field::new(name, Value::Null).in_words("none"),
        bound => Field::new(name, bound).in_words(words),
    };
    let (attempts, expiry_ms) = (settings.attempts_max(), settings.expiry_ms());
    vec![
        Field::new("filter", settings.filter()),
        Field::new("ordered", settings.ordered()).in_words(if settings.ordered() { "yes" } else { "no" }),
        in_time("lease_ms", settings.lease_ms()),
        bound("attempts_max", attempts.into(), attempts.to_string()),
        in_time("retry_delay_ms", settings.retry_delay_ms()),
        in_time("retry_delay_max_ms", settings.retry_delay_max_ms()),
        Field::new("retry_multiplier", settings.retry_multiplier()),
        Field::new("retry_jitter", settings.retry_jitter()),
        Field::new("dead_letter_topic", settings.dead_letter_topic()),
        Field::new("member_outstanding_max", settings.member_outstanding_max()),
        Field::new("outstanding_max", settings.outstanding_max()),
        bound("expiry_ms", expiry_ms, duration_in_words(expiry_ms.unsigned_abs())),
    ]
}

fn in_time(name: &'static str, duration_ms: i64) -> Field {
    Field::new(name, duration_ms).in_words(duration_in_words(duration_ms.unsigned_abs()))
}

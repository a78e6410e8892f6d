//! The settings of one durable subscription as flags of `subscription create`, `subscription update` and `consume`.

use clap::Args;
use ratatoskr_broker::Filter;
use ratatoskr_client::SubscriptionSettings;
use ratatoskr_server::config::{Kind, Value, parse_duration_ms};

use crate::filter_argument::{FILTER_HELP, all_of, filter_argument};

/// Settings of a subscription; what is not given is the default, or stays as it is.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SubscriptionFlags {
    /// Only messages that pass
    #[arg(long, value_name = "FILTER", value_parser = filter_argument, help = FILTER_HELP)]
    filter: Vec<Filter>,
    /// Whether messages of one key go out one after another [default: yes]
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
    ordered: Option<bool>,
    /// How long a message is leased to a member [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lease: Option<i64>,
    /// Deliveries of a message before it becomes a dead letter; none for no bound [default: 3]
    #[arg(long, value_name = "N", value_parser = attempts)]
    attempts: Option<u32>,
    /// Delay before the second delivery of a message that was nacked [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_delay: Option<i64>,
    /// The delay never grows beyond this [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_delay_max: Option<i64>,
    /// The delay grows by this factor each time [default: 2]
    #[arg(long, value_name = "FACTOR")]
    retry_multiplier: Option<f64>,
    /// Each delay is changed by chance by at most this share of itself [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    retry_jitter: Option<f64>,
    /// The topic of dead letters [default: TOPIC.SUBSCRIPTION.dlq, dots of SUBSCRIPTION as _]
    #[arg(long, value_name = "TOPIC")]
    dead_letter_topic: Option<String>,
    /// Messages one member may hold unsettled [default: 1000]
    #[arg(long, value_name = "N")]
    member_outstanding_max: Option<u32>,
    /// Messages all members together may hold unsettled [default: 100000]
    #[arg(long, value_name = "N")]
    outstanding_max: Option<u32>,
    /// The subscription goes when it had no member for so long; none for never [default: none]
    #[arg(long, value_name = "DURATION", value_parser = expiry)]
    expiry: Option<i64>,
}

impl SubscriptionFlags {
    /// As the wire takes them.
    pub(crate) fn settings(&self) -> SubscriptionSettings {
        SubscriptionSettings {
            filter: (!self.filter.is_empty()).then(|| all_of(&self.filter)),
            ordered: self.ordered,
            lease_ms: self.lease,
            attempts_max: self.attempts,
            retry_delay_ms: self.retry_delay,
            retry_delay_max_ms: self.retry_delay_max,
            retry_multiplier: self.retry_multiplier,
            retry_jitter: self.retry_jitter,
            dead_letter_topic: self.dead_letter_topic.clone(),
            member_outstanding_max: self.member_outstanding_max,
            outstanding_max: self.outstanding_max,
            expiry_ms: self.expiry,
            paused: None,
        }
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("expected yes or no".to_owned()),
    }
}

fn duration(text: &str) -> Result<i64, String> {
    let duration_ms = parse_duration_ms(text).map_err(|error| error.to_string())?;
    i64::try_from(duration_ms).map_err(|_| "the duration is longer than anything lasts".to_owned())
}

/// On the wire 0 stands for never.
fn expiry(text: &str) -> Result<i64, String> {
    if text == "none" { Ok(0) } else { duration(text) }
}

/// On the wire 0 stands for no bound.
fn attempts(text: &str) -> Result<u32, String> {
    match Kind::NumberBound.parse(text)? {
        Value::Amount(Some(attempts)) => {
            u32::try_from(attempts).map_err(|_| format!("at most {} is allowed", u32::MAX))
        }
        _ => Ok(0),
    }
}

/// A duration of `--ttl`, which has to be there.
pub(crate) fn time_to_live(text: &str) -> Result<std::time::Duration, String> {
    match parse_duration_ms(text).map_err(|error| error.to_string())? {
        0 => Err("a message that lives for no time is never delivered; allowed are 1ms and above".to_owned()),
        ttl_ms => Ok(std::time::Duration::from_millis(ttl_ms)),
    }
}

/// A duration of `--delay`.
pub(crate) fn delay(text: &str) -> Result<std::time::Duration, String> {
    parse_duration_ms(text).map(std::time::Duration::from_millis).map_err(|error| error.to_string())
}

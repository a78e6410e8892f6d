//! The settings of one topic as flags of `topic create` and `topic update`.

use clap::Args;
use ratatoskr_client::{Durability, TopicSettings};
use ratatoskr_server::config::{Kind, Value};

/// Settings of a topic; what is not given is the broker's default, or stays as it is.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TopicFlags {
    /// Messages older than this go: 7d, 12h, 30s; none for no bound
    #[arg(long, value_name = "DURATION", value_parser = bound(Kind::DurationBound))]
    retention_age: Option<i64>,
    /// The oldest messages go beyond this size: 20GiB, 500MB; none for no bound
    #[arg(long, value_name = "SIZE", value_parser = bound(Kind::BytesBound))]
    retention_bytes: Option<i64>,
    /// The oldest messages go beyond this count; none for no bound
    #[arg(long, value_name = "N", value_parser = bound(Kind::NumberBound))]
    retention_messages: Option<i64>,
    /// What an ack stands for: on disk, with the operating system, or in memory only
    #[arg(long, value_name = "WORD", value_parser = ["fsync", "written", "memory"])]
    durability: Option<String>,
    /// Subscribers that may follow the topic at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    subscribers_max: Option<u32>,
    /// Bytes of one message's payload, at most 16MiB
    #[arg(long, value_name = "SIZE", value_parser = message_bytes)]
    message_bytes_max: Option<u32>,
    /// Within this time a second message with the same dedup id is a duplicate: 2m, at most 7d; none: no message ever is
    #[arg(long, value_name = "DURATION", value_parser = bound(Kind::DurationBound))]
    dedup_window: Option<i64>,
}

impl TopicFlags {
    /// As the wire takes them.
    pub(crate) fn settings(&self) -> TopicSettings {
        let durability = self.durability.as_deref().map(|word| match word {
            "memory" => Durability::Memory,
            "written" => Durability::Written,
            _ => Durability::Fsync,
        });
        TopicSettings {
            retention_age_ms: self.retention_age,
            retention_bytes: self.retention_bytes,
            retention_messages: self.retention_messages,
            durability: durability.map(i32::from),
            subscribers_max: self.subscribers_max,
            message_bytes_max: self.message_bytes_max,
            dedup_window_ms: self.dedup_window,
        }
    }
}

/// The word for a durability.
pub(crate) fn durability_word(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Written => "written",
        Durability::Memory => "memory",
        Durability::Unspecified => "unknown",
    }
}

/// Reads a bound; on the wire 0 stands for none.
fn bound(kind: Kind) -> impl Fn(&str) -> Result<i64, String> + Clone + Send + Sync + 'static {
    move |text| match kind.parse(text)? {
        Value::Amount(Some(amount)) => i64::try_from(amount)
            .map_err(|_| "the number is too large; at most 9223372036854775807 is allowed".to_owned()),
        _ => Ok(0),
    }
}

fn message_bytes(text: &str) -> Result<u32, String> {
    let largest = u64::from(ratatoskr_broker::limits::MESSAGE_BYTES_MAX);
    match (Kind::Bytes(1..=largest)).parse(text)? {
        Value::Amount(Some(bytes)) => Ok(bytes as u32),
        _ => unreachable!("a size is an amount"),
    }
}

//! What can be set per topic, with defaults, ranges, and their form in the journal.

use serde::{Deserialize, Serialize};

use crate::limits::{
    DEDUP_WINDOW_MS_MAX, MEMORY_TOPIC_BYTES_DEFAULT, MESSAGE_BYTES_DEFAULT, MESSAGE_BYTES_MAX,
    SUBSCRIBERS_MAX_DEFAULT,
};

/// What has happened to a message when its publisher is told so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// On disk: it survives a power cut.
    #[default]
    Fsync,
    /// With the operating system: it survives the death of the broker, not of the machine.
    Written,
    /// In the broker's memory only: it survives nothing. Bounded; the oldest messages go first.
    Memory,
}

impl Durability {
    /// The word used in settings, receipts and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Written => "written",
            Durability::Memory => "memory",
        }
    }
}

/// Settings of one topic. `None` means no bound of that kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicSettings {
    /// Messages older than this go, in milliseconds. Default 7 days.
    pub retention_age_ms: Option<u64>,
    /// The oldest messages go while the topic holds more bytes than this. Default none
    /// (memory topics: 16 MiB).
    pub retention_bytes: Option<u64>,
    /// The oldest messages go while the topic holds more messages than this. Default none.
    pub retention_messages: Option<u64>,
    /// What an acknowledgement stands for. Fixed when the topic is created.
    pub durability: Durability,
    /// Subscribers that may follow the topic at a time. Default 100,000.
    pub subscribers_max: u32,
    /// Bytes of one message's payload. Default 1 MiB, at most 16 MiB.
    pub message_bytes_max: u32,
    /// Within this time a second message with the same dedup id is a duplicate, milliseconds; 0: none ever is. Default 2 minutes,
    /// at most 7 days.
    pub dedup_window_ms: u64,
    /// The subscription whose dead letters the broker made the topic for, as `topic/name`. The broker's to set, and it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters_of: Option<String>,
}

/// Two minutes in milliseconds.
pub const DEDUP_WINDOW_MS_DEFAULT: u64 = 2 * 60 * 1000;

/// Seven days in milliseconds.
pub const RETENTION_AGE_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;

impl Default for TopicSettings {
    fn default() -> TopicSettings {
        TopicSettings {
            retention_age_ms: Some(RETENTION_AGE_MS_DEFAULT),
            retention_bytes: None,
            retention_messages: None,
            durability: Durability::Fsync,
            subscribers_max: SUBSCRIBERS_MAX_DEFAULT,
            message_bytes_max: MESSAGE_BYTES_DEFAULT,
            dedup_window_ms: DEDUP_WINDOW_MS_DEFAULT,
            dead_letters_of: None,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The value lies outside its range.
    #[error("setting {field} is {value}; allowed are {allowed}")]
    OutOfRange {
        /// The setting's name, as in the proto file.
        field: &'static str,
        /// What was given.
        value: u64,
        /// What may be given.
        allowed: &'static str,
    },
    /// The setting was fixed when the topic was created.
    #[error("setting {field} cannot change from {from} to {to}; create another topic with it")]
    Fixed {
        /// The setting's name, as in the proto file.
        field: &'static str,
        /// What it is.
        from: &'static str,
        /// What was asked for.
        to: &'static str,
    },
}

impl TopicSettings {
    /// Checks every range and fills in what depends on the durability.
    pub fn validate(mut self) -> Result<TopicSettings, SettingsError> {
        let at_least_one = [
            ("retention_age_ms", self.retention_age_ms),
            ("retention_bytes", self.retention_bytes),
            ("retention_messages", self.retention_messages),
            ("subscribers_max", Some(u64::from(self.subscribers_max))),
            ("message_bytes_max", Some(u64::from(self.message_bytes_max))),
        ];
        for (field, value) in at_least_one {
            if value == Some(0) {
                return Err(SettingsError::OutOfRange { field, value: 0, allowed: "1 or more" });
            }
        }
        if self.message_bytes_max > MESSAGE_BYTES_MAX {
            return Err(SettingsError::OutOfRange {
                field: "message_bytes_max",
                value: self.message_bytes_max.into(),
                allowed: "1 to 16777216 bytes",
            });
        }
        if self.dedup_window_ms > DEDUP_WINDOW_MS_MAX {
            return Err(SettingsError::OutOfRange {
                field: "dedup_window_ms",
                value: self.dedup_window_ms,
                allowed: "0 to 604800000 ms (7 days)",
            });
        }
        if self.durability == Durability::Memory {
            self.retention_bytes.get_or_insert(MEMORY_TOPIC_BYTES_DEFAULT);
        }
        Ok(self)
    }

    /// Checks that `self` may follow `current` on a living topic.
    pub fn validate_update(mut self, current: &TopicSettings) -> Result<TopicSettings, SettingsError> {
        if self.durability != current.durability {
            return Err(SettingsError::Fixed {
                field: "durability",
                from: current.durability.as_str(),
                to: self.durability.as_str(),
            });
        }
        self.dead_letters_of.clone_from(&current.dead_letters_of);
        self.validate()
    }

    /// The form kept in the journal: JSON, so that settings can be added without a new format.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("settings are plain numbers and words")
    }

    /// Reads that form.
    pub fn decode(bytes: &[u8]) -> Result<TopicSettings, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

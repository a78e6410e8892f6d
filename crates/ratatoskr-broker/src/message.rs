//! What publishers hand in ([`NewMessage`]), what they get back ([`Receipt`]), and what
//! subscribers see ([`Message`]).

use bytes::Bytes;
use ratatoskr_log::{RecordBatch, RecordFacts};

use crate::id::MessageId;
use crate::limits::{KEY_BYTES_MAX, METADATA_ENTRIES_MAX, METADATA_KEY_BYTES_MAX, METADATA_VALUE_BYTES_MAX};
use crate::name::TopicName;
use crate::settings::Durability;

/// A message on its way in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The content; may be empty.
    pub payload: Bytes,
    /// Messages of one key belong together; empty for none. At most 1024 bytes.
    pub key: String,
    /// Name and value pairs. At most 64, names 1 to 256 bytes, values at most 8192 bytes.
    pub metadata: Vec<(String, String)>,
    /// Not delivered any more so long after it was taken in, milliseconds; 0 for no such bound.
    pub ttl_ms: u64,
}

impl NewMessage {
    /// A message with a payload and nothing else.
    pub fn new(payload: impl Into<Bytes>) -> NewMessage {
        NewMessage { payload: payload.into(), ..NewMessage::default() }
    }

    /// Bytes the limits count: payload, key and metadata.
    pub fn size_bytes(&self) -> usize {
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + self.key.len() + metadata
    }

    /// Adds it to a batch.
    pub(crate) fn push_into(&self, batch: &mut RecordBatch, now_ms: u64) {
        let expires_ms = if self.ttl_ms == 0 { 0 } else { now_ms.saturating_add(self.ttl_ms) };
        let facts = RecordFacts { expires_ms, ..RecordFacts::default() };
        batch.push_with(&facts, &self.key, &self.metadata, &self.payload);
    }

    pub(crate) fn validate(&self, payload_bytes_max: u32) -> Result<(), MessageError> {
        if self.payload.len() > payload_bytes_max as usize {
            return Err(MessageError::PayloadTooLarge {
                bytes: self.payload.len(),
                bytes_max: payload_bytes_max,
            });
        }
        if self.key.len() > KEY_BYTES_MAX {
            return Err(MessageError::KeyTooLong { bytes: self.key.len() });
        }
        if self.metadata.len() > METADATA_ENTRIES_MAX {
            return Err(MessageError::TooMuchMetadata { entries: self.metadata.len() });
        }
        for (name, value) in &self.metadata {
            if name.is_empty() || name.len() > METADATA_KEY_BYTES_MAX {
                return Err(MessageError::MetadataKeyLength { bytes: name.len() });
            }
            if value.len() > METADATA_VALUE_BYTES_MAX {
                return Err(MessageError::MetadataValueTooLong { key: name.clone(), bytes: value.len() });
            }
        }
        Ok(())
    }
}

/// Why a message cannot be published as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The payload is larger than the topic allows.
    #[error("payload has {bytes} bytes; this topic allows at most {bytes_max} (setting message_bytes_max)")]
    PayloadTooLarge {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: u32,
    },
    /// The key is too long.
    #[error("key has {bytes} bytes; at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong {
        /// Bytes given.
        bytes: usize,
    },
    /// Too many metadata entries.
    #[error("metadata has {entries} entries; at most {METADATA_ENTRIES_MAX} are allowed")]
    TooMuchMetadata {
        /// Entries given.
        entries: usize,
    },
    /// A metadata key is empty or too long.
    #[error("a metadata key has {bytes} bytes; it takes 1 to {METADATA_KEY_BYTES_MAX}")]
    MetadataKeyLength {
        /// Bytes given.
        bytes: usize,
    },
    /// A metadata value is too long.
    #[error("metadata value of {key:?} has {bytes} bytes; at most {METADATA_VALUE_BYTES_MAX} are allowed")]
    MetadataValueTooLong {
        /// The entry's key.
        key: String,
        /// Bytes given.
        bytes: usize,
    },
}

impl MessageError {
    /// The field at fault, as the proto file names it.
    pub fn field(&self) -> &'static str {
        match self {
            MessageError::PayloadTooLarge { .. } => "payload",
            MessageError::KeyTooLong { .. } => "key",
            MessageError::TooMuchMetadata { .. }
            | MessageError::MetadataKeyLength { .. }
            | MessageError::MetadataValueTooLong { .. } => "metadata",
        }
    }
}

/// What a publisher holds once its message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id, unique over all topics and brokers.
    pub id: MessageId,
    /// Its place in the topic.
    pub offset: u64,
    /// When the broker took it in, milliseconds since the Unix epoch; never decreases in a topic.
    pub timestamp_ms: u64,
    /// What the acknowledgement stands for.
    pub durability: Durability,
}

/// A message as a subscriber gets it. Cheap to clone: the content is shared, never copied.
#[derive(Clone, Debug)]
pub struct Message {
    /// The topic it was published to.
    pub topic: TopicName,
    /// Its id.
    pub id: MessageId,
    /// Its place in the topic.
    pub offset: u64,
    /// When the broker took it in, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    pub(crate) body: ratatoskr_log::Body,
}

impl Message {
    /// The content.
    pub fn payload(&self) -> Bytes {
        self.body.payload()
    }

    /// The key, empty for none.
    pub fn key(&self) -> &str {
        self.body.key()
    }

    /// Name and value pairs, in the order they were given.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.body.metadata()
    }
}

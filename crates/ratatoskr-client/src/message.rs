//! What goes in ([`NewMessage`]) and what comes back for it ([`Receipt`]).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ratatoskr_proto::{Durability, PublishRequest, PublishResponse};

use crate::error::ClientError;

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The content; may be empty. At most the topic's `message_bytes_max`, 1 MiB by default.
    pub payload: Bytes,
    /// Messages of one key belong together; empty for none. At most 1,024 bytes.
    pub key: String,
    /// Names and values. At most 64; a name has 1 to 256 bytes, a value at most 8,192.
    pub metadata: BTreeMap<String, String>,
    /// How long after the broker took it in it may still be delivered, to the millisecond. Default: for ever.
    pub ttl: Option<Duration>,
}

impl NewMessage {
    /// A message with a payload and nothing else.
    pub fn new(payload: impl Into<Bytes>) -> NewMessage {
        NewMessage { payload: payload.into(), ..NewMessage::default() }
    }

    /// The same message with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> NewMessage {
        self.key = key.into();
        self
    }

    /// The same message with one more name and value.
    #[must_use]
    pub fn with_metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> NewMessage {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// The same message, not delivered any more so long after the broker took it in.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> NewMessage {
        self.ttl = Some(ttl);
        self
    }

    /// Bytes the broker's limits count: payload, key and metadata.
    pub fn size_bytes(&self) -> usize {
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + self.key.len() + metadata
    }

    pub(crate) fn into_request(self, topic: &str) -> PublishRequest {
        let NewMessage { payload, key, metadata, ttl } = self;
        // On the wire 0 stands for no bound; what was shorter than a millisecond is over in one.
        let ttl_ms = ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        PublishRequest { topic: topic.to_owned(), payload, metadata, key, ttl_ms }
    }
}

/// The broker's word that a message is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id: a UUID of version 7 in lower-case text.
    pub id: String,
    /// Its place in the topic.
    pub offset: u64,
    /// When the broker took it in, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// What the acknowledgement stands for.
    pub durability: Durability,
}

impl Receipt {
    pub(crate) fn from_response(response: PublishResponse, topic: &str) -> Result<Receipt, ClientError> {
        if !response.success {
            return Err(ClientError::refused(&response.error, topic));
        }
        Ok(Receipt {
            durability: response.receipt(),
            id: response.message_id,
            offset: response.offset.unsigned_abs(),
            timestamp_ms: response.timestamp.unsigned_abs(),
        })
    }
}

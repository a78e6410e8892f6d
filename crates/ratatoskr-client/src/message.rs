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
    /// Your own id of it, at most 256 bytes; empty for none. Within the topic's `dedup_window_ms` a second message with the same id
    /// is not published: its receipt is the first one's, with `duplicate`.
    pub dedup_id: String,
    /// When it is put into its topic.
    pub due: Due,
    /// Published only if it gets exactly this offset; of a batch for the same topic, all or none.
    pub expected_offset: Option<u64>,
}

/// When a message is put into its topic, where everybody can see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// At a time, milliseconds since the Unix epoch; at once if that is over.
    At(u64),
    /// After a time, to the millisecond, counted from when the broker takes it in.
    After(Duration),
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

    /// The same message with an id of yours, by which a retry is known.
    #[must_use]
    pub fn with_dedup_id(mut self, id: impl Into<String>) -> NewMessage {
        self.dedup_id = id.into();
        self
    }

    /// The same message, put into its topic only so much later.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> NewMessage {
        self.due = Due::After(delay);
        self
    }

    /// Bytes the broker's limits count: payload, key and metadata.
    pub fn size_bytes(&self) -> usize {
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + self.key.len() + metadata
    }

    pub(crate) fn into_request(self, topic: &str) -> PublishRequest {
        let NewMessage { payload, key, metadata, ttl, dedup_id, due, expected_offset } = self;
        // On the wire 0 stands for no bound; what was shorter than a millisecond is over in one.
        let ttl_ms = ttl.map_or(0, |ttl| whole_ms(ttl).max(1));
        let (deliver_at_ms, delay_ms) = match due {
            Due::Now => (0, 0),
            Due::At(at_ms) => (i64::try_from(at_ms).unwrap_or(i64::MAX), 0),
            Due::After(delay) => (0, whole_ms(delay)),
        };
        let expected_offset = expected_offset.map(|offset| i64::try_from(offset).unwrap_or(i64::MAX));
        PublishRequest {
            topic: topic.to_owned(),
            payload,
            metadata,
            key,
            ttl_ms,
            dedup_id,
            deliver_at_ms,
            delay_ms,
            expected_offset,
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The broker's word that a message is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id: a UUID of version 7 in lower-case text.
    pub id: String,
    /// Its place in the topic; [`Receipt::NO_OFFSET`] while `scheduled`.
    pub offset: u64,
    /// When the broker took it in, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// What the acknowledgement stands for.
    pub durability: Durability,
    /// True when a message with the same dedup id was there already: this is the receipt of that one.
    pub duplicate: bool,
    /// True when it is put into its topic when it is due. It then gets an offset and an id of its own, and this id as metadata
    /// `ratatoskr-scheduled-id`.
    pub scheduled: bool,
}

impl Receipt {
    /// In place of an offset that is not known yet.
    pub const NO_OFFSET: u64 = u64::MAX;

    pub(crate) fn from_response(response: PublishResponse, topic: &str) -> Result<Receipt, ClientError> {
        if !response.success {
            return Err(ClientError::refused(&response.error, topic));
        }
        Ok(Receipt {
            durability: response.receipt(),
            id: response.message_id,
            offset: u64::try_from(response.offset).unwrap_or(Receipt::NO_OFFSET),
            duplicate: response.duplicate,
            scheduled: response.scheduled,
            timestamp_ms: response.timestamp.unsigned_abs(),
        })
    }
}

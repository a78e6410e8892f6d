//! What publishers hand in ([`NewMessage`]), what they get back ([`Receipt`]), and what
//! subscribers see ([`Message`]).

use ratatoskr_state::{DedupId, Durability, TopicName, quoted};
use std::sync::Arc;

use bytes::Bytes;
use ratatoskr_log::{RECORD_HEADER_BYTES, RecordBatch, RecordFacts};

use crate::durable::DEAD_PREFIX;
use crate::id::MessageId;
use crate::topic::Topic;
use ratatoskr_state::limits::{
    DEDUP_ID_BYTES_MAX, DELAY_MS_MAX, KEY_BYTES_MAX, METADATA_ENTRIES_MAX, METADATA_KEY_BYTES_MAX,
    METADATA_VALUE_BYTES_MAX,
};

/// A message on its way in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The content; may be empty.
    pub payload: Bytes,
    /// Messages of one key belong together; empty for none. At most 1024 bytes.
    pub key: String,
    /// Name and value pairs. At most 64, names 1 to 256 bytes, values at most 8192 bytes.
    pub metadata: Vec<(String, String)>,
    /// Not delivered any more so long after it was taken in (or after it was due, see `delivery`), milliseconds; 0 for no such bound.
    pub ttl_ms: u64,
    /// The publisher's own id of it, at most 256 bytes; empty for none. Within the topic's `dedup_window_ms` a second message with
    /// the same id is not published; its publisher gets the first one's receipt.
    pub dedup_id: String,
    /// When it is put into its topic.
    pub delivery: Delivery,
    /// Published only if it gets exactly this offset; of a batch, all or none.
    pub expected_offset: Option<u64>,
}

/// When a message is put into its topic, where everybody can see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// At once.
    #[default]
    Now,
    /// At a time, milliseconds since the Unix epoch; at once if that is over.
    At(u64),
    /// After so many milliseconds.
    After(u64),
}

impl NewMessage {
    /// A message with a payload and nothing else.
    pub fn new(payload: impl Into<Bytes>) -> NewMessage {
        NewMessage { payload: payload.into(), ..NewMessage::default() }
    }

    /// Bytes the limits count: payload, key and metadata.
    pub fn size_bytes(&self) -> usize {
        self.view().size_bytes()
    }

    /// The same, borrowed.
    pub fn view(&self) -> MessageView<'_, String> {
        MessageView {
            payload: &self.payload,
            key: &self.key,
            metadata: &self.metadata,
            ttl_ms: self.ttl_ms,
            dedup_id: &self.dedup_id,
            delivery: self.delivery,
            expected_offset: self.expected_offset,
        }
    }
}

/// A [`NewMessage`] whose parts lie elsewhere, for whoever has them in a buffer already.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a, S = &'a str> {
    /// The content.
    pub payload: &'a [u8],
    /// The key; empty for none.
    pub key: &'a str,
    /// Name and value pairs.
    pub metadata: &'a [(S, S)],
    /// How long it is worth delivering, milliseconds; 0 for ever.
    pub ttl_ms: u64,
    /// The publisher's own id of it; empty for none.
    pub dedup_id: &'a str,
    /// When it is put into its topic.
    pub delivery: Delivery,
    /// The offset it has to get.
    pub expected_offset: Option<u64>,
}

impl<S: AsRef<str>> MessageView<'_, S> {
    /// Bytes the limits count: payload, key and metadata.
    pub fn size_bytes(&self) -> usize {
        let pair = |(name, value): &(S, S)| name.as_ref().len() + value.as_ref().len();
        let metadata: usize = self.metadata.iter().map(pair).sum();
        self.payload.len() + self.key.len() + metadata
    }

    /// Room its record takes, and a little more.
    pub(crate) fn record_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + 16 + self.size_bytes() + self.metadata.len() * 4
    }

    /// When it is due, if that is later than now.
    pub(crate) fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let due_ms = match self.delivery {
            Delivery::Now => return None,
            Delivery::At(at_ms) => at_ms,
            Delivery::After(delay_ms) => now_ms.saturating_add(delay_ms),
        };
        (due_ms > now_ms).then_some(due_ms)
    }

    /// Adds it to records on their way to its topic.
    pub(crate) fn push_into(&self, batch: &mut RecordBatch, terms: &mut Terms, now_ms: u64) {
        let facts = RecordFacts { expires_ms: self.expires_ms(now_ms), ..RecordFacts::default() };
        self.push_with(facts, batch, terms);
    }

    /// Adds it to records on their way to the schedule, to be put into the topic of `ids_of` when due.
    pub(crate) fn push_later(&self, due_ms: u64, batch: &mut RecordBatch, terms: &mut Terms) {
        let topic = terms.ids_of.as_ref().map_or(0, |topic| topic.log.number);
        let expires_ms = self.expires_ms(due_ms);
        let facts =
            RecordFacts { expires_ms, deliver_at_ms: due_ms, addressed_to: topic, ..RecordFacts::default() };
        self.push_with(facts, batch, terms);
    }

    fn push_with(&self, facts: RecordFacts<'_>, batch: &mut RecordBatch, terms: &mut Terms) {
        let index = batch.count();
        if !self.dedup_id.is_empty() {
            terms.ids.push((index, DedupId::of(self.dedup_id)));
        }
        if let Some(offset) = self.expected_offset {
            terms.expected.push((index, offset));
        }
        let facts = RecordFacts { dedup_id: self.dedup_id, ..facts };
        batch.push_with(&facts, self.key, self.metadata, self.payload);
    }

    fn expires_ms(&self, from_ms: u64) -> u64 {
        if self.ttl_ms == 0 { 0 } else { from_ms.saturating_add(self.ttl_ms) }
    }

    pub(crate) fn validate(&self, payload_bytes_max: u32, now_ms: u64) -> Result<(), MessageError> {
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
        if self.dedup_id.len() > DEDUP_ID_BYTES_MAX {
            return Err(MessageError::DedupIdTooLong { bytes: self.dedup_id.len() });
        }
        if let Some(due_ms) = self.due_ms(now_ms) {
            if due_ms - now_ms > DELAY_MS_MAX {
                return Err(MessageError::DelayTooLong { delay_ms: due_ms - now_ms });
            }
            if self.expected_offset.is_some() {
                return Err(MessageError::ExpectedLater);
            }
        }
        for (name, value) in self.metadata {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name.is_empty() || name.len() > METADATA_KEY_BYTES_MAX {
                return Err(MessageError::MetadataKeyLength { bytes: name.len() });
            }
            if name.starts_with(DEAD_PREFIX) {
                return Err(MessageError::MetadataKeyReserved { key: name.to_owned() });
            }
            if value.len() > METADATA_VALUE_BYTES_MAX {
                return Err(MessageError::MetadataValueTooLong { key: name.to_owned(), bytes: value.len() });
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
    /// The dedup id is too long.
    #[error("dedup_id has {bytes} bytes; at most {DEDUP_ID_BYTES_MAX} are allowed")]
    DedupIdTooLong {
        /// Bytes given.
        bytes: usize,
    },
    /// It is due too far in the future.
    #[error(
        "deliver_at_ms lies {delay_ms} ms in the future; at most {DELAY_MS_MAX} ms (ten years) are allowed; it is given in milliseconds since the Unix epoch"
    )]
    DelayTooLong {
        /// How far.
        delay_ms: u64,
    },
    /// Which offset a message gets that is due later cannot be known.
    #[error("expected_offset cannot be given together with deliver_at_ms or delay_ms; leave one out")]
    ExpectedLater,
    /// A metadata key is empty or too long.
    #[error("a metadata key has {bytes} bytes; it takes 1 to {METADATA_KEY_BYTES_MAX}")]
    MetadataKeyLength {
        /// Bytes given.
        bytes: usize,
    },
    /// A metadata key of those in which the broker tells why a message became a dead letter.
    #[error(
        "metadata key {key:?} is reserved: keys that begin with {DEAD_PREFIX:?} are written by the broker, into dead letters; leave it out, or choose another name"
    )]
    MetadataKeyReserved {
        /// The key.
        key: String,
    },
    /// A metadata value is too long.
    #[error("metadata value of {} has {bytes} bytes; at most {METADATA_VALUE_BYTES_MAX} are allowed", quoted(.key))]
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
            | MessageError::MetadataKeyReserved { .. }
            | MessageError::MetadataValueTooLong { .. } => "metadata",
            MessageError::DedupIdTooLong { .. } => "dedup_id",
            MessageError::DelayTooLong { .. } => "deliver_at_ms",
            MessageError::ExpectedLater => "expected_offset",
        }
    }
}

/// What a publisher holds once its message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id, unique over all topics and brokers.
    pub id: MessageId,
    /// Its place in the topic; [`Receipt::NO_OFFSET`] while `scheduled`.
    pub offset: u64,
    /// When the broker took it in, milliseconds since the Unix epoch; never decreases in a topic.
    pub timestamp_ms: u64,
    /// What the acknowledgement stands for.
    pub durability: Durability,
    /// True when a message with the same dedup id was there already: this is the receipt of that one, and nothing was published.
    pub duplicate: bool,
    /// True when the message is put into its topic when it is due. It then gets an offset and an id of its own, and this id as
    /// metadata, [`SCHEDULED_ID`].
    pub scheduled: bool,
}

impl Receipt {
    /// In place of an offset that is not known yet.
    pub const NO_OFFSET: u64 = u64::MAX;
}

/// Metadata of a message that was put into its topic when it was due: the id its publisher was told.
pub const SCHEDULED_ID: &str = "ratatoskr-scheduled-id";

/// What has to hold for records to be appended.
#[derive(Default)]
pub(crate) struct Terms {
    /// Index in the batch, ascending, and the publisher's id.
    pub(crate) ids: Vec<(u32, DedupId)>,
    /// Index in the batch, ascending, and the offset that record has to get.
    pub(crate) expected: Vec<(u32, u64)>,
    /// Whose ids they are, if not those of the topic appended to.
    pub(crate) ids_of: Option<Arc<Topic>>,
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

    /// Bytes of the content.
    pub fn payload_bytes(&self) -> usize {
        self.body.payload_bytes()
    }

    /// True if it is delivered only until a certain time.
    pub fn expires(&self) -> bool {
        self.body.has_facts() && self.body.facts().expires_ms != 0
    }

    /// The key, empty for none.
    pub fn key(&self) -> &str {
        self.body.key()
    }

    /// The key's bytes, which are UTF-8: for who only sends them on.
    pub fn key_bytes(&self) -> &[u8] {
        self.body.key_bytes()
    }

    /// Name and value pairs, in the order they were given.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.body.metadata()
    }

    /// The same as bytes, which are UTF-8.
    pub fn metadata_bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.body.metadata_bytes()
    }
}

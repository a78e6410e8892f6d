//! [`ReceiptParts`]: a `PublishResponse` of a message that is published, written where it is to lie.
//!
//! ```text
//!   ReceiptParts ──put──▶ Publish:        [ id | timestamp | success | offset | receipt ]
//!                ──put_result──▶ batches: [ tag, length | the same ] [ … ] …
//! ```
//!
//! Refusals are rare and go by the generated type. Invariant: the bytes are what the generated type would encode; a test compares them.

use bytes::BytesMut;
use prost::encoding::encoded_len_varint;

use crate::Durability;
use crate::fields::{put_bytes, put_length, put_number};

/// What a receipt says.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptParts<'a> {
    /// The id's text.
    pub message_id: &'a [u8; 36],
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The place in the topic; -1 while it is scheduled.
    pub offset: i64,
    /// What the acknowledgement stands for.
    pub receipt: Durability,
    /// It was there before.
    pub duplicate: bool,
    /// It is not due yet.
    pub scheduled: bool,
}

impl ReceiptParts<'_> {
    /// Bytes of the message.
    pub fn len_bytes(&self) -> usize {
        let number = |value: u64| if value == 0 { 0 } else { 1 + encoded_len_varint(value) };
        let flags = usize::from(self.duplicate) + usize::from(self.scheduled) + 1;
        2 + self.message_id.len()
            + number(self.timestamp_ms)
            + number(self.offset as u64)
            + number(self.receipt as u64)
            + 2 * flags
    }

    /// Writes the message.
    pub fn put(&self, buffer: &mut BytesMut) {
        put_bytes(buffer, 1, self.message_id);
        put_number(buffer, 2, self.timestamp_ms);
        put_number(buffer, 3, 1);
        put_number(buffer, 5, self.offset as u64);
        put_number(buffer, 6, self.receipt as u64);
        put_number(buffer, 7, self.duplicate.into());
        put_number(buffer, 8, self.scheduled.into());
    }

    /// Writes the message as a field of a batch's or a step's response.
    pub fn put_result(&self, field: u32, buffer: &mut BytesMut) {
        put_length(buffer, field, self.len_bytes());
        self.put(buffer);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{PublishBatchResponse, PublishResponse};

    #[test]
    fn receipts_are_encoded_as_the_generated_type_encodes_them() {
        let id = b"0190d6a4-0000-7000-8000-000000000000";
        for (offset, duplicate, scheduled, timestamp_ms) in [
            (0, false, false, 0),
            (77, true, false, 1_800_000_000_000),
            (-1, false, true, 1),
            (i64::MAX, true, true, 300),
        ] {
            let receipt = Durability::Fsync;
            let parts = ReceiptParts { message_id: id, timestamp_ms, offset, receipt, duplicate, scheduled };
            let expected = PublishResponse {
                message_id: String::from_utf8_lossy(id).into_owned(),
                timestamp: timestamp_ms as i64,
                success: true,
                error: String::new(),
                offset,
                receipt: receipt.into(),
                duplicate,
                scheduled,
            };
            let mut buffer = BytesMut::new();
            parts.put(&mut buffer);
            assert_eq!(buffer, expected.encode_to_vec());
            assert_eq!(buffer.len(), parts.len_bytes());
            buffer.clear();
            parts.put_result(1, &mut buffer);
            let batch = PublishBatchResponse { results: vec![expected], ..PublishBatchResponse::default() };
            assert_eq!(buffer, batch.encode_to_vec());
        }
    }
}

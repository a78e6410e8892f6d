//! [`Records`]: records that are only looked at, where they lie.

use super::body::{FLAG_DEDUP, facts_of};
use super::{RECORD_HEADER_BYTES, read_u32, read_u64};

/// The records of an append, in order. Their checksums are not looked at.
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
}

/// The offset of the first of these records, if there is one.
pub(crate) fn first_offset(records: &[u8]) -> Option<u64> {
    records.get(..RECORD_HEADER_BYTES).map(|head| read_u64(head, 8))
}

/// A record where it lies.
pub(crate) struct RecordRef<'a> {
    pub(crate) offset: u64,
    pub(crate) timestamp_ms: u64,
    body: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Records<'a> {
        Records { bytes }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordRef<'a>;

    fn next(&mut self) -> Option<RecordRef<'a>> {
        let head = self.bytes.get(..RECORD_HEADER_BYTES)?;
        let body = self.bytes.get(RECORD_HEADER_BYTES..read_u32(head, 0) as usize)?;
        let record = RecordRef { offset: read_u64(head, 8), timestamp_ms: read_u64(head, 16), body };
        self.bytes = &self.bytes[RECORD_HEADER_BYTES + body.len()..];
        Some(record)
    }
}

impl<'a> RecordRef<'a> {
    /// The publisher's own id, if it gave one, and the number of the topic it is for, if that is another one than it lies in.
    pub(crate) fn dedup_id(&self) -> Option<(&'a str, Option<u32>)> {
        if self.body.first()? & FLAG_DEDUP == 0 {
            return None;
        }
        let facts = facts_of(self.body);
        Some((facts.dedup_id, (facts.deliver_at_ms != 0).then_some(facts.addressed_to)))
    }
}

//! [`CheckpointEntry`]: what a checkpoint holds: entries of the journal, and kinds of its own in the same shape.

use ratatoskr_state::{BatchBuilder, Entry, EntryError, Genesis, Position, RawEntry, read_u32, read_u64};

const SEGMENT: u8 = 6;
const HEADER: u8 = 7;
const END: u8 = 8;
const STATE: u8 = 10;
const EXTENT: u8 = 11;

/// An entry of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointEntry<'a> {
    /// Comes first.
    Header(CheckpointHeader),
    /// An entry as the journal has it: a topic is created.
    Journal(Entry<'a>),
    /// A segment of a topic; they ascend.
    Segment { topic: u32, segment: SegmentEntry },
    /// Of a topic, after its segments.
    Extent { topic: u32, extent: ExtentEntry },
    /// A part of the state beyond topics.
    State(&'a [u8]),
    /// Comes last.
    End,
}

/// What a checkpoint knows beyond topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckpointHeader {
    /// The last batch it covers.
    pub(crate) position: Position,
    /// Number of the first journal file after it.
    pub(crate) journal_start: u64,
    /// The number the next new topic gets; numbers are never used twice.
    pub(crate) next_topic: u32,
    /// As in the journal's first entry.
    pub(crate) genesis: Genesis,
}

/// A segment as a checkpoint describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    /// Offset of the first record.
    pub(crate) base: u64,
    /// Offset after the last record.
    pub(crate) next: u64,
    /// Bytes that count, header included.
    pub(crate) bytes: u64,
    pub(crate) first_timestamp_ms: u64,
    pub(crate) last_timestamp_ms: u64,
}

/// What a checkpoint says of a topic as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtentEntry {
    /// The first offset that stays.
    pub(crate) first: u64,
    /// The newest timestamp given out: it may be that of a record that is gone.
    pub(crate) last_timestamp_ms: u64,
}

impl<'a> CheckpointEntry<'a> {
    /// Adds the entry to a block of the checkpoint.
    pub(super) fn push_into(&self, batch: &mut BatchBuilder) {
        match self {
            CheckpointEntry::Journal(entry) => batch.push(entry),
            CheckpointEntry::Header(header) => {
                batch.push_raw((HEADER, 0, 0), |bytes| header.put_into(bytes));
            }
            CheckpointEntry::Segment { topic, segment: s } => {
                let values = [s.base, s.next, s.bytes, s.first_timestamp_ms, s.last_timestamp_ms];
                batch.push_raw((SEGMENT, *topic, 0), |bytes| put_all(bytes, &values));
            }
            CheckpointEntry::Extent { topic, extent } => {
                let values = [extent.first, extent.last_timestamp_ms];
                batch.push_raw((EXTENT, *topic, 0), |bytes| put_all(bytes, &values));
            }
            CheckpointEntry::State(content) => {
                batch.push_raw((STATE, 0, 0), |bytes| bytes.extend_from_slice(content));
            }
            CheckpointEntry::End => batch.push_raw((END, 0, 0), |_| {}),
        }
    }

    /// Reads an entry.
    pub(super) fn decode(raw: &RawEntry<'a>) -> Result<CheckpointEntry<'a>, EntryError> {
        let (topic, content) = (raw.topic, raw.content);
        let has = |length: usize| content.len() >= length;
        let value = |n: usize| read_u64(content, n * 8);
        Ok(match raw.kind {
            SEGMENT if has(40) => {
                let segment = SegmentEntry {
                    base: value(0),
                    next: value(1),
                    bytes: value(2),
                    first_timestamp_ms: value(3),
                    last_timestamp_ms: value(4),
                };
                CheckpointEntry::Segment { topic, segment }
            }
            HEADER => {
                let header = CheckpointHeader::decode(content);
                CheckpointEntry::Header(header.ok_or(EntryError { position: raw.position })?)
            }
            END => CheckpointEntry::End,
            STATE => CheckpointEntry::State(content),
            EXTENT if has(16) => {
                let extent = ExtentEntry { first: value(0), last_timestamp_ms: value(1) };
                CheckpointEntry::Extent { topic, extent }
            }
            _ => CheckpointEntry::Journal(raw.decode()?),
        })
    }
}

impl CheckpointHeader {
    const BYTES: usize = 32 + Genesis::BYTES;

    fn put_into(&self, bytes: &mut Vec<u8>) {
        put_all(bytes, &[self.position.epoch, self.position.sequence, self.journal_start]);
        bytes.extend_from_slice(&self.position.crc.to_le_bytes());
        bytes.extend_from_slice(&self.next_topic.to_le_bytes());
        bytes.extend_from_slice(&self.genesis.encode());
    }

    fn decode(content: &[u8]) -> Option<CheckpointHeader> {
        let content = content.get(..CheckpointHeader::BYTES)?;
        let value = |n: usize| read_u64(content, n * 8);
        Some(CheckpointHeader {
            position: Position { epoch: value(0), sequence: value(1), crc: read_u32(content, 24) },
            journal_start: value(2),
            next_topic: read_u32(content, 28),
            genesis: Genesis::decode(&content[32..])?,
        })
    }
}

fn put_all(bytes: &mut Vec<u8>, values: &[u64]) {
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use ratatoskr_state::Batch;

    use super::*;

    #[test]
    fn entries_of_a_checkpoint_come_back_in_order() {
        let segment =
            SegmentEntry { base: 1, next: 2, bytes: 3, first_timestamp_ms: 4, last_timestamp_ms: 5 };
        let header = CheckpointHeader {
            position: Position { epoch: 3, sequence: 9, crc: 77 },
            journal_start: 2,
            next_topic: 3,
            genesis: Genesis { id_mask: u128::MAX - 5, token_key: 6 },
        };
        let entries = [
            CheckpointEntry::Header(header),
            CheckpointEntry::Journal(Entry::Create {
                topic: 1,
                created_ms: 8,
                name: "orders",
                settings: b"{}",
            }),
            CheckpointEntry::Segment { topic: 1, segment },
            CheckpointEntry::Extent { topic: 1, extent: ExtentEntry { first: 9, last_timestamp_ms: 5 } },
            CheckpointEntry::State(b"all acked"),
            CheckpointEntry::End,
        ];
        let mut builder = BatchBuilder::behind(0);
        for entry in &entries {
            entry.push_into(&mut builder);
        }
        let (bytes, _) = builder.finish(Position::default().next(0, 0));
        let batch = Batch::parse(bytes).expect("just written");
        let read: Vec<_> =
            batch.raw_entries().map(|raw| CheckpointEntry::decode(&raw.unwrap()).unwrap()).collect();
        assert_eq!(read, entries);
    }
}

//! What of the broker's state lives in the journal besides topics: the books of durable subscriptions, the schedule's progress, and
//! the ids duplicates are found by. Here the parts of a checkpoint are dealt out to whom they belong.

use std::sync::Arc;

use ratatoskr_log::{Ledger, RecordChunk};

use crate::code::Reader;
use crate::dedup::Dedup;
use crate::durable::{Books, Happening};

/// The kind of a checkpoint's parts that hold dedup ids; the other kinds are those of [`Books`].
const DEDUP: u64 = 2;

/// See the file's head.
pub(crate) struct BrokerLedger {
    pub(crate) books: Arc<Books>,
    pub(crate) dedup: Arc<Dedup>,
}

impl Ledger for BrokerLedger {
    fn restore(&self, part: &[u8]) -> Result<(), String> {
        let mut reader = Reader::new(part);
        let kind = reader.number()?;
        if kind == DEDUP {
            return self.dedup.restore(&mut reader);
        }
        if !self.books.restore(kind, &mut reader)? {
            return Err(format!("state of kind {kind} was written by a newer version"));
        }
        Ok(())
    }

    fn replay(&self, event: &[u8]) -> Result<(), String> {
        self.books.apply(&Happening::decode(event)?)
    }

    fn appended(&self, topic: u32, records: &RecordChunk) {
        self.dedup.appended(topic, records);
    }

    fn topic_deleted(&self, topic: u32) {
        self.books.topic_deleted(topic);
        self.dedup.topic_deleted(topic);
    }

    fn snapshot(&self, push: &mut dyn FnMut(Vec<u8>)) {
        self.books.snapshot(push);
        self.dedup.snapshot(DEDUP, push);
    }
}

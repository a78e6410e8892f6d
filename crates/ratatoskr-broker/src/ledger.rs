//! What of the broker's state lives in the journal besides topics: the books of durable subscriptions, the schedule's progress, the
//! ids duplicates are found by, and the date that was believed. Here the parts of a checkpoint are dealt out to whom they belong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ratatoskr_log::{Ledger, RecordChunk};

use crate::code::{Reader, put_number};
use crate::dedup::Dedup;
use crate::durable::{Books, Happening};

/// The kind of a checkpoint's parts that hold dedup ids; the other kinds are those of [`Books`].
const DEDUP: u64 = 2;
/// Of the part that holds the date that was believed when the checkpoint was made.
const DATE: u64 = 4;

/// See the file's head.
pub(crate) struct BrokerLedger {
    pub(crate) books: Arc<Books>,
    pub(crate) dedup: Arc<Dedup>,
    /// The date believed last, see [`crate::calendar`]; 0 while there is none.
    pub(crate) believed_ms: Arc<AtomicU64>,
}

impl Ledger for BrokerLedger {
    fn restore(&self, part: &[u8]) -> Result<(), String> {
        let mut reader = Reader::new(part);
        let kind = reader.number()?;
        if kind == DEDUP {
            return self.dedup.restore(&mut reader);
        }
        if kind == DATE {
            self.believed_ms.store(reader.number()?, Ordering::Relaxed);
            return Ok(());
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
        let believed_ms = self.believed_ms.load(Ordering::Relaxed);
        if believed_ms > 0 {
            let mut date = vec![DATE as u8];
            put_number(&mut date, believed_ms);
            push(date);
        }
    }
}

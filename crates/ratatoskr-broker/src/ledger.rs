//! What of the broker's state lives in the journal besides topics: the books of durable subscriptions, the schedule's progress, the
//! ids duplicates are found by, the ages of messages, and the date. Here the parts of a checkpoint are dealt out to whom they belong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ratatoskr_log::{Ledger, RecordChunk, Snapshot};

use crate::ages::{Ages, Run};
use crate::calendar::Dates;
use crate::code::{Reader, put_number};
use crate::dedup::{Dedup, DedupSnapshot};
use crate::durable::{Books, BooksSnapshot, Happening};

/// The kind of a checkpoint's parts that hold dedup ids; the other kinds are those of [`Books`].
const DEDUP: u64 = 2;
/// Of the part that holds the date when the checkpoint was made.
const DATE: u64 = 4;
/// Of the parts that hold marks of messages' ages.
const AGES: u64 = 5;

/// See the file's head.
pub(crate) struct BrokerLedger {
    pub(crate) books: Arc<Books>,
    pub(crate) dedup: Arc<Dedup>,
    pub(crate) ages: Arc<Ages>,
    /// The last date, see [`crate::calendar`]; 0 while there is none.
    pub(crate) today_ms: Arc<AtomicU64>,
}

impl Ledger for BrokerLedger {
    fn restore(&self, part: &[u8]) -> Result<(), String> {
        let mut reader = Reader::new(part);
        let kind = reader.number()?;
        if kind == DEDUP {
            return self.dedup.restore(&mut reader);
        }
        if kind == AGES {
            return self.ages.restore(&mut reader);
        }
        if kind == DATE {
            self.today_ms.store(reader.number()?, Ordering::Relaxed);
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

    fn appended(&self, topic: u32, records: &RecordChunk, date: u64) {
        let (date_ms, today_ms) = Dates::from_block(date);
        self.today_ms.fetch_max(today_ms.unwrap_or(0), Ordering::Relaxed);
        self.dedup.appended(topic, records, date_ms);
        let (first, end) = (records.first, records.end());
        self.ages.appended(topic, Run { first, end, timestamp_ms: records.last_timestamp_ms }, date_ms);
    }

    fn topic_deleted(&self, topic: u32) {
        self.books.topic_deleted(topic);
        self.dedup.topic_deleted(topic);
        self.ages.topic_deleted(topic);
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(BrokerSnapshot {
            books: self.books.snapshot(),
            dedup: self.dedup.snapshot(),
            ages: self.ages.copy(),
            today_ms: self.today_ms.load(Ordering::Relaxed),
        })
    }
}

/// See the file's head.
struct BrokerSnapshot {
    books: BooksSnapshot,
    dedup: DedupSnapshot,
    ages: Ages,
    today_ms: u64,
}

impl Snapshot for BrokerSnapshot {
    fn encode(&self, push: &mut dyn FnMut(Vec<u8>)) {
        self.books.encode(push);
        self.dedup.encode(DEDUP, push);
        self.ages.encode(AGES, push);
        if self.today_ms > 0 {
            let mut date = vec![DATE as u8];
            put_number(&mut date, self.today_ms);
            push(date);
        }
    }
}

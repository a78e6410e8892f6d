//! [`Change`]: what happens to subscriptions and to the schedule, as the journal has it, and its bytes.
//!
//! The bytes are described in `docs/log-format.md`; what a change does to a subscription stands in [`crate::subscriptions`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::broken::Broken;
use crate::code::{Reader, put_number, put_text};
use crate::limits::REASON_REMEMBERED_BYTES_MAX;
use crate::ranges::Ranges;
use crate::schedule::Progress;
use crate::subscription_settings::SubscriptionSettings;
use crate::subscriptions::Returned;

/// What became of messages of one subscription in one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettlementBatch {
    /// Acknowledged.
    pub acked: Ranges,
    /// Left out: the filter does not want them, or a seek or skip passed over them.
    pub passed: Ranges,
    /// Gone before they were delivered: past their time to live, purged, or removed by retention.
    pub expired: Ranges,
    /// Dead-lettered.
    pub dead: Ranges,
    /// Not settled: they have used up an attempt, and come again.
    pub returned: BTreeMap<u64, Returned>,
}

impl SettlementBatch {
    /// True when it says nothing.
    pub fn is_empty(&self) -> bool {
        self.all_ranges().iter().all(|ranges| ranges.is_empty()) && self.returned.is_empty()
    }

    /// True when it says of any message that it was settled, or came back: not only that it is gone, or of no interest.
    pub fn settles(&self) -> bool {
        !(self.acked.is_empty() && self.dead.is_empty() && self.returned.is_empty())
    }

    /// Takes out what it says of messages from an offset on.
    #[must_use]
    pub fn split_off(&mut self, at: u64) -> SettlementBatch {
        SettlementBatch {
            acked: self.acked.split_off(at),
            passed: self.passed.split_off(at),
            expired: self.expired.split_off(at),
            dead: self.dead.split_off(at),
            returned: self.returned.split_off(&at),
        }
    }

    fn all_ranges(&self) -> [&Ranges; 4] {
        [&self.acked, &self.passed, &self.expired, &self.dead]
    }
}

/// Something that happened to subscriptions, as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// There is a new one.
    Created(Created),
    /// It has other settings.
    Changed {
        /// The subscription's number.
        number: u32,
        /// The new settings.
        settings: Arc<SubscriptionSettings>,
    },
    /// It is gone.
    Deleted {
        /// The subscription's number.
        number: u32,
    },
    /// Messages of it were settled, or came back.
    Settled {
        /// The subscription's number.
        number: u32,
        /// Which messages, and how.
        batch: SettlementBatch,
    },
    /// It goes on at this offset, with nothing settled behind it.
    Moved {
        /// The subscription's number.
        number: u32,
        /// The offset it goes on at.
        origin: u64,
    },
    /// The oldest so many of what was not settled, of the topic's messages before an offset, were passed over.
    Skipped {
        /// The subscription's number.
        number: u32,
        /// How many of the oldest.
        count: u64,
        /// Of those before this offset.
        next: u64,
    },
    /// It goes on where it stood when this was saved.
    Restored {
        /// The subscription's number.
        number: u32,
        /// The name of the saved state.
        saved: String,
    },
    /// Where it stands was saved under a name.
    Saved {
        /// The subscription's number.
        number: u32,
        /// The name of the saved state.
        saved: String,
    },
    /// A saved state is gone.
    Forgotten {
        /// The subscription's number.
        number: u32,
        /// The name of the saved state.
        saved: String,
    },
    /// Messages of the schedule were put into their topics, or carried forward in it. Concerns no subscription.
    Dispatched(Progress),
}

/// A new subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// Its number, never used before.
    pub number: u32,
    /// Its topic's number.
    pub topic: u32,
    /// Its name, unique on its topic.
    pub name: String,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// What can be set.
    pub settings: SubscriptionSettings,
    /// Everything before this offset is none of its business.
    pub origin: u64,
}

const CREATED: u64 = 1;
const CHANGED: u64 = 2;
const DELETED: u64 = 3;
const SETTLED: u64 = 4;
const MOVED: u64 = 5;
const RESTORED: u64 = 6;
const SAVED: u64 = 7;
const FORGOTTEN: u64 = 8;
const DISPATCHED: u64 = 9;
const SKIPPED: u64 = 10;

impl Change {
    /// The number of the subscription it concerns; 0 for the schedule.
    pub fn number(&self) -> u32 {
        match self {
            Change::Created(created) => created.number,
            Change::Changed { number, .. }
            | Change::Deleted { number }
            | Change::Settled { number, .. }
            | Change::Moved { number, .. }
            | Change::Skipped { number, .. }
            | Change::Restored { number, .. }
            | Change::Saved { number, .. }
            | Change::Forgotten { number, .. } => *number,
            Change::Dispatched(_) => 0,
        }
    }

    /// Takes out what it says of a message that came back: its return is not to be written after all.
    pub fn forget_return(&mut self, subscription: u32, offset: u64) {
        if let Change::Settled { number, batch } = self
            && *number == subscription
        {
            batch.returned.remove(&offset);
        }
    }

    /// Its bytes, as an entry of the journal has them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut head = |kind| {
            put_number(&mut bytes, kind + shift());
            put_number(&mut bytes, self.number().into());
        };
        match self {
            Change::Created(created) => {
                head(CREATED);
                put_text(&mut bytes, &json(created));
            }
            Change::Changed { settings, .. } => {
                head(CHANGED);
                put_text(&mut bytes, &json(&**settings));
            }
            Change::Deleted { .. } => head(DELETED),
            Change::Settled { batch, .. } => {
                head(SETTLED);
                batch.all_ranges().into_iter().for_each(|ranges| put_ranges(&mut bytes, ranges));
                put_returned(&mut bytes, &batch.returned);
            }
            Change::Moved { origin, .. } => {
                head(MOVED);
                put_number(&mut bytes, *origin);
            }
            Change::Skipped { count, next, .. } => {
                head(SKIPPED);
                put_number(&mut bytes, *count);
                put_number(&mut bytes, *next);
            }
            Change::Restored { saved, .. } => {
                head(RESTORED);
                put_text(&mut bytes, saved.as_bytes());
            }
            Change::Saved { saved, .. } => {
                head(SAVED);
                put_text(&mut bytes, saved.as_bytes());
            }
            Change::Forgotten { saved, .. } => {
                head(FORGOTTEN);
                put_text(&mut bytes, saved.as_bytes());
            }
            Change::Dispatched(progress) => {
                head(DISPATCHED);
                progress.put_into(&mut bytes);
            }
        }
        bytes
    }

    /// Reads what was encoded. An error says what makes no sense.
    pub fn decode(bytes: &[u8]) -> Result<Change, String> {
        let mut reader = Reader::new(bytes);
        let kind = reader.number()?.wrapping_sub(shift());
        let number = reader.number()? as u32;
        let mut text = || reader.text().map(str::to_owned);
        Ok(match kind {
            CREATED => Change::Created(from_json(text()?.as_bytes())?),
            CHANGED => Change::Changed { number, settings: Arc::new(from_json(text()?.as_bytes())?) },
            DELETED => Change::Deleted { number },
            SETTLED => {
                let [acked, passed, expired, dead] = [
                    take_ranges(&mut reader)?,
                    take_ranges(&mut reader)?,
                    take_ranges(&mut reader)?,
                    take_ranges(&mut reader)?,
                ];
                let returned = take_returned(&mut reader)?;
                Change::Settled { number, batch: SettlementBatch { acked, passed, expired, dead, returned } }
            }
            MOVED => Change::Moved { number, origin: reader.number()? },
            SKIPPED => Change::Skipped { number, count: reader.number()?, next: reader.number()? },
            RESTORED => Change::Restored { number, saved: text()? },
            SAVED => Change::Saved { number, saved: text()? },
            FORGOTTEN => Change::Forgotten { number, saved: text()? },
            DISPATCHED => Change::Dispatched(Progress::take_from(&mut reader)?),
            _ => return Err(format!("event of kind {kind} was written by a newer version")),
        })
    }
}

/// Added to the kinds in a build whose format is another one.
fn shift() -> u64 {
    u64::from(Broken::Format.is_on())
}

pub(crate) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("settings are plain numbers and words")
}

pub(crate) fn from_json<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Each range as its distance from the one before, and its length.
pub(crate) fn put_ranges(bytes: &mut Vec<u8>, ranges: &Ranges) {
    let mut at = 0;
    put_number(bytes, ranges.iter().len() as u64);
    for Range { start, end } in ranges.iter() {
        put_number(bytes, start - at);
        put_number(bytes, end - start);
        at = end;
    }
}

pub(crate) fn take_ranges(reader: &mut Reader<'_>) -> Result<Ranges, String> {
    let (mut ranges, mut at) = (Ranges::default(), 0_u64);
    for _ in 0..reader.number()? {
        let start = at.checked_add(reader.number()?).ok_or("a range begins beyond all offsets")?;
        at = start.checked_add(reader.number()?).ok_or("a range ends beyond all offsets")?;
        ranges.insert(start..at);
    }
    Ok(ranges)
}

pub(crate) fn put_returned(bytes: &mut Vec<u8>, returned: &BTreeMap<u64, Returned>) {
    put_number(bytes, returned.len() as u64);
    for (offset, returned) in returned {
        for number in
            [*offset, returned.attempts.into(), returned.until_ms, returned.first_ms, returned.last_ms]
        {
            put_number(bytes, number);
        }
        put_text(bytes, returned.reason.as_bytes());
    }
}

pub(crate) fn take_returned(reader: &mut Reader<'_>) -> Result<BTreeMap<u64, Returned>, String> {
    let mut all = BTreeMap::new();
    for _ in 0..reader.number()? {
        let offset = reader.number()?;
        let returned = Returned {
            attempts: reader.number()? as u32,
            until_ms: reader.number()?,
            first_ms: reader.number()?,
            last_ms: reader.number()?,
            reason: remembered(reader.text()?).into(),
        };
        all.insert(offset, returned);
    }
    Ok(all)
}

/// As much of a reason as is remembered of each message that comes back.
pub fn remembered(reason: &str) -> &str {
    let end = (0..=REASON_REMEMBERED_BYTES_MAX.min(reason.len())).rev();
    let end = end.into_iter().find(|&bytes| reason.is_char_boundary(bytes));
    &reason[..end.unwrap_or(0)]
}

//! What happens to subscriptions, as the journal has it: [`Happening`], and its bytes.
//!
//! The bytes are described in `docs/log-format.md`; what a happening does to a subscription stands in [`super::book`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ratatoskr_log::Reserve;
use serde::{Deserialize, Serialize};

use super::book::Returned;
use super::event::{Booking, Spent, remembered};
use super::ranges::Ranges;
use super::settings::SubscriptionSettings;
use crate::broken::Broken;
use crate::code::{Reader, put_number, put_text};
use crate::schedule::Progress;

/// What became of messages of one subscription in one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) acked: Ranges,
    pub(crate) passed: Ranges,
    pub(crate) expired: Ranges,
    pub(crate) dead: Ranges,
    pub(crate) returned: BTreeMap<u64, Returned>,
}

impl Round {
    pub(crate) fn is_empty(&self) -> bool {
        self.ways().iter().all(|way| way.is_empty()) && self.returned.is_empty()
    }

    /// Notes one message's fate. A later one of the same message replaces an earlier return.
    pub(crate) fn note(&mut self, offset: u64, booking: &Booking) {
        let done = match booking {
            Booking::Settled => &mut self.acked,
            Booking::Expired => &mut self.expired,
            Booking::Passed => &mut self.passed,
            Booking::Buried(_) => &mut self.dead,
            Booking::Returned { until, spent } => {
                let Spent { attempts, first_ms, last_ms, reason } = &**spent;
                let (attempts, first_ms, last_ms) = (*attempts, *first_ms, *last_ms);
                let (until_ms, reason) = (until.wall_ms, reason.clone());
                let returned = Returned { attempts, until_ms, first_ms, last_ms, reason };
                self.returned.insert(offset, returned);
                return;
            }
        };
        done.insert(offset..offset + 1);
        self.returned.remove(&offset);
    }

    /// True when it says of any message that it was settled, or came back: not only that it is gone, or of no interest.
    fn settles(&self) -> bool {
        !(self.acked.is_empty() && self.dead.is_empty() && self.returned.is_empty())
    }

    /// Takes out what it says of messages from an offset on.
    pub(crate) fn split_off(&mut self, at: u64) -> Round {
        Round {
            acked: self.acked.split_off(at),
            passed: self.passed.split_off(at),
            expired: self.expired.split_off(at),
            dead: self.dead.split_off(at),
            returned: self.returned.split_off(&at),
        }
    }

    fn ways(&self) -> [&Ranges; 4] {
        [&self.acked, &self.passed, &self.expired, &self.dead]
    }
}

/// Something that happened to subscriptions, as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Happening {
    Created(Created),
    Changed {
        number: u32,
        settings: Arc<SubscriptionSettings>,
    },
    Deleted {
        number: u32,
    },
    Settled {
        number: u32,
        round: Round,
    },
    /// It goes on at this offset, with nothing settled behind it.
    Moved {
        number: u32,
        origin: u64,
    },
    /// The oldest so many of what was not settled, of the topic's messages before an offset, were passed over.
    Skipped {
        number: u32,
        count: u64,
        next: u64,
    },
    /// It goes on where it stood when this was saved.
    Restored {
        number: u32,
        saved: String,
    },
    Saved {
        number: u32,
        saved: String,
    },
    Forgotten {
        number: u32,
        saved: String,
    },
    /// Messages of the schedule were put into their topics, or carried forward in it. Concerns no subscription.
    Dispatched(Progress),
}

/// How far a step that says this may go into what the journal keeps for the time of a full disk. Most of that is for settlements alone.
pub(crate) fn reserve_of(happenings: &[Happening]) -> Reserve {
    let is_change = |happening: &Happening| {
        !matches!(happening, Happening::Created(_) | Happening::Saved { .. } | Happening::Dispatched(_))
    };
    let is_round = |happening: &Happening| matches!(happening, Happening::Settled { .. });
    let settles =
        |happening: &Happening| matches!(happening, Happening::Settled { round, .. } if round.settles());
    if happenings.iter().all(is_round) && happenings.iter().any(settles) {
        Reserve::Settle
    } else if happenings.iter().all(is_change) {
        Reserve::Change
    } else {
        Reserve::Keep
    }
}

/// A new subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "`created_ms` is the same word everywhere")]
pub(crate) struct Created {
    pub(crate) number: u32,
    pub(crate) topic: u32,
    pub(crate) name: String,
    pub(crate) created_ms: u64,
    pub(crate) settings: SubscriptionSettings,
    pub(crate) origin: u64,
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

impl Happening {
    pub(crate) fn number(&self) -> u32 {
        match self {
            Happening::Created(created) => created.number,
            Happening::Changed { number, .. }
            | Happening::Deleted { number }
            | Happening::Settled { number, .. }
            | Happening::Moved { number, .. }
            | Happening::Skipped { number, .. }
            | Happening::Restored { number, .. }
            | Happening::Saved { number, .. }
            | Happening::Forgotten { number, .. } => *number,
            Happening::Dispatched(_) => 0,
        }
    }

    /// Takes out what it says of a message that came back: its return is not to be written after all.
    pub(crate) fn forget_return(&mut self, subscription: u32, offset: u64) {
        if let Happening::Settled { number, round } = self
            && *number == subscription
        {
            round.returned.remove(&offset);
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut head = |kind| {
            put_number(&mut bytes, kind + shift());
            put_number(&mut bytes, self.number().into());
        };
        match self {
            Happening::Created(created) => {
                head(CREATED);
                put_text(&mut bytes, &json(created));
            }
            Happening::Changed { settings, .. } => {
                head(CHANGED);
                put_text(&mut bytes, &json(&**settings));
            }
            Happening::Deleted { .. } => head(DELETED),
            Happening::Settled { round, .. } => {
                head(SETTLED);
                round.ways().into_iter().for_each(|way| put_ranges(&mut bytes, way));
                put_returned(&mut bytes, &round.returned);
            }
            Happening::Moved { origin, .. } => {
                head(MOVED);
                put_number(&mut bytes, *origin);
            }
            Happening::Skipped { count, next, .. } => {
                head(SKIPPED);
                put_number(&mut bytes, *count);
                put_number(&mut bytes, *next);
            }
            Happening::Restored { saved, .. } => {
                head(RESTORED);
                put_text(&mut bytes, saved.as_bytes());
            }
            Happening::Saved { saved, .. } => {
                head(SAVED);
                put_text(&mut bytes, saved.as_bytes());
            }
            Happening::Forgotten { saved, .. } => {
                head(FORGOTTEN);
                put_text(&mut bytes, saved.as_bytes());
            }
            Happening::Dispatched(progress) => {
                head(DISPATCHED);
                progress.put_into(&mut bytes);
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Happening, String> {
        let mut reader = Reader::new(bytes);
        let kind = reader.number()?.wrapping_sub(shift());
        let number = reader.number()? as u32;
        let mut text = || reader.text().map(str::to_owned);
        Ok(match kind {
            CREATED => Happening::Created(from_json(text()?.as_bytes())?),
            CHANGED => Happening::Changed { number, settings: Arc::new(from_json(text()?.as_bytes())?) },
            DELETED => Happening::Deleted { number },
            SETTLED => {
                let [acked, passed, expired, dead] = [
                    take_ranges(&mut reader)?,
                    take_ranges(&mut reader)?,
                    take_ranges(&mut reader)?,
                    take_ranges(&mut reader)?,
                ];
                let returned = take_returned(&mut reader)?;
                Happening::Settled { number, round: Round { acked, passed, expired, dead, returned } }
            }
            MOVED => Happening::Moved { number, origin: reader.number()? },
            SKIPPED => Happening::Skipped { number, count: reader.number()?, next: reader.number()? },
            RESTORED => Happening::Restored { number, saved: text()? },
            SAVED => Happening::Saved { number, saved: text()? },
            FORGOTTEN => Happening::Forgotten { number, saved: text()? },
            DISPATCHED => Happening::Dispatched(Progress::take_from(&mut reader)?),
            _ => return Err(format!("event of kind {kind} was written by a newer version")),
        })
    }
}

/// Added to the kinds in a build whose format is another one.
fn shift() -> u64 {
    u64::from(Broken::Format.is_on())
}

pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("settings are plain numbers and words")
}

pub(super) fn from_json<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Each range as its distance from the one before, and its length.
pub(super) fn put_ranges(bytes: &mut Vec<u8>, ranges: &Ranges) {
    let mut at = 0;
    put_number(bytes, ranges.iter().len() as u64);
    for Range { start, end } in ranges.iter() {
        put_number(bytes, start - at);
        put_number(bytes, end - start);
        at = end;
    }
}

pub(super) fn take_ranges(reader: &mut Reader<'_>) -> Result<Ranges, String> {
    let (mut ranges, mut at) = (Ranges::default(), 0_u64);
    for _ in 0..reader.number()? {
        let start = at.checked_add(reader.number()?).ok_or("a range begins beyond all offsets")?;
        at = start.checked_add(reader.number()?).ok_or("a range ends beyond all offsets")?;
        ranges.insert(start..at);
    }
    Ok(ranges)
}

pub(super) fn put_returned(bytes: &mut Vec<u8>, returned: &BTreeMap<u64, Returned>) {
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

pub(super) fn take_returned(reader: &mut Reader<'_>) -> Result<BTreeMap<u64, Returned>, String> {
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

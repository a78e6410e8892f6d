//! What the dispatcher writes: from what became of messages to the journal's changes, and how far those may go on a full disk.

use ratatoskr_log::Reserve;
use ratatoskr_state::{Change, Returned, SettlementBatch};

use super::event::{Booking, Spent};

/// Notes what became of one message. A later word of the same message replaces an earlier return.
pub(crate) fn note(batch: &mut SettlementBatch, offset: u64, booking: &Booking) {
    let done = match booking {
        Booking::Settled => &mut batch.acked,
        Booking::Expired => &mut batch.expired,
        Booking::Passed => &mut batch.passed,
        Booking::DeadLettered(_) => &mut batch.dead,
        Booking::Returned { until, spent } => {
            let Spent { attempts, first_ms, last_ms, reason } = &**spent;
            let (attempts, first_ms, last_ms) = (*attempts, *first_ms, *last_ms);
            let (until_ms, reason) = (until.wall_ms, reason.clone());
            let returned = Returned { attempts, until_ms, first_ms, last_ms, reason };
            batch.returned.insert(offset, returned);
            return;
        }
    };
    done.insert(offset..offset + 1);
    batch.returned.remove(&offset);
}

/// How far a step that says this may go into what the journal keeps for the time of a full disk. Most of that is for settlements alone.
pub(crate) fn reserve_of(changes: &[Change]) -> Reserve {
    let is_change = |change: &Change| {
        !matches!(change, Change::Created(_) | Change::Saved { .. } | Change::Dispatched(_))
    };
    let is_settlement = |change: &Change| matches!(change, Change::Settled { .. });
    let settles = |change: &Change| matches!(change, Change::Settled { batch, .. } if batch.settles());
    if changes.iter().all(is_settlement) && changes.iter().any(settles) {
        Reserve::Settle
    } else if changes.iter().all(is_change) {
        Reserve::Change
    } else {
        Reserve::Keep
    }
}

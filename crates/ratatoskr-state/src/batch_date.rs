//! [`BatchDate`]: what a batch says of the date.
//!
//! The leader decides what to believe of its clock; everybody who applies a batch goes by what the batch says. Why: ADR 0011.

/// Says of a batch's date that it is doubted.
const DOUBTED: u64 = 1 << 63;

/// The date of a batch, milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchDate {
    /// The records of the batch are dated so.
    pub stamp_ms: u64,
    /// Nobody knows yet whether that is right: the leader's clock has jumped ahead.
    pub is_doubted: bool,
}

impl BatchDate {
    /// As it stands in a batch's header.
    pub fn encode(self) -> u64 {
        self.stamp_ms | if self.is_doubted { DOUBTED } else { 0 }
    }

    /// The date in a batch's header; `None` where it says nothing of the date.
    pub fn decode(date: u64) -> Option<BatchDate> {
        let stamp_ms = date & !DOUBTED;
        (date != 0).then_some(BatchDate { stamp_ms, is_doubted: date != stamp_ms })
    }
}

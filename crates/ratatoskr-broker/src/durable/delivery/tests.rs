//! The life cycle, transition by transition, and against a model that is too simple to be wrong.

mod gone;
mod model;
mod returns;
mod scripts;

use super::super::event::{Fed, Letter};
use ratatoskr_state::SubscriptionSettings;

fn fed(offset: u64, letter: Letter) -> Fed<()> {
    Fed { offset, not_before_ms: 0, letter, cargo: () }
}

fn letter(lane: u64, bytes: u32, expires_ms: u64) -> Letter {
    Letter {
        lane,
        bytes,
        expires_ms,
        attempts: 0,
        first_ms: 0,
        last_ms: 0,
        returns: 0,
        suspicions: 0,
        is_suspect: false,
        is_excluded: false,
    }
}

fn settings() -> SubscriptionSettings {
    SubscriptionSettings {
        lease_ms: 1000,
        attempts_max: 2,
        retry_delay_ms: 100,
        retry_jitter: 0.0,
        ..SubscriptionSettings::default()
    }
}

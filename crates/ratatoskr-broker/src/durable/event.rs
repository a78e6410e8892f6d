//! The words between a subscription's [`Delivery`](super::delivery::Delivery) and its surroundings: what happens to it, what it wants done.

use ratatoskr_state::SubscriptionSettings;
use ratatoskr_state::remembered;
use std::sync::Arc;

use ratatoskr_log::Moment;

use ratatoskr_state::limits::{LEASE_MS_MAX, LEASE_MS_MIN, REASON_BYTES_MAX, REASON_REMEMBERED_BYTES_MAX};

/// Names a member within the broker.
pub(crate) type MemberId = u64;

/// What the decisions need of a message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Its key's lane; 0 for none.
    pub(crate) lane: u64,
    pub(crate) bytes: u32,
    /// Not delivered from then on; 0 for never.
    pub(crate) expires_ms: u64,
    /// Deliveries that count.
    pub(crate) attempts: u32,
    /// When it was first and last delivered; 0 for not yet.
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// Deliveries since its last settlement that ended without one and were not counted as attempts.
    pub(crate) returns: u16,
    /// Those of them that ended by a member's death or silence, among others it held: they count once it is known to be the cause.
    pub(crate) suspicions: u16,
    /// It may be what ends its members: it is delivered alone.
    pub(crate) is_suspect: bool,
    /// A new filter does not want it. Only while it is leased or in the hands of the journal: it does not come back from there.
    pub(crate) is_excluded: bool,
}

impl Letter {
    /// What the message itself takes, if it is at hand.
    pub(crate) fn bytes_at_hand<Cargo>(&self, cargo: Option<&Cargo>) -> u64 {
        cargo.map_or(0, |_| self.bytes.into())
    }
}

/// A message that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fed<Cargo> {
    pub(crate) offset: u64,
    /// Not to be delivered before, wall time: it comes from the state.
    pub(crate) not_before_ms: u64,
    pub(crate) letter: Letter,
    /// The message itself.
    pub(crate) cargo: Cargo,
}

/// How much a member may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages.
    pub messages: u32,
    /// Bytes of payload; one message is always delivered.
    pub bytes: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window { messages: 10, bytes: 16 << 20 }
    }
}

/// What a member wants to become of a message it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ack,
    /// Could not be handled: again later, and once too often to the dead letters.
    Nack {
        /// After this time, milliseconds; `None` by the retry schedule.
        delay_ms: Option<u64>,
        /// Why, for people to read. Cut at 1,024 bytes.
        reason: String,
    },
    /// Still at it.
    Extend {
        /// Leased for so long from now on, milliseconds; `None` for the subscription's lease.
        lease_ms: Option<u64>,
    },
    /// Can never be handled: to the dead letters.
    Reject {
        /// Why, for people to read. Cut at 1,024 bytes.
        reason: String,
    },
    /// Not looked at: again at once, and the attempt does not count.
    Release,
}

/// A time that a settlement gives and that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value} ms; allowed are {allowed}")]
pub struct OutcomeError {
    /// Which field, as in the proto file.
    pub field: &'static str,
    /// What was given.
    pub value: u64,
    /// What may be given.
    pub allowed: &'static str,
}

impl Outcome {
    /// Checks the times in it.
    pub fn check(&self) -> Result<(), OutcomeError> {
        match self {
            Outcome::Nack { delay_ms: Some(value), .. } if *value > LEASE_MS_MAX => {
                Err(OutcomeError { field: "delay_ms", value: *value, allowed: "0 to 43200000 ms" })
            }
            Outcome::Extend { lease_ms: Some(value) } if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(value) => {
                Err(OutcomeError { field: "lease_ms", value: *value, allowed: "100 to 43200000 ms" })
            }
            _ => Ok(()),
        }
    }

    /// Cuts a reason that is too long: a stack trace is no reason to refuse a nack.
    pub(crate) fn cut_reason(&mut self) {
        if let Outcome::Nack { reason, .. } | Outcome::Reject { reason } = self
            && reason.len() > REASON_BYTES_MAX
        {
            // What is behind it is not kept either.
            *reason = cut(reason, REASON_BYTES_MAX).to_owned();
        }
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let bytes = (0..=bytes_max.min(text.len())).rev().find(|&bytes| text.is_char_boundary(bytes));
    &text[..bytes.unwrap_or(0)]
}

/// How a member goes. What becomes of what it holds: `delivery/returning.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Its stream was closed or cancelled: what it holds goes back, and uses up no attempt unless that goes on and on.
    Closed,
    /// The broker ended it: what it holds goes back as if it had never been delivered.
    Unharmed,
    /// Its connection broke: what it can have been working on is suspect.
    Vanished,
    /// What it holds stays leased until it is settled or the lease ends.
    Detached,
}

/// What happens to a subscription.
#[derive(Debug)]
pub(crate) enum Event<Cargo> {
    Join {
        member: MemberId,
        window: Window,
    },
    Widen {
        member: MemberId,
        window: Window,
    },
    Leave {
        member: MemberId,
        leaving: Leaving,
    },
    /// Everything before `to` has been read; these are to be delivered.
    Feed {
        to: u64,
        messages: Vec<Fed<Cargo>>,
    },
    Settle {
        offset: u64,
        lease: u64,
        outcome: Outcome,
    },
    /// The journal has what was booked for this offset.
    Committed {
        offset: u64,
    },
    /// The journal could not take it.
    Refused {
        offset: u64,
    },
    /// The message a member was given is in the log no more.
    Lost {
        offset: u64,
        lease: u64,
    },
    Change(Arc<SubscriptionSettings>),
    /// Everything before an offset is in the log no more.
    Trimmed {
        first: u64,
    },
    /// Which of [`Delivery::unsettled`](super::delivery::Delivery::unsettled) the new filter does not want. Deliveries go on.
    Excluded {
        offsets: Vec<u64>,
    },
    Tick,
}

/// What is to be written down about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Booking {
    Settled,
    Expired,
    /// The filter does not want it.
    Passed,
    /// It comes again, not before `until`.
    Returned {
        until: Moment,
        spent: Box<Spent>,
    },
    /// It becomes a dead letter.
    DeadLettered(Box<Spent>),
}

impl Booking {
    /// As much of it as a trace has of a message: of a reason, what is remembered of all.
    pub(crate) fn remembered(&self) -> Booking {
        match self {
            Booking::DeadLettered(spent) if spent.reason.len() > REASON_REMEMBERED_BYTES_MAX => {
                let reason = remembered(&spent.reason).into();
                Booking::DeadLettered(Box::new(Spent { reason, ..Spent::clone(spent) }))
            }
            booking => booking.clone(),
        }
    }
}

/// What a message has used up. Boxed where it is kept: most messages never come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) attempts: u32,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    /// Why it came back the last time.
    pub(crate) reason: Arc<str>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect<Cargo> {
    Deliver {
        member: MemberId,
        offset: u64,
        lease: u64,
        attempt: u32,
        /// Wall time, for the member to see.
        until_ms: u64,
        bytes: u32,
        cargo: Option<Cargo>,
    },
    /// Write it down and say [`Event::Committed`] or [`Event::Refused`].
    Journal { offset: u64, booking: Booking },
    /// Write it down when convenient.
    Note { offset: u64, booking: Booking },
    /// A settlement that needs no journal has been done.
    Done,
    /// A settlement by somebody who does not hold the message (any more).
    Stale,
}

/// How many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) ready: usize,
    pub(crate) parked: usize,
    /// Keys that hold back others.
    pub(crate) parked_keys: usize,
    /// Leased, also while a settlement is being written.
    pub(crate) leased: usize,
    /// Waiting for a retry.
    pub(crate) waiting: usize,
}

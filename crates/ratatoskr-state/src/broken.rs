//! Builds that are broken on purpose, so that checks can be seen to fail. Nothing of it is there without the feature `broken`.

/// How a broken build breaks its word, chosen by the environment variable `E2E_BROKEN`: the same words in small letters.
/// Who has to notice which stands in `xtask/src/torture/broken.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Acks are confirmed and never written.
    Acks,
    /// Keys are not kept in order.
    Order,
    /// Messages that no member could settle vanish.
    Dead,
    /// What is published is acknowledged before it is written.
    Late,
    /// A sync that failed is taken for a good one.
    Sync,
    /// A data directory in use is used.
    Lock,
    /// No duplicate is found.
    Duplicates,
    /// Stopping leaves no checkpoint.
    Drain,
    /// Having stood still is taken for a fault.
    Stall,
    /// A disk that is full is taken for one that failed.
    Full,
    /// Every publisher gets a sync of its own.
    Alone,
    /// What waits for the disk has no bound.
    Inbox,
    /// Leases do not end.
    Leases,
    /// The newest messages in memory have no bound.
    Tail,
    /// A connection has a large buffer before it says anything.
    Buffers,
    /// Callers' memory has no bound.
    Budget,
    /// Who holds memory that others want, and does not move, is left alone.
    Stuck,
    /// Subscribers that went are still counted.
    Leavers,
    /// The wall clock is believed whatever it says.
    Clock,
    /// The doctor finds nothing.
    Doctor,
    /// Events are written under other numbers than before.
    Format,
    /// A panic of a topic's owner is not caught.
    Wall,
    /// Stopping is well whatever became of the threads.
    Thread,
    /// A text in an event or a checkpoint whose length is wrong makes reading panic.
    Ends,
    /// A text in a filter that has no end makes reading panic.
    Quotes,
}

impl Broken {
    /// True in a build that is broken this way.
    #[inline]
    pub fn is_on(self) -> bool {
        cfg!(feature = "broken") && self.is_chosen()
    }

    fn is_chosen(self) -> bool {
        std::env::var("E2E_BROKEN").is_ok_and(|word| word.eq_ignore_ascii_case(&format!("{self:?}")))
    }
}

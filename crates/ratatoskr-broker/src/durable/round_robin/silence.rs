//! Which members are silent, and what their leases tell that ended.
//!
//! ```text
//!            settles, changes its window                    heard from
//!   heard ◀───────────────────────────── stalled ◀──────────────────────── on trial
//!     │   nothing for the whole of a lease  ▲ │ a lease's time later          │
//!     └─────────────────────────────────────┘ └──────────────────────────────▶┘ one message
//! ```
//!
//! Whoever settles under a lease that has ended is heard from, too: the newest [`LATE_MAX`] such leases of each member are remembered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Member, MemberId, RoundRobin};

/// Leases of one member that are remembered after they have ended. A member that is never heard from has ever more of them.
const LATE_MAX: usize = 1000;

/// Whether a member was heard from lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It was, or has had nothing to say yet.
    None,
    /// It was not for the whole of a lease.
    Stalled,
    /// The same, and it may be tried with one message.
    OnTrial,
}

/// What waits for silent members, and for what they say late.
#[derive(Debug, Default)]
pub(super) struct Silences {
    /// When stalled members may be tried again, steady time.
    trials: BTreeSet<(u64, MemberId)>,
    /// Whose the leases were that ended.
    late: BTreeMap<u64, MemberId>,
}

/// Leases of a member that ended since it was last heard from.
#[derive(Debug, Default)]
pub(super) struct Lapsed {
    /// Ascending as they ended, the newest of them.
    leases: VecDeque<u64>,
    /// The message of the first one.
    offset: Option<u64>,
    /// There were others.
    is_of_several: bool,
}

impl Lapsed {
    /// True when there was none, or all were of one message.
    fn is_of(&self, offset: u64) -> bool {
        !self.is_of_several && self.offset.is_none_or(|other| other == offset)
    }
}

impl RoundRobin {
    /// A member has settled what it held under a lease. Leases go on to be numbered from `next_lease`.
    pub(crate) fn note_settled(&mut self, id: MemberId, lease: u64, next_lease: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.settled_lease = member.settled_lease.max(lease);
        self.note_life(id, next_lease);
    }

    /// A member is heard from.
    pub(crate) fn note_life(&mut self, id: MemberId, next_lease: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.heard_before = member.heard_before.max(next_lease);
        if member.lapsed.offset.is_some() {
            member.silence = Silence::None;
            self.silences.forget(member);
            self.look_at(id);
        }
    }

    /// Somebody settles under a lease that has ended: its member is heard from, if that is known.
    pub(crate) fn note_late(&mut self, lease: u64, next_lease: u64) {
        if let Some(&id) = self.silences.late.get(&lease) {
            self.note_life(id, next_lease);
        }
    }

    /// A lease of a member has ended; it may be tried again at a steady time. True when it tells of that one message: the member held no
    /// other that it may have been at work on, or it has settled a later one.
    pub(crate) fn note_lapsed(&mut self, id: MemberId, (offset, lease): (u64, u64), trial_ms: u64) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return true };
        let is_alone = member.held.iter().all(|held| *held == offset) && member.lapsed.is_of(offset);
        let is_telling = is_alone || member.settled_lease > lease;
        self.silences.note_lapsed(member, id, (offset, lease));
        if member.heard_before <= lease {
            member.silence = Silence::Stalled;
            self.silences.trials.insert((trial_ms, id));
        }
        self.look_at(id);
        is_telling
    }

    /// True when a member was not heard from for the whole of a lease, nor since.
    pub(crate) fn is_stalled(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(|member| member.silence != Silence::None)
    }

    /// Lets stalled members be tried whose time has come.
    pub(super) fn begin_trials(&mut self, now_ms: u64) {
        while let Some(&(trial_ms, id)) = self.silences.trials.first()
            && trial_ms <= now_ms
        {
            self.silences.trials.pop_first();
            if let Some(member) = self.members.get_mut(&id)
                && member.silence == Silence::Stalled
            {
                member.silence = Silence::OnTrial;
                self.look_at(id);
            }
        }
    }
}

impl Silences {
    /// When the next trial begins, steady time.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.trials.first().map(|&(trial_ms, _)| trial_ms)
    }

    /// What ended before tells nothing any more.
    pub(super) fn forget(&mut self, member: &mut Member) {
        for lease in std::mem::take(&mut member.lapsed).leases {
            self.late.remove(&lease);
        }
    }

    fn note_lapsed(&mut self, member: &mut Member, id: MemberId, (offset, lease): (u64, u64)) {
        let lapsed = &mut member.lapsed;
        lapsed.is_of_several |= !lapsed.is_of(offset);
        lapsed.offset.get_or_insert(offset);
        if lapsed.leases.len() == LATE_MAX
            && let Some(oldest) = lapsed.leases.pop_front()
        {
            self.late.remove(&oldest);
        }
        lapsed.leases.push_back(lease);
        self.late.insert(lease, id);
    }
}

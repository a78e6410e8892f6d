//! Who is given a suspect, which is delivered alone: a member that has room and holds nothing.
//!
//! ```text
//!   idle:      one of them in turn                       at most half of the members have suspects at a time
//!   draining:  while none is idle, one gets nothing new  for a lease's time at most; then another one, if there is
//! ```
//!
//! Draining makes idle what would never be. It costs the member its work, so it ends as soon as no suspect can go to it: it has left, has no
//! window, is silent, enough suspects are out, or none waits any more.

use super::{MemberId, RoundRobin, Silence};

/// What is known of members and suspects.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Members that have not left and hold one.
    pub(super) out: usize,
    pub(super) draining: Option<Draining>,
    /// Who was given the last one: the next idle one is behind it.
    last: MemberId,
}

/// The member that gets nothing new until it holds nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    id: MemberId,
    /// It has other work then, steady time …
    until_ms: u64,
    /// … for at least so long.
    spared_ms: u64,
}

impl RoundRobin {
    /// A member that holds nothing, to be given a suspect. While there is none, one that has room gets nothing new until it is idle, for a
    /// lease's time at most.
    pub(crate) fn next_idle(&mut self, now_ms: u64, lease_ms: u64) -> Option<MemberId> {
        if self.suspects.out >= (self.present / 2).max(1) {
            self.stop_draining();
            return None;
        }
        let draining = self.suspects.draining.map(|draining| draining.id);
        let behind = self.suspects.last.saturating_add(1)..;
        let in_turn = || self.idle.range(behind).next().or(self.idle.first()).copied();
        if let Some(id) = draining.filter(|id| self.idle.contains(id)).or_else(in_turn) {
            self.stop_draining();
            self.give_suspect(id);
            return Some(id);
        }
        if draining.is_none() {
            self.drain(now_ms, lease_ms);
        }
        None
    }

    /// No suspect waits any more, or none can go out.
    pub(crate) fn stop_draining(&mut self) {
        if let Some(Draining { id, .. }) = self.suspects.draining.take() {
            self.look_at(id);
        }
    }

    /// True when a member gets nothing new until it holds nothing.
    pub(super) fn is_draining(&self, id: MemberId) -> bool {
        self.suspects.draining.is_some_and(|draining| draining.id == id)
    }

    /// Lets the member go on that was drained for long enough.
    pub(super) fn end_draining(&mut self, now_ms: u64) {
        let due = self.suspects.draining.filter(|draining| draining.until_ms <= now_ms);
        if let Some(Draining { id, spared_ms, .. }) = due {
            if let Some(member) = self.members.get_mut(&id) {
                member.spared_until_ms = now_ms.saturating_add(spared_ms);
            }
            self.stop_draining();
        }
    }

    fn give_suspect(&mut self, id: MemberId) {
        let member = self.members.get_mut(&id).expect("who is idle exists");
        if member.silence == Silence::None {
            // What becomes of it tells of this message alone; of a silent member it tells nothing.
            self.silences.forget(member);
        }
        member.is_alone = true;
        self.suspects.out += 1;
        self.suspects.last = id;
        self.look_at(id);
    }

    /// The member with room that holds least gets nothing new for now.
    fn drain(&mut self, now_ms: u64, lease_ms: u64) {
        let in_turn = self.members.iter().filter(|(_, member)| member.turn.is_some());
        let drainable =
            in_turn.filter(|(_, member)| member.silence == Silence::None && member.spared_until_ms <= now_ms);
        let Some((&id, _)) = drainable.min_by_key(|(_, member)| member.held.len()) else { return };
        let until_ms = now_ms.saturating_add(lease_ms);
        self.suspects.draining = Some(Draining { id, until_ms, spared_ms: lease_ms });
        self.look_at(id);
    }
}

impl Suspects {
    /// When a member has been drained for long enough, steady time.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.draining.map(|draining| draining.until_ms)
    }
}

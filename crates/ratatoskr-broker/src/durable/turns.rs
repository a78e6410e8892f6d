//! Whose turn it is: the members of a subscription, what each holds, and the queue of those that have room.
//!
//! ```text
//!   queue:   members with room, in turn        ──▶ ordinary messages
//!   idle:    one of them that holds nothing    ──▶ a suspect, which is delivered alone (see `returning.rs`)
//!   draining: while none is idle, one gets nothing new until it is
//! ```
//!
//! A member that said nothing for the whole of a lease is *stalled*, because what it was given may lie unread in a buffer: until it settles
//! something or changes its window it is only tried with a single message, once in a lease's time. A member that has left while its leases go on (a pull) stays here,
//! without room, until the last of them has ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::{MemberId, Window};

/// The members of one subscription. Invariant: a member stands in the queue, once, exactly while it has room.
#[derive(Debug)]
pub(crate) struct Turns {
    members: BTreeMap<MemberId, Member>,
    queue: VecDeque<MemberId>,
    /// Messages any member may hold, whatever its window.
    held_max: u32,
    /// Members that have not left.
    present: usize,
    /// Those of them that hold a suspect.
    alone: usize,
    /// The member that gets nothing new until it holds nothing, so that it can have a suspect.
    draining: Option<MemberId>,
    /// When stalled members may be tried again, steady time.
    trials: BTreeSet<(u64, MemberId)>,
}

#[derive(Debug)]
struct Member {
    window: Window,
    /// Offsets.
    held: BTreeSet<u64>,
    held_bytes: u64,
    in_queue: bool,
    /// It has left, and its leases go on.
    has_left: bool,
    /// It holds a suspect, and nothing else until that has come back.
    is_alone: bool,
    /// Leases of it that ended since it was last heard from, and of which messages.
    lapsed: BTreeMap<u64, u64>,
    /// Earlier leases than this one had begun when it was last heard from.
    heard_before: u64,
    silence: Silence,
    /// The newest of its leases that it settled.
    settled_lease: u64,
}

/// Whether a member was heard from lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It was, or has had nothing to say yet.
    None,
    /// It was not for the whole of a lease.
    Stalled,
    /// The same, and it may be tried with one message.
    OnTrial,
}

impl Member {
    /// True when its window has room for a message, of which one always fits.
    fn has_room(&self, held_max: u32) -> bool {
        let trial_max = match self.silence {
            Silence::None => u32::MAX,
            Silence::Stalled => 0,
            Silence::OnTrial => 1,
        };
        let messages_max = self.window.messages.min(held_max).min(trial_max);
        let is_free = !self.has_left && !self.is_alone;
        is_free
            && self.held.len() < messages_max as usize
            && (self.held_bytes < self.window.bytes || self.held.is_empty())
    }
}

impl Turns {
    pub(crate) fn new(held_max: u32) -> Turns {
        Turns {
            members: BTreeMap::new(),
            queue: VecDeque::new(),
            held_max,
            present: 0,
            alone: 0,
            draining: None,
            trials: BTreeSet::new(),
        }
    }

    pub(crate) fn join(&mut self, id: MemberId, window: Window) {
        let member = Member {
            window,
            held: BTreeSet::new(),
            held_bytes: 0,
            in_queue: false,
            has_left: false,
            is_alone: false,
            lapsed: BTreeMap::new(),
            heard_before: 0,
            silence: Silence::None,
            settled_lease: 0,
        };
        self.members.insert(id, member);
        self.present += 1;
        self.look_at(id);
    }

    /// Changes a member's window, which is a sign of life.
    pub(crate) fn widen(&mut self, id: MemberId, window: Window, next_lease: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.window = window;
            self.note_life(id, next_lease);
            self.look_at(id);
        }
    }

    /// Lets a member go with all it holds; answers what that is.
    pub(crate) fn leave(&mut self, id: MemberId) -> BTreeSet<u64> {
        self.queue.retain(|other| *other != id);
        self.draining = self.draining.filter(|draining| *draining != id);
        let Some(member) = self.members.remove(&id) else { return BTreeSet::new() };
        self.present -= usize::from(!member.has_left);
        self.alone -= usize::from(member.is_alone && !member.has_left);
        if self.members.is_empty() {
            // An empty table keeps room for several, and most subscriptions are idle.
            self.members = BTreeMap::new();
            self.queue = VecDeque::new();
        }
        member.held
    }

    /// A member leaves, and what it holds stays leased.
    pub(crate) fn detach(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.held.is_empty() {
            self.leave(id);
            return;
        }
        member.has_left = true;
        self.present -= 1;
        self.alone -= usize::from(member.is_alone);
        self.look_at(id);
    }

    pub(crate) fn set_held_max(&mut self, held_max: u32) {
        self.held_max = held_max;
        let members: Vec<_> = self.members.keys().copied().collect();
        for member in members {
            self.look_at(member);
        }
    }

    /// The next member in turn that has room for so many bytes; it leaves the queue until it holds them.
    pub(crate) fn next(&mut self, bytes: u64) -> Option<MemberId> {
        for _ in 0..self.queue.len() {
            let id = self.queue.pop_front()?;
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.held.is_empty() || member.held_bytes + bytes <= member.window.bytes {
                member.in_queue = false;
                return Some(id);
            }
            self.queue.push_back(id);
        }
        None
    }

    /// A member that holds nothing, to be given a suspect. While there is none, one that has room gets nothing new until it is idle.
    /// At most half of the members have suspects at a time, so that the others get on.
    pub(crate) fn next_idle(&mut self) -> Option<MemberId> {
        if self.alone >= (self.present / 2).max(1) {
            return None;
        }
        let is_idle = |id: &MemberId| {
            self.members
                .get(id)
                .is_some_and(|member| member.held.is_empty() && member.silence != Silence::Stalled)
        };
        let draining = self.draining.filter(|id| is_idle(id));
        if let Some(id) = draining.or_else(|| self.queue.iter().copied().find(is_idle)) {
            self.stop_draining();
            self.queue.retain(|other| *other != id);
            let member = self.members.get_mut(&id).expect("it has just been looked at");
            member.in_queue = false;
            if member.silence == Silence::None {
                // What becomes of it tells of this message alone; of a silent member it tells nothing.
                member.lapsed.clear();
            }
            member.is_alone = true;
            self.alone += 1;
            return Some(id);
        }
        if self.draining.is_none() {
            let held = |id: &MemberId| self.members.get(id).map_or(0, |member| member.held.len());
            let is_heard_from = |id: &MemberId| !self.is_stalled(*id);
            self.draining = self.queue.iter().copied().filter(is_heard_from).min_by_key(held);
            self.draining.into_iter().for_each(|id| self.look_at(id));
        }
        None
    }

    /// No suspect waits any more.
    pub(crate) fn stop_draining(&mut self) {
        if let Some(id) = self.draining.take() {
            self.look_at(id);
        }
    }

    pub(crate) fn hold(&mut self, id: MemberId, offset: u64, bytes: u32) {
        let member = self.members.get_mut(&id).expect("a member in turn exists");
        member.held.insert(offset);
        member.held_bytes += u64::from(bytes);
        self.look_at(id);
    }

    pub(crate) fn let_go(&mut self, id: MemberId, offset: u64, bytes: u32) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !member.held.remove(&offset) {
            return;
        }
        member.held_bytes -= u64::from(bytes);
        if member.held.is_empty() && member.has_left {
            self.leave(id);
            return;
        }
        if member.held.is_empty() && std::mem::take(&mut member.is_alone) {
            self.alone -= 1;
        }
        self.look_at(id);
    }

    // ---- signs of life ----

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
        if !member.lapsed.is_empty() {
            member.lapsed.clear();
            member.silence = Silence::None;
            self.look_at(id);
        }
    }

    /// Somebody settles under a lease that has ended: its member is heard from, if that is known.
    pub(crate) fn note_late(&mut self, lease: u64, next_lease: u64) {
        let late = self.members.iter().find(|(_, member)| member.lapsed.contains_key(&lease));
        if let Some(id) = late.map(|(id, _)| *id) {
            self.note_life(id, next_lease);
        }
    }

    /// A lease of a member has ended; it may be tried again at a steady time. True when it tells of that one message: the member held no other that it may have been at work on, or
    /// it has settled a later one.
    pub(crate) fn note_lapsed(&mut self, id: MemberId, (offset, lease): (u64, u64), trial_ms: u64) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return true };
        let mut others = member.held.iter().chain(member.lapsed.values());
        let is_telling = others.all(|other| *other == offset) || member.settled_lease > lease;
        member.lapsed.insert(lease, offset);
        if member.heard_before <= lease {
            member.silence = Silence::Stalled;
            self.trials.insert((trial_ms, id));
            // It is not waited for any more.
            self.draining = self.draining.filter(|draining| *draining != id);
        }
        self.look_at(id);
        is_telling
    }

    /// Lets stalled members be tried whose time has come.
    pub(crate) fn pass_time(&mut self, now_ms: u64) {
        while let Some(&(trial_ms, id)) = self.trials.first()
            && trial_ms <= now_ms
        {
            self.trials.pop_first();
            if let Some(member) = self.members.get_mut(&id) {
                if member.silence == Silence::Stalled {
                    member.silence = Silence::OnTrial;
                }
                self.look_at(id);
            }
        }
    }

    // ---- questions ----

    /// When [`Turns::pass_time`] is due, steady time.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.trials.first().map(|&(trial_ms, _)| trial_ms)
    }

    pub(crate) fn contains(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    pub(crate) fn held_by(&self, id: MemberId) -> usize {
        self.members.get(&id).map_or(0, |member| member.held.len())
    }

    /// True when a member was not heard from for the whole of a lease, nor since.
    pub(crate) fn is_stalled(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(|member| member.silence != Silence::None)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// True when any member has room.
    pub(crate) fn has_room(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Puts a member into the queue if it has room, and takes it out if it has not.
    fn look_at(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let has_room = member.has_room(self.held_max) && self.draining != Some(id);
        if has_room && !member.in_queue {
            member.in_queue = true;
            self.queue.push_back(id);
        } else if !has_room && member.in_queue {
            member.in_queue = false;
            self.queue.retain(|other| *other != id);
        }
    }
}

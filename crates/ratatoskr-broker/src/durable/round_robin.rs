//! Whose turn it is: the members of a subscription, what each holds, and the queue of those that have room.
//!
//! ```text
//!   queue:   members with room, in turn        ──▶ ordinary messages
//!   idle:    those of them that hold nothing   ──▶ a suspect, which is delivered alone (`turns/suspects.rs`)
//! ```
//!
//! A member that said nothing for the whole of a lease is *stalled*, because what it was given may lie unread in a buffer: until it settles
//! something or changes its window it is only tried with a single message, once in a lease's time (`turns/silence.rs`). A member that has left while
//! its leases go on (a pull) stays here, without room, until the last of them has ended.
//!
//! However many members there are, an event of one costs as much as if there were few: whoever loses room stays in the queue as a place that
//! is passed over.

mod silence;
mod suspects;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::{MemberId, Window};
use silence::{Lapsed, Silence, Silences};
use suspects::Suspects;

/// Places in the queue that nobody stands at any more, besides as many as members with room.
const PASSED_OVER_MAX: usize = 64;

/// The members of one subscription. Invariant: a member stands in the queue, at one place that counts, exactly while it has room and is not
/// draining.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    members: BTreeMap<MemberId, Member>,
    /// Places, and who stands there: nobody any more unless it is the member's turn.
    queue: VecDeque<(u64, MemberId)>,
    last_turn: u64,
    /// Members that stand in the queue.
    queued: usize,
    /// Members that have room and hold nothing, also the one that is draining.
    idle: BTreeSet<MemberId>,
    /// Messages any member may hold, whatever its window.
    held_max: u32,
    /// Members that have not left.
    present: usize,
    suspects: Suspects,
    silences: Silences,
}

#[derive(Debug)]
struct Member {
    window: Window,
    /// Offsets.
    held: BTreeSet<u64>,
    held_bytes: u64,
    /// Its place in the queue, if it stands there.
    turn: Option<u64>,
    /// It has left, and its leases go on.
    has_left: bool,
    /// It holds a suspect, and nothing else until that has come back.
    is_alone: bool,
    /// Not drained again before, steady time.
    spared_until_ms: u64,
    lapsed: Lapsed,
    /// Earlier leases than this one had begun when it was last heard from.
    heard_before: u64,
    silence: Silence,
    /// The newest of its leases that it settled.
    settled_lease: u64,
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

    /// True when it will have room once it holds nothing.
    fn is_willing(&self, held_max: u32) -> bool {
        !self.has_left && self.window.messages.min(held_max) > 0 && self.silence == Silence::None
    }
}

impl RoundRobin {
    pub(crate) fn new(held_max: u32) -> RoundRobin {
        RoundRobin {
            members: BTreeMap::new(),
            queue: VecDeque::new(),
            last_turn: 0,
            queued: 0,
            idle: BTreeSet::new(),
            held_max,
            present: 0,
            suspects: Suspects::default(),
            silences: Silences::default(),
        }
    }

    pub(crate) fn join(&mut self, id: MemberId, window: Window) {
        let member = Member {
            window,
            held: BTreeSet::new(),
            held_bytes: 0,
            turn: None,
            has_left: false,
            is_alone: false,
            spared_until_ms: 0,
            lapsed: Lapsed::default(),
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
        let Some(mut member) = self.members.remove(&id) else { return BTreeSet::new() };
        if self.members.is_empty() {
            // An empty table keeps room for several, and most subscriptions are idle.
            *self = RoundRobin::new(self.held_max);
            return member.held;
        }
        self.silences.forget(&mut member);
        self.idle.remove(&id);
        self.queued -= usize::from(member.turn.is_some());
        self.present -= usize::from(!member.has_left);
        self.suspects.out -= usize::from(member.is_alone && !member.has_left);
        if self.is_draining(id) {
            self.stop_draining();
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
        self.suspects.out -= usize::from(member.is_alone);
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
            let (turn, id) = self.queue.pop_front()?;
            let Some(member) = self.members.get_mut(&id).filter(|member| member.turn == Some(turn)) else {
                continue;
            };
            if member.held.is_empty() || member.held_bytes + bytes <= member.window.bytes {
                member.turn = None;
                self.queued -= 1;
                return Some(id);
            }
            self.queue.push_back((turn, id));
        }
        None
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
            self.suspects.out -= 1;
        }
        self.look_at(id);
    }

    /// Lets silent members be tried, and one go on that was drained, whose time has come.
    pub(crate) fn pass_time(&mut self, now_ms: u64) {
        self.begin_trials(now_ms);
        self.end_draining(now_ms);
    }

    // ---- questions ----

    /// When [`RoundRobin::pass_time`] is due, steady time.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.silences.next_due_ms().into_iter().chain(self.suspects.next_due_ms()).min()
    }

    pub(crate) fn contains(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// True when a member has left, and its leases go on: those of a pull.
    pub(crate) fn has_left(&self, id: MemberId) -> bool {
        self.members.get(&id).is_none_or(|member| member.has_left)
    }

    pub(crate) fn held_by(&self, id: MemberId) -> usize {
        self.members.get(&id).map_or(0, |member| member.held.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// True when any member has room.
    pub(crate) fn has_room(&self) -> bool {
        self.queued > 0
    }

    /// Puts a member into the queue if it has room, and takes it out if it has not; likewise among the idle ones.
    fn look_at(&mut self, id: MemberId) {
        let is_draining = self.is_draining(id);
        let Some(member) = self.members.get_mut(&id) else { return };
        let has_room = member.has_room(self.held_max);
        if has_room && member.held.is_empty() {
            self.idle.insert(id);
        } else {
            self.idle.remove(&id);
        }
        let is_waited_for = is_draining && member.is_willing(self.held_max);
        if is_draining && !is_waited_for {
            self.suspects.draining = None;
        }
        let is_queued = has_room && !is_waited_for;
        if is_queued && member.turn.is_none() {
            self.last_turn += 1;
            member.turn = Some(self.last_turn);
            self.queued += 1;
            self.queue.push_back((self.last_turn, id));
            self.pass_over();
        } else if !is_queued && member.turn.take().is_some() {
            self.queued -= 1;
        }
    }

    /// Drops places that nobody stands at any more, once they are many.
    fn pass_over(&mut self) {
        if self.queue.len() > 2 * self.queued + PASSED_OVER_MAX {
            let members = &self.members;
            self.queue.retain(|(turn, id)| members.get(id).is_some_and(|member| member.turn == Some(*turn)));
        }
    }
}

#[cfg(test)]
mod tests;

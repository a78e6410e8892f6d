//! Whose turn it is: the members of a subscription, what each holds, and the queue of those that have room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::{MemberId, Window};

/// See the file's head. Invariant: a member stands in the queue, once, exactly while it has room.
#[derive(Debug)]
pub(crate) struct Turns {
    members: BTreeMap<MemberId, Member>,
    queue: VecDeque<MemberId>,
    /// Messages any member may hold, whatever its window.
    held_max: u32,
}

#[derive(Debug)]
struct Member {
    window: Window,
    held: BTreeSet<u64>,
    held_bytes: u64,
    in_queue: bool,
}

impl Turns {
    pub(crate) fn new(held_max: u32) -> Turns {
        Turns { members: BTreeMap::new(), queue: VecDeque::new(), held_max }
    }

    pub(crate) fn join(&mut self, id: MemberId, window: Window) {
        let (held, held_bytes, in_queue) = (BTreeSet::new(), 0, false);
        self.members.insert(id, Member { window, held, held_bytes, in_queue });
        self.look_at(id);
    }

    pub(crate) fn widen(&mut self, id: MemberId, window: Window) {
        if let Some(member) = self.members.get_mut(&id) {
            member.window = window;
            self.look_at(id);
        }
    }

    /// Lets a member go; answers what it held.
    pub(crate) fn leave(&mut self, id: MemberId) -> BTreeSet<u64> {
        self.queue.retain(|other| *other != id);
        self.members.remove(&id).map_or_else(BTreeSet::new, |member| member.held)
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

    pub(crate) fn hold(&mut self, id: MemberId, offset: u64, bytes: u32) {
        let member = self.members.get_mut(&id).expect("a member in turn exists");
        member.held.insert(offset);
        member.held_bytes += u64::from(bytes);
        self.look_at(id);
    }

    pub(crate) fn let_go(&mut self, id: MemberId, offset: u64, bytes: u32) {
        if let Some(member) = self.members.get_mut(&id)
            && member.held.remove(&offset)
        {
            member.held_bytes -= u64::from(bytes);
            self.look_at(id);
        }
    }

    pub(crate) fn contains(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    pub(crate) fn held_by(&self, id: MemberId) -> usize {
        self.members.get(&id).map_or(0, |member| member.held.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// True when any member has room.
    pub(crate) fn has_room(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Puts a member into the queue if it has room, and takes it out if it has not.
    fn look_at(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let held_max = member.window.messages.min(self.held_max) as usize;
        let has_room = member.held.len() < held_max
            && (member.held_bytes < member.window.bytes || member.held.is_empty());
        if has_room && !member.in_queue {
            member.in_queue = true;
            self.queue.push_back(id);
        } else if !has_room && member.in_queue {
            member.in_queue = false;
            self.queue.retain(|other| *other != id);
        }
    }
}

//! Lanes: of one key only one message is in play, the others wait behind it in order.
//!
//! ```text
//!   key a:  [7 in play]  9 12 15      7 fails, and fails again: 9, 12 and 15 stay behind it
//!   key b:  [8 in play]               and b does not notice
//! ```

use std::collections::{HashMap, VecDeque};

use super::event::Letter;

/// See the file's head. A lane exists while a message of its key is in play.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: HashMap<u64, VecDeque<(u64, Letter)>>,
    parked: usize,
}

impl Lanes {
    pub(crate) fn new() -> Lanes {
        Lanes { lanes: HashMap::new(), parked: 0 }
    }

    /// A message of a lane arrives: it comes back if it is in play now, else it parks.
    pub(crate) fn enter(&mut self, offset: u64, letter: Letter) -> Option<Letter> {
        let Some(parked) = self.lanes.get_mut(&letter.lane) else {
            self.lanes.insert(letter.lane, VecDeque::new());
            return Some(letter);
        };
        parked.push_back((offset, letter));
        self.parked += 1;
        None
    }

    /// The message in play is done with: answers the next one, which is in play now.
    pub(crate) fn leave(&mut self, lane: u64) -> Option<(u64, Letter)> {
        let next = self.lanes.get_mut(&lane)?.pop_front();
        match next {
            Some(_) => self.parked -= 1,
            None => drop(self.lanes.remove(&lane)),
        }
        next
    }

    /// Takes out the parked messages that are to go; answers their offsets, ascending.
    pub(crate) fn remove_parked(&mut self, mut is_to_go: impl FnMut(u64, &Letter) -> bool) -> Vec<u64> {
        let mut removed = Vec::new();
        for parked in self.lanes.values_mut() {
            parked.retain(|(offset, letter)| {
                let goes = is_to_go(*offset, letter);
                removed.extend(goes.then_some(*offset));
                !goes
            });
        }
        self.parked -= removed.len();
        removed.sort_unstable();
        removed
    }

    /// Offsets of all that are parked.
    pub(crate) fn parked_offsets(&self) -> impl Iterator<Item = u64> {
        self.lanes.values().flatten().map(|(offset, _)| *offset)
    }

    /// All that are parked.
    pub(crate) fn parked_letters(&self) -> impl Iterator<Item = &Letter> {
        self.lanes.values().flatten().map(|(_, letter)| letter)
    }

    /// There are no lanes any more: answers all that were parked.
    pub(crate) fn dissolve(&mut self) -> impl Iterator<Item = (u64, Letter)> + use<> {
        self.parked = 0;
        std::mem::take(&mut self.lanes).into_values().flatten()
    }

    /// Gives back the room of the table, if it is empty.
    pub(crate) fn give_back_room(&mut self) {
        if self.lanes.is_empty() {
            *self = Lanes::new();
        }
    }

    /// True when messages wait behind the one in play.
    pub(crate) fn is_waited_for(&self, lane: u64) -> bool {
        self.lanes.get(&lane).is_some_and(|parked| !parked.is_empty())
    }

    pub(crate) fn parked(&self) -> usize {
        self.parked
    }

    pub(crate) fn waited_for(&self) -> usize {
        self.lanes.values().filter(|parked| !parked.is_empty()).count()
    }

    pub(crate) fn find(&self, lane: u64, offset: u64) -> Option<&Letter> {
        let parked = self.lanes.get(&lane)?;
        // They park in order of offset.
        let at = parked.binary_search_by_key(&offset, |(parked, _)| *parked).ok()?;
        parked.get(at).map(|(_, letter)| letter)
    }
}

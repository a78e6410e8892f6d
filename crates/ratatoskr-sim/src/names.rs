//! The names in one folder, with everything a power cut may leave of them.
//!
//! ```text
//!   durable:  spare → 4          pending:  spare becomes 7.journal     current:  7.journal → 4
//!                                          new   → 9                             new → 9
//! ```
//!
//! A name is a pointer to a node. A change is visible at once and durable when the folder is synced. Before,
//! each pending change may or may not have reached the disk, whatever the others did; a rename is one change and
//! never leaves both names or none. Nodes themselves live in [`crate::tree`].

use std::collections::BTreeMap;

use fastrand::Rng;

/// A file or folder, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u64);

/// One folder's names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// What a power cut cannot take.
    durable: BTreeMap<String, NodeId>,
    /// What everybody sees.
    current: BTreeMap<String, NodeId>,
    /// Changes since the last sync, in order.
    pending: Vec<Change>,
}

/// A change of names.
#[derive(Clone, Debug)]
enum Change {
    Add { name: String, node: NodeId },
    Move { from: String, to: String, node: NodeId },
    Remove { name: String, node: NodeId },
}

impl Names {
    pub(crate) fn get(&self, name: &str) -> Option<NodeId> {
        self.current.get(name).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Sorted.
    pub(crate) fn list(&self) -> Vec<String> {
        self.current.keys().cloned().collect()
    }

    /// Nodes seen under a name now.
    pub(crate) fn current_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.current.values().copied()
    }

    /// Nodes that have a name now or may have one after a power cut.
    pub(crate) fn possible_nodes(&self) -> impl Iterator<Item = NodeId> {
        let pending = self.pending.iter().map(|change| match change {
            Change::Add { node, .. } | Change::Move { node, .. } | Change::Remove { node, .. } => *node,
        });
        self.current.values().chain(self.durable.values()).copied().chain(pending)
    }

    pub(crate) fn add(&mut self, name: &str, node: NodeId) {
        self.change(Change::Add { name: name.to_owned(), node });
    }

    /// Gives the node called `from` the name `to`; what had that name loses it.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> Option<NodeId> {
        let node = self.get(from)?;
        self.change(Change::Move { from: from.to_owned(), to: to.to_owned(), node });
        Some(node)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<NodeId> {
        let node = self.get(name)?;
        self.change(Change::Remove { name: name.to_owned(), node });
        Some(node)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// Every change becomes durable.
    pub(crate) fn sync(&mut self) {
        self.durable = self.current.clone();
        self.pending.clear();
    }

    /// A name vanishes by itself, durably.
    pub(crate) fn lose(&mut self, name: &str) {
        self.durable.remove(name);
        self.current.remove(name);
        self.pending.retain(|change| match change {
            Change::Add { name: of, .. } | Change::Remove { name: of, .. } | Change::Move { to: of, .. } => {
                of != name
            }
        });
    }

    pub(crate) fn surviving_nothing(&self) -> Names {
        Names::durable(self.durable.clone())
    }

    pub(crate) fn surviving_everything(&self) -> Names {
        Names::durable(self.current.clone())
    }

    /// The names as the disk holds them when chance decided which changes arrived.
    pub(crate) fn surviving_some(&self, rng: &mut Rng) -> Names {
        let in_order = rng.bool();
        let first_lost = rng.usize(0..=self.pending.len());
        let mut names = self.durable.clone();
        for (position, change) in self.pending.iter().enumerate() {
            let arrived = if in_order { position < first_lost } else { rng.bool() };
            if arrived {
                change.apply(&mut names);
            }
        }
        Names::durable(names)
    }

    fn durable(names: BTreeMap<String, NodeId>) -> Names {
        Names { durable: names.clone(), current: names, pending: Vec::new() }
    }
}

impl Change {
    /// Applies the change, also where an earlier one it built on never arrived.
    fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            Change::Add { name, node } => {
                names.insert(name.clone(), *node);
            }
            Change::Move { from, to, node } => {
                names.retain(|name, at| name != from || at != node);
                names.insert(to.clone(), *node);
            }
            Change::Remove { name, node } => {
                names.retain(|of, at| of != name || at != node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn outcomes(names: &Names) -> BTreeSet<Vec<(String, u64)>> {
        let outcome = |seed| {
            let survived = names.surviving_some(&mut Rng::with_seed(seed));
            survived.current.iter().map(|(name, node)| (name.clone(), node.0)).collect()
        };
        (0..200).map(outcome).collect()
    }

    #[test]
    fn a_new_name_needs_a_sync() {
        let mut names = Names::default();
        names.add("a", NodeId(1));
        assert_eq!(outcomes(&names), [vec![], vec![("a".to_owned(), 1)]].into_iter().collect());
        names.sync();
        assert_eq!(outcomes(&names), [vec![("a".to_owned(), 1)]].into_iter().collect());
    }

    #[test]
    fn a_rename_leaves_the_old_name_or_the_new_one() {
        let mut names = Names::default();
        names.add("a", NodeId(1));
        names.add("b", NodeId(2));
        names.sync();
        names.rename("a", "b");
        let old = vec![("a".to_owned(), 1), ("b".to_owned(), 2)];
        assert_eq!(outcomes(&names), [old, vec![("b".to_owned(), 1)]].into_iter().collect());
    }

    #[test]
    fn a_removed_name_comes_back_unless_synced() {
        let mut names = Names::default();
        names.add("a", NodeId(1));
        names.sync();
        names.remove("a");
        assert!(names.is_empty());
        assert_eq!(outcomes(&names), [vec![], vec![("a".to_owned(), 1)]].into_iter().collect());
        names.sync();
        assert_eq!(outcomes(&names), [vec![]].into_iter().collect());
    }

    #[test]
    fn a_later_change_may_arrive_without_an_earlier_one() {
        let mut names = Names::default();
        names.add("a", NodeId(1));
        names.add("b", NodeId(2));
        assert!(outcomes(&names).contains(&vec![("b".to_owned(), 2)]));
    }
}

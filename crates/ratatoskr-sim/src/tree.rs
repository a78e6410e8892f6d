//! Files and folders, found by path, and what a power cut leaves of all of them together.
//!
//! ```text
//!   node 0 (root) ──"journal"──▶ node 1 (folder) ──"1.journal"──▶ node 2 (content)
//! ```
//!
//! A node survives a power cut when a name that leads to it does: a synced file whose name, or whose
//! folder's name, was never synced is gone. Invariant: a path leads through folders only.
//! This file counts no operations and injects no faults; [`crate::disk`] does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use fastrand::Rng;

use crate::names::{Names, NodeId};
use crate::sectors::Content;

/// What a power cut leaves of what was never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Nothing of it.
    Nothing,
    /// All of it, as after the death of the process only.
    Everything,
    /// What chance, drawn from this seed, lets through: any mix of old and new sectors and names.
    Seeded(u64),
}

/// Every file and folder.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next_node: u64,
}

#[derive(Clone, Debug)]
enum Node {
    File(Content),
    Folder(Names),
}

const ROOT: NodeId = NodeId(0);

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    File(NodeId),
    Folder(NodeId),
}

impl Tree {
    pub(crate) fn new() -> Tree {
        Tree { nodes: [(ROOT, Node::Folder(Names::default()))].into(), next_node: 1 }
    }

    pub(crate) fn find(&self, path: &Path) -> io::Result<Found> {
        let mut at = ROOT;
        for name in parts(path)? {
            at = self.names(at)?.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(match self.nodes[&at] {
            Node::File(_) => Found::File(at),
            Node::Folder(_) => Found::Folder(at),
        })
    }

    pub(crate) fn find_file(&self, path: &Path) -> io::Result<NodeId> {
        match self.find(path)? {
            Found::File(node) => Ok(node),
            Found::Folder(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(crate) fn find_folder(&self, path: &Path) -> io::Result<NodeId> {
        match self.find(path)? {
            Found::Folder(node) => Ok(node),
            Found::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The folder a path's last name stands in, and that name.
    fn place(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let mut names = parts(path)?;
        let last = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for name in names {
            at = self.names(at)?.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        self.names(at)?;
        Ok((at, last))
    }

    fn names(&self, node: NodeId) -> io::Result<&Names> {
        match &self.nodes[&node] {
            Node::Folder(names) => Ok(names),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn names_mut(&mut self, node: NodeId) -> &mut Names {
        match self.nodes.get_mut(&node) {
            Some(Node::Folder(names)) => names,
            _ => unreachable!("callers hold the node of a folder"),
        }
    }

    /// A file's content. Files are kept while the machine runs, so that open handles stay good.
    pub(crate) fn content(&self, node: NodeId) -> &Content {
        match &self.nodes[&node] {
            Node::File(content) => content,
            Node::Folder(_) => unreachable!("callers hold the node of a file"),
        }
    }

    pub(crate) fn content_mut(&mut self, node: NodeId) -> &mut Content {
        match self.nodes.get_mut(&node) {
            Some(Node::File(content)) => content,
            _ => unreachable!("callers hold the node of a file"),
        }
    }

    pub(crate) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        let (folder, name) = self.place(path)?;
        if self.names(folder)?.get(&name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(self.add(folder, &name, Node::File(Content::default())))
    }

    /// Creates a folder and its parents.
    pub(crate) fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in parts(path)? {
            at = match self.names(at)?.get(&name) {
                Some(node) => node,
                None => self.add(at, &name, Node::Folder(Names::default())),
            };
        }
        match self.nodes[&at] {
            Node::Folder(_) => Ok(()),
            Node::File(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn add(&mut self, folder: NodeId, name: &str, node: Node) -> NodeId {
        let id = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(id, node);
        self.names_mut(folder).add(name, id);
        id
    }

    /// Renames a file within its folder. The broker never moves one across folders, where a power cut
    /// could leave both names or none; it is refused here.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.find_file(from)?;
        let ((folder, old), (target, new)) = (self.place(from)?, self.place(to)?);
        if folder != target {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        if self.names(folder)?.get(&new).is_some() {
            self.find_file(to)?;
        }
        if old != new {
            self.names_mut(folder).rename(&old, &new);
        }
        Ok(())
    }

    pub(crate) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let (folder, name) = self.place(path)?;
        self.names_mut(folder).remove(&name);
        Ok(())
    }

    pub(crate) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find_folder(path)?;
        if !self.names(node)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (folder, name) = self.place(path)?;
        self.names_mut(folder).remove(&name);
        Ok(())
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.names(self.find_folder(path)?)?.list())
    }

    pub(crate) fn sync_folder(&mut self, node: NodeId) {
        self.names_mut(node).sync();
    }

    /// Bytes of disk all files take that have a name.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        let named = self.reachable(|names| names.current_nodes().collect());
        let files = named.iter().filter_map(|node| match &self.nodes[node] {
            Node::File(content) => Some(content.allocated_bytes()),
            Node::Folder(_) => None,
        });
        files.sum()
    }

    /// A file vanishes by itself, durably.
    pub(crate) fn lose_file(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let (folder, name) = self.place(path)?;
        self.names_mut(folder).lose(&name);
        Ok(())
    }

    /// The same files after the death of the process: nothing is lost, and nothing more is durable.
    pub(crate) fn after_process_death(&self) -> Tree {
        let kept = self.reachable(|names| names.possible_nodes().collect());
        let nodes = kept.into_iter().map(|node| (node, self.nodes[&node].clone())).collect();
        Tree { nodes, next_node: self.next_node }
    }

    /// The files as a machine finds them that starts after a power cut.
    pub(crate) fn after_power_cut(&self, survival: Survival) -> Tree {
        let mut rng = Rng::with_seed(match survival {
            Survival::Seeded(seed) => seed,
            Survival::Nothing | Survival::Everything => 0,
        });
        let kept = self.reachable(|names| names.possible_nodes().collect());
        let survive = |node: NodeId| (node, self.nodes[&node].survive(survival, &mut rng));
        let mut tree = Tree { nodes: kept.into_iter().map(survive).collect(), next_node: self.next_node };
        let named = tree.reachable(|names| names.current_nodes().collect());
        tree.nodes.retain(|node, _| named.contains(node));
        tree
    }

    fn reachable(&self, next: impl Fn(&Names) -> Vec<NodeId>) -> BTreeSet<NodeId> {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![ROOT]);
        while let Some(node) = waiting.pop() {
            if seen.insert(node)
                && let Node::Folder(names) = &self.nodes[&node]
            {
                waiting.extend(next(names));
            }
        }
        seen
    }
}

impl Node {
    fn survive(&self, survival: Survival, rng: &mut Rng) -> Node {
        match (self, survival) {
            (Node::File(content), Survival::Nothing) => Node::File(content.surviving_nothing()),
            (Node::File(content), Survival::Everything) => Node::File(content.surviving_everything()),
            (Node::File(content), Survival::Seeded(_)) => Node::File(content.surviving_some(rng)),
            (Node::Folder(names), Survival::Nothing) => Node::Folder(names.surviving_nothing()),
            (Node::Folder(names), Survival::Everything) => Node::Folder(names.surviving_everything()),
            (Node::Folder(names), Survival::Seeded(_)) => Node::Folder(names.surviving_some(rng)),
        }
    }
}

/// The names a path is made of, from the root; a relative path starts there as well.
fn parts(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synced_file_without_a_synced_name_is_lost() {
        let mut tree = Tree::new();
        tree.create_folder(Path::new("/a/b")).unwrap();
        let file = tree.create_file(Path::new("/a/b/file")).unwrap();
        tree.content_mut(file).write(b"content", 0);
        tree.content_mut(file).sync();
        let folder = tree.find_folder(Path::new("/a/b")).unwrap();
        tree.sync_folder(folder);
        let cut = tree.after_power_cut(Survival::Nothing);
        assert!(cut.find(Path::new("/a")).is_err(), "the folder's own name was never synced");

        tree.sync_folder(ROOT);
        let parent = tree.find_folder(Path::new("/a")).unwrap();
        tree.sync_folder(parent);
        let cut = tree.after_power_cut(Survival::Nothing);
        assert_eq!(cut.content(cut.find_file(Path::new("/a/b/file")).unwrap()).len(), 7);
    }

    #[test]
    fn after_process_death_everything_is_there_but_not_durable() {
        let mut tree = Tree::new();
        let file = tree.create_file(Path::new("file")).unwrap();
        tree.content_mut(file).write(b"content", 0);
        let after = tree.after_process_death();
        assert_eq!(after.content(after.find_file(Path::new("/file")).unwrap()).len(), 7);
        assert!(after.after_power_cut(Survival::Nothing).find(Path::new("/file")).is_err());
    }

    #[test]
    fn refusals_name_their_kind() {
        let mut tree = Tree::new();
        tree.create_folder(Path::new("/d/e")).unwrap();
        tree.create_file(Path::new("/d/f")).unwrap();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        let (d, e, f) = (Path::new("/d"), Path::new("/d/e"), Path::new("/d/f"));
        assert_eq!(kind(tree.create_file(f).map(|_| ())), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(tree.remove_folder(d)), io::ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind(tree.remove_file(e)), io::ErrorKind::IsADirectory);
        assert_eq!(kind(tree.remove_folder(f)), io::ErrorKind::NotADirectory);
        assert_eq!(kind(tree.create_folder(&f.join("x"))), io::ErrorKind::NotADirectory);
        assert_eq!(kind(tree.rename(f, Path::new("/g"))), io::ErrorKind::CrossesDevices);
        assert_eq!(kind(tree.rename(&d.join("gone"), f)), io::ErrorKind::NotFound);
        assert_eq!(kind(tree.find(Path::new("/d/../d")).map(|_| ())), io::ErrorKind::InvalidInput);
    }
}

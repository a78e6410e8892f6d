//! [`SimDisk`]: a disk in memory that loses, tears and fails on purpose.
//!
//! ```text
//!   SimDisk ──open──▶ handle ──write, sync──▶ machine: one lock around
//!      │                                        faults  what shall go wrong, and when
//!      ├─ crash(survival) ─▶ new SimDisk        tree    folders ▶ names ▶ content
//!      └─ kill()          ─▶ new SimDisk        trace   one line for every change
//! ```
//!
//! Every call that changes something is an operation: counted, written to the trace, and a place where
//! [`SimDisk::cut_power_after`] can stop the machine. A crash makes a *new* disk, so that one run can be crashed many
//! times with different luck; the old one, with its handles and locks, belongs to the dead process.
//! Invariant: the same calls give the same trace and the same crashes; nothing here draws from anything but a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use ratatoskr_log::{Disk, DiskFile, DiskLock, OpenMode};

use crate::faults::{Faults, Lie};
use crate::handle::{SimFile, SimLock};
use crate::names::NodeId;
use crate::tree::{Found, Survival, Tree};

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) machine: Arc<Mutex<Machine>>,
}

/// Everything behind the lock.
pub(crate) struct Machine {
    pub(crate) tree: Tree,
    pub(crate) faults: Faults,
    pub(crate) locked: BTreeSet<NodeId>,
    /// Files that are open, by a number of each handle.
    handles: BTreeMap<u64, Handle>,
    next_handle: u64,
    /// Operations so far.
    operations: u64,
    trace: Vec<String>,
}

/// What the machine knows of an open file.
struct Handle {
    node: NodeId,
    /// A write of the file has failed on its way to the disk, and the handle's next sync reports it.
    has_lost_writes: bool,
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    /// An empty disk without bounds.
    pub fn new() -> SimDisk {
        SimDisk::with(Tree::new(), Faults::default())
    }

    fn with(tree: Tree, faults: Faults) -> SimDisk {
        let machine = Machine {
            tree,
            faults,
            locked: BTreeSet::new(),
            handles: BTreeMap::new(),
            next_handle: 0,
            operations: 0,
            trace: Vec::new(),
        };
        SimDisk { machine: Arc::new(Mutex::new(machine)) }
    }

    /// What a machine finds that starts after the power of this one was cut. This disk stays as it is, so it
    /// can be asked again with other luck.
    #[must_use]
    pub fn crash(&self, survival: Survival) -> SimDisk {
        let machine = self.machine.lock();
        SimDisk::with(machine.tree.after_power_cut(survival), machine.faults.of_next_start())
    }

    /// What a new process finds after the death of this one: everything written, nothing more durable than it was.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        let machine = self.machine.lock();
        SimDisk::with(machine.tree.after_process_death(), machine.faults.of_next_start())
    }

    /// Operations so far: calls that change something.
    pub fn operations(&self) -> u64 {
        self.machine.lock().operations
    }

    /// One line per operation.
    pub fn trace(&self) -> Vec<String> {
        self.machine.lock().trace.clone()
    }

    /// Lets so many operations succeed, counted from the disk's first; after them every call fails, reads
    /// included, as calls of a machine without power would.
    pub fn cut_power_after(&self, operations: u64) {
        self.machine.lock().faults.cut_after = Some(operations);
    }

    /// True once a call has failed for want of power.
    pub fn is_off(&self) -> bool {
        let machine = self.machine.lock();
        machine.faults.cut_after.is_some_and(|after| machine.operations > after)
    }

    /// Makes the `nth` file sync from now (1 is the next) fail. What it should have made durable is dropped.
    pub fn fail_sync(&self, nth: u64) {
        self.machine.lock().faults.fail_sync(nth);
    }

    /// Makes the `nth` write from now (1 is the next) fail, having written nothing.
    pub fn fail_write(&self, nth: u64) {
        self.machine.lock().faults.fail_write(nth);
    }

    /// Lets the `nth` write from now (1 is the next) succeed, and then fail on its way to the disk: it, and all else its file has not
    /// synced, is dropped. As on Linux every handle that is open on the file then hears of it at its next sync, once; a handle
    /// that is opened later never does.
    pub fn fail_write_back(&self, nth: u64) {
        self.machine.lock().faults.fail_write_back(nth);
    }

    /// Refuses the `nth` call from now (1 is the next) that opens a file or folder, for want of file descriptors.
    pub fn refuse_open(&self, nth: u64) {
        self.machine.lock().faults.refuse_open(nth);
    }

    /// True while the call that [`SimDisk::refuse_open`] is to refuse has not come.
    pub fn will_refuse(&self) -> bool {
        self.machine.lock().faults.will_refuse()
    }

    /// Bounds how many files may be open at a time; opening a folder needs a free descriptor too. `None` is no bound.
    pub fn set_open_files_max(&self, files: Option<usize>) {
        self.machine.lock().faults.open_files_max = files;
    }

    /// Files that are open now.
    pub fn open_files(&self) -> usize {
        self.machine.lock().handles.len()
    }

    /// Makes every read of a file fail.
    pub fn fail_reads(&self, path: impl Into<PathBuf>) {
        self.machine.lock().faults.unreadable.insert(path.into());
    }

    /// Lets every file be read again.
    pub fn heal_reads(&self) {
        self.machine.lock().faults.unreadable.clear();
    }

    /// Gives the disk a size in bytes; writes over what a file already has always fit. `None` is no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine.lock().faults.capacity_bytes = bytes;
    }

    /// Bytes all files take, in whole sectors.
    pub fn used_bytes(&self) -> u64 {
        self.machine.lock().tree.allocated_bytes()
    }

    /// Makes the disk pretend.
    pub fn lie_about(&self, lie: Lie) {
        self.machine.lock().faults.lies.insert(lie);
    }

    /// Flips one bit (0 to 7) of a file on the platter. `UnexpectedEof` behind its end.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let node = machine.tree.find_file(path)?;
        let flipped = machine.tree.content_mut(node).flip_bit(position, bit % 8);
        if flipped { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Takes the end of a file away, durably.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let node = machine.tree.find_file(path)?;
        machine.tree.content_mut(node).lose_end(len);
        Ok(())
    }

    /// Takes a file away, durably.
    pub fn delete(&self, path: &Path) -> io::Result<()> {
        self.machine.lock().tree.lose_file(path)
    }
}

impl Machine {
    /// Counts an operation, or fails because the power is off.
    pub(crate) fn operate(&mut self, what: fmt::Arguments<'_>) -> io::Result<()> {
        if self.faults.cut_after.is_some_and(|after| self.operations >= after) {
            // One more than allowed marks the machine as off.
            self.operations = self.faults.cut_after.map_or(0, |after| after + 1);
            return Err(no_power());
        }
        self.operations += 1;
        self.trace.push(what.to_string());
        Ok(())
    }

    /// Fails when the power is off.
    pub(crate) fn check_power(&self) -> io::Result<()> {
        let off = self.faults.cut_after.is_some_and(|after| self.operations > after);
        if off { Err(no_power()) } else { Ok(()) }
    }

    /// Fails while no file descriptor is free.
    fn check_descriptors(&mut self) -> io::Result<()> {
        self.faults.check_descriptors(self.handles.len())
    }

    fn open(&mut self, node: NodeId) -> u64 {
        self.next_handle += 1;
        self.handles.insert(self.next_handle, Handle { node, has_lost_writes: false });
        self.next_handle
    }

    pub(crate) fn close(&mut self, handle: u64) {
        self.handles.remove(&handle);
    }

    /// What a file has not synced fails on its way to the disk.
    pub(crate) fn lose_writes(&mut self, node: NodeId) {
        self.tree.content_mut(node).drop_unsynced();
        for handle in self.handles.values_mut().filter(|handle| handle.node == node) {
            handle.has_lost_writes = true;
        }
    }

    /// True once for each handle that was open when writes of its file were lost.
    pub(crate) fn take_lost_writes(&mut self, handle: u64) -> bool {
        self.handles.get_mut(&handle).is_some_and(|handle| std::mem::take(&mut handle.has_lost_writes))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(format_args!("rename {} {}", from.display(), to.display()))?;
        self.tree.rename(from, to)
    }
}

fn no_power() -> io::Error {
    io::Error::other("the simulated machine has no power")
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine.lock();
        machine.check_power()?;
        machine.check_descriptors()?;
        let node = match mode {
            OpenMode::CreateNew => {
                machine.operate(format_args!("create {}", path.display()))?;
                machine.tree.create_file(path)?
            }
            OpenMode::Read | OpenMode::Write => machine.tree.find_file(path)?,
        };
        let handle = machine.open(node);
        drop(machine);
        Ok(Arc::new(SimFile { machine: self.machine.clone(), node, handle, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.machine.lock().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.operate(format_args!("remove {}", path.display()))?;
        machine.tree.remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.operate(format_args!("create folder {}", path.display()))?;
        machine.tree.create_folder(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.operate(format_args!("remove folder {}", path.display()))?;
        machine.tree.remove_folder(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut machine = self.machine.lock();
        machine.check_power()?;
        machine.check_descriptors()?;
        machine.tree.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.operate(format_args!("sync folder {}", dir.display()))?;
        machine.check_descriptors()?;
        let node = machine.tree.find_folder(dir)?;
        if !machine.faults.lies.contains(&Lie::FolderSync) {
            machine.tree.sync_folder(node);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut machine = self.machine.lock();
        machine.check_power()?;
        let node = match machine.tree.find(path) {
            Ok(Found::File(node)) => node,
            Ok(Found::Folder(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                machine.operate(format_args!("create {}", path.display()))?;
                machine.tree.create_file(path)?
            }
            Err(error) => return Err(error),
        };
        if !machine.locked.insert(node) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(machine);
        Ok(Box::new(SimLock { machine: self.machine.clone(), node }))
    }
}

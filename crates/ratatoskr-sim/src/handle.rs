//! What a [`crate::SimDisk`] hands out: open files and held locks.
//!
//! A handle outlives its file's name, as on a real system, and its machine's power: every call on it then fails.
//! Here the faults of content come true: a full disk, a failed write or sync, a write that is lost behind everybody's back, a read error.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use ratatoskr_log::{DiskFile, DiskLock, SECTOR_BYTES};

use crate::disk::Machine;
use crate::faults::{Lie, input_output};
use crate::names::NodeId;

/// An open file.
pub(crate) struct SimFile {
    pub(crate) machine: Arc<Mutex<Machine>>,
    pub(crate) node: NodeId,
    /// Its number among all that are open.
    pub(crate) handle: u64,
    /// The name it was opened by: for the trace and for faults that go by name.
    pub(crate) path: PathBuf,
}

/// A held lock.
pub(crate) struct SimLock {
    pub(crate) machine: Arc<Mutex<Machine>>,
    pub(crate) node: NodeId,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let machine = self.machine.lock();
        machine.check_power()?;
        machine.faults.check_read(&self.path)?;
        Ok(machine.tree.content(self.node).read(buffer, position))
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut machine = self.machine.lock();
        let (path, end) = (self.path.display(), position + bytes.len() as u64);
        let checksum = crc32c::crc32c(bytes);
        machine.operate(format_args!("write {path} {position}..{end} {checksum:08x}"))?;
        if machine.faults.write_fails() {
            return Err(input_output(&self.path));
        }
        let fitting = machine.fitting_bytes(self.node, bytes.len(), position);
        machine.tree.content_mut(self.node).write(&bytes[..fitting], position);
        if machine.faults.write_back_fails() {
            machine.lose_writes(self.node);
        }
        if fitting < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.operate(format_args!("sync {}", self.path.display()))?;
        if machine.faults.sync_fails() {
            machine.lose_writes(self.node);
        }
        if machine.take_lost_writes(self.handle) {
            return Err(input_output(&self.path));
        }
        if !machine.faults.lies.contains(&Lie::FileSync) {
            machine.tree.content_mut(self.node).sync();
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let machine = self.machine.lock();
        machine.check_power()?;
        Ok(machine.tree.content(self.node).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut machine = self.machine.lock();
        machine.operate(format_args!("set length {} {len}", self.path.display()))?;
        machine.tree.content_mut(self.node).set_len(len);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.machine.lock().close(self.handle);
    }
}

impl Machine {
    /// How many bytes of a write fit on the disk: all, or whole sectors up to where it is full.
    fn fitting_bytes(&self, node: NodeId, length: usize, position: u64) -> usize {
        let Some(capacity) = self.faults.capacity_bytes else { return length };
        let content = self.tree.content(node);
        let free = capacity.saturating_sub(self.tree.allocated_bytes());
        if content.missing_bytes(position, length) <= free {
            return length;
        }
        let to_next_sector = SECTOR_BYTES - position as usize % SECTOR_BYTES;
        let mut fitting = 0;
        let mut next = to_next_sector;
        while next < length && content.missing_bytes(position, next) <= free {
            fitting = next;
            next += SECTOR_BYTES;
        }
        fitting
    }
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.lock().locked.remove(&self.node);
    }
}

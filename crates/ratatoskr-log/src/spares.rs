//! Journal files before and after use.
//!
//! ```text
//!   (nothing) ──prepare──▶ spare ──take──▶ N.journal ──retire──▶ spare, or kept under its name, or removed
//!                            ▲                                             │
//!                            └───────────────────prepare───────────────────┘
//! ```
//!
//! A file is zero-filled before it is used, because overwriting allocated bytes syncs far faster than
//! growing a file, and because a full disk then shows between blocks and never inside one. Filling one and removing one
//! keep the disk from the journal for many milliseconds; a checkpoint retires two files at a time, so one waits
//! to be the next spare: a broker at work soon does neither.
//!
//! On a disk without room for a whole file a spare may be **short**: publishing goes on in what the file before keeps for a full disk, as far
//! as the short spare has the same room (`journal.rs`). It grows in place.
//! Invariant: a file named `spare` has all of its length allocated and durable once it is said to be ready.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::block::PAGE_BYTES;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::layout::Layout;

/// Zeros written at a time while filling a new file. A kernel that does not preempt itself holds a core for the whole of a write.
const FILL_BYTES: usize = 64 << 10;
/// Ahead of time, a file is synced whenever so much of it is filled: a sync of the journal never waits behind more.
const FILL_SYNC_BYTES: u64 = 256 << 10;
/// A short spare is made, and grows, by at least this part of a whole file.
const SHORT_PART: u64 = 128;

/// How a file is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillMode {
    /// Somebody waits for it.
    Now,
    /// It will be needed later; the journal is being synced meanwhile.
    Ahead,
}

/// The next journal file, shared by the journal writer (takes) and the flusher (prepares, retires).
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    layout: Layout,
    file_bytes: u64,
    /// Bytes by which a short spare has to grow so that publishing goes on; 0 while it does. Set by the journal writer.
    wanted: AtomicU64,
    /// Held while a file is being filled, so that only one is.
    filling: Mutex<()>,
    /// Never locked while a whole file is being filled: a rotation asks for it.
    files: Mutex<SpareFiles>,
}

/// What there is.
#[derive(Default)]
struct SpareFiles {
    /// Bytes of the file `spare` that stands ready, 0 if none does.
    ready_bytes: u64,
    /// A retired file that will be the next one. Should the process end first, recovery finds it below the checkpoint and retires it again.
    retired: Option<u64>,
}

impl Spares {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, file_bytes: u64) -> Spares {
        let (wanted, filling, files) = (AtomicU64::new(0), Mutex::new(()), Mutex::default());
        Spares { disk, layout, file_bytes, wanted, filling, files }
    }

    /// Looks at what an earlier run left: a spare stays unless it is longer than a whole file, all else goes.
    pub(crate) fn adopt(&self) -> Result<(), LogError> {
        self.remove_if_there(&self.layout.spare_new())?;
        let spare = self.layout.spare();
        let length = self.length_of(&spare)?;
        if length == 0 {
            return Ok(());
        }
        let ready_bytes = if length < self.file_bytes { self.refill(&spare, length)? } else { length };
        if !(self.shortest()..=self.file_bytes).contains(&ready_bytes) {
            return self.remove_if_there(&spare);
        }
        self.files.lock().ready_bytes = ready_bytes;
        Ok(())
    }

    /// A short spare may have been growing when the run before ended: not all of its length need be allocated.
    fn refill(&self, spare: &Path, length: u64) -> Result<u64, LogError> {
        let file = self.open(spare, OpenMode::Write)?;
        let to = length / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let filled = self.fill(&*file, spare, (0, to), FillMode::Now)?;
        file.set_len(filled).map_err(|error| LogError::io("cut", spare, error))?;
        file.sync_data().map_err(|error| LogError::io("sync", spare, error))?;
        Ok(filled)
    }

    /// True when a rotation would find a whole file.
    pub(crate) fn is_ready(&self) -> bool {
        self.files.lock().ready_bytes >= self.file_bytes
    }

    /// Bytes for blocks in a spare that stands ready and is short, 0 if none is.
    pub(crate) fn short_bytes(&self) -> u64 {
        let ready_bytes = self.files.lock().ready_bytes;
        if ready_bytes < self.file_bytes { ready_bytes.saturating_sub(PAGE_BYTES as u64) } else { 0 }
    }

    /// The least a short spare has, and grows by.
    pub(crate) fn shortest(&self) -> u64 {
        (self.file_bytes / SHORT_PART).max(2 * PAGE_BYTES as u64)
    }

    /// Says by how much a short spare has to grow; 0: by nothing.
    pub(crate) fn want(&self, bytes: u64) {
        self.wanted.store(bytes, Ordering::Relaxed);
    }

    /// True while publishing waits for a spare, were it a short one.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Makes sure a whole spare stands ready. Takes tens of milliseconds when it has to fill one, more ahead of time.
    /// [`LogError::Full`] may leave a short one, if one is wanted.
    pub(crate) fn prepare(&self, mode: FillMode) -> Result<(), LogError> {
        let _filling = self.filling.lock();
        if self.is_ready() || self.reuse_retired()? || self.lengthen(mode)? {
            return Ok(());
        }
        let path = self.layout.spare_new();
        self.remove_if_there(&path)?;
        let ready_bytes = match self.create(&path, mode) {
            Ok(bytes) if bytes > 0 => bytes,
            other => {
                // Half a file only takes room; if it cannot be removed, the next start does it.
                let _ = self.disk.remove(&path);
                return other.and_then(|_| self.full());
            }
        };
        let spare = self.layout.spare();
        self.disk.rename(&path, &spare).map_err(|error| LogError::refused("rename to", &spare, error))?;
        self.sync_folder()?;
        self.files.lock().ready_bytes = ready_bytes;
        if ready_bytes < self.file_bytes { self.full() } else { Ok(()) }
    }

    fn full(&self) -> Result<(), LogError> {
        Err(LogError::Full { path: self.layout.spare(), bytes: self.file_bytes })
    }

    /// Makes the retired file that was kept the spare. False if there is none.
    fn reuse_retired(&self) -> Result<bool, LogError> {
        let mut files = self.files.lock();
        let Some(number) = files.retired.take() else { return Ok(false) };
        self.reuse(number, self.file_bytes, &mut files)?;
        Ok(true)
    }

    /// Lets a short spare grow as far as there is room. False if there is none; an error unless it is whole then.
    fn lengthen(&self, mode: FillMode) -> Result<bool, LogError> {
        // Nobody may take it meanwhile.
        let mut files = self.files.lock();
        let from = files.ready_bytes;
        if from == 0 {
            return Ok(false);
        }
        let spare = self.layout.spare();
        let file = self.open(&spare, OpenMode::Write)?;
        match self.fill_some(&*file, &spare, from, mode) {
            Ok(bytes) => files.ready_bytes = bytes.max(from),
            Err(error) => {
                // Of what a failed sync covered nothing is known.
                files.ready_bytes = 0;
                return Err(error);
            }
        }
        if files.ready_bytes < self.file_bytes { self.full().map(|()| true) } else { Ok(true) }
    }

    /// Answers the length of the new file, 0 if it is of no use.
    fn create(&self, path: &Path, mode: FillMode) -> Result<u64, LogError> {
        let file = self.open(path, OpenMode::CreateNew)?;
        self.fill_some(&*file, path, 0, mode)
    }

    /// Makes a file whole, or, on a full disk, as long as is wanted and at least half of what is left: segments and a checkpoint need room
    /// as well. Answers its length then, all of it durable.
    fn fill_some(
        &self,
        file: &dyn DiskFile,
        path: &Path,
        from: u64,
        mode: FillMode,
    ) -> Result<u64, LogError> {
        let mut length = self.fill(file, path, (from, self.file_bytes), mode)?;
        if length < self.file_bytes {
            let (found, wanted) = (length - from, self.wanted.load(Ordering::Relaxed));
            let kept = (found / 2).max(wanted.min(found / 8 * 7)) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
            let is_of_use = wanted > 0 && mode == FillMode::Now && kept >= self.shortest();
            length = if is_of_use { from + kept } else { from };
            file.set_len(length).map_err(|error| LogError::io("cut", path, error))?;
        }
        file.sync_data().map_err(|error| LogError::io("sync", path, error))?;
        Ok(length)
    }

    /// Writes zeros as far as there is room; answers where they end.
    fn fill(
        &self,
        file: &dyn DiskFile,
        path: &Path,
        (from, to): (u64, u64),
        mode: FillMode,
    ) -> Result<u64, LogError> {
        let zeros = vec![0; FILL_BYTES.min(self.file_bytes as usize)];
        let mut at = from;
        while at < to {
            let length = (to - at).min(zeros.len() as u64) as usize;
            match file.write_all_at(&zeros[..length], at).map_err(|error| LogError::io("fill", path, error)) {
                Err(error) if error.is_full() => break,
                other => other?,
            }
            at += length as u64;
            if mode == FillMode::Ahead && at.is_multiple_of(FILL_SYNC_BYTES) {
                file.sync_data().map_err(|error| LogError::io("sync", path, error))?;
            }
        }
        Ok(at)
    }

    /// Waits for a spare, or prepares one; a short one is taken as well. It is gone once [`Taken::used`] is called.
    pub(crate) fn take(&self) -> Result<Taken<'_>, LogError> {
        loop {
            let files = self.files.lock();
            if files.ready_bytes > 0 {
                return Ok(Taken { files });
            }
            drop(files);
            self.prepare(FillMode::Now)?;
        }
    }

    /// A journal file that is no longer needed becomes the spare or the next one, or goes. A short one is better than none: whoever starts
    /// next must have one to go on in.
    pub(crate) fn retire(&self, number: u64) -> Result<(), LogError> {
        let path = self.layout.journal_file(number);
        let mut files = self.files.lock();
        // It may have been kept before.
        files.retired = files.retired.filter(|kept| *kept != number);
        // One that cannot be looked at goes.
        let length = self.length_of(&path).unwrap_or(0);
        if length == self.file_bytes && files.ready_bytes == length && files.retired.is_none() {
            files.retired = Some(number);
            return Ok(());
        }
        if (files.ready_bytes + 1..=self.file_bytes).contains(&length) {
            return self.reuse(number, length, &mut files);
        }
        drop(files);
        self.remove_if_there(&path)?;
        self.sync_folder()
    }

    fn reuse(&self, number: u64, length: u64, files: &mut SpareFiles) -> Result<(), LogError> {
        let (path, spare) = (self.layout.journal_file(number), self.layout.spare());
        self.disk.rename(&path, &spare).map_err(|error| LogError::refused("rename to", &spare, error))?;
        self.sync_folder()?;
        files.ready_bytes = length;
        Ok(())
    }

    /// True when the journal file at a path can be the next spare.
    pub(crate) fn has_full_length(&self, path: &Path) -> bool {
        self.length_of(path).is_ok_and(|length| length == self.file_bytes)
    }

    /// Bytes of a file, 0 if there is none.
    fn length_of(&self, path: &Path) -> Result<u64, LogError> {
        match self.disk.open(path, OpenMode::Read) {
            Ok(file) => file.len().map_err(|error| LogError::refused("measure", path, error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(LogError::refused("open", path, error)),
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, LogError> {
        let action = if mode == OpenMode::CreateNew { "create" } else { "open" };
        self.disk.open(path, mode).map_err(|error| LogError::refused(action, path, error))
    }

    fn remove_if_there(&self, path: &Path) -> Result<(), LogError> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::refused("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    fn sync_folder(&self) -> Result<(), LogError> {
        let folder = self.layout.journal();
        self.disk.sync_dir(&folder).map_err(|error| LogError::sync(&folder, error))
    }
}

/// The spare, reserved: nobody else can take it meanwhile.
pub(crate) struct Taken<'a> {
    files: MutexGuard<'a, SpareFiles>,
}

impl Taken<'_> {
    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.ready_bytes
    }

    /// It now has another name.
    pub(crate) fn used(mut self) {
        self.files.ready_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    const FILE_BYTES: u64 = 512 << 10;

    fn open(folder: &Path) -> (Spares, Layout) {
        let layout = Layout::new(folder.to_owned());
        fs::create_dir_all(layout.journal()).unwrap();
        (Spares::new(Arc::new(RealDisk), layout.clone(), FILE_BYTES), layout)
    }

    /// What the files hold, by a byte of their own.
    fn write_used(layout: &Layout, number: u64) {
        fs::write(layout.journal_file(number), vec![number as u8; FILE_BYTES as usize]).unwrap();
    }

    /// The spare is taken; answers its first byte.
    fn take(spares: &Spares, layout: &Layout) -> u8 {
        let taken = spares.take().unwrap();
        let content = fs::read(layout.spare()).unwrap();
        assert_eq!(content.len() as u64, FILE_BYTES);
        fs::remove_file(layout.spare()).unwrap();
        taken.used();
        content[0]
    }

    #[test]
    fn two_files_that_retire_come_again_and_a_third_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (spares, layout) = open(folder.path());
        for number in 1..=3 {
            write_used(&layout, number);
            spares.retire(number).unwrap();
        }
        // A checkpoint lists what lies below it, whether that was retired before or not.
        spares.retire(2).unwrap();
        assert_eq!(crate::journal::list_files(&spares.disk, &layout).unwrap(), [2]);
        assert_eq!(take(&spares, &layout), 1);
        spares.prepare(FillMode::Ahead).unwrap();
        assert_eq!(take(&spares, &layout), 2);
        spares.prepare(FillMode::Ahead).unwrap();
        assert_eq!(take(&spares, &layout), 0, "nothing was left, so a file was filled");
    }

    #[test]
    fn a_file_that_was_kept_becomes_the_spare_when_it_retires_again() {
        let folder = tempfile::tempdir().unwrap();
        let (spares, layout) = open(folder.path());
        for number in 1..=2 {
            write_used(&layout, number);
            spares.retire(number).unwrap();
        }
        assert_eq!(take(&spares, &layout), 1);
        spares.retire(2).unwrap();
        assert_eq!(take(&spares, &layout), 2);
        assert!(!spares.is_ready() && !spares.reuse_retired().unwrap());
    }
}

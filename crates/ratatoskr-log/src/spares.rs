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
//! Invariant: a file named `spare` has its full length, all of it allocated and durable.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::disk::{Disk, OpenMode};
use crate::error::LogError;
use crate::layout::Layout;

/// Zeros written at a time while filling a new file. A kernel that does not preempt itself holds a core for the whole of a write.
const FILL_BYTES: usize = 64 << 10;
/// Ahead of time, a file is synced whenever so much of it is filled: a sync of the journal never waits behind more.
const FILL_SYNC_BYTES: u64 = 256 << 10;

/// How a file is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Somebody waits for it.
    Now,
    /// It will be needed later; the journal is being synced meanwhile.
    Ahead,
}

/// The next journal file, shared by the journal writer (takes) and the scribe (prepares, retires).
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    layout: Layout,
    file_bytes: u64,
    /// Held while a file is being filled, so that only one is.
    filling: Mutex<()>,
    /// Never locked while a file is being filled: a rotation asks for it.
    stock: Mutex<Stock>,
}

/// What there is.
#[derive(Default)]
struct Stock {
    /// True while `spare` stands ready.
    is_ready: bool,
    /// A retired file that will be the next one. Should the process end first, recovery finds it below the checkpoint and retires it again.
    retired: Option<u64>,
}

impl Spares {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, file_bytes: u64) -> Spares {
        Spares { disk, layout, file_bytes, filling: Mutex::new(()), stock: Mutex::default() }
    }

    /// Looks at what an earlier run left: a spare of the right length stays, all else goes.
    pub(crate) fn adopt(&self) -> Result<(), LogError> {
        self.remove_if_there(&self.layout.spare_new())?;
        let spare = self.layout.spare();
        let length = match self.disk.open(&spare, OpenMode::Read) {
            Ok(file) => file.len().map_err(|error| LogError::refused("measure", &spare, error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LogError::refused("open", &spare, error)),
        };
        if length == self.file_bytes {
            self.stock.lock().is_ready = true;
            return Ok(());
        }
        self.remove_if_there(&spare)
    }

    /// Bytes of a file that is new.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// True when a rotation would find a file.
    pub(crate) fn is_ready(&self) -> bool {
        self.stock.lock().is_ready
    }

    /// Makes sure a spare stands ready. Takes tens of milliseconds when it has to fill one, more ahead of time.
    pub(crate) fn prepare(&self, haste: Haste) -> Result<(), LogError> {
        let _filling = self.filling.lock();
        if self.is_ready() || self.reuse_retired()? {
            return Ok(());
        }
        let path = self.layout.spare_new();
        self.remove_if_there(&path)?;
        if let Err(error) = self.fill(&path, haste) {
            // Half a file only takes room; if it cannot be removed, the next start does it.
            let _ = self.disk.remove(&path);
            return Err(match error {
                LogError::Full { path, .. } => LogError::Full { path, bytes: self.file_bytes },
                other => other,
            });
        }
        let spare = self.layout.spare();
        self.disk.rename(&path, &spare).map_err(|error| LogError::refused("rename to", &spare, error))?;
        self.sync_folder()?;
        self.stock.lock().is_ready = true;
        Ok(())
    }

    /// Makes the retired file that was kept the spare. False if there is none.
    fn reuse_retired(&self) -> Result<bool, LogError> {
        let mut stock = self.stock.lock();
        let Some(number) = stock.retired.take() else { return Ok(false) };
        self.reuse(number, &mut stock)?;
        Ok(true)
    }

    fn fill(&self, path: &Path, haste: Haste) -> Result<(), LogError> {
        let file = self
            .disk
            .open(path, OpenMode::CreateNew)
            .map_err(|error| LogError::refused("create", path, error))?;
        let zeros = vec![0; FILL_BYTES.min(self.file_bytes as usize)];
        let mut at = 0;
        while at < self.file_bytes {
            let length = (self.file_bytes - at).min(zeros.len() as u64) as usize;
            file.write_all_at(&zeros[..length], at).map_err(|error| LogError::io("fill", path, error))?;
            at += length as u64;
            if haste == Haste::Ahead && at.is_multiple_of(FILL_SYNC_BYTES) {
                file.sync_data().map_err(|error| LogError::io("sync", path, error))?;
            }
        }
        file.sync_data().map_err(|error| LogError::io("sync", path, error))
    }

    /// Waits for a spare, or prepares one. It is gone once [`Taken::used`] is called.
    pub(crate) fn take(&self) -> Result<Taken<'_>, LogError> {
        loop {
            let stock = self.stock.lock();
            if stock.is_ready {
                return Ok(Taken { stock });
            }
            drop(stock);
            self.prepare(Haste::Now)?;
        }
    }

    /// A journal file that is no longer needed becomes the spare or the next one, or goes.
    pub(crate) fn retire(&self, number: u64) -> Result<(), LogError> {
        let path = self.layout.journal_file(number);
        let mut stock = self.stock.lock();
        // It may have been kept before.
        stock.retired = stock.retired.filter(|kept| *kept != number);
        let is_wanted = !stock.is_ready || stock.retired.is_none();
        if !is_wanted || !self.has_full_length(&path) {
            drop(stock);
            self.remove_if_there(&path)?;
            return self.sync_folder();
        }
        if stock.is_ready {
            stock.retired = Some(number);
            return Ok(());
        }
        self.reuse(number, &mut stock)
    }

    fn reuse(&self, number: u64, stock: &mut Stock) -> Result<(), LogError> {
        let (path, spare) = (self.layout.journal_file(number), self.layout.spare());
        self.disk.rename(&path, &spare).map_err(|error| LogError::refused("rename to", &spare, error))?;
        self.sync_folder()?;
        stock.is_ready = true;
        Ok(())
    }

    /// True when the journal file at a path can be the next spare.
    pub(crate) fn has_full_length(&self, path: &Path) -> bool {
        let file = self.disk.open(path, OpenMode::Read);
        file.and_then(|file| file.len()).is_ok_and(|length| length == self.file_bytes)
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
    stock: MutexGuard<'a, Stock>,
}

impl Taken<'_> {
    /// It now has another name.
    pub(crate) fn used(mut self) {
        self.stock.is_ready = false;
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
        spares.prepare(Haste::Ahead).unwrap();
        assert_eq!(take(&spares, &layout), 2);
        spares.prepare(Haste::Ahead).unwrap();
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

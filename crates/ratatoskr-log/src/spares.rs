//! Journal files before and after use.
//!
//! ```text
//!   (nothing) ──prepare──▶ spare ──take──▶ N.journal ──retire──▶ spare, or removed
//! ```
//!
//! A file is zero-filled before it is used, because overwriting allocated bytes syncs far faster than
//! growing a file, and because a full disk then shows between blocks and never inside one.
//! Invariant: a file named `spare` has its full length, all of it allocated and durable.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::disk::{Disk, OpenMode};
use crate::error::LogError;
use crate::layout::Layout;

/// Zeros written at a time while filling a new file.
const FILL_BYTES: usize = 1 << 20;

/// The next journal file, shared by the journal writer (takes) and the scribe (prepares, retires).
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    layout: Layout,
    file_bytes: u64,
    /// Held while a file is being filled, so that only one is.
    filling: Mutex<()>,
    /// True while `spare` stands ready.
    ready: Mutex<bool>,
}

impl Spares {
    pub(crate) fn new(disk: Arc<dyn Disk>, layout: Layout, file_bytes: u64) -> Spares {
        Spares { disk, layout, file_bytes, filling: Mutex::new(()), ready: Mutex::new(false) }
    }

    /// Looks at what an earlier run left: a spare of the right length stays, all else goes.
    pub(crate) fn adopt(&self) -> Result<(), LogError> {
        self.remove_if_there(&self.layout.spare_new())?;
        let spare = self.layout.spare();
        let length = match self.disk.open(&spare, OpenMode::Read) {
            Ok(file) => file.len().map_err(|error| LogError::io("measure", &spare, error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LogError::io("open", &spare, error)),
        };
        if length == self.file_bytes {
            *self.ready.lock() = true;
            return Ok(());
        }
        self.remove_if_there(&spare)
    }

    /// True when a rotation would find a file.
    pub(crate) fn is_ready(&self) -> bool {
        *self.ready.lock()
    }

    /// Makes sure a spare stands ready. Takes tens of milliseconds when it has to fill one.
    pub(crate) fn prepare(&self) -> Result<(), LogError> {
        let _filling = self.filling.lock();
        if self.is_ready() {
            return Ok(());
        }
        let path = self.layout.spare_new();
        self.remove_if_there(&path)?;
        if let Err(error) = self.fill(&path) {
            // Half a file only takes room; if it cannot be removed, the next start does it.
            let _ = self.disk.remove(&path);
            return Err(match error {
                LogError::Full { path, .. } => LogError::Full { path, bytes: self.file_bytes },
                other => other,
            });
        }
        let spare = self.layout.spare();
        self.disk.rename(&path, &spare).map_err(|error| LogError::io("rename to", &spare, error))?;
        self.sync_folder()?;
        *self.ready.lock() = true;
        Ok(())
    }

    fn fill(&self, path: &Path) -> Result<(), LogError> {
        let file =
            self.disk.open(path, OpenMode::CreateNew).map_err(|error| LogError::io("create", path, error))?;
        let zeros = vec![0; FILL_BYTES.min(self.file_bytes as usize)];
        let mut at = 0;
        while at < self.file_bytes {
            let length = (self.file_bytes - at).min(zeros.len() as u64) as usize;
            file.write_all_at(&zeros[..length], at).map_err(|error| LogError::io("fill", path, error))?;
            at += length as u64;
        }
        file.sync_data().map_err(|error| LogError::io("sync", path, error))
    }

    /// Waits for a spare, or prepares one. It is gone once [`Taken::used`] is called.
    pub(crate) fn take(&self) -> Result<Taken<'_>, LogError> {
        loop {
            let ready = self.ready.lock();
            if *ready {
                return Ok(Taken { ready });
            }
            drop(ready);
            self.prepare()?;
        }
    }

    /// A journal file that is no longer needed becomes the spare, or goes if there is one.
    pub(crate) fn retire(&self, number: u64) -> Result<(), LogError> {
        let path = self.layout.journal_file(number);
        let mut ready = self.ready.lock();
        if *ready || !self.has_full_length(&path) {
            drop(ready);
            self.remove_if_there(&path)?;
            return self.sync_folder();
        }
        let spare = self.layout.spare();
        self.disk.rename(&path, &spare).map_err(|error| LogError::io("rename to", &spare, error))?;
        self.sync_folder()?;
        *ready = true;
        Ok(())
    }

    fn has_full_length(&self, path: &Path) -> bool {
        let file = self.disk.open(path, OpenMode::Read);
        file.and_then(|file| file.len()).is_ok_and(|length| length == self.file_bytes)
    }

    fn remove_if_there(&self, path: &Path) -> Result<(), LogError> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::io("remove", path, error))
            }
            _ => Ok(()),
        }
    }

    fn sync_folder(&self) -> Result<(), LogError> {
        let folder = self.layout.journal();
        self.disk.sync_dir(&folder).map_err(|error| LogError::io("sync", &folder, error))
    }
}

/// The spare, reserved: nobody else can take it meanwhile.
pub(crate) struct Taken<'a> {
    ready: MutexGuard<'a, bool>,
}

impl Taken<'_> {
    /// It now has another name.
    pub(crate) fn used(mut self) {
        *self.ready = false;
    }
}

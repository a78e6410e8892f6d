//! A disk that lies, for builds that are broken on purpose.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use ratatoskr_log::{Disk, DiskFile, DiskLock, OpenMode};

use super::Broken;

/// See the file's head.
pub(super) struct LyingDisk {
    disk: Arc<dyn Disk>,
    lie: Broken,
}

impl LyingDisk {
    pub(super) fn new(disk: Arc<dyn Disk>, lie: Broken) -> LyingDisk {
        LyingDisk { disk, lie }
    }
}

struct NoLock;

impl DiskLock for NoLock {}

impl Disk for LyingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        let is_journal = path.parent().is_some_and(|folder| folder.ends_with("journal"));
        let (lie, held) = (self.lie, Mutex::default());
        Ok(if is_journal { Arc::new(LyingFile { file, lie, held }) } else { file })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        match self.disk.lock(path) {
            Err(_) if self.lie == Broken::Lock => Ok(Box::new(NoLock)),
            other => other,
        }
    }
}

/// So many writes are gathered before they are done.
const HELD_MAX: usize = 8;

/// A journal file that keeps back the last writes it was given, or swallows what a sync says.
struct LyingFile {
    file: Arc<dyn DiskFile>,
    lie: Broken,
    held: Mutex<Vec<(Vec<u8>, u64)>>,
}

impl DiskFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        if self.lie != Broken::Late {
            return self.file.write_all_at(bytes, position);
        }
        let mut held = self.held.lock();
        held.push((bytes.to_owned(), position));
        if held.len() < HELD_MAX {
            return Ok(());
        }
        held.drain(..).try_for_each(|(bytes, position)| self.file.write_all_at(&bytes, position))
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.file.sync_data() {
            Err(_) if self.lie == Broken::Sync => Ok(()),
            other => other,
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

impl Drop for LyingFile {
    fn drop(&mut self) {
        for (bytes, position) in self.held.lock().drain(..) {
            let _ = self.file.write_all_at(&bytes, position);
        }
    }
}

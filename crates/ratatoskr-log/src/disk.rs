//! The seam to the file system: everything this crate does to a disk goes through [`Disk`].
//!
//! The trait is as small as the crash argument in `docs/log-format.md` allows, and says of each
//! call what survives a power cut:
//!
//! | call | after it returns | after a power cut |
//! |---|---|---|
//! | `write_all_at`, `set_len` | readers see it | only after `sync_data`; before, any mix of old and new 512-byte sectors |
//! | `sync_data` | content is durable | the *name* of a new file is not: that takes `sync_dir` |
//! | `open(CreateNew)`, `rename`, `remove` | names are changed | only after `sync_dir` of the folder |
//!
//! [`RealDisk`] is the operating system. The simulator has another that loses, tears and fails on
//! purpose. What this file deliberately does not do: buffering, retries, or any knowledge of
//! what the bytes mean.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// The sector size the crash argument assumes: a sector is written wholly or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Messages lie in these files in the clear, so only the broker's own user can read what it creates, whatever the process's umask.
const FILE_MODE: u32 = 0o600;
/// The same for folders.
const FOLDER_MODE: u32 = 0o700;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
}

/// A file system, real or simulated. Paths are absolute or relative to the process.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file. `NotFound` and `AlreadyExists` are told apart by [`io::ErrorKind`].
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing what stood at `to`. Durable after `sync_dir` of the folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after `sync_dir` of the folder.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder and its parents; it may exist. Durable after `sync_dir` of the parent.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Names (not paths) of what a folder holds, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on a file (created if missing), held until the value is dropped.
    /// `WouldBlock` when another process, or another holder in this one, has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file: positioned reads and writes from any thread.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all bytes at a position, growing the file if need be.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Makes content and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True when the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or grows (with zeros) the file. Durable after `sync_data`.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A held lock; dropping it lets go.
pub trait DiskLock: Send + Sync {}

/// The operating system's file system. What it creates can be read by the owner alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that are taken.
    pub used_bytes: u64,
    /// Bytes that this process can still take.
    pub available_bytes: u64,
}

impl DiskSpace {
    /// Looks at the file system a folder is on. For people to be told: what the log does depends on writes that fail, not on this.
    pub fn of(folder: &Path) -> io::Result<DiskSpace> {
        let found = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        let used_bytes = bytes(found.f_blocks.saturating_sub(found.f_bfree));
        Ok(DiskSpace { used_bytes, available_bytes: bytes(found.f_bavail) })
    }

    /// What is taken, in percent; a file system without a size is empty.
    pub fn used_percent(&self) -> u64 {
        let all = self.used_bytes.saturating_add(self.available_bytes).max(1);
        (u128::from(self.used_bytes) * 100 / u128::from(all)) as u64
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

struct RealLock {
    /// The lock lives as long as the open file.
    _file: File,
}

impl DiskLock for RealLock {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_created_can_be_read_by_its_owner_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("data").join("topics");
        RealDisk.create_dir(&folder).unwrap();
        let (file, lock) = (folder.join("segment"), folder.join("lock"));
        RealDisk.open(&file, OpenMode::CreateNew).unwrap();
        let _held = RealDisk.lock(&lock).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (path, wanted) in
            [(folder.parent().unwrap(), 0o700), (&folder, 0o700), (&file, 0o600), (&lock, 0o600)]
        {
            assert_eq!(mode(path), wanted, "{}", path.display());
        }
    }
}

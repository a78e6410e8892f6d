//! What shall go wrong, and when: kept apart from the disk that it happens to.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// The process has as many files open as it may: the same number on every Unix.
const EMFILE: i32 = 24;

/// A call that reports success and does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// `sync_data` does nothing: as if it were acknowledged before the sync.
    FileSync,
    /// `sync_dir` does nothing: as if folders were never synced.
    FolderSync,
}

/// Faults in wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// State-changing operations that still succeed; none is no limit.
    pub(crate) cut_after: Option<u64>,
    /// Syncs that still succeed before one fails.
    fail_sync_in: Option<u64>,
    /// Writes that still succeed before one fails.
    fail_write_in: Option<u64>,
    /// Writes that still reach the disk before the writing back of one fails.
    fail_write_back_in: Option<u64>,
    /// Calls that open something and still succeed before one is refused.
    refuse_open_in: Option<u64>,
    /// Files that may be open at a time; none is no limit.
    pub(crate) open_files_max: Option<usize>,
    /// Files that cannot be read.
    pub(crate) unreadable: BTreeSet<PathBuf>,
    /// Bytes the disk has.
    pub(crate) capacity_bytes: Option<u64>,
    /// What the disk only pretends to do.
    pub(crate) lies: BTreeSet<Lie>,
}

impl Faults {
    pub(crate) fn fail_sync(&mut self, nth: u64) {
        self.fail_sync_in = Some(nth.max(1));
    }

    pub(crate) fn fail_write(&mut self, nth: u64) {
        self.fail_write_in = Some(nth.max(1));
    }

    pub(crate) fn fail_write_back(&mut self, nth: u64) {
        self.fail_write_back_in = Some(nth.max(1));
    }

    /// True once, when the write that is never to reach the disk has come.
    pub(crate) fn write_back_fails(&mut self) -> bool {
        counts_down(&mut self.fail_write_back_in)
    }

    pub(crate) fn refuse_open(&mut self, nth: u64) {
        self.refuse_open_in = Some(nth.max(1));
    }

    /// True while the call that is to be refused has not come.
    pub(crate) fn will_refuse(&self) -> bool {
        self.refuse_open_in.is_some()
    }

    /// Fails while so many open files leave no descriptor, and once, when the call that was to be refused has come.
    pub(crate) fn check_descriptors(&mut self, open_files: usize) -> io::Result<()> {
        let is_used_up = self.open_files_max.is_some_and(|max| open_files >= max);
        if counts_down(&mut self.refuse_open_in) || is_used_up {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        Ok(())
    }

    /// True once, when the sync that was to fail has come.
    pub(crate) fn sync_fails(&mut self) -> bool {
        counts_down(&mut self.fail_sync_in)
    }

    /// True once, when the write that was to fail has come.
    pub(crate) fn write_fails(&mut self) -> bool {
        counts_down(&mut self.fail_write_in)
    }

    /// What stays with the machine when its process dies or its power is cut: size and character, not the
    /// faults that were in wait.
    pub(crate) fn of_next_start(&self) -> Faults {
        Faults { capacity_bytes: self.capacity_bytes, lies: self.lies.clone(), ..Faults::default() }
    }

    pub(crate) fn check_read(&self, path: &Path) -> io::Result<()> {
        if self.unreadable.contains(path) { Err(input_output(path)) } else { Ok(()) }
    }
}

fn counts_down(left: &mut Option<u64>) -> bool {
    let Some(count) = left else { return false };
    *count -= 1;
    let now = *count == 0;
    if now {
        *left = None;
    }
    now
}

/// The error of a disk that could not do as told (`EIO` on a real one).
pub(crate) fn input_output(path: &Path) -> io::Error {
    io::Error::other(format!("simulated input/output error at {}", path.display()))
}

//! [`WatchedFiles`]: files that are read again when they have changed.
//!
//! ```text
//!   look: stamps of now ──▶ noted ──▶ others than before, or too young? ──▶ read
//! ```
//!
//! The stamps are taken *before* the files are read, never after: a change that comes while they are being read then shows at the next look.
//! Stamps are coarse, too: a file that is written twice within one tick of the file system's clock looks the same both times. So a file that
//! had been changed shortly before a look is read once more at the next one.
//!
//! Invariant: whatever a file says for two looks is read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// File systems keep times as coarsely as this, FAT being the worst.
const STAMP_TICK: Duration = Duration::from_secs(2);

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct WatchedFiles {
    /// The state of each file before it was read last.
    seen: Vec<(PathBuf, Stamp)>,
    /// One of them was so young that it may have changed since without showing it.
    is_young: bool,
}

/// What a look at files says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They are as they were when they were read.
    Same,
    /// They show no change, and may have changed all the same: read them once more.
    Young,
    /// They have changed, or nothing is known of them yet: read them.
    Changed,
}

/// What tells one state of a file from another. `None` if there is none, or it cannot be looked at.
type Stamp = Option<State>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// When its content changed, seconds and nanoseconds. Whoever writes it can set it to what they like.
    modified: (i64, i64),
    /// When anything about it changed, by the system's clock; nobody can set it.
    changed: (i64, i64),
    bytes: u64,
    /// Which file it is, for links that are pointed elsewhere.
    device: u64,
    inode: u64,
}

impl WatchedFiles {
    /// Whether the files are to be read now. To be called before they are.
    pub(crate) fn look(&mut self, files: Vec<PathBuf>) -> Look {
        self.look_at(files, SystemTime::now())
    }

    fn look_at(&mut self, files: Vec<PathBuf>, now: SystemTime) -> Look {
        let young_from = now.checked_sub(STAMP_TICK).and_then(|from| from.duration_since(UNIX_EPOCH).ok());
        let young_from = young_from.map_or(0, |from| i64::try_from(from.as_secs()).unwrap_or(i64::MAX));
        let stamped: Vec<(PathBuf, Stamp)> = files.into_iter().map(stamped).collect();
        let look = match (self.seen != stamped, self.is_young) {
            (true, _) => Look::Changed,
            (false, true) => Look::Young,
            (false, false) => Look::Same,
        };
        self.is_young =
            stamped.iter().any(|(_, stamp)| stamp.is_some_and(|state| state.changed.0 >= young_from));
        self.seen = stamped;
        look
    }
}

fn stamped(file: PathBuf) -> (PathBuf, Stamp) {
    let state = |metadata: Metadata| State {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        bytes: metadata.len(),
        device: metadata.dev(),
        inode: metadata.ino(),
    };
    let stamp = std::fs::metadata(&file).ok().map(state);
    (file, stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks so long after the file's last change that it is young no more.
    fn later() -> SystemTime {
        SystemTime::now() + 2 * STAMP_TICK
    }

    #[test]
    fn a_change_that_comes_while_the_file_is_being_read_is_seen_at_the_next_look() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        std::fs::write(&path, "first").unwrap();
        let mut watched = WatchedFiles::default();
        assert_eq!(watched.look_at(vec![path.clone()], later()), Look::Changed, "nothing has been read yet");
        // Here it is read; and while it is:
        std::fs::write(&path, "second, and longer").unwrap();
        assert_eq!(watched.look_at(vec![path.clone()], later()), Look::Changed);
        assert_eq!(watched.look_at(vec![path], later()), Look::Same);
    }

    #[test]
    fn a_file_that_changed_just_before_a_look_is_read_once_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let mut watched = WatchedFiles::default();
        assert_eq!(watched.look(vec![path.clone()]), Look::Changed);
        // Nothing shows a change, and yet there may have been one.
        assert_eq!(watched.look_at(vec![path.clone()], later()), Look::Young);
        assert_eq!(watched.look_at(vec![path], later()), Look::Same);
    }

    #[test]
    fn files_that_come_go_or_are_other_ones_are_to_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let mut watched = WatchedFiles::default();
        assert_eq!(watched.look_at(vec![one.clone()], later()), Look::Changed);
        assert_eq!(watched.look_at(vec![one.clone()], later()), Look::Same, "it is still not there");
        std::fs::write(&one, "text").unwrap();
        assert_eq!(watched.look_at(vec![one.clone()], later()), Look::Changed);
        std::fs::write(&two, "text").unwrap();
        std::fs::rename(&two, &one).unwrap();
        assert_eq!(watched.look_at(vec![one.clone()], later()), Look::Changed, "of the same length");
        assert_eq!(watched.look_at(vec![one, two], later()), Look::Changed, "there is one more");
    }
}

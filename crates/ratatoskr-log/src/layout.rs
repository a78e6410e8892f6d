//! Names in the data directory: the one place that knows them.

use std::path::{Path, PathBuf};

/// Paths of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

/// The most characters of a topic's name that go into its folder's name; the number alone is unique.
const NAME_IN_FOLDER_MAX: usize = 100;

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Layout {
        Layout { root }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    pub(crate) fn checkpoint_new(&self) -> PathBuf {
        self.root.join("checkpoint.new")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub(crate) fn journal_file(&self, number: u64) -> PathBuf {
        self.journal().join(format!("{number:016}.journal"))
    }

    pub(crate) fn spare(&self) -> PathBuf {
        self.journal().join("spare")
    }

    pub(crate) fn spare_new(&self) -> PathBuf {
        self.journal().join("spare.new")
    }

    pub(crate) fn topics(&self) -> PathBuf {
        self.root.join("topics")
    }

    pub(crate) fn topic(&self, number: u32, name: &str) -> PathBuf {
        let shown = &name[..name.len().min(NAME_IN_FOLDER_MAX)];
        self.topics().join(format!("{number:08}-{shown}"))
    }
}

/// The number in a journal file's name.
pub(crate) fn journal_number(name: &str) -> Option<u64> {
    name.strip_suffix(".journal")?.parse().ok()
}

/// The number in a topic folder's name.
pub(crate) fn topic_number(name: &str) -> Option<u32> {
    name.split_once('-')?.0.parse().ok()
}

pub(crate) fn segment_file(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.segment"))
}

pub(crate) fn index_file(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.index"))
}

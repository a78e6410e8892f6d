//! Reading the journal back: every block from a boundary on, in order, or the reason why not.
//!
//! ```text
//!   0007.journal, complete              0008.journal, the last
//!  ┌──────┬─────┬─────┬───┬─────┐      ┌──────┬─────┬─────┬─ ✗ ─┬─ ─ ─ ─
//!  │header│block│block│ … │block│      │header│block│block│torn?│ leftovers
//!  └──────┴─────┴─────┴───┴─────┘      └──────┴─────┴─────┴─────┴─ ─ ─ ─
//! ```
//!
//! Where blocks stop, it is decided whether that is the end, a torn write (cut and counted) or damage (an error). Only the
//! last file may end in a torn write, and only if no later block of it says that this one was synced. Files are read
//! through a window, so memory does not depend on their size. Nothing here writes, but [`replay`] syncs what was read before anybody acts on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ratatoskr_state::{Batch, Position, read_u32};

use crate::block::{BLOCK_HEADER_BYTES, Block, PAGE_BYTES, pages};
use crate::checkpoint;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::header::{FileHeader, FileKind};
use crate::journal::{JournalStart, list_files};
use crate::layout::Layout;

/// Bytes of a file looked at together; a larger block widens the window while it is read.
const WINDOW_BYTES: usize = 256 << 10;

/// What a replay found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) blocks: u64,
    /// Bytes of sound blocks.
    pub(crate) bytes: u64,
    /// Bytes of a torn block that was cut.
    pub(crate) torn_bytes: u64,
    /// The last batch.
    pub(crate) last: Position,
    /// The highest file number in use, or the one before the boundary.
    pub(crate) last_file: u64,
    /// Its length.
    pub(crate) last_file_bytes: u64,
    /// Where its blocks end.
    pub(crate) end: u64,
}

/// Why a sound block cannot be applied.
pub(crate) enum Refused {
    /// Its entries make no sense: damage.
    Content(String),
    /// Something else failed meanwhile.
    Log(LogError),
}

impl From<String> for Refused {
    fn from(what: String) -> Refused {
        Refused::Content(what)
    }
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Refused {
        Refused::Log(error)
    }
}

/// Where blocks are handed.
pub(crate) type Apply<'a> = &'a mut dyn FnMut(&Block<'_>) -> Result<(), Refused>;

const MISSING_FILE: &str =
    "this journal file is missing while a later one exists; restore the data directory from a copy";
const DAMAGED_BLOCK: &str =
    "an acknowledged block does not match its checksum; restore the data directory from a copy";

/// Reads the batches that a data directory's journal has since its checkpoint, in order, and changes nothing. They may begin before whatever the
/// caller knows already: a batch's header says which one it follows.
pub fn read_batches(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    apply: &mut dyn FnMut(&Batch<'_>) -> Result<(), String>,
) -> Result<(), LogError> {
    let layout = Layout::new(folder.to_owned());
    let Some(head) = checkpoint::read(disk, &layout.checkpoint(), &mut |_, _| Ok(()))? else {
        let hint = "there is no checkpoint, so this is no data directory".to_owned();
        return Err(LogError::Foreign { path: layout.checkpoint(), hint });
    };
    let start = JournalStart {
        directory: head.directory,
        number: head.header.journal_start,
        last: head.header.position,
        file_bytes: 0,
        reserve_bytes: 0,
    };
    read(disk, &layout, start, &mut |block| Ok(apply(&block.batch)?)).map(|_| ())
}

/// Reads every block from a boundary on, hands it to `apply`, in order, and syncs what was read.
pub(crate) fn replay(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    start: JournalStart,
    apply: Apply<'_>,
) -> Result<Replayed, LogError> {
    let replayed = read(disk, layout, start, apply)?;
    if replayed.last_file >= start.number {
        // A process that died may have left blocks with the operating system only. What is acted upon must be durable.
        let path = layout.journal_file(replayed.last_file);
        let synced = disk.open(&path, OpenMode::Write).and_then(|file| file.sync_data());
        synced.map_err(|source| LogError::Io { action: "sync", path, source })?;
    }
    Ok(replayed)
}

/// Reads every block from a boundary on and hands it to `apply`, in order. Changes nothing.
pub(crate) fn read(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    start: JournalStart,
    apply: Apply<'_>,
) -> Result<Replayed, LogError> {
    let mut numbers = list_files(disk, layout)?;
    numbers.retain(|number| *number >= start.number);
    let mut replayed = Replayed { last: start.last, last_file: start.number - 1, ..Replayed::default() };
    // Where the file before ended.
    let mut before: Option<(PathBuf, u64)> = None;
    for number in numbers {
        if number != replayed.last_file + 1 {
            let path = layout.journal_file(replayed.last_file + 1);
            return Err(LogError::Damaged { path, position: 0, what: MISSING_FILE.to_owned() });
        }
        let mut file = JournalFile::open(disk, layout.journal_file(number), start.directory, number)?;
        if file.header.sequence != replayed.last.sequence + 1 {
            // The file before ended too early: its last block is there no more.
            let (path, position) = before.unwrap_or((file.path, 0));
            return Err(LogError::Damaged { path, position, what: DAMAGED_BLOCK.to_owned() });
        }
        replayed.end = file.replay(&mut replayed, apply)?;
        (replayed.last_file, replayed.last_file_bytes) = (number, file.length);
        before = Some((file.path, replayed.end));
    }
    Ok(replayed)
}

/// A journal file, read through a window.
struct JournalFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    header: FileHeader,
    length: u64,
    window: Vec<u8>,
    /// Where in the file the window begins.
    window_at: u64,
}

impl JournalFile {
    fn open(
        disk: &Arc<dyn Disk>,
        path: PathBuf,
        directory: u64,
        number: u64,
    ) -> Result<JournalFile, LogError> {
        let failed = |error| LogError::refused("open", &path, error);
        let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
        let length = file.len().map_err(failed)?;
        let mut page = vec![0; PAGE_BYTES];
        let read = file.read_at(&mut page, 0).map_err(failed)?;
        let header =
            FileHeader::parse(&page[..read], FileKind::Journal).map_err(|what| damaged(&path, 0, &what))?;
        if header.directory != directory || header.number != number {
            return Err(damaged(&path, 0, "it belongs to another data directory or place"));
        }
        let file_bytes = u64::from(header.topic) * PAGE_BYTES as u64;
        if length < file_bytes {
            return Err(damaged(&path, length, &format!("the file ends here; it had {file_bytes} bytes")));
        }
        Ok(JournalFile { file, path, header, length, window: Vec::new(), window_at: 0 })
    }

    /// Applies the file's blocks; answers where they end.
    fn replay(&mut self, replayed: &mut Replayed, apply: Apply<'_>) -> Result<u64, LogError> {
        let mut position = PAGE_BYTES as u64;
        replayed.torn_bytes = 0;
        let path = self.path.clone();
        while position < self.length {
            let last = replayed.last;
            let next = self.block_at(position)?.filter(|block| block.batch.header.follows(last));
            let Some(block) = next else {
                replayed.torn_bytes = self.torn_bytes_at(position, last.sequence + 1)?;
                break;
            };
            apply(&block).map_err(|refused| match refused {
                Refused::Content(what) => damaged(&path, position, &what),
                Refused::Log(error) => error,
            })?;
            replayed.blocks += 1;
            replayed.bytes += block.padded_bytes as u64;
            replayed.last = block.batch.position();
            position += block.padded_bytes as u64;
        }
        Ok(position)
    }

    /// What a torn block at the end of the file takes, 0 if none was begun there; an error if it is no torn block but damage.
    fn torn_bytes_at(&mut self, position: u64, sequence: u64) -> Result<u64, LogError> {
        for page in (position + PAGE_BYTES as u64..self.length).step_by(PAGE_BYTES) {
            let later = self.block_at(page)?;
            if later.is_some_and(|block| block.place.synced_through >= sequence) {
                return Err(damaged(&self.path, position, DAMAGED_BLOCK));
            }
        }
        let (number, left) = (self.header.number, self.length - position);
        let head = self.bytes_at(position, BLOCK_HEADER_BYTES)?;
        if !Block::was_begun(head, number, sequence) {
            return Ok(0);
        }
        let claimed = u64::from(read_u32(head, 4)).min(left) as usize;
        Ok((pages(BLOCK_HEADER_BYTES + claimed) as u64).min(left))
    }

    /// The sound block of this file at a position, if there is one.
    fn block_at(&mut self, position: u64) -> Result<Option<Block<'_>>, LogError> {
        let (directory, number) = (self.header.directory, self.header.number);
        let head = self.bytes_at(position, BLOCK_HEADER_BYTES)?;
        let Some(length) = Block::length_of(head, number) else { return Ok(None) };
        let bytes = self.bytes_at(position, length)?;
        Ok(Block::parse(bytes, directory, number))
    }

    /// Bytes from a position on; fewer only at the end of the file.
    fn bytes_at(&mut self, position: u64, length: usize) -> Result<&[u8], LogError> {
        let length = (length as u64).min(self.length.saturating_sub(position)) as usize;
        let inside = position >= self.window_at
            && position + length as u64 <= self.window_at + self.window.len() as u64;
        if !inside {
            let wanted = length.max(WINDOW_BYTES) as u64;
            self.window.resize(wanted.min(self.length - position) as usize, 0);
            let read = self.file.read_at(&mut self.window, position);
            let read = read.map_err(|error| LogError::io("read", &self.path, error))?;
            self.window.truncate(read);
            self.window.shrink_to(WINDOW_BYTES);
            self.window_at = position;
        }
        let at = (position - self.window_at) as usize;
        Ok(&self.window[at.min(self.window.len())..(at + length).min(self.window.len())])
    }
}

fn damaged(path: &Path, position: u64, what: &str) -> LogError {
    LogError::Damaged { path: path.to_owned(), position, what: what.to_owned() }
}

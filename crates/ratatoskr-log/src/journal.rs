//! The journal: one sequence of blocks for all topics, synced before anyone is told.
//!
//! ```text
//!   0007.journal                      0008.journal                 spare
//!  ┌──────┬─────┬─────┬───┬─────┐    ┌──────┬─────┬─ ─ ─ ─ ─┐    ┌ ─ ─ ─ ─ ┐
//!  │header│block│block│ … │block│    │header│block│  zeros   │      zeros
//!  └──────┴─────┴─────┴───┴─────┘    └──────┴─────┴─ ─ ─ ─ ─┘    └ ─ ─ ─ ─ ┘
//!   complete and synced               ▲ written here              next in line
//! ```
//!
//! Invariants: a file is complete and synced before the next one exists under its name; a block
//! is never rewritten once a later one is written; after a failed write or sync nothing is written any
//! more ([`LogError::Poisoned`]). This file knows blocks, not what their entries mean.

use std::sync::Arc;

use ratatoskr_state::{BatchBuilder, BatchHeader, Position};

use crate::block::{self, BlockPlace, PAGE_BYTES, pages};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::header::{FILE_HEADER_BYTES, FileHeader, FileKind};
use crate::layout::{Layout, journal_number};
use crate::spares::{FillMode, Spares};

/// The reserve in parts: which of them a block may use depends on what it is for.
const PARTS: u64 = 8;

/// How far what is staged may go into the reserve of a journal file while there is no next one. A block may go as far as each of its
/// changes.
///
/// ```text
///                        │◀──────────── reserve ────────────▶│
///   appends ────────────▶│ Change ▶│               Settle ▶│ Free ▶│
///                        │  2/8    │         5/8           │  1/8  │
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reserve {
    /// Not at all: appends, and whatever takes room for good.
    Keep,
    /// Its first quarter: settings, and what retention removes.
    Change,
    /// All but its last eighth: settlements, for which the rest of that is kept.
    Settle,
    /// To its end: what operators purge and delete.
    Free,
}

impl Reserve {
    /// Parts that are kept from it.
    fn parts_kept(self) -> u64 {
        match self {
            Reserve::Keep => PARTS,
            Reserve::Change => 6,
            Reserve::Settle => 1,
            Reserve::Free => 0,
        }
    }
}

/// The writing end of the journal.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    layout: Layout,
    directory: u64,
    spares: Arc<Spares>,
    file: Arc<dyn DiskFile>,
    number: u64,
    /// Where the next block goes.
    position: u64,
    file_bytes: u64,
    /// Bytes at the end of each file that are kept for what must go on while the disk is full. Like the whole file they
    /// are written before it is used, so they take no further room.
    reserve_bytes: u64,
    /// The batch written last.
    last: Position,
    /// What it says of itself.
    last_header: BatchHeader,
    /// The epoch that batches are written in; see [`Position::epoch`].
    epoch: u64,
    /// Last sequence known to be durable.
    synced_through: u64,
    /// True when the last block had entries; a seal covers it.
    unsealed: bool,
    /// The next file, while it has its name but the name may not be durable. Until it is, no block is written: not to this file, which
    /// a crash could lose, and not to the one before, because this one's header says which block it begins with.
    next: Option<NewFile>,
    /// Why nothing is written any more.
    poison: Option<String>,
}

/// A journal file in which nothing is written yet.
struct NewFile {
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

/// Where a journal starts anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalStart {
    pub(crate) directory: u64,
    pub(crate) number: u64,
    /// The batch before it.
    pub(crate) last: Position,
    pub(crate) file_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

impl Journal {
    /// Creates the file `start.number` and writes from there on.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        layout: Layout,
        spares: Arc<Spares>,
        start: JournalStart,
    ) -> Result<Journal, LogError> {
        let NewFile { file, bytes } = create_file(&disk, &layout, &spares, &start)?;
        sync_folder(&disk, &layout)?;
        let start = JournalStart { file_bytes: bytes, ..start };
        Ok(Journal::at(disk, layout, spares, (start, PAGE_BYTES as u64, file)))
    }

    fn at(
        disk: Arc<dyn Disk>,
        layout: Layout,
        spares: Arc<Spares>,
        (start, position, file): (JournalStart, u64, Arc<dyn DiskFile>),
    ) -> Journal {
        Journal {
            disk,
            layout,
            directory: start.directory,
            spares,
            file,
            number: start.number,
            position,
            file_bytes: start.file_bytes,
            reserve_bytes: start.reserve_bytes,
            last: start.last,
            last_header: BatchHeader::default(),
            epoch: start.last.epoch + 1,
            synced_through: start.last.sequence,
            unsealed: false,
            next: None,
            poison: None,
        }
    }

    /// Goes on in the file `start.number`, behind its last block at `position`; see [`crate::resume`].
    pub(crate) fn resume(
        disk: Arc<dyn Disk>,
        layout: Layout,
        spares: Arc<Spares>,
        (start, position): (JournalStart, u64),
    ) -> Result<Journal, LogError> {
        let file = crate::resume::prepare(&disk, &layout.journal_file(start.number), position)?;
        Ok(Journal::at(disk, layout, spares, (start, position, file)))
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The batch written last.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// What the batch says of itself that was written last.
    pub(crate) fn last_header(&self) -> BatchHeader {
        self.last_header
    }

    /// The epoch that batches are written in: one more than the last one found when the journal was opened.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// True when a block of so many bytes needs no further file.
    pub(crate) fn has_room(&self, block_bytes: usize, reserve: Reserve) -> bool {
        let end = self.position + pages(block_bytes) as u64;
        // A short spare has room for what is kept, so this file need not have it.
        let kept = self.kept(reserve).saturating_sub(self.spares.short_bytes());
        self.next.is_none() && end + kept <= self.file_bytes
    }

    /// True when it fits into the spare, which is short.
    pub(crate) fn has_room_in_spare(&self, block_bytes: usize, reserve: Reserve) -> bool {
        pages(block_bytes) as u64 + self.kept(reserve) <= self.spares.short_bytes()
    }

    /// By how much a short spare has to grow so that [`Journal::has_room`] for an append.
    pub(crate) fn missing_bytes(&self, block_bytes: usize) -> u64 {
        let (end, spare) = (self.position + pages(block_bytes) as u64, self.spares.short_bytes());
        let header = if spare == 0 { PAGE_BYTES as u64 } else { 0 };
        let here = (end + self.reserve_bytes).saturating_sub(self.file_bytes + spare);
        let in_spare = (pages(block_bytes) as u64 + self.reserve_bytes).saturating_sub(spare);
        header + if end > self.file_bytes { in_spare } else { here.min(in_spare) }
    }

    fn kept(&self, reserve: Reserve) -> u64 {
        self.reserve_bytes / PARTS * reserve.parts_kept()
    }

    /// Goes on in a new, whole file. An error that passes leaves everything as it was, and this can be tried again.
    pub(crate) fn rotate(&mut self) -> Result<(), LogError> {
        self.check()?;
        if self.next.is_none()
            && let Err(error) = self.spares.prepare(FillMode::Now)
        {
            return Err(if error.is_passing() { error } else { self.poisoned(&error) });
        }
        self.go_on()
    }

    /// The same in the spare as it is, though it may be short.
    pub(crate) fn go_on(&mut self) -> Result<(), LogError> {
        self.check()?;
        let created = self.create_next().and_then(|file| {
            self.next = Some(file);
            sync_folder(&self.disk, &self.layout)
        });
        if let Err(error) = created {
            let is_final = matches!(error, LogError::Poisoned { .. });
            return Err(if is_final || error.is_passing() { error } else { self.poisoned(&error) });
        }
        if let Some(NewFile { file, bytes }) = self.next.take() {
            self.file = file;
            self.number += 1;
            self.file_bytes = bytes;
            self.position = PAGE_BYTES as u64;
        }
        Ok(())
    }

    fn create_next(&mut self) -> Result<NewFile, LogError> {
        if let Some(file) = self.next.take() {
            return Ok(file);
        }
        self.sync()?;
        let start = JournalStart {
            directory: self.directory,
            number: self.number + 1,
            last: self.last,
            file_bytes: self.file_bytes,
            reserve_bytes: self.reserve_bytes,
        };
        create_file(&self.disk, &self.layout, &self.spares, &start)
    }

    /// Writes a block. It is durable after the next [`Journal::sync`].
    pub(crate) fn write(&mut self, batch: &mut BatchBuilder, date: u64) -> Result<(), LogError> {
        self.check()?;
        self.unsealed = batch.has_entries();
        let (header, place) = (
            self.last.next(self.epoch, date),
            BlockPlace { file: self.number, synced_through: self.synced_through },
        );
        let (bytes, position) = block::finish(batch, header, place, self.directory);
        if let Err(error) = self.file.write_all_at(bytes, self.position) {
            let error = LogError::io("write", &self.layout.journal_file(self.number), error);
            // Nothing of the block was promised: once there is room, another takes its place.
            return Err(if error.is_full() { error } else { self.poisoned(&error) });
        }
        self.position += bytes.len() as u64;
        (self.last, self.last_header) = (position, header);
        Ok(())
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        self.check()?;
        if self.synced_through == self.last.sequence {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            let path = self.layout.journal_file(self.number);
            return Err(self.poisoned(&LogError::Io { action: "sync", path, source: error }));
        }
        self.synced_through = self.last.sequence;
        Ok(())
    }

    /// Called when there is nothing to do: syncs, and leaves a mark that everything was synced, so that
    /// damage to the last block cannot pass for a torn write. The mark itself needs no sync.
    /// Answers whether it left one.
    pub(crate) fn seal(&mut self, date: u64) -> Result<bool, LogError> {
        if !self.unsealed || !self.has_room(PAGE_BYTES, Reserve::Keep) {
            return Ok(false);
        }
        self.sync()?;
        self.write(&mut block::batch_builder(), date)?;
        Ok(true)
    }

    /// Ends all writing for ever.
    pub(crate) fn poisoned(&mut self, cause: &LogError) -> LogError {
        let reason = cause.to_string();
        self.poison.get_or_insert(reason.clone());
        LogError::Poisoned { reason }
    }

    /// An error once the journal is poisoned.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        match &self.poison {
            Some(reason) => Err(LogError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }
}

/// Makes the spare the journal file of a number. Its name is durable after [`sync_folder`].
fn create_file(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    spares: &Spares,
    start: &JournalStart,
) -> Result<NewFile, LogError> {
    let taken = spares.take()?;
    let bytes = taken.bytes();
    let (spare, path) = (layout.spare(), layout.journal_file(start.number));
    let file =
        disk.open(&spare, OpenMode::Write).map_err(|error| LogError::refused("open", &spare, error))?;
    let header = FileHeader {
        kind: FileKind::Journal,
        topic: (bytes / PAGE_BYTES as u64) as u32,
        directory: start.directory,
        number: start.number,
        sequence: start.last.sequence + 1,
    };
    let mut page = vec![0; PAGE_BYTES];
    page[..FILE_HEADER_BYTES].copy_from_slice(&header.encode());
    file.write_all_at(&page, 0).map_err(|error| LogError::io("write", &spare, error))?;
    file.sync_data().map_err(|error| LogError::sync(&spare, error))?;
    disk.rename(&spare, &path).map_err(|error| LogError::rename(&path, error))?;
    taken.used();
    Ok(NewFile { file, bytes })
}

fn sync_folder(disk: &Arc<dyn Disk>, layout: &Layout) -> Result<(), LogError> {
    let folder = layout.journal();
    disk.sync_dir(&folder).map_err(|error| LogError::sync(&folder, error))
}

/// Numbers of the journal files there are, ascending.
pub(crate) fn list_files(disk: &Arc<dyn Disk>, layout: &Layout) -> Result<Vec<u64>, LogError> {
    let folder = layout.journal();
    let names = disk.list(&folder).map_err(|error| LogError::refused("list", &folder, error))?;
    let mut numbers = Vec::new();
    for name in names {
        match journal_number(&name) {
            Some(number) => numbers.push(number),
            None if name == "spare" || name == "spare.new" => {}
            None => {
                let hint = "the journal folder holds only journal files; move it away".to_owned();
                return Err(LogError::Foreign { path: folder.join(name), hint });
            }
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(crate) fn read_file(disk: &Arc<dyn Disk>, path: &std::path::Path) -> Result<Vec<u8>, LogError> {
    let file = disk.open(path, OpenMode::Read).map_err(|error| LogError::refused("open", path, error))?;
    let length = file.len().map_err(|error| LogError::refused("measure", path, error))?;
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(&mut bytes, 0).map_err(|error| LogError::io("read", path, error))?;
    bytes.truncate(read);
    Ok(bytes)
}

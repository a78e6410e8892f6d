//! The checkpoint: a short journal that leads to the same state, and where it stands in the long one.
//!
//! ```text
//!   header │ block: header, create A, segment, segment, extent A, create B, … │ … │ block: …, end
//! ```
//!
//! It is written beside the old one, synced, and renamed over it. This file turns entries into that file
//! and back; what they mean is decided in [`crate::recovery`], by the same code that replays the journal.

mod entry;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ratatoskr_state::{BatchBuilder, BatchHeader};

use crate::block::{self, BLOCK_HEADER_BYTES, Block, BlockPlace};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::header::{FILE_HEADER_BYTES, FileHeader, FileKind};
use crate::layout::Layout;

pub(crate) use entry::{CheckpointEntry, CheckpointHeader, ExtentEntry, SegmentEntry};

/// Entries are put into blocks of about this size.
const BLOCK_BYTES: usize = 1 << 20;

/// A checkpoint being written.
pub(crate) struct CheckpointWriter {
    disk: Arc<dyn Disk>,
    layout: Layout,
    directory: u64,
    file: Arc<dyn DiskFile>,
    position: u64,
    sequence: u64,
    block: BatchBuilder,
}

impl CheckpointWriter {
    /// Starts `checkpoint.new`, replacing one that was never finished.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        layout: &Layout,
        directory: u64,
        checkpoint: CheckpointHeader,
    ) -> Result<CheckpointWriter, LogError> {
        let path = layout.checkpoint_new();
        let failed = |error| LogError::refused("create", &path, error);
        match disk.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = disk.open(&path, OpenMode::CreateNew).map_err(failed)?;
        let header = FileHeader { kind: FileKind::Checkpoint, topic: 0, directory, number: 0, sequence: 0 };
        file.write_all_at(&header.encode(), 0).map_err(|error| LogError::io("write", &path, error))?;
        let mut block = block::batch_builder();
        CheckpointEntry::Header(checkpoint).push_into(&mut block);
        Ok(CheckpointWriter {
            disk: disk.clone(),
            layout: layout.clone(),
            directory,
            file,
            position: FILE_HEADER_BYTES as u64,
            sequence: 0,
            block,
        })
    }

    pub(crate) fn push(&mut self, entry: &CheckpointEntry<'_>) -> Result<(), LogError> {
        entry.push_into(&mut self.block);
        if self.block.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    /// Makes it the checkpoint. From here on the journal before its boundary is not needed.
    pub(crate) fn finish(mut self) -> Result<(), LogError> {
        CheckpointEntry::End.push_into(&mut self.block);
        self.write_block()?;
        let (new, path) = (self.layout.checkpoint_new(), self.layout.checkpoint());
        self.file.sync_data().map_err(|error| LogError::io("sync", &new, error))?;
        self.disk.rename(&new, &path).map_err(|error| LogError::refused("rename to", &path, error))?;
        let root = &self.layout.root;
        // It has its name, which may or may not be durable: whatever the reason, nobody may go on from the one before.
        self.disk.sync_dir(root).map_err(|error| LogError::sync(root, error))
    }

    fn write_block(&mut self) -> Result<(), LogError> {
        let (header, place) = (header_of(self.sequence), BlockPlace { file: 0, synced_through: 0 });
        let (bytes, _) = block::finish(&mut self.block, header, place, self.directory);
        let length = bytes.len() as u64;
        self.file
            .write_all_at(bytes, self.position)
            .map_err(|error| LogError::io("write", &self.layout.checkpoint_new(), error))?;
        self.position += length;
        self.sequence += 1;
        self.block.clear();
        Ok(())
    }
}

/// The blocks of a checkpoint are counted from 0 and belong to no epoch.
fn header_of(sequence: u64) -> BatchHeader {
    BatchHeader { sequence, ..BatchHeader::default() }
}

/// What a checkpoint starts with.
pub(crate) struct CheckpointHead {
    pub(crate) directory: u64,
    pub(crate) header: CheckpointHeader,
}

/// Reads the checkpoint and hands its entries (after the header), and the directory's id, to `apply`. `None` if there is no such file.
pub(crate) fn read(
    disk: &Arc<dyn Disk>,
    path: &Path,
    apply: &mut dyn FnMut(u64, CheckpointEntry<'_>) -> Result<(), String>,
) -> Result<Option<CheckpointHead>, LogError> {
    let bytes = match crate::journal::read_file(disk, path) {
        Err(LogError::Refused { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let damaged = |position: usize, what: String| LogError::Damaged {
        path: path.to_owned(),
        position: position as u64,
        what: format!("{what}; restore the data directory from a copy"),
    };
    if let Some((found, hint)) = FileHeader::other_format(&bytes, FileKind::Checkpoint) {
        return Err(LogError::Format { path: path.to_owned(), found, hint });
    }
    let file = FileHeader::parse(&bytes, FileKind::Checkpoint).map_err(|what| damaged(0, what))?;
    let mut position = FILE_HEADER_BYTES;
    let mut sequence = 0;
    let mut start = None;
    loop {
        let block = bytes
            .get(position..)
            .and_then(|rest| Block::parse(rest, file.directory, 0))
            .filter(|block| block.batch.header == header_of(sequence))
            .ok_or_else(|| damaged(position, "a block does not match its checksum".to_owned()))?;
        for raw in block.batch.raw_entries() {
            let entry = raw.and_then(|raw| CheckpointEntry::decode(&raw)).map_err(|error| {
                let at = position + BLOCK_HEADER_BYTES + error.position as usize;
                damaged(at, "an entry was written by a newer version".to_owned())
            })?;
            match (entry, start) {
                (CheckpointEntry::Header(found), None) => start = Some(found),
                (CheckpointEntry::End, Some(header)) => {
                    return Ok(Some(CheckpointHead { directory: file.directory, header }));
                }
                (entry, Some(_)) => {
                    apply(file.directory, entry).map_err(|what| damaged(position, what))?;
                }
                (_, None) => return Err(damaged(position, "it does not start with its header".to_owned())),
            }
        }
        position += block.padded_bytes;
        sequence += 1;
    }
}

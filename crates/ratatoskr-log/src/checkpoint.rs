//! The checkpoint: a short journal that leads to the same state.
//!
//! ```text
//!   header │ block: facts, create A, segment, segment, extent A, create B, … │ … │ block: …, end
//! ```
//!
//! It is written beside the old one, synced, and renamed over it. This file turns entries into that file
//! and back; what they mean is decided in [`crate::recovery`], by the same code that replays the journal.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::block::{Block, BlockBuilder, BlockStamp, Entry, Facts};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::LogError;
use crate::header::{FILE_HEADER_BYTES, FileHeader, FileKind};
use crate::layout::Layout;

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
    block: BlockBuilder,
}

impl CheckpointWriter {
    /// Starts `checkpoint.new`, replacing one that was never finished.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        layout: &Layout,
        directory: u64,
        facts: Facts,
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
        let mut block = BlockBuilder::new();
        block.push(&Entry::Facts(facts));
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

    pub(crate) fn push(&mut self, entry: &Entry<'_>) -> Result<(), LogError> {
        self.block.push(entry);
        if self.block.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    /// Makes it the checkpoint. From here on the journal before its boundary is not needed.
    pub(crate) fn finish(mut self) -> Result<(), LogError> {
        self.block.push(&Entry::End);
        self.write_block()?;
        let (new, path) = (self.layout.checkpoint_new(), self.layout.checkpoint());
        self.file.sync_data().map_err(|error| LogError::io("sync", &new, error))?;
        self.disk.rename(&new, &path).map_err(|error| LogError::refused("rename to", &path, error))?;
        let root = &self.layout.root;
        // It has its name, which may or may not be durable: whatever the reason, nobody may go on from the one before.
        self.disk.sync_dir(root).map_err(|error| LogError::sync(root, error))
    }

    fn write_block(&mut self) -> Result<(), LogError> {
        let stamp = BlockStamp { file: 0, sequence: self.sequence, synced_through: 0, date: 0 };
        let bytes = self.block.finish(self.directory, &stamp);
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

/// What a checkpoint starts with.
pub(crate) struct CheckpointHead {
    pub(crate) directory: u64,
    pub(crate) facts: Facts,
}

/// Reads the checkpoint and hands its entries (after the facts), and the directory's id, to `apply`. `None` if there is no such file.
pub(crate) fn read(
    disk: &Arc<dyn Disk>,
    path: &Path,
    apply: &mut dyn FnMut(u64, Entry<'_>) -> Result<(), String>,
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
    let header = FileHeader::parse(&bytes, FileKind::Checkpoint).map_err(|what| damaged(0, what))?;
    let mut position = FILE_HEADER_BYTES;
    let mut sequence = 0;
    let mut facts = None;
    loop {
        let block = bytes
            .get(position..)
            .and_then(|rest| Block::parse(rest, header.directory, 0))
            .filter(|block| block.stamp.sequence == sequence)
            .ok_or_else(|| damaged(position, "a block does not match its checksum".to_owned()))?;
        for entry in block.entries() {
            let newer =
                |at| damaged(position + at as usize, "an entry was written by a newer version".to_owned());
            match (entry.map_err(newer)?, &mut facts) {
                (Entry::Facts(found), None) => facts = Some(found),
                (Entry::End, Some(found)) => {
                    return Ok(Some(CheckpointHead { directory: header.directory, facts: *found }));
                }
                (entry, Some(_)) => apply(header.directory, entry).map_err(|what| damaged(position, what))?,
                (_, None) => return Err(damaged(position, "it does not start with its facts".to_owned())),
            }
        }
        position += block.padded_bytes;
        sequence += 1;
    }
}

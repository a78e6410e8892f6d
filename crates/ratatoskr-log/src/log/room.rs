//! Where the next block goes: in this journal file, in the next one, or, while there is no room for that, in the reserve.
//!
//! ```text
//!                        fits before the reserve?
//!               yes │                        │ no
//!           this file                    next file ready, or room to make it?
//!                                     yes │                │ no: the disk is full
//!                   rotate, begin a checkpoint        what the reserve is for, or a short spare that has its room?
//!                                                 yes │             │ no
//!                       this file, or the short spare               refused: `Full`; used up: `ReserveUsed`
//! ```
//!
//! Invariant: an append leaves the whole reserve, in this file and a short spare together. Whoever is refused has changed nothing and may try again.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Log;
use crate::checkpoint::CheckpointHeader;
use crate::error::LogError;
use crate::journal::Reserve;
use crate::shared::Task;

/// A checkpoint is begun when so many journal files are complete.
const CHECKPOINT_FILES: u64 = 2;
/// Publishing goes on when there is room for blocks of this part of a journal file again.
const NEEDED_PART: u64 = 32;
/// While the disk is full, another journal file is tried for this often.
const FULL_RETRY_MS: u64 = 1000;

/// Why there is no next journal file, from the first failed attempt to the successful one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shortage {
    /// When the disk was last found full; `None` where a file could not be opened or created for another reason.
    full_at_ms: Option<u64>,
    /// Bytes of an append for which there has to be room again: as many as were refused, but not what only few messages have.
    needed_bytes: usize,
}

impl Log {
    /// Goes on in a new journal file if the block needs one. Changes that make room may use the reserve.
    pub(super) fn make_room(&mut self) -> Result<(), LogError> {
        // Without the next file appends wait until there is one, or a short spare: whether something smaller would still fit is not
        // asked, or publishing would go on and stop with each message, and take acks in the same block with it.
        let asked = self.shortage.filter(|_| !self.block.has_entries());
        let bytes = asked.map_or(self.block.len(), |shortage| shortage.needed_bytes);
        if self.journal.has_room(bytes, Reserve::Keep) {
            if asked.is_some() {
                self.end_shortage();
            }
            self.ask_for_spare();
            return Ok(());
        }
        self.shared.spares.want(self.journal.missing_bytes(bytes).max(self.shared.spares.shortest()));
        let full_at_ms = self.shortage.and_then(|shortage| shortage.full_at_ms);
        let now_ms = self.shared.clock.steady_ms();
        let tried_lately = full_at_ms.is_some_and(|at| now_ms - at < FULL_RETRY_MS);
        let result = if tried_lately { Err(self.no_room_for(bytes)) } else { self.journal.rotate() };
        match result {
            Ok(()) => {
                // What filled the disk may be files that only a checkpoint lets go of.
                let was_full = self.shortage.is_some_and(|shortage| shortage.full_at_ms.is_some());
                self.end_shortage();
                self.begin_checkpoint(if was_full { 1 } else { CHECKPOINT_FILES });
                Ok(())
            }
            Err(error) if error.is_passing() => {
                if let LogError::NoDescriptors { .. } = error {
                    self.shared.wants_descriptors.store(true, Ordering::Relaxed);
                }
                let found_at_ms = full_at_ms.filter(|_| tried_lately).unwrap_or(now_ms);
                let most = self.needed_bytes_max();
                self.shortage = Some(Shortage {
                    full_at_ms: error.is_full().then_some(found_at_ms),
                    needed_bytes: self.shortage.map_or(bytes, |shortage| shortage.needed_bytes).min(most),
                });
                self.make_do(bytes, error)
            }
            Err(error) => Err(error),
        }
    }

    /// There is no whole file to go on in: the rest of this one may do, or a short spare.
    fn make_do(&mut self, bytes: usize, error: LogError) -> Result<(), LogError> {
        let reserve = self.reserve_for_block();
        if !self.journal.has_room(bytes, reserve) {
            if !self.journal.has_room_in_spare(bytes, reserve) {
                return Err(match reserve {
                    Reserve::Keep if error.is_full() => self.no_room_for(bytes),
                    _ if error.is_full() => self.reserve_used_up(),
                    _ => error,
                });
            }
            if self.block.has_entries() {
                self.journal.go_on()?;
                // It may let go of whole files.
                self.begin_checkpoint(1);
            }
        }
        if reserve == Reserve::Keep {
            self.end_shortage();
        }
        Ok(())
    }

    fn end_shortage(&mut self) {
        self.shortage = None;
        self.shared.spares.want(0);
    }

    /// Says how much room lets publishing go on: what is freed is shared with segments and the checkpoint.
    fn no_room_for(&self, bytes: usize) -> LogError {
        LogError::Full { path: self.shared.layout.spare(), bytes: 2 * self.journal.missing_bytes(bytes) }
    }

    fn needed_bytes_max(&self) -> usize {
        (self.shared.options.journal_file_bytes / NEEDED_PART) as usize
    }

    /// How far what is staged may go into the reserve.
    fn reserve_for_block(&self) -> Reserve {
        if self.block.has_entries() && self.in_block.is_empty() { self.reserve } else { Reserve::Keep }
    }

    /// True when so many more bytes, of entries that may go this far into the reserve, would fit into the block that is being made.
    pub fn has_room_for(&self, bytes: usize, reserve: Reserve) -> bool {
        let reserve = if self.block.has_entries() { reserve.min(self.reserve_for_block()) } else { reserve };
        let bytes = self.block.len() + bytes;
        self.journal.has_room(bytes, reserve) || self.journal.has_room_in_spare(bytes, reserve)
    }

    fn reserve_used_up(&self) -> LogError {
        let bytes = self.shared.options.journal_reserve_bytes;
        LogError::ReserveUsed { path: self.shared.layout.root.clone(), bytes }
    }

    /// Begins one if at least so many files are complete.
    fn begin_checkpoint(&mut self, files: u64) {
        let complete = self.journal.number() - self.shared.journal_start.load(Ordering::Acquire);
        if complete < files || self.shared.checkpoint_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let started = Instant::now();
        let header = self.checkpoint_header(self.journal.number());
        self.shared.enqueue(Task::Checkpoint(self.shared.boundary(header)));
        self.counts.checkpoint_pause_micros += started.elapsed().as_micros() as u64;
    }

    pub(super) fn checkpoint_header(&self, journal_start: u64) -> CheckpointHeader {
        // Numbers staged for topics not yet committed may be skipped after a restart: that is harmless.
        CheckpointHeader {
            position: self.journal.last(),
            journal_start,
            next_topic: self.next_topic,
            genesis: self.shared.genesis,
        }
    }

    /// Has the next journal file prepared while this one still has half its room.
    fn ask_for_spare(&mut self) {
        let half = self.shared.options.journal_file_bytes / 2;
        let number = self.journal.number();
        if self.spare_asked_for < number && !self.journal.has_room(half as usize, Reserve::Free) {
            self.spare_asked_for = number;
            if !self.shared.spares.is_ready() {
                self.shared.enqueue(Task::Spare);
            }
        }
    }

    /// The start found no room for another file: that is tried for again in a while.
    pub(crate) fn note_full(&mut self) {
        let needed_bytes = self.needed_bytes_max();
        self.shortage = Some(Shortage { full_at_ms: Some(self.shared.clock.steady_ms()), needed_bytes });
    }
}

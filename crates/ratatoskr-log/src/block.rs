//! Blocks: how a batch stands in this machine's journal, and in a checkpoint.
//!
//! ```text
//!  ┌────────────── 32 bytes ──────────────┐┌──── 64 bytes ────┐
//!  │ magic length file synced-through  CRC ││ batch's header   ││ its entries … │ zeros to the page
//!  └───────────────────────────────────────┘└──────────────────┘
//! ```
//!
//! The batch is the same on every machine ([`ratatoskr_state::Batch`]); what stands around it belongs to this data directory and this file.
//! This file turns blocks into bytes and back. It does no I/O and keeps no state.

use ratatoskr_state::{
    BATCH_HEADER_BYTES, Batch, BatchBuilder, BatchHeader, Position, checksums_agree, read_u32, read_u64,
};

/// Blocks start on this boundary, so that no write touches an earlier block's page.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Bytes of a block before its batch.
const FRAME_BYTES: usize = 32;
/// Bytes of a block before the entries of its batch.
pub(crate) const BLOCK_HEADER_BYTES: usize = FRAME_BYTES + BATCH_HEADER_BYTES;

const MAGIC: &[u8; 4] = b"RBLK";

/// Rounds up to whole pages.
pub(crate) fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// A builder of a batch that leaves room for a block's own header.
pub(crate) fn batch_builder() -> BatchBuilder {
    BatchBuilder::behind(FRAME_BYTES)
}

/// What a block says of its place in this data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    /// Number of the journal file; 0 in a checkpoint.
    pub(crate) file: u64,
    /// The last sequence known to be durable when the block was written.
    pub(crate) synced_through: u64,
}

/// Makes a block of a batch and pads it to whole pages: bytes that are ready to be written, and the place of the batch. The builder is one
/// of [`batch_builder`]'s.
pub(crate) fn finish(
    batch: &mut BatchBuilder,
    header: BatchHeader,
    place: BlockPlace,
    directory: u64,
) -> (&[u8], Position) {
    let (bytes, position) = batch.finish(header);
    let length = (bytes.len() - FRAME_BYTES) as u32;
    bytes[0..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..16].copy_from_slice(&place.file.to_le_bytes());
    bytes[16..24].copy_from_slice(&place.synced_through.to_le_bytes());
    bytes[24..28].fill(0);
    let crc = block_crc(directory, bytes);
    bytes[28..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(pages(bytes.len()), 0);
    (bytes, position)
}

/// Starts from the directory's id, which never leaves the disk: a publisher could otherwise put something that looks
/// like a block into a payload, to be found when the file is used again. It covers the entries by the batch's own checksum.
fn block_crc(directory: u64, block: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&directory.to_le_bytes()), &block[..28]);
    crc32c::crc32c_append(crc, &block[FRAME_BYTES..BLOCK_HEADER_BYTES])
}

/// A block found in a buffer.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(crate) place: BlockPlace,
    pub(crate) batch: Batch<'a>,
    /// Bytes it takes on disk, padding included.
    pub(crate) padded_bytes: usize,
}

impl<'a> Block<'a> {
    /// The block of this directory and file at the start of `bytes`, if one with sound checksums stands there.
    pub(crate) fn parse(bytes: &'a [u8], directory: u64, file: u64) -> Option<Block<'a>> {
        let end = Block::length_of(bytes, file)?;
        let block = bytes.get(..end)?;
        if !checksums_agree(block_crc(directory, block), read_u32(block, 28)) {
            return None;
        }
        Some(Block {
            place: BlockPlace { file: read_u64(block, 8), synced_through: read_u64(block, 16) },
            batch: Batch::parse(&block[FRAME_BYTES..])?,
            padded_bytes: pages(end),
        })
    }

    /// Bytes of the block of this file whose header this is, as far as it can be told without the rest.
    pub(crate) fn length_of(header: &[u8], file: u64) -> Option<usize> {
        let is_ours =
            header.len() >= BLOCK_HEADER_BYTES && &header[..4] == MAGIC && read_u64(header, 8) == file;
        is_ours.then(|| FRAME_BYTES + (read_u32(header, 4) as usize).max(BATCH_HEADER_BYTES))
    }

    /// True when a header that does not check was nevertheless meant for this place: it agrees in two
    /// of magic, file and sequence. Leftovers of an earlier life of the file agree in the magic at most.
    pub(crate) fn was_begun(bytes: &[u8], file: u64, sequence: u64) -> bool {
        if bytes.len() < BLOCK_HEADER_BYTES {
            return false;
        }
        let has_sequence = Batch::sequence_of(&bytes[FRAME_BYTES..]) == Some(sequence);
        let agree = [&bytes[..4] == MAGIC, read_u64(bytes, 8) == file, has_sequence];
        agree.into_iter().filter(|agrees| *agrees).count() >= 2
    }
}

#[cfg(test)]
mod tests {
    use ratatoskr_state::Entry;

    use super::*;

    const DIRECTORY: u64 = 77;
    const PLACE: BlockPlace = BlockPlace { file: 3, synced_through: 16 };
    const BEFORE: Position = Position { epoch: 2, sequence: 16, crc: 5 };
    const ENTRY: Entry<'static> = Entry::Append {
        topic: 1,
        count: 2,
        has_dedup_ids: false,
        newest_ms: 7,
        records: b"not really records",
    };

    fn block() -> Vec<u8> {
        let mut builder = batch_builder();
        builder.push(&ENTRY);
        finish(&mut builder, BEFORE.next(2, 9), PLACE, DIRECTORY).0.to_vec()
    }

    #[test]
    fn a_block_comes_back_with_its_place_and_its_batch() {
        let bytes = block();
        let block = Block::parse(&bytes, DIRECTORY, PLACE.file).expect("just written");
        assert!(Block::parse(&bytes, DIRECTORY + 1, PLACE.file).is_none(), "another directory's block");
        assert!(Block::parse(&bytes, DIRECTORY, PLACE.file + 1).is_none(), "another file's block");
        assert_eq!((block.place, block.padded_bytes), (PLACE, PAGE_BYTES));
        assert!(block.batch.header.follows(BEFORE));
        assert_eq!(block.batch.entries().collect::<Vec<_>>(), [Ok(ENTRY)]);
    }

    #[cfg(not(feature = "broken-no-checksum"))]
    #[test]
    fn every_flipped_bit_is_seen_and_still_known_as_ours() {
        let bytes = block();
        let length = FRAME_BYTES + read_u32(&bytes, 4) as usize;
        for bit in 0..length * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::parse(&damaged, DIRECTORY, PLACE.file).is_none(), "bit {bit} flipped unseen");
            assert!(Block::was_begun(&damaged, PLACE.file, 17), "bit {bit} hides the block");
        }
    }

    #[test]
    fn leftovers_of_an_earlier_file_are_not_ours() {
        assert!(!Block::was_begun(&block(), PLACE.file + 1, 107));
        assert!(!Block::was_begun(&[0; PAGE_BYTES], 1, 1));
    }
}

//! HPACK (RFC 7541): the header blocks of HTTP/2, read and written.
//!
//! ```text
//!  block   3f e1 1f      82          be           04 03 "/ab"           40 01 "x" 01 "y"
//!          ──────────    ────────    ──────────   ───────────────────   ──────────────────
//!          the table's   field 2,    field 62,    name of field 4,      literal, and put
//!          size is 4096  static      dynamic      value literal         into the table
//!              │             │           │            │                     │    │
//!              │             ▼           ▼            ▼                     ▼    │
//!              │         Fields: ":method" "GET" … in one buffer, used again     │
//!              ▼                                                                 ▼
//!          DynamicTable: 62 is the newest; what no longer fits goes, the oldest first
//! ```
//!
//! A connection has one [`Decoder`] for what comes in and one [`Encoder`] for what goes out; the
//! tables of the two directions know nothing of each other. A typical gRPC call is a dozen indexed
//! fields: decoding it copies them from the table into [`Fields`] and allocates nothing once the
//! buffers have grown to their usual size.
//!
//! Invariants: the decoder's table holds exactly what the peer's encoder believes it to hold, also
//! when a list is too large to be kept; the table and the kept list never exceed their limits; the
//! only buffer that follows the peer is one literal's, and that is at most 8/5 of its block.
//!
//! It does not join frames into blocks, does not bound a block (who collects CONTINUATION frames
//! does), and does not judge fields: upper case names or pseudo fields in the wrong place are
//! HTTP's business. Whether the peer marked a field "never indexed" is not kept: we forward nothing.

mod encoder;
mod fields;
mod huffman;
mod primitives;
#[cfg(test)]
mod rfc_examples;
mod table;
#[cfg(test)]
mod tests;

pub use encoder::Encoder;
pub use fields::Fields;

use crate::limits::HEADER_LIST_BYTES_DECODED;
use primitives::Reader;
use table::{DynamicTable, STATIC_TABLE};

/// Bytes of a dynamic table before any SETTINGS say otherwise (RFC 9113 section 6.5.2).
pub const TABLE_BYTES_INITIAL: usize = 4096;

/// Why a header block cannot be decoded.
///
/// What now: stop. Each of them ends the connection with `COMPRESSION_ERROR` (RFC 9113 section 4.3),
/// because the tables of the two sides are no longer the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block ends inside a field")]
    Truncated,
    /// An index that neither table has; 0 is one (RFC 7541 section 2.3.3).
    #[error("header block names field {index}, which is in neither the static nor the dynamic table")]
    BadIndex {
        /// The index as received.
        index: u32,
    },
    /// An integer of more than 32 bits, or of more than five bytes after its prefix
    /// (RFC 7541 section 5.1).
    #[error("header block has an integer above 4294967295")]
    IntegerOverflow,
    /// A Huffman string with the end-of-string symbol in it, or with padding that is longer than 7 bits
    /// or not all ones (RFC 7541 section 5.2).
    #[error("header block has a Huffman string that is not validly coded or padded")]
    BadHuffman,
    /// A table size above what our SETTINGS allow (RFC 7541 section 6.3).
    #[error("header block sets the table to {bytes} bytes; allowed are {bytes_max}")]
    TableSizeOverLimit {
        /// The size asked for.
        bytes: u32,
        /// The largest we allow.
        bytes_max: usize,
    },
    /// A list of more than [`HEADER_LIST_BYTES_DECODED`] bytes. Its block may be sound, and ends the connection with `ENHANCE_YOUR_CALM`.
    #[error("header list has more than {HEADER_LIST_BYTES_DECODED} bytes")]
    ListTooLarge,
    /// A table size update after the first field of a block (RFC 7541 section 4.2).
    #[error("header block changes the table size after its first field")]
    TableSizeUpdateNotFirst,
}

/// Reads the header blocks of one connection, in the order of their arrival.
#[derive(Debug)]
pub struct Decoder {
    /// What the peer's encoder has inserted; each block refers to it and may change it.
    table: DynamicTable,
    /// The size in bytes up to which the peer may set the table; from our SETTINGS, never changes.
    table_bytes_max: usize,
}

/// What becomes of a literal field besides being in the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    /// Later blocks may refer to it (RFC 7541 section 6.2.1).
    Inserted,
    /// It is for this block only (RFC 7541 sections 6.2.2 and 6.2.3).
    Passing,
}

impl Decoder {
    /// A decoder whose peer may use a table of `table_bytes_max` bytes (each entry counts its bytes
    /// plus 32), as our `SETTINGS_HEADER_TABLE_SIZE` announces.
    ///
    /// Below [`TABLE_BYTES_INITIAL`] counts as that many: the peer may use them until it has
    /// acknowledged our SETTINGS, and the decoder does not follow acknowledgements.
    pub fn new(table_bytes_max: usize) -> Decoder {
        Decoder {
            table: DynamicTable::new(TABLE_BYTES_INITIAL),
            table_bytes_max: table_bytes_max.max(TABLE_BYTES_INITIAL),
        }
    }

    /// Decodes one whole header block, replacing what `fields` held.
    ///
    /// A list larger than `fields` may hold is not an error: see [`Fields::is_oversized`]. After an
    /// error neither the decoder nor `fields` means anything: the connection has to end.
    pub fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), HpackError> {
        fields.clear();
        let mut reader = Reader::new(block);
        while let Some(0x20..=0x3f) = reader.peek() {
            self.resize_table(reader.integer(5)?)?;
        }
        while let Some(first) = reader.peek() {
            match first {
                0x80.. => {
                    let (name, value) = self.field(reader.integer(7)?)?;
                    fields.push(name, value);
                }
                0x40..=0x7f => self.literal(Literal::Inserted, &mut reader, fields)?,
                0x20..=0x3f => return Err(HpackError::TableSizeUpdateNotFirst),
                0x00..=0x1f => self.literal(Literal::Passing, &mut reader, fields)?,
            }
            if fields.decoded_bytes() > HEADER_LIST_BYTES_DECODED {
                return Err(HpackError::ListTooLarge);
            }
        }
        Ok(())
    }

    /// The field that `index` stands for (RFC 7541 section 2.3.3): 1 to 61 are static, then the
    /// dynamic table begins with its newest.
    fn field(&self, index: u32) -> Result<(&[u8], &[u8]), HpackError> {
        let position = (index as usize).wrapping_sub(1);
        if let Some(&field) = STATIC_TABLE.get(position) {
            return Ok(field);
        }
        let position = position.wrapping_sub(STATIC_TABLE.len());
        self.table.get(position).ok_or(HpackError::BadIndex { index })
    }

    /// A field that stands in the block itself, at least its value (RFC 7541 section 6.2).
    fn literal(
        &mut self,
        literal: Literal,
        reader: &mut Reader<'_>,
        fields: &mut Fields,
    ) -> Result<(), HpackError> {
        let prefix_bits = if literal == Literal::Inserted { 6 } else { 4 };
        let index = reader.integer(prefix_bits)?;
        // The draft in `fields` also keeps an indexed name alive while the insertion evicts its entry
        // (RFC 7541 section 4.4).
        let draft = fields.draft();
        if index == 0 {
            reader.string(draft)?;
        } else {
            draft.extend_from_slice(self.field(index)?.0);
        }
        let name_bytes = fields.draft_bytes();
        reader.string(fields.draft())?;
        if literal == Literal::Inserted {
            let (name, value) = fields.drafted(name_bytes);
            self.table.insert(name, value);
        }
        fields.keep_draft(name_bytes);
        Ok(())
    }

    /// Follows a size update of the peer (RFC 7541 section 6.3).
    fn resize_table(&mut self, bytes: u32) -> Result<(), HpackError> {
        let bytes_max = self.table_bytes_max;
        if bytes as usize > bytes_max {
            return Err(HpackError::TableSizeOverLimit { bytes, bytes_max });
        }
        self.table.resize(bytes as usize);
        Ok(())
    }
}

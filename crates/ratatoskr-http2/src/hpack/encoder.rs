//! Writes header blocks, small ones for what comes again and again.
//!
//! ```text
//!  put_known("te", "trailers")   1st block:  literal, inserted      10 bytes, 62 at the peer
//!                                then:       indexed                1 byte
//!  put("grpc-message", "…")      literal, for this block only
//!  put_secret("authorization")   literal, and nobody on the way may index it
//! ```
//!
//! Invariants: the table here is the table of the peer's decoder, entry for entry; nothing is ever evicted
//! from it, so what a connection has learned stays learned, and "known" fields that turn out to be ever new
//! cost no more than its 4096 bytes. A block is begun before its fields are put.
//!
//! It does not use Huffman, and uses 4096 bytes of the peer's table or none: a peer that allows less gets
//! literals. It does not check names: they are lower case already (RFC 9113 section 8.2).

use bytes::BytesMut;

use super::TABLE_BYTES_INITIAL;
use super::primitives::{put_integer, put_string};
use super::table::{DynamicTable, STATIC_TABLE, StaticMatch, find_static};

/// How a field, or a size update, begins (RFC 7541 section 6).
#[derive(Clone, Copy)]
struct Form {
    /// The form's own bits, the index's bits 0.
    pattern: u8,
    /// How many bits of the byte are the index's.
    prefix_bits: u8,
}

const INDEXED: Form = Form { pattern: 0x80, prefix_bits: 7 };
const INSERTED: Form = Form { pattern: 0x40, prefix_bits: 6 };
const SIZE_UPDATE: Form = Form { pattern: 0x20, prefix_bits: 5 };
const NEVER_INDEXED: Form = Form { pattern: 0x10, prefix_bits: 4 };
const NOT_INDEXED: Form = Form { pattern: 0x00, prefix_bits: 4 };

/// Writes the header blocks of one connection, in the order of their sending.
#[derive(Debug)]
pub struct Encoder {
    /// What the peer's decoder holds. Its size is 4096, or 0 once the table is given up.
    table: DynamicTable,
    /// Set when the table is given up, until the next block has told the peer.
    is_update_pending: bool,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    /// An encoder for a new connection, whose peer has a table of 4096 bytes until it says otherwise.
    pub fn new() -> Encoder {
        Encoder { table: DynamicTable::new(TABLE_BYTES_INITIAL), is_update_pending: false }
    }

    /// Follows the peer's `SETTINGS_HEADER_TABLE_SIZE`, in bytes. Call it before our acknowledgement is
    /// sent.
    ///
    /// From 4096 on nothing changes. Below, the table is given up for the rest of the connection: the next
    /// block begins with a size update to 0 (RFC 9113 section 4.3.1), and what the static table does not
    /// have is literal from there.
    pub fn set_peer_table_bytes(&mut self, bytes: u32) {
        let is_given_up = self.table.bytes_max() == 0;
        if is_given_up || bytes as usize >= TABLE_BYTES_INITIAL {
            return;
        }
        self.table.resize(0);
        self.is_update_pending = true;
    }

    /// Starts a block: writes a pending table size update, if any.
    pub fn begin(&mut self, out: &mut BytesMut) {
        if self.is_update_pending {
            put_index(SIZE_UPDATE, 0, out);
            self.is_update_pending = false;
        }
    }

    /// A field that comes again and again with the same name and value: indexed if a table has it, else
    /// inserted into the peer's table while it fits without evicting anything, else literal.
    pub fn put_known(&mut self, name: &[u8], value: &[u8], out: &mut BytesMut) {
        // What the static table has is never inserted, so the short table may be asked first.
        if let Some(position) = self.table.find(name, value) {
            put_index(INDEXED, (STATIC_TABLE.len() + 1 + position) as u32, out);
            return;
        }
        let found = find_static(name, value);
        if let StaticMatch::Field(index) = found {
            put_index(INDEXED, index, out);
        } else if self.table.has_room_for(name, value) {
            self.table.insert(name, value);
            put_literal(INSERTED, found, (name, value), out);
        } else {
            put_literal(NOT_INDEXED, found, (name, value), out);
        }
    }

    /// A field that differs each time: literal, and neither side remembers it.
    pub fn put(&mut self, name: &[u8], value: &[u8], out: &mut BytesMut) {
        put_literal(NOT_INDEXED, find_static(name, value), (name, value), out);
    }

    /// As [`Encoder::put`], for a secret: who forwards it must not index it either (RFC 7541 section 7.1.3).
    pub fn put_secret(&mut self, name: &[u8], value: &[u8], out: &mut BytesMut) {
        put_literal(NEVER_INDEXED, find_static(name, value), (name, value), out);
    }
}

fn put_index(form: Form, index: u32, out: &mut BytesMut) {
    put_integer(form.pattern, form.prefix_bits, index, out);
}

/// A literal field, its name by index if the static table has it (RFC 7541 section 6.2).
fn put_literal(form: Form, found: StaticMatch, (name, value): (&[u8], &[u8]), out: &mut BytesMut) {
    match found {
        StaticMatch::Field(index) | StaticMatch::Name(index) => put_index(form, index, out),
        StaticMatch::Nothing => {
            put_index(form, 0, out);
            put_string(name, out);
        }
    }
    put_string(value, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One block of "known" fields.
    fn block(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = BytesMut::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.put_known(name.as_bytes(), value.as_bytes(), &mut out);
        }
        out.to_vec()
    }

    #[test]
    fn a_field_of_the_static_table_is_one_byte_from_the_start() {
        assert_eq!(block(&mut Encoder::new(), &[(":status", "200"), (":method", "POST")]), [0x88, 0x83]);
    }

    #[test]
    fn a_known_field_is_inserted_once_and_then_indexed_with_the_newest_at_62() {
        let mut encoder = Encoder::new();
        assert_eq!(block(&mut encoder, &[("te", "trailers")]), b"\x40\x02te\x08trailers");
        assert_eq!(block(&mut encoder, &[("te", "trailers")]), [0xbe]);
        assert_eq!(block(&mut encoder, &[("accept", "x")]), b"\x53\x01x");
        assert_eq!(block(&mut encoder, &[("te", "trailers"), ("accept", "x")]), [0xbf, 0xbe]);
    }

    #[test]
    fn a_known_field_that_would_evict_another_stays_literal() {
        let mut encoder = Encoder::new();
        block(&mut encoder, &[("a", "1")]);
        let large = "x".repeat(TABLE_BYTES_INITIAL - 34 - 32);
        for _ in 0..2 {
            assert_eq!(block(&mut encoder, &[("b", &large)])[..3], *b"\x00\x01b");
        }
        assert_eq!(block(&mut encoder, &[("a", "1")]), [0xbe]);
        // One byte less fits exactly.
        assert_eq!(block(&mut encoder, &[("b", &large[1..])])[..3], *b"\x40\x01b");
        assert_eq!(block(&mut encoder, &[("c", "")]), b"\x00\x01c\x00");
    }

    #[test]
    fn put_and_put_secret_remember_nothing_and_use_names_of_the_static_table() {
        let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
        encoder.put(b":path", b"/", &mut out);
        encoder.put(b"x", b"y", &mut out);
        encoder.put_secret(b"authorization", b"s", &mut out);
        encoder.put_secret(b"x", b"y", &mut out);
        assert_eq!(&out[..], b"\x04\x01/\x00\x01x\x01y\x1f\x08\x01s\x10\x01x\x01y");
        assert_eq!(encoder.table.bytes(), 0);
    }

    #[test]
    fn a_smaller_table_at_the_peer_is_given_up_with_the_next_block_for_good() {
        let mut encoder = Encoder::new();
        block(&mut encoder, &[("te", "trailers")]);
        encoder.set_peer_table_bytes(4095);
        encoder.set_peer_table_bytes(65_536);
        assert_eq!(block(&mut encoder, &[("te", "trailers")]), b"\x20\x00\x02te\x08trailers");
        encoder.set_peer_table_bytes(100);
        assert_eq!(
            block(&mut encoder, &[("te", "trailers"), (":status", "200")]),
            b"\x00\x02te\x08trailers\x88"
        );
    }

    #[test]
    fn a_larger_table_at_the_peer_changes_nothing() {
        let mut encoder = Encoder::new();
        encoder.set_peer_table_bytes(4096);
        encoder.set_peer_table_bytes(65_536);
        block(&mut encoder, &[("te", "trailers")]);
        assert_eq!(block(&mut encoder, &[("te", "trailers")]), [0xbe]);
    }
}

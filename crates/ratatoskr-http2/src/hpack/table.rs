//! The tables that indices point into: the static one of the RFC, and a connection's own.
//!
//! ```text
//!  index     1 … 61              62 (newest) … (oldest)
//!            STATIC_TABLE        entries, from the back to the front
//!
//!  text      ░░░░░░░░░ te trailers user-agent x/1 x-new 1        each entry one piece
//!            evicted   ▲ front                    ▲ back         appended at the end
//! ```
//!
//! Invariants: the sum of the entries (name, value and 32 bytes each, RFC 7541 section 4.1) is at most
//! `bytes_max`, so there are at most `bytes_max / 32` of them; `text` is at most twice `bytes_max`, because
//! the evicted part is cut off before it grows further. Insertion is rare, look-up is not: names and values
//! are whole slices. It does not know which table an index on the wire belongs to; the decoder does.

use std::collections::VecDeque;

use super::fields::FIELD_OVERHEAD_BYTES;

/// The fields every connection knows, from index 1 on: RFC 7541 appendix A.
/// Fields of the same name stand together, and what has no value of its own stands with an empty one.
pub(super) static STATIC_TABLE: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// What the static table has of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StaticMatch {
    /// Name and value, at this index.
    Field(u32),
    /// The name, first at this index.
    Name(u32),
    /// Neither.
    Nothing,
}

/// Looks for a field in the static table.
pub(super) fn find_static(name: &[u8], value: &[u8]) -> StaticMatch {
    let Some(first) = STATIC_TABLE.iter().position(|&(known, _)| known == name) else {
        return StaticMatch::Nothing;
    };
    let same_name = STATIC_TABLE[first..].iter().take_while(|&&(known, _)| known == name);
    for (index, &(_, known)) in (first as u32 + 1..).zip(same_name) {
        if known == value {
            return StaticMatch::Field(index);
        }
    }
    StaticMatch::Name(first as u32 + 1)
}

/// The fields a connection has inserted, one direction of it (RFC 7541 section 2.3.2).
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// Oldest first; insertion appends, eviction takes from the front.
    entries: VecDeque<Entry>,
    /// Names and values of the entries, behind what evicted ones have left.
    text: Vec<u8>,
    /// The size of the entries as the RFC counts it; follows insertion and eviction.
    bytes: usize,
    /// The most that `bytes` may be; set by size updates.
    bytes_max: usize,
}

/// Where one field lies in the text.
#[derive(Debug)]
struct Entry {
    /// Where its name begins.
    start: usize,
    /// Where its name ends and its value begins.
    name_end: usize,
    /// Where its value ends.
    end: usize,
}

impl Entry {
    /// What it counts (RFC 7541 section 4.1).
    fn bytes(&self) -> usize {
        self.end - self.start + FIELD_OVERHEAD_BYTES
    }
}

impl DynamicTable {
    /// An empty table for `bytes_max`; it takes memory as it fills.
    pub(super) fn new(bytes_max: usize) -> DynamicTable {
        DynamicTable { entries: VecDeque::new(), text: Vec::new(), bytes: 0, bytes_max }
    }

    /// Name and value at `position`, 0 being the newest.
    pub(super) fn get(&self, position: usize) -> Option<(&[u8], &[u8])> {
        let oldest_first = self.entries.len().checked_sub(1)?.checked_sub(position)?;
        self.entries.get(oldest_first).map(|entry| self.field(entry))
    }

    /// The position of a field, 0 being the newest.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        // The length tells nearly all entries apart before a byte is compared.
        let bytes = name.len() + value.len() + FIELD_OVERHEAD_BYTES;
        self.entries
            .iter()
            .rev()
            .position(|entry| entry.bytes() == bytes && self.field(entry) == (name, value))
    }

    /// The most the entries may count; 0 means that none fits.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether a field can be inserted without evicting another.
    pub(super) fn has_room_for(&self, name: &[u8], value: &[u8]) -> bool {
        self.bytes + name.len() + value.len() + FIELD_OVERHEAD_BYTES <= self.bytes_max
    }

    /// Inserts a field as the newest and evicts the oldest until it fits. One that is larger than the
    /// whole table leaves it empty, which is no error (RFC 7541 section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let bytes = name.len() + value.len() + FIELD_OVERHEAD_BYTES;
        self.evict_down_to(self.bytes_max.saturating_sub(bytes));
        if bytes > self.bytes_max {
            return;
        }
        if self.text.len() + bytes > 2 * self.bytes_max {
            self.cut_evicted();
        }
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let name_end = self.text.len();
        self.text.extend_from_slice(value);
        self.entries.push_back(Entry { start, name_end, end: self.text.len() });
        self.bytes += bytes;
    }

    /// Sets the size, evicting the oldest until they fit (RFC 7541 section 4.3).
    pub(super) fn resize(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict_down_to(bytes_max);
    }

    fn field(&self, entry: &Entry) -> (&[u8], &[u8]) {
        (&self.text[entry.start..entry.name_end], &self.text[entry.name_end..entry.end])
    }

    fn evict_down_to(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let oldest = self.entries.pop_front().expect("a table that counts bytes has entries");
            self.bytes -= oldest.bytes();
        }
        if self.entries.is_empty() {
            self.text.clear();
        }
    }

    /// Moves the entries to the start of the text. At least as much is cut off as is moved, so an
    /// insertion costs its own bytes on average.
    fn cut_evicted(&mut self) {
        let evicted = self.entries.front().map_or(self.text.len(), |oldest| oldest.start);
        self.text.drain(..evicted);
        for entry in &mut self.entries {
            entry.start -= evicted;
            entry.name_end -= evicted;
            entry.end -= evicted;
        }
    }
}

#[cfg(test)]
impl DynamicTable {
    /// The size as the RFC counts it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of text held, evicted ones included.
    pub(super) fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// All fields, the newest first.
    pub(super) fn fields(&self) -> Vec<(&[u8], &[u8])> {
        (0..).map_while(|position| self.get(position)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_static_table_is_found_by_name_and_by_value() {
        assert_eq!(find_static(b":authority", b""), StaticMatch::Field(1));
        assert_eq!(find_static(b":method", b"POST"), StaticMatch::Field(3));
        assert_eq!(find_static(b":path", b"/a.B/C"), StaticMatch::Name(4));
        assert_eq!(find_static(b":status", b"500"), StaticMatch::Field(14));
        assert_eq!(find_static(b"content-type", b"application/grpc"), StaticMatch::Name(31));
        assert_eq!(find_static(b"www-authenticate", b"x"), StaticMatch::Name(61));
        assert_eq!(find_static(b"grpc-status", b"0"), StaticMatch::Nothing);
    }

    #[test]
    fn a_field_larger_than_the_table_empties_it() {
        let mut table = DynamicTable::new(64);
        table.insert(b"a", b"b");
        table.insert(b"name", &[b'x'; 29]);
        assert_eq!((table.bytes(), table.fields()), (0, vec![]));
    }

    #[derive(Clone, Debug)]
    enum Change {
        Insert(Vec<u8>, Vec<u8>),
        Resize(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let text = || prop::collection::vec(any::<u8>(), 0..40);
        prop_oneof![
            9 => (text(), text()).prop_map(|(name, value)| Change::Insert(name, value)),
            1 => (0_usize..300).prop_map(Change::Resize),
        ]
    }

    proptest! {
        #[test]
        fn the_table_holds_the_newest_that_fit(changes in prop::collection::vec(change(), 0..80)) {
            let mut table = DynamicTable::new(256);
            let mut bytes_max = 256;
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for change in changes {
                match change {
                    Change::Insert(name, value) => {
                        table.insert(&name, &value);
                        model.insert(0, (name, value));
                    }
                    Change::Resize(bytes) => {
                        table.resize(bytes);
                        bytes_max = bytes;
                    }
                }
                let size = |fields: &[(Vec<u8>, Vec<u8>)]| -> usize {
                    fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
                };
                while size(&model) > bytes_max {
                    model.pop();
                }
                let expected: Vec<_> = model.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
                prop_assert_eq!(table.fields(), expected);
                prop_assert_eq!(table.bytes(), size(&model));
                prop_assert!(table.text_bytes() <= 2 * 300);
            }
        }
    }
}

//! The fields of one header block, in one buffer that is used again for the next block.
//!
//! ```text
//!  text   :method POST :path /a/B  te trailers  x-new …
//!                ▲    ▲     ▲    ▲    ▲        ▲└ draft: a literal that is still being read
//!  ends   [ (name,  value) (name, value) (name, value) ]
//! ```
//!
//! Invariants: the kept fields are a prefix of the list the peer sent, and their sum (name, value and
//! 32 bytes each) is at most `bytes_max`. Past the limit nothing more is kept, even if it would fit:
//! a list with holes would be a lie. It does not know which names or values are allowed.

/// Bytes a field counts besides name and value (RFC 7541 section 4.1, RFC 9113 section 6.5.2).
pub(super) const FIELD_OVERHEAD_BYTES: usize = 32;

/// The fields of one header block, in their order.
#[derive(Debug)]
pub struct Fields {
    /// Names and values one after the other; what lies past the last of `ends` is a draft.
    text: Vec<u8>,
    /// Where in `text` the name and the value of each field end; a field begins where the last ended.
    ends: Vec<(u32, u32)>,
    /// The most that `list_bytes` may be; set at construction.
    bytes_max: usize,
    /// The size of the kept fields as RFC 9113 section 6.5.2 counts it; grows with each.
    list_bytes: usize,
    /// The same for all fields of the block, kept or not.
    decoded_bytes: usize,
    /// Set by the first field that does not fit, until the next block.
    is_oversized: bool,
}

impl Fields {
    /// An empty list that keeps at most `bytes_max` bytes, each field counted as name, value and 32
    /// bytes: our `SETTINGS_MAX_HEADER_LIST_SIZE` (RFC 9113 section 6.5.2). Above 4 GiB counts as 4 GiB.
    pub fn new(bytes_max: usize) -> Fields {
        Fields {
            text: Vec::new(),
            ends: Vec::new(),
            bytes_max: bytes_max.min(u32::MAX as usize),
            list_bytes: 0,
            decoded_bytes: 0,
            is_oversized: false,
        }
    }

    /// Names and values in the order of the block.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let field = (&self.text[start..name_end], &self.text[name_end..value_end]);
            start = value_end;
            field
        })
    }

    /// Whether the block's list was larger than the limit. The fields from the first that did not fit
    /// are missing; the request is to be refused (status 431, RFC 6585 section 5), the connection is sound.
    pub fn is_oversized(&self) -> bool {
        self.is_oversized
    }

    /// How many fields are kept.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no field is kept.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What the fields of the block count together, kept or not.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.decoded_bytes
    }

    /// Forgets the fields and keeps the buffers, except for what an oversized list made them grow.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.list_bytes = 0;
        self.decoded_bytes = 0;
        if self.is_oversized {
            self.text.shrink_to(self.bytes_max);
            self.is_oversized = false;
        }
    }

    /// Gives back what an oversized list made the buffers grow. For when nobody looks at the fields any more.
    pub(crate) fn shrink(&mut self) {
        if self.is_oversized {
            self.clear();
        }
    }

    /// Bytes of the buffers.
    pub(crate) fn buffered(&self) -> usize {
        self.text.capacity()
    }

    /// Adds a field, if the list may still grow by it.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.admit(name.len() + value.len()) {
            self.text.extend_from_slice(name);
            let name_end = self.text.len() as u32;
            self.text.extend_from_slice(value);
            self.ends.push((name_end, self.text.len() as u32));
        }
    }

    /// Where the name and then the value of a literal are to be appended.
    pub(super) fn draft(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Bytes drafted so far.
    pub(super) fn draft_bytes(&self) -> usize {
        self.text.len() - self.kept_bytes()
    }

    /// The draft, whose name has `name_bytes`.
    pub(super) fn drafted(&self, name_bytes: usize) -> (&[u8], &[u8]) {
        self.text[self.kept_bytes()..].split_at(name_bytes)
    }

    /// Makes the draft a field, if the list may still grow by it; else drops it.
    pub(super) fn keep_draft(&mut self, name_bytes: usize) {
        let start = self.kept_bytes();
        if self.admit(self.text.len() - start) {
            self.ends.push(((start + name_bytes) as u32, self.text.len() as u32));
        } else {
            self.text.truncate(start);
        }
    }

    /// Bytes of `text` that belong to kept fields.
    fn kept_bytes(&self) -> usize {
        self.ends.last().map_or(0, |&(_, value_end)| value_end as usize)
    }

    /// Counts a field of `bytes` in name and value, or finds that the list ends here.
    fn admit(&mut self, bytes: usize) -> bool {
        self.decoded_bytes += bytes + FIELD_OVERHEAD_BYTES;
        let list_bytes = self.list_bytes + bytes + FIELD_OVERHEAD_BYTES;
        if self.is_oversized || list_bytes > self.bytes_max {
            self.is_oversized = true;
            return false;
        }
        self.list_bytes = list_bytes;
        true
    }
}

//! [`Marks`]: where records of a long chunk start, so that finding one by its offset needs no walk from the chunk's beginning.

use std::sync::{Arc, OnceLock};

use super::read_u32;

/// Every so manieth record has its place noted: a walk between two marks costs less than a cache miss or two, and the marks of
/// a chunk are a few bytes per kilobyte.
const RECORDS_PER_MARK: usize = 32;

/// See the file's head. Made when first used, by one walk; clones share them. A short chunk, or one that begins within another,
/// has none.
#[derive(Clone, Debug, Default)]
pub struct Marks(Option<Arc<OnceLock<Box<[u32]>>>>);

impl Marks {
    /// For a chunk of so many records.
    pub fn for_count(count: u32) -> Marks {
        Marks((count as usize > RECORDS_PER_MARK).then(Arc::default))
    }

    /// Where record number `skip` of these records starts, or where they end if there are fewer.
    pub(super) fn find(&self, skip: u32, records: &[u8]) -> usize {
        let skip = skip as usize;
        let known = self.0.as_ref().map(|marks| marks.get_or_init(|| walk(records)));
        let mark = (skip / RECORDS_PER_MARK).min(known.map_or(0, |known| known.len().saturating_sub(1)));
        let start = known.and_then(|known| known.get(mark)).map_or(0, |&start| start as usize);
        let left = skip - mark * RECORDS_PER_MARK;
        (0..left)
            .fold(start, |at, _| if at < records.len() { at + read_u32(records, at) as usize } else { at })
    }
}

fn walk(records: &[u8]) -> Box<[u32]> {
    let (mut marks, mut at, mut index) = (Vec::new(), 0, 0);
    while at < records.len() {
        if index % RECORDS_PER_MARK == 0 {
            marks.push(u32::try_from(at).expect("a chunk is far below 4 GiB"));
        }
        at += read_u32(records, at) as usize;
        index += 1;
    }
    marks.into()
}

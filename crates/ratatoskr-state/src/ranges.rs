//! [`Ranges`]: a set of offsets, kept as half-open ranges that never touch.
//!
//! ```text
//!   {0..5, 7..9}  ∪ 5..7  =  {0..9}        ten million settled offsets around one that is not: two ranges
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Ends by start; no two overlap or touch.
    ends: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds a range; answers how many offsets are new.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let (mut start, mut end) = (range.start, range.end);
        let mut had = 0;
        // The last range that begins at or before ours may reach into it, or touch it.
        if let Some((&before, &reach)) = self.ends.range(..=start).next_back()
            && reach >= start
        {
            if reach >= end {
                return 0;
            }
            had += reach - start;
            start = before;
        }
        while let Some((&next, &reach)) = self.ends.range(start.saturating_add(1)..=end).next() {
            had += reach.min(range.end) - next.max(range.start);
            end = end.max(reach);
            self.ends.remove(&next);
        }
        self.ends.insert(start, end);
        range.end - range.start - had
    }

    /// True when an offset is in one of them.
    pub fn contains(&self, offset: u64) -> bool {
        self.end_of(offset).is_some()
    }

    /// The end of the range an offset lies in.
    pub fn end_of(&self, offset: u64) -> Option<u64> {
        self.ends.range(..=offset).next_back().map(|(_, &end)| end).filter(|&end| end > offset)
    }

    /// Ranges from an offset on that are not in the set, the first `count` of them. The last one there is has no end.
    pub fn gaps(&self, from: u64, count: usize) -> Vec<Range<u64>> {
        let mut at = self.end_of(from).unwrap_or(from);
        let mut gaps = Vec::new();
        for (&start, &end) in self.ends.range(at..) {
            if gaps.len() == count {
                return gaps;
            }
            gaps.push(at..start);
            at = end;
        }
        if gaps.len() < count {
            gaps.push(at..u64::MAX);
        }
        gaps
    }

    /// Offsets in the set from `from` on.
    pub fn count_from(&self, from: u64) -> u64 {
        let inside = self.end_of(from).map_or(0, |end| end - from);
        inside + self.ends.range(from.saturating_add(1)..).map(|(start, end)| end - start).sum::<u64>()
    }

    /// Forgets everything before an offset.
    pub fn remove_before(&mut self, offset: u64) {
        let reach = self.end_of(offset);
        self.ends = self.ends.split_off(&offset);
        if let Some(end) = reach {
            self.ends.insert(offset, end);
        }
    }

    /// Takes out everything from an offset on.
    #[must_use]
    pub fn split_off(&mut self, at: u64) -> Ranges {
        let mut behind = self.ends.split_off(&at);
        if let Some(mut last) = self.ends.last_entry()
            && *last.get() > at
        {
            behind.insert(at, last.insert(at));
        }
        Ranges { ends: behind }
    }

    /// The ranges, ascending; no two touch.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<u64>> {
        self.ends.iter().map(|(&start, &end)| start..end)
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl FromIterator<u64> for Ranges {
    fn from_iter<T: IntoIterator<Item = u64>>(offsets: T) -> Ranges {
        let mut ranges = Ranges::default();
        for offset in offsets {
            ranges.insert(offset..offset + 1);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_their_offsets(steps in prop::collection::vec((0u64..60, 0u64..12, 0u8..8), 0..60)) {
            let (mut ranges, mut naive) = (Ranges::default(), BTreeSet::new());
            for (start, length, kind) in steps {
                if kind == 0 {
                    ranges.remove_before(start);
                    naive = naive.split_off(&start);
                } else {
                    let before = naive.len();
                    naive.extend(start..start + length);
                    prop_assert_eq!(ranges.insert(start..start + length), (naive.len() - before) as u64);
                }
                let flat: BTreeSet<u64> = ranges.iter().flatten().collect();
                prop_assert_eq!(&flat, &naive);
                prop_assert_eq!(ranges.count_from(0), naive.len() as u64);
                for offset in 0..75 {
                    prop_assert_eq!(ranges.contains(offset), naive.contains(&offset));
                    prop_assert_eq!(ranges.count_from(offset), naive.range(offset..).count() as u64);
                }
                for from in [0, start, start + length] {
                    let gaps = ranges.gaps(from, 3);
                    let unlike = |offset: &u64| !naive.contains(offset);
                    let in_gaps: Vec<u64> = gaps.iter().flat_map(|gap| gap.start..gap.end.min(75)).collect();
                    let first_ones: Vec<u64> = (from..75).filter(unlike).take(in_gaps.len()).collect();
                    prop_assert_eq!(&in_gaps, &first_ones);
                    let is_whole = gaps.last().is_some_and(|gap| gap.end == u64::MAX);
                    prop_assert!(is_whole || gaps.len() == 3);
                }
                let all: Vec<_> = ranges.iter().collect();
                prop_assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?} touch", all);
            }
        }
    }
}

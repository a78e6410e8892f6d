//! How full the file system of the data directory is: told once at each threshold, before publishing has to wait.
//!
//! ```text
//!   used %   79 ─▶ 81      ─▶ 79    ─▶ 76             ─▶ 96
//!   told          80 %        –        (again below)     95 %
//! ```
//!
//! A pure state machine; the thread that sweeps for retention feeds it. Invariant: a threshold is told again only after
//! use has fallen well below it, so use that sways around one is told once.

use ratatoskr_log::DiskSpace;

/// What is told, in percent of the file system.
const THRESHOLDS: [u64; 3] = [80, 90, 95];
/// So far below a threshold use must fall before it is told again.
const FALL: u64 = 3;

/// Which threshold was told last.
#[derive(Debug, Default)]
pub(crate) struct Fullness {
    /// In percent; 0 while use is below all of them.
    told: u64,
}

impl Fullness {
    /// Takes in how full the disk is now. Answers a threshold that is to be told.
    pub(crate) fn look(&mut self, space: DiskSpace) -> Option<u64> {
        let percent = space.used_percent();
        let reached = |percent: u64| THRESHOLDS.into_iter().rev().find(|threshold| percent >= *threshold);
        let now = reached(percent).unwrap_or(0);
        if now > self.told {
            self.told = now;
            return Some(now);
        }
        if percent + FALL < self.told {
            self.told = now;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_told_once_until_use_has_fallen_well_below_it() {
        let mut fullness = Fullness::default();
        let mut look = |percent: u64| {
            fullness.look(DiskSpace { used_bytes: percent * 1000, available_bytes: (100 - percent) * 1000 })
        };
        let told: Vec<_> = [10, 79, 80, 84, 79, 81, 90, 89, 91, 99, 95, 94, 96].map(&mut look).into();
        let some = [(2, 80), (6, 90), (9, 95)];
        for (at, told) in told.iter().enumerate() {
            assert_eq!(
                *told,
                some.iter().find(|(place, _)| *place == at).map(|(_, percent)| *percent),
                "{at}"
            );
        }
        assert_eq!([91, 96].map(&mut look), [None, Some(95)], "4 below 95, then there again");
        assert_eq!([50, 80].map(&mut look), [None, Some(80)]);
        assert_eq!(look(0), None);
    }
}

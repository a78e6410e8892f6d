//! Broken on purpose: each of these must be noticed by the tests beside, or they test nothing.

#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
use ratatoskr_sim::Lie;
use ratatoskr_sim::SimDisk;

use crate::every_operation::{crash_at, tour_until};

/// How many cuts of the tour show that something is broken.
fn cuts_that_notice(broken: impl Fn(&SimDisk)) -> usize {
    let whole = SimDisk::new();
    broken(&whole);
    let _ = tour_until(&whole, u64::MAX);
    (0..=whole.operations()).step_by(5).filter(|cut| crash_at(*cut, &broken).is_err()).count()
}

#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
#[test]
fn an_acknowledgement_before_the_sync_is_noticed() {
    assert!(cuts_that_notice(|disk| disk.lie_about(Lie::FileSync)) > 10);
}

#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
#[test]
fn a_missing_folder_sync_is_noticed() {
    assert!(cuts_that_notice(|disk| disk.lie_about(Lie::FolderSync)) > 10);
}

#[cfg(feature = "broken-no-sync")]
#[test]
fn a_log_that_acknowledges_before_the_sync_is_noticed() {
    assert!(cuts_that_notice(|_| {}) > 10);
}

#[cfg(feature = "broken-no-checksum")]
#[test]
fn a_log_without_checksums_is_noticed() {
    assert!(cuts_that_notice(|_| {}) > 0);
    let (segment, journal) = (crate::flipped_bits::flip_a_segment(), crate::flipped_bits::flip_a_journal());
    assert!(segment.is_err() && journal.is_err(), "{segment:?} {journal:?}");
    let cuts = crate::cuts::a_journal_that_ends_anywhere_gives_back_exactly_its_whole_blocks;
    assert!(std::panic::catch_unwind(cuts).is_err(), "a torn block passes");
}

#[cfg(feature = "broken-late-handle")]
#[test]
fn a_log_that_syncs_a_segment_through_a_handle_opened_later_is_noticed() {
    let lost = (1..).map_while(crate::failures::lose_a_write).filter(Result::is_err).count();
    assert!(lost > 0, "every lost write was told");
}

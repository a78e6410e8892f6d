//! The disk fails while the log is at work: a failed sync or write ends all acknowledging, a full disk or a lack of file
//! descriptors only refuses.

use ratatoskr_log::LogError;
use ratatoskr_sim::{Broken, Loss, Promises, SimClock, SimDisk, Survival};

use crate::every_operation::recover_twice;
use crate::life::{End, Life};
use crate::script::{Step, tour};

/// Plays the tour until something fails; answers the life and whether it did.
fn play_until_failure(disk: &SimDisk) -> Option<(Life, bool)> {
    let life = Life::begin(disk, &SimClock::at(100), Promises::default(), Loss::Power);
    let mut life = life.ok()?;
    let failed = life.play_all(&tour()).is_err();
    Some((life, failed))
}

/// After the failure nothing is acknowledged any more, and whatever luck decides, all that was is there.
fn assert_poisoned(disk: &SimDisk, mut life: Life, what: &str) {
    for _ in 0..3 {
        let append = |name| Step::Append { name, count: 1, bytes: 10 };
        let create = Step::Create { name: "scratch", settings: "synced" };
        life.play_all(&[create, append("scratch"), append("orders")]).unwrap();
        let refusal = life.commit();
        assert!(matches!(refusal, Err(LogError::Poisoned { .. })), "{what}: {refusal:?}");
    }
    let outcomes = [(disk.kill(), Loss::Process), (disk.crash(Survival::Nothing), Loss::Power)];
    let seeded = (0..3).map(|seed| (disk.crash(Survival::Seeded(seed)), Loss::Power));
    for (disk, loss) in outcomes.into_iter().chain(seeded) {
        recover_twice(&disk, &life.promises, loss).unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
}

#[test]
fn after_any_failed_sync_nothing_is_acknowledged() {
    let mut failures = 0;
    for nth in 1.. {
        let disk = SimDisk::new();
        disk.fail_sync(nth);
        match play_until_failure(&disk) {
            // It failed while the log was opened: nobody was told anything.
            None => continue,
            Some((_, false)) => break,
            Some((life, true)) => assert_poisoned(&disk, life, &format!("sync {nth} failed")),
        }
        failures += 1;
    }
    assert!(failures > 30, "the tour has many syncs, and only {failures} failed");
}

#[test]
fn after_any_failed_write_nothing_is_acknowledged() {
    let mut failures = 0;
    for nth in 1.. {
        let disk = SimDisk::new();
        disk.fail_write(nth);
        match play_until_failure(&disk) {
            None => continue,
            Some((_, false)) => break,
            Some((life, true)) => assert_poisoned(&disk, life, &format!("write {nth} failed")),
        }
        failures += 1;
    }
    assert!(failures > 30, "the tour has many writes, and only {failures} failed");
}

/// Plays the tour on a disk that takes the `nth` write for good and then loses it. True if a sync told of it, false if nothing depended
/// on it; `None` if there are no so many writes. What was promised must be there in either case.
pub(crate) fn lose_a_write(nth: u64) -> Option<Result<bool, Broken>> {
    let disk = SimDisk::new();
    let life = Life::begin(&disk, &SimClock::at(100), Promises::default(), Loss::Power);
    let mut life = life.unwrap_or_else(|(_, end)| panic!("{end:?}"));
    let before = disk.trace().len();
    disk.fail_write_back(nth);
    let failed = life.play_all(&tour()).is_err();
    let writes = disk.trace()[before..].iter().filter(|line| line.starts_with("write ")).count();
    if (writes as u64) < nth {
        return None;
    }
    if failed {
        assert_poisoned(&disk, life, &format!("write {nth} was lost"));
        return Some(Ok(true));
    }
    let survived = disk.crash(Survival::Nothing);
    Some(recover_twice(&survived, &life.promises, Loss::Power).map(|()| false))
}

#[cfg(not(feature = "broken-late-handle"))]
#[test]
fn a_write_that_is_lost_on_its_way_to_the_disk_is_told_before_anything_depends_on_it() {
    let mut told = 0;
    for (nth, outcome) in (1..).map_while(|nth| Some((nth, lose_a_write(nth)?))) {
        let was_told = outcome.unwrap_or_else(|broken| panic!("write {nth} was lost: {broken}"));
        told += usize::from(was_told);
    }
    assert!(told > 30, "the tour has many writes, and only {told} were missed");
}

#[cfg(not(feature = "broken-late-handle"))]
#[test]
fn a_file_that_cannot_be_opened_for_now_loses_nothing_and_work_goes_on() {
    let mut refused = 0;
    for nth in 1.. {
        let disk = SimDisk::new();
        let life = Life::begin(&disk, &SimClock::at(100), Promises::default(), Loss::Power);
        let mut life = life.unwrap_or_else(|(_, end)| panic!("{end:?}"));
        disk.refuse_open(nth);
        // A block may be refused meanwhile, but nothing is given up.
        life.was_tight = true;
        // A reader is told, and tries again: see below.
        let steps: Vec<Step> = tour().into_iter().filter(|step| !matches!(step, Step::Look)).collect();
        let played = life.play_all(&steps);
        played.unwrap_or_else(|end| panic!("call {nth} that opens something was refused: {end:?}"));
        life.play(&Step::Flusher).unwrap();
        if disk.will_refuse() {
            break;
        }
        life.look().unwrap();
        let append = Step::Append { name: "orders", count: 1, bytes: 10 };
        life.play(&append).unwrap();
        life.commit().unwrap_or_else(|error| panic!("call {nth} was refused: {error}"));
        for survival in [Survival::Nothing, Survival::Everything, Survival::Seeded(nth)] {
            let recovered = recover_twice(&disk.crash(survival), &life.promises, Loss::Power);
            recovered.unwrap_or_else(|broken| panic!("call {nth} was refused, then {survival:?}: {broken}"));
        }
        refused += 1;
    }
    assert!(refused > 30, "the tour opens many files, and only {refused} were refused");
}

#[test]
fn the_journal_gets_the_descriptors_of_segments_that_are_open_only_for_speed() {
    let disk = SimDisk::new();
    let life = Life::begin(&disk, &SimClock::at(100), Promises::default(), Loss::Power);
    let mut life = life.unwrap_or_else(|(_, end)| panic!("{end:?}"));
    let append = |bytes| Step::Append { name: "orders", count: 1, bytes };
    let create = Step::Create { name: "orders", settings: "synced" };
    life.play_all(&[create, append(9000), Step::Commit, append(9000), Step::Commit, Step::Flusher]).unwrap();
    let flushed = disk.trace().iter().any(|line| line.starts_with("write ") && line.contains(".segment"));
    assert!(flushed, "no segment is open");
    disk.set_open_files_max(Some(disk.open_files()));
    let refusal = (0..10).find_map(|_| {
        life.play(&append(3000)).unwrap();
        life.commit().err()
    });
    assert!(matches!(refusal, Some(LogError::NoDescriptors { .. })), "{refusal:?}");

    life.play(&Step::Flusher).unwrap();
    life.play(&append(3000)).unwrap();
    life.commit().unwrap();
    life.look().unwrap();
    recover_twice(&disk.crash(Survival::Nothing), &life.promises, Loss::Power).unwrap();
}

/// Appends until the journal needs its next file and the `nth` call that opens something for it is refused. `None` if it opens fewer.
fn refuse_while_rotating(nth: u64) -> Option<(SimDisk, Life)> {
    let disk = SimDisk::new();
    let life = Life::begin(&disk, &SimClock::at(100), Promises::default(), Loss::Power);
    let mut life = life.unwrap_or_else(|(_, end)| panic!("{end:?}"));
    life.play_all(&[Step::Create { name: "orders", settings: "synced" }, Step::Commit]).unwrap();
    for _ in 0..10 {
        disk.refuse_open(nth);
        life.play(&Step::Append { name: "orders", count: 1, bytes: 3000 }).unwrap();
        if let Err(error) = life.commit() {
            assert!(matches!(error, LogError::NoDescriptors { .. }), "{error}");
            return Some((disk, life));
        }
    }
    None
}

#[test]
fn a_rotation_that_was_refused_half_way_keeps_the_order_of_blocks() {
    let mut refused = 0;
    for (nth, (disk, mut life)) in (1..).map_while(|nth| Some((nth, refuse_while_rotating(nth)?))) {
        // A trim may use the reserve of the old file, as long as the new one has no name.
        life.was_tight = true;
        disk.set_open_files_max(Some(0));
        life.play_all(&[Step::Trim { name: "orders", keep: 1 }, Step::Commit, Step::Look]).unwrap();
        disk.set_open_files_max(None);
        for _ in 0..2 {
            life.play(&Step::Append { name: "orders", count: 1, bytes: 10 }).unwrap();
            life.commit().unwrap();
            life.look().unwrap();
            for survival in [Survival::Nothing, Survival::Everything, Survival::Seeded(nth)] {
                let recovered = recover_twice(&disk.crash(survival), &life.promises, Loss::Power);
                recovered.unwrap_or_else(|broken| panic!("call {nth}, {survival:?}: {broken}"));
            }
        }
        refused += 1;
    }
    assert_eq!(refused, 4, "the spare is made and named, then it is opened and named as the next file");
}

#[test]
fn a_read_that_fails_is_told_and_works_once_the_disk_is_sound() {
    let disk = SimDisk::new();
    let (mut life, failed) = play_until_failure(&disk).unwrap();
    assert!(!failed);
    life.play_all(&[Step::Flusher]).unwrap();
    let names: Vec<String> =
        disk.trace().iter().filter_map(|line| Some(line.split(' ').nth(1)?.to_owned())).collect();
    for name in names.iter().filter(|name| name.ends_with(".segment")) {
        disk.fail_reads(name);
    }
    let Err(End::Broken(broken)) = life.look() else { panic!("old records are in segments only") };
    assert!(broken.to_string().contains("simulated input/output error"), "{broken}");
    disk.heal_reads();
    life.look().unwrap();
}

/// Fills a disk that has room for one journal file until an append is refused.
pub(crate) fn fill_until_refused() -> (SimDisk, SimClock, Life) {
    let (disk, clock) = (SimDisk::new(), SimClock::at(1000));
    let life = Life::begin(&disk, &clock, Promises::default(), Loss::Power);
    let mut life = life.unwrap_or_else(|(_, end)| panic!("{end:?}"));
    life.play_all(&[
        Step::Create { name: "orders", settings: "synced" },
        Step::Commit,
        Step::Room(Some(100_000)),
    ])
    .unwrap();
    for _ in 0..100 {
        life.play(&Step::Append { name: "orders", count: 2, bytes: 3000 }).unwrap();
        match life.commit() {
            Ok(()) => life.play(&Step::Flusher).unwrap(),
            Err(error) => {
                assert!(error.is_full(), "{error}");
                return (disk, clock, life);
            }
        }
    }
    panic!("a disk without room took everything");
}

#[test]
fn a_full_disk_refuses_reads_on_and_recovers_by_itself() {
    let (disk, clock, mut life) = fill_until_refused();
    life.look().unwrap();
    life.play(&Step::Append { name: "orders", count: 2, bytes: 3000 }).unwrap();
    assert!(life.commit().is_err_and(|error| error.is_full()), "still no room");
    life.look().unwrap();

    disk.set_capacity(None);
    clock.advance(1001);
    life.play(&Step::Append { name: "orders", count: 1, bytes: 10 }).unwrap();
    life.commit().unwrap();
    life.look().unwrap();
    for survival in [Survival::Nothing, Survival::Everything, Survival::Seeded(5)] {
        recover_twice(&disk.crash(survival), &life.promises, Loss::Power).unwrap();
    }
}

#[test]
fn a_full_disk_still_takes_trims_and_deletions() {
    let (disk, _, mut life) = fill_until_refused();
    life.play(&Step::Trim { name: "orders", keep: 1 }).unwrap();
    life.commit().unwrap();
    life.play(&Step::Delete { name: "orders" }).unwrap();
    life.commit().unwrap();
    life.play_all(&[Step::Flusher, Step::Look]).unwrap();
    let after = disk.crash(Survival::Nothing);
    after.set_capacity(None);
    recover_twice(&after, &life.promises, Loss::Power).unwrap();
}

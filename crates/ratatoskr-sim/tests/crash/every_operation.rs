//! The power goes after every single disk operation of the tour, with all kinds of luck; whatever is left must open and keep
//! every promise, twice over.

use ratatoskr_sim::{Broken, Loss, Promises, SimClock, SimDisk, Survival};

use crate::life::{End, Life};
use crate::script::tour;

/// Random outcomes tried at every cut, besides "nothing" and "everything".
const SEEDS_PER_CUT: u64 = 4;

/// Plays the tour on a disk that loses its power after so many operations.
pub(crate) fn tour_until(disk: &SimDisk, operations: u64) -> Result<Promises, Broken> {
    disk.cut_power_after(operations);
    let played =
        Life::begin(disk, &SimClock::at(100), Promises::default(), Loss::Power).and_then(|mut life| {
            let played = life.play_all(&tour());
            match played {
                Ok(()) => life.close(),
                Err(end) => Err((life.promises, end)),
            }
        });
    match played {
        Ok(promises) | Err((promises, End::Power)) => Ok(promises),
        Err((_, End::Broken(broken))) => Err(broken),
    }
}

/// Opens what is left, and once more after another power cut: what was found the first time must stay.
pub(crate) fn recover_twice(disk: &SimDisk, promises: &Promises, loss: Loss) -> Result<(), Broken> {
    let clock = SimClock::at(70);
    let mut promises = promises.clone();
    let mut disk = disk.clone();
    for loss in [loss, Loss::Power] {
        let life = Life::begin(&disk, &clock, promises, loss);
        promises = match life {
            Ok(life) => life.promises,
            Err((_, End::Broken(broken))) => return Err(broken),
            Err((_, End::Power)) => unreachable!("nobody cut the power"),
        };
        disk = disk.crash(Survival::Nothing);
    }
    Ok(())
}

/// Every outcome tried at one cut. The process alone dies as well: then nothing written may be missing.
pub(crate) fn crash_at(cut: u64, lie: impl Fn(&SimDisk)) -> Result<(), (String, Broken)> {
    let disk = SimDisk::new();
    lie(&disk);
    let promises = tour_until(&disk, cut).map_err(|broken| ("while it ran".to_owned(), broken))?;
    recover_twice(&disk.kill(), &promises, Loss::Process)
        .map_err(|broken| ("process death".to_owned(), broken))?;
    let seeded = (0..SEEDS_PER_CUT).map(|n| Survival::Seeded(cut * SEEDS_PER_CUT + n));
    for survival in [Survival::Nothing, Survival::Everything].into_iter().chain(seeded) {
        recover_twice(&disk.crash(survival), &promises, Loss::Power)
            .map_err(|broken| (format!("{survival:?}"), broken))?;
    }
    Ok(())
}

#[cfg(not(any(feature = "broken-no-sync", feature = "broken-no-checksum")))]
#[test]
fn a_cut_after_any_operation_breaks_no_promise() {
    let whole = SimDisk::new();
    tour_until(&whole, u64::MAX).unwrap_or_else(|broken| panic!("{broken}"));
    let trace = whole.trace();
    for wanted in
        ["rename", "set length", "sync folder", "remove folder", "0000000000000005.journal", ".segment"]
    {
        assert!(trace.iter().any(|line| line.contains(wanted)), "the tour must pass by: {wanted}");
    }
    for cut in 0..=whole.operations() {
        if let Err((luck, broken)) = crash_at(cut, |_| {}) {
            let last = cut.checked_sub(1).map_or("(none)", |last| &trace[last as usize]);
            panic!("cut after operation {cut} ({last}), {luck}: {broken}");
        }
    }
}

#[test]
fn the_same_tour_leaves_the_same_trace() {
    let trace = || {
        let disk = SimDisk::new();
        tour_until(&disk, u64::MAX).unwrap_or_else(|broken| panic!("{broken}"));
        disk.trace()
    };
    assert_eq!(trace(), trace());
}

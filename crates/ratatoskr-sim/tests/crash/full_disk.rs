//! Starts on a disk that is full: every one succeeds, takes no room, keeps every promise and can be crashed at each of its steps; what
//! makes room is served, and does make room.

use ratatoskr_log::{Disk, LogError, OpenMode, Reserve};
use ratatoskr_sim::{Loss, Promises, SimClock, SimDisk, Survival};

use crate::every_operation::recover_twice;
use crate::failures::fill_until_refused;
use crate::life::{End, Life, file};
use crate::script::Step;

/// Leaves nothing free.
fn fill(disk: &SimDisk) {
    disk.set_capacity(Some(disk.used_bytes()));
}

/// A full disk as the process, or the machine, left it, and what was promised on it.
fn left_full() -> Vec<(SimDisk, Promises, Loss)> {
    let (disk, _, life) = fill_until_refused();
    let accidents = [
        (disk.kill(), Loss::Process),
        (disk.crash(Survival::Nothing), Loss::Power),
        (disk.crash(Survival::Seeded(3)), Loss::Power),
    ];
    let with_promises = |(disk, loss): (SimDisk, Loss)| {
        fill(&disk);
        (disk, life.promises.clone(), loss)
    };
    accidents.into_iter().map(with_promises).collect()
}

fn start(disk: &SimDisk, clock: &SimClock, promises: Promises, loss: Loss) -> Life {
    let mut life = Life::begin(disk, clock, promises, loss).unwrap_or_else(|(_, end)| panic!("{end:?}"));
    life.was_tight = true;
    life
}

#[test]
fn a_start_on_a_full_disk_takes_no_room_and_serves_what_makes_room() {
    for (disk, promises, loss) in left_full() {
        let before = disk.used_bytes();
        let mut life = start(&disk, &SimClock::at(2000), promises, loss);
        assert!(life.opened.report.full.is_some());
        assert!(disk.used_bytes() <= before);
        life.look().unwrap();
        life.play(&Step::Append { name: "orders", count: 40, bytes: 3000 }).unwrap();
        let refused = life.commit();
        assert!(refused.is_err_and(|error| error.is_full()), "there is no room for so much");
        life.play(&Step::Update { name: "orders", settings: "synced, but other" }).unwrap();
        life.commit().unwrap();
        life.play(&Step::Trim { name: "orders", keep: 1 }).unwrap();
        life.commit().unwrap();
        life.play_all(&[Step::Flusher, Step::Look]).unwrap();
        let is_removal = |line: &String| line.starts_with("remove") && line.ends_with(".segment");
        assert!(disk.trace().iter().any(is_removal), "the trim has made room");
        // Stopped in order and started again, all of it is there.
        fill(&disk);
        let promises = life.close().unwrap_or_else(|(_, end)| panic!("{end:?}"));
        let disk = disk.kill();
        start(&disk, &SimClock::at(3000), promises, Loss::Power).look().unwrap();
    }
}

#[test]
fn a_start_on_a_full_disk_can_be_crashed_at_each_of_its_steps() {
    for (disk, promises, loss) in left_full() {
        let whole = disk.kill();
        start(&whole, &SimClock::at(2000), promises.clone(), loss);
        for cut in 0..=whole.operations() {
            let disk = disk.kill();
            disk.cut_power_after(cut);
            let promises = match Life::begin(&disk, &SimClock::at(2000), promises.clone(), loss) {
                Ok(life) => life.promises,
                Err((promises, End::Power)) => promises,
                Err((_, End::Broken(broken))) => panic!("cut after {cut}: {broken}"),
            };
            let seeded = (0..4).map(Survival::Seeded);
            for survival in [Survival::Nothing, Survival::Everything].into_iter().chain(seeded) {
                let after = disk.crash(survival);
                recover_twice(&after, &promises, Loss::Power)
                    .unwrap_or_else(|broken| panic!("still full, cut after {cut}, {survival:?}: {broken}"));
                let after = disk.crash(survival);
                after.set_capacity(None);
                recover_twice(&after, &promises, Loss::Power)
                    .unwrap_or_else(|broken| panic!("with room, cut after {cut}, {survival:?}: {broken}"));
            }
        }
    }
}

#[test]
fn going_on_in_a_short_journal_file_can_be_crashed_at_each_of_its_steps() {
    let (full, promises, loss) = left_full().remove(0);
    let more = Step::Append { name: "orders", count: 40, bytes: 3000 };
    let mut steps = vec![Step::Trim { name: "orders", keep: 1 }, Step::Commit, Step::Flusher];
    for _ in 0..2 {
        steps.extend([more.clone(), Step::Commit, Step::Flusher, Step::Look]);
    }
    // What is left of the file before is used up, a page at a time.
    for _ in 0..260 {
        steps.extend([Step::Trim { name: "orders", keep: 1 }, Step::Commit]);
    }
    steps.extend([Step::Flusher, more, Step::Commit, Step::Look]);
    let play = |cut: Option<u64>| {
        let disk = full.kill();
        let mut life = start(&disk, &SimClock::at(2000), promises.clone(), loss);
        // Less than a journal file, and less than its reserve.
        disk.set_capacity(Some(disk.used_bytes() + (600 << 10)));
        let begun = disk.operations();
        if let Some(cut) = cut {
            disk.cut_power_after(begun + cut);
        }
        match life.play_all(&steps) {
            Ok(()) | Err(End::Power) => {}
            Err(End::Broken(broken)) => panic!("cut after {cut:?}: {broken}"),
        }
        (disk, life.promises, begun)
    };
    let (whole, _, begun) = play(None);
    let grows = |line: &String| line.starts_with("write") && line.contains("journal/spare");
    let begins = |line: &String| line.contains(".journal") && line.starts_with("rename");
    assert!(whole.trace().iter().any(grows), "no short spare");
    assert!(whole.trace().iter().any(begins), "it did not go on in it");
    let trace = whole.trace();
    assert_eq!(trace.len() as u64, whole.operations());
    let is_of_interest = |(at, line): &(usize, &String)| {
        at % 16 == 0 || ["spare", "rename", "checkpoint"].iter().any(|word| line.contains(word))
    };
    let cuts = trace[begun as usize..].iter().enumerate().filter(is_of_interest);
    for cut in cuts.map(|(at, _)| at as u64) {
        let (disk, promises, _) = play(Some(cut));
        for survival in [Survival::Nothing, Survival::Everything, Survival::Seeded(cut)] {
            let after = disk.crash(survival);
            fill(&after);
            recover_twice(&after, &promises, Loss::Power)
                .unwrap_or_else(|broken| panic!("cut after {cut}, {survival:?}: {broken}"));
        }
    }
}

#[test]
fn any_number_of_starts_on_a_full_disk_use_nothing_up() {
    let (disk, promises, loss) = left_full().remove(0);
    let mut promises = promises;
    let (mut disk, mut loss) = (disk, loss);
    for _ in 0..20 {
        promises = start(&disk, &SimClock::at(2000), promises, loss).promises;
        disk = disk.kill();
        loss = Loss::Process;
    }
    let mut life = start(&disk, &SimClock::at(2000), promises, loss);
    life.play(&Step::Delete { name: "orders" }).unwrap();
    life.commit().unwrap();
}

#[test]
fn blocks_that_were_never_synced_do_not_come_back_behind_what_a_full_start_wrote() {
    // Journal of an earlier run: the last block torn, a whole one behind it, neither synced.
    let (disk, clock) = (SimDisk::new(), SimClock::at(100));
    let mut life = start(&disk, &clock, Promises::default(), Loss::Power);
    life.play_all(&[Step::Create { name: "quick", settings: "written" }, Step::Commit]).unwrap();
    let torn_at = 3 * 4096;
    for _ in 0..2 {
        life.play_all(&[Step::Append { name: "quick", count: 1, bytes: 100 }, Step::Commit]).unwrap();
    }
    let disk = disk.kill();
    let journal = disk.open(&file("journal/0000000000000001.journal"), OpenMode::Write).unwrap();
    journal.write_all_at(&[0xff; 4], torn_at + 100).unwrap();
    fill(&disk);
    let opened = crate::life::open_log(&disk, &clock).unwrap();
    assert!(opened.report.full.is_some() && opened.report.torn_bytes > 0, "{:?}", opened.report);
    assert_eq!(opened.topics[0].next(), 0);
    let mut opened = opened;
    let mut batch = ratatoskr_log::RecordBatch::default();
    batch.push("", &[], b"of this run");
    opened.log.stage_append(&opened.topics[0], &mut batch);
    opened.log.commit().unwrap();
    drop(opened);
    let opened = crate::life::open_log(&disk.kill(), &clock).unwrap();
    assert_eq!(opened.topics[0].next(), 1, "the block of the earlier run is gone");
    assert_eq!(opened.topics[0].read_at(0).unwrap().unwrap().body.payload()[..], b"of this run"[..]);
}

#[test]
fn small_changes_go_on_until_the_reserve_is_used_up_and_trims_even_then() {
    let (disk, _, mut life) = fill_until_refused();
    fill(&disk);
    let mut changes = 0;
    let error = loop {
        let settings = if changes % 2 == 0 { "synced, but other" } else { "synced" };
        life.play(&Step::Update { name: "orders", settings }).unwrap();
        match life.commit() {
            Ok(()) => changes += 1,
            Err(error) => break error,
        }
        assert!(changes < 1000, "the reserve has an end");
    };
    assert!(changes >= 64, "only {changes} blocks went into the first quarter of a MiB");
    assert!(matches!(error, LogError::ReserveUsed { .. }), "{error}");
    life.play(&Step::Trim { name: "orders", keep: 1 }).unwrap();
    life.commit().unwrap();
    recover_twice(&disk.kill(), &life.promises, Loss::Process).unwrap();
}

#[test]
fn each_kind_of_change_goes_as_far_into_the_reserve_as_it_may_and_no_further() {
    let (disk, _, mut life) = fill_until_refused();
    fill(&disk);
    let (topic, log) = (life.topic("orders"), &mut life.opened.log);
    // A trim that leaves everything is a small change like any other. Of what may go less far, a block has only what the least of it may use.
    log.stage_trim(&topic, 0, Reserve::Keep);
    log.stage_trim(&topic, 0, Reserve::Free);
    while log.commit().is_ok() {
        log.stage_trim(&topic, 0, Reserve::Keep);
    }
    let pages = [Reserve::Change, Reserve::Settle, Reserve::Free].map(|reserve| {
        let mut pages = 0;
        loop {
            assert_eq!(log.has_room_for(1000, reserve), log.has_room_for(1, reserve), "a page is a page");
            let is_expected = log.has_room_for(1000, reserve);
            log.stage_trim(&topic, 0, reserve);
            match log.commit() {
                Ok(()) => pages += 1,
                Err(LogError::ReserveUsed { .. }) => break,
                Err(error) => panic!("{error}"),
            }
            assert!(is_expected, "it said that there was no room");
        }
        assert!(!log.has_room_for(1, reserve));
        pages
    });
    assert_eq!(pages, [64, 160, 32], "2, 5 and 1 eighths of a MiB in pages of 4 KiB");
}

#[test]
fn a_trim_makes_room_although_a_reader_has_the_segment_open() {
    let (disk, clock) = (SimDisk::new(), SimClock::at(100));
    let mut life = start(&disk, &clock, Promises::default(), Loss::Power);
    life.play_all(&[
        Step::Create { name: "orders", settings: "synced" },
        Step::Append { name: "orders", count: 9, bytes: 3000 },
        Step::Commit,
    ])
    .unwrap();
    life.close().unwrap_or_else(|(_, end)| panic!("{end:?}"));
    let disk = disk.kill();
    let mut opened = crate::life::open_log(&disk, &clock).unwrap();
    let path = file("topics/00000001-orders/00000000000000000000.segment");
    let held = disk.open(&path, OpenMode::Read).unwrap();
    assert!(held.len().unwrap() > 9 * 3000);
    opened.log.stage_trim(&opened.topics[0], 9, Reserve::Free);
    opened.log.commit().unwrap();
    opened.flusher.run_pending().unwrap();
    assert_eq!(held.len().unwrap(), 0, "nobody keeps its room");
    assert!(disk.open(&path, OpenMode::Read).is_err());
}

#[test]
fn what_was_trimmed_before_it_came_into_a_segment_needs_none() {
    let (disk, clock) = (SimDisk::new(), SimClock::at(100));
    let mut life = start(&disk, &clock, Promises::default(), Loss::Power);
    life.play_all(&[
        Step::Create { name: "orders", settings: "synced" },
        Step::Append { name: "orders", count: 9, bytes: 300 },
        Step::Commit,
        Step::Append { name: "orders", count: 1, bytes: 300 },
        Step::Commit,
        Step::Trim { name: "orders", keep: 1 },
        Step::Commit,
    ])
    .unwrap();
    let promises = life.close().unwrap_or_else(|(_, end)| panic!("{end:?}"));
    let names = disk.list(&file("topics/00000001-orders")).unwrap();
    assert_eq!(names, ["00000000000000000009.index", "00000000000000000009.segment"]);
    recover_twice(&disk.crash(Survival::Nothing), &promises, Loss::Power).unwrap();
}

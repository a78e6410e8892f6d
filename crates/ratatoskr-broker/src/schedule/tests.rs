//! The schedule against a plain list: every message comes out once, in order of time, whatever arrives when.

use proptest::prelude::*;

use super::*;

fn due(at_ms: u64, offset: u64) -> Due {
    Due { at_ms, offset }
}

/// Lets a scan look at a whole log.
fn scan(schedule: &mut Schedule, log: &[u64]) -> Option<Remains> {
    let mut scan = schedule.begin_scan(0, log.len() as u64)?;
    (scan.cursor..scan.end).for_each(|offset| scan.take(due(log[offset as usize], offset), 1));
    Some(schedule.finish_scan(scan))
}

fn feed(schedule: &mut Schedule, log: &[u64]) {
    let from = schedule.fed();
    let new = (from..log.len() as u64).map(|offset| due(log[offset as usize], offset));
    schedule.feed(log.len() as u64, new.collect::<Vec<_>>());
}

/// Does the first so many messages of a step.
fn advance(schedule: &mut Schedule, step: &Step, count: usize) -> Vec<Due> {
    let mut progress = schedule.progress;
    step.advance(&mut progress, count);
    schedule.advance(progress, &step.dues[..count]);
    step.dues[..count].to_vec()
}

fn all_due(schedule: &Schedule) -> Vec<Due> {
    schedule.next_step(u64::MAX, usize::MAX).map_or_else(Vec::new, |step| step.dues)
}

/// A schedule that has seen a log and done all that is due at a time.
fn done_through(log: &[u64], now_ms: u64) -> Schedule {
    let mut schedule = Schedule::new(Progress::default(), 0);
    scan(&mut schedule, &[]);
    feed(&mut schedule, log);
    let step = schedule.next_step(now_ms, usize::MAX).expect("something is due");
    advance(&mut schedule, &step, step.dues.len());
    schedule
}

#[test]
fn what_was_there_before_is_found_by_the_first_scan() {
    let log = [500, 100, 300];
    let progress = done_through(&log, 100).progress;
    let mut schedule = Schedule::new(progress, 3);
    assert_eq!(schedule.next_due_ms(), None);
    scan(&mut schedule, &log).expect("nothing is known yet");
    assert_eq!(all_due(&schedule), [due(300, 2), due(500, 0)]);
    assert_eq!(schedule.next_step(300, 9).map(|step| step.dues), Some(vec![due(300, 2)]));
    assert_eq!(schedule.next_step(299, 9), None);
    assert!(scan(&mut schedule, &log).is_none(), "all is known");
}

#[test]
fn what_arrives_late_goes_next_also_after_a_restart() {
    let mut log = vec![500, 100, 300];
    let mut schedule = done_through(&log, 300);
    log.extend([250, 900, 200]);
    for restarts in [false, true] {
        if restarts {
            schedule = Schedule::new(schedule.progress, log.len() as u64);
            scan(&mut schedule, &log);
        }
        feed(&mut schedule, &log);
        let step = schedule.next_step(0, 9).expect("what is late needs no clock");
        assert_eq!(step.dues, [due(250, 3), due(200, 5)]);
    }
    let step = schedule.next_step(0, 1).expect("as before");
    advance(&mut schedule, &step, 1);
    let mut again = Schedule::new(schedule.progress, log.len() as u64);
    scan(&mut again, &log);
    assert_eq!(again.next_step(0, 9).map(|step| step.dues), Some(vec![due(200, 5)]));
}

#[test]
fn far_messages_wait_on_disk_until_they_are_near() {
    let count = SCHEDULE_KNOWN_MAX + SCHEDULE_KNOWN_MAX / 2;
    let log: Vec<u64> = (0..count as u64).map(|offset| 10_000_000 - offset).collect();
    let mut schedule = Schedule::new(Progress::default(), 0);
    scan(&mut schedule, &[]);
    feed(&mut schedule, &log);
    assert_eq!(schedule.known.len(), SCHEDULE_KNOWN_MAX);
    let mut seen = Vec::new();
    while seen.len() < count {
        let step = schedule.next_step(u64::MAX, 50_000).expect("there are more");
        seen.extend(advance(&mut schedule, &step, step.dues.len()));
        scan(&mut schedule, &log);
        feed(&mut schedule, &log);
        assert!(schedule.known.len() <= SCHEDULE_KNOWN_MAX);
    }
    assert!(seen.is_sorted() && seen.len() == count);
}

#[test]
fn what_waits_stays_though_the_oldest_a_scan_remembers_are_done_when_it_ends() {
    let log: Vec<u64> = (0..120_000).map(|offset| 1000 + offset).collect();
    let mut schedule = done_through(&log, 1000 + 100_000 - 1);
    let mut running = schedule.begin_scan(0, log.len() as u64).expect("much is done");
    (running.cursor..running.end).for_each(|offset| running.take(due(log[offset as usize], offset), 1));
    let step = schedule.next_step(u64::MAX, 11_000).expect("more is due");
    advance(&mut schedule, &step, 11_000);
    let remains = schedule.finish_scan(running);
    assert!(remains.floor <= 111_000, "{remains:?}");
}

#[test]
fn what_waits_for_a_topic_that_is_gone_is_neither_kept_nor_counted() {
    let log: Vec<u64> = (0..1_000).map(|offset| 1_000 + offset).collect();
    let mut schedule = done_through(&log, 1_000 + 99);
    schedule.note_topic(7);
    schedule.topic_deleted(8, 1_000);
    assert!(scan(&mut schedule, &log).is_none(), "nothing waits for that topic");
    schedule.topic_deleted(7, 1_000);
    let mut running = schedule.begin_scan(100, 1_000).expect("a topic is gone");
    (500..510).for_each(|offset| running.take(due(log[offset], offset as u64), 1));
    let remains = schedule.finish_scan(running);
    assert_eq!((remains.floor, schedule.void()), (500, 1_000 - 100 - 10));
    assert!(schedule.begin_scan(500, 1_000).is_none(), "once is enough");
    // They come due all the same, and are done then.
    let step = schedule.next_step(1_000 + 149, 100).expect("their times are still known");
    advance(&mut schedule, &step, 50);
    schedule.void_done(50);
    assert_eq!(schedule.void(), 1_000 - 100 - 10 - 50);
}

#[test]
fn what_arrived_and_was_done_during_a_scan_is_not_done_again_after_it() {
    let mut log: Vec<u64> = (0..SCHEDULE_KNOWN_MAX as u64 + 10).map(|offset| 1_000_000 + offset).collect();
    let mut schedule = Schedule::new(Progress::default(), log.len() as u64);
    let mut running = schedule.begin_scan(0, log.len() as u64).expect("nothing is known");
    (running.cursor..running.end).for_each(|offset| running.take(due(log[offset as usize], offset), 1));
    log.extend([5, 6, 7]);
    schedule.horizon = Some(due(10, 0));
    running.after = due(10, 0);
    feed(&mut schedule, &log);
    let step = schedule.next_step(100, 9).expect("short delays are known at once");
    assert_eq!(advance(&mut schedule, &step, 3).len(), 3);
    schedule.finish_scan(running);
    assert_eq!(schedule.next_step(2_000_000, 9), None, "it has to see again what it had seen");
    feed(&mut schedule, &log);
    assert_eq!(schedule.next_step(2_000_000, 1).map(|step| step.dues), Some(vec![due(1_000_000, 0)]));
}

#[test]
fn few_old_messages_among_many_done_are_carried_forward() {
    // One of a thousand is for much later.
    let log: Vec<u64> = (0..200_000).map(|offset| if offset % 1000 == 0 { 1 << 40 } else { 5 }).collect();
    let mut schedule = done_through(&log, 5);
    let remains = scan(&mut schedule, &log).expect("much is done");
    assert_eq!((remains.floor, remains.carry.len()), (0, 200));
    let floor = remains.carry[199].offset + 1;
    schedule.advance(Progress { floor, ..schedule.progress }, &remains.carry);
    assert_eq!(schedule.next_due_ms(), None);
}

#[test]
fn an_unbroken_run_of_waiting_messages_stays_where_it_is() {
    let log: Vec<u64> = (0..150_000).map(|offset| if offset < 120_000 { 5 } else { 1 << 40 }).collect();
    let mut schedule = done_through(&log, 5);
    assert_eq!(scan(&mut schedule, &log), Some(Remains { floor: 120_000, carry: Vec::new() }));
}

proptest! {
    #[test]
    fn every_message_comes_out_once_and_none_before_its_time_unless_a_later_one_has(
        steps in prop::collection::vec(
            (prop::collection::vec(1u64..50, 0..5), 0u64..20, 1usize..4, 0u8..4, any::<bool>()),
            1..40,
        ),
    ) {
        let (mut log, mut now_ms, mut seen) = (Vec::new(), 0_u64, Vec::new());
        let mut schedule = Schedule::new(Progress::default(), 0);
        for (delays, passes_ms, count, restarts, is_late) in steps {
            // What a publisher's clock said is late by the time it is seen.
            let said_ms = if is_late { now_ms.saturating_sub(30) } else { now_ms };
            let new: Vec<u64> = delays.iter().map(|delay| said_ms + delay).collect();
            let step = schedule.next_step(now_ms, 3);
            log.extend(new);
            if let Some(step) = step {
                let furthest = schedule.progress.through.at_ms.max(now_ms);
                prop_assert!(step.dues.iter().all(|due| due.at_ms <= furthest));
                seen.extend(advance(&mut schedule, &step, count.min(step.dues.len())));
            }
            if restarts == 0 {
                schedule = Schedule::new(schedule.progress, log.len() as u64);
            }
            scan(&mut schedule, &log);
            feed(&mut schedule, &log);
            now_ms += passes_ms;
        }
        scan(&mut schedule, &log);
        feed(&mut schedule, &log);
        while let Some(step) = schedule.next_step(u64::MAX, 3) {
            seen.extend(advance(&mut schedule, &step, step.dues.len()));
        }
        seen.sort_unstable();
        let mut all: Vec<Due> = log.iter().enumerate().map(|(offset, &at)| due(at, offset as u64)).collect();
        all.sort_unstable();
        prop_assert_eq!(seen, all);
    }
}

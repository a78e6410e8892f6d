//! What whose turn it is costs, and that nobody waits for a turn that never comes.

use super::silence::Lapsed;
use super::*;

fn window(messages: u32) -> Window {
    Window { messages, ..Window::default() }
}

/// So many members, the first of which is called 1.
fn members(count: u64, messages: u32) -> RoundRobin {
    let mut round_robin = RoundRobin::new(1000);
    (1..=count).for_each(|id| round_robin.join(id, window(messages)));
    round_robin
}

#[test]
fn however_often_members_lose_their_room_the_queue_stays_short_and_goes_by_when_they_had_it_again() {
    let mut round_robin = members(3, 1);
    for _ in 0..10_000 {
        round_robin.widen(1, window(0), 0);
        round_robin.widen(1, window(1), 0);
    }
    assert!(round_robin.queue.len() <= 2 * 3 + PASSED_OVER_MAX + 1, "{}", round_robin.queue.len());
    assert!(round_robin.has_room());
    assert_eq!(
        [round_robin.next(1), round_robin.next(1), round_robin.next(1), round_robin.next(1)],
        [Some(2), Some(3), Some(1), None]
    );
    assert!(!round_robin.has_room());
}

#[test]
fn of_a_member_that_is_never_heard_from_few_leases_are_remembered() {
    let mut round_robin = members(1, 10);
    for lease in 1..=5_000 {
        round_robin.note_lapsed(1, (lease % 2, lease), lease);
    }
    let lapsed = &round_robin.members[&1].lapsed;
    assert_eq!(format!("{lapsed:?}").matches(',').count(), 1001, "a thousand leases, and two fields");
    // The oldest of them are not known any more, the newest are.
    assert!(round_robin.is_stalled(1));
    round_robin.note_late(3_999, 5_001);
    assert!(round_robin.is_stalled(1));
    round_robin.note_late(4_001, 5_001);
    assert!(!round_robin.is_stalled(1));
    round_robin.note_late(4_002, 5_001);
    assert_eq!(format!("{:?}", round_robin.members[&1].lapsed), format!("{:?}", Lapsed::default()));
}

#[test]
fn suspects_go_round_the_idle_members() {
    let mut round_robin = members(4, 10);
    let mut given = Vec::new();
    for offset in 0..6 {
        let id = round_robin.next_idle(0, 1000).unwrap();
        round_robin.hold(id, offset, 1);
        given.push(id);
        round_robin.let_go(id, offset, 1);
    }
    assert_eq!(given, [1, 2, 3, 4, 1, 2]);
}

#[test]
fn a_member_that_leaves_or_has_no_window_is_not_waited_for() {
    // What is done to the member that is being drained.
    let ways: [fn(&mut RoundRobin, MemberId); 3] = [
        |round_robin, id| round_robin.widen(id, window(0), 2),
        RoundRobin::detach,
        |round_robin, id| drop(round_robin.leave(id)),
    ];
    for change in ways {
        let mut round_robin = members(2, 10);
        for (id, offsets) in [(1, 0..1), (2, 1..3)] {
            offsets.for_each(|offset| round_robin.hold(id, offset, 1));
        }
        assert_eq!(round_robin.next_idle(0, 1000), None);
        assert!(round_robin.is_draining(1));
        change(&mut round_robin, 1);
        assert!(!round_robin.is_draining(1));
        round_robin.let_go(1, 0, 1);
        // It holds nothing, and is given nothing.
        assert_eq!(round_robin.next_idle(1, 1000), None);
        assert!(round_robin.is_draining(2));
        (1..3).for_each(|offset| round_robin.let_go(2, offset, 1));
        assert_eq!(round_robin.next_idle(2, 1000), Some(2));
    }
}

#[test]
fn a_member_that_is_drained_in_vain_goes_on_after_a_leases_time_and_another_one_is_drained() {
    let mut round_robin = members(2, 10);
    round_robin.hold(1, 0, 1);
    round_robin.hold(2, 1, 1);
    assert_eq!(round_robin.next_idle(0, 1000), None);
    assert_eq!(round_robin.next(1), Some(2), "the first one is drained");
    round_robin.hold(2, 2, 1);
    assert_eq!(round_robin.next_due_ms(), Some(1000));
    round_robin.pass_time(1000);
    assert_eq!(round_robin.next_idle(1000, 1000), None);
    assert_eq!(round_robin.next(1), Some(1), "now the second one is");
    round_robin.hold(1, 3, 1);
    round_robin.pass_time(2000);
    assert_eq!(round_robin.next_idle(2000, 1000), None);
    assert!(round_robin.is_draining(1));
}

#[test]
fn nobody_is_drained_while_as_many_suspects_are_out_as_may_be() {
    let mut round_robin = members(3, 10);
    round_robin.hold(2, 0, 1);
    round_robin.hold(3, 1, 1);
    round_robin.hold(1, 2, 1);
    assert_eq!(round_robin.next_idle(0, 1000), None);
    assert!(round_robin.is_draining(1));
    // One of the others is idle before it.
    round_robin.let_go(2, 0, 1);
    assert_eq!(round_robin.next_idle(1, 1000), Some(2));
    round_robin.hold(2, 5, 1);
    assert_eq!(round_robin.next_idle(2, 1000), None);
    assert!(round_robin.suspects.draining.is_none());
    assert_eq!([round_robin.next(1), round_robin.next(1), round_robin.next(1)], [Some(3), Some(1), None]);
}

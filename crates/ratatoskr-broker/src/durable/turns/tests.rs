//! What whose turn it is costs, and that nobody waits for a turn that never comes.

use super::silence::Lapsed;
use super::*;

fn window(messages: u32) -> Window {
    Window { messages, ..Window::default() }
}

/// So many members, the first of which is called 1.
fn members(count: u64, messages: u32) -> Turns {
    let mut turns = Turns::new(1000);
    (1..=count).for_each(|id| turns.join(id, window(messages)));
    turns
}

#[test]
fn however_often_members_lose_their_room_the_queue_stays_short_and_goes_by_when_they_had_it_again() {
    let mut turns = members(3, 1);
    for _ in 0..10_000 {
        turns.widen(1, window(0), 0);
        turns.widen(1, window(1), 0);
    }
    assert!(turns.queue.len() <= 2 * 3 + PASSED_OVER_MAX + 1, "{}", turns.queue.len());
    assert!(turns.has_room());
    assert_eq!(
        [turns.next(1), turns.next(1), turns.next(1), turns.next(1)],
        [Some(2), Some(3), Some(1), None]
    );
    assert!(!turns.has_room());
}

#[test]
fn of_a_member_that_is_never_heard_from_few_leases_are_remembered() {
    let mut turns = members(1, 10);
    for lease in 1..=5_000 {
        turns.note_lapsed(1, (lease % 2, lease), lease);
    }
    let lapsed = &turns.members[&1].lapsed;
    assert_eq!(format!("{lapsed:?}").matches(',').count(), 1001, "a thousand leases, and two fields");
    // The oldest of them are not known any more, the newest are.
    assert!(turns.is_stalled(1));
    turns.note_late(3_999, 5_001);
    assert!(turns.is_stalled(1));
    turns.note_late(4_001, 5_001);
    assert!(!turns.is_stalled(1));
    turns.note_late(4_002, 5_001);
    assert_eq!(format!("{:?}", turns.members[&1].lapsed), format!("{:?}", Lapsed::default()));
}

#[test]
fn suspects_go_round_the_idle_members() {
    let mut turns = members(4, 10);
    let mut given = Vec::new();
    for offset in 0..6 {
        let id = turns.next_idle(0, 1000).unwrap();
        turns.hold(id, offset, 1);
        given.push(id);
        turns.let_go(id, offset, 1);
    }
    assert_eq!(given, [1, 2, 3, 4, 1, 2]);
}

#[test]
fn a_member_that_leaves_or_has_no_window_is_not_waited_for() {
    // What is done to the member that is being drained.
    let ways: [fn(&mut Turns, MemberId); 3] =
        [|turns, id| turns.widen(id, window(0), 2), Turns::detach, |turns, id| drop(turns.leave(id))];
    for change in ways {
        let mut turns = members(2, 10);
        for (id, offsets) in [(1, 0..1), (2, 1..3)] {
            offsets.for_each(|offset| turns.hold(id, offset, 1));
        }
        assert_eq!(turns.next_idle(0, 1000), None);
        assert!(turns.is_draining(1));
        change(&mut turns, 1);
        assert!(!turns.is_draining(1));
        turns.let_go(1, 0, 1);
        // It holds nothing, and is given nothing.
        assert_eq!(turns.next_idle(1, 1000), None);
        assert!(turns.is_draining(2));
        (1..3).for_each(|offset| turns.let_go(2, offset, 1));
        assert_eq!(turns.next_idle(2, 1000), Some(2));
    }
}

#[test]
fn a_member_that_is_drained_in_vain_goes_on_after_a_leases_time_and_another_one_is_drained() {
    let mut turns = members(2, 10);
    turns.hold(1, 0, 1);
    turns.hold(2, 1, 1);
    assert_eq!(turns.next_idle(0, 1000), None);
    assert_eq!(turns.next(1), Some(2), "the first one is drained");
    turns.hold(2, 2, 1);
    assert_eq!(turns.next_due_ms(), Some(1000));
    turns.pass_time(1000);
    assert_eq!(turns.next_idle(1000, 1000), None);
    assert_eq!(turns.next(1), Some(1), "now the second one is");
    turns.hold(1, 3, 1);
    turns.pass_time(2000);
    assert_eq!(turns.next_idle(2000, 1000), None);
    assert!(turns.is_draining(1));
}

#[test]
fn nobody_is_drained_while_as_many_suspects_are_out_as_may_be() {
    let mut turns = members(3, 10);
    turns.hold(2, 0, 1);
    turns.hold(3, 1, 1);
    turns.hold(1, 2, 1);
    assert_eq!(turns.next_idle(0, 1000), None);
    assert!(turns.is_draining(1));
    // One of the others is idle before it.
    turns.let_go(2, 0, 1);
    assert_eq!(turns.next_idle(1, 1000), Some(2));
    turns.hold(2, 5, 1);
    assert_eq!(turns.next_idle(2, 1000), None);
    assert!(turns.suspects.draining.is_none());
    assert_eq!([turns.next(1), turns.next(1), turns.next(1)], [Some(3), Some(1), None]);
}

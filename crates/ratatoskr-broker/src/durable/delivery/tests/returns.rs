//! Scripts of deliveries that nobody settles.

use std::sync::Arc;

use ratatoskr_log::Moment;

use super::super::super::event::{Booking, Effect, Event, Leaving, Window};
use super::super::Delivery;
use super::scripts::check;
use super::{fed, letter, settings};
use ratatoskr_state::SubscriptionSettings;
use ratatoskr_state::limits::{READ_AHEAD_MAX, UNSETTLED_MESSAGE_BYTES};

#[test]
fn messages_of_a_member_that_vanishes_come_alone_and_only_the_one_that_ends_its_members_becomes_a_dead_letter()
 {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        deliver 2 to 1: lease 3 until 1000, attempt 1
        = 3 leased
        > 1 vanish 1
        = 3 waiting
        > 2 join 2 10
        = 3 waiting
        > 101 tick
        deliver 0 to 2: lease 4 until 1101, attempt 1, to be read again
        = 2 ready, 1 leased
        > 102 feed -
        = 3 ready, 1 leased
        > 103 vanish 2
        journal 0: dead-lettered after 2: member vanished
        = 3 ready, 1 leased
        > 104 join 3 10
        deliver 1 to 3: lease 5 until 1104, attempt 1, to be read again
        = 2 ready, 2 leased
        > 105 committed 0
        = 2 ready, 1 leased
        > 106 ack 1
        journal 1: settled
        = 2 ready, 1 leased
        > 107 committed 1
        deliver 2 to 3: lease 6 until 1107, attempt 1, to be read again
        = 1 ready, 1 leased
        > 108 ack 2
        journal 2: settled
        = 1 ready, 1 leased
        > 109 committed 2
        deliver 3 to 3: lease 7 until 1109, attempt 1
        = 1 leased
        ",
    );
}

#[test]
fn while_one_member_has_a_suspect_the_others_go_on_and_one_that_is_busy_is_drained_for_it() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 1 join 2 1
        = 2 leased
        > 1 join 3 2
        = 2 leased
        > 2 feed - - -
        deliver 2 to 1: lease 3 until 1002, attempt 1
        deliver 3 to 2: lease 4 until 1002, attempt 1
        deliver 4 to 3: lease 5 until 1002, attempt 1
        = 5 leased
        > 3 vanish 1
        = 2 leased, 3 waiting
        > 103 tick
        = 3 ready, 2 leased
        > 104 feed -
        = 4 ready, 2 leased
        > 105 ack 4
        journal 4: settled
        = 4 ready, 2 leased
        > 106 committed 4
        deliver 0 to 3: lease 6 until 1106, attempt 1, to be read again
        = 3 ready, 2 leased
        > 107 ack 3
        journal 3: settled
        = 3 ready, 2 leased
        > 108 committed 3
        deliver 5 to 2: lease 7 until 1108, attempt 1
        = 2 ready, 2 leased
        ",
    );
}

#[test]
fn what_closed_streams_give_back_costs_nothing_ten_times_and_then_attempts() {
    let mut delivery = Delivery::new(Arc::new(settings()), 0, 1);
    let mut effects = Vec::new();
    let messages = vec![fed(0, letter(0, 10, 0))];
    delivery.apply(Event::Feed { to: 1, messages }, Moment::default(), &mut effects);
    let mut attempts = Vec::new();
    for member in 1..=20 {
        let now = Moment { steady_ms: member * 1000, wall_ms: member * 1000 };
        delivery.apply(Event::Join { member, window: Window::default() }, now, &mut effects);
        delivery.apply(Event::Leave { member, leaving: Leaving::Closed }, now, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Deliver { attempt, .. } => attempts.push(attempt),
                Effect::Journal { booking: Booking::DeadLettered(spent), .. } => {
                    assert_eq!(&*spent.reason, "its stream was closed 12 times without a settlement");
                    assert_eq!(attempts, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
                    return;
                }
                _ => {}
            }
        }
    }
    panic!("it never became a dead letter: {attempts:?}");
}

#[test]
fn the_second_time_a_stream_is_closed_its_messages_wait_and_come_alone() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 1 close 1
        = 2 ready
        > 2 join 2 10
        deliver 0 to 2: lease 3 until 1002, attempt 1, to be read again
        deliver 1 to 2: lease 4 until 1002, attempt 1, to be read again
        = 2 leased
        > 3 close 2
        = 2 waiting
        > 4 join 3 10
        = 2 waiting
        > 103 tick
        deliver 0 to 3: lease 5 until 1103, attempt 1, to be read again
        = 1 ready, 1 leased
        > 104 nack 0 +0
        journal 0: returned after 1 until 104: no
        = 1 ready, 1 leased
        > 105 committed 0
        deliver 1 to 3: lease 6 until 1105, attempt 1, to be read again
        = 1 ready, 1 leased
        > 106 ack 1
        journal 1: settled
        = 1 ready, 1 leased
        > 107 committed 1
        deliver 0 to 3: lease 7 until 1107, attempt 2, to be read again
        = 1 leased
        ",
    );
}

#[test]
fn a_silent_member_is_tried_with_one_message_suspects_too_and_none_dies_before_it_is_heard_from() {
    check(
        "
        > 0 join 1 2
        = nothing
        > 0 feed - - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 1 ready, 2 leased
        > 1000 tick
        note 0: returned after 1 until 1000: lease ended
        note 1: returned after 1 until 1000: lease ended
        = 3 ready
        > 1999 tick
        = 3 ready
        > 2000 tick
        deliver 0 to 1: lease 3 until 3000, attempt 2, to be read again
        = 2 ready, 1 leased
        > 3000 tick
        note 0: returned after 2 until 3000: lease ended
        = 3 ready
        > 4000 tick
        deliver 0 to 1: lease 4 until 5000, attempt 3, to be read again
        = 2 ready, 1 leased
        > 5000 tick
        note 0: returned after 3 until 5000: lease ended
        = 3 ready
        > 5001 window 1 2
        deliver 0 to 1: lease 5 until 6001, attempt 4, to be read again
        = 2 ready, 1 leased
        > 6001 tick
        journal 0: dead-lettered after 4: lease ended
        = 2 ready, 1 leased
        ",
    );
}

#[test]
fn a_lease_that_ends_while_later_ones_are_settled_tells_of_its_message_alone() {
    check(
        "
        > 0 join 1 2
        = nothing
        > 0 feed - - - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 ready, 2 leased
        > 1 ack 1
        journal 1: settled
        = 2 ready, 2 leased
        > 2 committed 1
        deliver 2 to 1: lease 3 until 1002, attempt 1
        = 1 ready, 2 leased
        > 1000 tick
        note 0: returned after 1 until 1000: lease ended
        deliver 0 to 1: lease 4 until 2000, attempt 2, to be read again
        = 1 ready, 2 leased
        > 1001 ack 2
        journal 2: settled
        = 1 ready, 2 leased
        > 1002 committed 2
        deliver 3 to 1: lease 5 until 2002, attempt 1
        = 2 leased
        > 1003 ack 3
        journal 3: settled
        = 2 leased
        > 1004 committed 3
        = 1 leased
        > 2000 tick
        journal 0: dead-lettered after 2: lease ended
        = 1 leased
        ",
    );
}

#[test]
fn what_a_pull_left_leased_comes_alone_for_the_last_time_and_no_more_often_than_it_should() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 1 detach 1
        = 2 leased
        > 1000 tick
        note 0: returned after 1 until 1000: lease ended
        note 1: returned after 1 until 1000: lease ended
        = 2 ready
        > 1001 join 2 10
        deliver 0 to 2: lease 3 until 2001, attempt 2, to be read again
        = 1 ready, 1 leased
        > 1002 detach 2
        = 1 ready, 1 leased
        > 1003 join 4 10
        deliver 1 to 4: lease 4 until 2003, attempt 2, to be read again
        = 2 leased
        > 1004 ack 1
        journal 1: settled
        = 2 leased
        > 1005 committed 1
        = 1 leased
        > 2001 tick
        journal 0: dead-lettered after 2: lease ended
        = 1 leased
        ",
    );
}

#[test]
fn a_member_that_takes_no_more_is_given_no_suspect() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 1 join 2 10
        = 2 leased
        > 2 feed -
        deliver 2 to 1: lease 3 until 1002, attempt 1
        = 3 leased
        > 3 feed -
        deliver 3 to 2: lease 4 until 1003, attempt 1
        = 4 leased
        > 4 vanish 1
        = 1 leased, 3 waiting
        > 204 tick
        = 3 ready, 1 leased
        > 205 window 2 0
        = 3 ready, 1 leased
        > 206 release 3
        done
        = 4 ready
        > 207 window 2 1
        deliver 0 to 2: lease 5 until 1207, attempt 1, to be read again
        = 3 ready, 1 leased
        ",
    );
}

#[test]
fn a_member_whose_message_takes_long_is_not_kept_from_others_for_ever() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 1 vanish 1
        = 2 waiting
        > 2 join 2 2
        = 2 waiting
        > 3 feed -
        deliver 2 to 2: lease 3 until 1003, attempt 1
        = 1 leased, 2 waiting
        > 101 tick
        = 2 ready, 1 leased
        > 102 extend 2 5000
        done
        = 2 ready, 1 leased
        > 103 feed -
        = 3 ready, 1 leased
        > 1100 tick
        = 3 ready, 1 leased
        > 1101 tick
        deliver 3 to 2: lease 4 until 2101, attempt 1
        = 2 ready, 2 leased
        ",
    );
}

#[test]
fn while_suspects_wait_others_are_read_on() {
    let settings = SubscriptionSettings { member_outstanding_max: 10_000, ..settings() };
    let mut delivery = Delivery::new(Arc::new(settings), 0, 1);
    let (mut effects, mut at) = (Vec::new(), Moment::default());
    let count = READ_AHEAD_MAX as u64;
    let window = Window { messages: count as u32, ..Window::default() };
    let messages = (0..count).map(|offset| fed(offset, letter(0, 1, 0))).collect();
    delivery.apply(Event::Join { member: 1, window }, at, &mut effects);
    delivery.apply(Event::Feed { to: count, messages }, at, &mut effects);
    delivery.apply(Event::Leave { member: 1, leaving: Leaving::Vanished }, at, &mut effects);
    for member in 2..=3 {
        delivery.apply(Event::Join { member, window }, at, &mut effects);
    }
    (at.steady_ms, at.wall_ms) = (200, 200);
    delivery.apply(Event::Tick, at, &mut effects);
    assert_eq!(delivery.suspects(), READ_AHEAD_MAX - 1);
    assert!(delivery.wants_feed(), "one member has a suspect, and the other one nothing to do");
    // What waits takes room all the same.
    delivery.allow(UNSETTLED_MESSAGE_BYTES * count);
    assert!(delivery.is_full() && !delivery.wants_feed());
}

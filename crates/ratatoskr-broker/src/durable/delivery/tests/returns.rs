//! Scripts of deliveries that nobody settles, and of messages that are gone.

use std::sync::Arc;

use ratatoskr_log::Moment;

use super::super::super::event::{Booking, Effect, Event, Leaving, Window};
use super::super::Delivery;
use super::scripts::check;
use super::{fed, letter, settings};

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
        book 0: buried after 2: member vanished
        = 3 ready, 1 leased
        > 104 join 3 10
        deliver 1 to 3: lease 5 until 1104, attempt 1, to be read again
        = 2 ready, 2 leased
        > 105 committed 0
        = 2 ready, 1 leased
        > 106 ack 1
        book 1: settled
        = 2 ready, 1 leased
        > 107 committed 1
        deliver 2 to 3: lease 6 until 1107, attempt 1, to be read again
        = 1 ready, 1 leased
        > 108 ack 2
        book 2: settled
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
        book 4: settled
        = 4 ready, 2 leased
        > 106 committed 4
        deliver 0 to 3: lease 6 until 1106, attempt 1, to be read again
        = 3 ready, 2 leased
        > 107 ack 3
        book 3: settled
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
                Effect::Book { booking: Booking::Buried(spent), .. } => {
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
        book 0: returned after 1 until 104: no
        = 1 ready, 1 leased
        > 105 committed 0
        deliver 1 to 3: lease 6 until 1105, attempt 1, to be read again
        = 1 ready, 1 leased
        > 106 ack 1
        book 1: settled
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
        book 0: buried after 4: lease ended
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
        book 1: settled
        = 2 ready, 2 leased
        > 2 committed 1
        deliver 2 to 1: lease 3 until 1002, attempt 1
        = 1 ready, 2 leased
        > 1000 tick
        note 0: returned after 1 until 1000: lease ended
        deliver 0 to 1: lease 4 until 2000, attempt 2, to be read again
        = 1 ready, 2 leased
        > 1001 ack 2
        book 2: settled
        = 1 ready, 2 leased
        > 1002 committed 2
        deliver 3 to 1: lease 5 until 2002, attempt 1
        = 2 leased
        > 1003 ack 3
        book 3: settled
        = 2 leased
        > 1004 committed 3
        = 1 leased
        > 2000 tick
        book 0: buried after 2: lease ended
        = 1 leased
        ",
    );
}

#[test]
fn what_a_pull_left_leased_dies_only_where_it_is_known_to_be_the_cause() {
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
        deliver 1 to 2: lease 4 until 2001, attempt 2, to be read again
        = 2 leased
        > 1002 detach 2
        = 2 leased
        > 2001 tick
        note 0: returned after 2 until 2001: lease ended
        note 1: returned after 2 until 2001: lease ended
        = 2 ready
        > 2002 join 3 10
        deliver 0 to 3: lease 5 until 3002, attempt 3, to be read again
        = 1 ready, 1 leased
        > 2003 detach 3
        = 1 ready, 1 leased
        > 2004 join 4 10
        deliver 1 to 4: lease 6 until 3004, attempt 3, to be read again
        = 2 leased
        > 2005 ack 1
        book 1: settled
        = 2 leased
        > 2006 committed 1
        = 1 leased
        > 3002 tick
        book 0: buried after 3: lease ended
        = 1 leased
        ",
    );
}

#[test]
fn what_is_purged_is_gone_from_every_place_and_holds_up_nothing_behind_it() {
    check(
        "
        > 0 join 1 2
        = nothing
        > 0 feed a - a - a -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 ready, 2 leased, 2 parked
        > 1 nack 0 +50000
        book 0: returned after 1 until 50001: no
        = 2 ready, 2 leased, 2 parked
        > 2 committed 0
        deliver 3 to 1: lease 3 until 1002, attempt 1
        = 1 ready, 2 leased, 1 waiting, 2 parked
        > 3 trim 4
        note 2: expired
        note 0: expired
        = 2 ready, 2 leased
        > 4 ack 1
        book 1: settled
        = 2 ready, 2 leased
        > 5 nack 3 +60000
        book 3: expired
        = 2 ready, 2 leased
        > 6 committed 1
        deliver 4 to 1: lease 4 until 1006, attempt 1, to be read again
        = 1 ready, 2 leased
        > 7 committed 3
        deliver 5 to 1: lease 5 until 1007, attempt 1
        = 2 leased
        > 8 trim 6
        = 2 leased
        > 9 release 4
        done
        note 4: expired
        = 1 leased
        > 10 close 1
        note 5: expired
        = nothing
        ",
    );
}

#[test]
fn what_was_read_before_a_purge_and_comes_after_it_is_gone_too() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 1 trim 2
        = nothing
        > 2 feed - - -
        note 0: expired
        note 1: expired
        deliver 2 to 1: lease 1 until 1002, attempt 1
        = 1 leased
        ",
    );
}

#[test]
fn while_a_new_filter_is_applied_nothing_goes_out_and_what_it_excludes_is_passed_over() {
    check(
        "
        > 0 join 1 1
        = nothing
        > 0 feed a - a -@500 -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        = 2 ready, 1 leased, 1 waiting, 1 parked
        > 1 filter new
        = 2 ready, 1 leased, 1 waiting, 1 parked
        > 2 ack 0
        book 0: settled
        = 2 ready, 1 leased, 1 waiting, 1 parked
        > 3 committed 0
        = 3 ready, 1 waiting
        > 4 exclude 1 2 3
        note 1: passed over
        note 2: passed over
        note 3: passed over
        deliver 4 to 1: lease 2 until 1004, attempt 1
        = 1 leased
        ",
    );
}

#[test]
fn what_a_new_filter_excludes_while_it_is_leased_may_be_settled_and_does_not_come_back() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - - - a a - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        deliver 2 to 1: lease 3 until 1000, attempt 1
        deliver 3 to 1: lease 4 until 1000, attempt 1
        deliver 5 to 1: lease 5 until 1000, attempt 1
        deliver 6 to 1: lease 6 until 1000, attempt 1
        = 6 leased, 1 parked
        > 1 nack 0
        book 0: returned after 1 until 101: no
        = 6 leased, 1 parked
        > 2 filter new
        = 6 leased, 1 parked
        > 3 exclude 0 1 2 3 4 5
        note 4: passed over
        = 6 leased
        > 4 committed 0
        note 0: passed over
        = 5 leased
        > 5 nack 1
        book 1: passed over
        = 5 leased
        > 6 committed 1
        = 4 leased
        > 7 ack 2
        book 2: settled
        = 4 leased
        > 8 committed 2
        = 3 leased
        > 9 release 3
        done
        note 3: passed over
        = 2 leased
        > 1000 tick
        note 5: passed over
        note 6: returned after 1 until 1000: lease ended
        deliver 6 to 1: lease 7 until 2000, attempt 2, to be read again
        = 1 leased
        ",
    );
}

#[test]
fn what_an_earlier_filter_excluded_and_a_new_one_wants_comes_back() {
    check(
        "
        > 0 join 1 1
        = nothing
        > 0 feed -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        = 1 leased
        > 1 filter new
        = 1 leased
        > 2 exclude 0
        = 1 leased
        > 3 filter newer
        = 1 leased
        > 4 exclude
        = 1 leased
        > 5 release 0
        done
        deliver 0 to 1: lease 2 until 1005, attempt 1, to be read again
        = 1 leased
        ",
    );
}

#[test]
fn a_message_that_expires_while_it_waits_for_its_retry_frees_its_key() {
    let mut delivery = Delivery::new(Arc::new(settings()), 0, 1);
    let at = |ms| Moment { steady_ms: ms, wall_ms: 1_000_000 + ms };
    let mut effects = Vec::new();
    let expiring = super::Fed { not_before_ms: 1_000_000 + 40_000, ..fed(0, letter(7, 10, 1_000_000 + 300)) };
    let messages = vec![expiring, fed(1, letter(7, 10, 0))];
    delivery.apply(Event::Join { member: 1, window: Window::default() }, at(0), &mut effects);
    delivery.apply(Event::Feed { to: 2, messages }, at(0), &mut effects);
    assert_eq!((delivery.census().waiting, delivery.census().parked, effects.len()), (1, 1, 0));
    assert_eq!(delivery.next_due_ms(), Some(300));
    delivery.apply(Event::Tick, at(299), &mut effects);
    assert!(effects.is_empty());
    delivery.apply(Event::Tick, at(300), &mut effects);
    assert!(matches!(effects[0], Effect::Note { offset: 0, booking: Booking::Expired }), "{effects:?}");
    assert!(matches!(effects[1], Effect::Deliver { offset: 1, .. }), "{effects:?}");
}

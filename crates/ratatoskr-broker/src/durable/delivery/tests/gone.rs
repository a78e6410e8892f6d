//! Scripts of messages that are gone: purged, expired, or excluded by a new filter.

use std::sync::Arc;

use ratatoskr_log::Moment;

use super::super::super::event::{Booking, Effect, Event, Window};
use super::super::Delivery;
use super::scripts::check;
use super::{fed, letter, settings};

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
        journal 0: returned after 1 until 50001: no
        = 2 ready, 2 leased, 2 parked
        > 2 committed 0
        deliver 3 to 1: lease 3 until 1002, attempt 1
        = 1 ready, 2 leased, 1 waiting, 2 parked
        > 3 trim 4
        note 2: expired
        note 0: expired
        = 2 ready, 2 leased
        > 4 ack 1
        journal 1: settled
        = 2 ready, 2 leased
        > 5 nack 3 +60000
        journal 3: expired
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
        journal 0: settled
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
        journal 0: returned after 1 until 101: no
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
        journal 1: passed over
        = 5 leased
        > 6 committed 1
        = 4 leased
        > 7 ack 2
        journal 2: settled
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
        > 4 release 0
        done
        = 1 ready
        > 5 exclude
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

#[test]
fn an_expired_message_is_gone_at_once_although_its_turn_has_not_come() {
    let mut delivery = Delivery::new(Arc::new(settings()), 0, 1);
    let at = |ms| Moment { steady_ms: ms, wall_ms: 1_000_000 + ms };
    let mut effects = Vec::new();
    let expiring = |offset, lane, ms: u64| fed(offset, letter(lane, 10, 1_000_000 + ms));
    let others = [fed(0, letter(7, 10, 0)), fed(4, letter(8, 10, 0))];
    let [first, last] = others;
    let messages = vec![first, expiring(1, 7, 300), expiring(2, 0, 300), expiring(3, 7, 400), last];
    let window = Window { messages: 1, ..Window::default() };
    delivery.apply(Event::Join { member: 1, window }, at(0), &mut effects);
    delivery.apply(Event::Feed { to: 5, messages }, at(0), &mut effects);
    assert!(matches!(effects[..], [Effect::Deliver { offset: 0, .. }]), "{effects:?}");
    assert_eq!((delivery.census().ready, delivery.census().parked), (2, 2));

    let gone = |effects: &[Effect<()>]| {
        let note = |effect: &Effect<()>| match effect {
            Effect::Note { offset, booking: Booking::Expired } => *offset,
            other => panic!("{other:?}"),
        };
        effects.iter().map(note).collect::<Vec<u64>>()
    };
    effects.clear();
    assert_eq!(delivery.next_due_ms(), Some(300));
    delivery.apply(Event::Tick, at(300), &mut effects);
    assert_eq!(gone(&effects), [1, 2]);
    assert_eq!((delivery.census().ready, delivery.census().parked), (1, 1));
    // All that is in play is looked through, so not for each message by itself.
    effects.clear();
    assert_eq!(delivery.next_due_ms(), Some(1000), "the lease");
    delivery.apply(Event::Tick, at(400), &mut effects);
    assert!(effects.is_empty(), "{effects:?}");
    delivery.apply(Event::Tick, at(1300), &mut effects);
    let expired =
        effects.iter().any(|effect| matches!(effect, Effect::Note { offset: 3, booking: Booking::Expired }));
    assert!(expired, "{effects:?}");
    assert_eq!(delivery.census().parked, 0);
}

#[test]
fn what_comes_back_from_a_lease_after_a_purge_that_took_nothing_is_gone_with_the_next_one() {
    check(
        "
        > 0 join 1 1
        = nothing
        > 0 feed - - - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        = 3 ready, 1 leased
        > 1 ack 0
        journal 0: settled
        = 3 ready, 1 leased
        > 2 committed 0
        deliver 1 to 1: lease 2 until 1002, attempt 1
        = 2 ready, 1 leased
        > 3 trim 1
        = 2 ready, 1 leased
        > 4 window 1 0
        = 2 ready, 1 leased
        > 5 release 1
        done
        = 3 ready
        > 6 trim 1
        = 3 ready
        > 7 trim 3
        note 1: expired
        note 2: expired
        = 1 ready
        > 8 trim 4
        note 3: expired
        = nothing
        ",
    );
}

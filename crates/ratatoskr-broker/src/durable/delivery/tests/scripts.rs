//! Scripts: events with their times, and below each what it led to.
//!
//! ```text
//!   > 10 nack 0                              the time, the event
//!   journal 0: returned after 1 until 110: no   an effect
//!   = 1 leased                               where messages are then
//! ```
//!
//! The whole of it is compared, so that every effect is seen. A time like `5/70` is one at which the wall clock shows 70; a key `-` is
//! none, `x` is a message that has expired, `-@400` one that waits until 400.

use std::fmt::Write as _;
use std::sync::Arc;

use ratatoskr_log::Moment;

use super::super::super::event::{Booking, Effect, Event, Fed, Leaving, Outcome, Window};
use super::super::Delivery;
use super::{fed, letter, settings};
use ratatoskr_state::SubscriptionSettings;

/// What a script's events lead to, written as a script.
fn play(settings: &SubscriptionSettings, script: &str) -> String {
    let mut delivery = Delivery::new(Arc::new(settings.clone()), 0, 1);
    let mut told = String::new();
    for line in script.lines().map(str::trim).filter_map(|line| line.strip_prefix('>')) {
        let mut words = line.split_whitespace();
        let now = moment(words.next().expect("a line begins with its time"));
        let words: Vec<&str> = words.collect();
        let mut effects = Vec::new();
        delivery.apply(event(&words, &delivery, settings), now, &mut effects);
        writeln!(told, ">{line}").unwrap();
        for effect in effects {
            writeln!(told, "  {}", sentence(&effect)).unwrap();
        }
        let census = delivery.census();
        let counts = [
            ("ready", census.ready),
            ("leased", census.leased),
            ("waiting", census.waiting),
            ("parked", census.parked),
        ];
        let counts: Vec<_> =
            counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        writeln!(told, "  = {}", if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") })
            .unwrap();
    }
    told
}

fn event(words: &[&str], delivery: &Delivery<()>, settings: &SubscriptionSettings) -> Event<()> {
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    let outcome = |outcome| {
        let offset = number(1);
        let lease = words.get(2).and_then(|word| word.strip_prefix('#')).and_then(|word| word.parse().ok());
        Event::Settle {
            offset,
            lease: lease.or(delivery.lease_of(offset, Moment::default())).unwrap_or(0),
            outcome,
        }
    };
    match words[0] {
        "join" => Event::Join {
            member: number(1),
            window: Window { messages: number(2) as u32, ..Window::default() },
        },
        "close" => Event::Leave { member: number(1), leaving: Leaving::Closed },
        "end" => Event::Leave { member: number(1), leaving: Leaving::Unharmed },
        "vanish" => Event::Leave { member: number(1), leaving: Leaving::Vanished },
        "detach" => Event::Leave { member: number(1), leaving: Leaving::Detached },
        "feed" => {
            let messages = words[1..].iter().enumerate().map(|(at, key)| {
                let (key, until) = key.split_once('@').unwrap_or((key, "0"));
                let lane = if key == "-" { 0 } else { u64::from(key.as_bytes()[0]) };
                let letter = letter(lane, 10, u64::from(key == "x"));
                let not_before_ms = until.parse().expect("a time");
                Fed { not_before_ms, ..fed(delivery.cursor() + at as u64, letter) }
            });
            Event::Feed { to: delivery.cursor() + words.len() as u64 - 1, messages: messages.collect() }
        }
        "ack" => outcome(Outcome::Ack),
        "nack" => outcome(Outcome::Nack {
            delay_ms: words
                .get(2)
                .and_then(|word| word.strip_prefix('+'))
                .map(|ms| ms.parse().expect("a delay")),
            reason: "no".to_owned(),
        }),
        "extend" => outcome(Outcome::Extend { lease_ms: Some(number(2)) }),
        "reject" => outcome(Outcome::Reject { reason: "never".to_owned() }),
        "release" => outcome(Outcome::Release),
        "committed" => Event::Committed { offset: number(1) },
        "refused" => Event::Refused { offset: number(1) },
        "pause" => Event::Change(Arc::new(SubscriptionSettings { paused: true, ..settings.clone() })),
        "resume" => Event::Change(Arc::new(settings.clone())),
        "filter" => {
            Event::Change(Arc::new(SubscriptionSettings { filter: words[1].to_owned(), ..settings.clone() }))
        }
        "exclude" => Event::Excluded { offsets: (1..words.len()).map(number).collect() },
        "trim" => Event::Trimmed { first: number(1) },
        "window" => Event::Widen {
            member: number(1),
            window: Window { messages: number(2) as u32, ..Window::default() },
        },
        "tick" => Event::Tick,
        other => panic!("no such event: {other}"),
    }
}

/// `5` is a time both clocks show; in `5/70` the wall clock shows 70.
fn moment(word: &str) -> Moment {
    let (steady, wall) = word.split_once('/').unwrap_or((word, word));
    let parse = |word: &str| word.parse().expect("a time");
    Moment { steady_ms: parse(steady), wall_ms: parse(wall) }
}

fn sentence(effect: &Effect<()>) -> String {
    let booking = |booking: &Booking| match booking {
        Booking::Settled => "settled".to_owned(),
        Booking::Expired => "expired".to_owned(),
        Booking::Passed => "passed over".to_owned(),
        Booking::Returned { until, spent } => {
            format!("returned after {} until {}: {}", spent.attempts, until.wall_ms, spent.reason)
        }
        Booking::DeadLettered(spent) => format!("dead-lettered after {}: {}", spent.attempts, spent.reason),
    };
    match effect {
        Effect::Deliver { member, offset, lease, attempt, until_ms, cargo, .. } => {
            let from = if cargo.is_some() { "" } else { ", to be read again" };
            format!("deliver {offset} to {member}: lease {lease} until {until_ms}, attempt {attempt}{from}")
        }
        Effect::Journal { offset, booking: what } => format!("journal {offset}: {}", booking(what)),
        Effect::Note { offset, booking: what } => format!("note {offset}: {}", booking(what)),
        Effect::Done => "done".to_owned(),
        Effect::Stale => "stale".to_owned(),
    }
}

/// What a script leads to is what it says.
pub(super) fn check(script: &str) {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    let expected: String = lines
        .map(|line| if line.starts_with('>') { format!("{line}\n") } else { format!("  {line}\n") })
        .collect();
    let told = play(&settings(), script);
    assert!(told == expected, "the script says\n{expected}\nbut this happened\n{told}");
}

#[test]
fn an_acked_message_is_gone_once_the_journal_has_it() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 5 ack 0
        journal 0: settled
        = 2 leased
        > 6 ack 0
        stale
        = 2 leased
        > 7 committed 0
        = 1 leased
        > 8 ack 0
        stale
        = 1 leased
        ",
    );
}

#[test]
fn a_nacked_message_returns_after_its_delay_and_is_dead_lettered_after_the_last_attempt() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        = 1 leased
        > 10 nack 0
        journal 0: returned after 1 until 110: no
        = 1 leased
        > 12 committed 0
        = 1 waiting
        > 109 tick
        = 1 waiting
        > 110 tick
        deliver 0 to 1: lease 2 until 1110, attempt 2, to be read again
        = 1 leased
        > 120 nack 0
        journal 0: dead-lettered after 2: no
        = 1 leased
        > 121 committed 0
        = nothing
        ",
    );
}

#[test]
fn a_jump_of_the_wall_clock_ends_no_lease_and_no_delay_and_what_is_shown_is_wall_time() {
    check(
        "
        > 0/5000000 join 1 10
        = nothing
        > 0/5000000 feed - -
        deliver 0 to 1: lease 1 until 5001000, attempt 1
        deliver 1 to 1: lease 2 until 5001000, attempt 1
        = 2 leased
        > 10/90000000 tick
        = 2 leased
        > 20/90000010 nack 0 +300
        journal 0: returned after 1 until 90000310: no
        = 2 leased
        > 21/90000011 committed 0
        = 1 leased, 1 waiting
        > 30/70 extend 1 2000
        done
        = 1 leased, 1 waiting
        > 319/359 tick
        = 1 leased, 1 waiting
        > 320/360 tick
        deliver 0 to 1: lease 3 until 1360, attempt 2, to be read again
        = 2 leased
        > 1319/1359 tick
        = 2 leased
        > 1320/1360 tick
        note 0: returned after 2 until 1360: lease ended
        = 1 ready, 1 leased
        > 2030/2070 tick
        note 1: returned after 1 until 2070: lease ended
        = 2 ready
        ",
    );
}

#[test]
fn after_a_restart_what_is_left_of_a_delay_is_waited_for_but_never_longer_than_any_delay_is() {
    check(
        "
        > 0/1000 join 1 10
        = nothing
        > 0/1000 feed -@1500 -@900 -@99000000000
        deliver 1 to 1: lease 1 until 2000, attempt 1
        = 1 leased, 2 waiting
        > 499/1499 tick
        = 1 leased, 2 waiting
        > 500/1500 tick
        deliver 0 to 1: lease 2 until 2500, attempt 1, to be read again
        = 2 leased, 1 waiting
        > 501/1501 ack 0
        journal 0: settled
        = 2 leased, 1 waiting
        > 501/1501 ack 1
        journal 1: settled
        = 2 leased, 1 waiting
        > 43199999/1502 tick
        = 2 leased, 1 waiting
        > 43200000/1503 tick
        deliver 2 to 1: lease 3 until 2503, attempt 1, to be read again
        = 3 leased
        ",
    );
}

#[test]
fn a_lease_that_ends_returns_that_message_only_and_its_token_is_stale() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 500 extend 1 1000
        done
        = 2 leased
        > 1000 tick
        note 0: returned after 1 until 1000: lease ended
        deliver 0 to 1: lease 3 until 2000, attempt 2, to be read again
        = 2 leased
        > 1001 ack 0 #1
        stale
        = 2 leased
        > 1002 ack 0 #3
        journal 0: settled
        = 2 leased
        > 1003 committed 0
        = 1 leased
        > 1500 tick
        note 1: returned after 1 until 1500: lease ended
        deliver 1 to 1: lease 4 until 2500, attempt 2, to be read again
        = 1 leased
        > 2500 tick
        journal 1: dead-lettered after 2: lease ended
        = 1 leased
        ",
    );
}

#[test]
fn what_a_member_held_goes_back_in_the_manner_it_went() {
    check(
        "
        > 0 join 1 1
        = nothing
        > 0 feed -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        = 1 leased
        > 1 close 1
        = 1 ready
        > 2 join 2 1
        deliver 0 to 2: lease 2 until 1002, attempt 1, to be read again
        = 1 leased
        > 3 vanish 2
        note 0: returned after 1 until 103: member vanished
        = 1 waiting
        > 4 join 3 1
        = 1 waiting
        > 103 tick
        deliver 0 to 3: lease 3 until 1103, attempt 2, to be read again
        = 1 leased
        > 104 end 3
        = 1 ready
        > 105 join 4 1
        deliver 0 to 4: lease 4 until 1105, attempt 2, to be read again
        = 1 leased
        > 106 detach 4
        = 1 leased
        > 107 release 0
        done
        = 1 ready
        ",
    );
}

#[test]
fn a_key_has_one_message_in_play_and_parks_the_others() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed a b a a
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased, 2 parked
        > 1 nack 0 +50
        journal 0: returned after 1 until 51: no
        = 2 leased, 2 parked
        > 2 committed 0
        = 1 leased, 1 waiting, 2 parked
        > 51 tick
        deliver 0 to 1: lease 3 until 1051, attempt 2, to be read again
        = 2 leased, 2 parked
        > 52 ack 0
        journal 0: settled
        = 2 leased, 2 parked
        > 53 committed 0
        deliver 2 to 1: lease 4 until 1053, attempt 1, to be read again
        = 2 leased, 1 parked
        > 54 reject 2
        journal 2: dead-lettered after 1: never
        = 2 leased, 1 parked
        > 55 committed 2
        deliver 3 to 1: lease 5 until 1055, attempt 1, to be read again
        = 2 leased
        ",
    );
}

#[test]
fn members_take_turns_as_far_as_their_windows_go() {
    check(
        "
        > 0 join 1 2
        = nothing
        > 0 join 2 1
        = nothing
        > 0 feed - - - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 2: lease 2 until 1000, attempt 1
        deliver 2 to 1: lease 3 until 1000, attempt 1
        = 1 ready, 3 leased
        > 1 ack 1
        journal 1: settled
        = 1 ready, 3 leased
        > 2 committed 1
        deliver 3 to 2: lease 4 until 1002, attempt 1
        = 3 leased
        ",
    );
}

#[test]
fn what_the_journal_refuses_stays_where_it_was_and_dead_letterings_are_tried_again() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 0 feed - -
        deliver 0 to 1: lease 1 until 1000, attempt 1
        deliver 1 to 1: lease 2 until 1000, attempt 1
        = 2 leased
        > 1 ack 0
        journal 0: settled
        = 2 leased
        > 2 refused 0
        = 2 leased
        > 3 ack 0
        journal 0: settled
        = 2 leased
        > 4 reject 1
        journal 1: dead-lettered after 1: never
        = 2 leased
        > 5 vanish 1
        = 2 leased
        > 6 refused 1
        = 1 leased, 1 waiting
        > 1006 tick
        journal 1: dead-lettered after 1: never
        = 2 leased
        > 1007 refused 0
        = 1 ready, 1 leased
        > 1008 join 2 10
        deliver 0 to 2: lease 3 until 2008, attempt 1, to be read again
        = 2 leased
        ",
    );
}

#[test]
fn a_paused_subscription_delivers_nothing_and_an_expired_message_goes_unseen() {
    check(
        "
        > 0 join 1 10
        = nothing
        > 5 pause
        = nothing
        > 5 feed - x -@400
        note 1: expired
        = 1 ready, 1 waiting
        > 6 resume
        deliver 0 to 1: lease 1 until 1006, attempt 1
        = 1 leased, 1 waiting
        > 400 tick
        deliver 2 to 1: lease 2 until 1400, attempt 1, to be read again
        = 2 leased
        ",
    );
}

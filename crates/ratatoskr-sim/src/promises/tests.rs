//! The judge itself is judged: it accepts what may be and names what may not.

use super::*;

fn create(topic: u32, promise: Promise) -> Event {
    let (name, settings) = (format!("topic-{topic}"), format!("{promise:?}"));
    Event::Create { topic, name, settings, promise }
}

fn append(topic: u32, first: u64, texts: &[&str]) -> Event {
    let payloads = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    Event::Append { topic, first, payloads }
}

/// Topic 1 holds a and b for certain; c and the creation of topic 2 were tried in one block.
fn promises() -> Promises {
    let mut promises = Promises::default();
    promises.attempt(vec![create(1, Promise::Synced)]);
    promises.attempt(vec![append(1, 0, &["a", "b"])]);
    promises.synced();
    promises.attempt(vec![append(1, 2, &["c"]), create(2, Promise::Synced)]);
    promises
}

fn found(topics: &[(u32, Promise, u64, &[&str])]) -> State {
    let state = |(number, promise, first, texts): &(u32, Promise, u64, &[&str])| {
        let payloads = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let (name, settings) = (format!("topic-{number}"), format!("{promise:?}"));
        (*number, TopicState { name, settings, promise: *promise, first: *first, payloads })
    };
    State { topics: topics.iter().map(state).collect() }
}

const SYNCED: Promise = Promise::Synced;
const WRITTEN: Promise = Promise::Written;

#[track_caller]
fn assert_broken(promises: &Promises, found: &State, what: &str) {
    let broken = promises.check(found, Loss::Power).expect_err("a promise is broken");
    assert!(broken.to_string().contains(what), "{broken}");
}

#[test]
fn an_attempt_may_be_found_wholly_or_not_at_all() {
    let promises = promises();
    assert_eq!(promises.check(&found(&[(1, SYNCED, 0, &["a", "b"])]), Loss::Power), Ok(()));
    let whole = found(&[(1, SYNCED, 0, &["a", "b", "c"]), (2, SYNCED, 0, &[])]);
    assert_eq!(promises.check(&whole, Loss::Power), Ok(()));
    assert_broken(&promises, &found(&[(1, SYNCED, 0, &["a", "b", "c"])]), "topic 2 (topic-2) is not there");
    let half = found(&[(1, SYNCED, 0, &["a", "b"]), (2, SYNCED, 0, &[])]);
    assert_broken(&promises, &half, "it ends at offset 2 instead of 3");
}

#[test]
fn every_kind_of_loss_is_named() {
    let promises = promises();
    assert_broken(&promises, &found(&[]), "topic 1 (topic-1) is not there");
    assert_broken(&promises, &found(&[(1, SYNCED, 0, &["a"])]), "it ends at offset 1 instead of 2");
    assert_broken(&promises, &found(&[(1, SYNCED, 1, &["b"])]), "it starts at offset 1 instead of 0");
    assert_broken(&promises, &found(&[(1, SYNCED, 0, &["a", "x"])]), "offset 1 is not what was sent");
    assert_broken(&promises, &found(&[(1, SYNCED, 0, &["a", "b", "x"])]), "it ends at offset 3, past 2");
    assert_broken(&promises, &found(&[(1, WRITTEN, 0, &["a", "b"])]), "has settings \"Written\"");
    let extra = found(&[(1, SYNCED, 0, &["a", "b"]), (9, SYNCED, 0, &[])]);
    assert_broken(&promises, &extra, "topic 9 (topic-9) should not be there");
}

#[test]
fn a_refused_attempt_may_never_be_found() {
    let mut promises = promises();
    promises.take_back();
    let whole = found(&[(1, SYNCED, 0, &["a", "b", "c"]), (2, SYNCED, 0, &[])]);
    assert_broken(&promises, &whole, "it ends at offset 3, past 2");
}

#[test]
fn deleted_and_trimmed_stay_so() {
    let mut promises = promises();
    promises.attempt(vec![Event::Trim { topic: 1, first: 2 }]);
    promises.attempt(vec![Event::Delete { topic: 2 }]);
    promises.synced();
    assert_eq!(promises.check(&found(&[(1, SYNCED, 2, &["c"])]), Loss::Power), Ok(()));
    assert_broken(
        &promises,
        &found(&[(1, SYNCED, 0, &["a", "b", "c"])]),
        "it starts at offset 0 instead of 2",
    );
    let back = found(&[(1, SYNCED, 2, &["c"]), (2, SYNCED, 0, &[])]);
    assert_broken(&promises, &back, "topic 2 (topic-2) should not be there");
}

#[test]
fn written_survives_the_process_and_may_be_lost_or_ahead_after_a_power_cut() {
    let mut promises = Promises::default();
    promises.attempt(vec![create(1, WRITTEN), create(2, SYNCED)]);
    promises.synced();
    promises.attempt(vec![append(1, 0, &["a"])]);
    promises.written();
    promises.attempt(vec![append(1, 1, &["b"]), append(2, 0, &["c"])]);
    let one = found(&[(1, WRITTEN, 0, &["a"]), (2, SYNCED, 0, &[])]);
    let none = found(&[(1, WRITTEN, 0, &[]), (2, SYNCED, 0, &[])]);
    let ahead = found(&[(1, WRITTEN, 0, &["a", "b"]), (2, SYNCED, 0, &[])]);
    for state in [&one, &none, &ahead] {
        assert_eq!(promises.check(state, Loss::Power), Ok(()));
    }
    assert!(promises.check(&none, Loss::Process).is_err());
    assert_eq!(promises.check(&one, Loss::Process), Ok(()));
    assert_broken(&promises, &found(&[(1, WRITTEN, 0, &["b"]), (2, SYNCED, 0, &[])]), "offset 0 is not what");
}

#[test]
fn what_runs_shows_what_is_promised_and_nothing_else() {
    let mut promises = promises();
    let now = found(&[(1, SYNCED, 0, &["a", "b"])]);
    let later = found(&[(1, SYNCED, 0, &["a", "b", "c"]), (2, SYNCED, 0, &[])]);
    assert_eq!(promises.check_live(&now), Ok(()));
    assert!(promises.check_live(&later).is_err(), "shown before its promise");
    promises.synced();
    assert!(promises.check_live(&now).is_err(), "promised and not shown");
    assert_eq!(promises.check_live(&later), Ok(()));
}

#[test]
fn what_was_found_once_must_be_found_again() {
    let mut promises = promises();
    let whole = found(&[(1, SYNCED, 0, &["a", "b", "c"]), (2, SYNCED, 0, &[])]);
    promises.settle(whole.clone());
    assert_eq!(promises.check(&whole, Loss::Power), Ok(()));
    assert_broken(&promises, &found(&[(1, SYNCED, 0, &["a", "b"])]), "it ends at offset 2 instead of 3");
}

#[test]
fn settings_are_promised_as_well() {
    let mut promises = promises();
    promises.settle(found(&[(1, SYNCED, 0, &[])]));
    promises.attempt(vec![Event::Update { topic: 1, settings: "other".to_owned() }]);
    assert_eq!(promises.check(&found(&[(1, SYNCED, 0, &[])]), Loss::Power), Ok(()));
    promises.synced();
    assert_broken(&promises, &found(&[(1, SYNCED, 0, &[])]), "has settings \"Synced\"");
}

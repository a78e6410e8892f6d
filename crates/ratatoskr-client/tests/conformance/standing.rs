//! What a subscription tells about itself: why nothing comes, what happened to a message, and that every message is counted.

use std::collections::BTreeSet;

use ratatoskr_client::{DeadLetterChoice, NewMessage, Outcome, Seek, SubscriptionSettings};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _, Refusal};
use crate::stage::{PATIENCE, Stage, ack, nack, quick, reject, take, take_one, until_after};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(why_tells_of_missing_members_a_full_window_and_a_pause::<D>),
        of(why_tells_of_leases_retries_and_having_caught_up::<D>),
        of(why_tells_of_a_key_that_holds_back_others::<D>),
        of(a_trace_tells_the_life_of_a_message::<D>),
        of(a_subscription_nobody_uses_goes_after_its_expiry_and_a_used_one_stays::<D>),
        of(every_message_is_counted_once_at_the_end::<D>),
        of(whatever_members_do_each_message_is_acked_or_a_dead_letter::<D>),
    ]
}

async fn why_tells_of_missing_members_a_full_window_and_a_pause<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    stage.subscribe("billing", quick()).await;
    let standing = stage.until_why("billing", "no_members").await;
    assert_eq!((standing.member_count, standing.lag_messages), (0, 2));
    let mut member = stage.join("billing", 1).await;
    take_one(&mut member).await;
    let standing = stage.until_why("billing", "no_credit").await;
    assert_eq!((standing.member_count, standing.leased), (1, 1));
    let paused = SubscriptionSettings { paused: Some(true), ..SubscriptionSettings::default() };
    stage.door.change_subscription(stage.at("billing"), paused).await.unwrap();
    stage.until_why("billing", "paused").await;
}

async fn why_tells_of_leases_retries_and_having_caught_up<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take_one(&mut member).await;
    stage.until_why("billing", "all_leased").await;
    member.settle(&held, nack(1_000, "busy")).await.unwrap();
    let standing = stage.until_why("billing", "waiting_for_retry").await;
    assert_eq!((standing.waiting, standing.leased), (1, 0));
    let again = take_one(&mut member).await;
    ack(&member, &[again]).await;
    let standing = stage.until_why("billing", "caught_up").await;
    assert_eq!((standing.lag_messages, standing.redelivered), (0, 1));
}

async fn why_tells_of_a_key_that_holds_back_others<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["a", "a", "a"]).await;
    let mut member = stage.member(quick()).await;
    let head = take_one(&mut member).await;
    member.settle(&head, nack(60_000, "stuck")).await.unwrap();
    let standing = stage.until_why("billing", "key_parked").await;
    assert_eq!((standing.parked, standing.parked_keys, standing.waiting), (2, 1, 1));
    assert!(standing.why.contains("offset 0"), "{}", standing.why);
}

async fn a_trace_tells_the_life_of_a_message<D: Door>(stage: Stage<D>) {
    let receipts = stage.publish(&["a", "b"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 2).await;
    member.settle(&held[1], nack(0, "busy")).await.unwrap();
    let again = take_one(&mut member).await;
    ack(&member, &[again]).await;
    let told = stage.door.trace(&receipts[1].id).await.unwrap();
    assert!(told[0].starts_with(&format!("published to {} at offset 1", stage.topic)), "{told:?}");
    assert_eq!(told[1], "handed to member \"worker\", attempt 1");
    assert!(told.iter().any(|step| step == "handed to member \"worker\", attempt 2"), "{told:?}");
    assert_eq!(told[told.len() - 2..], ["acked", "now is done with"]);
    let unknown = stage.door.trace("018bcfe5-687b-7000-8000-000000000000").await;
    assert_eq!(unknown, Err(Refusal::NotFound));
}

async fn a_subscription_nobody_uses_goes_after_its_expiry_and_a_used_one_stays<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let expiring = || SubscriptionSettings { expiry_ms: Some(1_000), ..quick() };
    stage.subscribe("used", expiring()).await;
    let mut member = stage.join("used", 1).await;
    stage.subscribe("unused", expiring()).await;
    let started = std::time::Instant::now();
    while stage.door.describe(stage.at("unused")).await != Err(Refusal::NotFound) {
        assert!(started.elapsed() < PATIENCE, "it stays");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(take_one(&mut member).await.message.payload, "a");
    assert_eq!(stage.standing("used").await.member_count, 1);
}

async fn every_message_is_counted_once_at_the_end<D: Door>(stage: Stage<D>) {
    let brief = NewMessage::new("brief").with_ttl(std::time::Duration::from_millis(1));
    let receipt = stage.publish_one(brief).await;
    until_after(receipt.timestamp_ms + 1).await;
    stage.publish_keys(&["k", "skipped", "k", "other", "k"]).await;
    let filter = Some(r#"key != "other""#.to_owned());
    stage.subscribe("billing", SubscriptionSettings { filter, ..quick() }).await;
    let mut member = stage.join("billing", 100).await;
    // The first of its key, the one that is skipped, and the second of the key.
    let held = take(&mut member, 2).await;
    member.settle(&held[0], reject("bad")).await.unwrap();
    take_one(&mut member).await;
    stage.door.seek(stage.at("billing"), Seek::Skip(1)).await.unwrap();
    let next = take_one(&mut member).await;
    assert_eq!((next.message.offset, next.message.key.as_str()), (3, "k"));
    ack(&member, &[next]).await;
    let last = take_one(&mut member).await;
    member.settle(&last, Outcome::Release).await.unwrap();
    assert_eq!(stage.door.redrive(stage.at("billing"), DeadLetterChoice::default()).await, Ok(1));
    // The one released and, behind it, the one redriven: they are of one key.
    let again = take_one(&mut member).await;
    assert_eq!(again.message.offset, 5);
    ack(&member, &[again]).await;
    let redriven = take_one(&mut member).await;
    assert_eq!((redriven.message.offset, redriven.message.key.as_str()), (6, "k"));
    let standing = stage.until("billing", |standing| standing.lag_messages == 1).await;
    assert_eq!((standing.acked, standing.dead, standing.passed, standing.expired), (2, 1, 2, 1));
    let published = stage.door.next_offset(&stage.topic).await.unwrap();
    let counted = standing.acked + standing.dead + standing.passed + standing.expired + standing.lag_messages;
    assert_eq!((published, counted), (7, 7));
    ack(&member, &[redriven]).await;
    let standing = stage.until_why("billing", "caught_up").await;
    assert_eq!((standing.acked, standing.lag_messages, standing.leased), (3, 0, 0));
}

async fn whatever_members_do_each_message_is_acked_or_a_dead_letter<D: Door>(stage: Stage<D>) {
    const KEYS: [&str; 7] = ["", "a", "b", "", "c", "a", "d"];
    let messages =
        (0..140).map(|number: usize| NewMessage::new(number.to_string()).with_key(KEYS[number % 7]));
    stage.door.publish_batch(&stage.topic, messages.collect()).await.unwrap();
    let mut one = stage.member(quick()).await;
    let mut two = Some(stage.join("billing", 5).await);
    let (mut acked, mut dead) = (BTreeSet::new(), BTreeSet::new());
    while acked.len() + dead.len() < 140 {
        let from_two = async {
            match two.as_mut() {
                Some(two) => two.next().await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! { next = one.next() => next, next = from_two => next }.unwrap();
        let offset = next.message.offset;
        assert!(!acked.contains(&offset) && !dead.contains(&offset), "{offset} was done with");
        // One that goes while it holds something.
        if offset > 70 && two.is_some() {
            two.take().expect("it is here").vanish();
        }
        let outcome = match (offset * 5 + u64::from(next.attempt)) % 9 {
            0 => reject("no"),
            1 | 2 => nack(5, "not yet"),
            3 if next.attempt == 1 => nack(0, "at once"),
            _ => Outcome::Ack,
        };
        let is_ack = outcome == Outcome::Ack;
        let is_last = next.attempt == 3 || matches!(outcome, Outcome::Reject { .. });
        match stage.door.settle(vec![(&next, outcome)]).await.unwrap().remove(0) {
            Ok(()) if is_ack => drop(acked.insert(offset)),
            Ok(()) if is_last => drop(dead.insert(offset)),
            // Nacked, or held by the one that has vanished: it comes again.
            Ok(()) | Err(Refusal::Stale) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let standing = stage.until_why("billing", "caught_up").await;
    assert_eq!((standing.acked, standing.dead), (acked.len() as u64, dead.len() as u64));
    assert_eq!((standing.passed, standing.expired, standing.lag_messages), (0, 0, 0));
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.origin_offset).collect::<BTreeSet<_>>(), dead);
}

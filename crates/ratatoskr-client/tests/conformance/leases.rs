//! Leases: how long they last, and what a token is good for.

use std::time::{Duration, Instant};

use ratatoskr_client::{Outcome, SubscriptionSettings};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _, Refusal};
use crate::stage::{Stage, ack, assert_passed, nack, quick, reject, take, take_one};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(a_lease_ends_by_itself_and_only_that_message_returns::<D>),
        of(a_lease_that_is_extended_lasts_longer::<D>),
        of(a_token_of_an_earlier_lease_settles_nothing::<D>),
        of(a_released_message_returns_at_once_and_the_attempt_does_not_count::<D>),
        of(an_acked_message_never_comes_again::<D>),
        of(each_settlement_of_a_call_stands_for_itself::<D>),
        of(a_settlement_that_makes_no_sense_leaves_its_lease_and_can_be_made_good::<D>),
        of(a_settlement_that_makes_no_sense_harms_no_other_of_its_call::<D>)
            .except("in process, fsync", REFUSED_WHOLE)
            .except("in process, memory", REFUSED_WHOLE),
    ]
}

const REFUSED_WHOLE: &str =
    "in process a call with a time out of range is refused whole, before anything is settled";

/// Short enough to wait for, long enough for a busy machine to take messages in.
const LEASE_MS: i64 = 1_000;

fn brief() -> SubscriptionSettings {
    SubscriptionSettings { lease_ms: Some(LEASE_MS), ..quick() }
}

fn extend(ms: u64) -> Outcome {
    Outcome::Extend { lease: Some(Duration::from_millis(ms)) }
}

async fn a_lease_ends_by_itself_and_only_that_message_returns<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    let before = Instant::now();
    let mut member = stage.member(brief()).await;
    let held = take(&mut member, 3).await;
    member.settle(&held[0], extend(60_000)).await.unwrap();
    member.settle(&held[2], extend(60_000)).await.unwrap();
    let returned = take_one(&mut member).await;
    assert_passed(before, LEASE_MS as u64);
    assert_eq!((returned.message.offset, returned.attempt), (1, 2));
    let standing = stage.standing("billing").await;
    assert_eq!((standing.leased, standing.redelivered), (3, 1));
    ack(&member, &[held[0].clone(), held[2].clone()]).await;
    assert_eq!(member.settle(&held[1], Outcome::Ack).await, Err(Refusal::Stale));
}

async fn a_lease_that_is_extended_lasts_longer<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(brief()).await;
    let held = take_one(&mut member).await;
    let before = Instant::now();
    member.settle(&held, extend(2_500)).await.unwrap();
    let returned = take_one(&mut member).await;
    assert_passed(before, 2_500);
    assert_eq!(returned.attempt, 2, "a lease that ends counts, extended or not");
}

async fn a_token_of_an_earlier_lease_settles_nothing<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let earlier = take_one(&mut member).await;
    member.settle(&earlier, nack(0, "again")).await.unwrap();
    let now = take_one(&mut member).await;
    assert_ne!(earlier.token, now.token);
    for outcome in [Outcome::Ack, nack(0, ""), extend(60_000), reject("no"), Outcome::Release] {
        assert_eq!(member.settle(&earlier, outcome.clone()).await, Err(Refusal::Stale), "{outcome:?}");
        let alone = stage.door.settle(vec![(&earlier, outcome)]).await.unwrap();
        assert_eq!(alone, [Err(Refusal::Stale)]);
    }
    let standing = stage.standing("billing").await;
    assert_eq!((standing.leased, standing.acked, standing.dead), (1, 0, 0));
    ack(&member, std::slice::from_ref(&now)).await;
    assert_eq!(member.settle(&now, Outcome::Ack).await, Err(Refusal::Stale), "once is enough");
}

async fn a_released_message_returns_at_once_and_the_attempt_does_not_count<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    for _ in 0..5 {
        let held = take_one(&mut member).await;
        assert_eq!(held.attempt, 1);
        member.settle(&held, Outcome::Release).await.unwrap();
    }
    assert_eq!(stage.standing("billing").await.dead, 0);
}

async fn an_acked_message_never_comes_again<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    let mut one = stage.member(quick()).await;
    let held = take(&mut one, 3).await;
    ack(&one, &[held[0].clone(), held[2].clone()]).await;
    one.vanish();
    let mut two = stage.join("billing", 100).await;
    stage.publish(&["d"]).await;
    let mut rest = Vec::new();
    for _ in 0..2 {
        let taken = take_one(&mut two).await;
        ack(&two, std::slice::from_ref(&taken)).await;
        rest.push((taken.message.offset, taken.attempt));
    }
    rest.sort_unstable();
    assert_eq!(rest, [(1, 2), (3, 1)]);
    let standing = stage.until_why("billing", "caught_up").await;
    assert_eq!((standing.acked, standing.lag_messages, standing.oldest_unsettled_offset), (4, 0, 4));
}

async fn each_settlement_of_a_call_stands_for_itself<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 3).await;
    ack(&member, &held[1..2]).await;
    let settlements = vec![(&held[0], Outcome::Ack), (&held[1], Outcome::Ack), (&held[2], reject("broken"))];
    let fates = stage.door.settle(settlements).await.unwrap();
    assert_eq!(fates, [Ok(()), Err(Refusal::Stale), Ok(())]);
    let standing = stage.standing("billing").await;
    assert_eq!((standing.acked, standing.dead, standing.lag_messages), (2, 1, 0));
}

/// More than the 12 hours that are allowed.
const TOO_LONG_MS: u64 = 86_400_000;

async fn a_settlement_that_makes_no_sense_leaves_its_lease_and_can_be_made_good<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take_one(&mut member).await;
    for wrong in [nack(TOO_LONG_MS, ""), extend(TOO_LONG_MS), extend(1)] {
        let refused = member.settle(&held, wrong.clone()).await;
        assert!(matches!(refused, Err(Refusal::Other(_))), "{wrong:?}: {refused:?}");
    }
    assert_eq!(stage.standing("billing").await.leased, 1);
    ack(&member, &[held]).await;
}

async fn a_settlement_that_makes_no_sense_harms_no_other_of_its_call<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 2).await;
    let settlements = vec![(&held[0], Outcome::Ack), (&held[1], nack(TOO_LONG_MS, ""))];
    let fates = stage.door.settle(settlements).await.unwrap();
    assert!(matches!(fates[..], [Ok(()), Err(Refusal::Other(_))]), "{fates:?}");
    let standing = stage.standing("billing").await;
    assert_eq!((standing.acked, standing.leased), (1, 1));
}

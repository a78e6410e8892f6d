//! What comes again and when, what ends as a dead letter, and how keys keep their order meanwhile.

use std::collections::BTreeMap;
use std::time::Instant;

use ratatoskr_client::{NewMessage, Outcome, SubscriptionSettings};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _};
use crate::stage::{Stage, ack, assert_passed, nack, offsets, quick, reject, take, take_one};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(a_nacked_message_returns_after_its_delay_and_not_before::<D>),
        of(a_nack_without_a_delay_follows_the_retry_schedule::<D>),
        of(a_message_whose_attempts_run_out_is_a_dead_letter_with_its_facts::<D>),
        of(a_rejected_message_is_a_dead_letter_at_once::<D>),
        of(a_message_whose_last_lease_ends_is_a_dead_letter::<D>),
        of(a_message_whose_last_member_vanishes_is_a_dead_letter::<D>),
        of(later_messages_of_a_failing_key_wait_while_other_keys_flow::<D>),
        of(a_dead_letter_lets_its_key_go_on::<D>),
        of(a_key_keeps_its_order_over_several_members::<D>),
        of(without_order_messages_of_one_key_go_out_together::<D>),
    ]
}

fn tries(attempts_max: u32) -> SubscriptionSettings {
    SubscriptionSettings { attempts_max: Some(attempts_max), ..quick() }
}

async fn a_nacked_message_returns_after_its_delay_and_not_before<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 2).await;
    let before = Instant::now();
    member.settle(&held[0], nack(700, "busy")).await.unwrap();
    ack(&member, &held[1..]).await;
    let again = take_one(&mut member).await;
    assert_passed(before, 700);
    assert_eq!((again.message.offset, again.attempt), (0, 2));
}

async fn a_nack_without_a_delay_follows_the_retry_schedule<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let settings = SubscriptionSettings {
        retry_delay_ms: Some(150),
        retry_multiplier: Some(2.0),
        retry_delay_max_ms: Some(400),
        retry_jitter: Some(0.0),
        ..tries(0)
    };
    let mut member = stage.member(settings).await;
    let mut held = take_one(&mut member).await;
    for delay_ms in [150, 300, 400, 400] {
        let before = Instant::now();
        let by_schedule = Outcome::Nack { delay: None, reason: String::new() };
        member.settle(&held, by_schedule).await.unwrap();
        held = take_one(&mut member).await;
        assert_passed(before, delay_ms);
    }
    assert_eq!(held.attempt, 5, "0 attempts_max lets it try for ever");
}

async fn a_message_whose_attempts_run_out_is_a_dead_letter_with_its_facts<D: Door>(stage: Stage<D>) {
    stage.publish(&["before"]).await;
    let poison = NewMessage::new("poison").with_key("k").with_metadata("colour", "red");
    let receipt = stage.publish_one(poison).await;
    let mut member = stage.member(tries(2)).await;
    let held = take(&mut member, 2).await;
    member.settle(&held[1], nack(0, "first")).await.unwrap();
    let again = take_one(&mut member).await;
    member.settle(&again, nack(0, "second")).await.unwrap();
    stage.until("billing", |standing| standing.dead == 1).await;
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.reason.as_str(), letter.attempts), ("second", 2));
    assert_eq!((letter.origin_topic.as_str(), letter.origin_offset), (stage.topic.as_str(), 1));
    assert_eq!(letter.origin_id, receipt.id);
    assert_eq!((letter.message.payload.as_ref(), letter.message.key.as_str()), (&b"poison"[..], "k"));
    assert_eq!(letter.message.metadata["colour"], "red");
    assert_eq!(letter.message.metadata["ratatoskr-dead-reason"], "second");
}

async fn a_rejected_message_is_a_dead_letter_at_once<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take_one(&mut member).await;
    member.settle(&held, reject("never")).await.unwrap();
    let standing = stage.standing("billing").await;
    assert_eq!((standing.dead, standing.lag_messages, standing.leased), (1, 0, 0));
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    assert_eq!((letters[0].reason.as_str(), letters[0].attempts), ("never", 1));
}

async fn a_message_whose_last_lease_ends_is_a_dead_letter<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(SubscriptionSettings { lease_ms: Some(500), ..tries(1) }).await;
    take_one(&mut member).await;
    stage.until("billing", |standing| standing.dead == 1).await;
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    assert_eq!((letters[0].reason.as_str(), letters[0].attempts), ("lease ended", 1));
}

async fn a_message_whose_last_member_vanishes_is_a_dead_letter<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(tries(1)).await;
    take_one(&mut member).await;
    member.vanish();
    stage.until("billing", |standing| standing.dead == 1).await;
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    assert_eq!((letters[0].reason.as_str(), letters[0].attempts), ("member vanished", 1));
}

async fn later_messages_of_a_failing_key_wait_while_other_keys_flow<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["a", "b", "a", "b", "a"]).await;
    let mut member = stage.member(tries(0)).await;
    let heads = take(&mut member, 2).await;
    assert_eq!(offsets(&heads), [0, 1]);
    member.settle(&heads[0], nack(1_000, "")).await.unwrap();
    ack(&member, &heads[1..]).await;
    let other = take_one(&mut member).await;
    assert_eq!(other.message.offset, 3, "the other key goes on");
    ack(&member, &[other]).await;
    let standing = stage.until_why("billing", "key_parked").await;
    assert_eq!((standing.waiting, standing.parked, standing.parked_keys), (1, 2, 1));
    for offset in [0, 2, 4] {
        let next = take_one(&mut member).await;
        assert_eq!(next.message.offset, offset);
        ack(&member, &[next]).await;
    }
}

async fn a_dead_letter_lets_its_key_go_on<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["a", "a"]).await;
    let mut member = stage.member(quick()).await;
    let head = take_one(&mut member).await;
    assert_eq!(stage.standing("billing").await.leased, 1);
    member.settle(&head, reject("never")).await.unwrap();
    assert_eq!(take_one(&mut member).await.message.offset, 1);
}

async fn a_key_keeps_its_order_over_several_members<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["a", "b", "c", "a", "b", "c", "c", "b", "a", "a", "a", "b"]).await;
    let mut one = stage.member(tries(0)).await;
    let mut two = stage.join("billing", 100).await;
    let mut acked: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut failures = 0;
    while acked.values().map(Vec::len).sum::<usize>() < 12 {
        let next = tokio::select! { next = one.next() => next, next = two.next() => next }.unwrap();
        let fails = next.attempt == 1 && next.message.offset % 2 == 0;
        let outcome = if fails { nack(20, "not yet") } else { Outcome::Ack };
        assert_eq!(stage.door.settle(vec![(&next, outcome)]).await.unwrap(), [Ok(())]);
        if fails {
            failures += 1;
        } else {
            acked.entry(next.message.key).or_default().push(next.message.offset);
        }
    }
    assert_eq!(failures, 6);
    assert_eq!(acked["a"], [0, 3, 8, 9, 10]);
    assert_eq!(acked["b"], [1, 4, 7, 11]);
    assert_eq!(acked["c"], [2, 5, 6]);
}

async fn without_order_messages_of_one_key_go_out_together<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["a", "a", "a"]).await;
    let mut member = stage.member(SubscriptionSettings { ordered: Some(false), ..quick() }).await;
    assert_eq!(offsets(&take(&mut member, 3).await), [0, 1, 2]);
}

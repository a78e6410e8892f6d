//! What can be done about dead letters.

use ratatoskr_client::{DeadLetterChoice, Outcome, Start, SubscriptionSettings};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _};
use crate::stage::{Stage, ack, quick, reject, take, take_one};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(redriven_letters_go_to_their_subscription_only_and_their_attempts_start_anew::<D>),
        of(dropped_letters_are_gone::<D>),
        of(letters_are_counted_by_reason_and_found_by_filter::<D>),
        of(single_letters_are_redriven_by_id::<D>),
        of(a_dry_run_counts_and_changes_nothing::<D>),
        of(a_redriven_letter_that_fails_again_is_a_letter_again::<D>),
        of(a_subscription_without_dead_letters_lists_none::<D>),
        of(subscriptions_that_share_a_topic_of_dead_letters_find_each_its_own::<D>),
        of(a_letter_that_is_acked_in_its_own_topic_is_resolved::<D>),
        of(a_subscription_made_anew_inherits_the_letters_of_its_name::<D>),
        of(a_redriven_message_waits_behind_its_key::<D>),
    ]
}

/// A member that has rejected these messages for these reasons.
async fn rejecting<D: Door>(stage: &Stage<D>, reasons: &[&'static str]) -> D::Member {
    stage.publish(reasons).await;
    let mut member = stage.member(quick()).await;
    for (taken, reason) in take(&mut member, reasons.len()).await.iter().zip(reasons) {
        member.settle(taken, reject(reason)).await.unwrap();
    }
    member
}

async fn redriven_letters_go_to_their_subscription_only_and_their_attempts_start_anew<D: Door>(
    stage: Stage<D>,
) {
    let mut billing = rejecting(&stage, &["a"]).await;
    stage.subscribe("audit", quick()).await;
    let mut audit = stage.join("audit", 100).await;
    let first = take_one(&mut audit).await;
    ack(&audit, &[first]).await;
    let all = DeadLetterChoice::default();
    assert_eq!(stage.door.redrive(stage.at("billing"), all).await, Ok(1));
    let again = take_one(&mut billing).await;
    assert_eq!((again.message.payload.as_ref(), again.attempt), (&b"a"[..], 1));
    ack(&billing, &[again]).await;
    stage.publish(&["after"]).await;
    let next = take_one(&mut audit).await;
    assert_eq!(next.message.payload, "after", "nobody else sees what is redriven");
    assert_eq!(stage.read(2).await[1].payload, "after", "nor does a plain reader");
    assert_eq!(stage.door.dead_letters(stage.at("billing"), "").await.unwrap(), []);
}

async fn dropped_letters_are_gone<D: Door>(stage: Stage<D>) {
    let _member = rejecting(&stage, &["a", "b"]).await;
    let at = stage.at("billing");
    assert_eq!(stage.door.drop_dead_letters(at, DeadLetterChoice::default()).await, Ok(2));
    assert_eq!(stage.door.dead_letters(at, "").await.unwrap(), []);
    assert_eq!(stage.door.count_dead_letters(at).await.unwrap(), []);
    assert_eq!(stage.door.redrive(at, DeadLetterChoice::default()).await, Ok(0));
    let standing = stage.standing("billing").await;
    assert_eq!((standing.dead, standing.lag_messages), (2, 0), "dropping changes no count");
}

async fn letters_are_counted_by_reason_and_found_by_filter<D: Door>(stage: Stage<D>) {
    let _member = rejecting(&stage, &["usual", "odd", "usual"]).await;
    let counts = stage.door.count_dead_letters(stage.at("billing")).await.unwrap();
    assert_eq!(counts, [("usual".to_owned(), 2), ("odd".to_owned(), 1)]);
    let filter = r#"metadata["ratatoskr-dead-reason"] == "usual""#;
    let letters = stage.door.dead_letters(stage.at("billing"), filter).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.origin_offset).collect::<Vec<_>>(), [0, 2]);
    let usual = DeadLetterChoice { filter: filter.to_owned(), ..DeadLetterChoice::default() };
    assert_eq!(stage.door.drop_dead_letters(stage.at("billing"), usual).await, Ok(2));
    let rest = stage.door.count_dead_letters(stage.at("billing")).await.unwrap();
    assert_eq!(rest, [("odd".to_owned(), 1)]);
}

async fn single_letters_are_redriven_by_id<D: Door>(stage: Stage<D>) {
    let mut member = rejecting(&stage, &["a", "b", "c"]).await;
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    let one = DeadLetterChoice { ids: vec![letters[1].message.id.clone()], ..DeadLetterChoice::default() };
    assert_eq!(stage.door.redrive(stage.at("billing"), one.clone()).await, Ok(1));
    assert_eq!(take_one(&mut member).await.message.payload, "b");
    assert_eq!(stage.door.redrive(stage.at("billing"), one).await, Ok(0), "each is sent once");
    let rest = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    assert_eq!(rest, [letters[0].clone(), letters[2].clone()]);
}

async fn a_dry_run_counts_and_changes_nothing<D: Door>(stage: Stage<D>) {
    let _member = rejecting(&stage, &["a", "b"]).await;
    let at = stage.at("billing");
    let dry = || DeadLetterChoice { dry_run: true, ..DeadLetterChoice::default() };
    let before = stage.door.dead_letters(at, "").await.unwrap();
    assert_eq!(stage.door.redrive(at, dry()).await, Ok(2));
    assert_eq!(stage.door.drop_dead_letters(at, dry()).await, Ok(2));
    assert_eq!(stage.door.dead_letters(at, "").await.unwrap(), before);
    assert_eq!(stage.standing("billing").await.lag_messages, 0);
}

async fn a_redriven_letter_that_fails_again_is_a_letter_again<D: Door>(stage: Stage<D>) {
    let mut member = rejecting(&stage, &["first"]).await;
    let all = DeadLetterChoice::default;
    assert_eq!(stage.door.redrive(stage.at("billing"), all()).await, Ok(1));
    let again = take_one(&mut member).await;
    member.settle(&again, reject("second")).await.unwrap();
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason.as_str(), letters[0].message.payload.as_ref()), ("second", &b"first"[..]));
    assert_eq!(letters[0].attempts, 1);
}

async fn a_subscription_without_dead_letters_lists_none<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take_one(&mut member).await;
    member.settle(&held, Outcome::Ack).await.unwrap();
    let at = stage.at("billing");
    assert_eq!(stage.door.dead_letters(at, "").await.unwrap(), []);
    assert_eq!(stage.door.count_dead_letters(at).await.unwrap(), []);
    assert_eq!(stage.door.drop_dead_letters(at, DeadLetterChoice::default()).await, Ok(0));
}

async fn subscriptions_that_share_a_topic_of_dead_letters_find_each_its_own<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    let shared =
        || SubscriptionSettings { dead_letter_topic: Some(format!("{}.shared", stage.topic)), ..quick() };
    let mut billing = stage.member(shared()).await;
    stage.subscribe("audit", shared()).await;
    let mut audit = stage.join("audit", 100).await;
    let (held, others) = (take(&mut billing, 2).await, take(&mut audit, 2).await);
    billing.settle(&held[0], reject("by billing")).await.unwrap();
    audit.settle(&others[0], reject("by audit")).await.unwrap();
    audit.settle(&others[1], reject("by audit")).await.unwrap();
    assert_eq!(stage.door.next_offset(&format!("{}.shared", stage.topic)).await, Ok(3));
    let by = |reason: &str, count| vec![(reason.to_owned(), count)];
    assert_eq!(stage.door.count_dead_letters(stage.at("billing")).await, Ok(by("by billing", 1)));
    assert_eq!(stage.door.count_dead_letters(stage.at("audit")).await, Ok(by("by audit", 2)));
    let all = DeadLetterChoice::default();
    assert_eq!(stage.door.drop_dead_letters(stage.at("audit"), all).await, Ok(2));
    assert_eq!(stage.door.count_dead_letters(stage.at("billing")).await, Ok(by("by billing", 1)));
}

async fn a_letter_that_is_acked_in_its_own_topic_is_resolved<D: Door>(stage: Stage<D>) {
    let _member = rejecting(&stage, &["a", "b"]).await;
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    let topic = format!("{}.billing.dlq", stage.topic);
    let mut mender = stage.door.join((&topic, "dlq"), 100).await.unwrap();
    let held = take(&mut mender, 2).await;
    assert_eq!(held[0].message, letters[0].message);
    ack(&mender, &held[..1]).await;
    assert_eq!(stage.door.dead_letters(stage.at("billing"), "").await.unwrap(), letters[1..]);
    assert_eq!(stage.door.redrive(stage.at("billing"), DeadLetterChoice::default()).await, Ok(1));
}

async fn a_subscription_made_anew_inherits_the_letters_of_its_name<D: Door>(stage: Stage<D>) {
    let _member = rejecting(&stage, &["a", "b"]).await;
    let letters = stage.door.dead_letters(stage.at("billing"), "").await.unwrap();
    stage.door.delete_subscription(stage.at("billing")).await.unwrap();
    let latest = Start::Latest;
    stage.door.create_subscription(stage.at("billing"), latest, quick()).await.unwrap();
    assert_eq!(stage.door.dead_letters(stage.at("billing"), "").await.unwrap(), letters);
    let mut member = stage.join("billing", 100).await;
    assert_eq!(stage.door.redrive(stage.at("billing"), DeadLetterChoice::default()).await, Ok(2));
    let again = take(&mut member, 2).await;
    assert_eq!(
        (again[0].message.payload.as_ref(), again[1].message.payload.as_ref()),
        (&b"a"[..], &b"b"[..])
    );
}

async fn a_redriven_message_waits_behind_its_key<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["k", "k"]).await;
    let mut member = stage.member(quick()).await;
    let first = take_one(&mut member).await;
    member.settle(&first, reject("bad")).await.unwrap();
    let second = take_one(&mut member).await;
    assert_eq!(stage.door.redrive(stage.at("billing"), DeadLetterChoice::default()).await, Ok(1));
    stage.until("billing", |standing| standing.parked == 1).await;
    ack(&member, &[second]).await;
    let again = take_one(&mut member).await;
    assert_eq!((again.message.offset, again.message.key.as_str()), (2, "k"));
}

//! Settling and publishing in one step, which happens wholly or not at all.

use std::time::{Duration, Instant};

use ratatoskr_client::{NewMessage, Outcome};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Refusal};
use crate::stage::{Stage, assert_passed, quick, take, take_one};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(acks_and_messages_of_a_step_happen_together::<D>),
        of(a_stale_token_refuses_the_whole_step::<D>),
        of(a_message_that_is_refused_refuses_the_whole_step::<D>),
        of(a_step_says_of_a_refused_message_what_publishing_says::<D>),
        of(a_duplicate_in_a_step_is_not_published_and_the_acks_hold::<D>),
        of(a_step_can_publish_for_later::<D>),
    ]
}

async fn acks_and_messages_of_a_step_happen_together<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    let mut billing = stage.member(quick()).await;
    stage.subscribe("audit", quick()).await;
    let mut audit = stage.join("audit", 100).await;
    let (held, others) = (take(&mut billing, 2).await, take(&mut audit, 2).await);
    let (one, two) = (format!("{}.one", stage.topic), format!("{}.two", stage.topic));
    let messages = vec![
        (one.as_str(), NewMessage::new("x")),
        (two.as_str(), NewMessage::new("y")),
        (one.as_str(), NewMessage::new("z")),
    ];
    let receipts = stage.door.settle_and_publish(&[&held[0], &others[1]], messages).await.unwrap();
    assert_eq!(receipts.iter().map(|receipt| receipt.offset).collect::<Vec<_>>(), [0, 0, 1]);
    let (billing, audit) = (stage.standing("billing").await, stage.standing("audit").await);
    assert_eq!((billing.acked, billing.leased, billing.oldest_unsettled_offset), (1, 1, 1));
    assert_eq!((audit.acked, audit.leased, audit.oldest_unsettled_offset), (1, 1, 0));
    assert_eq!(stage.door.next_offset(&one).await, Ok(2));
    assert_eq!(stage.door.next_offset(&two).await, Ok(1));
}

async fn a_stale_token_refuses_the_whole_step<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 2).await;
    assert_eq!(stage.door.settle(vec![(&held[0], Outcome::Ack)]).await.unwrap(), [Ok(())]);
    let out = format!("{}.out", stage.topic);
    stage.door.create_topic(&out).await.unwrap();
    let messages = vec![(out.as_str(), NewMessage::new("x"))];
    let refused = stage.door.settle_and_publish(&[&held[1], &held[0]], messages).await;
    assert_eq!(refused, Err(Refusal::Stale));
    assert_eq!(stage.door.next_offset(&out).await, Ok(0));
    let standing = stage.standing("billing").await;
    assert_eq!((standing.acked, standing.leased), (1, 1));
    assert_eq!(
        stage.door.settle(vec![(&held[1], Outcome::Ack)]).await.unwrap(),
        [Ok(())],
        "its lease goes on"
    );
}

async fn a_message_that_is_refused_refuses_the_whole_step<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 1).await;
    let (one, two) = (format!("{}.one", stage.topic), format!("{}.two", stage.topic));
    stage.door.create_topic(&one).await.unwrap();
    stage.door.create_topic(&two).await.unwrap();
    let elsewhere = NewMessage { expected_offset: Some(7), ..NewMessage::new("y") };
    let messages = vec![(one.as_str(), NewMessage::new("x")), (two.as_str(), elsewhere)];
    let refused = stage.door.settle_and_publish(&[&held[0]], messages).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(stage.door.next_offset(&one).await, Ok(0));
    assert_eq!(stage.door.next_offset(&two).await, Ok(0));
    assert_eq!(
        stage.door.settle(vec![(&held[0], Outcome::Ack)]).await.unwrap(),
        [Ok(())],
        "its lease goes on"
    );
}

async fn a_step_says_of_a_refused_message_what_publishing_says<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 1).await;
    let out = format!("{}.out", stage.topic);
    let elsewhere = || NewMessage { expected_offset: Some(7), ..NewMessage::new("x") };
    assert_eq!(stage.door.publish(&out, elsewhere()).await, Err(Refusal::OtherOffset));
    let refused = stage.door.settle_and_publish(&[&held[0]], vec![(&out, elsewhere())]).await;
    assert_eq!(refused, Err(Refusal::OtherOffset));
}

async fn a_duplicate_in_a_step_is_not_published_and_the_acks_hold<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 1).await;
    let out = format!("{}.out", stage.topic);
    let message = || NewMessage::new("x").with_dedup_id("one");
    let first = stage.door.publish(&out, message()).await.unwrap();
    let receipts = stage.door.settle_and_publish(&[&held[0]], vec![(&out, message())]).await.unwrap();
    assert_eq!((receipts[0].duplicate, &receipts[0].id), (true, &first.id));
    assert_eq!(stage.door.next_offset(&out).await, Ok(1));
    assert_eq!(stage.standing("billing").await.acked, 1);
}

async fn a_step_can_publish_for_later<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take_one(&mut member).await;
    let before = Instant::now();
    let later = NewMessage::new("b").with_delay(Duration::from_millis(500));
    let receipts = stage.door.settle_and_publish(&[&held], vec![(&stage.topic, later)]).await.unwrap();
    assert!(receipts[0].scheduled);
    let next = take_one(&mut member).await;
    assert_passed(before, 500);
    assert_eq!(next.message.payload, "b");
}

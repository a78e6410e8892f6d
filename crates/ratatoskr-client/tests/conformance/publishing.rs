//! Publishing: what is kept of a message, and the conditions it can be given.

use std::time::{Duration, Instant, UNIX_EPOCH};

use ratatoskr_client::{Due, NewMessage, Receipt};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _, Refusal};
use crate::stage::{Stage, ack, assert_passed, nack, quick, take_one, until_after};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(messages_get_consecutive_offsets_and_keep_what_they_were_given::<D>),
        of(a_topic_is_made_by_publishing_and_created_once::<D>),
        of(a_duplicate_is_not_published_and_its_receipt_is_the_first_ones::<D>),
        of(a_duplicate_within_a_batch_is_published_once::<D>),
        of(a_message_is_published_only_at_the_offset_it_expects::<D>),
        of(a_batch_with_another_offset_than_expected_is_published_not_at_all::<D>),
        of(a_delayed_message_comes_not_before_its_time::<D>),
        of(delayed_messages_come_in_the_order_of_their_times::<D>),
        of(a_delayed_message_reaches_its_subscription::<D>),
        of(a_deleted_topic_takes_its_delayed_messages_along::<D>),
        of(a_message_whose_time_to_live_is_over_is_not_delivered::<D>),
        of(a_message_whose_time_to_live_ends_between_attempts_expires::<D>),
        of(a_time_to_live_counts_from_when_a_message_is_due::<D>),
    ]
}

fn with_id(payload: &'static str, id: &str) -> NewMessage {
    NewMessage::new(payload).with_dedup_id(id)
}

fn at_offset(payload: &'static str, offset: u64) -> NewMessage {
    NewMessage { expected_offset: Some(offset), ..NewMessage::new(payload) }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn messages_get_consecutive_offsets_and_keep_what_they_were_given<D: Door>(stage: Stage<D>) {
    let full = NewMessage::new("payload").with_key("k").with_metadata("b", "2").with_metadata("a", "1");
    let receipt = stage.publish_one(full.clone()).await;
    let batch = stage.publish(&["x", ""]).await;
    assert_eq!((receipt.offset, batch[0].offset, batch[1].offset), (0, 1, 2));
    assert!(!receipt.duplicate && !receipt.scheduled);
    let read = stage.read(3).await;
    assert_eq!((read[0].payload.clone(), read[0].key.clone()), (full.payload, full.key));
    assert_eq!((read[0].metadata.clone(), read[2].payload.len()), (full.metadata, 0));
    let told = |receipt: &Receipt| (receipt.id.clone(), receipt.timestamp_ms);
    assert_eq!((read[0].id.clone(), read[0].timestamp_ms), told(&receipt));
    assert_eq!((read[2].id.clone(), read[2].timestamp_ms), told(&batch[1]));
    assert_eq!(stage.door.next_offset(&stage.topic).await, Ok(3));
}

async fn a_topic_is_made_by_publishing_and_created_once<D: Door>(stage: Stage<D>) {
    assert_eq!(stage.door.next_offset(&stage.topic).await, Err(Refusal::NotFound));
    stage.publish(&["a"]).await;
    assert_eq!(stage.door.create_topic(&stage.topic).await, Err(Refusal::AlreadyExists));
    stage.door.delete_topic(&stage.topic).await.unwrap();
    assert_eq!(stage.door.delete_topic(&stage.topic).await, Err(Refusal::NotFound));
    stage.door.create_topic(&stage.topic).await.unwrap();
    assert_eq!(stage.door.next_offset(&stage.topic).await, Ok(0));
}

async fn a_duplicate_is_not_published_and_its_receipt_is_the_first_ones<D: Door>(stage: Stage<D>) {
    let first = stage.publish_one(with_id("a", "one")).await;
    stage.publish(&["b"]).await;
    let again = stage.publish_one(with_id("another", "one")).await;
    assert_eq!(again, Receipt { duplicate: true, ..first.clone() });
    assert!(!first.duplicate);
    assert_eq!(stage.door.next_offset(&stage.topic).await, Ok(2));
    let elsewhere = format!("{}.other", stage.topic);
    let other = stage.door.publish(&elsewhere, with_id("a", "one")).await.unwrap();
    assert!(!other.duplicate, "ids count per topic");
}

async fn a_duplicate_within_a_batch_is_published_once<D: Door>(stage: Stage<D>) {
    let batch = vec![with_id("a", "one"), NewMessage::new("b"), with_id("c", "one")];
    let receipts = stage.door.publish_batch(&stage.topic, batch).await.unwrap();
    let told: Vec<_> = receipts.iter().map(|receipt| (receipt.offset, receipt.duplicate)).collect();
    assert_eq!(told, [(0, false), (1, false), (0, true)]);
    assert_eq!(stage.door.next_offset(&stage.topic).await, Ok(2));
}

async fn a_message_is_published_only_at_the_offset_it_expects<D: Door>(stage: Stage<D>) {
    assert_eq!(stage.publish_one(at_offset("a", 0)).await.offset, 0);
    for wrong in [0, 2] {
        let refused = stage.door.publish(&stage.topic, at_offset("b", wrong)).await;
        assert_eq!(refused, Err(Refusal::OtherOffset));
    }
    assert_eq!(stage.publish_one(at_offset("b", 1)).await.offset, 1);
    assert_eq!(stage.door.next_offset(&stage.topic).await, Ok(2));
}

async fn a_batch_with_another_offset_than_expected_is_published_not_at_all<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let batch = vec![NewMessage::new("b"), at_offset("c", 1)];
    let refused = stage.door.publish_batch(&stage.topic, batch).await;
    assert_eq!(refused, Err(Refusal::OtherOffset));
    assert_eq!(stage.door.next_offset(&stage.topic).await, Ok(1));
    let batch = vec![NewMessage::new("b"), at_offset("c", 2)];
    assert_eq!(stage.door.publish_batch(&stage.topic, batch).await.unwrap()[1].offset, 2);
}

async fn a_delayed_message_comes_not_before_its_time<D: Door>(stage: Stage<D>) {
    let before = Instant::now();
    let receipt = stage.publish_one(NewMessage::new("later").with_delay(ms(800))).await;
    assert!(receipt.scheduled);
    assert_eq!(receipt.offset, Receipt::NO_OFFSET);
    stage.publish(&["now"]).await;
    let read = stage.read(2).await;
    assert_passed(before, 800);
    assert_eq!((read[0].payload.as_ref(), read[1].payload.as_ref()), (&b"now"[..], &b"later"[..]));
    assert_eq!(read[1].metadata["ratatoskr-scheduled-id"], receipt.id);
}

async fn delayed_messages_come_in_the_order_of_their_times<D: Door>(stage: Stage<D>) {
    let now_ms = UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let due = |payload: &'static str, at_ms| NewMessage { due: Due::At(at_ms), ..NewMessage::new(payload) };
    let past = stage.publish_one(due("past", now_ms - 1_000)).await;
    assert!(!past.scheduled, "what is over is due at once");
    stage.publish_one(due("last", now_ms + 900)).await;
    stage.publish_one(due("first", now_ms + 600)).await;
    stage.publish_one(due("middle", now_ms + 750)).await;
    let read = stage.read(4).await;
    let payloads: Vec<_> = read.iter().map(|seen| seen.payload.clone()).collect();
    assert_eq!(payloads, ["past", "first", "middle", "last"]);
}

async fn a_delayed_message_reaches_its_subscription<D: Door>(stage: Stage<D>) {
    stage.door.create_topic(&stage.topic).await.unwrap();
    let mut member = stage.member(quick()).await;
    let before = Instant::now();
    let later = NewMessage::new("later").with_key("k").with_dedup_id("one").with_delay(ms(500));
    let first = stage.publish_one(later.clone()).await;
    let again = stage.publish_one(later).await;
    assert!(again.duplicate && again.id == first.id, "{again:?}");
    let taken = take_one(&mut member).await;
    assert_passed(before, 500);
    assert_eq!((taken.message.payload.as_ref(), taken.message.key.as_str()), (&b"later"[..], "k"));
    ack(&member, &[taken]).await;
    assert_eq!(stage.until_why("billing", "caught_up").await.acked, 1);
}

async fn a_message_whose_time_to_live_is_over_is_not_delivered<D: Door>(stage: Stage<D>) {
    let brief = stage.publish_one(NewMessage::new("brief").with_ttl(ms(1))).await;
    until_after(brief.timestamp_ms + 1).await;
    stage.publish_one(NewMessage::new("long").with_ttl(ms(600_000))).await;
    let mut member = stage.member(quick()).await;
    let taken = take_one(&mut member).await;
    assert_eq!(taken.message.payload, "long");
    ack(&member, &[taken]).await;
    let standing = stage.until("billing", |standing| standing.lag_messages == 0).await;
    assert_eq!((standing.expired, standing.acked), (1, 1));
    assert_eq!(stage.read(1).await[0].payload, "long", "a plain reader does not see it either");
}

async fn a_message_whose_time_to_live_ends_between_attempts_expires<D: Door>(stage: Stage<D>) {
    stage.door.create_topic(&stage.topic).await.unwrap();
    let mut member = stage.member(quick()).await;
    stage.publish_one(NewMessage::new("brief").with_ttl(ms(2_000))).await;
    let taken = take_one(&mut member).await;
    member.settle(&taken, nack(2_100, "later")).await.unwrap();
    let standing = stage.until("billing", |standing| standing.expired == 1).await;
    assert_eq!((standing.lag_messages, standing.dead, standing.waiting), (0, 0, 0));
}

async fn a_deleted_topic_takes_its_delayed_messages_along<D: Door>(stage: Stage<D>) {
    stage.publish_one(NewMessage::new("lost").with_delay(ms(400))).await;
    stage.door.delete_topic(&stage.topic).await.unwrap();
    stage.publish_one(NewMessage::new("kept").with_delay(ms(600))).await;
    assert_eq!(stage.read(1).await[0].payload, "kept");
    assert_eq!(stage.door.next_offset(&stage.topic).await, Ok(1));
}

async fn a_time_to_live_counts_from_when_a_message_is_due<D: Door>(stage: Stage<D>) {
    stage.door.create_topic(&stage.topic).await.unwrap();
    let mut member = stage.member(quick()).await;
    stage.publish_one(NewMessage::new("later").with_delay(ms(2_000)).with_ttl(ms(1_900))).await;
    assert_eq!(take_one(&mut member).await.message.payload, "later");
}

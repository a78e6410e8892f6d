//! Reading a topic plainly, without settling anything.

use ratatoskr_client::{NewMessage, Outcome, Seek, Start};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _, Refusal, Seen};
use crate::stage::{Stage, nack, quick, take, take_one, until_after};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(a_reader_begins_where_it_is_told::<D>),
        of(a_reader_sees_only_what_passes_its_filter::<D>),
        of(readers_and_members_of_a_deleted_topic_end::<D>),
        of(what_is_purged_is_read_no_more_and_has_expired::<D>),
        of(what_is_purged_while_it_is_held_or_waits_is_counted_once::<D>),
        of(neither_readers_nor_subscriptions_move_to_what_is_gone::<D>),
    ]
}

fn offsets(read: &[Seen]) -> Vec<u64> {
    read.iter().map(|seen| seen.offset).collect()
}

async fn a_reader_begins_where_it_is_told<D: Door>(stage: Stage<D>) {
    let early = stage.publish(&["a", "b"]).await;
    until_after(early[1].timestamp_ms).await;
    let late = stage.publish(&["c"]).await;
    let read = async |start, count| {
        let read = stage.door.read(&stage.topic, start, "", count).await;
        read.map(|read| offsets(&read))
    };
    assert_eq!(read(Start::Earliest, 3).await, Ok(vec![0, 1, 2]));
    assert_eq!(read(Start::Offset(1), 2).await, Ok(vec![1, 2]));
    assert_eq!(read(Start::Time(late[0].timestamp_ms), 1).await, Ok(vec![2]));
    let publishing = async { stage.publish(&["d"]).await };
    // The end is a place as well: what comes next.
    let (next, _) = tokio::join!(read(Start::Offset(3), 1), publishing);
    assert_eq!(next, Ok(vec![3]));
    assert!(read(Start::Offset(9), 1).await.is_err(), "there is no such place yet");
    let missing = stage.door.read("no-such-topic", Start::Earliest, "", 1).await;
    assert_eq!(missing, Err(Refusal::NotFound));
}

async fn a_reader_sees_only_what_passes_its_filter<D: Door>(stage: Stage<D>) {
    for key in ["a", "b", "a", "c", "b"] {
        stage.publish_one(NewMessage::new(key).with_key(key).with_metadata("key", key)).await;
    }
    let filter = r#"key == "b" || metadata["key"] == "c""#;
    let read = stage.door.read(&stage.topic, Start::Earliest, filter, 3).await.unwrap();
    assert_eq!(offsets(&read), [1, 3, 4]);
}

async fn readers_and_members_of_a_deleted_topic_end<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    take_one(&mut member).await;
    let reading = stage.door.read(&stage.topic, Start::Earliest, "", 2);
    let (read, deleted) = tokio::join!(reading, stage.door.delete_topic(&stage.topic));
    assert_eq!((read, deleted), (Err(Refusal::NotFound), Ok(())));
    assert_eq!(member.next().await, Err(Refusal::NotFound));
    stage.publish(&["b"]).await;
    assert_eq!(stage.door.describe(stage.at("billing")).await, Err(Refusal::NotFound));
    assert_eq!(stage.read(1).await[0].payload, "b");
}

async fn what_is_purged_is_read_no_more_and_has_expired<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    stage.subscribe("billing", quick()).await;
    assert_eq!(stage.door.purge_topic(&stage.topic, 2).await, Ok(2));
    assert_eq!(offsets(&stage.read(1).await), [2]);
    let mut member = stage.join("billing", 100).await;
    assert_eq!(take_one(&mut member).await.message.offset, 2);
    let standing = stage.until("billing", |standing| standing.expired == 2).await;
    assert_eq!((standing.lag_messages, standing.oldest_unsettled_offset, standing.passed), (1, 2, 0));
}

async fn neither_readers_nor_subscriptions_move_to_what_is_gone<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    stage.subscribe("billing", quick()).await;
    stage.door.purge_topic(&stage.topic, 2).await.unwrap();
    let read = stage.door.read(&stage.topic, Start::Offset(0), "", 1).await;
    assert!(matches!(read, Err(Refusal::Other(_))), "{read:?}");
    let moved = stage.door.seek(stage.at("billing"), Seek::To(Start::Offset(0))).await;
    assert!(matches!(moved, Err(Refusal::Other(_))), "{moved:?}");
    stage.door.seek(stage.at("billing"), Seek::To(Start::Earliest)).await.unwrap();
    let mut member = stage.join("billing", 100).await;
    assert_eq!(take_one(&mut member).await.message.offset, 2);
}

async fn what_is_purged_while_it_is_held_or_waits_is_counted_once<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c", "d"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 4).await;
    member.settle(&held[0], Outcome::Ack).await.unwrap();
    member.settle(&held[1], nack(300, "later")).await.unwrap();
    stage.door.purge_topic(&stage.topic, 3).await.unwrap();
    // It is gone or it is settled; what a late ack is told depends on who was first.
    let late = member.settle(&held[2], Outcome::Ack).await;
    assert!(matches!(late, Ok(()) | Err(Refusal::Stale)), "{late:?}");
    member.settle(&held[3], Outcome::Ack).await.unwrap();
    // The one that waits is missed when its time has come and a member wants it.
    stage.until("billing", |standing| standing.waiting == 0).await;
    stage.publish(&["e"]).await;
    let next = take_one(&mut member).await;
    assert_eq!(next.message.offset, 4);
    member.settle(&next, Outcome::Ack).await.unwrap();
    let standing = stage.until_why("billing", "caught_up").await;
    assert_eq!((standing.lag_messages, standing.waiting, standing.leased), (0, 0, 0));
    let acked = 3 + u64::from(late.is_ok());
    assert_eq!((standing.acked, standing.expired), (acked, 5 - acked));
}

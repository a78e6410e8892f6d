//! Where a subscription stands, and how it is moved, stopped and looked into.

use ratatoskr_client::{NewMessage, Outcome, Seek, Start, SubscriptionSettings};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _, Refusal};
use crate::stage::{Stage, ack, attempts, nack, offsets, quick, take, take_one, until_after};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(a_subscription_begins_where_it_is_told::<D>),
        of(what_a_filter_passes_over_is_not_delivered_and_is_no_lag::<D>),
        of(a_filter_that_is_changed_holds_for_what_comes_then::<D>),
        of(settings_that_cannot_be_are_refused_and_change_nothing::<D>),
        of(a_subscription_moves_to_the_earliest_message_an_offset_and_a_time::<D>),
        of(what_members_hold_when_a_subscription_moves_is_stale::<D>),
        of(a_saved_state_is_restored_message_by_message::<D>),
        of(skipping_passes_over_the_oldest_unsettled_messages::<D>),
        of(moving_takes_what_waits_and_what_is_parked_along::<D>),
        of(peeking_leases_nothing::<D>),
        of(peeking_shows_what_passes_the_filter::<D>),
        of(a_paused_subscription_delivers_nothing_until_it_is_resumed::<D>),
    ]
}

async fn a_subscription_begins_where_it_is_told<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    let starts =
        [("earliest", Start::Earliest, 0), ("second", Start::Offset(1), 1), ("latest", Start::Latest, 3)];
    for (name, start, _) in starts {
        stage.door.create_subscription(stage.at(name), start, quick()).await.unwrap();
    }
    stage.publish(&["d"]).await;
    for (name, _, first) in starts {
        let mut member = stage.join(name, 100).await;
        assert_eq!(take_one(&mut member).await.message.offset, first, "{name}");
        assert_eq!(stage.standing(name).await.lag_messages, 4 - first, "{name}");
    }
}

async fn what_a_filter_passes_over_is_not_delivered_and_is_no_lag<D: Door>(stage: Stage<D>) {
    let kinds = ["order", "note", "order", "note", "order", "note"];
    let messages = kinds.iter().map(|kind| NewMessage::new(*kind).with_metadata("kind", *kind)).collect();
    stage.door.publish_batch(&stage.topic, messages).await.unwrap();
    let filter = Some(r#"metadata["kind"] == "order""#.to_owned());
    let mut member = stage.member(SubscriptionSettings { filter, ..quick() }).await;
    let orders = take(&mut member, 3).await;
    assert_eq!(offsets(&orders), [0, 2, 4]);
    ack(&member, &orders).await;
    let standing = stage.until("billing", |standing| standing.lag_messages == 0).await;
    assert_eq!((standing.acked, standing.passed, standing.oldest_unsettled_offset), (3, 3, 6));
}

async fn a_subscription_moves_to_the_earliest_message_an_offset_and_a_time<D: Door>(stage: Stage<D>) {
    let early = stage.publish(&["a", "b", "c"]).await;
    until_after(early[2].timestamp_ms).await;
    let late = stage.publish_one(NewMessage::new("d")).await;
    assert!(late.timestamp_ms > early[2].timestamp_ms);
    let mut member = stage.member(quick()).await;
    let all = take(&mut member, 4).await;
    ack(&member, &all).await;
    let places = [
        (Start::Offset(2), vec![2, 3]),
        (Start::Earliest, vec![0, 1, 2, 3]),
        (Start::Time(late.timestamp_ms), vec![3]),
        (Start::Time(0), vec![0, 1, 2, 3]),
    ];
    for (start, expected) in places {
        stage.door.seek(stage.at("billing"), Seek::To(start)).await.unwrap();
        let again = take(&mut member, expected.len()).await;
        assert_eq!((offsets(&again), attempts(&again)), (expected.clone(), vec![1; expected.len()]));
        ack(&member, &again).await;
        assert_eq!(stage.until_why("billing", "caught_up").await.lag_messages, 0);
    }
    let beyond = stage.door.seek(stage.at("billing"), Seek::To(Start::Offset(5))).await;
    assert!(beyond.is_err(), "there is no such place yet");
    stage.door.seek(stage.at("billing"), Seek::To(Start::Latest)).await.unwrap();
    stage.publish(&["e"]).await;
    assert_eq!(take_one(&mut member).await.message.offset, 4);
}

async fn what_members_hold_when_a_subscription_moves_is_stale<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 2).await;
    stage.door.seek(stage.at("billing"), Seek::To(Start::Offset(1))).await.unwrap();
    for taken in &held {
        assert_eq!(member.settle(taken, Outcome::Ack).await, Err(Refusal::Stale));
    }
    let again = take_one(&mut member).await;
    assert_eq!(again.message.offset, 1);
    ack(&member, &[again]).await;
    assert_eq!(stage.until_why("billing", "caught_up").await.lag_messages, 0);
}

async fn a_saved_state_is_restored_message_by_message<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c", "d"]).await;
    let mut member = stage.member(quick()).await;
    let all = take(&mut member, 4).await;
    ack(&member, &[all[0].clone(), all[2].clone()]).await;
    stage.door.save(stage.at("billing"), "before").await.unwrap();
    ack(&member, &[all[1].clone(), all[3].clone()]).await;
    let standing = stage.until_why("billing", "caught_up").await;
    assert_eq!(standing.saved, ["before"]);
    stage.door.seek(stage.at("billing"), Seek::Saved("before".to_owned())).await.unwrap();
    assert_eq!(stage.standing("billing").await.lag_messages, 2);
    assert_eq!(offsets(&take(&mut member, 2).await), [1, 3]);
    let missing = stage.door.seek(stage.at("billing"), Seek::Saved("other".to_owned())).await;
    assert_eq!(missing, Err(Refusal::NotFound));
}

async fn skipping_passes_over_the_oldest_unsettled_messages<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c", "d", "e", "f"]).await;
    let mut member = stage.member(quick()).await;
    let all = take(&mut member, 6).await;
    ack(&member, &[all[0].clone(), all[2].clone()]).await;
    stage.door.seek(stage.at("billing"), Seek::Skip(2)).await.unwrap();
    let standing = stage.standing("billing").await;
    assert_eq!((standing.passed, standing.oldest_unsettled_offset, standing.lag_messages), (2, 4, 2));
    assert_eq!(offsets(&take(&mut member, 2).await), [4, 5]);
}

async fn peeking_leases_nothing<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    stage.subscribe("billing", quick()).await;
    let peek = async || {
        let peeked = stage.door.peek(stage.at("billing"), 2).await.unwrap();
        peeked.iter().map(|seen| seen.offset).collect::<Vec<_>>()
    };
    assert_eq!(peek().await, [0, 1]);
    assert_eq!(stage.standing("billing").await.leased, 0);
    let mut member = stage.join("billing", 100).await;
    let held = take(&mut member, 3).await;
    assert_eq!(attempts(&held), [1, 1, 1]);
    assert_eq!(peek().await, [0, 1], "leased or not");
    ack(&member, &held[..1]).await;
    assert_eq!(peek().await, [1, 2]);
}

async fn a_paused_subscription_delivers_nothing_until_it_is_resumed<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take_one(&mut member).await;
    let pause = |paused| SubscriptionSettings { paused: Some(paused), ..SubscriptionSettings::default() };
    stage.door.change_subscription(stage.at("billing"), pause(true)).await.unwrap();
    stage.publish(&["b", "c"]).await;
    let standing = stage.until_why("billing", "paused").await;
    assert_eq!((standing.leased, standing.lag_messages), (1, 3), "what is leased stays so");
    ack(&member, &[held]).await;
    let standing = stage.standing("billing").await;
    assert_eq!((standing.acked, standing.leased), (1, 0));
    stage.door.change_subscription(stage.at("billing"), pause(false)).await.unwrap();
    assert_eq!(offsets(&take(&mut member, 2).await), [1, 2]);
}

async fn a_filter_that_is_changed_holds_for_what_comes_then<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["a", "b"]).await;
    let only = |key: &str| SubscriptionSettings { filter: Some(format!("key == '{key}'")), ..quick() };
    let mut member = stage.member(only("a")).await;
    let first = take_one(&mut member).await;
    ack(&member, &[first]).await;
    stage.until("billing", |standing| standing.lag_messages == 0).await;
    stage.door.change_subscription(stage.at("billing"), only("b")).await.unwrap();
    stage.publish_keys(&["a", "b"]).await;
    let second = take_one(&mut member).await;
    assert_eq!(second.message.offset, 3);
    ack(&member, &[second]).await;
    let standing = stage.until("billing", |standing| standing.lag_messages == 0).await;
    assert_eq!((standing.acked, standing.passed), (2, 2));
}

async fn settings_that_cannot_be_are_refused_and_change_nothing<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let default = SubscriptionSettings::default;
    let wrong = [
        SubscriptionSettings { filter: Some("key ==".to_owned()), ..default() },
        SubscriptionSettings { lease_ms: Some(1), ..default() },
        SubscriptionSettings { expiry_ms: Some(1), ..default() },
        SubscriptionSettings { retry_jitter: Some(2.0), ..default() },
        SubscriptionSettings { dead_letter_topic: Some(stage.topic.clone()), ..default() },
    ];
    stage.subscribe("billing", default()).await;
    for settings in wrong {
        let created =
            stage.door.create_subscription(stage.at("audit"), Start::Earliest, settings.clone()).await;
        assert!(matches!(created, Err(Refusal::Other(_))), "{settings:?}: {created:?}");
        let changed = stage.door.change_subscription(stage.at("billing"), settings.clone()).await;
        assert!(matches!(changed, Err(Refusal::Other(_))), "{settings:?}: {changed:?}");
    }
    assert_eq!(stage.door.describe(stage.at("audit")).await, Err(Refusal::NotFound));
    let mut member = stage.join("billing", 100).await;
    take_one(&mut member).await;
}

async fn peeking_shows_what_passes_the_filter<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["a", "b", "a", "b"]).await;
    let filter = Some("key == 'b'".to_owned());
    stage.subscribe("billing", SubscriptionSettings { filter, ..quick() }).await;
    let peeked = stage.door.peek(stage.at("billing"), 10).await.unwrap();
    assert_eq!(peeked.iter().map(|seen| seen.offset).collect::<Vec<_>>(), [1, 3]);
}

async fn moving_takes_what_waits_and_what_is_parked_along<D: Door>(stage: Stage<D>) {
    stage.publish_keys(&["k", "k", "other"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 2).await;
    member.settle(&held[0], nack(60_000, "stuck")).await.unwrap();
    ack(&member, &held[1..]).await;
    stage.until_why("billing", "key_parked").await;
    stage.door.seek(stage.at("billing"), Seek::Skip(1)).await.unwrap();
    let next = take_one(&mut member).await;
    assert_eq!((next.message.offset, next.attempt), (1, 1), "its key is free");
    stage.door.seek(stage.at("billing"), Seek::To(Start::Earliest)).await.unwrap();
    let again = take(&mut member, 2).await;
    assert_eq!((offsets(&again), attempts(&again)), (vec![0, 2], vec![1, 1]));
    assert_eq!(stage.standing("billing").await.waiting, 0);
}

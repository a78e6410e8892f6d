//! Subscriptions and their members: who gets what, and what becomes of it when somebody goes.

use ratatoskr_client::{Outcome, SubscriptionSettings};

use crate::behaviour::{Behaviour, of};
use crate::doors::{Door, Member as _, Refusal};
use crate::stage::{Stage, ack, attempts, offsets, quick, take, take_one};

pub(crate) fn behaviours<D: Door>() -> Vec<Behaviour<D>> {
    vec![
        of(several_subscriptions_see_every_message_independently::<D>),
        of(members_share_a_topic_in_balance::<D>),
        of(
            what_a_vanished_member_held_comes_one_by_one_and_only_what_it_held_alone_has_used_up_an_attempt::<
                D,
            >,
        ),
        of(what_a_member_held_that_closed_returns_unharmed::<D>),
        of(what_was_sent_to_a_vanished_member_and_never_seen_does_not_count::<D>).except(
            "over gRPC",
            "what has been written to the stream counts as seen: nobody tells what the client took",
        ),
        of(a_member_holds_no_more_than_its_window::<D>),
        of(a_member_holds_no_more_than_member_outstanding_max::<D>),
        of(all_members_together_hold_no_more_than_outstanding_max::<D>),
        of(what_is_pulled_stays_leased_until_it_is_settled::<D>),
        of(the_members_of_a_deleted_subscription_end_and_its_messages_stay::<D>),
        of(a_subscription_exists_once_and_only_on_a_topic::<D>),
    ]
}

async fn several_subscriptions_see_every_message_independently<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    let mut billing = stage.member(quick()).await;
    stage.subscribe("audit", quick()).await;
    let mut audit = stage.join("audit", 100).await;
    let all = take(&mut billing, 3).await;
    ack(&billing, &all).await;
    let others = take(&mut audit, 3).await;
    assert_eq!((offsets(&all), offsets(&others)), (vec![0, 1, 2], vec![0, 1, 2]));
    assert_eq!(attempts(&others), [1, 1, 1]);
    ack(&audit, &others[1..2]).await;
    let (billing, audit) = (stage.standing("billing").await, stage.standing("audit").await);
    assert_eq!((billing.acked, billing.lag_messages), (3, 0));
    assert_eq!((audit.acked, audit.lag_messages, audit.leased), (1, 2, 2));
}

async fn members_share_a_topic_in_balance<D: Door>(stage: Stage<D>) {
    stage.door.create_topic(&stage.topic).await.unwrap();
    let mut one = stage.member(quick()).await;
    let mut two = stage.join("billing", 100).await;
    stage.publish(&["x"; 10]).await;
    let (first, second) = (take(&mut one, 5).await, take(&mut two, 5).await);
    let mut all = [offsets(&first), offsets(&second)].concat();
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>(), "each message goes to one of them");
}

async fn what_a_vanished_member_held_comes_one_by_one_and_only_what_it_held_alone_has_used_up_an_attempt<
    D: Door,
>(
    stage: Stage<D>,
) {
    stage.publish(&["a", "b", "c"]).await;
    let mut one = stage.member(quick()).await;
    let held = take(&mut one, 3).await;
    let mut two = stage.join("billing", 100).await;
    one.vanish();
    for offset in 0..3 {
        let alone = take_one(&mut two).await;
        assert_eq!((alone.message.offset, alone.attempt), (offset, 1));
        if offset == 2 {
            two.vanish();
            break;
        }
        ack(&two, &[alone]).await;
    }
    let mut three = stage.join("billing", 100).await;
    let alone = take_one(&mut three).await;
    // The death it was suspected of counts now as well.
    assert_eq!((alone.message.offset, alone.attempt), (2, 3));
    let late = stage.door.settle(vec![(&held[0], Outcome::Ack)]).await.unwrap();
    assert_eq!(late, [Err(Refusal::Stale)]);
}

async fn what_a_member_held_that_closed_returns_unharmed<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    let mut one = stage.member(quick()).await;
    take(&mut one, 3).await;
    let mut two = stage.join("billing", 100).await;
    one.close().await.unwrap();
    let returned = take(&mut two, 3).await;
    assert_eq!((offsets(&returned), attempts(&returned)), (vec![0, 1, 2], vec![1, 1, 1]));
}

async fn a_member_holds_no_more_than_its_window<D: Door>(stage: Stage<D>) {
    stage.publish(&["x"; 5]).await;
    stage.subscribe("billing", quick()).await;
    let mut member = stage.join("billing", 2).await;
    let held = take(&mut member, 2).await;
    assert_eq!(stage.until_why("billing", "no_credit").await.leased, 2);
    ack(&member, &held[..1]).await;
    assert_eq!(take_one(&mut member).await.message.offset, 2);
    assert_eq!(stage.until_why("billing", "no_credit").await.leased, 2);
}

async fn a_member_holds_no_more_than_member_outstanding_max<D: Door>(stage: Stage<D>) {
    stage.publish(&["x"; 5]).await;
    let mut member = stage.member(SubscriptionSettings { member_outstanding_max: Some(2), ..quick() }).await;
    let held = take(&mut member, 2).await;
    assert_eq!(stage.until_why("billing", "no_credit").await.leased, 2);
    ack(&member, &held).await;
    assert_eq!(offsets(&take(&mut member, 2).await), [2, 3]);
}

async fn all_members_together_hold_no_more_than_outstanding_max<D: Door>(stage: Stage<D>) {
    stage.publish(&["x"; 5]).await;
    let mut one = stage.member(SubscriptionSettings { outstanding_max: Some(3), ..quick() }).await;
    let held = take(&mut one, 3).await;
    let mut two = stage.join("billing", 100).await;
    assert_eq!(stage.until_why("billing", "outstanding_max").await.leased, 3);
    one.settle(&held[1], Outcome::Ack).await.unwrap();
    // Whoever gets the next one: it is one.
    let next = tokio::select! { next = one.next() => next, next = two.next() => next };
    assert_eq!(next.unwrap().message.offset, 3);
    assert_eq!(stage.until_why("billing", "outstanding_max").await.leased, 3);
}

async fn what_is_pulled_stays_leased_until_it_is_settled<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b", "c"]).await;
    stage.subscribe("billing", quick()).await;
    let pulled = stage.door.pull(stage.at("billing"), 2).await.unwrap();
    assert_eq!(offsets(&pulled), [0, 1]);
    let standing = stage.until("billing", |standing| standing.member_count == 0).await;
    assert_eq!(standing.leased, 2);
    let other = stage.door.pull(stage.at("billing"), 10).await.unwrap();
    assert_eq!(offsets(&other), [2]);
    let settlements = vec![(&pulled[0], Outcome::Ack), (&pulled[1], Outcome::Release)];
    assert_eq!(stage.door.settle(settlements).await.unwrap(), [Ok(()), Ok(())]);
    let again = stage.door.pull(stage.at("billing"), 10).await.unwrap();
    assert_eq!((offsets(&again), attempts(&again)), (vec![1], vec![1]));
}

async fn the_members_of_a_deleted_subscription_end_and_its_messages_stay<D: Door>(stage: Stage<D>) {
    stage.publish(&["a"]).await;
    let mut member = stage.member(quick()).await;
    let held = take(&mut member, 1).await;
    stage.door.delete_subscription(stage.at("billing")).await.unwrap();
    assert_eq!(member.next().await, Err(Refusal::NotFound));
    assert_eq!(stage.door.describe(stage.at("billing")).await, Err(Refusal::NotFound));
    assert_eq!(stage.door.settle(vec![(&held[0], Outcome::Ack)]).await.unwrap(), [Err(Refusal::Stale)]);
    let mut anew = stage.member(quick()).await;
    assert_eq!(take_one(&mut anew).await.attempt, 1, "nothing is remembered");
}

async fn a_subscription_exists_once_and_only_on_a_topic<D: Door>(stage: Stage<D>) {
    let create = async || {
        let settings = SubscriptionSettings::default();
        let start = ratatoskr_client::Start::Earliest;
        stage.door.create_subscription(stage.at("billing"), start, settings).await
    };
    assert_eq!(create().await, Err(Refusal::NotFound));
    stage.door.create_topic(&stage.topic).await.unwrap();
    assert_eq!(create().await, Ok(()));
    assert_eq!(create().await, Err(Refusal::AlreadyExists));
    assert_eq!(stage.door.join(stage.at("audit"), 1).await.err(), Some(Refusal::NotFound));
}

async fn what_was_sent_to_a_vanished_member_and_never_seen_does_not_count<D: Door>(stage: Stage<D>) {
    stage.publish(&["a", "b"]).await;
    let one = stage.member(quick()).await;
    stage.until("billing", |standing| standing.leased == 2).await;
    let mut two = stage.join("billing", 100).await;
    one.vanish();
    let returned = take(&mut two, 2).await;
    assert_eq!((offsets(&returned), attempts(&returned)), (vec![0, 1], vec![1, 1]));
}

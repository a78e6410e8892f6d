//! Messages that are removed before a subscription has settled them: they are counted when they go, whether or not anybody reads.

#![allow(clippy::unwrap_used)]

mod support;

use ratatoskr_broker::{
    Broker, Durability, JoinOptions, Member, NewMessage, Outcome, Seek, Start, SubscriptionSettings,
    TopicSettings, Window,
};
use support::{named, open, publish, topic, until};

async fn create(broker: &Broker, name: &str) {
    let settings = SubscriptionSettings::default();
    broker.create_subscription(&named(name), Start::Earliest, settings).await.unwrap();
}

async fn join(broker: &Broker, window: u32) -> Member {
    let window = Window { messages: window, ..Window::default() };
    broker.join(&named("billing"), JoinOptions { window, ..JoinOptions::default() }).await.unwrap()
}

async fn keep(broker: &Broker, messages: u64) {
    let retention_messages = Some(messages);
    let change = move |settings: &TopicSettings| TopicSettings { retention_messages, ..settings.clone() };
    broker.change_topic(&topic(), change).await.unwrap();
}

#[tokio::test]
async fn what_retention_removes_unread_has_expired_though_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 10).await;
    create(&broker, "billing").await;
    create(&broker, "mail").await;
    // One of them has settled some of what goes.
    let mut member = join(&broker, 2).await;
    let fetched = member.next_batch().await.unwrap();
    let acks = fetched.iter().map(|delivered| (delivered.token, Outcome::Ack)).collect();
    member.settle(acks).unwrap().await;
    member.close();
    let acked = fetched.len() as u64;
    // After a restart nothing is read ahead: what goes was never looked at.
    broker.shutdown().unwrap();
    drop(broker);
    let broker = open(folder.path());
    keep(&broker, 3).await;
    let billing = until(&broker, "billing", |billing| billing.expired > 0).await;
    let mail = until(&broker, "mail", |mail| mail.expired > 0).await;
    assert_eq!((billing.expired, billing.acked, billing.lag_messages), (7 - acked, acked, 3));
    assert_eq!((mail.expired, mail.passed, mail.lag_messages), (7, 0, 3));
    assert_eq!(broker.counters().retention_unsettled_messages, 14 - acked);
    assert!(mail.why.starts_with("no_members: "), "{}", mail.why);
    assert!(mail.why.contains("; 7 messages expired before they were settled"), "{}", mail.why);
    // It is written down, and not counted again.
    broker.shutdown().unwrap();
    drop(broker);
    let broker = open(folder.path());
    let mail = until(&broker, "mail", |_| true).await;
    assert_eq!((mail.expired, mail.lag_messages), (7, 3));
    let mut member = join(&broker, 10).await;
    assert_eq!(member.next_batch().await.unwrap()[0].message.offset, 7);
    assert_eq!(broker.counters().retention_unsettled_messages, 0);
}

#[tokio::test]
async fn restoring_a_saved_state_does_not_count_what_was_gone_already_as_lost_again() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 10).await;
    create(&broker, "billing").await;
    broker.save_subscription(&named("billing"), "before").await.unwrap();
    // Some are acked, and of those that go the rest is lost.
    let mut member = join(&broker, 4).await;
    let mut acked = 0;
    while acked < 4 {
        let fetched = member.next_batch().await.unwrap();
        acked += fetched.len() as u64;
        let acks = fetched.iter().map(|delivered| (delivered.token, Outcome::Ack)).collect();
        member.settle(acks).unwrap().await;
    }
    member.close();
    keep(&broker, 3).await;
    let billing = until(&broker, "billing", |billing| billing.expired > 0).await;
    let lost = billing.expired;
    assert_eq!((lost, billing.lag_messages), (7 - acked, 3));
    assert_eq!(broker.counters().retention_unsettled_messages, lost);

    broker.seek_subscription(&named("billing"), Seek::Saved("before".to_owned())).await.unwrap();
    let billing = until(&broker, "billing", |billing| billing.passed > 0).await;
    assert_eq!((billing.expired, billing.passed, billing.lag_messages), (lost, 7, 3));
    assert_eq!(broker.counters().retention_unsettled_messages, lost, "it was counted when it was lost");
    // What goes from now on is lost to it.
    keep(&broker, 1).await;
    let billing = until(&broker, "billing", |billing| billing.expired > lost).await;
    assert_eq!((billing.expired, billing.lag_messages), (lost + 2, 1));
    assert_eq!(broker.counters().retention_unsettled_messages, lost + 2);
}

#[tokio::test]
async fn what_an_operator_purges_has_expired_and_is_no_loss_to_retention() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    publish(&broker, 10).await;
    create(&broker, "billing").await;
    // Some are read ahead, some not even that.
    let member = join(&broker, 1).await;
    until(&broker, "billing", |billing| billing.leased == 1).await;
    create(&broker, "mail").await;
    broker.purge_topic(&topic(), Some(6)).await.unwrap();
    let mail = until(&broker, "mail", |mail| mail.expired > 0).await;
    assert_eq!((mail.passed, mail.expired, mail.lag_messages), (0, 6, 4));
    assert_eq!(broker.counters().retention_unsettled_messages, 0);
    // The next one goes by retention.
    keep(&broker, 3).await;
    let mail = until(&broker, "mail", |mail| mail.expired > 6).await;
    assert_eq!((mail.passed, mail.expired, mail.lag_messages), (0, 7, 3));
    assert!(broker.counters().retention_unsettled_messages > 0);
    drop(member);
}

#[tokio::test]
async fn a_topic_in_memory_that_is_full_counts_what_it_drops_for_a_subscription_without_members() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let bytes = 64 << 10;
    let settings = TopicSettings {
        durability: Durability::Memory,
        retention_bytes: Some(bytes),
        ..TopicSettings::default()
    };
    broker.create_topic(&topic(), settings).await.unwrap();
    create(&broker, "billing").await;
    for _ in 0..10 {
        broker.publish(&topic(), NewMessage::new(vec![7; 20 << 10])).await.unwrap();
    }
    let kept = broker.describe_topic(&topic()).unwrap();
    assert!(kept.first_offset > 0, "it is full");
    let billing = until(&broker, "billing", |billing| billing.expired > 0).await;
    assert_eq!((billing.expired, billing.lag_messages), (kept.first_offset, 10 - kept.first_offset));
}

//! What one member gets at a time.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, Delivered, JoinOptions, Member, NewMessage, Outcome, Start, SubscriptionName,
    SubscriptionRef, SubscriptionSettings, TopicName, TopicSettings, Window,
};

/// What a batch may weigh.
const BATCH_BYTES: usize = 256 << 10;

fn name() -> SubscriptionRef {
    SubscriptionRef {
        topic: TopicName::parse("orders").unwrap(),
        name: SubscriptionName::parse("billing").unwrap(),
    }
}

fn open(folder: &Path) -> Broker {
    Broker::open(BrokerConfig::new(folder)).unwrap()
}

async fn join(broker: &Broker) -> Member {
    let window = Window { messages: 1000, bytes: 1 << 30 };
    let settings = SubscriptionSettings { attempts_max: 0, ..SubscriptionSettings::default() };
    let create = Some((Start::Earliest, settings));
    broker.join(&name(), JoinOptions { member: "worker".to_owned(), window, create }).await.unwrap()
}

fn weight(delivered: &Delivered) -> usize {
    let message = &delivered.message;
    let metadata: usize = message.metadata().map(|(name, value)| name.len() + value.len()).sum();
    metadata + message.payload().len() + message.key().len()
}

/// So many deliveries, each batch of which is checked against the bound.
async fn next(member: &mut Member, count: usize) -> Vec<Delivered> {
    let mut delivered = Vec::new();
    while delivered.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(20), member.next_batch()).await;
        let batch = batch.expect("deliveries come in time").unwrap();
        let bytes: usize = batch.iter().map(weight).sum();
        assert!(bytes <= BATCH_BYTES || batch.len() == 1, "{} messages with {bytes} bytes", batch.len());
        delivered.extend(batch);
    }
    delivered
}

async fn nack(member: &Member, delivered: &[Delivered]) {
    let nack = Outcome::Nack { delay_ms: Some(0), reason: String::new() };
    let all = delivered.iter().map(|delivered| (delivered.token, nack.clone())).collect();
    member.settle(all).unwrap().await;
}

#[tokio::test]
async fn a_batch_is_bounded_by_all_that_its_messages_hold() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    // Little payload, much metadata.
    let metadata: Vec<_> = (0..25).map(|number| (number.to_string(), "v".repeat(4000))).collect();
    for _ in 0..12 {
        let message = NewMessage { metadata: metadata.clone(), ..NewMessage::new("small") };
        broker.publish(&name().topic, message).await.unwrap();
    }
    let mut member = join(&broker).await;
    let delivered = next(&mut member, 12).await;
    nack(&member, &delivered).await;
    let again = next(&mut member, 12).await;
    assert!(again.iter().all(|delivered| delivered.attempt == 2));
    drop(member);
    broker.shutdown().unwrap();
    drop(broker);
    // The same from disk.
    let broker = open(folder.path());
    let mut member = join(&broker).await;
    let delivered = next(&mut member, 12).await;
    nack(&member, &delivered).await;
    next(&mut member, 12).await;
}

#[tokio::test]
async fn the_largest_message_goes_alone_also_when_it_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let settings = TopicSettings { message_bytes_max: 16 << 20, ..TopicSettings::default() };
    broker.create_topic(&name().topic, settings).await.unwrap();
    let large = 15 << 20;
    for bytes in [10, large, 10] {
        broker.publish(&name().topic, NewMessage::new(vec![7; bytes])).await.unwrap();
    }
    let mut member = join(&broker).await;
    let delivered = next(&mut member, 3).await;
    nack(&member, &delivered).await;
    let again = next(&mut member, 3).await;
    assert_eq!(again.iter().filter(|delivered| delivered.message.payload().len() == large).count(), 1);
}

#[tokio::test]
async fn what_is_put_back_comes_with_the_next_batch_or_goes_back_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    let messages = (0..3).map(|number| NewMessage::new(number.to_string())).collect();
    broker.publish_batch(&name().topic, messages).await.unwrap();
    let mut member = join(&broker).await;
    let mut delivered = next(&mut member, 3).await;
    member.put_back(delivered.split_off(1));
    assert_eq!(broker.counters().delivered_messages, 1);
    let mut again = next(&mut member, 2).await;
    assert_eq!(again.iter().map(|delivered| delivered.message.offset).collect::<Vec<_>>(), [1, 2]);
    member.put_back(again.split_off(1));
    member.close();
    let mut other = join(&broker).await;
    let mut all = next(&mut other, 3).await;
    all.sort_unstable_by_key(|delivered| delivered.message.offset);
    assert_eq!(all.iter().map(|delivered| delivered.attempt).collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test]
async fn a_token_leads_to_its_topic_until_the_subscription_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    for topic in ["orders", "other"] {
        let topic = TopicName::parse(topic).unwrap();
        broker.publish(&topic, NewMessage::new("one")).await.unwrap();
        let name =
            SubscriptionRef { topic: topic.clone(), name: SubscriptionName::parse("billing").unwrap() };
        let create = Some((Start::Earliest, SubscriptionSettings::default()));
        let options = JoinOptions { member: String::new(), window: Window::default(), create };
        let mut member = broker.join(&name, options).await.unwrap();
        let number = member.next_batch().await.unwrap()[0].token.subscription();
        assert_eq!(broker.subscription_numbered(number).map(|found| found.topic), Some(topic));
        broker.delete_subscription(&name).await.unwrap();
        assert_eq!(broker.subscription_numbered(number), None);
    }
}

/// Polls a future so often at most, each time it is woken. `None` when it was not ready by then.
async fn polled<T>(mut future: Pin<Box<impl Future<Output = T>>>, polls: usize) -> Option<T> {
    let mut left = polls;
    let poll_next = move |context: &mut Context<'_>| {
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(ready) => Poll::Ready(Some(ready)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    };
    std::future::poll_fn(poll_next).await
}

/// Waits until a subscription is there; how many members it has.
async fn member_count(broker: &Broker) -> u32 {
    let described = async {
        loop {
            if let Ok(description) = broker.describe_subscription(&name()).await {
                return description.member_count;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), described).await.expect("it is created in time")
}

#[tokio::test]
async fn a_join_that_is_given_up_at_any_point_leaves_no_member_behind() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(folder.path());
    broker.publish(&name().topic, NewMessage::new("one")).await.unwrap();
    let mut given_up = 0;
    // Once with a subscription that the join creates, once with one that is there.
    for is_created in [true, false] {
        for polls in 1.. {
            if is_created && broker.describe_subscription(&name()).await.is_ok() {
                broker.delete_subscription(&name()).await.unwrap();
            }
            let joined = polled(Box::pin(join(&broker)), polls).await;
            // What was asked of the broker before it is done, for it does one thing after the other.
            assert_eq!(member_count(&broker).await, u32::from(joined.is_some()), "after {polls} polls");
            if let Some(member) = joined {
                member.close();
                break;
            }
            given_up += 1;
        }
    }
    assert!(given_up > 0, "every join was done at once");
    let mut member = join(&broker).await;
    assert_eq!(next(&mut member, 1).await[0].attempt, 1, "somebody was given the message");
}

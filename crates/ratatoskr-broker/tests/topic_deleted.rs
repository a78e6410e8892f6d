//! A topic that is deleted while something is on its way to it: the answer says that, and not that the broker is stopping.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ratatoskr_broker::{
    Broker, BrokerConfig, Start, SubscriptionError, SubscriptionName, SubscriptionRef, SubscriptionSettings,
    TopicName, TopicSettings,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn named(name: &str) -> SubscriptionRef {
    SubscriptionRef { topic: topic(), name: SubscriptionName::parse(name).unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_created_while_its_topic_is_deleted_is_refused_for_that_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    let mut refused = 0;
    // Deleting and creating are handed over together, so that they meet in one block.
    for _ in 0..60 {
        broker.create_topic(&topic(), TopicSettings::default()).await.unwrap();
        let create = |number: usize| {
            let (broker, name) = (broker.clone(), named(&format!("billing-{number}")));
            let settings = SubscriptionSettings::default();
            tokio::spawn(async move { broker.create_subscription(&name, Start::Earliest, settings).await })
        };
        let before: Vec<_> = (0..8).map(create).collect();
        let name = topic();
        let deleted = broker.delete_topic(&name);
        let created: Vec<_> = before.into_iter().chain((8..16).map(create)).collect();
        deleted.await.unwrap();
        for task in created {
            let created = tokio::time::timeout(PATIENCE, task).await.expect("nobody waits for ever").unwrap();
            match created {
                Ok(_) => {}
                Err(SubscriptionError::TopicNotFound(_) | SubscriptionError::NotFound(_)) => refused += 1,
                Err(other) => panic!("the topic was deleted, and the answer is: {other}"),
            }
        }
    }
    assert!(refused > 0, "deleting and creating never met");
}

//! What an idle subscription takes. Alone in its process: it is the process that is measured.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use ratatoskr_broker::{
    Broker, BrokerConfig, JoinOptions, Start, SubscriptionName, SubscriptionRef, SubscriptionSettings,
    TopicName, TopicSettings, Window,
};

const SUBSCRIPTIONS: usize = 8000;
/// Bytes of memory, allocator and pages half used included.
const BYTES_MAX: usize = 2048;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

async fn use_once(broker: &Broker, number: usize) {
    let name = SubscriptionRef {
        topic: TopicName::parse("orders").unwrap(),
        name: SubscriptionName::parse(&format!("s{number}")).unwrap(),
    };
    let create = Some((Start::Earliest, SubscriptionSettings::default()));
    let options = JoinOptions { member: "worker".to_owned(), window: Window::default(), create };
    broker.join(&name, options).await.unwrap().close();
}

#[tokio::test]
async fn an_idle_subscription_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    broker.create_topic(&TopicName::parse("orders").unwrap(), TopicSettings::default()).await.unwrap();
    for number in 0..100 {
        use_once(&broker, number).await;
    }
    let before = resident_bytes();
    for some in (100..100 + SUBSCRIPTIONS).collect::<Vec<_>>().chunks(100) {
        let used: Vec<_> = some
            .iter()
            .map(|&number| {
                let broker = broker.clone();
                tokio::spawn(async move { use_once(&broker, number).await })
            })
            .collect();
        for used in used {
            used.await.unwrap();
        }
    }
    let bytes = resident_bytes().saturating_sub(before) / SUBSCRIPTIONS;
    println!("{bytes} bytes for each of {SUBSCRIPTIONS} idle subscriptions");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes for each, at most {BYTES_MAX} are wanted");
    broker.shutdown().unwrap();
}

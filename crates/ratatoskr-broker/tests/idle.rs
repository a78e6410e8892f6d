//! What an idle subscription takes. Alone in its process: it is the process that is measured.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use ratatoskr_broker::{
    Broker, BrokerConfig, JoinOptions, NewMessage, Outcome, Start, SubscriptionName, SubscriptionRef,
    SubscriptionSettings, TopicName, Window,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Subscriptions that are used at about the same time.
const WAVE: usize = 2000;
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
    let mut member = broker.join(&name, options).await.unwrap();
    let delivered = member.next_batch().await.unwrap();
    let acks = delivered.iter().map(|delivered| (delivered.token, Outcome::Ack)).collect();
    member.settle(acks).unwrap().await;
    member.close();
}

/// Has so many more subscriptions used once; answers by how much memory has grown for each.
async fn use_some(broker: &Broker, numbers: std::ops::Range<usize>) -> usize {
    let before = resident_bytes();
    let count = numbers.len();
    for some in numbers.collect::<Vec<_>>().chunks(100) {
        let using = some.iter().map(|&number| {
            let broker = broker.clone();
            tokio::spawn(async move { use_once(&broker, number).await })
        });
        for used in using.collect::<Vec<_>>() {
            used.await.unwrap();
        }
    }
    resident_bytes().saturating_sub(before) / count
}

#[tokio::test]
async fn an_idle_subscription_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    broker.publish(&TopicName::parse("orders").unwrap(), NewMessage::new("payload")).await.unwrap();
    // What those of one wave needed for their work is there for the next, once they have given it back.
    let (started, mut waves) = (Instant::now(), Vec::new());
    while waves.iter().all(|bytes| *bytes > BYTES_MAX) {
        assert!(started.elapsed() < PATIENCE, "{waves:?} bytes for each, at most {BYTES_MAX} are wanted");
        let first = waves.len() * WAVE;
        waves.push(use_some(&broker, first..first + WAVE).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("{waves:?} bytes for each idle subscription, wave by wave");
    broker.shutdown().unwrap();
}

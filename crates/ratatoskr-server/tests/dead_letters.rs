//! Dead letters over the wire.
#![allow(clippy::unwrap_used)]

mod support;

use ratatoskr_broker::{
    Fate, JoinOptions, NewMessage, Outcome, Start, SubscriptionName, SubscriptionRef, SubscriptionSettings,
    TopicName, Window,
};
use ratatoskr_proto as wire;
use support::Fixture;

/// The largest things around a letter that there can be: names and reason at their limits.
#[tokio::test]
async fn a_client_with_default_limits_takes_every_page_of_dead_letters() {
    let fixture = Fixture::start();
    let topic = TopicName::parse(&"t".repeat(255)).unwrap();
    let name = SubscriptionRef { topic, name: SubscriptionName::parse("s").unwrap() };
    let settings =
        SubscriptionSettings { dead_letter_topic: Some("d".repeat(255)), ..SubscriptionSettings::default() };
    let messages = (0..1000).map(|_| NewMessage::new(vec![7; 600])).collect();
    fixture.broker.publish_batch(&name.topic, messages).await.unwrap();
    let window = Window { messages: 1000, bytes: 64 << 20 };
    let options =
        JoinOptions { member: "worker".to_owned(), window, create: Some((Start::Earliest, settings)) };
    let mut member = fixture.broker.join(&name, options).await.unwrap();
    let mut rejected = 0;
    while rejected < 1000 {
        let delivered = member.next_batch().await.unwrap();
        rejected += delivered.len();
        let reject = Outcome::Reject { reason: "r".repeat(1024) };
        let all = delivered.iter().map(|delivered| (delivered.token, reject.clone())).collect();
        let fates = member.settle(all).unwrap().await;
        assert!(fates.iter().all(|fate| *fate == Fate::Settled), "{fates:?}");
    }
    let mut client = fixture.client().await;
    let (mut from_offset, mut pages) = (0, Vec::new());
    loop {
        let wire_name =
            wire::SubscriptionName { topic: name.topic.to_string(), subscription: name.name.to_string() };
        let request = wire::ListDeadLettersRequest {
            name: Some(wire_name),
            messages_max: 1000,
            from_offset,
            ..wire::ListDeadLettersRequest::default()
        };
        let letters = client.list_dead_letters(request).await.unwrap().into_inner().letters;
        let Some(last) = letters.last().and_then(|letter| letter.message.as_ref()) else { break };
        from_offset = last.offset + 1;
        pages.push(letters.len());
    }
    assert_eq!(pages.iter().sum::<usize>(), 1000);
    assert!(pages.len() > 1, "{pages:?}");
}

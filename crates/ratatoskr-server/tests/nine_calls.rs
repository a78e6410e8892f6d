//! The original nine calls, as clients in the field know them.
#![allow(clippy::unwrap_used)] // a test may end here

mod support;

use ratatoskr_proto::{
    CreateTopicRequest, DeleteTopicRequest, GetStatsRequest, ListTopicsRequest, PublishBatchRequest,
    PublishRequest, SubscribeRequest, TopicExistsRequest, UnsubscribeRequest,
};
use support::{Fixture, create, message, next, publish, subscribe};
use tonic::Code;

#[tokio::test]
async fn a_topic_is_created_found_listed_and_deleted() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    for name in ["orders", "a.b_c-1"] {
        create(&mut client, name).await;
    }

    let again = CreateTopicRequest { name: "orders".into(), settings: None };
    let again = client.create_topic(again).await.unwrap().into_inner();
    assert_eq!(
        (again.topic.as_str(), again.created, again.error.as_str()),
        ("orders", false, "already_exists")
    );

    let topics = client.list_topics(ListTopicsRequest {}).await.unwrap().into_inner().topics;
    assert_eq!(topics, ["a.b_c-1", "orders"]);
    for (name, expected) in [("orders", true), ("nope", false), ("no good", false), ("", false)] {
        let exists =
            client.topic_exists(TopicExistsRequest { name: name.into() }).await.unwrap().into_inner();
        assert_eq!(exists.exists, expected, "{name}");
    }

    let deleted =
        client.delete_topic(DeleteTopicRequest { name: "orders".into() }).await.unwrap().into_inner();
    assert_eq!((deleted.success, deleted.error.as_str()), (true, ""));
    let deleted =
        client.delete_topic(DeleteTopicRequest { name: "orders".into() }).await.unwrap().into_inner();
    assert_eq!((deleted.success, deleted.error.as_str()), (false, "topic_not_found"));
}

#[tokio::test]
async fn a_publish_creates_the_topic_and_returns_id_time_and_offset() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let first = publish(&mut client, "orders", "one").await;
    let second = publish(&mut client, "orders", "two").await;
    assert_eq!((first.offset, second.offset), (0, 1));
    assert_eq!(first.message_id.len(), 36);
    assert_ne!(first.message_id, second.message_id);
    assert!(first.timestamp > 1_600_000_000_000 && second.timestamp >= first.timestamp);
    assert_eq!(first.receipt(), ratatoskr_proto::Durability::Fsync);

    let stats = client.get_stats(GetStatsRequest { topic: "orders".into() }).await.unwrap().into_inner();
    assert_eq!((stats.message_count, stats.subscriber_count, stats.error.as_str()), (2, 0, ""));
    let stats = client.get_stats(GetStatsRequest { topic: "nope".into() }).await.unwrap().into_inner();
    assert_eq!((stats.topic.as_str(), stats.error.as_str()), ("nope", "topic_not_found"));
}

#[tokio::test]
async fn a_batch_has_one_result_per_message_in_order_and_bad_ones_do_not_stop_the_others() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let request = PublishBatchRequest {
        topic: "orders".into(),
        messages: vec![
            message("", "0"),
            message("bills", "1"),
            message("no good", "2"),
            message("", "3"),
            PublishRequest { key: "k".repeat(1025), ..message("", "4") },
            message("", vec![0; (1 << 20) + 1]),
            message("bills", "6"),
            message("", "7"),
        ],
    };
    let response = client.publish_batch(request).await.unwrap().into_inner();
    let codes: Vec<&str> =
        response.results.iter().map(|result| result.error.split(':').next().unwrap_or_default()).collect();
    assert_eq!(codes, ["", "", "invalid_topic_format", "", "key_too_long", "payload_too_large", "", ""]);
    assert_eq!((response.success_count, response.error_count), (5, 3));
    let offsets: Vec<i64> =
        [0, 3, 7, 1, 6].iter().map(|&place: &usize| response.results[place].offset).collect();
    assert_eq!(offsets, [0, 1, 2, 0, 1]);

    let empty = client.publish_batch(PublishBatchRequest::default()).await.unwrap().into_inner();
    assert_eq!((empty.results.len(), empty.success_count, empty.error_count), (0, 0, 0));
}

#[tokio::test]
async fn a_long_batch_with_a_bad_message_keeps_its_order() {
    const MESSAGES: usize = 2000;
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let mut messages = vec![message("", "x"); MESSAGES];
    messages[MESSAGES / 2].key = "k".repeat(1025);
    let request = PublishBatchRequest { topic: "orders".into(), messages };
    let response = client.publish_batch(request).await.unwrap().into_inner();
    assert_eq!(response.error_count, 1);
    let offsets: Vec<i64> =
        response.results.iter().filter(|result| result.success).map(|result| result.offset).collect();
    assert_eq!(offsets, (0..MESSAGES as i64 - 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscriber_gets_what_is_published_after_it_joined() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    publish(&mut client, "orders", "before").await;
    let request =
        SubscribeRequest { topic: "orders".into(), subscriber_id: "me".into(), ..Default::default() };
    let mut stream = subscribe(&mut client, request).await;
    let stats = client.get_stats(GetStatsRequest { topic: "orders".into() }).await.unwrap().into_inner();
    assert_eq!(stats.subscriber_count, 1);

    let published = PublishRequest {
        metadata: [("kind".to_owned(), "new".to_owned())].into(),
        key: "customer-7".to_owned(),
        ..message("orders", "after")
    };
    let response = client.publish(published.clone()).await.unwrap().into_inner();
    let received = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(received.id, response.message_id);
    assert_eq!(received.topic, "orders");
    assert_eq!(received.payload, "after");
    assert_eq!(received.metadata, published.metadata);
    assert_eq!(received.timestamp, response.timestamp);
    assert_eq!(received.offset, 1);
    assert_eq!(received.key, "customer-7");
    assert_eq!(received.receipt, response.receipt);
    assert!(!received.subscription_ref.is_empty());
}

#[tokio::test]
async fn a_missing_topic_cannot_be_subscribed_to() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    let request = SubscribeRequest { topic: "nope".into(), ..Default::default() };
    assert_eq!(client.subscribe(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn unsubscribe_takes_the_reference_from_the_headers_or_the_first_message() {
    let fixture = Fixture::start();
    let mut client = fixture.client().await;
    create(&mut client, "orders").await;
    let request = SubscribeRequest { topic: "orders".into(), ..Default::default() };
    let response = client.subscribe(request).await.unwrap();
    let in_headers =
        response.metadata().get("ratatoskr-subscription-ref").unwrap().to_str().unwrap().to_owned();
    let mut stream = response.into_inner();
    publish(&mut client, "orders", "one").await;
    publish(&mut client, "orders", "two").await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap().subscription_ref, in_headers);
    assert_eq!(next(&mut stream).await.unwrap().unwrap().subscription_ref, "");

    for (topic, reference, error) in [
        ("orders", "nope", "subscription_not_found"),
        ("nope", in_headers.as_str(), "topic_not_found"),
        ("orders", in_headers.as_str(), ""),
        ("orders", in_headers.as_str(), "subscription_not_found"),
    ] {
        let request = UnsubscribeRequest { topic: topic.into(), subscription_ref: reference.into() };
        let response = client.unsubscribe(request).await.unwrap().into_inner();
        assert_eq!(
            (response.success, response.error.as_str()),
            (error.is_empty(), error),
            "{topic} {reference}"
        );
    }
    assert!(next(&mut stream).await.unwrap().is_none(), "the stream ends well");
}

//! The client against a real server in this process, with the front doors closed and opened again.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod house;

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use ratatoskr_client::{
    Backoff, Code, Durability, NewMessage, PublisherOptions, Start, SubscribeOptions, TopicSettings,
};

use house::{House, numbered};

fn from_earliest() -> SubscribeOptions {
    SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() }
}

#[tokio::test]
async fn topics_are_made_described_changed_and_deleted() {
    let house = House::open();
    let client = house.client().await;
    let settings = TopicSettings { retention_bytes: Some(1 << 30), ..TopicSettings::default() };
    client.create_topic("orders", settings).await.unwrap();
    assert!(client.topic_exists("orders").await.unwrap());
    assert_eq!(client.list_topics().await.unwrap(), ["orders"]);
    let again = client.create_topic("orders", TopicSettings::default()).await.unwrap_err();
    assert_eq!((again.code(), again.reason()), (Code::AlreadyExists, "ALREADY_EXISTS"));

    let change = TopicSettings { retention_bytes: Some(0), ..TopicSettings::default() };
    let described = client.update_topic("orders", change).await.unwrap();
    assert_eq!(described.settings.unwrap().retention_bytes, Some(0));
    client.publish_batch("orders", numbered(0..5)).await.unwrap();
    assert_eq!(client.purge_topic("orders", Some(2)).await.unwrap(), 2);
    assert_eq!(client.describe_topic("orders").await.unwrap().first_offset, 2);
    assert_eq!(client.stats("orders").await.unwrap().message_count, 3);
    assert_eq!(client.describe_broker().await.unwrap().topics, 1);

    client.delete_topic("orders").await.unwrap();
    for error in [
        client.delete_topic("orders").await.unwrap_err(),
        client.stats("orders").await.unwrap_err(),
        client.describe_topic("orders").await.unwrap_err(),
        client.subscribe("orders", SubscribeOptions::default()).await.unwrap_err(),
    ] {
        assert_eq!((error.code(), error.reason()), (Code::NotFound, "TOPIC_NOT_FOUND"), "{error}");
    }
}

#[tokio::test]
async fn a_message_comes_out_as_it_went_in() {
    let house = House::open();
    let client = house.client().await;
    let message = NewMessage::new(vec![0xff, 0x00]).with_key("k").with_metadata("color", "red");
    let receipt = client.publish("orders", message).await.unwrap();
    assert_eq!((receipt.offset, receipt.durability), (0, Durability::Fsync));
    let message = client.subscribe("orders", from_earliest()).await.unwrap().next().await.unwrap();
    assert_eq!(message.payload.as_ref(), [0xff, 0x00]);
    assert_eq!((message.id, message.key.as_str()), (receipt.id, "k"));
    assert_eq!(message.metadata["color"], "red");
    assert_eq!(message.timestamp.unsigned_abs(), receipt.timestamp_ms);
}

#[tokio::test]
async fn one_refused_message_of_a_batch_leaves_the_others_alone() {
    let house = House::open();
    let client = house.client().await;
    let small = TopicSettings { message_bytes_max: Some(3), ..TopicSettings::default() };
    client.create_topic("small", small).await.unwrap();
    let messages = vec![NewMessage::new("one"), NewMessage::new("three"), NewMessage::new("two")];
    let results = client.publish_batch("small", messages.clone()).await.unwrap();
    assert_eq!(results[1].as_ref().unwrap_err().reason(), "PAYLOAD_TOO_LARGE");
    assert_eq!(results[2].as_ref().unwrap().offset, 1);

    let publisher = client.publisher("small", PublisherOptions::default());
    let results = publisher.send_batch(messages).await.unwrap().receipts().await.unwrap();
    let offsets: Vec<_> =
        results.into_iter().map(|result| result.ok().map(|receipt| receipt.offset)).collect();
    assert_eq!(offsets, [Some(2), None, Some(3)]);
}

#[tokio::test]
async fn a_publisher_keeps_its_order_and_gives_every_receipt() {
    let house = House::open();
    let client = house.client().await;
    // Far less than is sent: `send` has to wait for receipts.
    let options = PublisherOptions { in_flight_bytes_max: 10_000, ..PublisherOptions::default() };
    let publisher = client.publisher("readings", options);
    let mut pending = Vec::new();
    for message in numbered(0..2000) {
        pending.push(publisher.send(message).await.unwrap());
    }
    for (offset, receipt) in pending.into_iter().enumerate() {
        assert_eq!(receipt.receipt().await.unwrap().offset, offset as u64);
    }
    let readings = client.subscribe("readings", from_earliest()).await.unwrap();
    let payloads: Vec<_> =
        readings.into_stream().take(2000).map(|message| message.unwrap().payload).collect().await;
    assert!(payloads.iter().enumerate().all(|(number, payload)| payload == number.to_string().as_bytes()));
}

#[tokio::test]
async fn batches_beyond_the_limits_are_refused_before_they_are_sent() {
    let house = House::open();
    let publisher = house.client().await.publisher("t", PublisherOptions::default());
    for (messages, reason) in [
        (Vec::new(), "EMPTY_BATCH"),
        (numbered(0..10_001), "BATCH_TOO_LONG"),
        (vec![NewMessage::new(vec![0; 9 << 20]); 2], "BATCH_TOO_LARGE"),
    ] {
        assert_eq!(publisher.send_batch(messages).await.unwrap_err().reason(), reason);
    }
    assert!(publisher.send(NewMessage::new("fine")).await.unwrap().receipt().await.is_ok());
}

#[tokio::test]
async fn a_publisher_sends_again_what_has_no_receipt_when_the_doors_open_again() {
    let mut house = House::open();
    let publisher = house.client().await.publisher("orders", PublisherOptions::default());
    publisher.send(NewMessage::new("0")).await.unwrap().receipt().await.unwrap();
    house.close_doors().await;
    let pending = publisher.send_batch(numbered(1..4)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    house.open_doors();
    let results = pending.receipts().await.unwrap();
    let offsets: Vec<_> = results.into_iter().map(|result| result.unwrap().offset).collect();
    assert_eq!(offsets, [1, 2, 3]);
}

#[tokio::test]
async fn a_publisher_that_may_not_try_again_fails_and_stays_failed() {
    let mut house = House::open();
    let options = PublisherOptions { backoff: Backoff::never(), ..PublisherOptions::default() };
    let publisher = house.client().await.publisher("orders", options);
    publisher.send(NewMessage::new("0")).await.unwrap().receipt().await.unwrap();
    house.close_doors().await;
    // Whether sending fails or the receipt depends on who is first to see the end of the stream.
    let error = match publisher.send(NewMessage::new("1")).await {
        Ok(pending) => pending.receipt().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    house.open_doors();
    assert!(publisher.send(NewMessage::new("2")).await.is_err());
    assert_eq!(house.client().await.describe_topic("orders").await.unwrap().next_offset, 1);
}

#[tokio::test]
async fn a_subscription_goes_on_at_its_next_offset_when_the_doors_open_again() {
    let mut house = House::open();
    let client = house.client().await;
    client.publish_batch("news", numbered(0..3)).await.unwrap();
    let mut earliest = client.subscribe("news", from_earliest()).await.unwrap();
    assert_eq!(earliest.next().await.unwrap().offset, 0);
    // Nothing has come to this one yet; what is published while the doors are closed must.
    let mut latest = client.subscribe("news", SubscribeOptions::default()).await.unwrap();
    house.close_doors().await;
    let topic = ratatoskr_broker::TopicName::parse("news").unwrap();
    house.broker.publish(&topic, ratatoskr_broker::NewMessage::new("3")).await.unwrap();
    house.open_doors();
    assert_eq!(latest.next().await.unwrap().payload, "3");
    for offset in 1..4 {
        assert_eq!(earliest.next().await.unwrap().offset, offset);
    }
}

#[tokio::test]
async fn a_subscription_gives_up_after_as_many_failures_as_it_may_have() {
    let mut house = House::open();
    let client = house.client().await;
    client.create_topic("news", TopicSettings::default()).await.unwrap();
    let backoff = Backoff { initial: Duration::from_millis(1), attempts_max: 3, ..Backoff::default() };
    let mut news =
        client.subscribe("news", SubscribeOptions { backoff, ..SubscribeOptions::default() }).await.unwrap();
    house.close_doors().await;
    assert_eq!(news.next().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn credit_holds_messages_back_also_across_a_broken_connection() {
    let mut house = House::open();
    let client = house.client().await;
    client.publish_batch("news", numbered(0..10)).await.unwrap();
    let options = SubscribeOptions { credit: Some(2), ..from_earliest() };
    let mut news = client.subscribe("news", options).await.unwrap();
    for offset in 0..2 {
        assert_eq!(news.next().await.unwrap().offset, offset);
    }
    assert!(tokio::time::timeout(Duration::from_millis(100), news.next()).await.is_err());
    news.add_credit(1).await.unwrap();
    assert_eq!(news.next().await.unwrap().offset, 2);

    house.close_doors().await;
    house.open_doors();
    // No credit is left: nothing comes, though the broker is back.
    assert!(tokio::time::timeout(Duration::from_millis(200), news.next()).await.is_err());
    news.add_credit(1).await.unwrap();
    assert_eq!(news.next().await.unwrap().offset, 3);
    assert!(news.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_filter_lets_through_what_fits_and_unsubscribe_ends_the_stream() {
    let house = House::open();
    let client = house.client().await;
    for color in ["red", "blue", "red"] {
        client.publish("cars", NewMessage::new(color).with_metadata("color", color)).await.unwrap();
    }
    let filter = [("color".to_owned(), "red".to_owned())].into();
    let mut cars = client.subscribe("cars", SubscribeOptions { filter, ..from_earliest() }).await.unwrap();
    assert_eq!(cars.next().await.unwrap().offset, 0);
    assert_eq!(cars.next().await.unwrap().offset, 2);

    client.unsubscribe("cars", cars.reference()).await.unwrap();
    assert_eq!(cars.next().await.unwrap_err().reason(), "UNSUBSCRIBED");
    let gone = client.unsubscribe("cars", cars.reference()).await.unwrap_err();
    assert_eq!(gone.reason(), "SUBSCRIPTION_NOT_FOUND");
}

#[tokio::test]
async fn places_that_are_not_there_and_deleted_topics_end_a_subscription() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("news", numbered(0..3)).await.unwrap();
    let past = SubscribeOptions { start: Start::Offset(9), ..SubscribeOptions::default() };
    assert_eq!(client.subscribe("news", past).await.unwrap_err().code(), Code::OutOfRange);
    let mut news = client.subscribe("news", SubscribeOptions::default()).await.unwrap();
    client.delete_topic("news").await.unwrap();
    assert_eq!(news.next().await.unwrap_err().code(), Code::NotFound);
}

//! Looking after durable subscriptions, atomic steps, dead letters and traces, against a real server in this process.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[allow(dead_code, reason = "each test program uses its part")]
mod house;

use std::time::Duration;

use house::{House, numbered};
use ratatoskr_client::{
    Client, Code, ConsumeOptions, DeadLetterChoice, DeadLetterPage, NewMessage, Outcome, PullOptions, Seek,
    SettleError, Settlement, Start, SubscribeOptions, SubscriptionSettings,
};

async fn pull(client: &Client, messages_max: u32) -> Vec<ratatoskr_client::Message> {
    let wait = Duration::from_secs(30);
    let options = PullOptions { messages_max, wait, ..PullOptions::default() };
    client.pull("orders", "billing", options).await.unwrap()
}

/// More than twice what the broker looks through for one answer.
async fn publish_36_mib(client: &Client) {
    for number in 0..36 {
        let metadata = [("number".to_owned(), number.to_string())].into();
        let message = NewMessage { metadata, ..NewMessage::new(vec![7; 1 << 20]) };
        client.publish("orders", message).await.unwrap();
    }
}

#[tokio::test]
async fn a_subscription_is_made_described_changed_and_deleted() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..5)).await.unwrap();
    let settings = SubscriptionSettings { attempts_max: Some(7), ..SubscriptionSettings::default() };
    let made =
        client.create_subscription("orders", "billing", Start::Offset(2), settings.clone()).await.unwrap();
    assert_eq!((made.lag_messages, made.oldest_unsettled_offset), (3, 2));
    let again = client.create_subscription("orders", "billing", Start::Earliest, settings).await.unwrap_err();
    assert_eq!((again.code(), again.reason()), (Code::AlreadyExists, "SUBSCRIPTION_EXISTS"));

    let listed = client.list_subscriptions(Some("orders")).await.unwrap();
    assert_eq!((listed.len(), listed[0].subscription.as_str()), (1, "billing"));
    assert_eq!(client.list_subscriptions(None).await.unwrap(), listed);
    let change = SubscriptionSettings { paused: Some(true), ..SubscriptionSettings::default() };
    let changed = client.update_subscription("orders", "billing", change).await.unwrap();
    assert!(changed.why.starts_with("paused:"), "{}", changed.why);
    assert_eq!(changed.settings.unwrap().attempts_max, Some(7));

    client.delete_subscription("orders", "billing").await.unwrap();
    let gone = client.describe_subscription("orders", "billing").await.unwrap_err();
    assert_eq!((gone.code(), gone.reason()), (Code::NotFound, "SUBSCRIPTION_NOT_FOUND"));
}

#[tokio::test]
async fn a_subscription_is_moved_saved_and_looked_into() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..10)).await.unwrap();
    let settings = SubscriptionSettings::default();
    client.create_subscription("orders", "billing", Start::Earliest, settings).await.unwrap();
    let lag =
        async |seek| client.seek_subscription("orders", "billing", seek).await.map(|at| at.lag_messages);
    assert_eq!(lag(Seek::Skip(3)).await, Ok(7));
    client.save_subscription("orders", "billing", "before").await.unwrap();
    assert_eq!(lag(Seek::To(Start::Latest)).await, Ok(0));
    assert_eq!(lag(Seek::To(Start::Offset(8))).await, Ok(2));
    assert_eq!(lag(Seek::Saved("before".to_owned())).await, Ok(7));
    let peeked = client.peek_subscription("orders", "billing", 2).await.unwrap();
    assert_eq!(peeked.iter().map(|message| message.offset).collect::<Vec<_>>(), [3, 4]);
    client.forget_saved("orders", "billing", "before").await.unwrap();
    assert_eq!(lag(Seek::Saved("before".to_owned())).await.unwrap_err().reason(), "NOT_SAVED");
}

#[tokio::test]
async fn a_peek_finds_what_is_far_behind_what_it_does_not_want() {
    let house = House::open();
    let client = house.client().await;
    publish_36_mib(&client).await;
    let filter = Some(r#"metadata.number == "1" || metadata.number == "35""#.to_owned());
    let settings = SubscriptionSettings { filter, ..SubscriptionSettings::default() };
    client.create_subscription("orders", "billing", Start::Earliest, settings).await.unwrap();
    let peeked = client.peek_subscription("orders", "billing", 2).await.unwrap();
    assert_eq!(peeked.iter().map(|message| message.offset).collect::<Vec<_>>(), [1, 35]);
    let peeked = client.peek_subscription("orders", "billing", 1000).await.unwrap();
    assert_eq!(peeked.len(), 2, "and comes to an end");
}

#[tokio::test]
async fn dead_letters_far_behind_others_are_listed_and_all_are_counted() {
    let house = House::open();
    let client = house.client().await;
    publish_36_mib(&client).await;
    let mut dead = 0;
    while dead < 36 {
        let pulled = pull(&client, 3).await;
        let reject = |message: &ratatoskr_client::Message| Settlement {
            token: message.token.clone(),
            outcome: Outcome::Reject { reason: "never".to_owned() },
        };
        client.settle(pulled.iter().map(reject).collect()).await.unwrap();
        dead += pulled.len();
    }
    let filter = r#"metadata.number == "35""#;
    let page = DeadLetterPage { filter: filter.to_owned(), ..DeadLetterPage::default() };
    let letters = client.list_dead_letters("orders", "billing", page).await.unwrap();
    assert_eq!(letters.len(), 1);
    let from_offset = letters[0].message.offset.unsigned_abs() + 1;
    let page = DeadLetterPage { filter: filter.to_owned(), from_offset, ..DeadLetterPage::default() };
    assert_eq!(client.list_dead_letters("orders", "billing", page).await.unwrap(), []);
    let groups = client.count_dead_letters("orders", "billing", "").await.unwrap();
    assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [36]);
}

#[tokio::test]
async fn pulled_messages_are_settled_each_for_itself() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..3)).await.unwrap();
    let pulled = pull(&client, 3).await;
    assert_eq!(pulled.len(), 3);
    let settlement = |index: usize, outcome| Settlement { token: pulled[index].token.clone(), outcome };
    let delay = Some(Duration::from_secs(86_400));
    let settlements = vec![
        settlement(0, Outcome::Ack),
        settlement(1, Outcome::Nack { delay, reason: String::new() }),
        settlement(2, Outcome::Release),
        settlement(0, Outcome::Ack),
    ];
    let fates = client.settle(settlements).await.unwrap();
    assert_eq!((&fates[0], &fates[2]), (&Ok(()), &Ok(())));
    assert!(matches!(fates[1], Err(SettleError::Invalid { .. })));
    // The first token once more.
    assert!(matches!(fates[3], Err(SettleError::Invalid { .. })));
    let fates = client.settle(vec![settlement(0, Outcome::Ack)]).await.unwrap();
    assert_eq!(fates, [Err(SettleError::Stale)]);
    let empty =
        client.pull("orders", "other", PullOptions { messages_max: 9, ..PullOptions::default() }).await;
    assert_eq!(empty.unwrap().len(), 3);
}

#[tokio::test]
async fn acks_and_messages_happen_together_or_not_at_all() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..2)).await.unwrap();
    let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    let (first, second) = (consumer.next().await.unwrap(), consumer.next().await.unwrap());
    let message = |text: &'static str| ("invoices", NewMessage::new(text));
    let receipts =
        client.settle_and_publish(&[first.token().clone()], vec![message("a"), message("b")]).await.unwrap();
    assert_eq!(receipts.iter().map(|receipt| receipt.offset).collect::<Vec<_>>(), [0, 1]);

    let both = [first.token().clone(), second.token().clone()];
    let stale = client.settle_and_publish(&both, vec![message("c")]).await.unwrap_err();
    assert_eq!((stale.code(), stale.reason()), (Code::FailedPrecondition, "STALE"));
    assert_eq!(client.describe_topic("invoices").await.unwrap().next_offset, 2);
    let alone = client.settle_and_publish(&both, Vec::new()).await.unwrap_err();
    assert_eq!(alone.reason(), "NO_MESSAGES");
    second.ack().await.unwrap();
}

#[tokio::test]
async fn dead_letters_are_listed_counted_redriven_and_dropped() {
    let house = House::open();
    let client = house.client().await;
    client.publish_batch("orders", numbered(0..4)).await.unwrap();
    let mut consumer = client.consume("orders", "billing", ConsumeOptions::default()).await.unwrap();
    for _ in 0..4 {
        let delivery = consumer.next().await.unwrap();
        let reason = if delivery.offset() == 0 { "odd" } else { "usual" };
        delivery.reject(reason).await.unwrap();
    }
    let groups = client.count_dead_letters("orders", "billing", "").await.unwrap();
    let groups: Vec<_> = groups.iter().map(|group| (group.reason.as_str(), group.count)).collect();
    assert_eq!(groups, [("usual", 3), ("odd", 1)]);
    let page = DeadLetterPage { messages_max: 2, ..DeadLetterPage::default() };
    let letters = client.list_dead_letters("orders", "billing", page).await.unwrap();
    assert_eq!((letters.len(), letters[0].reason.as_str(), letters[0].attempts), (2, "odd", 1));
    assert_eq!((letters[1].origin_topic.as_str(), letters[1].origin_offset), ("orders", 1));
    assert!(letters[1].first_ms > 0 && letters[1].last_ms >= letters[1].first_ms);

    let usual = DeadLetterChoice {
        filter: "metadata[\"ratatoskr-dead-reason\"] == \"usual\"".to_owned(),
        dry_run: true,
        ..DeadLetterChoice::default()
    };
    assert_eq!(client.drop_dead_letters("orders", "billing", usual).await, Ok(3));
    let one = DeadLetterChoice { ids: vec![letters[1].message.id.clone()], ..DeadLetterChoice::default() };
    assert_eq!(client.redrive_dead_letters("orders", "billing", one).await, Ok(1));
    let redriven = consumer.next().await.unwrap();
    assert_eq!((redriven.payload().as_ref(), redriven.attempt()), (&b"1"[..], 1));
    redriven.ack().await.unwrap();
    let rest = client.drop_dead_letters("orders", "billing", DeadLetterChoice::default()).await;
    assert_eq!(rest, Ok(3));
    assert!(client.count_dead_letters("orders", "billing", "").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_trace_tells_what_happened_to_a_message() {
    let house = House::open();
    let client = house.client().await;
    let receipt = client.publish("orders", NewMessage::new("x")).await.unwrap();
    let pulled = pull(&client, 1).await;
    let ack = Settlement { token: pulled[0].token.clone(), outcome: Outcome::Ack };
    client.settle(vec![ack]).await.unwrap();
    let trace = client.trace_message(&receipt.id).await.unwrap();
    assert_eq!((trace.topic.as_str(), trace.offset), ("orders", 0));
    assert!(trace.steps.iter().any(|step| step.subscription == "billing"), "{trace:?}");
    let missing = client.trace_message("018bcfe5-687b-7000-8000-000000000000").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn a_message_past_its_time_to_live_is_not_delivered_and_an_expression_filters() {
    let house = House::open();
    let client = house.client().await;
    let brief = NewMessage::new("brief").with_ttl(Duration::from_micros(1));
    client.publish("orders", brief).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.publish("orders", NewMessage::new("small")).await.unwrap();
    client.publish("orders", NewMessage::new("much larger")).await.unwrap();
    let pulled = pull(&client, 1).await;
    assert_eq!(pulled[0].payload, "small");
    let options = SubscribeOptions {
        start: Start::Earliest,
        filter_expression: "size > 8".to_owned(),
        ..SubscribeOptions::default()
    };
    let mut subscription = client.subscribe("orders", options).await.unwrap();
    assert_eq!(subscription.next().await.unwrap().payload, "much larger");
}

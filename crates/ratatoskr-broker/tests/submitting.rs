//! Submitting drafts by ticket: the way of whoever publishes for many on one thread.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ratatoskr_broker::limits::BATCH_MESSAGES_MAX;
use ratatoskr_broker::{
    Broker, BrokerConfig, Delivery, Draft, MEMORY_BYTES_DEFAULT, MessageView, NewMessage, Postbox, Posted,
    PublishError, Refused, Shares, Start, SubscribeOptions, Ticket, TopicName, Unavailable,
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn draft(broker: &Broker, topic: &str, payloads: &[&str]) -> Draft {
    let mut draft = broker.draft(topic, 0).unwrap();
    for payload in payloads {
        draft.push(&NewMessage::new((*payload).to_owned()).view()).unwrap();
    }
    draft
}

/// Takes post until so many outcomes are there.
async fn outcomes(postbox: &Arc<Postbox>, count: usize) -> HashMap<u64, Posted> {
    let (mut found, mut posted) = (HashMap::new(), Vec::new());
    while found.len() < count {
        timeout(PATIENCE, postbox.take(&mut posted)).await.unwrap();
        for outcome in posted.drain(..) {
            assert!(found.insert(outcome.ticket.number(), outcome).is_none(), "a ticket came twice");
        }
    }
    found
}

#[tokio::test]
async fn each_ticket_comes_back_once_with_the_places_of_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    let postbox = broker.open_postbox();
    for ticket in 0..500 {
        let topic = if ticket % 2 == 0 { "even" } else { "odd" };
        let (first, second) = (format!("{ticket}-0"), format!("{ticket}-1"));
        broker.submit(draft(&broker, topic, &[&first, &second]), &postbox, Ticket::new(ticket)).unwrap();
    }
    let found = outcomes(&postbox, 500).await;
    for topic in ["even", "odd"] {
        let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
        let mut reading = broker.subscribe(&TopicName::parse(topic).unwrap(), options).unwrap();
        for offset in 0..500 {
            let message = timeout(PATIENCE, reading.next()).await.unwrap().unwrap();
            let payload = String::from_utf8(message.payload().to_vec()).unwrap();
            let (ticket, index) = payload.split_once('-').unwrap();
            let published = found[&ticket.parse().unwrap()].outcome.as_ref().unwrap();
            let receipt = broker.receipt_of(published, index.parse().unwrap());
            assert_eq!((receipt.offset, receipt.id), (offset, message.id));
        }
    }
    assert_eq!(broker.counters().published_messages, 1000);
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn more_than_the_inbox_holds_waits_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    let postbox = broker.open_postbox();
    let payload = "x".repeat(1 << 20);
    let (count, mut waited) = ((2 * Shares::of(MEMORY_BYTES_DEFAULT).inbox as u64) >> 20, 0);
    for ticket in 0..count {
        let submitted = broker.submit(draft(&broker, "orders", &[&payload]), &postbox, Ticket::new(ticket));
        if let Err(refused) = submitted {
            let (draft, ticket) = *refused;
            waited += 1;
            broker.submit_when_room(draft, &postbox, ticket).await;
        }
    }
    let found = outcomes(&postbox, count as usize).await;
    assert!(found.values().all(|posted| posted.outcome.is_ok()));
    assert!(waited > 0, "the inbox was never full");
    broker.shutdown().unwrap();
}

#[tokio::test]
async fn what_is_submitted_to_a_broker_that_stops_is_answered_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    let postbox = broker.open_postbox();
    let late = draft(&broker, "orders", &["late"]);
    broker.clone().shutdown().unwrap();
    broker.submit(late, &postbox, Ticket::new(7)).unwrap();
    let found = outcomes(&postbox, 1).await;
    let refused = found[&7].outcome.as_ref().unwrap_err();
    assert_eq!(*refused, PublishError::Unavailable(Unavailable::ShuttingDown));
}

#[tokio::test]
async fn a_draft_takes_what_is_plain_and_no_more_than_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(BrokerConfig::new(folder.path())).unwrap();
    assert!(broker.draft("no good", 0).is_err());
    let mut draft = broker.draft("orders", 0).unwrap();
    let later = NewMessage { delivery: Delivery::After(60_000), ..NewMessage::new("later") };
    assert_eq!(draft.push(&later.view()), Err(Refused::Later));
    let long_key = NewMessage { key: "k".repeat(1025), ..NewMessage::new("x") };
    assert!(matches!(draft.push(&long_key.view()), Err(Refused::Message(_))));
    let one: MessageView<'_> = MessageView {
        payload: b"one",
        key: "",
        metadata: &[],
        ttl_ms: 0,
        dedup_id: "",
        delivery: Delivery::Now,
        expected_offset: None,
    };
    for _ in 0..BATCH_MESSAGES_MAX {
        draft.push(&one).unwrap();
    }
    assert_eq!(draft.push(&one), Err(Refused::Full));
    assert_eq!(draft.count() as usize, BATCH_MESSAGES_MAX);
    broker.shutdown().unwrap();
}

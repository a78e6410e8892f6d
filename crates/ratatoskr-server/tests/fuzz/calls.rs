//! Every call of the contract, with a request it would take.

use bytes::Bytes;
use prost::Message;
use ratatoskr_proto as wire;

/// What all requests are about.
const TOPIC: &str = "orders";
const SUBSCRIPTION: &str = "billing";
const TOKEN: &[u8] = &[7; 24];
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// The name of a call, and a request for it.
pub(crate) type Call = (&'static str, Vec<u8>);

/// See the file's head.
pub(crate) fn seeds() -> Vec<Call> {
    [topics(), publishing(), subscribing(), subscriptions(), consuming(), dead_letters()].concat()
}

/// The topic and the subscription all requests are about.
pub(crate) fn setting() -> [Call; 2] {
    let create_topic = wire::CreateTopicRequest { name: topic(), settings: None };
    let create = wire::CreateSubscriptionRequest { name: Some(name()), ..Default::default() };
    [("CreateTopic", create_topic.encode_to_vec()), ("CreateSubscription", create.encode_to_vec())]
}

fn topic() -> String {
    TOPIC.to_owned()
}

fn name() -> wire::SubscriptionName {
    wire::SubscriptionName { topic: topic(), subscription: SUBSCRIPTION.to_owned() }
}

fn position(position: wire::start_position::Position) -> wire::StartPosition {
    wire::StartPosition { position: Some(position) }
}

fn filter() -> String {
    "key == 'a' && size > 10".to_owned()
}

fn topics() -> Vec<Call> {
    let settings = Some(wire::TopicSettings {
        retention_messages: Some(500),
        retention_age_ms: Some(100_000),
        message_bytes_max: Some(5000),
        ..Default::default()
    });
    let create = wire::CreateTopicRequest { name: topic(), settings };
    let update = wire::UpdateTopicRequest { name: topic(), settings };
    let purge = wire::PurgeTopicRequest { name: topic(), before: Some(0) };
    vec![
        ("CreateTopic", create.encode_to_vec()),
        ("UpdateTopic", update.encode_to_vec()),
        ("PurgeTopic", purge.encode_to_vec()),
        ("DeleteTopic", wire::DeleteTopicRequest { name: topic() }.encode_to_vec()),
        ("DescribeTopic", wire::DescribeTopicRequest { name: topic() }.encode_to_vec()),
        ("TopicExists", wire::TopicExistsRequest { name: topic() }.encode_to_vec()),
        ("GetStats", wire::GetStatsRequest { topic: topic() }.encode_to_vec()),
        ("ListTopics", Vec::new()),
        ("DescribeBroker", Vec::new()),
    ]
}

fn publish() -> wire::PublishRequest {
    wire::PublishRequest {
        topic: topic(),
        payload: Bytes::from_static(b"payload"),
        metadata: [("name".to_owned(), "value".to_owned())].into(),
        key: "key".to_owned(),
        dedup_id: "id".to_owned(),
        ttl_ms: 1000,
        ..Default::default()
    }
}

fn publishing() -> Vec<Call> {
    let messages = vec![
        publish(),
        wire::PublishRequest { dedup_id: String::new(), delay_ms: 50, ..publish() },
        wire::PublishRequest { dedup_id: "other".to_owned(), ..publish() },
    ];
    let batch = wire::PublishBatchRequest { topic: topic(), messages: messages.clone() };
    let stream = wire::PublishStreamRequest { sequence: 1, topic: topic(), messages };
    vec![
        ("Publish", publish().encode_to_vec()),
        ("PublishBatch", batch.encode_to_vec()),
        ("PublishStream", stream.encode_to_vec()),
    ]
}

fn subscribing() -> Vec<Call> {
    let subscribe = wire::SubscribeRequest {
        topic: topic(),
        start: Some(position(wire::start_position::Position::Earliest(true))),
        filter_expression: filter(),
        credit: 10,
        ..Default::default()
    };
    let subscription_ref = "1".to_owned();
    let unsubscribe = wire::UnsubscribeRequest { topic: topic(), subscription_ref: subscription_ref.clone() };
    let credit = wire::AddCreditRequest { topic: topic(), subscription_ref, messages: 5 };
    vec![
        ("Subscribe", subscribe.encode_to_vec()),
        ("Unsubscribe", unsubscribe.encode_to_vec()),
        ("AddCredit", credit.encode_to_vec()),
    ]
}

fn subscriptions() -> Vec<Call> {
    let settings = Some(wire::SubscriptionSettings {
        filter: Some(filter()),
        lease_ms: Some(30_000),
        retry_multiplier: Some(2.0),
        ..Default::default()
    });
    let start = Some(position(wire::start_position::Position::Offset(0)));
    let create = wire::CreateSubscriptionRequest { name: Some(name()), start, settings: settings.clone() };
    let update = wire::UpdateSubscriptionRequest { name: Some(name()), settings };
    let target = wire::seek_subscription_request::Target::Position(position(
        wire::start_position::Position::TimeMs(1_767_323_045_000),
    ));
    let seek = wire::SeekSubscriptionRequest { name: Some(name()), target: Some(target) };
    let peek = wire::PeekSubscriptionRequest { name: Some(name()), messages_max: 3, from_offset: 0 };
    let save =
        wire::SaveSubscriptionRequest { name: Some(name()), saved: "here".to_owned(), ..Default::default() };
    vec![
        ("CreateSubscription", create.encode_to_vec()),
        ("UpdateSubscription", update.encode_to_vec()),
        ("DeleteSubscription", wire::DeleteSubscriptionRequest { name: Some(name()) }.encode_to_vec()),
        ("DescribeSubscription", wire::DescribeSubscriptionRequest { name: Some(name()) }.encode_to_vec()),
        ("ListSubscriptions", wire::ListSubscriptionsRequest { topic: topic() }.encode_to_vec()),
        ("SeekSubscription", seek.encode_to_vec()),
        ("PeekSubscription", peek.encode_to_vec()),
        ("SaveSubscription", save.encode_to_vec()),
    ]
}

fn consuming() -> Vec<Call> {
    let window = Some(wire::Window { messages: 5, bytes: 5000 });
    let open = wire::ConsumeOpen { name: Some(name()), member: "m".to_owned(), window, ..Default::default() };
    let consume = wire::ConsumeRequest { step: Some(wire::consume_request::Step::Open(open)) };
    let pull = wire::PullRequest { name: Some(name()), messages_max: 3, wait_ms: 1, member: "m".to_owned() };
    let token = Bytes::from_static(TOKEN);
    let ack = wire::AckRequest {
        message_id: ID.to_owned(),
        token: token.clone(),
        delay_ms: Some(5),
        ..Default::default()
    };
    let nack = wire::settlement::Outcome::Nack(wire::Nack { delay_ms: Some(5), reason: "r".to_owned() });
    let settle = |outcome, messages| {
        let settlements = vec![wire::Settlement { token: token.clone(), outcome: Some(outcome) }];
        wire::SettleRequest { settlements, messages }
    };
    let (settle, step) =
        (settle(nack, vec![]), settle(wire::settlement::Outcome::Ack(wire::Done {}), vec![publish()]));
    vec![
        ("Consume", consume.encode_to_vec()),
        ("Pull", pull.encode_to_vec()),
        ("Ack", ack.encode_to_vec()),
        ("Settle", settle.encode_to_vec()),
        ("Settle", step.encode_to_vec()),
    ]
}

fn dead_letters() -> Vec<Call> {
    let list = wire::ListDeadLettersRequest {
        name: Some(name()),
        filter: filter(),
        messages_max: 3,
        ..Default::default()
    };
    let resolve = wire::ResolveDeadLettersRequest {
        name: Some(name()),
        ids: vec![ID.to_owned()],
        rate_max: 100,
        ..Default::default()
    };
    let trace = wire::TraceMessageRequest { message_id: ID.to_owned() };
    vec![
        ("ListDeadLetters", list.encode_to_vec()),
        ("ResolveDeadLetters", resolve.encode_to_vec()),
        ("TraceMessage", trace.encode_to_vec()),
    ]
}

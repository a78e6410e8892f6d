//! Who may do what, at the real door: identities by token, each action, patterns, namespaces, changes while it runs.
#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod support;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use ratatoskr_proto as wire;
use ratatoskr_proto::consume_request::Step;
use support::policy::{Client, PolicyFile, showing, until};
use support::{Fixture, message, next};
use tokio_stream::StreamExt as _;
use tonic::client::Grpc;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// One role for each action, on topics that begin with "orders".
const ROLES: &str = r#"
[roles.publish]
allow = [{ actions = ["publish"], topics = ["orders*"] }]
[roles.subscribe]
allow = [{ actions = ["subscribe"], topics = ["orders*"] }]
[roles.manage]
allow = [{ actions = ["manage"], topics = ["orders*"] }]
[roles.admin]
allow = [{ actions = ["admin"] }]
[roles.everything]
allow = [{ actions = ["publish", "subscribe", "manage", "admin"], topics = ["*"] }]
"#;

const IDENTITIES: &[(&str, &str)] = &[
    ("publish", "roles = [\"publish\"]"),
    ("subscribe", "roles = [\"subscribe\"]"),
    ("manage", "roles = [\"manage\"]"),
    ("admin", "roles = [\"admin\"]"),
    ("nothing", "roles = []"),
    ("root", "roles = [\"everything\"]"),
];

fn policy() -> PolicyFile {
    PolicyFile::new(IDENTITIES, ROLES)
}

/// The names of all calls of the contract, from the contract itself.
fn all_calls() -> Vec<String> {
    let set = FileDescriptorSet::decode(wire::FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    services.flat_map(|service| &service.method).map(|method| method.name().to_owned()).collect()
}

/// What an empty request to a call is answered.
async fn empty_call(fixture: &Fixture, call: &str, authorization: Option<&str>) -> Result<(), Status> {
    let mut grpc = Grpc::new(fixture.channel().await);
    grpc.ready().await.unwrap();
    let path = format!("/{}/{call}", wire::SERVICE_NAME).parse().unwrap();
    let mut request = Request::new(());
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    let response = grpc.server_streaming(request, path, ProstCodec::<(), ()>::default()).await?;
    // A stream that waits for more has been let in.
    let mut answers: Streaming<()> = response.into_inner();
    let first = tokio::time::timeout(std::time::Duration::from_millis(300), answers.message()).await;
    first.map_or(Ok(()), |answer| answer.map(|_| ()))
}

#[tokio::test]
async fn no_call_of_the_contract_is_answered_to_nobody() {
    let policy = policy();
    let fixture = policy.serve();
    let calls = all_calls();
    assert!(calls.len() >= 28, "{calls:?}");
    let stranger = format!("Bearer {}", ratatoskr_server::access::new_token());
    let digest = format!("Bearer {}", "0".repeat(64));
    for call in &calls {
        for shown in
            [None, Some(stranger.as_str()), Some(&digest), Some("Basic YTpi"), Some("Bearer "), Some("a.b.c")]
        {
            let status = empty_call(&fixture, call, shown).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{call} with {shown:?}: {status}");
            assert_eq!(status.get_details_error_info().unwrap().reason, "UNAUTHENTICATED");
            assert!(!status.message().contains("rtk_"), "{status}");
        }
    }
}

#[tokio::test]
async fn whoever_has_no_role_may_make_no_call() {
    let policy = policy();
    let fixture = policy.serve();
    let shown = format!("bearer {}", policy.token("nothing"));
    for call in all_calls() {
        let answer = empty_call(&fixture, &call, Some(&shown)).await;
        match call.as_str() {
            // They show what may be seen: nothing.
            "ListTopics" | "ListSubscriptions" => assert!(answer.is_ok(), "{call}: {answer:?}"),
            _ => assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied, "{call}"),
        }
    }
}

fn subscription(topic: &str) -> wire::SubscriptionName {
    wire::SubscriptionName { topic: topic.into(), subscription: "billing".into() }
}

/// Calls that are about one topic, by the action they take; `see` for any.
const CALLS: &[(&str, &str)] = &[
    ("Publish", "publish"),
    ("PublishBatch", "publish"),
    ("PublishStream", "publish"),
    ("Settle", "publish"),
    ("Subscribe", "subscribe"),
    ("SubscribeByName", "subscribe"),
    ("Consume", "subscribe"),
    ("Pull", "subscribe"),
    ("Unsubscribe", "subscribe"),
    ("AddCredit", "subscribe"),
    ("PeekSubscription", "subscribe"),
    ("ListDeadLetters", "subscribe"),
    ("CreateTopic", "manage"),
    ("UpdateTopic", "manage"),
    ("PurgeTopic", "manage"),
    ("CreateSubscription", "manage"),
    ("UpdateSubscription", "manage"),
    ("SeekSubscription", "manage"),
    ("SaveSubscription", "manage"),
    ("ResolveDeadLetters", "manage"),
    ("DeleteSubscription", "manage"),
    ("DeleteTopic", "manage"),
    ("DescribeBroker", "admin"),
    ("DescribeTopic", "see"),
    ("GetStats", "see"),
    ("TopicExists", "see"),
    ("DescribeSubscription", "see"),
];

#[allow(clippy::too_many_lines, reason = "a table of calls")]
/// Makes a call about a topic; the answer is only whether it was denied, and how.
async fn call(client: &mut Client, name: &str, topic: &str) -> Result<(), Status> {
    let (text, name_of) = (topic.to_owned(), Some(subscription(topic)));
    let answer = match name {
        "Publish" => client.publish(message(topic, "x")).await.map(drop),
        "PublishBatch" => {
            let request = wire::PublishBatchRequest { topic: text, messages: vec![message("", "x")] };
            client.publish_batch(request).await.map(drop)
        }
        "PublishStream" => {
            let request =
                wire::PublishStreamRequest { sequence: 1, topic: text, messages: vec![message("", "x")] };
            let mut answers = client.publish_stream(tokio_stream::iter([request])).await?.into_inner();
            answers.message().await.map(drop)
        }
        "Settle" => {
            let request =
                wire::SettleRequest { settlements: Vec::new(), messages: vec![message(topic, "x")] };
            client.settle(request).await.map(drop)
        }
        "Subscribe" | "SubscribeByName" => {
            let subscription = if name == "Subscribe" { "" } else { "billing" }.to_owned();
            let request = wire::SubscribeRequest { topic: text, subscription, ..Default::default() };
            client.subscribe(request).await.map(drop)
        }
        "Consume" => {
            let open = wire::ConsumeOpen { name: name_of, ..Default::default() };
            let open = wire::ConsumeRequest { step: Some(Step::Open(open)) };
            let mut answers = client.consume(tokio_stream::iter([open])).await?.into_inner();
            answers.message().await.map(drop)
        }
        "Pull" => client.pull(wire::PullRequest { name: name_of, ..Default::default() }).await.map(drop),
        "Unsubscribe" => client
            .unsubscribe(wire::UnsubscribeRequest { topic: text, subscription_ref: "?".into() })
            .await
            .map(drop),
        "AddCredit" => {
            let request = wire::AddCreditRequest { topic: text, subscription_ref: "?".into(), messages: 1 };
            client.add_credit(request).await.map(drop)
        }
        "PeekSubscription" => client
            .peek_subscription(wire::PeekSubscriptionRequest { name: name_of, ..Default::default() })
            .await
            .map(drop),
        "ListDeadLetters" => {
            let request = wire::ListDeadLettersRequest { name: name_of, ..Default::default() };
            client.list_dead_letters(request).await.map(drop)
        }
        "CreateTopic" => {
            client.create_topic(wire::CreateTopicRequest { name: text, settings: None }).await.map(drop)
        }
        "UpdateTopic" => {
            client.update_topic(wire::UpdateTopicRequest { name: text, settings: None }).await.map(drop)
        }
        "PurgeTopic" => {
            client.purge_topic(wire::PurgeTopicRequest { name: text, before: None }).await.map(drop)
        }
        "DeleteTopic" => client.delete_topic(wire::DeleteTopicRequest { name: text }).await.map(drop),
        "CreateSubscription" => {
            let request = wire::CreateSubscriptionRequest { name: name_of, ..Default::default() };
            client.create_subscription(request).await.map(drop)
        }
        "UpdateSubscription" => {
            let request = wire::UpdateSubscriptionRequest { name: name_of, settings: None };
            client.update_subscription(request).await.map(drop)
        }
        "SeekSubscription" => {
            let request = wire::SeekSubscriptionRequest { name: name_of, ..Default::default() };
            client.seek_subscription(request).await.map(drop)
        }
        "SaveSubscription" => {
            let request =
                wire::SaveSubscriptionRequest { name: name_of, saved: "then".into(), forget: false };
            client.save_subscription(request).await.map(drop)
        }
        "ResolveDeadLetters" => {
            let request = wire::ResolveDeadLettersRequest { name: name_of, ..Default::default() };
            client.resolve_dead_letters(request).await.map(drop)
        }
        "DeleteSubscription" => {
            client.delete_subscription(wire::DeleteSubscriptionRequest { name: name_of }).await.map(drop)
        }
        "DescribeBroker" => client.describe_broker(wire::DescribeBrokerRequest {}).await.map(drop),
        "DescribeTopic" => client.describe_topic(wire::DescribeTopicRequest { name: text }).await.map(drop),
        "GetStats" => client.get_stats(wire::GetStatsRequest { topic: text }).await.map(drop),
        "TopicExists" => client.topic_exists(wire::TopicExistsRequest { name: text }).await.map(drop),
        "DescribeSubscription" => {
            let request = wire::DescribeSubscriptionRequest { name: name_of };
            client.describe_subscription(request).await.map(drop)
        }
        other => panic!("no such call: {other}"),
    };
    // Everything else that can be wrong with it is found out later than whether it is allowed.
    match answer {
        Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) => Err(status),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn each_call_takes_its_action_and_no_other_one() {
    let policy = policy();
    let fixture = policy.serve();
    for who in ["publish", "subscribe", "manage", "admin", "nothing"] {
        let mut client = policy.client(&fixture, who).await;
        for &(name, action) in CALLS {
            let answer = call(&mut client, name, "orders.eu").await;
            let may = action == who || (action == "see" && ["publish", "subscribe", "manage"].contains(&who));
            assert_eq!(answer.is_ok(), may, "{who} calls {name}: {answer:?}");
            if action != "admin" {
                // The pattern ends where it ends.
                let answer = call(&mut client, name, "payments").await;
                let status = answer.expect_err(&format!("{who} calls {name} on payments"));
                assert_eq!(status.code(), Code::PermissionDenied);
                // Streams learn of the topic after they were let in, if at all.
                if status.message().contains("payments") {
                    let info = status.get_details_error_info().unwrap();
                    assert_eq!(
                        (info.reason.as_str(), &*info.metadata["topic"]),
                        ("PERMISSION_DENIED", "payments")
                    );
                    assert!(status.message().starts_with(&format!("{who:?} may not ")), "{status}");
                }
            }
        }
    }
    let mut root = policy.client(&fixture, "root").await;
    for &(name, _) in CALLS {
        for topic in ["orders.eu", "payments"] {
            call(&mut root, name, topic).await.unwrap();
        }
    }
}

#[tokio::test]
async fn lists_show_what_may_be_seen() {
    let policy = policy();
    let fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    for topic in ["orders.eu", "payments"] {
        support_create(&mut root, topic).await;
        let request =
            wire::CreateSubscriptionRequest { name: Some(subscription(topic)), ..Default::default() };
        root.create_subscription(request).await.unwrap();
    }
    let mut reader = policy.client(&fixture, "subscribe").await;
    let topics = reader.list_topics(wire::ListTopicsRequest {}).await.unwrap().into_inner().topics;
    assert_eq!(topics, ["orders.eu"]);
    let all = wire::ListSubscriptionsRequest { topic: String::new() };
    let listed = reader.list_subscriptions(all).await.unwrap().into_inner().subscriptions;
    assert_eq!(listed, [subscription("orders.eu")]);
    let of_other = wire::ListSubscriptionsRequest { topic: "payments".into() };
    assert_eq!(reader.list_subscriptions(of_other).await.unwrap_err().code(), Code::PermissionDenied);
    let topics = root.list_topics(wire::ListTopicsRequest {}).await.unwrap().into_inner().topics;
    assert_eq!(topics, ["orders.eu", "payments"]);
}

async fn support_create(client: &mut Client, name: &str) {
    let request = wire::CreateTopicRequest { name: name.into(), settings: None };
    let response = client.create_topic(request).await.unwrap().into_inner();
    assert!(response.created, "{}", response.error);
}

#[tokio::test]
async fn a_batch_with_one_message_for_a_forbidden_topic_publishes_none() {
    let policy = policy();
    let fixture = policy.serve();
    let mut writer = policy.client(&fixture, "publish").await;
    let messages = vec![message("orders.eu", "1"), message("payments", "2"), message("orders.us", "3")];
    let request = wire::PublishBatchRequest { topic: String::new(), messages };
    assert_eq!(writer.publish_batch(request).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(fixture.broker.list_topics(), []);
}

/// A message of `payments`, leased.
async fn handed_payment(client: &mut Client) -> wire::Message {
    let published = client.publish(message("payments", "one")).await.unwrap().into_inner();
    assert!(published.success, "{}", published.error);
    let pull = wire::PullRequest {
        name: Some(subscription("payments")),
        messages_max: 1,
        wait_ms: 20_000,
        ..Default::default()
    };
    client.pull(pull).await.unwrap().into_inner().messages.remove(0)
}

/// The next fates on a stream.
async fn fates_of(consuming: &mut tonic::Streaming<wire::ConsumeResponse>) -> wire::Fates {
    loop {
        let told = consuming.message().await.unwrap().expect("the stream goes on");
        if let Some(wire::consume_response::Step::Fates(fates)) = told.step {
            return fates;
        }
    }
}

#[tokio::test]
async fn nobody_settles_what_others_were_handed() {
    let policy =
        PolicyFile::new(&[("root", "roles = [\"everything\"]"), ("thief", "roles = [\"subscribe\"]")], ROLES);
    let fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    let handed = handed_payment(&mut root).await;

    // The token is no secret: somebody may have guessed it.
    let mut thief = policy.client(&fixture, "thief").await;
    let ack = |token: &[u8], id: &str| wire::AckRequest {
        token: token.to_vec().into(),
        message_id: id.to_owned(),
        success: true,
        ..Default::default()
    };
    let done = || Some(wire::settlement::Outcome::Ack(wire::Done {}));
    let settlement = wire::Settlement { token: handed.token.clone(), outcome: done() };
    for by in [ack(&handed.token, ""), ack(&[], &handed.id)] {
        assert!(!thief.ack(by).await.unwrap().into_inner().acknowledged);
    }
    let settle = wire::SettleRequest { settlements: vec![settlement.clone()], messages: Vec::new() };
    // As for a token of nothing.
    let unknown = |fates: &[wire::Fate]| fates.iter().all(|fate| fate.code() == wire::FateCode::Unknown);
    let refused = thief.settle(settle).await.unwrap().into_inner().refused;
    assert!(refused.len() == 1 && unknown(&refused), "{refused:?}");
    let open = wire::ConsumeOpen { name: Some(subscription("orders")), ..Default::default() };
    let steps = [
        Step::Open(open),
        Step::Settle(wire::ConsumeSettle {
            sequence: 1,
            acks: vec![handed.token.clone()],
            settlements: Vec::new(),
        }),
    ];
    support_create(&mut root, "orders").await;
    let steps = tokio_stream::iter(steps.map(|step| wire::ConsumeRequest { step: Some(step) }));
    let mut consuming = thief.consume(steps).await.unwrap().into_inner();
    let fates = fates_of(&mut consuming).await;
    assert!(fates.settled == 0 && fates.refused.len() == 1 && unknown(&fates.refused), "{fates:?}");
    let trace = thief.trace_message(wire::TraceMessageRequest { message_id: handed.id.clone() }).await;
    let status = trace.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    // Ids and tokens can be guessed, and topics one may not see are not to be found out that way.
    assert!(!format!("{status:?}").contains("payments"), "{status:?}");
    assert!(root.ack(ack(&handed.token, "")).await.unwrap().into_inner().acknowledged, "it was still there");
}

#[tokio::test]
async fn who_may_no_more_settles_no_more_on_a_stream_of_before() {
    let wide =
        "[roles.worker]\nallow = [{ actions = [\"subscribe\"], topics = [\"orders\", \"payments\"] }]\n";
    let narrow = "[roles.worker]\nallow = [{ actions = [\"subscribe\"], topics = [\"orders\"] }]\n";
    let identities = [("worker", "roles = [\"worker\"]"), ("root", "roles = [\"everything\"]")];
    let policy = PolicyFile::new(&identities, &format!("{ROLES}{wide}"));
    let fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    support_create(&mut root, "orders").await;
    let handed = handed_payment(&mut root).await;

    let mut worker = policy.client(&fixture, "worker").await;
    let (steps, asked) = tokio::sync::mpsc::channel(4);
    let step = |step| wire::ConsumeRequest { step: Some(step) };
    let open = wire::ConsumeOpen { name: Some(subscription("orders")), ..Default::default() };
    steps.send(step(Step::Open(open))).await.unwrap();
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut consuming = worker.consume(asked).await.unwrap().into_inner();
    consuming.message().await.unwrap();
    policy.write(&identities, &format!("{ROLES}{narrow}"));
    until("the policy is in force", async || {
        let peek =
            wire::PeekSubscriptionRequest { name: Some(subscription("payments")), ..Default::default() };
        worker.peek_subscription(peek).await.is_err_and(|status| status.code() == Code::PermissionDenied)
    })
    .await;
    let acks = vec![handed.token.clone()];
    let settle = wire::ConsumeSettle { sequence: 1, acks, settlements: Vec::new() };
    steps.send(step(Step::Settle(settle))).await.unwrap();
    let fates = fates_of(&mut consuming).await;
    assert!(fates.settled == 0 && fates.refused.len() == 1, "{fates:?}");
    let ack = wire::AckRequest { token: handed.token, success: true, ..Default::default() };
    assert!(root.ack(ack).await.unwrap().into_inner().acknowledged, "it was still there");
}

#[tokio::test]
async fn dead_letters_go_only_where_their_sender_may_publish() {
    let both = "[roles.both]\nallow = [{ actions = [\"subscribe\", \"manage\"], topics = [\"orders\"] }]\n";
    let policy = PolicyFile::new(&[("billing", "roles = [\"both\"]")], both);
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "billing").await;
    support_create(&mut client, "orders").await;
    let settings =
        wire::SubscriptionSettings { dead_letter_topic: Some("payments".into()), ..Default::default() };
    let request = wire::CreateSubscriptionRequest {
        name: Some(subscription("orders")),
        settings: Some(settings.clone()),
        ..Default::default()
    };
    assert_eq!(client.create_subscription(request).await.unwrap_err().code(), Code::PermissionDenied);
    let open = wire::ConsumeOpen {
        name: Some(subscription("orders")),
        settings: Some(settings),
        ..Default::default()
    };
    let steps = tokio_stream::iter([wire::ConsumeRequest { step: Some(Step::Open(open)) }]);
    assert_eq!(client.consume(steps).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(fixture.broker.list_subscriptions(None), []);
}

const TENANTS: &str = r#"
[namespaces.acme]
prefix = "acme."
topics_max = 2
publish_messages_per_second = 10

[namespaces.bytes]
prefix = "bytes."
publish_bytes_per_second = 1000
"#;

#[tokio::test]
async fn a_tenant_reaches_nothing_beyond_its_namespace_and_has_its_quota_of_topics() {
    let policy = PolicyFile::new(
        &[
            ("tenant", "roles = [\"everything\"]\nnamespace = \"acme\""),
            ("other", "roles = [\"everything\"]\nnamespace = \"bytes\""),
            ("root", "roles = [\"everything\"]"),
        ],
        &format!("{TENANTS}{ROLES}"),
    );
    let fixture = policy.serve();
    let mut tenant = policy.client(&fixture, "tenant").await;
    for &(name, _) in CALLS {
        let answer = call(&mut tenant, name, "orders.eu").await;
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied, "{name}");
    }
    assert!(fixture.broker.list_topics().is_empty());

    support_create(&mut tenant, "acme.one").await;
    // The second comes of publishing.
    let published = tenant.publish(message("acme.two", "x")).await.unwrap().into_inner();
    assert!(published.success, "{}", published.error);
    let by_publish = tenant.publish(message("acme.three", "x")).await.unwrap_err();
    let create = wire::CreateTopicRequest { name: "acme.four".into(), settings: None };
    let by_create = tenant.create_topic(create).await.unwrap_err();
    // A quota is the namespace's, whoever is at it.
    let mut root = policy.client(&fixture, "root").await;
    let by_root = root.publish(message("acme.five", "x")).await.unwrap_err();
    for status in [by_publish, by_create, by_root] {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), &*info.metadata["namespace"]), ("TOPIC_QUOTA_EXCEEDED", "acme"));
        assert!(status.get_details_retry_info().is_none(), "waiting does not help");
    }
    // Who may not publish there does not learn that there is no room.
    let mut other = policy.client(&fixture, "other").await;
    for topic in ["acme.two", "acme.six"] {
        let status = other.publish(message(topic, "x")).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    }
    assert_eq!(fixture.broker.list_topics().len(), 2);
    let deleted = tenant.delete_topic(wire::DeleteTopicRequest { name: "acme.one".into() }).await.unwrap();
    assert!(deleted.into_inner().success);
    support_create(&mut tenant, "acme.three").await;
}

#[tokio::test]
async fn who_publishes_too_fast_is_told_when_to_come_back_and_may_then() {
    let policy = PolicyFile::new(&[("root", "roles = [\"everything\"]")], &format!("{TENANTS}{ROLES}"));
    let fixture = policy.serve();
    let mut client = policy.client(&fixture, "root").await;
    let mut passed = 0;
    let status = loop {
        match client.publish(message("acme.one", "x")).await {
            Ok(_) => passed += 1,
            Err(status) => break status,
        }
        assert!(passed < 10_000, "nothing holds it back");
    };
    // A second's worth at once; more only as far as time passed meanwhile.
    assert!(passed >= 10, "{passed}");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_details_error_info().unwrap().reason, "RATE_QUOTA_EXCEEDED");
    let pause = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(pause <= std::time::Duration::from_millis(101), "{pause:?}");
    tokio::time::sleep(pause).await;
    client.publish(message("acme.one", "x")).await.unwrap();

    // By bytes, in a stream: it ends, and its last receipts come first.
    let step = |sequence, payload: String| wire::PublishStreamRequest {
        sequence,
        topic: "bytes.one".into(),
        messages: vec![message("", payload)],
    };
    let steps = tokio_stream::iter([step(1, "x".repeat(5000)), step(2, "y".into())]);
    let mut answers = client.publish_stream(steps).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().sequence, 1);
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "RATE_QUOTA_EXCEEDED");
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap().as_secs() >= 3);
    // Other namespaces, and topics in none, are not held up.
    client.publish(message("orders", "x")).await.unwrap();
    let page =
        fixture.page_with("/metrics", &format!("authorization: Bearer {}\r\n", policy.token("root"))).await;
    assert!(page.contains("ratatoskr_quota_refusals_total 2\n"), "{page}");
}

#[tokio::test]
async fn a_changed_policy_is_in_force_without_a_restart_and_a_broken_one_is_not() {
    let policy = policy();
    let fixture = policy.serve();
    let mut reader = policy.client(&fixture, "subscribe").await;
    let mut root = policy.client(&fixture, "root").await;
    support_create(&mut root, "orders").await;
    let request = wire::SubscribeRequest { topic: "orders".into(), ..Default::default() };
    let mut following = reader.subscribe(request.clone()).await.unwrap().into_inner();
    let mut staying = root.subscribe(request).await.unwrap().into_inner();
    let (steps, asked) = tokio::sync::mpsc::channel(1);
    let mut writer = policy.client(&fixture, "publish").await;
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut receipts = writer.publish_stream(asked).await.unwrap().into_inner();

    // A mistake: what was in force stays so.
    policy.write(IDENTITIES, "[rolls.x]\n");
    let shown = format!("authorization: Bearer {}\r\n", policy.token("admin"));
    until("the mistake is counted", async || {
        fixture.page_with("/metrics", &shown).await.contains("ratatoskr_reload_failures_total 1\n")
    })
    .await;
    assert!(call(&mut reader, "GetStats", "orders").await.is_ok());

    // The reader's role goes, the writer's identity as well.
    let left: Vec<_> = IDENTITIES.iter().filter(|(name, _)| *name != "publish").copied().collect();
    let left: Vec<_> = left
        .into_iter()
        .map(|(name, roles)| if name == "subscribe" { (name, "roles = []") } else { (name, roles) })
        .collect();
    policy.write(&left, ROLES);
    let status = next(&mut following).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert_eq!(call(&mut reader, "GetStats", "orders").await.unwrap_err().code(), Code::PermissionDenied);
    let step =
        wire::PublishStreamRequest { sequence: 1, topic: "orders".into(), messages: vec![message("", "x")] };
    steps.send(step).await.unwrap();
    assert_eq!(receipts.message().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(call(&mut writer, "Publish", "orders").await.unwrap_err().code(), Code::Unauthenticated);

    // Whoever still may goes on.
    root.publish(message("orders", "still here")).await.unwrap();
    assert_eq!(next(&mut staying).await.unwrap().unwrap().payload, "still here");
}

#[tokio::test]
async fn the_audit_log_has_management_and_denials_and_no_messages() {
    let policy = policy();
    let mut fixture = policy.serve();
    let mut root = policy.client(&fixture, "root").await;
    support_create(&mut root, "orders").await;
    root.publish(message("orders", "x")).await.unwrap();
    let mut reader = policy.client(&fixture, "subscribe").await;
    call(&mut reader, "DeleteTopic", "orders").await.unwrap_err();
    call(&mut showing(&fixture, None).await, "Publish", "orders").await.unwrap_err();
    // Whoever shuts down waits for what is to be written.
    drop((root, reader));
    fixture.running.take().unwrap().shutdown().await;
    let lines = policy.audit();
    let facts = |line: &serde_json::Value| {
        ["outcome", "who", "by", "call", "topic"].map(|name| line[name].as_str().unwrap().to_owned())
    };
    let seen: Vec<_> = lines.iter().map(facts).collect();
    assert_eq!(
        seen,
        [
            ["allowed", "root", "token", "CreateTopic", "orders"],
            ["denied", "subscribe", "token", "DeleteTopic", "orders"],
            ["denied", "", "", "Publish", ""],
        ]
    );
    assert!(
        lines[1]["reason"].as_str().unwrap().starts_with("\"subscribe\" may not manage topic \"orders\"")
    );
    for line in &lines {
        let peer: std::net::SocketAddr = line["peer"].as_str().unwrap().parse().unwrap();
        assert!(peer.ip().is_loopback() && peer.port() > 0);
    }
}

#[tokio::test]
async fn pages_about_the_broker_take_admin_and_probes_take_nothing() {
    let policy = policy();
    let fixture = policy.serve();
    let shown = |who| format!("authorization: Bearer {}\r\n", policy.token(who));
    for path in ["/metrics", "/version"] {
        let page = fixture.page(path).await;
        assert!(page.starts_with("HTTP/1.1 401") && page.contains("www-authenticate: Bearer"), "{page}");
        assert!(fixture.page_with(path, &shown("manage")).await.starts_with("HTTP/1.1 403"), "{path}");
        assert!(fixture.page_with(path, &shown("admin")).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    for path in ["/", "/healthz", "/readyz"] {
        assert!(fixture.page(path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let page = fixture.page_with("/metrics", &shown("admin")).await;
    for line in [
        "ratatoskr_authentication_failures_total{by=\"none\"} 2\n",
        "ratatoskr_authentication_failures_total{by=\"token\"} 0\n",
        "ratatoskr_denied_calls_total{action=\"admin\"} 2\n",
        "ratatoskr_audit_failing 0\n",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    for who in ["admin", "root"] {
        assert!(!page.contains(policy.token(who)));
    }
}

#[tokio::test]
async fn health_is_told_to_anybody_and_reflection_is_not() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    let policy = policy();
    let fixture = policy.serve();
    let mut health = HealthClient::new(fixture.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    let mut reflection = ServerReflectionClient::new(fixture.channel().await);
    let asked = tokio_stream::iter([ServerReflectionRequest::default()]);
    let status = match reflection.server_reflection_info(asked).await {
        Err(status) => status,
        Ok(answers) => answers.into_inner().next().await.unwrap().unwrap_err(),
    };
    assert_eq!(status.code(), Code::Unauthenticated);
}

//! What clients are told of each error.

use ratatoskr_broker::TopicName;

use super::*;

#[test]
fn every_status_names_its_reason_and_says_whether_to_wait() {
    let topic = TopicName::parse("orders").unwrap();
    let full = Unavailable::DiskFull { detail: "free some space".to_owned() };
    let poisoned = Unavailable::Poisoned { reason: "sync failed".to_owned() };
    let blocked = Unavailable::Blocked { reason: "open spare: too many open files".to_owned() };
    let table = [
        (unavailable(&full), Code::ResourceExhausted, "DISK_FULL", true),
        (unavailable(&blocked), Code::Unavailable, "LOG_BLOCKED", true),
        (unavailable(&poisoned), Code::Unavailable, "JOURNAL_FAILED", false),
        (
            unavailable(&Unavailable::TopicRestarting { topic: topic.clone() }),
            Code::Unavailable,
            "TOPIC_RESTARTING",
            true,
        ),
        (
            unavailable(&Unavailable::TopicDeleted { topic: topic.clone() }),
            Code::Unavailable,
            "TOPIC_DELETED",
            true,
        ),
        (unavailable(&Unavailable::RequestFailed), Code::Internal, "REQUEST_FAILED", false),
        (
            unavailable(&Unavailable::DeadLettersInMemory { topic }),
            Code::FailedPrecondition,
            "DEAD_LETTERS_IN_MEMORY",
            false,
        ),
        (shutting_down(), Code::Unavailable, "SHUTTING_DOWN", true),
        (no_topic("orders"), Code::NotFound, "TOPIC_NOT_FOUND", false),
        (no_subscription("orders", "s1"), Code::NotFound, "SUBSCRIPTION_NOT_FOUND", false),
        (bad_field("credit", &"credit is 0"), Code::InvalidArgument, "INVALID_FIELD", false),
    ];
    for (status, code, reason, waits) in table {
        assert_eq!(status.code(), code, "{status}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), (DOMAIN, reason));
        assert_eq!(details.retry_info().is_some(), waits, "{reason}");
    }
}

#[test]
fn a_field_at_fault_is_named_with_the_sentence() {
    let status = bad_field("credit", &"credit is 0");
    let violation = status.get_details_bad_request().unwrap().field_violations.remove(0);
    assert_eq!((violation.field.as_str(), violation.description.as_str()), ("credit", "credit is 0"));
}

#[test]
fn a_broker_that_cannot_serve_is_a_status_in_calls_that_answer_in_band() {
    let full = || Unavailable::DiskFull { detail: "free some space".to_owned() };
    assert!(create_refusal(&CreateTopicError::Unavailable(full())).is_err());
    assert!(delete_refusal(&DeleteTopicError::Unavailable(full())).is_err());
    assert!(publish_refusal(&PublishError::Unavailable(full())).is_err());
    let too_many = publish_refusal(&PublishError::TooManyTopics { topics_max: 7 }).unwrap();
    assert!(too_many.starts_with("too_many_topics: "), "{too_many}");
}

#[test]
fn a_stream_ends_well_only_when_the_client_asked_for_it() {
    assert!(subscription_end(&SubscriptionEnd::Unsubscribed, "orders").is_none());
    let deleted = subscription_end(&SubscriptionEnd::TopicDeleted, "orders").unwrap();
    assert_eq!(deleted.get_details_error_info().unwrap().metadata["topic"], "orders");
    let file = "orders/000.seg".to_owned();
    let damaged = SubscriptionEnd::DataLoss { offset: 5, resume: 6, file, position: 99 };
    let damaged = subscription_end(&damaged, "orders").unwrap();
    assert_eq!(damaged.code(), Code::DataLoss);
    assert_eq!(damaged.get_details_error_info().unwrap().metadata["resume_offset"], "6");
    let trimmed = SubscriptionEnd::Trimmed { cursor: 3, first_offset: 9 };
    let trimmed = subscription_end(&trimmed, "orders").unwrap();
    assert_eq!(trimmed.code(), Code::OutOfRange);
    assert_eq!(trimmed.get_details_error_info().unwrap().metadata["first_offset"], "9");
}

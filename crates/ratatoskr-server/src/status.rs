//! Errors of the broker as a client sees them. This file is the only one that knows gRPC codes and
//! in-band codes.
//!
//! ```text
//!   broker error ──┬── refusal of a call with an `error` field ──▶ `code` or `code: sentence`
//!                  └── anything else ──▶ status + ErrorInfo (reason, facts)
//!                                               + BadRequest (field)   when a field is at fault
//!                                               + RetryInfo (after)    when waiting may help
//! ```
//!
//! Invariants: a status fits a header list ([`bounded`]), whatever the request was; a broker that cannot serve right now (full disk, restart, shutdown) is a status in
//! every call, never a refusal: a client's retry logic looks at statuses.

mod bounded;
mod probes;

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use ratatoskr_broker::limits::TOPIC_NAME_BYTES_MAX;
use ratatoskr_broker::{
    CreateTopicError, DeleteTopicError, MemberEnd, MessageError, PublishError, PurgeTopicError,
    SettingsError, SettleError, SubscribeError, SubscriptionEnd, SubscriptionError, SubscriptionRef,
    TopicNameError, Unavailable, UpdateTopicError, quoted,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::access::{Denied, Exceeded};
use crate::clients::TooMuch;
use crate::convert::FieldError;
use crate::limits::{
    DEDUP_IDS_RETRY, DISK_FULL_RETRY, LOG_BLOCKED_RETRY, MEMORY_RETRY, READ_FAILED_RETRY, SHUTDOWN_RETRY,
    TOPIC_RESTART_RETRY,
};
use crate::memory::Exhausted;
use bounded::bounded;
pub(crate) use probes::{late_probe, long_probe, too_many_probes};

/// `ErrorInfo.domain` of every status.
const DOMAIN: &str = "ratatoskr";

/// Bytes of a message. It stands in a status once as it is, percent-encoded, and once in the details: all that fits a header list of 8 KiB.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Bytes of one fact: the longest name.
const FACT_BYTES_MAX: usize = TOPIC_NAME_BYTES_MAX;

/// In-band code for a topic that is not there.
pub(crate) const TOPIC_NOT_FOUND: &str = "topic_not_found";
/// In-band code for a subscription that is not there.
pub(crate) const SUBSCRIPTION_NOT_FOUND: &str = "subscription_not_found";
/// In-band code for the rest of a batch when only part of it could be published.
pub(crate) const UNAVAILABLE: &str = "unavailable";

/// In-band code for messages of a conditional batch of which another message is refused.
pub(crate) const BATCH_REFUSED: &str = "batch_refused";

/// A failure on its way to become a status.
struct Failure {
    // The gRPC code.
    code: Code,
    // `ErrorInfo.reason`: one word in capitals that programs compare.
    reason: &'static str,
    // The request's field at fault, if one is.
    field: Option<&'static str>,
    // After what time the same request may succeed, if ever.
    retry_after: Option<Duration>,
    // `ErrorInfo.metadata`: the numbers and names in the message, for programs.
    facts: Vec<(&'static str, String)>,
}

impl Failure {
    fn new(code: Code, reason: &'static str) -> Failure {
        Failure { code, reason, field: None, retry_after: None, facts: Vec::new() }
    }

    fn field(mut self, field: &'static str) -> Failure {
        self.field = Some(field);
        self
    }

    fn retry_after(mut self, pause: Duration) -> Failure {
        self.retry_after = Some(pause);
        self
    }

    fn fact(mut self, name: &'static str, value: &dyn Display) -> Failure {
        self.facts.push((name, bounded(value, FACT_BYTES_MAX)));
        self
    }

    fn status(self, message: &dyn Display) -> Status {
        let message = bounded(message, MESSAGE_BYTES_MAX);
        let facts: HashMap<String, String> =
            self.facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, facts);
        if let Some(field) = self.field {
            details.add_bad_request_violation(field, message.clone());
        }
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        Status::with_error_details(self.code, message, details)
    }
}

/// A call of one request that has another.
pub(crate) fn more_than_one() -> Status {
    Status::invalid_argument("the call has more than one request; it takes one")
}

/// A path that is no call's.
pub(crate) fn no_such_call() -> Status {
    Status::unimplemented("there is no such call: its path has a query")
}

/// A field of a request that cannot be.
pub(crate) fn bad_field(field: &'static str, message: &dyn Display) -> Status {
    Failure::new(Code::InvalidArgument, "INVALID_FIELD").field(field).fact("field", &field).status(message)
}

/// A topic name that cannot be, in a call that answers with statuses.
pub(crate) fn bad_name(field: &'static str, error: &TopicNameError) -> Status {
    Failure::new(Code::InvalidArgument, "INVALID_TOPIC_NAME").field(field).status(error)
}

/// A topic that is not there, in a call that answers with statuses.
pub(crate) fn no_topic(name: &str) -> Status {
    let message = format!("topic {} does not exist; create it, or publish to it", quoted(name));
    Failure::new(Code::NotFound, "TOPIC_NOT_FOUND").fact("topic", &name).status(&message)
}

/// A subscription that is not there, in a call that answers with statuses.
pub(crate) fn no_subscription(topic: &str, reference: &str) -> Status {
    let message =
        format!("topic {} has no subscription {}; it may have ended", quoted(topic), quoted(reference));
    let failure = Failure::new(Code::NotFound, "SUBSCRIPTION_NOT_FOUND");
    failure.fact("topic", &topic).fact("subscription_ref", &reference).status(&message)
}

/// A message that no topic has.
pub(crate) fn no_message(id: &str) -> Status {
    let message =
        format!("no topic has a message with id {}; it may have been deleted with its topic", quoted(id));
    Failure::new(Code::NotFound, "MESSAGE_NOT_FOUND").fact("message_id", &id).status(&message)
}

/// A call that the front door did not recognise as plain gRPC, and that has no other way.
pub(crate) fn not_plain() -> Status {
    let message =
        "this call takes content-type application/grpc or application/grpc+proto, and no grpc-encoding";
    Failure::new(Code::Unimplemented, "NOT_PLAIN_GRPC").status(&message)
}

/// Somebody who is not known, may not, or has had enough.
pub(crate) fn denied(denied: &Denied) -> Status {
    let mut failure = match denied {
        Denied::MayNot { action, topic, .. } => {
            let failure =
                Failure::new(Code::PermissionDenied, "PERMISSION_DENIED").fact("action", &action.word());
            if topic.is_empty() { failure } else { failure.fact("topic", topic) }
        }
        Denied::Exceeded { namespace, what } => {
            let reason = match what {
                Exceeded::Topics { .. } => "TOPIC_QUOTA_EXCEEDED",
                Exceeded::Messages { .. } | Exceeded::Bytes { .. } => "RATE_QUOTA_EXCEEDED",
                Exceeded::Stored { .. } => "STORAGE_QUOTA_EXCEEDED",
            };
            let failure = Failure::new(Code::ResourceExhausted, reason).fact("namespace", namespace);
            match what {
                Exceeded::Stored { bytes_max, bytes } => {
                    failure.fact("stored_bytes", bytes).fact("stored_bytes_max", bytes_max)
                }
                _ => failure,
            }
        }
        _ => Failure::new(Code::Unauthenticated, "UNAUTHENTICATED"),
    };
    failure.retry_after = denied.retry_after();
    failure.status(denied)
}

/// What callers share is used up, or what one of them may have.
pub(crate) fn no_memory(exhausted: &Exhausted) -> Status {
    let (reason, bytes_max) = match exhausted {
        Exhausted::Callers { bytes_max } => ("MEMORY_EXHAUSTED", bytes_max),
        Exhausted::Client { bytes_max } => ("CLIENT_MEMORY_EXHAUSTED", bytes_max),
        Exhausted::Identity { bytes_max } => ("IDENTITY_MEMORY_EXHAUSTED", bytes_max),
        Exhausted::Unauthenticated { bytes_max } => ("UNAUTHENTICATED_MEMORY_EXHAUSTED", bytes_max),
    };
    let failure = Failure::new(Code::ResourceExhausted, reason).fact("bytes_max", bytes_max);
    failure.retry_after(MEMORY_RETRY).status(exhausted)
}

/// A client has as much of something as it may.
pub(crate) fn too_much(what: &TooMuch) -> Status {
    let (reason, limit, retry_after) = match what {
        TooMuch::Connections { connections_max } => ("TOO_MANY_CONNECTIONS", connections_max, MEMORY_RETRY),
        TooMuch::AllConnections { connections_max } => {
            ("BROKER_HAS_TOO_MANY_CONNECTIONS", connections_max, MEMORY_RETRY)
        }
        TooMuch::Calls { calls_max } => ("TOO_MANY_CALLS", calls_max, MEMORY_RETRY),
        TooMuch::Rate { per_second, retry_after } => ("TOO_MANY_CALLS_A_SECOND", per_second, *retry_after),
    };
    Failure::new(Code::ResourceExhausted, reason).fact("limit", limit).retry_after(retry_after).status(what)
}

/// The server is on its way down.
pub(crate) fn shutting_down() -> Status {
    unavailable(&Unavailable::ShuttingDown)
}

/// The in-band code of a name in the calls about topics.
pub(crate) fn topic_name_code(error: &TopicNameError) -> &'static str {
    match error {
        TopicNameError::Empty => "empty_topic_name",
        TopicNameError::TooLong { .. } => "topic_name_too_long",
        TopicNameError::InvalidCharacter { .. } => "invalid_topic_name_format",
    }
}

/// The in-band code of a name in the calls that publish.
pub(crate) fn publish_name_code(error: &TopicNameError) -> &'static str {
    match error {
        TopicNameError::Empty => "empty_topic",
        TopicNameError::TooLong { .. } => "topic_too_long",
        TopicNameError::InvalidCharacter { .. } => "invalid_topic_format",
    }
}

/// Why `CreateTopic` refuses, or the status that ends it.
pub(crate) fn create_refusal(error: &CreateTopicError) -> Result<String, Status> {
    match error {
        CreateTopicError::AlreadyExists { .. } => Ok("already_exists".to_owned()),
        CreateTopicError::TooManyTopics { .. } => Ok(format!("too_many_topics: {error}")),
        CreateTopicError::Settings(settings) => Ok(settings_refusal(settings)),
        CreateTopicError::Unavailable(reason) => Err(unavailable(reason)),
    }
}

/// The in-band form of settings that cannot be.
pub(crate) fn settings_refusal(error: &dyn Display) -> String {
    format!("invalid_settings: {error}")
}

/// Why `DeleteTopic` refuses, or the status that ends it.
pub(crate) fn delete_refusal(error: &DeleteTopicError) -> Result<String, Status> {
    match error {
        DeleteTopicError::NotFound { .. } => Ok(TOPIC_NOT_FOUND.to_owned()),
        DeleteTopicError::Unavailable(reason) => Err(unavailable(reason)),
    }
}

/// The in-band form of a message's field that the broker's types cannot hold.
pub(crate) fn field_refusal(error: &FieldError) -> String {
    let code =
        if error.field == "expected_offset" { "invalid_expected_offset" } else { "invalid_delivery_time" };
    format!("{code}: {error}")
}

/// Why a message is refused, or the status that ends the call.
pub(crate) fn publish_refusal(error: &PublishError) -> Result<String, Status> {
    match error {
        PublishError::Message { error, .. } => Ok(format!("{}: {error}", message_code(error))),
        PublishError::TooManyTopics { .. } => Ok(format!("too_many_topics: {error}")),
        PublishError::OtherOffset { .. } => Ok(format!("offset_mismatch: {error}")),
        PublishError::TooManyDedupIds { .. } => {
            Err(Failure::new(Code::ResourceExhausted, "TOO_MANY_DEDUP_IDS")
                .retry_after(DEDUP_IDS_RETRY)
                .status(error))
        }
        PublishError::EmptyBatch | PublishError::BatchTooLong { .. } | PublishError::BatchTooLarge { .. } => {
            Err(bad_field("messages", error))
        }
        PublishError::Unavailable(reason) => Err(unavailable(reason)),
    }
}

fn message_code(error: &MessageError) -> &'static str {
    match error {
        MessageError::PayloadTooLarge { .. } => "payload_too_large",
        MessageError::KeyTooLong { .. } => "key_too_long",
        MessageError::TooMuchMetadata { .. } => "too_much_metadata",
        MessageError::MetadataKeyLength { .. } | MessageError::MetadataKeyReserved { .. } => {
            "invalid_metadata_key"
        }
        MessageError::MetadataValueTooLong { .. } => "metadata_value_too_long",
        MessageError::DedupIdTooLong { .. } => "dedup_id_too_long",
        MessageError::DelayTooLong { .. } => "invalid_delivery_time",
        MessageError::ExpectedLater => "invalid_expected_offset",
    }
}

/// The status of a failed `UpdateTopic`.
pub(crate) fn update_status(error: &UpdateTopicError) -> Status {
    match error {
        UpdateTopicError::NotFound { name } => no_topic(name.as_str()),
        UpdateTopicError::Settings(settings) => settings_status(settings),
        UpdateTopicError::Unavailable(reason) => unavailable(reason),
    }
}

fn settings_status(error: &SettingsError) -> Status {
    match error {
        SettingsError::OutOfRange { field, .. } => Failure::new(Code::InvalidArgument, "INVALID_SETTINGS")
            .field("settings")
            .fact("setting", field)
            .status(error),
        SettingsError::Fixed { field, .. } => Failure::new(Code::FailedPrecondition, "SETTING_IS_FIXED")
            .field("settings")
            .fact("setting", field)
            .status(error),
    }
}

/// The status of a failed `PurgeTopic`.
pub(crate) fn purge_status(error: &PurgeTopicError) -> Status {
    match error {
        PurgeTopicError::NotFound { name } => no_topic(name.as_str()),
        PurgeTopicError::PastEnd { next_offset, .. } => Failure::new(Code::OutOfRange, "PAST_END")
            .field("before")
            .fact("next_offset", next_offset)
            .status(error),
        PurgeTopicError::Unavailable(reason) => unavailable(reason),
    }
}

/// The status of a failed `Subscribe`.
pub(crate) fn subscribe_status(error: &SubscribeError) -> Status {
    match error {
        SubscribeError::NotFound { name } => no_topic(name.as_str()),
        SubscribeError::TooManySubscribers { max } => {
            Failure::new(Code::ResourceExhausted, "TOO_MANY_SUBSCRIBERS")
                .fact("subscribers_max", max)
                .status(error)
        }
        SubscribeError::SubscriberIdTooLong { .. } => bad_field("subscriber_id", error),
        SubscribeError::FilterTooLong { .. } | SubscribeError::FilterTooLarge { .. } => {
            bad_field("filter", error)
        }
        SubscribeError::ZeroCredit => bad_field("credit", error),
        SubscribeError::PastEnd { next_offset, .. } => Failure::new(Code::OutOfRange, "PAST_END")
            .field("start.offset")
            .fact("next_offset", next_offset)
            .status(error),
        SubscribeError::Trimmed { first_offset, .. } => Failure::new(Code::OutOfRange, "TRIMMED")
            .field("start.offset")
            .fact("first_offset", first_offset)
            .status(error),
        SubscribeError::Unavailable(reason) => unavailable(reason),
    }
}

/// The status that ends a subscription's stream; none when it ends well.
pub(crate) fn subscription_end(end: &SubscriptionEnd, topic: &str) -> Option<Status> {
    let failure = match end {
        SubscriptionEnd::Unsubscribed => return None,
        SubscriptionEnd::TopicDeleted => Failure::new(Code::NotFound, "TOPIC_DELETED"),
        SubscriptionEnd::Trimmed { first_offset, .. } => {
            Failure::new(Code::OutOfRange, "TRIMMED").fact("first_offset", first_offset)
        }
        SubscriptionEnd::DataLoss { offset, resume, .. } => {
            Failure::new(Code::DataLoss, "DATA_LOSS").fact("offset", offset).fact("resume_offset", resume)
        }
        SubscriptionEnd::ReadFailed { .. } => {
            Failure::new(Code::Unavailable, "READ_FAILED").retry_after(READ_FAILED_RETRY)
        }
        SubscriptionEnd::ShuttingDown => return Some(shutting_down()),
    };
    Some(failure.fact("topic", &topic).status(end))
}

/// The status of a failed call about a durable subscription.
pub(crate) fn subscription_status(error: &SubscriptionError) -> Status {
    let named = |failure: Failure, name: &SubscriptionRef| {
        failure.fact("topic", &name.topic).fact("subscription", &name.name).status(error)
    };
    match error {
        SubscriptionError::TopicNotFound(topic) => no_topic(topic.as_str()),
        SubscriptionError::NotFound(name) => {
            named(Failure::new(Code::NotFound, "SUBSCRIPTION_NOT_FOUND"), name)
        }
        SubscriptionError::AlreadyExists(name) => {
            named(Failure::new(Code::AlreadyExists, "SUBSCRIPTION_EXISTS"), name)
        }
        SubscriptionError::Reserved(name) => {
            named(Failure::new(Code::InvalidArgument, "RESERVED_NAME").field("name"), name)
        }
        SubscriptionError::Settings(_) => {
            Failure::new(Code::InvalidArgument, "INVALID_SETTINGS").field("settings").status(error)
        }
        SubscriptionError::Start(start) => subscribe_status(start),
        SubscriptionError::NotSaved { name, .. } => named(Failure::new(Code::NotFound, "NOT_SAVED"), name),
        SubscriptionError::TooManySaved(name) => {
            named(Failure::new(Code::ResourceExhausted, "TOO_MANY_SAVED"), name)
        }
        SubscriptionError::SavedStatesFull { name, bytes, bytes_max } => {
            let failure = Failure::new(Code::ResourceExhausted, "SAVED_STATES_FULL");
            named(failure.fact("bytes", bytes).fact("bytes_max", bytes_max), name)
        }
        SubscriptionError::TooManySubscriptions { .. }
        | SubscriptionError::TooManySubscriptionsOfTopic { .. } => {
            Failure::new(Code::ResourceExhausted, "TOO_MANY_SUBSCRIPTIONS").status(error)
        }
        SubscriptionError::MemberNameTooLong { .. } => bad_field("member", error),
        SubscriptionError::ReadFailed { name, .. } => {
            named(Failure::new(Code::Unavailable, "READ_FAILED").retry_after(READ_FAILED_RETRY), name)
        }
        SubscriptionError::Unavailable(reason) => unavailable(reason),
    }
}

/// The status of settlements of which nothing happened.
pub(crate) fn settle_status(error: &SettleError) -> Status {
    match error {
        SettleError::TooMany { .. } | SettleError::OutOfRange { .. } | SettleError::NotAnAck { .. } => {
            bad_field("settlements", error)
        }
        SettleError::Stale { stale } => Failure::new(Code::FailedPrecondition, "STALE")
            .field("settlements")
            .fact("stale", &stale.len())
            .fact("first_index", &stale.first().copied().unwrap_or(0))
            .status(error),
        SettleError::Ambiguous => {
            Failure::new(Code::FailedPrecondition, "SEVERAL_LEASES").field("message_id").status(error)
        }
        SettleError::Subscription(error) => subscription_status(error),
        SettleError::Publish(PublishError::OtherOffset { next_offset, .. }) => {
            Failure::new(Code::FailedPrecondition, "OFFSET_MISMATCH")
                .field("messages.expected_offset")
                .fact("next_offset", next_offset)
                .status(error)
        }
        SettleError::Publish(error) => match publish_refusal(error) {
            Ok(refusal) => bad_field("messages", &refusal),
            Err(status) => status,
        },
        // The reserve for acks is used up: nothing the caller sends less of would help, as it would a publisher.
        SettleError::Unavailable(reason @ Unavailable::DiskFull { .. }) => {
            Failure::new(Code::Unavailable, "DISK_FULL").retry_after(DISK_FULL_RETRY).status(reason)
        }
        SettleError::Unavailable(reason) => unavailable(reason),
    }
}

/// The status that ends a member's stream.
pub(crate) fn member_end(end: MemberEnd) -> Status {
    match end {
        MemberEnd::SubscriptionDeleted => Failure::new(Code::NotFound, "SUBSCRIPTION_DELETED").status(&end),
        MemberEnd::TopicDeleted => Failure::new(Code::NotFound, "TOPIC_DELETED").status(&end),
        MemberEnd::Unsubscribed => Failure::new(Code::Cancelled, "UNSUBSCRIBED").status(&end),
        MemberEnd::ShuttingDown => shutting_down(),
    }
}

/// The status of a broker that cannot serve right now.
pub(crate) fn unavailable(reason: &Unavailable) -> Status {
    let failure = match reason {
        Unavailable::DiskFull { .. } => {
            Failure::new(Code::ResourceExhausted, "DISK_FULL").retry_after(DISK_FULL_RETRY)
        }
        Unavailable::Blocked { .. } => {
            Failure::new(Code::Unavailable, "LOG_BLOCKED").retry_after(LOG_BLOCKED_RETRY)
        }
        Unavailable::Poisoned { .. } => Failure::new(Code::Unavailable, "JOURNAL_FAILED"),
        Unavailable::TopicRestarting { .. } => {
            Failure::new(Code::Unavailable, "TOPIC_RESTARTING").retry_after(TOPIC_RESTART_RETRY)
        }
        Unavailable::TopicDeleted { topic } => Failure::new(Code::Unavailable, "TOPIC_DELETED")
            .fact("topic", topic)
            .retry_after(TOPIC_RESTART_RETRY),
        Unavailable::RequestFailed => Failure::new(Code::Internal, "REQUEST_FAILED"),
        Unavailable::ReadFailed { .. } => {
            Failure::new(Code::Unavailable, "READ_FAILED").retry_after(READ_FAILED_RETRY)
        }
        Unavailable::DeadLettersInMemory { topic } => {
            Failure::new(Code::FailedPrecondition, "DEAD_LETTERS_IN_MEMORY").fact("topic", topic)
        }
        Unavailable::ShuttingDown => {
            Failure::new(Code::Unavailable, "SHUTTING_DOWN").retry_after(SHUTDOWN_RETRY)
        }
    };
    failure.status(reason)
}

#[cfg(test)]
mod tests;

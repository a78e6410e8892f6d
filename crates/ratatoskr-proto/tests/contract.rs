//! The contract's field numbers are facts that clients in the field rely on. This test holds the
//! original nine calls to a table, whatever the proto file says.

#![allow(clippy::unwrap_used)] // a test may end here

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Call, request, response, whether the response is a stream.
const CALLS: [(&str, &str, &str, bool); 9] = [
    ("CreateTopic", "CreateTopicRequest", "CreateTopicResponse", false),
    ("DeleteTopic", "DeleteTopicRequest", "DeleteTopicResponse", false),
    ("ListTopics", "ListTopicsRequest", "ListTopicsResponse", false),
    ("TopicExists", "TopicExistsRequest", "TopicExistsResponse", false),
    ("GetStats", "GetStatsRequest", "GetStatsResponse", false),
    ("Publish", "PublishRequest", "PublishResponse", false),
    ("PublishBatch", "PublishBatchRequest", "PublishBatchResponse", false),
    ("Subscribe", "SubscribeRequest", "Message", true),
    ("Unsubscribe", "UnsubscribeRequest", "UnsubscribeResponse", false),
];

/// Message, field number, field name, type; `*` marks a repeated field, `map` a map of strings.
const FIELDS: [(&str, i32, &str, &str); 41] = [
    ("CreateTopicRequest", 1, "name", "string"),
    ("CreateTopicResponse", 1, "topic", "string"),
    ("CreateTopicResponse", 2, "created", "bool"),
    ("CreateTopicResponse", 3, "error", "string"),
    ("DeleteTopicRequest", 1, "name", "string"),
    ("DeleteTopicResponse", 1, "success", "bool"),
    ("DeleteTopicResponse", 2, "error", "string"),
    ("ListTopicsResponse", 1, "topics", "string*"),
    ("TopicExistsRequest", 1, "name", "string"),
    ("TopicExistsResponse", 1, "exists", "bool"),
    ("GetStatsRequest", 1, "topic", "string"),
    ("GetStatsResponse", 1, "topic", "string"),
    ("GetStatsResponse", 2, "message_count", "int64"),
    ("GetStatsResponse", 3, "subscriber_count", "int32"),
    ("GetStatsResponse", 4, "error", "string"),
    ("PublishRequest", 1, "topic", "string"),
    ("PublishRequest", 2, "payload", "bytes"),
    ("PublishRequest", 3, "metadata", "map"),
    ("PublishResponse", 1, "message_id", "string"),
    ("PublishResponse", 2, "timestamp", "int64"),
    ("PublishResponse", 3, "success", "bool"),
    ("PublishResponse", 4, "error", "string"),
    ("PublishBatchRequest", 1, "topic", "string"),
    ("PublishBatchRequest", 2, "messages", "PublishRequest*"),
    ("PublishBatchResponse", 1, "results", "PublishResponse*"),
    ("PublishBatchResponse", 2, "success_count", "int32"),
    ("PublishBatchResponse", 3, "error_count", "int32"),
    ("SubscribeRequest", 1, "topic", "string"),
    ("SubscribeRequest", 2, "subscriber_id", "string"),
    ("Message", 1, "id", "string"),
    ("Message", 2, "topic", "string"),
    ("Message", 3, "payload", "bytes"),
    ("Message", 4, "metadata", "map"),
    ("Message", 5, "timestamp", "int64"),
    ("UnsubscribeRequest", 1, "topic", "string"),
    ("UnsubscribeRequest", 2, "subscription_ref", "string"),
    ("UnsubscribeResponse", 1, "success", "bool"),
    ("UnsubscribeResponse", 2, "error", "string"),
    ("AckRequest", 1, "message_id", "string"),
    ("AckRequest", 2, "success", "bool"),
    ("AckResponse", 1, "acknowledged", "bool"),
];

fn contract() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(ratatoskr_proto::FILE_DESCRIPTOR_SET).unwrap();
    set.file.into_iter().find(|file| file.package() == "ratatoskr").unwrap()
}

fn type_word(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let of_package = field.type_name().trim_start_matches(".ratatoskr.");
    let entry = of_package.rsplit('.').next().unwrap();
    let is_map = message.nested_type.iter().any(|nested| {
        nested.name() == entry && nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
    });
    if is_map {
        return "map".to_owned();
    }
    let word = match field.r#type() {
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Bool => "bool",
        Type::Int64 => "int64",
        Type::Int32 => "int32",
        _ => of_package,
    };
    let mark = if field.label() == Label::Repeated { "*" } else { "" };
    format!("{word}{mark}")
}

#[test]
fn the_nine_calls_keep_their_names_and_types() {
    let file = contract();
    let service = file.service.iter().find(|service| service.name() == "MessageBroker").unwrap();
    for (name, request, response, streams) in CALLS {
        let call = service
            .method
            .iter()
            .find(|call| call.name() == name)
            .unwrap_or_else(|| panic!("{name} is gone"));
        assert_eq!(call.input_type(), format!(".ratatoskr.{request}"), "{name}");
        assert_eq!(call.output_type(), format!(".ratatoskr.{response}"), "{name}");
        assert_eq!((call.client_streaming(), call.server_streaming()), (false, streams), "{name}");
    }
}

#[test]
fn the_fields_of_the_nine_calls_keep_their_numbers() {
    let file = contract();
    for (message_name, number, name, word) in FIELDS {
        let message = file.message_type.iter().find(|m| m.name() == message_name).unwrap();
        let field = message
            .field
            .iter()
            .find(|field| field.number() == number)
            .unwrap_or_else(|| panic!("{message_name} has no field {number}"));
        assert_eq!(field.name(), name, "{message_name} field {number}");
        assert_eq!(type_word(message, field), word, "{message_name}.{name}");
    }
}

#[test]
fn no_field_number_is_given_twice() {
    for message in contract().message_type {
        let mut numbers: Vec<i32> = message.field.iter().map(FieldDescriptorProto::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), message.field.len(), "{}", message.name());
    }
}

//! Which way a call goes, told by its head. What is no call at all has been refused before ([`super::not_a_call`]).

use crate::door::head::Head;

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `Publish`.
    Publish,
    /// `PublishBatch`.
    PublishBatch,
    /// `PublishStream`.
    PublishStream,
    /// `Subscribe`.
    Subscribe,
    /// Everything else, and whatever is compressed.
    Other,
}

impl Route {
    /// The way of a call with this head.
    fn of(head: &Head<'_>) -> Route {
        if head.is_compressed { Route::Other } else { Route::of_path(head.path.unwrap_or_default()) }
    }

    fn of_path(path: &[u8]) -> Route {
        match path {
            b"/ratatoskr.MessageBroker/Publish" => Route::Publish,
            b"/ratatoskr.MessageBroker/PublishBatch" => Route::PublishBatch,
            b"/ratatoskr.MessageBroker/PublishStream" => Route::PublishStream,
            b"/ratatoskr.MessageBroker/Subscribe" => Route::Subscribe,
            _ => Route::Other,
        }
    }
}

/// A call by its head: what there is to know of it before anybody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) route: Route,
    /// Its name in the contract, for the audit log.
    pub(super) name: &'static str,
    /// Requests it may have.
    pub(super) requests_max: u64,
    /// The path has a query, which no call has.
    pub(super) has_query: bool,
    /// Of `grpc.health.v1`, which answers probes that have no credentials.
    pub(super) is_probe: bool,
}

impl Target {
    pub(super) fn of(head: &Head<'_>) -> Target {
        let path = head.path.unwrap_or_default();
        let is_probe =
            [&b"/grpc.health.v1.Health/Check"[..], b"/grpc.health.v1.Health/Watch"].contains(&path);
        let name = name_of(path);
        let takes_many = matches!(name, "PublishStream" | "Consume" | "ServerReflection" | "unknown");
        let requests_max = if takes_many && !is_probe { u64::MAX } else { 1 };
        Target { route: Route::of(head), name, requests_max, has_query: path.contains(&b'?'), is_probe }
    }
}

/// All calls of the contract.
const CALLS: [&str; 30] = [
    "CreateTopic",
    "DeleteTopic",
    "ListTopics",
    "TopicExists",
    "GetStats",
    "Publish",
    "PublishBatch",
    "PublishStream",
    "Subscribe",
    "Unsubscribe",
    "AddCredit",
    "DescribeTopic",
    "UpdateTopic",
    "PurgeTopic",
    "CreateSubscription",
    "UpdateSubscription",
    "DeleteSubscription",
    "ListSubscriptions",
    "DescribeSubscription",
    "Consume",
    "Pull",
    "Ack",
    "Settle",
    "SeekSubscription",
    "PeekSubscription",
    "SaveSubscription",
    "ListDeadLetters",
    "ResolveDeadLetters",
    "TraceMessage",
    "DescribeBroker",
];

/// The name of a call by its path; those of other services go by one name.
fn name_of(path: &[u8]) -> &'static str {
    if path.starts_with(b"/grpc.reflection.") {
        return "ServerReflection";
    }
    let method = path.strip_prefix(b"/ratatoskr.MessageBroker/");
    let known = CALLS.iter().find(|call| method == Some(call.as_bytes()));
    known.copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::head::tests::received;

    fn route(fields: &[(&str, &str)]) -> Route {
        Target::of(&Head::of(&received(fields))).route
    }

    #[test]
    fn plain_publishing_takes_the_short_way_and_all_else_the_long_one() {
        let call = |method, encoding| {
            let path = format!("/{}/{method}", ratatoskr_proto::SERVICE_NAME);
            route(&[(":method", "POST"), (":path", &path), ("grpc-encoding", encoding)])
        };
        assert_eq!(call("Publish", "identity"), Route::Publish);
        assert_eq!(call("PublishBatch", "identity"), Route::PublishBatch);
        assert_eq!(call("PublishStream", "identity"), Route::PublishStream);
        assert_eq!(call("Subscribe", "identity"), Route::Subscribe);
        assert_eq!(call("Consume", "identity"), Route::Other);
        assert_eq!(call("Publish", "gzip"), Route::Other);
    }

    #[test]
    fn every_call_of_the_contract_has_its_name() {
        use prost::Message as _;
        let set = prost_types::FileDescriptorSet::decode(ratatoskr_proto::FILE_DESCRIPTOR_SET).unwrap();
        let services = set.file.iter().flat_map(|file| &file.service);
        for method in services.flat_map(|service| &service.method) {
            let path = format!("/{}/{}", ratatoskr_proto::SERVICE_NAME, method.name());
            assert_eq!(name_of(path.as_bytes()), method.name());
        }
        assert_eq!(name_of(b"/no.such.Service/Publish"), "unknown");
    }
}

//! Which way a call goes, told by its head. What is no call at all has been refused before ([`super::not_a_call`]).

use ratatoskr_http2::hpack::Fields;

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
    /// The way of a call with these fields.
    pub(super) fn of(fields: &Fields) -> Route {
        let mut route = Route::Other;
        for (name, value) in fields.iter() {
            match name {
                b":path" => route = Route::of_path(value),
                b"grpc-encoding" if value != b"identity" => return Route::Other,
                _ => {}
            }
            if route == Route::Other && name == b":path" {
                return Route::Other;
            }
        }
        route
    }

    /// The call's name in the contract.
    pub(super) fn call(self) -> &'static str {
        match self {
            Route::Publish => "Publish",
            Route::PublishBatch => "PublishBatch",
            Route::PublishStream => "PublishStream",
            Route::Subscribe => "Subscribe",
            Route::Other => "Other",
        }
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ratatoskr_http2::hpack::{Decoder, Encoder};

    use super::*;

    fn route(fields: &[(&str, &str)]) -> Route {
        let (mut encoder, mut block) = (Encoder::new(), BytesMut::new());
        encoder.begin(&mut block);
        for (name, value) in fields {
            encoder.put(name.as_bytes(), value.as_bytes(), &mut block);
        }
        let mut decoded = Fields::new(1 << 14);
        Decoder::new(4096).decode(&block, &mut decoded).unwrap();
        Route::of(&decoded)
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
}

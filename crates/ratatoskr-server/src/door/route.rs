//! Which way a call goes, told by its head.

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
    /// Everything else, and whatever is not plain gRPC.
    Other,
}

impl Route {
    /// The way of a call with these fields.
    pub(super) fn of(fields: &Fields) -> Route {
        let mut route = Route::Other;
        let mut is_grpc = false;
        for (name, value) in fields.iter() {
            match name {
                b":path" => route = Route::of_path(value),
                b":method" if value != b"POST" => return Route::Other,
                b"content-type" => is_grpc = matches!(value, b"application/grpc" | b"application/grpc+proto"),
                b"grpc-encoding" if value != b"identity" => return Route::Other,
                _ => {}
            }
            if route == Route::Other && name == b":path" {
                return Route::Other;
            }
        }
        if is_grpc { route } else { Route::Other }
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
        let service = |method| format!("/{}/{method}", ratatoskr_proto::SERVICE_NAME);
        let call = |method, content_type| {
            let path = service(method);
            route(&[
                (":method", "POST"),
                (":path", &path),
                ("content-type", content_type),
                ("te", "trailers"),
            ])
        };
        assert_eq!(call("Publish", "application/grpc"), Route::Publish);
        assert_eq!(call("PublishBatch", "application/grpc+proto"), Route::PublishBatch);
        assert_eq!(call("PublishStream", "application/grpc"), Route::PublishStream);
        assert_eq!(call("Subscribe", "application/grpc"), Route::Subscribe);
        assert_eq!(call("Consume", "application/grpc"), Route::Other);
        assert_eq!(call("Publish", "application/json"), Route::Other);
        let publish = service("Publish");
        let fields = [(":method", "GET"), (":path", publish.as_str()), ("content-type", "application/grpc")];
        assert_eq!(route(&fields), Route::Other);
        let fields = [
            (":method", "POST"),
            (":path", &publish),
            ("content-type", "application/grpc"),
            ("grpc-encoding", "gzip"),
        ];
        assert_eq!(route(&fields), Route::Other);
    }
}

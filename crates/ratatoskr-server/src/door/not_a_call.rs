//! [`NotACall`]: requests that are no gRPC calls, refused by their head with the HTTP status that says so.
//!
//! ```text
//!   head ─▶ POST? ─▶ application/grpc? ─▶ of no other site's page? ─▶ a call
//!            └ 405    └ 415                └ 403
//! ```
//!
//! A browser lets any page send a POST without asking first, as long as its content type is one that forms have, or none. gRPC's own content
//! type takes a permission (CORS) that the broker never gives, so the type is a matter of safety here, not of form. gRPC over HTTP/2 wants
//! 415 for it. A `grpc-status` comes along for clients that show nothing else.

use tonic::Status;

use crate::door::head::Head;

/// Why a request is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotACall {
    /// Its method.
    Method,
    /// Its content type.
    ContentType,
    /// A web page of another site made it.
    CrossSite,
}

impl NotACall {
    /// Lets calls pass.
    pub(super) fn check(head: &Head<'_>) -> Result<(), NotACall> {
        if head.method != Some(b"POST") {
            return Err(NotACall::Method);
        }
        if !head.content_type.is_some_and(is_grpc_type) {
            return Err(NotACall::ContentType);
        }
        if head.origin.is_cross_site() { Err(NotACall::CrossSite) } else { Ok(()) }
    }

    /// The HTTP status it is answered with.
    pub(super) fn http_status(self) -> &'static str {
        match self {
            NotACall::Method => "405",
            NotACall::ContentType => "415",
            NotACall::CrossSite => "403",
        }
    }

    /// The same for those who look at `grpc-status` only.
    pub(super) fn status(self) -> Status {
        match self {
            NotACall::Method => Status::unimplemented("the method of a gRPC call is POST"),
            NotACall::ContentType => Status::invalid_argument(
                "this port takes content-type application/grpc or application/grpc+proto; pages, health and metrics are on the HTTP port",
            ),
            NotACall::CrossSite => Status::permission_denied(
                "a web page of another site made this request (origin, sec-fetch-site); a proxy that serves browsers has to remove these headers",
            ),
        }
    }
}

/// Whether a content type is one of gRPC with protobuf, whatever its parameters.
fn is_grpc_type(value: &[u8]) -> bool {
    let essence = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::head::tests::received;

    fn check(fields: &[(&str, &str)]) -> Result<(), NotACall> {
        NotACall::check(&Head::of(&received(fields)))
    }

    #[test]
    fn only_posts_of_grpc_are_calls() {
        let with = |method, content_type| check(&[(":method", method), ("content-type", content_type)]);
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC",
            "application/grpc;charset=utf-8",
            "application/grpc+proto ; x=y",
        ] {
            assert_eq!(with("POST", content_type), Ok(()), "{content_type}");
            for method in ["GET", "PUT", "OPTIONS", "HEAD", "post"] {
                assert_eq!(with(method, content_type), Err(NotACall::Method));
            }
        }
        for content_type in [
            "",
            "text/plain",
            "application/json",
            "application/grpcx",
            "application/grpc+json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/grpc",
        ] {
            assert_eq!(with("POST", content_type), Err(NotACall::ContentType), "{content_type}");
        }
        assert_eq!(check(&[(":method", "POST")]), Err(NotACall::ContentType));
    }

    #[test]
    fn a_page_of_another_site_makes_no_calls() {
        let with = |name, value| {
            let call =
                [(":method", "POST"), (":authority", "broker:1"), ("content-type", "application/grpc")];
            check(&[&call[..], &[(name, value)]].concat())
        };
        assert_eq!(with("origin", "https://evil.example"), Err(NotACall::CrossSite));
        assert_eq!(with("sec-fetch-site", "cross-site"), Err(NotACall::CrossSite));
        assert_eq!(with("origin", "https://broker:1"), Ok(()));
    }
}

//! Calls off the hot path: each is a task that goes through tonic's routes.
//!
//! ```text
//!   fields ─▶ http::Request ─▶ routes ─▶ http::Response ─▶ head, data while there is room, trailers
//! ```

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body as _;
use ratatoskr_http2::hpack::Fields;
use ratatoskr_http2::limits::CONNECTION_WAITING_BYTES_MAX;
use ratatoskr_http2::{Ending, HeadersWriter, StreamId};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use crate::door::body::RequestBody;
use crate::door::header_list::HeaderList;
use crate::door::link::Link;
use crate::door::not_a_call::NotACall;
use crate::door::timeout;
use crate::memory::Held;

/// The request as tonic wants it; `None` if it cannot be one.
pub(super) fn request(fields: &Fields, body: Option<RequestBody>) -> Option<Request<Body>> {
    let mut request = Request::new(body.map_or_else(Body::empty, Body::new));
    *request.version_mut() = Version::HTTP_2;
    for (name, value) in fields.iter() {
        match name {
            b":method" => *request.method_mut() = Method::from_bytes(value).ok()?,
            // RFC 9113, 8.3.1: it begins with a slash, or is the star of OPTIONS.
            b":path" if value != b"*" && !value.starts_with(b"/") => return None,
            b":path" => *request.uri_mut() = Uri::try_from(value).ok()?,
            b":scheme" | b":authority" => {}
            name => {
                let value = HeaderValue::from_bytes(value).ok()?;
                request.headers_mut().append(HeaderName::from_bytes(name).ok()?, value);
            }
        }
    }
    Some(request)
}

/// Serves the call to its end, or to its deadline.
pub(super) async fn serve(routes: Routes, link: Rc<Link>, stream: StreamId, request: Request<Body>) {
    let deadline = request.headers().get("grpc-timeout").and_then(|value| timeout::parse(value.as_bytes()));
    let serving = answer(routes, &link, stream, request);
    let Some(deadline) = deadline else { return serving.await };
    if tokio::time::timeout(deadline, serving).await.is_err() {
        let late = Status::deadline_exceeded("the call's deadline is over: it was not done in time");
        fail(&link, stream, &late);
    }
}

async fn answer(mut routes: Routes, link: &Link, stream: StreamId, request: Request<Body>) {
    let ready = poll_fn(|context| tonic::codegen::Service::<Request<Body>>::poll_ready(&mut routes, context));
    let Ok(()) = ready.await;
    let Ok(mut response) = routes.call(request).await;
    let mut memory = response.extensions_mut().remove::<Arc<Held>>();
    let waiting = link.http2().waiting();
    if waiting >= CONNECTION_WAITING_BYTES_MAX {
        // It would wait for room, and be kept for that time.
        return refuse(link, stream, &unsent(waiting));
    }
    let (head, mut body) = response.into_parts();
    if body.is_end_stream() {
        end_with_head(link, stream, head.status.as_str(), &head.headers);
        return;
    }
    begin_with_head(link, stream, (head.status.as_str(), &head.headers));
    link.wake();
    loop {
        link.room_for_more(stream).await;
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let frame = match frame {
            None => return link.http2().end(stream, Ending::Data),
            Some(Err(status)) => return end_with_status(link, stream, &status),
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                link.http2().send_data(stream, data);
                // It comes in one piece, which the connection counts from now on.
                if let Some(memory) = memory.take() {
                    link.count();
                    drop(memory);
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let mut http2 = link.http2();
                let trailers = HeaderList::of(&trailers, http2.peer_header_list_bytes_max());
                return http2.end(stream, Ending::Trailers(trailers.into_trailers()));
            }
        }
        link.wake();
    }
}

fn begin_with_head(link: &Link, stream: StreamId, (status, headers): (&str, &HeaderMap)) {
    let mut http2 = link.http2();
    let fields = HeaderList::of(headers, http2.peer_header_list_bytes_max());
    http2.send_headers(stream, |writer| write_head(writer, status, &fields));
}

fn unsent(waiting: usize) -> Status {
    Status::resource_exhausted(format!(
        "{waiting} bytes of answers wait for this client to read them; at most {CONNECTION_WAITING_BYTES_MAX} may: read them, or ask for \
         less at a time"
    ))
}

fn write_head(writer: &mut HeadersWriter<'_>, status: &str, fields: &HeaderList) {
    writer.known(":status", status);
    for (name, value) in fields.iter() {
        match (name, std::str::from_utf8(value)) {
            ("content-type", Ok(value)) => writer.known(name, value),
            _ => writer.put(name, value),
        };
    }
}

/// Answers with a head that is all of it.
fn end_with_head(link: &Link, stream: StreamId, status: &str, headers: &HeaderMap) {
    let mut http2 = link.http2();
    let fields = HeaderList::of(headers, http2.peer_header_list_bytes_max());
    http2.end_with_headers(stream, |writer| write_head(writer, status, &fields));
}

/// Ends a call with a status, whether or not its head has gone out.
pub(super) fn fail(link: &Link, stream: StreamId, status: &Status) {
    let is_answered = link.http2().is_answered(stream);
    if is_answered { end_with_status(link, stream, status) } else { refuse(link, stream, status) }
}

/// Ends a call whose head has gone out.
pub(super) fn end_with_status(link: &Link, stream: StreamId, status: &Status) {
    let ending = status_ending(link, status);
    link.http2().end(stream, ending);
}

/// What a call ends with whose head has gone out.
pub(super) fn status_ending(link: &Link, status: &Status) -> Ending {
    let trailers = HeaderList::of_status(status, link.http2().peer_header_list_bytes_max());
    Ending::Trailers(trailers.into_trailers())
}

/// Answers what is no call.
pub(super) fn refuse_as(link: &Link, stream: StreamId, not_a_call: NotACall) {
    let response: Response<Body> = not_a_call.status().into_http();
    let mut headers = response.into_parts().0.headers;
    if not_a_call == NotACall::Method {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    end_with_head(link, stream, not_a_call.http_status(), &headers);
}

/// Answers a call with nothing but a status.
pub(super) fn refuse(link: &Link, stream: StreamId, status: &Status) {
    let response: Response<Body> = status.clone().into_http();
    end_with_head(link, stream, "200", response.headers());
}

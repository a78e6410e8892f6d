//! Calls off the hot path: each is a task that goes through tonic's routes.
//!
//! ```text
//!   fields ─▶ http::Request ─▶ routes ─▶ http::Response ─▶ head, data while there is room, trailers
//! ```

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body as _;
use ratatoskr_http2::hpack::Fields;
use ratatoskr_http2::limits::CONNECTION_WAITING_BYTES_MAX;
use ratatoskr_http2::{Ending, StreamId};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use crate::door::body::RequestBody;
use crate::door::link::Link;
use crate::door::timeout;
use crate::memory::Held;

/// The request as tonic wants it; `None` if it cannot be one.
pub(super) fn request(fields: &Fields, body: Option<RequestBody>) -> Option<Request<Body>> {
    let mut request = Request::new(body.map_or_else(Body::empty, Body::new));
    *request.version_mut() = Version::HTTP_2;
    for (name, value) in fields.iter() {
        match name {
            b":method" => *request.method_mut() = Method::from_bytes(value).ok()?,
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
        link.http2()
            .end_with_headers(stream, |fields| write_head(fields, head.status.as_str(), &head.headers));
        return;
    }
    link.http2().send_headers(stream, |fields| write_head(fields, head.status.as_str(), &head.headers));
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
                return link.http2().end(stream, Ending::Trailers(pairs(&trailers)));
            }
        }
        link.wake();
    }
}

fn unsent(waiting: usize) -> Status {
    Status::resource_exhausted(format!(
        "{waiting} bytes of answers wait for this client to read them; at most {CONNECTION_WAITING_BYTES_MAX} may: read them, or ask for \
         less at a time"
    ))
}

fn write_head(fields: &mut ratatoskr_http2::HeadersWriter<'_>, status: &str, headers: &HeaderMap) {
    fields.known(":status", status);
    for (name, value) in headers {
        match name.as_str() {
            "content-type" => fields.known("content-type", value.to_str().unwrap_or("application/grpc")),
            name => fields.put(name, value.as_bytes()),
        };
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(Bytes, Bytes)> {
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    headers.iter().map(|(name, value)| (copy(name.as_str().as_bytes()), copy(value.as_bytes()))).collect()
}

/// Ends a call with a status, whether or not its head has gone out.
pub(super) fn fail(link: &Link, stream: StreamId, status: &Status) {
    let is_answered = link.http2().is_answered(stream);
    if is_answered { end_with_status(link, stream, status) } else { refuse(link, stream, status) }
}

/// Ends a call whose head has gone out.
pub(super) fn end_with_status(link: &Link, stream: StreamId, status: &Status) {
    link.http2().end(stream, status_ending(status));
}

/// What a call ends with whose head has gone out.
pub(super) fn status_ending(status: &Status) -> Ending {
    let mut headers = HeaderMap::new();
    match status.add_header(&mut headers) {
        Ok(()) => Ending::Trailers(pairs(&headers)),
        // Its message or metadata cannot be said in a header; its code can.
        Err(_) => Ending::Known(&[("grpc-status", "13")]),
    }
}

/// Answers a call with nothing but a status.
pub(super) fn refuse(link: &Link, stream: StreamId, status: &Status) {
    let response: Response<Body> = status.clone().into_http();
    link.http2().end_with_headers(stream, |fields| {
        write_head(fields, "200", response.headers());
    });
}

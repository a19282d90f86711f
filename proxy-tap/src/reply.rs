//! Answers that the proxy gives itself: refusals, timeouts, no endpoint. To a gRPC caller they are
//! trailers-only responses, because it reads nothing else.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use weir_model::semconv::REFUSED_HEADER;

use crate::body::{Incoming, ReplyBody};
use crate::call::{Call, Direction, Party, Refusal, flag};
use crate::config::Protocol;
use crate::forward;
use crate::route::Answer;
use crate::run::Proxy;

/// What is said to whoever connects to a listener to which the kernel redirects others.
pub(crate) const NOT_REDIRECTED: &str = "the connection was not redirected here";

/// Answers the call with `status` and ends it.
pub(crate) fn fail(mut call: Call, status: u16, flags: &'static str, message: &str) -> Response<ReplyBody> {
    call.facts.flags = flags;
    answer(call, status, message)
}

/// An answer to a request that is no call to anybody.
pub(crate) fn plain(status: u16, message: &str) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::text(format!("{message}\n")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Answers a request for a host that nobody knows.
pub(crate) fn no_route(proxy: &Arc<Proxy>, host: &str, request: Request<Incoming>) -> Response<ReplyBody> {
    let (parts, _) = request.into_parts();
    let server = Arc::new(Party { service: host.into(), ..Party::default() });
    let call = forward::begin(proxy, &parts, Direction::Outbound, Arc::clone(&proxy.identity), server);
    fail(call, 503, flag::NO_ROUTE, &format!("`{host}` is unknown here"))
}

/// Answers the call as its route says, and ends it.
pub(crate) fn own(mut call: Call, own: Answer) -> Response<ReplyBody> {
    call.facts.status = own.status.as_u16();
    call.facts.response_bytes = own.body.len() as u64;
    call.facts.head_after = Some(call.facts.started.elapsed());
    call.finish();
    let mut response = Response::new(ReplyBody::text(own.body));
    *response.status_mut() = own.status;
    *response.headers_mut() = own.headers;
    response
}

/// Answers the call with a gRPC status, and ends it.
pub(crate) fn grpc(mut call: Call, code: u16, flags: &'static str, message: &str) -> Response<ReplyBody> {
    call.facts.flags = flags;
    call.facts.protocol = Protocol::Grpc;
    answer_grpc(call, code, message)
}

/// Answers the call with what its breaker says, and ends it.
pub(crate) fn refuse(mut call: Call, refusal: Refusal) -> Response<ReplyBody> {
    let text = format!("{}; {}", refusal.by, refusal.reason);
    let (status, retry_after) = (refusal.status, refusal.retry_after);
    call.facts.flags = flag::REFUSED;
    call.facts.refusal = Some(refusal);
    let mut response = answer(call, status, &text);
    let headers = response.headers_mut();
    let value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("breaker"));
    headers.insert(HeaderName::from_static(REFUSED_HEADER), value);
    if let Some(after) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil() as u64));
    }
    response
}

fn answer(mut call: Call, status: u16, message: &str) -> Response<ReplyBody> {
    if call.facts.protocol == Protocol::Grpc {
        return answer_grpc(call, grpc_code(status), message);
    }
    let text = format!("{message}\n");
    call.facts.status = status;
    call.facts.response_bytes = text.len() as u64;
    let mut response = Response::new(ReplyBody::text(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    call.facts.head_after = Some(call.facts.started.elapsed());
    call.finish();
    response
}

/// A response without a body, whose head says all (gRPC over HTTP/2, "Trailers-Only").
fn answer_grpc(mut call: Call, code: u16, message: &str) -> Response<ReplyBody> {
    call.facts.status = 200;
    call.facts.grpc_status = Some(code);
    let mut response = Response::new(ReplyBody::text(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code));
    headers.insert("grpc-message", percent_encoded(message));
    call.facts.head_after = Some(call.facts.started.elapsed());
    call.finish();
    response
}

/// The gRPC status that says the same as an HTTP status of this proxy.
fn grpc_code(status: u16) -> u16 {
    match status {
        400 | 405 | 431 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 => 8,
        501 => 12,
        504 => 4,
        _ => 14,
    }
}

/// `grpc-message` is percent-encoded outside printable ASCII (gRPC over HTTP/2, "Responses").
fn percent_encoded(message: &str) -> HeaderValue {
    let text = message.bytes().fold(String::with_capacity(message.len()), |mut text, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    });
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("proxy error"))
}

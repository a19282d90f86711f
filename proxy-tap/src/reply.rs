//! Answers that the proxy gives itself: refusals, timeouts, no endpoint. To a gRPC caller they are
//! trailers-only responses, because it reads nothing else.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use weir_model::semconv::REFUSED_HEADER;

use crate::body::ReplyBody;
use crate::call::{Call, Refusal, flag};
use crate::config::Protocol;

/// Answers the call with `status` and ends it.
pub(crate) fn fail(mut call: Call, status: u16, flags: &'static str, message: &str) -> Response<ReplyBody> {
    call.facts.flags = flags;
    answer(call, status, message)
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
    let mut response = Response::new(ReplyBody::text(Bytes::new()));
    if call.facts.protocol == Protocol::Grpc {
        let code = grpc_code(status);
        call.facts.status = 200;
        call.facts.grpc_status = Some(code);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(code));
        headers.insert("grpc-message", percent_encoded(message));
    } else {
        let text = format!("{message}\n");
        call.facts.status = status;
        call.facts.response_bytes = text.len() as u64;
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        *response.body_mut() = ReplyBody::text(text);
    }
    call.facts.head_after = Some(call.facts.started.elapsed());
    call.finish();
    response
}

/// The gRPC status that says the same as an HTTP status of this proxy.
fn grpc_code(status: u16) -> u16 {
    match status {
        400 | 405 | 431 => 13,
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

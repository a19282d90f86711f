//! A call as an OTLP span: SERVER for inbound, CLIENT for outbound.
//!
//! Names and attributes follow OpenTelemetry's conventions for HTTP and RPC spans.

use std::time::Duration;

use http::Version;
use weir_model::semconv::{attr, edge};

use super::wire::Fields;
use crate::call::{Direction, Facts};
use crate::config::Protocol;

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const STATUS_ERROR: u64 = 2;
/// `url.path` is cut after this many bytes.
const PATH_BYTES: usize = 1024;

/// Appends a span as a field of its scope.
pub(super) fn encode(out: &mut Vec<u8>, facts: &Facts, took: Duration) {
    out.message(2, |span| {
        span.bytes(1, &facts.trace.trace.0);
        span.bytes(2, &facts.trace.span.0);
        if let Some(state) = facts.trace.state.as_ref().and_then(|state| state.to_str().ok()) {
            span.bytes(3, state.as_bytes());
        }
        if let Some(parent) = facts.trace.parent {
            span.bytes(4, &parent.0);
        }
        span.bytes(5, name(facts).as_bytes());
        span.varint(6, if facts.direction == Direction::Inbound { SERVER } else { CLIENT });
        span.fixed64(7, facts.started_at.0);
        span.fixed64(8, (facts.started_at + took).0);
        attributes(span, 9, facts);
        if is_error(facts) {
            let message = facts.refusal.as_ref().map_or_else(|| facts.error_type(), |r| r.reason.to_string());
            span.message(15, |status| {
                status.bytes(2, message.as_bytes());
                status.varint(3, STATUS_ERROR);
            });
        }
        span.fixed32(16, u32::from(facts.trace.flags));
    });
}

/// The attributes that spans and access logs share.
pub(super) fn attributes(out: &mut Vec<u8>, field: u32, facts: &Facts) {
    let mut text = |key, value: &str| out.text_attribute(field, key, value);
    text("http.request.method", facts.method.as_str());
    text("url.path", path(facts));
    text("network.protocol.version", version(facts.version));
    text("error.type", &facts.error_type());
    text(attr::CLIENT, &facts.client.service);
    text(attr::SERVER, &facts.server.service);
    text(attr::ENDPOINT, &facts.server.instance);
    text(attr::RESPONSE_FLAGS, facts.flags);
    text(attr::DIRECTION, if facts.direction == Direction::Inbound { "inbound" } else { "outbound" });
    text(attr::SECURITY, "none");
    if let Some(refusal) = &facts.refusal {
        text(attr::REFUSED, &format!("{}; {}", refusal.by, refusal.reason));
        if refusal.is_hint {
            text(attr::HINT, &refusal.by);
        }
    }
    if let Some((host, port)) = facts.address.as_deref().and_then(|address| address.rsplit_once(':')) {
        text("server.address", host);
        if let Ok(port) = port.parse() {
            out.int_attribute(field, "server.port", port);
        }
    }
    if facts.protocol == Protocol::Grpc {
        rpc(out, field, facts);
    }
    if facts.status > 0 {
        out.int_attribute(field, "http.response.status_code", facts.status.into());
    }
    if facts.retries > 0 {
        out.int_attribute(field, attr::RETRIES, facts.retries.into());
    }
}

fn rpc(out: &mut Vec<u8>, field: u32, facts: &Facts) {
    out.text_attribute(field, "rpc.system", "grpc");
    if let Some((service, method)) = path(facts).trim_start_matches('/').rsplit_once('/') {
        out.text_attribute(field, "rpc.service", service);
        out.text_attribute(field, "rpc.method", method);
    }
    if let Some(status) = facts.grpc_status {
        out.int_attribute(field, "rpc.grpc.status_code", status.into());
    }
}

fn is_error(facts: &Facts) -> bool {
    match facts.class() {
        edge::OK => false,
        // What the caller did wrong is an error of the call, not of the server.
        edge::CLIENT_ERROR => facts.direction == Direction::Outbound,
        _ => true,
    }
}

/// The path without what follows `?`, of bounded length.
pub(super) fn path(facts: &Facts) -> &str {
    let mut end = facts.path.len().min(PATH_BYTES);
    while !facts.path.is_char_boundary(end) {
        end -= 1;
    }
    &facts.path[..end]
}

fn name(facts: &Facts) -> String {
    let path = path(facts);
    if facts.protocol == Protocol::Grpc {
        return path.trim_start_matches('/').to_owned();
    }
    let mut name = format!("{} ", facts.method);
    for (i, segment) in path.split('/').take(8).enumerate() {
        if i > 0 {
            name.push('/');
        }
        name.push_str(if is_id(segment) { "{id}" } else { segment });
    }
    name
}

/// Whether a path segment looks like an identifier, of which there are too many for names.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    digits > 0
        && (digits == segment.len() || segment.len() >= 16 || digits * 2 >= segment.len())
        && !(segment.len() <= 3 && segment.starts_with('v'))
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn identifiers_are_told_from_words() {
        for id in ["1", "42", "0af7651916cd43dd", "a1b2c3"] {
            assert!(super::is_id(id), "{id}");
        }
        for word in ["", "v1", "v2", "orders", "oauth2", "api"] {
            assert!(!super::is_id(word), "{word}");
        }
    }
}

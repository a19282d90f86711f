//! A call as an OTLP span: SERVER for inbound, CLIENT for outbound.
//!
//! Names and attributes follow OpenTelemetry's conventions for HTTP and RPC spans. The query of a request
//! is left out: it is where people put secrets.

use std::time::Duration;

use http::{HeaderValue, Method, Version};
use weir_model::semconv::{attr, edge};

use super::parties::{self, ENCODED_FIELD};
use super::text::{self, Short};
use super::wire::Fields;
use crate::call::{Direction, ErrorType, Facts, Refusal, Security};
use crate::config::Protocol;

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const STATUS_ERROR: u64 = 2;
/// `url.path` is cut after this many bytes.
const PATH_BYTES: usize = 1024;
/// A method that nobody knows is cut after this many bytes.
const METHOD_BYTES: usize = 32;
/// Longest `user_agent.original`; a longer one is left out.
const USER_AGENT_BYTES: usize = 256;
/// The field of a span's attributes.
const FIELD: u32 = ENCODED_FIELD;

/// Appends a span as a field of its scope; `attributes` are what [`attributes`] made.
pub(super) fn encode(out: &mut Vec<u8>, facts: &Facts, took: Duration, attributes: &[u8]) {
    out.message(2, |span| {
        span.bytes(1, &facts.trace.trace.0);
        span.bytes(2, &facts.trace.span.0);
        if let Some(state) = facts.trace.state.as_ref().and_then(|state| state.to_str().ok()) {
            span.bytes(3, state.as_bytes());
        }
        if let Some(parent) = facts.trace.parent {
            span.bytes(4, &parent.0);
        }
        span.message(5, |name| put_name(name, facts));
        span.varint(6, if facts.direction == Direction::Inbound { SERVER } else { CLIENT });
        span.fixed64(7, facts.started_at.0);
        span.fixed64(8, (facts.started_at + took).0);
        span.extend_from_slice(attributes);
        if is_error(facts) {
            span.message(15, |status| {
                match (&facts.refusal, facts.error_type()) {
                    (Some(refusal), _) => status.bytes(2, refusal.reason.as_bytes()),
                    (None, Some(ErrorType::Word(word))) => status.bytes(2, word.as_bytes()),
                    (None, Some(ErrorType::Status(code))) => {
                        status.message(2, |text| text::number(text, code.into()));
                    }
                    (None, None) => {}
                }
                status.varint(3, STATUS_ERROR);
            });
        }
        span.fixed32(16, u32::from(facts.trace.flags));
    });
}

/// Appends the attributes that spans and access logs share, in the field of a span; `fixed` are those that [`fixed`]
/// made.
pub(super) fn attributes(out: &mut Vec<u8>, facts: &Facts, fixed: &[u8]) {
    let path = path(facts);
    out.text_attribute(FIELD, "http.request.method", method(&facts.method).unwrap_or("_OTHER"));
    if method(&facts.method).is_none() {
        out.text_attribute(FIELD, "http.request.method_original", shown_method(&facts.method));
    }
    out.text_attribute(FIELD, "url.path", path);
    out.text_attribute(FIELD, "url.scheme", if facts.is_https { "https" } else { "http" });
    out.text_attribute(FIELD, "network.protocol.version", version(facts.version));
    match facts.error_type() {
        Some(ErrorType::Word(word)) => out.text_attribute(FIELD, "error.type", word),
        Some(ErrorType::Status(code)) => {
            out.text_attribute(FIELD, "error.type", Short::number(code.into()).as_str());
        }
        None => {}
    }
    out.extend_from_slice(fixed);
    if let Some(address) = facts.peer_address {
        let ip = Short::ip(address.ip());
        out.text_attribute(FIELD, "client.address", ip.as_str());
        if facts.direction == Direction::Inbound {
            out.text_attribute(FIELD, "network.peer.address", ip.as_str());
        }
    }
    out.int_attribute(FIELD, "http.request.body.size", to_i64(facts.request_bytes()));
    out.int_attribute(FIELD, "http.response.body.size", to_i64(facts.response_bytes));
    if facts.protocol == Protocol::Grpc {
        rpc(out, path, facts);
    }
    put_rare(out, facts);
}

/// Appends those that are the same for all requests of one metric's set to one address.
pub(super) fn fixed(out: &mut Vec<u8>, facts: &Facts) {
    out.extend_from_slice(parties::client(&facts.client));
    out.extend_from_slice(parties::server(&facts.server));
    out.text_attribute(FIELD, attr::RESPONSE_FLAGS, facts.flags);
    out.text_attribute(FIELD, attr::DIRECTION, facts.direction.name());
    out.text_attribute(FIELD, attr::SECURITY, facts.security.name());
    if facts.security == Security::MutualTls {
        out.text_attribute(FIELD, attr::CLIENT_PRINCIPAL, &facts.client.principal);
        out.text_attribute(FIELD, attr::SERVER_PRINCIPAL, &facts.server.principal);
    }
    if facts.status > 0 {
        out.int_attribute(FIELD, "http.response.status_code", facts.status.into());
    }
    if let Some(address) = facts.address.as_deref() {
        put_address(out, address, facts.direction);
    }
}

/// Those that few requests have.
fn put_rare(out: &mut Vec<u8>, facts: &Facts) {
    if let Some(agent) = facts.user_agent.as_ref().and_then(user_agent) {
        out.text_attribute(FIELD, "user_agent.original", agent);
    }
    if let Some(pattern) = &facts.path_pattern {
        out.text_attribute(FIELD, "http.route", pattern);
    }
    if let Some(route) = &facts.route {
        out.text_attribute(FIELD, attr::ROUTE, route);
    }
    if facts.retries > 0 {
        out.int_attribute(FIELD, "http.request.resend_count", facts.retries.into());
        out.int_attribute(FIELD, attr::RETRIES, facts.retries.into());
    }
    if let Some(refusal) = &facts.refusal {
        out.message(FIELD, |kv| {
            kv.bytes(1, attr::REFUSED.as_bytes());
            kv.message(2, |any| any.message(1, |text| put_refusal(text, refusal)));
        });
        if refusal.is_hint {
            out.text_attribute(FIELD, attr::HINT, &refusal.by);
        }
    }
}

/// `h-1-2; errors`: who refused, and why.
pub(super) fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    out.extend_from_slice(refusal.by.as_bytes());
    out.extend_from_slice(b"; ");
    out.extend_from_slice(refusal.reason.as_bytes());
}

/// Where a call or a connection goes, as `host:port`.
pub(super) fn put_address(out: &mut Vec<u8>, address: &str, direction: Direction) {
    let Some((host, port)) = address.rsplit_once(':') else { return };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    out.text_attribute(FIELD, "server.address", bare);
    if let Ok(port) = port.parse::<u16>() {
        out.int_attribute(FIELD, "server.port", port.into());
    }
    // An address and no name is where the connection goes; of an inbound one the peer is the caller.
    let is_ip = bare.len() < host.len() || bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_ip && direction == Direction::Outbound {
        out.text_attribute(FIELD, "network.peer.address", bare);
    }
}

fn rpc(out: &mut Vec<u8>, path: &str, facts: &Facts) {
    out.text_attribute(FIELD, "rpc.system", "grpc");
    if let Some((service, method)) = path.trim_start_matches('/').rsplit_once('/') {
        out.text_attribute(FIELD, "rpc.service", service);
        out.text_attribute(FIELD, "rpc.method", method);
    }
    if let Some(status) = facts.grpc_status {
        out.int_attribute(FIELD, "rpc.grpc.status_code", status.into());
    }
}

fn user_agent(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().filter(|agent| agent.len() <= USER_AGENT_BYTES)
}

/// The methods that the conventions know; names of others are too many to count by.
fn method(method: &Method) -> Option<&str> {
    let is_known = matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::HEAD
            | Method::OPTIONS
            | Method::PATCH
            | Method::CONNECT
            | Method::TRACE
    );
    is_known.then(|| method.as_str())
}

/// The method as it came, of bounded length; it is ASCII.
pub(super) fn shown_method(method: &Method) -> &str {
    let method = method.as_str();
    &method[..method.len().min(METHOD_BYTES)]
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
    if facts.path.len() <= PATH_BYTES {
        return &facts.path;
    }
    &facts.path[..facts.path.floor_char_boundary(PATH_BYTES)]
}

/// `POST /orders/{id}`, with the pattern that matched where there is one; a gRPC call is its service and
/// method.
fn put_name(out: &mut Vec<u8>, facts: &Facts) {
    let path = path(facts);
    if facts.protocol == Protocol::Grpc {
        out.extend_from_slice(path.trim_start_matches('/').as_bytes());
        return;
    }
    out.extend_from_slice(method(&facts.method).unwrap_or("HTTP").as_bytes());
    out.push(b' ');
    if let Some(pattern) = &facts.path_pattern {
        out.extend_from_slice(pattern.as_bytes());
        return;
    }
    for (i, segment) in path.split('/').take(8).enumerate() {
        if i > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(if is_id(segment) { b"{id}" } else { segment.as_bytes() });
    }
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

pub(super) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
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

//! A call or a connection as an access log record: an OTLP log with a line for people and attributes for
//! queries.

use std::time::Duration;

use weir_model::UnixNanos;
use weir_model::semconv::{attr, edge};

use super::flow::{Bytes, Flow};
use super::parties::{self, ENCODED_FIELD};
use super::span::{self, to_i64};
use super::text::{self, Short};
use super::wire::{Fields, retag};
use crate::call::{Direction, Facts, Party, Security};

/// The field of a log record's attributes.
const FIELD: u32 = 6;

/// Appends a log record as a field of its scope; `attributes` are what [`span::attributes`] made.
pub(super) fn encode(out: &mut Vec<u8>, facts: &Facts, took: Duration, attributes: &[u8]) {
    out.message(2, |record| {
        put_head(record, facts.started_at + took, facts.class());
        record.message(5, |any| any.message(1, |text| put_line(text, facts, took)));
        let at = record.len();
        record.extend_from_slice(attributes);
        retag(&mut record[at..], FIELD);
        record.double_attribute(FIELD, "duration_ms", millis(took));
        if let Some(head) = facts.head_after {
            record.double_attribute(FIELD, "response_head_ms", millis(head));
        }
        if facts.probe {
            record.bool_attribute(FIELD, "weir.probe", true);
        }
        record.fixed32(8, u32::from(facts.trace.flags));
        record.bytes(9, &facts.trace.trace.0);
        record.bytes(10, &facts.trace.span.0);
    });
}

/// Appends the log record of a connection that is over.
pub(super) fn encode_flow(out: &mut Vec<u8>, flow: &Flow, carried: Bytes, took: Duration) {
    out.message(2, |record| {
        put_head(record, flow.started_at + took, flow.class());
        record.message(5, |any| any.message(1, |text| put_flow_line(text, flow, carried, took)));
        let at = record.len();
        put_flow_attributes(record, flow);
        retag(&mut record[at..], FIELD);
        record.double_attribute(FIELD, "duration_ms", millis(took));
        if let Some(connected) = flow.connected_after {
            record.double_attribute(FIELD, "connect_ms", millis(connected));
        }
        record.int_attribute(FIELD, attr::SENT_BYTES, to_i64(carried.sent));
        record.int_attribute(FIELD, attr::RECEIVED_BYTES, to_i64(carried.received));
    });
}

/// When, how grave, and that it is of an access log.
fn put_head(record: &mut Vec<u8>, ended: UnixNanos, class: &str) {
    let (severity, text) = match class {
        edge::OK => (9, "INFO"),
        edge::CLIENT_ERROR => (13, "WARN"),
        _ => (17, "ERROR"),
    };
    record.fixed64(1, ended.0);
    record.varint(2, severity);
    record.bytes(3, text.as_bytes());
    record.fixed64(11, ended.0);
    record.bytes(12, b"access_log");
}

fn put_flow_attributes(out: &mut Vec<u8>, flow: &Flow) {
    out.text_attribute(ENCODED_FIELD, "network.transport", "tcp");
    out.extend_from_slice(parties::client(&flow.client));
    out.extend_from_slice(parties::server(&flow.server));
    out.text_attribute(ENCODED_FIELD, attr::RESPONSE_FLAGS, flow.flags);
    out.text_attribute(ENCODED_FIELD, attr::DIRECTION, flow.direction.name());
    out.text_attribute(ENCODED_FIELD, attr::SECURITY, flow.security.name());
    if flow.security == Security::MutualTls {
        out.text_attribute(ENCODED_FIELD, attr::CLIENT_PRINCIPAL, &flow.client.principal);
        out.text_attribute(ENCODED_FIELD, attr::SERVER_PRINCIPAL, &flow.server.principal);
    }
    if let Some(sni) = &flow.sni {
        out.text_attribute(ENCODED_FIELD, "tls.client.server_name", sni);
    }
    if let Some(address) = flow.address.as_deref() {
        span::put_address(out, address, flow.direction);
    }
    if let Some(address) = flow.peer_address {
        let ip = Short::ip(address.ip());
        out.text_attribute(ENCODED_FIELD, "client.address", ip.as_str());
        if flow.direction == Direction::Inbound {
            out.text_attribute(ENCODED_FIELD, "network.peer.address", ip.as_str());
        }
    }
}

/// `web -> payments/payments-2`.
fn put_parties(line: &mut Vec<u8>, client: &Party, server: &Party) {
    line.extend_from_slice(client.service.as_bytes());
    line.extend_from_slice(b" -> ");
    line.extend_from_slice(server.service.as_bytes());
    if !server.instance.is_empty() {
        line.push(b'/');
        line.extend_from_slice(server.instance.as_bytes());
    }
}

/// `UO 0.21ms 12B/345B`: what came from the caller and what it was sent.
fn put_measures(line: &mut Vec<u8>, flags: &str, took: Duration, received: u64, sent: u64) {
    line.push(b' ');
    line.extend_from_slice(flags.as_bytes());
    line.push(b' ');
    text::millis(line, took);
    line.extend_from_slice(b"ms ");
    text::number(line, received);
    line.extend_from_slice(b"B/");
    text::number(line, sent);
    line.push(b'B');
}

/// `web -> payments/payments-2 "POST /pay" 503 UO 0.21ms 12B/345B retries=1 refused="h-1-2; errors"`.
fn put_line(line: &mut Vec<u8>, facts: &Facts, took: Duration) {
    put_parties(line, &facts.client, &facts.server);
    line.extend_from_slice(b" \"");
    line.extend_from_slice(span::shown_method(&facts.method).as_bytes());
    line.push(b' ');
    line.extend_from_slice(span::path(facts).as_bytes());
    line.extend_from_slice(b"\" ");
    text::number(line, facts.status.into());
    if let Some(status) = facts.grpc_status {
        line.extend_from_slice(b" grpc=");
        text::number(line, status.into());
    }
    put_measures(line, facts.flags, took, facts.request_bytes(), facts.response_bytes);
    if facts.retries > 0 {
        line.extend_from_slice(b" retries=");
        text::number(line, facts.retries.into());
    }
    if let Some(refusal) = &facts.refusal {
        line.extend_from_slice(b" refused=\"");
        span::put_refusal(line, refusal);
        line.push(b'"');
    }
}

/// `web -> db/db-1 tcp - 5012.40ms 120B/4096B sni=db.shop`.
fn put_flow_line(line: &mut Vec<u8>, flow: &Flow, carried: Bytes, took: Duration) {
    put_parties(line, &flow.client, &flow.server);
    line.extend_from_slice(b" tcp");
    put_measures(line, flow.flags, took, carried.received, carried.sent);
    if let Some(sni) = &flow.sni {
        line.extend_from_slice(b" sni=");
        line.extend_from_slice(sni.as_bytes());
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}

//! A call as an access log record: an OTLP log with a line for people and attributes for queries.

use std::time::Duration;

use weir_model::semconv::edge;

use super::span;
use super::wire::Fields;
use crate::call::Facts;

/// Appends a log record as a field of its scope.
pub(super) fn encode(out: &mut Vec<u8>, facts: &Facts, took: Duration) {
    let ended = facts.started_at + took;
    let (severity, text) = match facts.class() {
        edge::OK => (9, "INFO"),
        edge::CLIENT_ERROR => (13, "WARN"),
        _ => (17, "ERROR"),
    };
    out.message(2, |record| {
        record.fixed64(1, ended.0);
        record.varint(2, severity);
        record.bytes(3, text.as_bytes());
        record.message(5, |any| any.bytes(1, line(facts, took).as_bytes()));
        span::attributes(record, 6, facts);
        record.double_attribute(6, "duration_ms", millis(took));
        if let Some(head) = facts.head_after {
            record.double_attribute(6, "response_head_ms", millis(head));
        }
        record.int_attribute(6, "http.request.body.size", to_i64(facts.request_bytes()));
        record.int_attribute(6, "http.response.body.size", to_i64(facts.response_bytes));
        if facts.probe {
            record.bool_attribute(6, "weir.probe", true);
        }
        record.fixed32(8, u32::from(facts.trace.flags));
        record.bytes(9, &facts.trace.trace.0);
        record.bytes(10, &facts.trace.span.0);
        record.fixed64(11, ended.0);
        record.bytes(12, b"access_log");
    });
}

/// `web -> payments/payments-2 "POST /pay" 503 UO 0.21ms 12B/345B retries=1 refused="h-1-2; errors"`.
fn line(facts: &Facts, took: Duration) -> String {
    use std::fmt::Write;
    let server = &facts.server;
    let mut line = format!("{} -> {}", facts.client.service, server.service);
    if !server.instance.is_empty() {
        let _ = write!(line, "/{}", server.instance);
    }
    let _ = write!(line, " \"{} {}\" {}", facts.method, span::path(facts), facts.status);
    if let Some(status) = facts.grpc_status {
        let _ = write!(line, " grpc={status}");
    }
    let (sent, received) = (facts.request_bytes(), facts.response_bytes);
    let _ = write!(line, " {} {:.2}ms {sent}B/{received}B", facts.flags, millis(took));
    if facts.retries > 0 {
        let _ = write!(line, " retries={}", facts.retries);
    }
    if let Some(refusal) = &facts.refusal {
        let _ = write!(line, " refused=\"{}; {}\"", refusal.by, refusal.reason);
    }
    line
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

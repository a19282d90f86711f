//! One request on its way through the proxy: what is known of it, and the promise that it is reported
//! exactly once, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method, Version};
use tokio::time::Instant;
use weir_model::UnixNanos;
use weir_model::semconv::edge;

use crate::config::Protocol;
use crate::telemetry::Tap;
use crate::trace::TraceContext;

/// Envoy's names for what went wrong on the way.
pub(crate) mod flag {
    pub(crate) const NONE: &str = "-";
    /// A breaker or a hint refused it.
    pub(crate) const REFUSED: &str = "UO";
    /// No endpoint to send it to.
    pub(crate) const NO_ENDPOINT: &str = "UH";
    /// The service never had an endpoint.
    pub(crate) const NO_ROUTE: &str = "NR";
    pub(crate) const TIMEOUT: &str = "UT";
    pub(crate) const NO_CONNECTION: &str = "UF";
    pub(crate) const RESET: &str = "UC";
    pub(crate) const RETRIES_SPENT: &str = "URX";
    /// The caller went away.
    pub(crate) const CALLER_GONE: &str = "DC";
    /// The caller's request was malformed.
    pub(crate) const BAD_REQUEST: &str = "DPE";
}

/// Which side of the application a request is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// One end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Party {
    pub(crate) service: Arc<str>,
    pub(crate) instance: Arc<str>,
    pub(crate) version: Arc<str>,
}

/// Who refused a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A hint's id, or the name of a local rule.
    pub(crate) by: Arc<str>,
    pub(crate) is_hint: bool,
    pub(crate) reason: Arc<str>,
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) direction: Direction,
    pub(crate) client: Arc<Party>,
    pub(crate) server: Arc<Party>,
    pub(crate) protocol: Protocol,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) trace: TraceContext,
    pub(crate) started_at: UnixNanos,
    pub(crate) started: Instant,
    /// Where it was sent.
    pub(crate) address: Option<Arc<str>>,
    /// HTTP status; 0 where there was no response.
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) flags: &'static str,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) retries: u32,
    pub(crate) probe: bool,
    pub(crate) request_bytes: Arc<AtomicU64>,
    pub(crate) response_bytes: u64,
    /// When the head of the response was there, after the start.
    pub(crate) head_after: Option<Duration>,
}

impl Facts {
    /// The edge metric's class of the whole call.
    pub(crate) fn class(&self) -> &'static str {
        if self.refusal.is_some() {
            return edge::REFUSED;
        }
        class(self.protocol, self.status, self.grpc_status, self.flags)
    }

    /// What OpenTelemetry calls `error.type`; empty where there is no error.
    pub(crate) fn error_type(&self) -> String {
        match (self.flags, self.grpc_status, self.status) {
            (flag::TIMEOUT, ..) => "timeout".to_owned(),
            (flag::NO_CONNECTION, ..) => "connect".to_owned(),
            (flag::RESET, ..) => "reset".to_owned(),
            (flag::CALLER_GONE, ..) => "cancelled".to_owned(),
            (flag::REFUSED, ..) => "refused".to_owned(),
            (_, Some(code), _) if code != 0 => code.to_string(),
            (_, _, status) if status >= 400 => status.to_string(),
            _ => String::new(),
        }
    }

    pub(crate) fn request_bytes(&self) -> u64 {
        self.request_bytes.load(Ordering::Relaxed)
    }
}

/// How a call or an attempt counts: see [`edge`].
pub(crate) fn class(protocol: Protocol, status: u16, grpc: Option<u16>, flags: &str) -> &'static str {
    match flags {
        flag::CALLER_GONE | flag::BAD_REQUEST => return edge::CLIENT_ERROR,
        flag::TIMEOUT | flag::NO_CONNECTION | flag::RESET | flag::NO_ENDPOINT | flag::NO_ROUTE => {
            return edge::ERROR;
        }
        _ => {}
    }
    match (protocol, grpc, status) {
        (_, Some(0), 200) => edge::OK,
        // Unknown, deadline exceeded, unimplemented, internal, unavailable, data loss: the server's
        // fault, as OpenTelemetry's conventions for RPC have it.
        (_, Some(2 | 4 | 12 | 13 | 14 | 15), 200) => edge::ERROR,
        (_, Some(_), 200) => edge::CLIENT_ERROR,
        // A gRPC answer that ends without a status was cut off.
        (Protocol::Grpc, None, 200) => edge::ERROR,
        (_, _, 400..=499) => edge::CLIENT_ERROR,
        (_, _, 500..) | (_, _, 0) => edge::ERROR,
        _ => edge::OK,
    }
}

/// The status in gRPC headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Whether a request speaks gRPC.
pub(crate) fn protocol_of(headers: &HeaderMap) -> Protocol {
    let grpc = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc { Protocol::Grpc } else { Protocol::Http }
}

/// Facts that are reported when the call ends. One that is dropped before it was finished ended because
/// its caller went away.
#[derive(Debug)]
pub(crate) struct Call {
    tap: Arc<Tap>,
    pub(crate) facts: Facts,
    reported: bool,
}

impl Call {
    pub(crate) fn new(tap: Arc<Tap>, facts: Facts) -> Self {
        Self { tap, facts, reported: false }
    }

    /// Reports the call; later calls and the drop do nothing.
    pub(crate) fn finish(&mut self) {
        if !self.reported {
            self.reported = true;
            self.tap.call(&self.facts, self.facts.started.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.reported {
            self.facts.flags = flag::CALLER_GONE;
            self.finish();
        }
    }
}
